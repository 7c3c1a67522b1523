"Properties of colorize.temperature, and its formulas against colour-science."

import subprocess, sys

import numpy as np, pytest
from hypothesis import assume, example, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from colorize.albums import temperature_files, warm_and_cool
from colorize.core import InputError
from colorize.files import Photo, read_photo, write_photo
from colorize.profiles import srgb_profile
from colorize.lab import rgb_to_lab, srgb_to_linear
from colorize.temperature import (
    adaptation,
    bradford,
    clipped_share,
    curve_table,
    find_cast,
    light,
    neutralizing,
    planck_xy,
    temperature,
)

Y = np.array([0.212671, 0.715160, 0.072169])
warmths = st.floats(-100, 100)
dials = (
    st.fixed_dictionaries(
        dict(warmth=warmths, tint=st.floats(-100, 100), preserve=st.sampled_from(['luma', 'white']))
    )
    | st.fixed_dictionaries(
        dict(kelvin=st.floats(1667, 25000), preserve=st.sampled_from(['luma', 'white']))
    )
    | st.fixed_dictionaries(dict(warmth=warmths, method=st.just('curve')))
)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@st.composite
def photos(draw, channels=(3,), dtypes=('uint8', 'uint16', 'float32', 'float64')):
    "Any small photo, black and full scale among its values."
    dtype, shape = np.dtype(draw(st.sampled_from(dtypes))), draw(sizes)
    c = draw(st.sampled_from(channels))
    values = st.integers(0, np.iinfo(dtype).max) if dtype.kind == 'u' else st.floats(0, 1, width=32)
    return draw(arrays(dtype, shape + ((c,) if c else ()), elements=values))


quick = settings(max_examples=30, deadline=None, derandomize=True)


@quick
@given(
    photos(channels=(0, 3, 4)),
    st.sampled_from([{}, dict(kelvin=6500), dict(method='curve'), dict(preserve='white')]),
)
def test_no_change_is_bit_exact(photo, neutral):
    out = temperature(photo, **neutral)
    assert out is not photo and out.dtype == photo.dtype
    np.testing.assert_array_equal(out, photo if photo.ndim == 3 else photo[..., None].repeat(3, -1))


@quick
@given(photos(channels=(0, 3, 4)), dials)
def test_same_kind_finite_alpha_and_input_untouched(photo, dials):
    before = photo.copy()
    out = temperature(photo, **dials)
    assert out.dtype == photo.dtype and out.shape == photo.shape[:2] + (
        max(3, *photo.shape[2:], 3),
    )
    assert np.isfinite(out).all() and out.min() >= 0
    if out.dtype.kind == 'f':
        assert out[..., :3].max() <= 1
    np.testing.assert_array_equal(photo, before)
    if out.shape[-1] == 4:
        np.testing.assert_array_equal(out[..., 3], photo[..., 3])


@quick
@given(st.integers(64, 200), st.floats(10, 100), st.sampled_from(['adapt', 'curve']))
def test_warmer_is_red_up_blue_down(level, warmth, method):
    gray = np.full((1, 1, 3), level, np.uint8)
    cool, warm = (temperature(gray, w, method=method) for w in (-warmth, warmth))
    (r, _, b), (R, _, B) = cool[0, 0], warm[0, 0]
    assert r < level < R and B < level < b


def test_kelvin_and_tint_directions():
    gray = np.full((1, 1, 3), 128, np.uint8)
    bulb, shade = temperature(gray, kelvin=3000)[0, 0], temperature(gray, kelvin=10000)[0, 0]
    assert bulb[0] > 128 > bulb[2] and shade[0] < 128 < shade[2]
    assert temperature(gray, tint=30)[0, 0, 1] < 128 < temperature(gray, tint=-30)[0, 0, 1]


@quick
@given(photos(dtypes=('uint8',)), warmths, st.floats(-40, 40))
def test_there_and_back_where_nothing_clips(photo, warmth, tint):
    photo = photo // 2 + 60  # 60 to 187: most of these fit
    there = temperature(photo, warmth, tint=tint)
    assume(clipped_share(photo, warmth=warmth, tint=tint) == 0)
    assume(clipped_share(there, warmth=-warmth, tint=-tint) == 0)
    assert np.abs(temperature(there, -warmth, tint=-tint).astype(int) - photo).max() <= 1


@quick
@given(warmths)
def test_curve_there_and_back(warmth):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    back = temperature(temperature(ramp, warmth, method='curve'), -warmth, method='curve')
    assert np.abs(back.astype(int) - ramp[..., None]).max() <= 2


@quick
@example(
    dict(warmth=0.0, tint=1e-50), 'uint8'
)  # almost the identity: the share of chroma that fits must not divide by rounding error
@given(dials, st.sampled_from(['uint8', 'uint16', 'float32']))
def test_grays_stay_in_order(dials, dtype):
    ramp = np.linspace(0, 1 if dtype == 'float32' else np.iinfo(dtype).max, 256)
    out = temperature(ramp.astype(dtype)[None], **dials)[0].astype(float)
    assert (np.diff(out, axis=0) >= -1e-6).all()


@quick
@given(st.floats(0.001, 1), warmths, st.floats(-100, 100))
def test_neutral_luminance_within_a_thousandth(level, warmth, tint):
    after = temperature(np.full((1, 1, 3), level), warmth, tint=tint)
    before = srgb_to_linear(np.full(3, level)) @ Y
    assert srgb_to_linear(after).astype(float) @ Y == pytest.approx(before, rel=1e-3)


@quick
@given(photos(dtypes=('float32',)), st.floats(1667, 25000))
def test_luma_keeps_every_pixels_lightness(photo, kelvin):
    moved = rgb_to_lab(temperature(photo, kelvin=kelvin)) - rgb_to_lab(photo)
    assert np.abs(moved[..., 0]).max() < 0.02


@quick
@given(photos(dtypes=('uint8',)), dials)
def test_8_bits_16_bits_and_floats_agree(photo, dials):
    eight = temperature(photo, **dials) / 255
    np.testing.assert_allclose(
        temperature(photo.astype(np.uint16) * 257, **dials) / 65535, eight, atol=0.6 / 255
    )
    np.testing.assert_allclose(temperature(photo / 255, **dials), eight, atol=0.6 / 255)


@quick
@given(st.floats(3000, 12000), st.floats(-30, 30), st.sampled_from(['uint8', 'uint16', 'float64']))
def test_a_cast_is_found_and_taken_away(kelvin, tint, dtype):
    "On grays lit by one lamp the guess is right, so auto makes them gray again."
    ramp = np.linspace(0.2, 0.8, 64)[None]
    ramp = ramp if dtype == 'float64' else np.rint(ramp * np.iinfo(dtype).max).astype(dtype)
    cast = temperature(ramp, kelvin=kelvin, tint=tint, preserve='white')
    k, t = find_cast(cast)
    assert 1e6 / k == pytest.approx(1e6 / kelvin, abs=4) and t == pytest.approx(tint, abs=3)
    again = temperature(cast, auto=1)
    top = 1 if dtype == 'float64' else np.iinfo(dtype).max
    assert np.ptp(again.astype(float), axis=-1).max() <= 3 * top / 255


@pytest.mark.parametrize('photo', [np.full((2, 2, 3), 255, np.uint8), np.zeros((2, 2), np.uint16)])
def test_where_nothing_is_known_of_the_light(photo):
    "All pixels are clipped, or black."
    assert find_cast(photo) == (6500, 0)
    np.testing.assert_array_equal(temperature(photo[..., :3], auto=1).max(), photo.max())


@quick
@given(photos(channels=(0, 3, 4)), st.floats(0, 1))
def test_auto_on_anything(photo, strength):
    out = temperature(photo, auto=strength)
    assert np.isfinite(out).all() and out.dtype == photo.dtype
    kelvin, tint = find_cast(photo)
    assert 1667 <= kelvin <= 25000 and -100 <= tint <= 100


@quick
@given(st.floats(1667, 25000), st.floats(-100, 100), st.floats(0, 1))
def test_neutralizing_undoes_its_share(kelvin, tint, strength):
    "Taking away a share of a cast and setting the same light again are inverse, up to brightness."
    np.testing.assert_allclose(neutralizing((kelvin, tint), 0), np.eye(3), atol=1e-9)
    both = neutralizing((kelvin, tint)) @ adaptation(kelvin=kelvin, tint=tint)
    np.testing.assert_allclose(both / both[1, 1], np.eye(3), atol=1e-9)
    red, _, blue = neutralizing((kelvin, 0), strength).sum(1)
    if kelvin < 6000:  # warm: red down, blue up
        assert red <= 1 + 1e-9 and blue >= 1 - 1e-9


@pytest.mark.parametrize('shape', [(1, 1), (1, 140000), (257, 131), (4096, 70)])
def test_any_shape_is_worked_through_in_pieces(shape):
    photo = np.random.default_rng(42).integers(0, 256, (*shape, 3), dtype=np.uint8)
    out = temperature(photo, 60)
    np.testing.assert_array_equal(out[-1:, -1:], temperature(photo[-1:, -1:], 60))
    np.testing.assert_array_equal(
        out[:, ::-1], temperature(photo[:, ::-1], 60)
    )  # a view, not contiguous


@quick
@given(st.floats(-1, 1), st.sampled_from([256, 65536]))
def test_curves_rise_and_keep_their_ends(strength, size):
    t = curve_table(strength, size)
    assert (np.diff(t, axis=0) > 0).all()
    np.testing.assert_allclose(t[[0, -1]], [[0] * 3, [1] * 3], atol=1e-9)
    same = np.linspace(0, 1, size)
    np.testing.assert_array_equal(curve_table(0, size), np.stack([same] * 3, -1))


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16'])
def test_pillow_modes(mode):
    like = Image.new('RGBA', (3, 2), (128, 128, 128, 77))
    if mode == 'I;16':
        like = Image.new(mode, (3, 2), 128 * 257)
    else:
        like = like.convert('RGB').quantize(4) if mode == 'P' else like.convert(mode)
    out = temperature(like, 40)
    assert out.size == like.size and out.mode == ('RGBA' if mode in ('LA', 'RGBA') else 'RGB')
    want = temperature(Image.new('RGB', (3, 2), (128,) * 3), 40).getpixel((0, 0))
    if mode not in ('1', 'CMYK'):  # black and white are dithered, CMYK is rounded
        assert np.abs(np.subtract(out.getpixel((0, 0))[:3], want)).max() <= 2
    if out.mode == 'RGBA':
        assert out.getpixel((0, 0))[3] == 77
    if mode == '1':
        assert set(np.asarray(out).flat) == {0, 255}


class TestAgainstColourScience:
    colour = pytest.importorskip('colour')

    @pytest.mark.parametrize(
        'kelvin', [1667, 2000, 2222, 2223, 3000, 4000, 4001, 6500, 10000, 25000]
    )
    def test_kang(self, kelvin):
        np.testing.assert_allclose(
            planck_xy(kelvin), self.colour.temperature.CCT_to_xy_Kang2002(kelvin), atol=1e-6
        )

    def test_bradford(self):
        a, b = light(154), light(300)
        np.testing.assert_allclose(
            bradford(a, b),
            self.colour.adaptation.matrix_chromatic_adaptation_VonKries(a, b, transform='Bradford'),
            atol=1e-6,
        )

    @pytest.mark.parametrize('kelvin', [2500, 5000, 9000])
    def test_whole_matrix(self, kelvin):
        "The adapted white is where colour-science moves D65 under the same change of light."
        c = self.colour
        to_xyz = np.array(
            [[0.412453, 0.357580, 0.180423], Y, [0.019334, 0.119193, 0.950227]]  # ITU-R BT.709
        )
        xy = [c.temperature.CCT_to_xy_Kang2002(k) for k in (6500, kelvin)]
        want = c.adaptation.chromatic_adaptation_VonKries(
            to_xyz.sum(1), *(c.xy_to_XYZ(p) for p in xy), transform='Bradford'
        )
        ours = to_xyz @ adaptation(kelvin=kelvin).sum(1)
        np.testing.assert_allclose(ours, want / want[1], atol=1e-6)

    def test_duv(self):
        "Ohno's independent method finds the same tint, by the true locus, which Kang's fits."
        c = self.colour
        x, y = c.XYZ_to_xy(light(200, 0.01))
        cct, duv = c.temperature.uv_to_CCT_Ohno2013(c.UCS_to_uv(c.XYZ_to_UCS(c.xy_to_XYZ([x, y]))))
        assert cct == pytest.approx(5000, rel=0.01) and duv == pytest.approx(0.01, abs=5e-4)


@pytest.mark.parametrize(
    'bad, part',
    [
        (dict(warmth=101), 'warmth'),
        (dict(warmth=float('nan')), 'warmth'),
        (dict(warmth='hot'), 'warmth'),
        (dict(kelvin=0), 'kelvin'),
        (dict(kelvin=1e6), 'kelvin'),
        (dict(tint=-101), 'tint'),
        (dict(method='magic'), 'method'),
        (dict(preserve='all'), 'preserve'),
        (dict(warmth=9, kelvin=5000), 'the same thing'),
        (dict(method='curve', tint=5), 'no kelvin, tint or auto'),
        (dict(method='curve', kelvin=5000), 'no kelvin'),
        (dict(method='curve', auto=0.5), 'no kelvin, tint or auto'),
        (dict(auto=1.1), 'auto'),
        (dict(auto=-1), 'auto'),
        (dict(auto=None), 'auto'),
    ],
)
def test_bad_dials(bad, part):
    with pytest.raises(InputError, match=part):
        temperature(np.zeros((2, 2, 3), np.uint8), **bad)


@pytest.mark.parametrize(
    'bad',
    [
        np.zeros(3, np.uint8),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((0, 2, 3), np.uint8),
        np.zeros((2, 2, 3), int),
        np.zeros((2, 2), bool),
        np.full((2, 2, 3), 255.0),
        np.full((2, 2, 3), -0.1),
        np.full((2, 2, 3), np.nan),
        np.zeros((0, 2)),
        np.zeros((2, 2, 2)),
        Image.new('F', (2, 2)),
        'no such photo.jpg',
        '/',
    ],
)
def test_bad_photos(bad):
    with pytest.raises(InputError):
        temperature(bad, 10)


@pytest.fixture
def portrait(tmp_path):  # lies on its side, as a camera stores an upright photo
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, 'Maker'
    pixels = np.full((20, 30, 3), 128, np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'me.jpg', exif=exif, icc_profile=srgb_profile())
    return tmp_path / 'me.jpg'


def test_warm_and_cool(portrait, tmp_path):
    warm, cool = warm_and_cool(portrait, tmp_path / 'new')
    assert (warm.name, cool.name) == ('me_warm.jpg', 'me_cool.jpg')
    with Image.open(warm) as w, Image.open(cool) as c:
        assert w.size == c.size == (20, 30) and w.format == 'JPEG'
        assert (
            0x0112 not in w.getexif()
            and w.getexif()[0x010F] == 'Maker'
            and w.info['icc_profile'] == srgb_profile()
        )
        (r, _, b), (R, _, B) = c.getpixel((5, 5)), w.getpixel((5, 5))
    assert r < 128 < R and B < 128 < b
    assert sorted(p.name for p in (tmp_path / 'new').iterdir()) == ['me_cool.jpg', 'me_warm.jpg']


@pytest.mark.parametrize('suffix', ['webp', 'png', 'tif'])
def test_transparency_and_format_stay(tmp_path, suffix):
    Image.new('RGBA', (4, 4), (128, 128, 128, 7)).save(tmp_path / f'a.{suffix}')
    warm, _ = warm_and_cool(tmp_path / f'a.{suffix}', tmp_path)
    assert warm.name == f'a_warm.{suffix}' and Image.open(warm).getpixel((0, 0))[3] == 7


def test_sixteen_bits_stay(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 6, 3)).astype(np.uint16)
    write_photo(Photo(pixels, pixels[..., 0].copy()), tmp_path / 'deep.png')
    made = temperature_files([tmp_path / 'deep.png'], tmp_path / 'out', warm=30)
    assert made.done == [tmp_path / 'out' / 'deep.png']
    back = read_photo(tmp_path / 'out' / 'deep.png')
    np.testing.assert_array_equal(back.pixels, temperature(pixels, 30))
    np.testing.assert_array_equal(back.alpha, pixels[..., 0])


def test_a_photo_gives_a_photo():
    whole = Photo(np.full((2, 2), 128, np.uint8), info=dict(dpi=(300.0, 300.0)))
    made = temperature(whole, 40)
    assert isinstance(made, Photo) and made.info == whole.info and whole.pixels.shape == (2, 2)
    np.testing.assert_array_equal(made.pixels, temperature(whole.pixels, 40))


@pytest.mark.parametrize(
    'dials, names',
    [
        (dict(), ['warm', 'cool']),
        (dict(preserve='white'), ['warm', 'cool']),
        (dict(warm=30, cool=20), ['warm', 'cool']),
        (dict(warm=30), ['']),
        (dict(cool=30), ['']),
        (dict(kelvin=3000), ['']),
        (dict(tint=20), ['']),
        (dict(auto=1), ['']),
        (dict(warmth=-20), ['']),
        (dict(auto=1, warm=9, cool=9), ['warm', 'cool']),
    ],
)
def test_which_pictures(portrait, tmp_path, dials, names):
    made = temperature_files([portrait], tmp_path / 'out', **dials)
    assert [p.name for p in made.done] == [
        f'me{"_" if n else ""}{n}.jpg' for n in names
    ] and not made.failed


def test_a_folder(portrait, tmp_path):
    "A bad photo stops no other; what exists is skipped, and half of a pair is not replaced."
    (tmp_path / 'in' / 'deep').mkdir(parents=True)
    for name in ('a.jpg', 'deep/b.jpg'):
        (tmp_path / 'in' / name).write_bytes(portrait.read_bytes())
    (tmp_path / 'in' / 'bad.jpg').write_text('no photo')
    first = temperature_files([tmp_path / 'in'], tmp_path / 'out', recursive=True)
    assert [p.relative_to(tmp_path / 'out').as_posix() for p in first.done] == [
        'a_warm.jpg',
        'a_cool.jpg',
        'deep/b_warm.jpg',
        'deep/b_cool.jpg',
    ] and len(first.failed) == 1
    (tmp_path / 'out' / 'a_warm.jpg').unlink()
    before = (tmp_path / 'out' / 'a_cool.jpg').stat().st_mtime_ns
    again = temperature_files([tmp_path / 'in'], tmp_path / 'out', recursive=True)
    assert (
        again.done == []
        and again.skipped == 1
        and len(again.failed) == 2
        and 'a_cool.jpg exists already' in again.failed[0]
    )
    assert (tmp_path / 'out' / 'a_cool.jpg').stat().st_mtime_ns == before and not (
        tmp_path / 'out' / 'a_warm.jpg'
    ).exists()


def test_inputs_are_never_replaced(portrait, tmp_path):
    (tmp_path / 'me_warm.jpg').write_bytes(portrait.read_bytes())
    with pytest.raises(InputError, match='never replaced'):
        temperature_files([portrait, tmp_path / 'me_warm.jpg'], tmp_path, force=True)
    with pytest.raises(InputError, match='never replaced'):
        temperature_files([portrait], tmp_path, warm=9, force=True)
    with pytest.raises(InputError, match='only one picture'):
        temperature_files([portrait], '-')


def test_what_it_says(portrait, tmp_path):
    white = Image.new('RGB', (8, 8), (250, 250, 250))
    white.save(tmp_path / 'white.png')
    assert (
        '100% of its pixels'
        in temperature_files([tmp_path / 'white.png'], tmp_path / 'out').notes[0]
    )
    assert temperature_files([portrait], tmp_path / 'out', warm=20).notes == []
    assert '6,500 K, tint' in temperature_files([portrait], tmp_path / 'auto', auto=1).notes[0]
    exif = Image.Exif()
    exif[0x0131] = 'colorize 0.1.0, model 0123456789ab'
    white.save(tmp_path / 'painted.jpg', exif=exif)
    assert (
        'was colorized'
        in temperature_files([tmp_path / 'painted.jpg'], tmp_path / 'out', auto=1).notes[1]
    )


@pytest.mark.parametrize('there', ['me_warm.jpg', 'me_cool.jpg'])
def test_nothing_replaced_or_half_done(portrait, tmp_path, there):
    (tmp_path / there).write_text('mine')
    with pytest.raises(InputError, match='exists already'):
        warm_and_cool(portrait, tmp_path)
    assert (tmp_path / there).read_text() == 'mine' and sorted(
        p.name for p in tmp_path.iterdir()
    ) == sorted(['me.jpg', there])
    warm_and_cool(portrait, tmp_path, force=True)
    assert Image.open(tmp_path / there).format == 'JPEG'


def test_bad_files_leave_nothing(portrait, tmp_path):
    (tmp_path / 'text.jpg').write_text('no photo')
    (tmp_path / 'half.jpg').write_bytes(portrait.read_bytes()[:-300])
    for name in ('text.jpg', 'half.jpg', 'none.jpg'):
        with pytest.raises(InputError, match=name):
            warm_and_cool(tmp_path / name, tmp_path / 'out')
    for bad in (0, -3, 101, 'x'):
        with pytest.raises(InputError, match='warm cannot be'):
            warm_and_cool(portrait, tmp_path / 'out', bad)
    with pytest.raises(InputError, match='method'):
        warm_and_cool(portrait, tmp_path / 'out', method='magic')
    with pytest.raises(InputError, match='cannot be written'):
        warm_and_cool(portrait, portrait / 'new')
    assert not list((tmp_path / 'out').glob('*'))


def test_the_name_in_any_order_of_import_and_what_it_loads(tmp_path):
    code = """
import sys
import colorize.temperature
heavy = ['torch', 'fastai', 'matplotlib', 'skimage', 'scipy', 'ipywidgets', 'pandas']
print([name for name in heavy if name in sys.modules])
import colorize.infer, colorize.demo, colorize.archive
heavy = ['torch', 'fastai', 'matplotlib', 'pandas', 'gradio', 'ray', 'pyarrow', 'onnxruntime']
print([name for name in heavy if name in sys.modules])
import numpy as np
gray = np.full((1, 1, 3), 128, np.uint8)
for first in ('pass', 'import colorize.temperature', 'from colorize.albums import warm_and_cool'):
    for name in [m for m in sys.modules if m.split('.')[0] == 'colorize']:
        del sys.modules[name]
    exec(first)
    from colorize import temperature
    print(temperature(gray, 40)[0, 0].tolist())
    import colorize.temperature as module
    print(module(gray, 40)[0, 0].tolist(), module.adaptation().shape)
"""
    line = [sys.executable, '-c', code]
    out = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    loaded, results = lines[:2], lines[2:]
    assert loaded == ['[]', '[]'] and len(results) == 6
    r, _, b = eval(results[0])
    assert r > 128 > b and {x.removesuffix(' (3, 3)') for x in results} == {results[0]}
