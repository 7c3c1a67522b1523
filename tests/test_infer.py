"Colorizing: L is kept whatever the photo; dials, batches, backends, public names, the model."

import os, subprocess, sys, warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from colorize.albums import colorize_files, in_batches
from colorize.core import InputError, shipped_model
from colorize.data import open_photo, sample_photos
from colorize.backends import OnnxNet, TorchNet
from colorize.files import Photo
from colorize.infer import Colorizer, Guess, colorize, lines_over_L, small_L
from colorize.lab import rgb_to_lab
from colorize.model import enlarge, make_model
from colorize.weights import load_model
from colorize.paint import paint, uncertainty_picture

needs_onnx = pytest.mark.skipif(
    not (find_spec('onnx') and find_spec('onnxruntime')),
    reason="no onnx: pip install '.[train]'",
)


def chroma(rgb):
    return np.linalg.norm(rgb_to_lab(rgb)[..., 1:], axis=-1)


def lightness(rgb):
    return rgb_to_lab(rgb)[..., 0]  # OpenCV's, not ours


@pytest.fixture(scope='module')
def color():
    return Colorizer()


@pytest.fixture(scope='module')
def photo():
    return np.asarray(open_photo(sample_photos()[0]).resize((160, 120)))


@pytest.mark.parametrize(
    'shape', [(1, 1), (7, 3), (31, 33), (64, 640), (640, 64), (300, 200), (2, 3000)]
)
@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
def test_lightness_and_size_are_kept(color, shape, dtype):
    top = np.iinfo(dtype).max
    gray = np.random.default_rng(0).integers(0, top + 1, shape, dtype=dtype)
    rgb = color(gray)
    assert rgb.shape == (*shape, 3) and rgb.dtype == dtype
    limit = 1 if dtype == 'uint8' else 0.1
    assert np.abs(lightness(rgb) - lightness(np.dstack([gray] * 3))).max() < limit


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(4)),
        elements=st.floats(-200, 200, width=32),
    ),
    st.floats(0, 1),
)
def test_no_prediction_however_wild_changes_lightness(pixels, lines, keep):
    lines[..., :2] /= 50
    rgb = paint(pixels, Guess(lines, *lines.shape[:2], None, lines[..., 0]), keep)
    assert np.abs(lightness(rgb) - lightness(pixels)).max() < 1


def test_tiles_and_threads_change_nothing(photo):
    rng = np.random.default_rng(0)
    guess = Guess(
        rng.normal(0, (0.1, 0.1, 20, 20), (7, 9, 4)).astype(np.float32),
        6.5,
        8.2,
        None,
        small_L(photo),
    )
    whole = paint(photo, guess, threads=1, tile=10**9)
    for tile, threads in ((1, 1), (1000, 3), (4096, None)):
        np.testing.assert_array_equal(paint(photo, guess, tile=tile, threads=threads), whole)


@pytest.mark.parametrize('padded', [0, 5])
def test_lines_are_those_of_the_models_guided_filter(photo, padded):
    "Two implementations: numpy and OpenCV here, torch in `model.enlarge`."
    L = small_L(photo[:96, :128])
    ab = cv2.resize(rgb_to_lab(photo[:96, :128])[..., 1:], (32, 24), interpolation=cv2.INTER_AREA)
    lines = lines_over_L(ab, L)
    wide = np.pad(lines, ((0, padded), (0, padded), (0, 0)), 'edge')
    up = Guess(wide, 24, 32, None, L).enlarged(wide)
    L_, ab_ = torch.from_numpy(L)[None, None], torch.from_numpy(ab).permute(2, 0, 1)[None]
    want = enlarge(ab_, L_)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(up[..., :2] * L[..., None] + up[..., 2:], want, atol=0.1)


def test_uncertainty_is_black_where_the_network_is_sure():
    sure = Guess(np.zeros((4, 4, 4)), 4, 4, np.zeros((4, 4), np.float32), np.zeros((9, 9)))
    picture = uncertainty_picture(sure, (5, 7))
    assert picture.shape == (5, 7, 3) and picture.max() <= 4
    with pytest.raises(InputError, match='how sure'):
        uncertainty_picture(sure._replace(entropy=None), (5, 7))


def test_aspect_is_kept_and_nothing_is_enlarged():
    for h, w in ((100, 1000), (3000, 2000), (10, 20), (4000, 300)):
        got = small_L(np.zeros((h, w), np.uint8)).shape
        assert got[0] <= h and got[1] <= w and min(got) <= 192 and max(got) <= 768
        if min(h, w) > 100:
            assert got[1] / got[0] == pytest.approx(w / h, rel=0.02)


def test_only_lightness_is_read(color, photo):
    gray = Image.fromarray(photo).convert('L')
    assert (
        np.abs(color(np.asarray(gray)).astype(int) - color(np.asarray(gray.convert('RGB')))).max()
        <= 1
    )


def test_a_real_photo_gets_colour(color, photo):
    assert chroma(np.asarray(colorize(Image.fromarray(photo).convert('L')))).mean() > 5


def test_rotation_flag_is_applied_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('L', (40, 20), 99).save(tmp_path / 'a.jpg', exif=exif)
    assert colorize(tmp_path / 'a.jpg').size == (20, 40)
    (out,) = colorize_files([tmp_path / 'a.jpg'], tmp_path / 'out').done
    with Image.open(out) as im:
        assert im.size == (20, 40) and im.getexif().get(0x0112, 1) == 1


def test_kinds_in_and_out(color, photo):
    rgba = np.dstack([photo, photo[..., 0]])
    with_alpha, plain = color(rgba), color(photo)
    np.testing.assert_array_equal(with_alpha[..., 3], rgba[..., 3])
    np.testing.assert_array_equal(with_alpha[..., :3], plain)
    assert np.abs(color(photo / 255.0) * 255 - plain).max() < 0.7
    assert color(photo.astype(np.float32) / 255).dtype == np.float32
    half = color((photo / 255.0).astype(np.float16))
    assert np.abs(half * 255.0 - plain).max() < 4  # 11 bits
    assert colorize(Image.fromarray(rgba)).mode == 'RGBA'
    assert isinstance(colorize(photo), np.ndarray)
    for bad in (
        np.zeros((2, 2), np.int64),
        np.zeros((0, 3), np.uint8),
        np.zeros((2, 2, 2), np.uint8),
        np.full((2, 2), 2.0),
        np.full((2, 2), np.nan),
    ):
        with pytest.raises(InputError):
            color(bad)


@pytest.mark.parametrize(
    'dial, value',
    [
        ('vividness', -0.1),
        ('vividness', 1.1),
        ('saturation', -1),
        ('saturation', 9),
        ('keep_color', 2),
        ('warmth', 200),
        ('tint', -101),
        ('backend', 'jax'),
        ('device', 'abacus'),
        ('hints', ['1,2,red']),
    ],
)
def test_dials_out_of_range(dial, value):
    with pytest.raises(InputError):
        Colorizer(**{dial: value})


def test_dials(color, photo):
    plain = chroma(color(photo)).mean()
    assert chroma(Colorizer(saturation=0)(photo)).max() < 1
    assert chroma(Colorizer(saturation=0.5)(photo)).mean() < 0.6 * plain
    assert chroma(Colorizer(vividness=0)(photo)).mean() < plain
    assert np.abs(Colorizer(keep_color=1)(photo).astype(int) - photo).max() <= 1
    between = (rgb_to_lab(color(photo)) + rgb_to_lab(photo)) / 2
    off = np.abs(rgb_to_lab(Colorizer(keep_color=0.5)(photo)) - between)
    assert np.median(off) < 1  # the gamut bends the rest
    warm = Colorizer(warmth=40)(photo).astype(int) - color(photo)
    assert warm[..., 0].mean() > 0 > warm[..., 2].mean()
    assert (Colorizer(tint=40)(photo).astype(int) - color(photo))[..., 1].mean() < 0


def test_mirror_images_are_averaged():
    "With tta, a mirrored photo has mirrored colours."
    photo = np.random.default_rng(0).integers(0, 256, (64, 96), dtype=np.uint8)
    both = Colorizer(tta=True)
    assert np.abs(both(photo[:, ::-1])[:, ::-1].astype(int) - both(photo)).max() <= 1
    assert np.abs(Colorizer()(photo[:, ::-1])[:, ::-1].astype(int) - Colorizer()(photo)).max() > 1


def test_hints_win_where_they_are(photo):
    gray = np.asarray(Image.fromarray(photo).convert('L'))
    colour = (120, 140, 180)  # pale enough for every lightness
    want = rgb_to_lab(np.uint8([[colour]]))[0, 0, 1:]
    strokes = np.zeros((*gray.shape, 4), np.uint8)
    strokes[18:23, 28:33] = *colour, 255
    for known in (dict(hints=['30,20,#788cb4']), dict(strokes=Image.fromarray(strokes))):
        rgb = Colorizer(**known)(gray)
        np.testing.assert_allclose(rgb_to_lab(rgb)[20, 30, 1:], want, atol=2)
    with pytest.raises(InputError, match='outside'):
        Colorizer(hints=['160,0,#ffffff'])(gray)
    with pytest.raises(InputError, match='pixels'):
        Colorizer(strokes=Image.new('RGBA', (5, 5)))(gray)


def test_threads_may_share_a_colorizer(color, photo):
    photos = [np.roll(photo, k, 0) for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(color, photos))
    for p, rgb in zip(photos, results):
        np.testing.assert_array_equal(rgb, color(p))


def test_a_map_never_replaces_a_photo(tmp_path):
    for name in ('a.jpg', 'a_uncertainty.png'):
        Image.new('L', (20, 20), 99).save(tmp_path / name)
    before = (tmp_path / 'a_uncertainty.png').read_bytes()
    with pytest.raises(InputError, match='never replaced'):
        colorize_files(tmp_path, tmp_path, format='webp', uncertainty=True, force=True)
    summary = colorize_files(tmp_path, tmp_path / 'out', uncertainty=True)
    assert len(summary.failed) == 1 and 'would become' in summary.failed[0]
    with pytest.raises(InputError, match='stdout'):
        colorize_files(tmp_path / 'a.jpg', '-', uncertainty=True)
    assert (tmp_path / 'a_uncertainty.png').read_bytes() == before
    assert sorted(p.name for p in tmp_path.rglob('*')) == [
        'a.jpg',
        'a.jpg',
        'a_uncertainty.png',
        'a_uncertainty.png',
        'out',
    ]


def test_a_hint_that_misses_one_photo_does_not_stop_the_others(tmp_path):
    for name, size in (('a.png', (30, 20)), ('b.png', (7, 3)), ('c.png', (30, 20))):
        Image.new('L', size, 99).save(tmp_path / name)
    summary = colorize_files(tmp_path, tmp_path / 'out', hints='20,10,#aa3311')
    assert [p.name for p in summary.done] == ['a.png', 'c.png']
    assert len(summary.failed) == 1 and 'outside' in summary.failed[0]


@dataclass
class Spy:
    "A Colorizer that remembers its batches."

    color: Colorizer

    def __post_init__(self):
        self.short, self.seen = self.color.short, []

    def guess(self, small):
        self.seen.append(len(small))
        return self.color.guess(small)


def numbered(color, sizes):
    "Jobs (a number each), photos, and what the threads that read have prepared."
    for k, size in enumerate(sizes):
        photo = Photo(np.full(size, 10 * k, np.uint8))
        yield k, photo, color.shrink(photo.pixels)


def test_batches_hold_photos_of_one_padded_size(color):
    sizes = [(40, 60), (60, 40), (40, 60), (41, 59), (60, 40), (40, 60), (40, 60), (200, 40)]
    spy = Spy(color)
    batched = list(in_batches(numbered(color, sizes), spy, batch=4))
    assert sorted(k for k, *_ in batched) == list(range(8)) and sorted(spy.seen) == [1, 3, 4]
    for _, photo, guess in batched:
        alone = color.guess([small_L(photo.pixels)])[0]
        np.testing.assert_allclose(guess.lines, alone.lines, atol=0.01)


def test_large_photos_do_not_wait_for_company(color):
    spy = Spy(color)
    sizes = [(40 + 40 * k, 60) for k in range(5)]
    steps = in_batches(numbered(color, sizes), spy, megapixels=0.001)
    assert next(steps)[0] == 0 and spy.seen == [1]


def test_regression_models_have_no_dial_for_doubt(photo, tmp_path):
    net = make_model('l1', encoder='classic').eval()
    assert Colorizer(net)(photo).shape == photo.shape
    with pytest.raises(InputError, match='no vividness'):
        Colorizer(net, vividness=0.5)
    with pytest.raises(InputError, match='how sure'):
        colorize_files([sample_photos()[0]], tmp_path / 'x.png', net, uncertainty=True)


def test_two_photos_of_one_name_do_not_overwrite_each_other(tmp_path):
    for d in 'ab':
        (tmp_path / d).mkdir()
        Image.new('L', (8, 8)).save(tmp_path / d / 'same.png')
    summary = colorize_files([tmp_path / d / 'same.png' for d in 'ab'], tmp_path / 'out')
    assert summary.done == [tmp_path / 'out' / 'same.png'] and len(summary.failed) == 1


def test_the_same_files_twice(tmp_path):
    "No time, no chance: equal bytes."
    for k in range(3):
        Image.fromarray(
            np.random.default_rng(k).integers(0, 256, (40 + k, 50), dtype=np.uint8)
        ).save(tmp_path / f'{k}.jpg')
    first, second = (
        colorize_files([str(tmp_path / '*.jpg')], tmp_path / out, uncertainty=True).done
        for out in 'ab'
    )
    assert len(first) == 3 and [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert [
        (tmp_path / 'a' / p.name).read_bytes() for p in (tmp_path / 'b').glob('*_uncertainty.png')
    ] == [p.read_bytes() for p in (tmp_path / 'b').glob('*_uncertainty.png')]


def python(code, cwd):
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], cwd=cwd, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='peak memory is read from /proc')
def test_memory_for_huge_photos(tmp_path, long):
    "Fifty megapixels within 1.75 GB; with --long, a hundred within three."
    side = 10_000 if long else 7_072
    gray = Image.linear_gradient('L').resize((side, side))
    gray.convert('RGB').save(tmp_path / 'scan.jpg', quality=70)
    code = """
from colorize.albums import colorize_files
print(colorize_files(["scan.jpg"], "out.jpg").done[0])
print(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")))
"""
    name, peak = python(code, tmp_path).splitlines()
    with warnings.catch_warnings(action='ignore'), Image.open(tmp_path / name) as im:
        assert im.size == (side, side)  # Pillow warns of such a bomb
    assert int(peak) < 0.5e6 + 0.025 * side**2


heavy = ['torch', 'torchvision', 'timm', 'fastai', 'matplotlib', 'pandas']


def test_without_torch(tmp_path, photo):
    "The shipped model needs none of the heavy packages; weights in a .pth get a sentence."
    Image.fromarray(photo).save(tmp_path / 'in.png')
    (tmp_path / 'own.pth').write_bytes(b'weights')
    code = f"""
import sys
sys.modules.update(dict.fromkeys({heavy}))
import numpy as np
from colorize import colorize
try:
    colorize(np.zeros((8, 8), np.uint8), 'own.pth')
except ValueError as e:
    print(e)
from colorize.cli import app
app('image in.png -o out.png --uncertainty --warmth 10 --hint 3,3,#3040a0'.split())
"""
    sentence, name = python(code, tmp_path).splitlines()
    assert 'torch' in sentence and name == 'out.png'
    want = Colorizer(backend='torch', warmth=10, hints=['3,3,#3040a0'])(photo)
    assert np.abs(np.asarray(Image.open(tmp_path / 'out.png')).astype(int) - want).max() <= 1
    assert Image.open(tmp_path / 'out_uncertainty.png').size == (160, 120)


def test_a_plain_photo_loads_nothing_heavy(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / 'in.png')
    code = f"""
import sys
import colorize
from colorize.cli import app
for line in ('image in.png -o out.png', 'temperature in.png -o warm.png --warm 30'):
    app(line.split(), standalone_mode=False)
print([name for name in {[*heavy, 'scipy', 'skimage', 'gradio', 'ray']} if name in sys.modules])
"""
    assert python(code, tmp_path).splitlines() == ['out.png', 'warm.png', '[]']


def test_both_forms_of_the_shipped_model_agree(photo):
    by_onnx, by_torch = OnnxNet(), TorchNet(None)
    assert by_onnx.meta['sha256'] == by_torch.meta['sha256'], 'run: colorize export --force'
    assert by_onnx.path.stat().st_size <= 16e6
    assert (by_onnx.hints, by_onnx.short) == (by_torch.hints, by_torch.short)
    L = np.random.default_rng(0).uniform(0, 100, (2, 1, 96, 160)).astype(np.float32)
    known = np.full((2, 3, 6, 10), 0.5, np.float32)
    for args in ((L,), (L, 0.9), (L, None, known)):
        pairs = zip(by_onnx(*args), by_torch(*args), strict=True)
        assert max(np.abs(a - b).max() for a, b in pairs) < 1e-3
    pictures = [Colorizer(net)(photo).astype(int) for net in (by_onnx, by_torch)]
    assert np.abs(np.subtract(*pictures)).max() <= 1


@needs_onnx
def test_bad_onnx_files(tmp_path):
    (tmp_path / 'text.onnx').write_text('no model')
    with pytest.raises(InputError, match='not an ONNX model of colorize'):
        Colorizer(tmp_path / 'text.onnx')
    with pytest.raises(InputError, match='no ONNX model at'):
        Colorizer(tmp_path / 'none.onnx')
    with pytest.raises(InputError, match='CPU'):
        Colorizer(tmp_path / 'none.onnx', 'gpu')


def test_the_shipped_model_is_small_and_says_where_it_came_from():
    assert shipped_model().stat().st_size < 16e6
    assert {
        'loss',
        'encoder',
        'vividness',
        'photos',
        'epochs',
        'seed',
        'sha256',
    } <= load_model().meta.keys()


def test_public_names_from_any_folder(tmp_path, monkeypatch):
    from colorize import colorize, load_model, temperature

    monkeypatch.chdir(tmp_path)
    coloured = colorize(Image.new('L', (20, 10), 128), load_model())
    assert temperature(coloured, warmth=30).size == (20, 10)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork here')
def test_forked_processes_go_on(tmp_path, monkeypatch):
    "torch's threads stay behind in the parent: without them a child would wait for ever."
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    code = """
import multiprocessing, numpy as np
from colorize import colorize
gray = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
first = colorize(gray).astype(int)
with multiprocessing.get_context('fork').Pool(2) as pool:
    again = pool.map_async(colorize, [gray] * 2).get(timeout=60)
print(max(np.abs(first - rgb).max() for rgb in again))
"""
    assert int(python(code, tmp_path)) <= 1
