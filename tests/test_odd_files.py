"Files as archives have them: what looks wrong or strange, and is a photo."

import io, re, struct, zlib
from importlib.util import find_spec

import numpy as np
import pytest
import tifffile
from PIL import Image

from colorize.core import InputError
from colorize.files import Photo, read_photo, write_photo
from colorize.lab import rgb_to_lab, srgb_to_linear
from colorize.metadata import revised_exif
from colorize.pixels import upright
from colorize.profiles import srgb_profile

RAMP = np.add.outer(np.linspace(0.1, 0.7, 24), np.linspace(0, 0.25, 32))
GRAY16 = np.rint(65535 * RAMP).astype(np.uint16)
GRAY = np.rint(GRAY16 / 257).astype(np.uint8)
HALF16, HALF = np.full_like(GRAY16, 32768), np.full_like(GRAY, 128)


def tif(a, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, a, **options)
    return file.getvalue()


def tif_of(bits, packed, *more):
    "A gray TIFF of GRAY's size, whose samples have so many bits; `more` are entries of its own."
    h, w = GRAY.shape
    tags = {256: w, 257: h, 258: bits, 259: 1, 262: 1, 277: 1, 278: h, 279: len(packed)}
    tags |= dict(more)
    tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b''.join(struct.pack('<2H2I', t, 4, 1, tags[t]) for t in sorted(tags))
    return b'II*\0\x08\0\0\0' + struct.pack('<H', len(tags)) + entries + bytes(4) + packed


def saved(im, kind='PNG', **options):
    file = io.BytesIO()
    (Image.fromarray(im) if isinstance(im, np.ndarray) else im).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, body, crc=None):
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', crc)


def png(*chunks, a=GRAY):  # with further chunks before its pixels
    stored = saved(a)
    return stored[:33] + b''.join(chunks) + stored[33:]


def lightness(a):
    return rgb_to_lab(a if a.ndim == 3 else np.dstack([a] * 3))[..., 0]


def worst(photo, a=GRAY16):
    "The largest error of L*."
    return np.abs(lightness(photo.pixels) - lightness(a)).max()


def refused(stored):
    with pytest.raises(InputError) as e:
        read_photo(stored)
    assert '\n' not in str(e.value) and str(e.value).endswith('.')
    return str(e.value)


# ---- which picture of a TIFF


def pages(*layers, **options):  # of pixels, and whether they are a reduced copy
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as f:
        for a, reduced in layers:
            f.write(a, photometric='minisblack', subfiletype=int(reduced))
    return file.getvalue()


@pytest.mark.parametrize('big', [False, True], ids=['tiff', 'bigtiff'])
@pytest.mark.parametrize('order', ['<', '>'])
def test_a_thumbnail_before_the_photo(big, order):
    layers = (GRAY[::4, ::4], True), (GRAY, False), (GRAY[::2, ::2], True)
    stored = pages(*layers, bigtiff=big, byteorder=order)
    photo = read_photo(stored)
    assert np.array_equal(photo.pixels, GRAY)
    unread = ['Its EXIF cannot be read and was left out.']  # not by Pillow
    assert photo.notes == (unread if big and order == '>' else [])


@pytest.mark.parametrize('turn', range(1, 9))
def test_upright_where_pillow_cannot_read(turn):
    lying = upright(GRAY16, {6: 8, 8: 6}.get(turn, turn))
    seen = np.dstack([lying, np.full_like(lying, 65535)])
    for order in ('<', '>'):
        stored = tif(
            seen,
            photometric='minisblack',
            extrasamples=['unassalpha'],
            bigtiff=True,
            byteorder=order,
            extratags=[(274, 'H', 1, turn, True)],
        )
        photo = read_photo(stored)
        assert np.array_equal(photo.pixels, GRAY16) and photo.alpha.shape == GRAY16.shape


def test_the_largest_page():
    photo = read_photo(pages((GRAY[::2], False), (GRAY, False), (255 - GRAY, False)))
    assert np.array_equal(photo.pixels, GRAY)
    assert photo.notes == ['Only the largest of its 3 pictures was read.']


def test_a_photo_below_a_thumbnail():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as f:
        f.write(GRAY[::4, ::4], photometric='minisblack', subfiletype=1, subifds=1)
        f.write(GRAY, photometric='minisblack')
    assert np.array_equal(read_photo(file.getvalue()).pixels, GRAY)


def test_a_chain_of_pages_without_an_end():
    stored = bytearray(pages((GRAY, False), (GRAY, False)))
    (first,) = struct.unpack_from('<I', stored, 4)
    (second,) = struct.unpack_from('<I', stored, first + 2 + 12 * stored[first])
    struct.pack_into('<I', stored, second + 2 + 12 * stored[second], first)
    assert np.array_equal(read_photo(bytes(stored)).pixels, GRAY)


def raw_files():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as f:
        f.write(GRAY[::4, ::4], photometric='minisblack', subfiletype=1, subifds=1)
        pattern = [(33421, 'H', 2, (2, 2), True), (33422, 'B', 4, (0, 1, 1, 2), True)]
        f.write(GRAY16, photometric='cfa', extratags=pattern)
    yield 'NEF', file.getvalue()
    version = [(50706, 'B', 4, (1, 4, 0, 0), True)]
    yield 'DNG', tif(GRAY, photometric='minisblack', extratags=version)
    yield 'CR2', b'II*\0\x10\0\0\0CR\2\0' + bytes(4) + tif_of(8, GRAY.tobytes())[8:]
    yield 'ORF', b'IIRO\x08\0\0\0' + bytes(99)
    yield 'RAF', b'FUJIFILMCCD-RAW ' + bytes(99)
    yield 'CR3', b'\0\0\0\x18ftypcrx ' + bytes(99)


@pytest.mark.parametrize('stored', [pytest.param(stored, id=name) for name, stored in raw_files()])
def test_camera_raw_is_refused(stored):
    message = refused(stored)
    assert "camera's raw file" in message and 'develop it' in message


# ---- what numbers in a TIFF mean


def twelve(a):  # two values in three bytes
    a, b = (a.ravel()[i::2].astype(np.uint16) >> 4 for i in (0, 1))
    return np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], -1).astype(np.uint8).tobytes()


def lab16(a):  # TIFF 6.0, 23
    L = rgb_to_lab(np.dstack([a] * 3))[..., 0]
    return np.dstack([np.rint(L * 655.35).astype(np.uint16), np.zeros_like(a), np.zeros_like(a)])


def lab8():  # as ICC profiles have it
    L = rgb_to_lab(np.dstack([GRAY] * 3))[..., 0]
    return np.dstack([np.rint(L * 2.55).astype(np.uint8), HALF, HALF])


def with_alpha(pixels, multiplied=False, n=1):  # half transparent
    alpha = [HALF16 if pixels.dtype == np.uint16 else HALF] * n
    options = dict(
        photometric={1: 'minisblack', 3: 'rgb', 4: 'separated'}[pixels[0, 0].size],
        extrasamples=['assocalpha' if multiplied else 'unassalpha'] * n,
    )
    return tif(np.dstack([pixels // 2 if multiplied else pixels, *alpha]), **options)


def tifs():  # name, file, error of L* at most, has it alpha?
    rgb16, none = np.dstack([GRAY16] * 3), np.zeros_like(GRAY)
    ink = np.dstack([none, none, none, 255 - GRAY])
    kind = dict(photometric='minisblack')
    top = [(281, 'H', 1, 4095, True)]
    yield '12 bits', tif_of(12, twelve(GRAY16)), 0.1, 0
    yield 'MaxSampleValue', tif(GRAY16 >> 4, **kind, extratags=top), 0.1, 0
    yield 'RGB, MaxSampleValue', tif(rgb16 >> 4, photometric='rgb', extratags=top), 0.1, 0
    yield 'gray, alpha', with_alpha(GRAY16), 0, 1
    yield 'gray, multiplied', with_alpha(GRAY, True), 1.5, 1
    yield 'gray, multiplied, 16', with_alpha(GRAY16, True), 0.01, 1
    yield 'RGB, multiplied, 16', with_alpha(rgb16, True), 0.01, 1
    yield 'RGB, two alphas', with_alpha(rgb16, n=2), 0, 1
    yield 'Lab 16', tif(lab16(GRAY16), photometric='cielab'), 0.1, 0
    yield 'ICC Lab', tif(lab8(), photometric='icclab'), 0.7, 0
    yield 'ink, alpha', with_alpha(ink), 0.3, 1
    yield 'BigTIFF', tif(GRAY, **kind, bigtiff=True), 0.3, 0
    yield 'BigTIFF 16', tif(GRAY16, **kind, bigtiff=True), 0, 0


@pytest.mark.parametrize('stored, limit, alpha', [pytest.param(*x, id=name) for name, *x in tifs()])
def test_kinds_of_tiff(stored, limit, alpha):
    photo = read_photo(stored)
    assert worst(photo) <= limit and (photo.alpha is not None) == alpha
    if alpha:
        share = photo.alpha / np.iinfo(photo.alpha.dtype).max
        assert share.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize('suffix, lossy', dict(png=0, tif=0, jpg=3, webp=3).items())
def test_kinds_of_tiff_are_written(suffix, lossy, tmp_path):
    for name, stored, limit, _ in tifs():
        photo = read_photo(stored)
        path = tmp_path / f'{name}.{suffix}'
        write_photo(Photo(photo.pixels, info=photo.info), path, software='colorize', quality=100)
        assert worst(read_photo(path)) <= limit + lossy, name


def test_white_that_is_lower_is_only_believed_where_it_fits():
    def read(a, top):
        return read_photo(tif(a, photometric='minisblack', extratags=[(281, 'H', 1, top, True)]))

    for top, a in ((4000, GRAY16 >> 4), (4095, GRAY16)):  # just the brightest pixel; a wrong tag
        photo = read(a, top)
        assert np.array_equal(photo.pixels, a) and photo.notes == []
    photo = read(GRAY16 >> 4, 4095)
    assert photo.notes == ['Its header gives 4095 as the highest value, which was taken as white.']


@pytest.mark.parametrize('dtype', ['float16', 'float32'])
@pytest.mark.parametrize('channels', [1, 3])
def test_floats_have_no_known_range(dtype, channels):
    a = np.dstack([GRAY / 255] * channels).astype(dtype).squeeze()
    assert 'floating-point' in refused(tif(a, photometric='rgb' if channels == 3 else 'minisblack'))


def test_numbers_below_zero():
    signed = (GRAY.astype(int) - 128).astype(np.int8)
    assert 'negative' in refused(tif(signed, photometric='minisblack'))


@pytest.mark.skipif(find_spec('imagecodecs') is None, reason='no imagecodecs')
def test_what_imagecodecs_unpacks():
    rgb = np.dstack([GRAY16] * 3)
    assert worst(read_photo(tif(rgb, photometric='rgb', compression='zstd'))) == 0
    assert worst(read_photo(tif(np.dstack([GRAY] * 3), photometric='rgb', compression='webp'))) < 3


@pytest.mark.skipif(find_spec('imagecodecs') is not None, reason='imagecodecs unpacks it')
def test_what_takes_one_more_package(capfd):
    packed = tif_of(8, GRAY.tobytes(), (259, 34887), (277, 1))  # LERC
    assert 'pip install imagecodecs' in refused(packed)
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize('kind', ['tiff_lzw', 'tiff_adobe_deflate', 'jpeg', 'group4'])
def test_nothing_on_stderr(kind, capfd):
    im = Image.fromarray(np.tile(GRAY, (4, 4)))
    stored = bytearray(saved(im.convert('1') if kind == 'group4' else im, 'TIFF', compression=kind))
    stored[len(stored) // 2 : len(stored) // 2 + 40] = bytes(range(100, 140))
    try:
        read_photo(bytes(stored))
    except InputError:
        pass
    assert capfd.readouterr() == ('', '')


# ---- what a PNG says


@pytest.mark.parametrize('gamma', [1, 1 / 1.8, 0.3])
@pytest.mark.parametrize('deep', [False, True], ids=['8', '16'])
@pytest.mark.parametrize('channels', [1, 3])
def test_gamma_of_a_png(gamma, deep, channels):
    gama = chunk(b'gAMA', struct.pack('>I', round(gamma * 1e5)))
    light = srgb_to_linear(GRAY16).astype(float)
    a = np.dstack([np.rint(65535 * light**gamma).astype(np.uint16)] * channels).squeeze()
    photo = read_photo(png16(a, gama) if deep else png(gama, a=np.rint(a / 257).astype(np.uint8)))
    assert worst(photo) < (0.1 if deep else 2.5)
    assert photo.notes == [f'Its colours were converted from gamma {gamma:.3g} to sRGB.']


def png16(a, *chunks):
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in a)
    head = struct.pack('>2I5B', a.shape[1], a.shape[0], 16, 2 if a.ndim == 3 else 0, 0, 0, 0)
    parts = [chunk(b'IHDR', head), *chunks, chunk(b'IDAT', zlib.compress(rows))]
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts) + chunk(b'IEND', b'')


def test_gamma_that_changes_nothing():
    linear = chunk(b'gAMA', struct.pack('>I', 100000))
    profile = chunk(b'iCCP', b'sRGB\0\0' + zlib.compress(srgb_profile()))
    usual, none = (chunk(b'gAMA', struct.pack('>I', g)) for g in (45455, 0))
    for chunks in ([usual], [none], [linear, chunk(b'sRGB', b'\0')], [linear, profile]):
        photo = read_photo(png(*chunks))
        assert np.array_equal(photo.pixels, GRAY) and photo.notes == []


BIG = b'x' * 1_500_000


@pytest.mark.parametrize(
    'kind, body',
    [
        (b'iCCP', b'sRGB\0\0' + zlib.compress(srgb_profile() + BIG)),
        (b'zTXt', b'notes\0\0' + zlib.compress(BIG)),
        (b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0' + zlib.compress(BIG)),
    ],
    ids=['profile', 'text', 'XMP'],
)
def test_much_that_is_no_picture(kind, body):
    photo = read_photo(png(chunk(kind, body)))
    assert np.array_equal(photo.pixels, GRAY)
    if kind == b'zTXt':
        assert photo.info['text']['notes'] == BIG.decode()
    if kind == b'iTXt':
        assert photo.info['xmp'] == BIG


@pytest.mark.parametrize(
    'kind, body',
    [
        (b'tEXt', b'Title\0here'),
        (b'gAMA', b'\0\1\2\3'),
        (b'iCCP', b'p\0\0zzzz'),
        (b'pHYs', b''),
        (b'zTXt', b'notes\0\0' + zlib.compress(bytes(2**25))),
    ],
)
def test_damage_that_no_pixel_needs(kind, body):
    wrong = chunk(kind, body, 12345 if kind in (b'tEXt', b'gAMA') else None)
    for a, stored in ((GRAY, png(wrong)), (GRAY16, png16(GRAY16, wrong))):
        photo = read_photo(stored)
        assert np.array_equal(photo.pixels, a)
        assert photo.notes == [] if kind == b'iCCP' else kind.decode() in photo.notes[0]


def test_damage_that_pixels_need():
    stored = bytearray(png())
    stored[stored.index(b'IDAT') + 9] ^= 255
    assert 'damaged' in refused(bytes(stored))


def test_a_png_without_its_end():
    for cut in (3, 6, 12):
        assert np.array_equal(read_photo(png()[:-cut]).pixels, GRAY)


# ---- JPEG


@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize('colour', ['L', 'RGB', 'CMYK'])
def test_a_jpeg_without_its_end(progressive, colour):
    im = Image.fromarray(np.tile(GRAY, (3, 3))).convert(colour)
    whole = saved(im, 'JPEG', progressive=progressive)
    for cut in (1, 2):
        photo = read_photo(whole[:-cut])
        assert np.array_equal(photo.pixels, read_photo(whole).pixels)
    if colour == 'L':
        assert photo.notes == ['Its end is missing, but its picture is complete.']
    for cut in (8, 40, len(whole) // 2):
        assert 'damaged' in refused(whole[:-cut])


@pytest.mark.parametrize('colour', ['L', 'RGB'])
def test_a_jpeg_that_lacks_its_last_scans(colour):
    "Every pixel is there, and some are only nearly right."
    im = Image.fromarray(np.tile(GRAY, (3, 3))).convert(colour)
    whole = saved(im, 'JPEG', progressive=True)
    scans = [m.start() for m in re.finditer(rb'\xff\xda', whole)]
    assert len(scans) > 3
    for at in scans[1:]:
        assert 'damaged' in refused(whole[:at])


def test_kinds_of_jpeg_that_are_not_read():
    whole = saved(GRAY, 'JPEG')
    at = whole.index(b'\xff\xc0')
    assert '12-bit JPEG is not supported' in refused(whole[: at + 4] + b'\x0c' + whole[at + 5 :])
    assert 'lossless JPEG is not supported' in refused(whole[: at + 1] + b'\xc3' + whole[at + 2 :])


# ---- EXIF and text


def camera_exif(more=()):
    exif = Image.Exif()
    exif[0x0112], exif[271] = 6, 'Camera'
    known = {0xA001: 65535, 0xA002: 26, 0xA003: 18, 0x927C: b'MAKER' * 40, 0xA005: {1: 'R98'}}
    exif.get_ifd(0x8769).update(known | dict(more))
    return exif.tobytes()


def test_exif_is_carried_byte_by_byte(tmp_path):
    caption = 'Café à Zürich, 写真'.encode()
    stored = camera_exif().replace(b'Camera\0', b'Came\xc3\xa9\0')
    stored += b'\0\0' + caption + b'\0'
    write_photo(Photo(GRAY, info=dict(exif=stored)), tmp_path / 'a.jpg', software='colorize')
    first = read_photo(tmp_path / 'a.jpg').info['exif']
    for part in (b'MAKER', caption):
        assert first.index(part) == stored.index(part)
    (exif := Image.Exif()).load(first)
    assert exif[271].encode('latin-1') == 'Cameé'.encode()
    assert exif[305] == 'colorize' and 0x0112 not in exif
    camera = exif.get_ifd(0x8769)
    assert (camera[0xA002], camera[0xA003], camera[0xA001]) == (*GRAY.shape[::-1], 1)
    write_photo(read_photo(tmp_path / 'a.jpg'), tmp_path / 'b.jpg', software='colorize')
    assert len(read_photo(tmp_path / 'b.jpg').info['exif']) <= len(first) + 10


@pytest.mark.parametrize('source', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tif', 'webp'])
def test_captions_are_utf8(tmp_path, source, suffix):
    caption = 'Café, 写真'
    exif = Image.Exif()
    exif[270], exif[315], exif[33432] = (f'{i} {caption}'.encode() for i in range(3))
    if source == 'TIFF':
        stored = saved(GRAY, source, tiffinfo=dict(exif))
    else:
        stored = saved(GRAY, source, exif=exif.tobytes())
    write_photo(read_photo(stored), tmp_path / f'a.{suffix}', software='colorize')
    back = read_photo(tmp_path / f'a.{suffix}').info['exif']
    assert all(f'{i} {caption}'.encode() + b'\0' in back for i in range(3)) and b'?' not in back


@pytest.mark.parametrize('order', ['<', '>'])
def test_a_thumbnail_in_exif_stays_behind(order):
    start = 8 + 2 + 12 + 4
    first = struct.pack(order + 'H2HIHHI', 1, 0x0112, 3, 1, 6, 0, start)
    second = struct.pack(order + 'H2H2I2H2II', 2, 0x0201, 4, 1, start + 30, 0x0202, 4, 1, 9, 0)
    blob = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(order + 'I', 8) + first + second
    assert revised_exif(blob + b'thumbnail') == b''
    back = revised_exif(blob + b'thumbnail', 'colorize')
    (exif := Image.Exif()).load(back)
    assert dict(exif) == {305: 'colorize'} and b'thumbnail' not in back


@pytest.mark.parametrize(
    'camera, adobe',
    [
        ({0xA005: {1: 'R03'}}, True),
        ({0xA005: {1: 'R98'}}, False),
        ({0xA001: 2}, True),
        ({0xA001: 1, 0xA005: {1: 'R03'}}, False),
        ({}, False),
    ],
)
def test_adobe_rgb_by_exif_alone(camera, adobe, tmp_path):
    colours = np.zeros((16, 16, 3), np.uint8) + np.uint8([60, 160, 90])
    stored = saved(colours, 'JPEG', exif=camera_exif(camera), quality=100, subsampling=0)
    photo = read_photo(stored)
    right = [0, 160, 86] if adobe else [60, 160, 90]  # its red lies outside of sRGB
    assert (photo.notes == ['Its colours were converted from Adobe RGB to sRGB.']) == adobe
    assert np.abs(photo.pixels[8, 8].astype(int) - right).max() <= 3
    write_photo(photo, tmp_path / 'a.jpg')
    (exif := Image.Exif()).load(read_photo(tmp_path / 'a.jpg').info['exif'])
    assert exif.get_ifd(0x8769)[0xA001] == 1 and exif.get_ifd(0xA005).get(1) in (None, 'R98')
    assert read_photo(tmp_path / 'a.jpg').notes == []


def test_text_of_a_png(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    known = PngInfo()
    texts = dict(Title='Café, 写真', Description='x' * 5000, Software='Old', Comment='ü')
    for name, text in texts.items():
        known.add_text(name, text)
    photo = read_photo(saved(GRAY, pnginfo=known))
    assert write_photo(photo, tmp_path / 'a.png', software='colorize 1') == []
    with Image.open(tmp_path / 'a.png') as im:
        assert im.text == texts | dict(Software='colorize 1')
    lost = 'JPEG cannot hold its Title, Description and Software.'
    assert write_photo(photo, tmp_path / 'a.jpg') == [lost]
    assert len(write_photo(photo, tmp_path / 'a.tif')) == 1


def test_comment_of_a_jpeg(tmp_path):
    for comment in ('Café'.encode(), 'Café'.encode('latin-1')):
        photo = read_photo(saved(GRAY, 'JPEG', comment=comment))
        for name in ('a.jpg', 'a.png'):
            assert write_photo(photo, tmp_path / name, force=True) == []
        with Image.open(tmp_path / 'a.jpg') as im:
            assert im.info['comment'].decode() == 'Café'
        with Image.open(tmp_path / 'a.png') as im:
            assert im.text == dict(Comment='Café')
    assert write_photo(photo, tmp_path / 'a.webp') == ['WEBP cannot hold its Comment.']


def test_unsupported_is_no_damage():
    bmp = bytearray(saved(GRAY, 'BMP'))
    struct.pack_into('<H', bmp, 28, 2)
    assert re.search('unsupported BMP pixel depth', refused(bytes(bmp)))


def test_tiles_that_reach_beyond_the_edge():
    wide = np.tile(GRAY, (5, 5))[:107, :150]
    stored = tif(wide, photometric='miniswhite', tile=(64, 64))
    assert np.array_equal(read_photo(stored).pixels, 255 - wide)
    assert 'damaged' in refused(stored[:-4000])


@pytest.mark.parametrize('bits', [8, 16])
def test_ink_in_planes(bits):
    ink = np.stack([GRAY16 if bits == 16 else GRAY] * 4)
    contiguous = tif(np.moveaxis(ink, 0, -1), photometric='separated')
    planes = tif(ink, photometric='separated', planarconfig='separate')
    assert worst(read_photo(planes), read_photo(contiguous).pixels) < 1


def test_a_packing_that_nobody_knows():
    assert 'its compression, THUNDERSCAN, is not supported' in refused(
        tif_of(8, GRAY.tobytes(), (259, 32809))
    )


def test_a_bmp_of_runs_of_four_bits():
    "An odd number of pixels in a row, as they are: three, in two bytes."
    palette = b''.join(bytes([17 * i] * 3 + [0]) for i in range(16))
    rows = b'\0\x03\x12\x30\x01\x40\0\0' + b'\x04\x56\0\0' + b'\0\1'
    start = 14 + 40 + len(palette)
    head = struct.pack('<2sI4xI', b'BM', start + len(rows), start)
    head += struct.pack('<I2i2H6I', 40, 4, 2, 1, 4, 2, len(rows), 2835, 2835, 16, 16)
    photo = read_photo(head + palette + rows)
    assert (photo.rgb8[..., 0] // 17).tolist() == [[5, 6, 5, 6], [1, 2, 3, 4]]


@pytest.mark.skipif(find_spec('imagecodecs') is None, reason='no imagecodecs')
def test_differences_of_twelve_bits():
    a = GRAY16.astype(np.uint16) >> 4
    differences = np.diff(a, axis=1, prepend=0) & 4095
    photo = read_photo(tif_of(12, twelve(differences << 4), (317, 2)))
    assert worst(photo) < 0.1


def test_a_note_where_iptc_captions_are_lost():
    plain = saved(GRAY, 'JPEG')
    caption = b'\x1c\x02\x78\0\x04here'
    block = b'Photoshop 3.0\x008BIM\x04\x04\0\0' + struct.pack('>I', len(caption)) + caption + b'\0'
    marked = plain[:2] + b'\xff\xed' + struct.pack('>H', len(block) + 2) + block + plain[2:]
    photo = read_photo(marked)
    assert photo.notes == ['Its IPTC captions were left out.']
    assert np.array_equal(photo.pixels, read_photo(plain).pixels)
