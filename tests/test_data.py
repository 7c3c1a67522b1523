"Datasets: packing that survives what happens to disks, files and processes; splits; look-alikes."

import csv, inspect, os, resource, shutil, sqlite3, subprocess, sys, tracemalloc
from io import BytesIO
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from conftest import fill, picture
from PIL import Image

from colorize import data, store
from colorize.core import InputError, sha256
from colorize.data import check_photo, pack_dataset, split
from colorize.files import read_photo
from colorize.jobs import dataset_folders, dataset_path, each_photo
from colorize.store import Packed, leaks, pack


@pytest.fixture(autouse=True)
def stores(tmp_path_factory, monkeypatch):
    "Nothing is written to the checkout's data folder."
    root = tmp_path_factory.mktemp('data')
    monkeypatch.setattr(store, 'folder', lambda *parts: root.joinpath(*parts))
    return root


@pytest.fixture
def album(tmp_path):
    return fill(tmp_path / 'album', *(f'{i:02}.bmp' for i in range(30)))


@pytest.fixture
def decoded(monkeypatch):
    "How many photos are decoded."
    calls = []

    def counting(photo, size):
        calls.append(1)
        return check_photo(photo, size)

    monkeypatch.setattr(data, 'check_photo', counting)
    return calls


def packed_to(album, size=32, name='store', check=None):
    return pack(each_photo(album), size, album.with_name(name), check or data.check_photo)


def fresh(album, size=32, check=None):
    return packed_to(album, size, 'fresh', check)


def names(packed):
    return [Path(f).name for f in packed.files]


def same(a, b):
    return a.files == b.files and np.array_equal(a[:], b[:]) and a.left_out == b.left_out


def rows(path, table):
    with sqlite3.connect(path / 'index.sqlite') as con:
        return con.execute(f'SELECT count(*) FROM {table}').fetchone()[0]


# ---- what is packed


def test_a_named_set_offline(monkeypatch):
    def offline(*_, **__):
        raise URLError('no internet')

    monkeypatch.setattr('fastai.data.external.untar_data', offline)
    with pytest.raises(
        InputError, match="'pets' could not be downloaded .* go online, or give a folder"
    ):
        dataset_path('pets')


def test_one_photo_is_too_few(tmp_path):
    Image.new('RGB', (64, 64), 'red').save(tmp_path / 'a.png')
    with pytest.raises(InputError, match='1 photo .* at least two'):
        pack_dataset(tmp_path, size=56)


def test_nothing_but_gray_photos(tmp_path):
    for i in range(3):
        Image.new('L', (64, 64), 60 * i).save(tmp_path / f'{i}.png')
    with pytest.raises(InputError, match='near-gray'):
        pack_dataset(tmp_path, size=56)


def test_the_store_cannot_be_made(album):
    (album / 'file').touch()
    with pytest.raises(InputError, match='cannot be written'):
        pack(each_photo(album), 32, album / 'file' / 'store', check_photo)


def test_what_is_left_out_is_listed(album, capsys):
    fill(album, 'gray.png', gray=['gray.png'])
    fill(album, 'tiny.png', size=(40, 15), first=50)
    (album / 'broken.jpg').write_bytes(b'no photo')
    (album / 'empty.png').touch()
    odd = os.fsdecode(os.fsencode(album / 'sub') + b'/\xff.bmp')  # a name that is no text
    (album / 'sub').mkdir()
    for copy in (album / '99.bmp', odd):
        shutil.copy(album / '07.bmp', copy)
    packed = packed_to(album)
    expected = [
        ('99.bmp', f'same as {album}/07.bmp'),
        ('broken.jpg', 'cannot be decoded'),
        ('empty.png', 'cannot be decoded'),
        ('gray.png', 'near-gray'),
        ('sub/' + os.path.basename(odd), f'same as {album}/07.bmp'),
        ('tiny.png', 'smaller than 16 px'),
    ]
    assert packed.left_out == [(f'{album}/{f}', why) for f, why in expected]
    with open(packed.path / 'left_out.csv', newline='', errors='surrogateescape') as f:
        assert [*csv.reader(f)] == [['file', 'reason'], *map(list, packed.left_out)]
    reasons = '2 cannot be decoded, 2 same as another, 1 near-gray, 1 smaller than 16 px'
    printed = capsys.readouterr().out
    assert printed.startswith(f'30 photos packed, 6 left out ({reasons}): ')
    assert printed.endswith('left_out.csv\n')


def test_silent_if_all_is_well(album, capsys):
    for _ in range(2):
        packed_to(album)
    assert capsys.readouterr() == ('', '')


def test_indexing(album):
    packed = packed_to(album)
    whole = np.stack([check_photo(f, 32)[0] for f in packed.files])
    for i in (
        0,
        -1,
        7,
        slice(None),
        slice(3, 9),
        slice(None, None, -2),
        np.array([5, 1, 5]),
        whole[:, 0, 0, 0] > 99,
    ):
        assert (
            np.array_equal(packed[i], whole[i])
            and packed[i].dtype == np.uint8
            and type(packed[i]) is np.ndarray
        )
    with pytest.raises(IndexError):
        packed[30]


def test_order_is_that_of_paths(tmp_path):
    album = fill(tmp_path / 'album', 'a-b/1.bmp', 'a/2.bmp', 'a.bmp', 'é/3.bmp', 'a/b/4.bmp')
    assert packed_to(album).files == [str(p) for p in sorted(album.rglob('*.bmp'))]


def test_large_jpegs_are_read_smaller(tmp_path):
    big, fair = picture(1, (1200, 900)), picture(1, (380, 290))
    for name, im in dict(big=big, fair=fair).items():
        im.save(tmp_path / f'{name}.jpg', quality=95)
    assert read_photo(tmp_path / 'big.jpg', side=192).pixels.shape == (225, 300, 3)
    assert read_photo(tmp_path / 'fair.jpg', side=144).pixels.shape == (145, 190, 3) and read_photo(
        tmp_path / 'fair.jpg', side=146
    ).pixels.shape == (290, 380, 3)
    whole = read_photo(tmp_path / 'big.jpg').image.resize(
        (64, 64), Image.Resampling.BICUBIC, (150, 0, 1050, 900)
    )
    assert np.abs(np.asarray(whole, int) - check_photo(tmp_path / 'big.jpg', 64)[0]).mean() < 1.5


# ---- incremental


def test_only_new_photos_are_decoded(album, decoded):
    packed_to(album)
    assert len(decoded) == 30
    fill(album, *(f'x{i:02}.bmp' for i in range(10)), first=100)
    packed_to(album)
    assert len(decoded) == 40
    os.utime(album / '03.bmp')
    (album / '04.bmp').rename(album / '0.bmp')
    moved = packed_to(album)
    assert len(decoded) == 40 and names(moved)[0] == '0.bmp'
    fill(album, '05.bmp', first=500)
    changed = packed_to(album)
    assert len(decoded) == 41 and same(changed, fresh(album))


def test_known_files_are_not_opened(album, monkeypatch):
    packed_to(album)
    monkeypatch.setattr(Path, 'read_bytes', lambda p: pytest.fail(f'{p} was opened'))
    assert len(packed_to(album)) == 30


def test_added_photos_move_none_across_the_split(album):
    before = split(packed_to(album), 30)
    fill(album, *(f'{i}/new.bmp' for i in range(40)), first=100)
    packed = packed_to(album)
    after = split(packed, 30)
    for old, new in zip(before, after):
        assert set(old.files) < set(new.files)
    for a, b in zip(after, split(fresh(album), 30)):
        assert same(a, b)  # when which photo came does not matter
    assert sorted(sum((p.files for p in after), [])) == sorted(packed.files)
    assert all(
        (int(sha256(Path(f))[:8], 16) < 0.3 * 2**32) == (p is after[1])
        for p in after
        for f in p.files
    )
    assert after[1].files == sorted(after[1].files, key=lambda f: sha256(Path(f)))


def test_a_copy_is_on_no_other_side(album):
    for f in [*album.iterdir()]:
        shutil.copy(f, f.with_name('copy of ' + f.name))
    train, valid = split(packed_to(album), 50)
    assert len(train) + len(valid) == 30 and len(train.left_out) + len(valid.left_out) == 30
    assert {why[8:] for _, why in valid.left_out} == set(valid.files)


@pytest.mark.parametrize('share, expected', [(0, (29, 1)), (100, (1, 29))])
def test_no_side_is_empty(album, share, expected):
    assert tuple(map(len, split(packed_to(album), share))) == expected


def test_deleted_photos_are_not_used(album):
    packed_to(album)
    (album / '09.bmp').unlink()
    assert '09.bmp' not in names(packed_to(album)) and len(packed_to(album)) == 29


# ---- what happens to files, disks and processes


def test_a_photo_deleted_meanwhile(album):
    def listed():
        yield from each_photo(album)
        (album / '11.bmp').rename(album / '11')
        yield str(album / '12345.bmp')

    packed = pack(listed(), 32, album.with_name('store'), check_photo)
    assert (
        packed.left_out == [(f'{album}/{n}.bmp', 'is gone') for n in ('11', '12345')]
        and len(packed) == 29
    )
    (album / '11').rename(album / '11.bmp')  # as it was, to the nanosecond
    assert same(packed_to(album), fresh(album))


def test_a_flipped_byte_is_mended(album, capsys, decoded):
    old = packed_to(album)
    with open(old.path / 'photos.u8', 'r+b') as f:
        f.seek(7 * 32 * 32 * 3 + 100)
        byte = f.read(1)[0]
        f.seek(-1, 1)
        f.write(bytes([byte ^ 16]))
    mended = packed_to(album)
    assert 'decoded again: 1 ' in capsys.readouterr().out and len(decoded) == 31
    assert same(mended, fresh(album)) and same(old, mended)


def test_a_flipped_byte_of_a_photo_that_is_gone(album):
    packed = packed_to(album)
    with open(packed.path / 'photos.u8', 'r+b') as f:
        f.write(bytes([packed[0].flat[0] ^ 1]))
    (album / '00.bmp').unlink()
    assert names(packed_to(album)) == [f'{i:02}.bmp' for i in range(1, 30)]


@pytest.mark.parametrize('rest', [0, 5000, None])
def test_photos_cut_short(album, rest):
    packed_to(album)
    file = album.with_name('store') / 'photos.u8'
    file.unlink() if rest is None else os.truncate(file, rest)
    assert same(packed_to(album), fresh(album))


@pytest.mark.parametrize('damage', ['garbage', 'short', 'page', 'gone'])
def test_a_damaged_index_is_rebuilt(album, damage, capsys):
    packed_to(album)
    file = album.with_name('store') / 'index.sqlite'
    old = file.read_bytes()
    if damage == 'gone':
        file.unlink()
    else:
        file.write_bytes(
            dict(
                garbage=b'no index' * 1000,
                short=old[: len(old) // 2],
                page=old[:4096] + bytes([255]) * 4096 + old[8192:],
            )[damage]
        )
    packed = packed_to(album)
    assert same(packed, fresh(album)) and ('packed again' in capsys.readouterr().out) == (
        damage != 'gone'
    )


@pytest.mark.parametrize('room', [150_000, 4096])
def test_disk_full(album, room):
    before = packed_to(album)  # 92,160 bytes
    whole, files = before[:], before.files
    fill(album, *(f'x{i}.bmp' for i in range(60)), first=100)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(InputError, match='make room'):
            packed_to(album)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store = Packed(before.path, 32)
    assert store.files == files and np.array_equal(store[:], whole)
    assert same(packed_to(album), fresh(album))


PACKING = """
import os, signal, sys
from pathlib import Path
from colorize import store
from colorize.jobs import each_photo
import numpy as np
from io import BytesIO
from PIL import Image
{squeeze}
album = Path(sys.argv[1])

def die_at(where, name, n):
    "Kill this process at the n-th call."
    calls, real = [], getattr(where, name)
    def counting(*args):
        calls.append(1)
        if len(calls) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    setattr(where, name, counting)

{hook}
print('ready', flush=True)
input()
packed = store.pack(each_photo(album), 16, album.with_name('store'), squeeze)
print(len(packed))
"""


def squeeze(photo, size):
    "What `check_photo` does, in short: processes that use it start fast."
    return np.asarray(Image.open(BytesIO(photo)).resize((size, size))), ''


def packing(album, hook=''):
    "Another process that packs `album`."
    script = PACKING.format(hook=hook, squeeze=inspect.getsource(squeeze))
    return subprocess.Popen(
        [sys.executable, '-c', script, str(album)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_any_time(tmp_path):
    album = fill(tmp_path / 'album', *(f'{i}.bmp' for i in range(700)), size=(24, 20))
    points = [
        'die_at(sys.modules["__main__"], "squeeze", 311)',
        'die_at(os, "fsync", 1)',
        'die_at(os, "fsync", 2)',
        'die_at(store.zlib, "crc32", 411)',
    ]
    killed = [packing(album, point) for point in points]
    for process in killed:  # they start side by side, and pack one after another
        assert process.stdout.readline() == 'ready\n', process.stderr.read()
    for process, point in zip(killed, points):
        process.communicate('\n')
        assert process.returncode == -9, point
    place = tmp_path / 'store'
    assert 0 < rows(place, 'squares') < 700
    assert rows(place, 'squares') * 16 * 16 * 3 <= (place / 'photos.u8').stat().st_size
    assert same(packed_to(album, 16, check=squeeze), fresh(album, 16, squeeze))


def test_two_processes_at_once(tmp_path):
    album = fill(tmp_path / 'album', *(f'{i}.bmp' for i in range(600)), size=(24, 20))
    both = [packing(album) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == 'ready\n', process.stderr.read()
    for process in both:
        process.stdin.write('\n')
        process.stdin.flush()
    for process in both:
        out, err = process.communicate()
        assert process.returncode == 0 and out == '600\n', err
    place = tmp_path / 'store'
    assert rows(place, 'squares') == 600
    assert (place / 'photos.u8').stat().st_size == 600 * 16 * 16 * 3
    assert same(packed_to(album, 16, check=squeeze), fresh(album, 16, squeeze))


def test_memory_does_not_grow_with_the_photos(tmp_path, monkeypatch):
    "A million photos may take 0.4 GB: 400 bytes each. A square of 16 px has 768, a Path some 400."
    album = fill(tmp_path / 'album', *(f'{i:04}.bmp' for i in range(1500)), size=(16, 16))
    one = store.imagehash.phash(picture(0))
    monkeypatch.setattr(store.imagehash, 'phash', lambda im: one)  # slow, and not what is measured

    def peak(n):
        first = (f for f in each_photo(album) if int(Path(f).stem) < n)
        tracemalloc.start()
        try:
            assert len(pack(first, 16, tmp_path / f'store{n}', squeeze)) == n
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(300)
    assert (peak(1500) - peak(500)) / 1000 < 60


# ---- training and validation


def test_folders_of_a_dataset(tmp_path):
    fill(tmp_path, 'a/train/x.bmp', 'a/val/y.bmp', 'b/x.bmp', 'c/train/x.bmp')
    a, b, c = (tmp_path / n for n in 'abc')
    assert dataset_folders(a) == (a / 'train', a / 'val') and dataset_folders(a, b) == (a, b)
    assert dataset_folders(c) == (c, None)
    assert dataset_folders('sample') == (None, None)
    assert dataset_folders('sample', b) == (None, b)


def test_own_validation_photos_and_their_look_alikes(tmp_path, capsys, stores):
    fill(tmp_path, *(f'train/{i}.bmp' for i in range(20)), size=(96, 96))
    fill(tmp_path, *(f'judged/{i}.bmp' for i in range(6)), size=(96, 96), first=40)
    with Image.open(tmp_path / 'train/7.bmp') as im:
        im.resize((70, 70), Image.Resampling.BICUBIC).save(
            tmp_path / 'judged' / 'again.jpg', quality=50
        )
    shutil.copy(tmp_path / 'train/9.bmp', tmp_path / 'judged' / 'copy.bmp')
    train, valid = pack_dataset(tmp_path / 'train', tmp_path / 'judged', size=56)
    assert (len(train), len(valid)) == (20, 8) and valid.files == sorted(
        valid.files, key=lambda f: sha256(Path(f))
    )
    pairs = leaks(train, valid)
    assert [(Path(v).name, Path(t).name) for v, t, _ in pairs] == [
        ('copy.bmp', '9.bmp'),
        ('again.jpg', '7.bmp'),
    ]
    assert pairs[0][2] == 0 and 0 <= pairs[1][2] <= 6
    assert 'among 8 validation photos: 2, ' in capsys.readouterr().out
    (table,) = stores.glob('data/packed/judged-*-64/leaks.csv')
    assert [r[:2] for r in csv.reader(open(table))][1:] == [[v, t] for v, t, _ in pairs]
    for f in ('again.jpg', 'copy.bmp'):
        (tmp_path / 'judged' / f).unlink()
    pack_dataset(tmp_path / 'train', tmp_path / 'judged', size=56)
    assert (
        'among 6 validation photos: 0\n' in capsys.readouterr().out
        and len(table.read_text().splitlines()) == 1
    )


@pytest.mark.parametrize('bits', [0, 3, 6, 11])
def test_look_alikes_as_by_comparing_all(bits, rng):
    class Fake:
        def __init__(self, phash):
            self.phash = phash.view(np.int64)

        def names(self, which):
            return [str(i) for i in which]

    def flipped(n):
        places = rng.choice(64, n, replace=False).astype(np.uint64)
        return np.bitwise_or.reduce(np.uint64(1) << places, initial=np.uint64(0))

    a, b = (rng.integers(0, 2**63, n, np.uint64) << np.uint64(1) for n in (400, 300))
    for j in range(200):
        b[j] = a[j] ^ flipped(j % 13)
    distance = np.bitwise_count(a[None] ^ b[:, None])
    near = np.flatnonzero(distance.min(1) <= bits)
    pairs = leaks(Fake(a), Fake(b), bits)
    nearest = {int(valid): n for valid, _, n in pairs}
    assert nearest == {j: int(distance[j].min()) for j in near} and len(pairs) > 10
    assert all(distance[int(valid), int(train)] == n for valid, train, n in pairs)
    assert [n for *_, n in pairs] == sorted(n for *_, n in pairs)


def test_stores_of_folders_of_one_name(tmp_path):
    for k in 'ab':
        fill(tmp_path, *(f'{k}/photos/{i}.bmp' for i in range(4)), first=10 * (k == 'b'))
    a, b = (pack_dataset(tmp_path / k / 'photos', size=56)[0] for k in 'ab')
    assert (
        a.path != b.path
        and not set(a.files) & set(b.files)
        and a.path.name.startswith('photos-')
        and a.path.name.endswith('-64')
    )
