"Datasets: what cannot be used is said in a sentence."
from urllib.error import URLError

import pytest
from PIL import Image

from colorize.core import InputError
from colorize.data import dataset_path, gather, pack_dataset

def test_a_named_set_offline(monkeypatch):
    def offline(*_, **__): raise URLError('no internet')
    monkeypatch.setattr('fastai.data.external.untar_data', offline)
    with pytest.raises(InputError, match="'pets' could not be downloaded .* go online, or give a folder"): dataset_path('pets')

def test_one_photo_is_too_few(tmp_path):
    Image.new('RGB', (64, 64), 'red').save(tmp_path/'a.png')
    with pytest.raises(InputError, match='at least two'): gather(tmp_path)

def test_nothing_but_gray_photos(tmp_path):
    for i in range(3): Image.new('L', (64, 64), 60*i).save(tmp_path/f'{i}.png')
    with pytest.raises(InputError, match='near-grey'): pack_dataset(tmp_path, size=56)
