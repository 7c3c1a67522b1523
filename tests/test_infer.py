"Colorizing: L is kept whatever the size and shape, the three public names, and the shipped model."
import subprocess, sys
import numpy as np
import pytest
from PIL import Image

from colorize.core import InputError, rgb_to_lab
from colorize.data import sample_photos
from colorize.infer import Colorizer, colorize, colorize_files
from colorize.model import load_model, shipped_model

@pytest.fixture(scope='module')
def color(): return Colorizer()

@pytest.mark.parametrize('shape', [(1, 1), (7, 3), (31, 33), (64, 640), (640, 64), (300, 200)])
def test_lightness_and_size_are_kept(color, shape):
    gray = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    L = lambda rgb: rgb_to_lab(rgb)[..., 0]
    made = color(gray)
    assert made.shape == (*shape, 3) and made.dtype == np.uint8
    assert np.abs(L(made) - L(np.dstack([gray]*3))).max() < 1

def test_only_lightness_is_read(color):
    with Image.open(sample_photos()[0]) as im: gray = im.convert('RGB').resize((96, 96)).convert('L')
    assert (color(np.asarray(gray)) == color(np.asarray(gray.convert('RGB')))).all()

def test_a_real_photo_gets_colour(color):
    made = rgb_to_lab(np.asarray(colorize(Image.open(sample_photos()[0]).convert('L'))))
    assert np.linalg.norm(made[..., 1:], axis=-1).mean() > 5

def test_rotation_flag_is_applied_once(tmp_path):
    exif = Image.Exif(); exif[0x0112] = 6
    Image.new('L', (40, 20), 99).save(tmp_path/'a.jpg', exif=exif)
    assert colorize(tmp_path/'a.jpg').size == (20, 40)

@pytest.mark.parametrize('v', [-.1, 1.1])
def test_vividness_out_of_range(color, v):
    with pytest.raises(InputError, match='out of range'): Colorizer(color.net, vividness=v)(np.zeros((8, 8), np.uint8))

def test_two_photos_of_one_name_do_not_overwrite_each_other(tmp_path):
    for d in 'ab': (tmp_path/d).mkdir(); Image.new('L', (8, 8)).save(tmp_path/d/'same.png')
    with pytest.raises(InputError, match='different folders'): colorize_files([tmp_path/'a'/'same.png', tmp_path/'b'/'same.png'], tmp_path/'out')
    assert not (tmp_path/'out').exists()

def test_the_shipped_model_is_small_and_says_where_it_came_from():
    assert shipped_model().stat().st_size < 13e6
    assert {'loss', 'encoder', 'vividness', 'photos', 'epochs', 'seed', 'sha256'} <= load_model().meta.keys()

def test_public_names_from_any_folder(tmp_path):
    code = ('from colorize import load_model, colorize, temperature; from PIL import Image; im = Image.new("L", (20, 10), 128);'
            'net = load_model(); print(temperature(colorize(im, net), warmth=30).size)')
    assert subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip() == '(20, 10)'
