"Photo files in and out: every kind of file, every kind of damage, and nothing lost on the way."

import errno, io, itertools, os, random, struct, subprocess, sys, threading, time, warnings, zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, features

from colorize import files, sources
from colorize.core import InputError
from colorize.files import Photo, as_photo, has_heif, read_photo, write_photo
from colorize.jobs import plan, run_jobs
from colorize.lab import linear_to_srgb, srgb_to_linear
from colorize.pixels import to_8_bits, upright
from colorize.profiles import srgb_profile, to_srgb

heif = pytest.mark.skipif(not has_heif(write=True), reason='no pillow-heif that writes')
avif = pytest.mark.skipif(not features.check('avif'), reason='no AVIF')
FORMATS = [
    'jpg',
    'png',
    'tif',
    'webp',
    'bmp',
    pytest.param('avif', marks=avif),
    pytest.param('heic', marks=heif),
]


def smooth(h=18, w=26, bits=8):
    "Colours that no JPEG spoils, and no two corners alike."
    y, x = np.mgrid[:h, :w] / max(h, w)
    rgb = np.stack([0.1 + 0.8 * x, 0.2 + 0.6 * y, 0.9 - 0.5 * x - 0.3 * y], -1)
    return np.rint(rgb * (2**bits - 1)).astype(f'uint{bits}')


RGB, RGB16 = smooth(), smooth(bits=16)


def gray(a):
    return np.ascontiguousarray(a[..., 0])


def exif(turn=None, **text):
    e = Image.Exif()
    if turn:
        e[0x0112] = turn
    if text:
        e[271] = text['make']
    return e


def data(im, kind='PNG', **options):
    f = io.BytesIO()
    im.save(f, kind, **options)
    return f.getvalue()


def refused(part, f, *args, **kwargs):
    with pytest.raises(InputError, match=part) as e:
        f(*args, **kwargs)
    assert '\n' not in str(e.value) and str(e.value).endswith('.')
    return str(e.value)


# ---- every mode


def palette(transparency=None, a=RGB):
    im = Image.fromarray(a).quantize(16)
    if transparency is not None:
        im.info['transparency'] = transparency
    return im


MODES = {
    '1': (Image.fromarray(gray(RGB)).convert('1'), 'PNG', 2, False),
    'L': (Image.fromarray(gray(RGB)), 'PNG', 2, False),
    'LA': (Image.fromarray(gray(RGB)).convert('LA'), 'PNG', 2, True),
    'P': (palette(), 'PNG', 3, False),
    'P transparent': (palette(3), 'PNG', 3, True),
    'P alphas': (palette(bytes(range(0, 256, 16))), 'PNG', 3, True),
    'PA': (palette().convert('PA'), 'TIFF', 3, True),
    'RGB': (Image.fromarray(RGB), 'PNG', 3, False),
    'RGBA': (Image.fromarray(RGB).convert('RGBA'), 'PNG', 3, True),
    'CMYK': (Image.fromarray(RGB).convert('CMYK'), 'TIFF', 3, False),
    'CMYK jpg': (Image.fromarray(RGB).convert('CMYK'), 'JPEG', 3, False),
    'YCbCr': (Image.fromarray(RGB).convert('YCbCr'), 'JPEG', 3, False),
    'GIF': (palette(3), 'GIF', 3, True),
    'LAB': (
        ImageCms.profileToProfile(
            Image.fromarray(RGB),
            ImageCms.createProfile('sRGB'),
            ImageCms.createProfile('LAB'),
            outputMode='LAB',
        ),
        'TIFF',
        3,
        False,
    ),
    'bmp': (Image.fromarray(RGB), 'BMP', 3, False),
    'white is zero': (Image.fromarray(gray(RGB)), 'TIFF', 2, False),
}


@pytest.mark.parametrize('name', MODES)
def test_modes(name):
    im, kind, ndim, alpha = MODES[name]
    stored = data(im, kind, **(dict(tiffinfo={262: 0}) if name == 'white is zero' else {}))
    true = np.dstack([RGB[..., 0]] * 3) if ndim == 2 else RGB
    most = 12
    if name == '1':  # black and white dots, each of which has to be where it was
        true, most = np.dstack([np.asarray(im.convert('L'))] * 3), 0
        assert 0.2 < (true == 255).mean() < 0.8
    for photo in (read_photo(stored), as_photo(im)):
        assert photo.pixels.ndim == ndim and photo.pixels.dtype == np.uint8
        assert (photo.alpha is not None) == alpha and photo.pixels.flags.c_contiguous
        assert photo.rgb8.shape == RGB.shape and photo.rgb8.dtype == np.uint8
        solid = slice(None) if photo.alpha is None else photo.alpha == photo.alpha.max()
        assert np.abs(photo.rgb8.astype(int) - true)[solid].mean() <= most
    assert read_photo(stored).format == dict(GIF='PNG').get(kind, kind)


def test_transparent_colour_of_gray_and_rgb():
    for im, key in (
        (Image.fromarray(gray(RGB)), int(RGB[0, 0, 0])),
        (Image.fromarray(RGB), tuple(int(v) for v in RGB[0, 0])),
        (Image.fromarray(gray(RGB)).convert('1'), 255),
    ):
        photo = read_photo(data(im, transparency=key))
        assert (
            photo.alpha[0, 0] == (0 if im.mode != '1' else 255 * (photo.pixels[0, 0] != 255))
            and photo.alpha.max() == 255
        )


DEEP = dict(gray=gray(RGB16), rgb=RGB16, rgba=np.dstack([RGB16, gray(RGB16)]))
DEEP_TIFFS = {
    'tif': {},
    'tif zlib': dict(compression='zlib', predictor=True),
    'tif big-endian': dict(byteorder='>'),
    'tif tiles': dict(tile=(16, 16)),
    'tif planes': dict(planarconfig='separate'),
    'tif white is zero': dict(photometric='miniswhite'),
}
DEEP_FILES = [
    (name, kind)
    for name, kind in itertools.product(DEEP, ['png', 'cv2 tif', *DEEP_TIFFS])
    if not (name == 'gray' and kind == 'tif planes' or name != 'gray' and 'white' in kind)
]


def deep_file(a, kind):
    if kind in ('png', 'cv2 tif'):
        if a.ndim == 3:
            a = cv2.cvtColor(a, cv2.COLOR_RGB2BGR if a.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
        return cv2.imencode('.png' if kind == 'png' else '.tiff', a)[1].tobytes()
    options = dict(photometric='minisblack' if a.ndim == 2 else 'rgb')
    if a.shape[2:] == (4,):
        options['extrasamples'] = ['unassalpha']
    if 'white' in kind:
        a = 65535 - a
    f = io.BytesIO()
    tifffile.imwrite(
        f, np.moveaxis(a, -1, 0) if 'planes' in kind else a, **options | DEEP_TIFFS[kind]
    )
    return f.getvalue()


@pytest.mark.parametrize('name, kind', DEEP_FILES)
def test_sixteen_bits(name, kind):
    a = DEEP[name]
    photo = read_photo(deep_file(a, kind))
    colours = a if a.ndim == 2 else a[..., :3]
    assert photo.pixels.dtype == np.uint16 and photo.notes == []
    np.testing.assert_array_equal(photo.pixels, colours)
    if name == 'rgba':
        np.testing.assert_array_equal(photo.alpha, a[..., 3])
    else:
        assert photo.alpha is None
    in_colour = colours if colours.ndim == 3 else np.dstack([colours] * 3)
    np.testing.assert_array_equal(photo.rgb8, np.rint(in_colour / 257))


def chunk(kind, body):
    crc = zlib.crc32(kind + body)
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', crc)


def png16(a, colour, extra=b''):  # kinds that no library writes
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in a)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>2I5B', a.shape[1], a.shape[0], 16, colour, 0, 0, 0))
        + (chunk(b'tRNS', extra) if extra else b'')
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )


def test_sixteen_bits_see_through():
    photo = read_photo(png16(RGB16[..., :2], 4))
    assert np.array_equal(photo.pixels, np.repeat(RGB16[..., :1], 3, -1)) and np.array_equal(
        photo.alpha, RGB16[..., 1]
    )
    photo = read_photo(png16(RGB16, 2, struct.pack('>3H', *RGB16[3, 4])))
    assert np.array_equal(photo.pixels, RGB16) and photo.alpha.dtype == np.uint16
    assert (
        photo.alpha[3, 4] == 0 and (photo.alpha == 0).sum() == (RGB16 == RGB16[3, 4]).all(-1).sum()
    )


def test_a_note_where_sixteen_bits_are_cut():
    f = io.BytesIO()
    tifffile.imwrite(f, np.dstack([RGB16, gray(RGB16)]), photometric='separated')
    assert 'Its 16 bits could only be read as 8.' in read_photo(f.getvalue()).notes


def test_whole_numbers_and_floats():
    i = Image.fromarray(gray(RGB16).astype(np.int32))
    assert i.mode == 'I'
    for photo in (as_photo(i), read_photo(data(i, 'TIFF'))):
        np.testing.assert_array_equal(photo.pixels, gray(RGB16))
    refused(
        "don't fit into 16 bits",
        read_photo,
        data(Image.fromarray(gray(RGB16).astype(np.int32) + 30000), 'TIFF'),
    )
    refused('floating', read_photo, data(Image.fromarray(gray(RGB16).astype(np.float32)), 'TIFF'))
    refused('mode F', as_photo, Image.new('F', (3, 3)))


def test_arrays():
    for a, shape, alpha in (
        (RGB, RGB.shape, False),
        (gray(RGB), RGB.shape[:2], False),
        (np.dstack([RGB16, RGB16[..., 0]]), RGB.shape, True),
    ):
        photo = as_photo(a)
        assert (
            photo.pixels.shape == shape
            and photo.pixels.dtype == a.dtype
            and (photo.alpha is not None) == alpha
            and as_photo(photo) is photo
        )
    for bad, part in (
        (RGB / 255, 'float64'),
        (RGB[..., :2], 'shape'),
        (RGB[:0], 'shape'),
        (RGB[None], 'shape'),
    ):
        refused(part, as_photo, bad)
    assert (
        as_photo(RGB16).image.mode,
        as_photo(np.dstack([RGB, gray(RGB)])).image.mode,
        as_photo(gray(RGB)).image.mode,
    ) == ('RGB', 'RGBA', 'L')


# ---- upright, once


KINDS = {  # by who decodes and who turns: Pillow's own format or tifffile, and how it is stored
    'png': ('PNG', {}),
    'tif': ('TIFF', {}),
    'tif lzw': ('TIFF', dict(compression='tiff_lzw')),
    'webp': ('WEBP', dict(lossless=True)),
    'jpg': ('JPEG', dict(quality=100, subsampling=0)),
    'avif': ('AVIF', {}),
    'heic': ('HEIF', {}),
}
EVERY_TURN = [*itertools.product(['png', 'tif', 'tif16'], range(1, 9))]
SOME_TURNS = [('tif lzw', 6), ('tif lzw', 4), ('webp', 8), ('webp', 5), ('jpg', 6), ('jpg', 7)]
SOME_TURNS += [('png16', 6), ('png16', 2), ('png16 gray', 8), ('png16 gray', 7)]
SOME_TURNS += [('tif16 gray', 6), ('tif16 gray', 5), ('avif', 6), ('avif', 5)]
SOME_TURNS += [('heic', 8), ('heic', 7)]


def turned_file(a, kind, turn):  # a picture that its EXIF turns
    e = exif(turn, make='Camera').tobytes()
    if kind.startswith('png16'):
        return files._png(a if a.ndim == 2 else cv2.cvtColor(a, cv2.COLOR_RGB2BGR), dict(exif=e))
    if kind.startswith('tif16'):
        tags = [(274, 'H', 1, turn), (271, 's', 0, 'Camera')]
        f = io.BytesIO()
        photometric = 'rgb' if a.ndim == 3 else 'minisblack'
        tifffile.imwrite(f, a, photometric=photometric, extratags=tags)
        return f.getvalue()
    name, options = KINDS[kind]
    return data(Image.fromarray(a), name, exif=e, **options)


@pytest.mark.parametrize('kind, turn', EVERY_TURN + SOME_TURNS)
def test_upright(kind, turn, tmp_path):
    if kind == 'avif' and not features.check('avif') or kind == 'heic' and not has_heif(write=True):
        pytest.skip('not built in')
    a = RGB16 if '16' in kind else RGB
    if 'gray' in kind:
        a = gray(a)
    inverse = {6: 8, 8: 6}.get(turn, turn)
    photo = read_photo(turned_file(upright(a, inverse), kind, turn))
    most = dict(jpg=6, avif=20, heic=20).get(kind, 0)
    np.testing.assert_allclose(photo.pixels.astype(int), a, atol=most)
    out = tmp_path / 'out.png'
    write_photo(photo, out)  # and it is not turned again
    assert np.array_equal(read_photo(out).pixels, photo.pixels)
    with Image.open(out) as im:
        assert im.getexif().get(0x0112) is None and im.getexif()[271] == 'Camera'


def test_orientation_in_xmp_only():
    xmp = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    photo = read_photo(data(Image.fromarray(upright(RGB, 8)), 'WEBP', lossless=True, xmp=xmp))
    assert np.array_equal(photo.pixels, RGB) and b'Orientation' not in photo.info['xmp']


def test_damaged_exif_is_left_out():
    for bad in (
        b'Exif\0\0II*\0\x08\0\0\0\xff\xff' + b'\xff' * 40,
        b'Exif\0\0XX',
        b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0',
    ):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            photo = read_photo(data(Image.fromarray(RGB), 'JPEG', exif=bad))
        assert photo.pixels.shape == RGB.shape


# ---- colour profiles


def icc(space, tags, pcs=b'XYZ '):
    "A small ICC profile of these tags."
    tags, at, body, table = (
        {
            b'desc': b'desc\0\0\0\0\0\0\0\x05made\0' + bytes(78),
            b'wtpt': b'XYZ ' + struct.pack('>4x3i', 63190, 65536, 54061),
        }
        | tags,
        132 + 12 * (len(tags) + 2),
        b'',
        b'',
    )
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack('>2I', at + len(body), len(value))
        body += value
    kind = b'prtr' if space in (b'CMYK',) else b'mntr'
    head = struct.pack(
        '>I4xI4s4s4s12s4s4xI',
        at + len(body),
        0x02400000,
        kind,
        space,
        pcs,
        struct.pack('>6H', 2000, 1, 1, 0, 0, 0),
        b'acsp',
        0,
    )
    return (
        (head.ljust(68, b'\0') + struct.pack('>3i', 63190, 65536, 54061)).ljust(128, b'\0')
        + struct.pack('>I', len(tags))
        + table
        + body
    )


def curv(*values):
    return b'curv' + struct.pack(f'>4xI{len(values)}H', len(values), *values)


def para(kind, *values):
    return b'para' + struct.pack(f'>4xHxx{len(values)}i', kind, *(round(v * 65536) for v in values))


def xyz(*v):
    return b'XYZ ' + struct.pack('>4x3i', *(round(x * 65536) for x in v))


ADOBE = dict(
    rXYZ=(0.60974, 0.31111, 0.01947),
    gXYZ=(0.20528, 0.62567, 0.06087),
    bXYZ=(0.14919, 0.06322, 0.74457),
)
CURVES = {
    'gamma': curv(round(2.2 * 256)),
    'linear': curv(),
    'table': curv(*(round(65535 * (i / 255) ** 1.8) for i in range(256))),
    'para 0': para(0, 2.2),
    'para 1': para(1, 2.4, 1.1, -0.1),
    'para 3': para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
    'para 4': para(4, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, 0, 0),
}


def lut(channels, corners):  # a table profile of 2 points a channel, 8 bits: Lab at each corner
    ramp = bytes(range(256))
    return (
        b'mft1'
        + struct.pack('>4x4B9i', channels, 3, 2, 0, 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
        + ramp * channels
        + bytes(corners)
        + ramp * 3
    )


def rgb_profile(curve='gamma'):
    return icc(
        b'RGB ',
        {n.encode(): xyz(*v) for n, v in ADOBE.items()}
        | dict.fromkeys((b'rTRC', b'gTRC', b'bTRC'), CURVES[curve]),
    )


LUT_RGB = icc(
    b'RGB ',
    {b'A2B0': lut(3, sum(([round(255 * i / 7), 128 + 20 * (i & 1), 128] for i in range(8)), []))},
    b'Lab ',
)
LUT_CMYK = icc(
    b'CMYK',
    {
        b'A2B0': lut(
            4, sum(([round(255 * (1 - bin(i).count('1') / 4)), 128, 128] for i in range(16)), [])
        )
    },
    b'Lab ',
)


@pytest.mark.parametrize('curve', CURVES)
@pytest.mark.parametrize('space', ['rgb', 'gray'])
def test_sixteen_bits_agree_with_littlecms(curve, space):
    profile = rgb_profile(curve) if space == 'rgb' else icc(b'GRAY', {b'kTRC': CURVES[curve]})
    a = RGB16 if space == 'rgb' else gray(RGB16)
    out8, _ = to_srgb(Image.fromarray(to_8_bits(a)), profile, notes := [])
    out16, kept = to_srgb(to_8_bits(a).astype(np.uint16) * 257, profile, [])
    assert kept == srgb_profile() and out16.dtype == np.uint16
    np.testing.assert_allclose(out16 / 257, out8, atol=1.6)
    if curve in ('gamma', 'linear', 'table'):
        assert 'made' in notes[0] and np.abs(out8.astype(int) - to_8_bits(a)).max() > 3


def test_sixteen_bits_and_tables():
    photo = read_photo(data(Image.fromarray(RGB), icc_profile=LUT_RGB))
    deep = read_photo(bytes(files._png(RGB16[..., ::-1].copy(), dict(icc_profile=LUT_RGB))))
    assert (
        deep.pixels.dtype == np.uint8
        and any('8 bits' in n for n in deep.notes)
        and np.array_equal(deep.pixels, photo.pixels)
    )


def test_ink_goes_through_its_profile():
    ink = Image.new('CMYK', (9, 9), (255, 0, 0, 0))
    with_profile, without = (
        read_photo(data(ink, 'TIFF', icc_profile=LUT_CMYK)),
        read_photo(data(ink, 'TIFF')),
    )
    assert (
        np.ptp(with_profile.pixels) <= 2 and 170 < with_profile.pixels.mean() < 200
    )  # this printer's cyan is L 75 and gray
    assert (
        without.pixels[0, 0].tolist() == [0, 255, 255]
        and any('approximate' in n for n in without.notes)
        and 'icc_profile' not in without.info
    )
    assert with_profile.info['icc_profile'] == srgb_profile()


@pytest.mark.parametrize('name', ['of tables', 'parametric', 'own'])
def test_srgb_is_kept_whatever_its_name(name):
    srgb = {
        n: xyz(*v)
        for n, v in (
            (b'rXYZ', (0.43607, 0.22249, 0.01392)),
            (b'gXYZ', (0.38515, 0.71687, 0.09708)),
            (b'bXYZ', (0.14307, 0.06061, 0.7141)),
        )
    }
    table = curv(*(int(v) for v in np.rint(65535 * srgb_to_linear(np.arange(1024) / 1023))))
    profile = (
        srgb_profile()
        if name == 'own'
        else icc(
            b'RGB ',
            srgb
            | dict.fromkeys(
                (b'rTRC', b'gTRC', b'bTRC'), table if name == 'of tables' else CURVES['para 3']
            ),
        )
    )
    photo = read_photo(data(Image.fromarray(RGB), icc_profile=profile))
    assert (
        photo.info['icc_profile'] == profile
        and np.array_equal(photo.pixels, RGB)
        and not photo.notes
    )


def test_profiles_that_cannot_be_used():
    for profile in (b'x', b'x' * 500, srgb_profile()[:200], LUT_CMYK, icc(b'RGB ', {})):
        photo = read_photo(data(Image.fromarray(RGB), 'TIFF', icc_profile=profile))
        assert (
            np.array_equal(photo.pixels, RGB)
            and 'icc_profile' not in photo.info
            and 'ignored' in photo.notes[0]
        )


def test_gray_with_a_profile_for_colours():
    "Some programs leave it there; gray is R = G = B in it."
    photo = read_photo(data(Image.fromarray(gray(RGB)), icc_profile=srgb_profile()))
    assert photo.info['icc_profile'] == srgb_profile() and not photo.notes
    assert np.array_equal(photo.pixels, gray(RGB))
    for a in (gray(RGB), gray(RGB).astype(np.uint16) * 257):
        linear = to_srgb(
            Image.fromarray(a) if a.dtype == np.uint8 else a, rgb_profile('linear'), []
        )[0]
        np.testing.assert_allclose(
            linear / (1 if a.dtype == np.uint8 else 257),
            255 * linear_to_srgb(gray(RGB) / 255.0),
            atol=1.5,
        )


def test_the_standard_profile_never_changes():
    mine = srgb_profile()
    time.sleep(1.1)  # LittleCMS would stamp another second into it
    code = (
        'import sys; from colorize.profiles import srgb_profile as f; sys.stdout.buffer.write(f())'
    )
    other = subprocess.run([sys.executable, '-c', code], capture_output=True, check=True).stdout
    assert other == mine
    assert ImageCms.ImageCmsProfile(io.BytesIO(mine)).profile.xcolor_space == 'RGB '


# ---- there and back

HOLDS = dict(
    jpg='exif icc xmp dpi',
    png='exif icc xmp dpi alpha deep',
    tif='exif icc xmp dpi alpha deep',
    webp='exif icc xmp alpha',
    avif='exif icc xmp alpha',
    heic='exif icc xmp alpha',
    bmp='dpi',
)


def full_exif():
    e = exif(make='Camera')
    e[306], e[315], e[33432] = '2001:02:03 04:05:06', 'Someone', '© 2001'
    e.get_ifd(0x8769).update({0x829A: 1 / 250, 0x9003: '2001:02:03 04:05:06', 0xA434: 'A lens'})
    e.get_ifd(0x8825).update({1: 'N', 2: (52.0, 30.0, 15.5)})
    return e.tobytes()


def pairwise(*factors):
    "Cases in which each two values of different factors meet at least once."
    places = [*itertools.combinations(range(len(factors)), 2)]
    missing = {(i, j, a, b) for i, j in places for a in factors[i] for b in factors[j]}

    def met(case):
        return {(i, j, case[i], case[j]) for i, j in places} & missing

    while missing:
        case = max(itertools.product(*factors), key=lambda case: len(met(case)))
        missing -= met(case)
        yield case


def test_pairwise():
    cases = [*pairwise('abc', 'de', 'fg', 'hi')]
    assert len(cases) <= 8
    for i, j in itertools.combinations(range(4), 2):
        size = len('abc') * 2 if i == 0 else 4
        assert len({(case[i], case[j]) for case in cases}) == size


SUFFIXES = [*HOLDS]
MARKS = dict(avif=avif, heic=heif)
CASES = [
    pytest.param(*case, marks=MARKS.get(case[0], ()))
    for case in pairwise(SUFFIXES, (8, 16), ('gray', 'colour'), ('solid', 'alpha'))
]


def see_through(a, top):  # half transparent at its left
    alpha = np.full(a.shape[:2], top, a.dtype)
    alpha[:, :9] = top // 2
    return alpha


def check_exif(stored):
    e = Image.Exif()
    e.load(stored)
    kept = 'Camera', 'colorize 1', 'Someone', '2001:02:03 04:05:06'
    assert (e[271], e[305], e[315], e[306]) == kept
    camera, place = e.get_ifd(0x8769), e.get_ifd(0x8825)
    assert camera[0xA434] == 'A lens' and float(camera[0x829A]) == pytest.approx(1 / 250)
    assert place[1] == 'N' and [float(v) for v in place[2]] == [52, 30, 15.5]


def over_white(rgb, alpha, top):
    share = (alpha / top)[..., None]
    return rgb * share + 255 * (1 - share)


@pytest.mark.parametrize('suffix, bits, colours, transparency', CASES)
def test_there_and_back(tmp_path, suffix, bits, colours, transparency):
    deep, has_alpha, holds = bits == 16, transparency == 'alpha', HOLDS[suffix].split()
    a, top = (RGB16, 65535) if deep else (RGB, 255)
    if colours == 'gray':
        a = gray(a)
    alpha = see_through(a, top) if has_alpha else None
    info = dict(exif=full_exif(), icc_profile=srgb_profile(), dpi=(300.0, 200.0))
    info['xmp'] = b'<x:xmpmeta>xmp</x:xmpmeta>'
    photo = Photo(a, alpha, info=info)
    path = tmp_path / f'a.{suffix}'
    notes = ' '.join(write_photo(photo, path, software='colorize 1'))
    back = read_photo(path)

    assert (back.pixels.dtype == np.uint16) == (deep and 'deep' in holds)
    if 'deep' in holds:
        in_colour = back.pixels.ndim == 3 and a.ndim == 2  # gray with alpha comes back in colour
        assert np.array_equal(back.pixels, np.dstack([a] * 3) if in_colour else a)
    else:
        laid = has_alpha and 'alpha' not in holds
        true = over_white(photo.rgb8, alpha, top) if laid else photo.rgb8
        most = 1 if suffix in ('bmp', 'jpg') and not has_alpha else 6
        assert np.abs(back.rgb8.astype(int) - true).mean() < most
    if has_alpha and 'alpha' in holds:
        np.testing.assert_allclose(to_8_bits(back.alpha).astype(int), to_8_bits(alpha), atol=3)
    else:
        assert back.alpha is None

    if 'exif' in holds:
        check_exif(back.info['exif'])
    profile = srgb_profile() if 'icc' in holds and back.pixels.ndim == 3 else None
    assert back.info.get('icc_profile') == profile
    assert (b'xmp' in back.info.get('xmp', b'')) == ('xmp' in holds)
    if 'dpi' in holds:
        assert back.info['dpi'] == pytest.approx((300, 200), abs=0.01)
    assert ('8 bits' in notes) == (deep and 'deep' not in holds)
    assert ('white' in notes) == (has_alpha and 'alpha' not in holds)
    assert ('EXIF' in notes) == (suffix == 'bmp')


@pytest.mark.parametrize('suffix', FORMATS)
@pytest.mark.parametrize('a', [RGB, RGB16], ids=['8', '16'])
def test_files_are_whole_and_equal(tmp_path, suffix, a):
    "The same photo twice gives the same bytes, and other programs read them."
    photo = Photo(a, info=dict(exif=full_exif(), icc_profile=srgb_profile(), dpi=(300.0, 200.0)))
    one, two = (tmp_path / f'{name}.{suffix}' for name in 'ab')
    for path in (one, two):
        write_photo(photo, path, software='colorize 1')
    assert one.read_bytes() == two.read_bytes()
    with Image.open(one) as im:
        im.load()
    if suffix in ('png', 'tif'):
        assert cv2.imread(str(one), cv2.IMREAD_UNCHANGED).dtype == a.dtype
    if suffix == 'tif':
        assert tifffile.TiffFile(one).pages[0].shape[:2] == RGB.shape[:2]


def test_exif_from_format_to_format(tmp_path):
    "A TIFF's own layout must not travel in its EXIF, nor a thumbnail."
    write_photo(Photo(RGB, info=dict(exif=full_exif())), tmp_path / 'a.tif')
    write_photo(read_photo(tmp_path / 'a.tif'), tmp_path / 'b.jpg')
    with Image.open(tmp_path / 'b.jpg') as im:
        assert {256, 257, 258, 259, 262, 273, 277, 278, 279}.isdisjoint(
            im.getexif()
        ) and im.getexif()[271] == 'Camera'
        assert im.getexif().get_ifd(0x8769)[0xA434] == 'A lens'


def test_jpeg_is_not_subsampled_and_minds_quality(tmp_path):
    for q in (50, 95):
        write_photo(Photo(smooth(64, 64)), tmp_path / f'{q}.jpg', quality=q)
    assert (tmp_path / '50.jpg').stat().st_size < (tmp_path / '95.jpg').stat().st_size
    with Image.open(tmp_path / '95.jpg') as im:
        assert {c[1:3] for c in im.layer} == {(1, 1)}


def test_too_much_metadata_for_jpeg(tmp_path):
    e = exif(make='x' * 70000)
    notes = write_photo(
        Photo(RGB, info=dict(exif=e.tobytes(), xmp=b'x' * 70000)), tmp_path / 'a.jpg'
    )
    assert (
        notes == ['JPEG cannot hold its EXIF and XMP.']
        and read_photo(tmp_path / 'a.jpg').info.keys() == set()
    )


def test_what_cannot_be_written(tmp_path):
    for name in ('a', 'a.xyz', 'a.gif', 'a.pdf'):
        refused('use one of jpg, jpeg, png', write_photo, Photo(RGB), tmp_path / name)
    wide = Photo(np.zeros((1, 70000), np.uint8))
    for suffix in ('jpg', 'webp'):
        refused(
            'cannot be written as .*: choose .png or .tif',
            write_photo,
            wide,
            tmp_path / f'a.{suffix}',
        )
    assert not list(tmp_path.iterdir())
    write_photo(wide, tmp_path / 'a.png')
    refused('exists already', write_photo, wide, tmp_path / 'a.png')
    write_photo(Photo(RGB), tmp_path / 'a.png', force=True)
    assert read_photo(tmp_path / 'a.png').pixels.shape == RGB.shape
    refused('cannot be written', write_photo, wide, tmp_path / 'a.png' / 'b.png')


def test_sizes(tmp_path):
    for h, w in ((1, 1), (3, 7), (1, 500)):
        for dtype in (np.uint8, np.uint16):
            for suffix in ('jpg', 'png', 'tif', 'webp'):
                write_photo(
                    Photo(np.full((h, w, 3), 77, dtype)), tmp_path / f'a.{suffix}', force=True
                )
                assert read_photo(tmp_path / f'a.{suffix}').pixels.shape == (h, w, 3)


# ---- a full disk


LIMITED = '''
import resource, sys
from pathlib import Path
from colorize.core import InputError
from colorize.files import read_photo, write_photo
from colorize.jobs import plan, run_jobs

resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
root = Path(sys.argv[1])
for suffix in ('png', 'jpg', 'tif', 'webp'):
    try:
        write_photo(read_photo(root / 'in' / 'big.png'), root / f'x.{suffix}')
    except InputError as e:
        print(suffix, e)
summary = run_jobs(plan(root / 'in', root / 'out')[0], lambda photo, extra: photo)
print(summary, *summary.failed, sep='\\n')
'''


def test_full_disk(tmp_path):
    "In a process that may write no file above 20 kB."
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    (tmp_path / 'in').mkdir()
    write_photo(Photo(noise), tmp_path / 'in' / 'big.png')
    write_photo(Photo(RGB), tmp_path / 'in' / 'small.png')
    command = [sys.executable, '-c', LIMITED, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    *lines, summary, failure = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ['png', 'jpg', 'tif', 'webp'], result
    assert all('cannot be written (File too large): make room' in line for line in lines)
    assert summary.startswith('1 done, 1 failed in') and 'make room' in failure
    assert result.stderr == ''
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob('*') if p.is_file())
    assert left == ['in/big.png', 'in/small.png', 'out/small.png']


def test_no_space_left(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    refused('No space left on device', write_photo, Photo(RGB), tmp_path / 'a.png')
    assert not list(tmp_path.iterdir())


# ---- bad input


def test_not_photos(tmp_path):
    bad = {
        'empty.jpg': (b'', '0 bytes'),
        'text.jpg': (b'Dear diary, today ' * 99, "isn't a photo"),
        'page.png': (b'<!DOCTYPE html><html>', "isn't a photo"),
        'postscript.jpg': (b'%!PS-Adobe-3.0 EPSF-3.0\n', "isn't a photo"),
        'bytes.webp': (bytes(1000), "isn't a photo"),
    }
    for name, (content, part) in bad.items():
        (tmp_path / name).write_bytes(content)
        assert name in refused(part, read_photo, tmp_path / name)
    assert 'nothing.jpg' in refused('There is no photo', read_photo, tmp_path / 'nothing.jpg')
    refused('is a folder', read_photo, tmp_path)
    refused('There is no photo', read_photo, tmp_path / 'text.jpg' / 'x.jpg')
    refused('cannot be read', read_photo, 'a' * 5000 + '.jpg')
    refused('cannot be read', read_photo, 'a\0b.jpg')
    os.mkfifo(tmp_path / 'pipe.jpg')
    refused('a device or a pipe', read_photo, tmp_path / 'pipe.jpg')
    refused('This photo is empty', read_photo, b'')


def test_unreadable(tmp_path, monkeypatch):
    (tmp_path / 'a.png').write_bytes(data(Image.fromarray(RGB)))

    def deny(*_, **__):
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr('builtins.open', deny)  # root may read everything
    refused(r'a.png cannot be read \(Permission denied\): check', read_photo, tmp_path / 'a.png')


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF', 'WEBP', 'GIF', 'BMP', 'AVIF'])
def test_cut_short(kind):
    whole = data(Image.fromarray(smooth(64, 64)), kind)
    for share in (0.3, 0.6, 0.9):
        refused('damaged or cut short', read_photo, whole[: int(len(whole) * share)])


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
def test_cut_short_in_sixteen_bits(suffix, capfd):
    whole = bytes(cv2.imencode(suffix, smooth(64, 64, 16))[1].data)
    for share in (0.3, 0.6, 0.9):
        refused('damaged or cut short', read_photo, whole[: int(len(whole) * share)])
    assert capfd.readouterr().err == ''


def bomb(w, h):
    png = bytearray(data(Image.new('1', (8, 8))))
    png[16:24] = struct.pack('>2I', w, h)
    png[29:33] = struct.pack('>I', zlib.crc32(png[12:29]))
    return bytes(png)


def test_bomb():
    message = refused('--megapixels', read_photo, bomb(100000, 100000))
    assert '10,000 megapixels' in message and 'limit of 200' in message
    refused('limit of 0.0001', read_photo, data(Image.fromarray(RGB)), megapixels=1e-4)
    assert read_photo(data(Image.fromarray(RGB)), megapixels=1).pixels.shape == RGB.shape
    refused('damaged', read_photo, bomb(0, 5))


def test_pillows_own_limit_is_left_alone(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for kind in ('PNG', 'WEBP', 'GIF', 'TIFF', 'JPEG'):
            assert read_photo(data(Image.fromarray(RGB), kind)).pixels.shape == RGB.shape
        threads = [
            threading.Thread(
                target=lambda: [read_photo(data(Image.fromarray(RGB))) for _ in range(30)]
            )
            for _ in range(8)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        refused('damaged', read_photo, data(Image.fromarray(RGB))[:150])
    assert Image.MAX_IMAGE_PIXELS == 100


def test_many_pictures_in_one_file():
    other, third = Image.fromarray(RGB[::-1].copy()), Image.fromarray(255 - RGB)
    for kind in ('GIF', 'TIFF', 'WEBP', 'PNG'):
        photo = read_photo(
            data(Image.fromarray(RGB), kind, save_all=True, append_images=[other, third])
        )
        assert (
            photo.pixels.shape[:2] == RGB.shape[:2]
            and 'Only the first of its 3 pictures was read.' in photo.notes
        )
        assert np.abs(photo.rgb8.astype(int) - RGB).mean() < 20


@heif
def test_heic(tmp_path):
    raw = data(
        Image.fromarray(smooth(64, 64)),
        'HEIF',
        quality=95,
        exif=exif(1, make='Telephone').tobytes(),
    )
    photo = read_photo(raw)
    assert photo.format == 'HEIF' and np.abs(photo.pixels.astype(int) - smooth(64, 64)).mean() < 4


def test_heic_without_its_package(monkeypatch):
    raw = b'\0\0\0\x18ftypheic' + bytes(100)
    monkeypatch.setattr(files, 'has_heif', lambda write=False: False)
    refused('pip install pillow-heif', read_photo, raw)
    assert str(plan('a.heic', 'out')[0][0].out) == 'out/a.jpg'


@heif
def test_damaged_heic():
    refused("damaged|isn't a photo", read_photo, b'\0\0\0\x18ftypheic' + bytes(100))


# ---- mutated files


def seeds():
    small, deep = smooth(16, 16), smooth(16, 16, 16)
    e, p = full_exif(), srgb_profile()
    yield from (
        data(Image.fromarray(small), k, **o)
        for k, o in (
            ('JPEG', dict(exif=e, icc_profile=p)),
            ('JPEG', dict(progressive=True)),
            ('PNG', dict(exif=e, icc_profile=rgb_profile())),
            ('WEBP', dict(exif=e)),
            ('WEBP', dict(lossless=True)),
            ('TIFF', dict(exif=e, icc_profile=p)),
            ('TIFF', dict(compression='tiff_lzw')),
            ('TIFF', dict(compression='tiff_adobe_deflate')),
            ('TIFF', dict(compression='jpeg')),
            ('TIFF', dict(compression='packbits')),
            ('BMP', {}),
            ('AVIF', dict(exif=e)),
        )
    )
    yield from (
        data(im, k)
        for im, k in (
            (palette(3, small), 'GIF'),
            (palette(3, small), 'PNG'),
            (Image.fromarray(small).convert('CMYK'), 'JPEG'),
            (Image.fromarray(small).convert('1'), 'TIFF'),
            (Image.fromarray(gray(small)).convert('LA'), 'PNG'),
            (palette(None, small), 'BMP'),
            (Image.fromarray(gray(deep)), 'PNG'),
        )
    )
    yield data(Image.fromarray(small), 'TIFF', icc_profile=LUT_RGB)
    yield bytes(files._png(deep, dict(icc_profile=rgb_profile(), exif=e)))
    yield bytes(files._tiff(deep, dict(icc_profile=rgb_profile('table'), exif=e, dpi=(300, 300))))
    f = io.BytesIO()
    tifffile.imwrite(f, np.moveaxis(deep, -1, 0), photometric='rgb', planarconfig='separate')
    yield f.getvalue()
    if has_heif(write=True):
        yield data(Image.fromarray(small), 'HEIF')


def mutate(raw, rng):
    raw = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(min(len(raw), rng.choice((40, 300, 10**6))))
        match rng.choice('flip flip set set set splice delete cut'.split()):
            case 'flip':
                raw[at] ^= 1 << rng.randrange(8)
            case 'set':
                raw[at] = rng.choice((0, 1, 127, 128, 255))
            case 'splice':
                raw[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
            case 'delete':
                del raw[at : at + rng.randrange(1, 60)]
            case 'cut':
                del raw[max(at, 20) :]
        if not raw:
            return b''
    return bytes(raw)


@pytest.mark.filterwarnings('ignore')
def test_fuzz(capfd, long):  # capfd: libtiff tells stderr what it thinks of each file
    "A photo or a sentence, whatever the bytes: 1,000 damaged files, or 8,000 with --long."
    n = 8000 if long else 1000
    rng, originals, counts, slowest = random.Random(7), list(seeds()), dict(photo=0, refused=0), 0
    for original in originals:
        assert read_photo(original).pixels.shape[:2] == (16, 16)
    for i in range(n):
        raw, start = mutate(originals[i % len(originals)], rng), time.monotonic()
        try:
            photo = read_photo(raw, megapixels=1)
            assert photo.pixels.dtype in (np.uint8, np.uint16) and photo.pixels.size
            assert photo.rgb8.shape[2] == 3
            counts['photo'] += 1
        except InputError as e:
            assert '\n' not in str(e)
            counts['refused'] += 1
        slowest = max(slowest, time.monotonic() - start)
    assert min(counts.values()) > 0.18 * n and slowest < 5, (counts, slowest)


# ---- addresses


@contextmanager
def server():
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            path = self.path.partition('?')[0]
            if path == '/moved.png':
                return self.reply(302, b'', Location='/photo.png')
            if path == '/ftp.png':
                return self.reply(302, b'', Location='ftp://127.0.0.1/x.png')
            if path == '/file.png':
                return self.reply(302, b'', Location='file:///etc/hostname')
            if path in ('/photo.png', '/old%20photo.png'):
                return self.reply(200, data(Image.fromarray(RGB)))
            if path == '/page.jpg':
                return self.reply(200, b'<html>no photo</html>')
            if path == '/endless.png':
                return self.reply(200, bytes(3 * 10**6))
            if path == '/broken.png':
                return self.reply(200, data(Image.fromarray(RGB)), **{'Content-Length': 10**6})
            if path == '/drip.png':
                self.reply(200, b'', **{'Content-Length': 10**6})
                try:
                    for _ in range(100):
                        self.wfile.write(b'x')
                        time.sleep(0.05)
                except OSError:
                    pass
                return
            if path == '/slow.png':
                time.sleep(1)
            self.reply(404, b'')

        def reply(self, code, body, **headers):
            try:
                self.send_response(code)
                for k, v in ({'Content-Length': len(body)} | headers).items():
                    self.send_header(k, str(v))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass

    s = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{s.server_port}'
    finally:
        s.shutdown()
        s.server_close()


def test_addresses(monkeypatch, tmp_path):
    monkeypatch.setenv('no_proxy', '*')
    with server() as at:
        for name in ('photo.png', 'moved.png', 'old photo.png', 'photo.png?size=5'):
            assert np.array_equal(read_photo(f'{at}/{name}').pixels, RGB)
        refused(r'404 Not Found', read_photo, f'{at}/nothing.png')
        refused("page.jpg isn't a photo", read_photo, f'{at}/page.jpg')
        refused('did not answer in 0.2 s', read_photo, f'{at}/slow.png', timeout=0.2)
        refused('did not answer', read_photo, f'{at}/drip.png', timeout=0.1)
        refused('was lost', read_photo, f'{at}/broken.png')
        for name in ('ftp', 'file'):
            refused('cannot be fetched', read_photo, f'{at}/{name}.png')
        with pytest.raises(InputError, match='larger than 1 MB'):
            sources.fetch(f'{at}/endless.png', max_megabytes=1)
        jobs, _ = plan([f'{at}/photo.png', f'{at}/nothing.png', f'{at}/page.jpg'], tmp_path / 'out')
        summary = run_jobs(jobs, lambda photo, extra: photo)
        assert [p.name for p in summary.done] == ['photo.png'] and len(summary.failed) == 2
    refused('refused', read_photo, f'{at}/photo.png')
    for bad in ('ftp://127.0.0.1/a.jpg', 'file:///etc/hostname'):
        refused('only http and https', read_photo, bad)
    for bad in ('http://', 'http://[', 'http://no such host/a.jpg', 'http://127.0.0.1:99999/a.jpg'):
        refused('cannot be fetched', read_photo, bad)


def test_import_is_light():
    code = 'import colorize.files, sys; print(*{m.split(".")[0] for m in sys.modules})'
    command = [sys.executable, '-c', code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    heavy = {'torch', 'fastai', 'matplotlib', 'tqdm', 'tifffile', 'pillow_heif', 'scipy'}
    assert 'cv2' in loaded and not heavy & {*loaded}
