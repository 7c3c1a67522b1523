"Jobs: which photos a source stands for, where they go, and how many of them are done at once."

import errno, os, resource, signal, struct, subprocess, sys, threading, time
from dataclasses import replace
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from colorize import jobs as jobs_module
from colorize.core import InputError, atomic
from colorize.files import Photo, read_photo, write_photo
from colorize.jobs import Huge, Pipeline, find_photos, plan, run_jobs


def smooth(h=18, w=26, bits=8):
    "Colours that no JPEG spoils, and no two corners alike."
    y, x = np.mgrid[:h, :w] / max(h, w)
    rgb = np.stack([0.1 + 0.8 * x, 0.2 + 0.6 * y, 0.9 - 0.5 * x - 0.3 * y], -1)
    return np.rint(rgb * (2**bits - 1)).astype(f'uint{bits}')


RGB = smooth()


def refused(part, f, *args, **kwargs):
    with pytest.raises(InputError, match=part) as e:
        f(*args, **kwargs)
    assert '\n' not in str(e.value) and str(e.value).endswith('.')
    return str(e.value)


def unchanged(photo, extra):
    return photo


# ---- which photo goes where


@pytest.fixture
def album(tmp_path, monkeypatch):
    for name in (
        'album/a.png',
        'album/b.JPG',
        'album/sub/a.png',
        'album/sub/ü ñ.tif',
        'album/.hidden.png',
        'album/.hidden/c.png',
        'album/notes.txt',
        'one.png',
        'two words.png',
        'scan.2001',
        'old.gif',
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_photo(Photo(RGB), tmp_path / 'x.png', force=True)
        (tmp_path / 'x.png').rename(tmp_path / name)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'album' / 'sub' / 'loop').symlink_to(tmp_path / 'album')
    (tmp_path / 'album' / 'elsewhere').symlink_to(tmp_path / 'empty')
    (tmp_path / 'album' / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outs(*args, **kwargs):
    return [str(j.out) for j in plan(*args, **kwargs)[0]]


DEEP = ['out/a.png', 'out/b.JPG', 'out/sub/a.png', 'out/sub/ü ñ.tif']


def test_names_of_folders(album):
    assert outs('album', 'out') == DEEP[:2]
    assert outs('album', 'out', recursive=True) == DEEP
    as_jpg = [str(Path(name).with_suffix('.jpg')) for name in DEEP]
    assert outs('album', 'out', recursive=True, format='JPG') == as_jpg


def test_names_of_files(album):
    sources = ['one.png', 'two words.png', 'old.gif', 'scan.2001', '-']
    names = ['one.png', 'two words.png', 'old.png', 'scan.2001', 'stdin']
    assert outs(sources, 'out') == [f'out/{name}' for name in names]
    assert outs('one.png', 'new.jpg') == ['new.jpg']
    assert outs('one.png', 'new') == ['new/one.png']
    assert outs('one.png', 'album') == ['album/one.png']
    assert outs(['nothing.png', 'one.png'], 'out') == ['out/nothing.png', 'out/one.png']
    assert outs(['one.png', './one.png'], 'out') == ['out/one.png']  # once is enough
    assert outs('one.png', '-') == ['-']
    assert plan('one.png', '-', format='png')[0][0].format == 'PNG'


def test_names_of_patterns_and_addresses(album):
    assert outs('album/*.png', 'out') == ['out/a.png']
    assert outs('album/**/*.tif', 'out') == ['out/ü ñ.tif']
    assert outs('*', 'out') == ['out/old.png', 'out/one.png', 'out/two words.png']
    assert outs('nothing*.png', 'out') == ['out/nothing*.png']
    assert outs('http://h/a/b%20c.jpg?d=e', 'out') == ['out/b c.jpg']
    assert outs('http://h/', 'out') == ['out/photo']
    (album / '[1].png').write_bytes((album / 'one.png').read_bytes())
    assert outs('[1].png', 'out') == ['out/[1].png']  # a name before a pattern


def test_rules(album):
    before = sorted(album.rglob('*'))
    refused('holds no photos', plan, 'empty', 'out')
    assert 'with -r' not in refused('holds no photos', plan, 'empty', 'out', recursive=True)
    refused('never replaced', plan, 'album', 'album')
    refused('never replaced', plan, 'album', 'album', force=True)
    refused('never replaced', plan, 'one.png', 'one.png', force=True)
    refused('never replaced', plan, 'one.png', '.', force=True)
    sources = ['one.png', 'album/../one.png', 'empty/../album/a.png', 'album/sub/../../x/one.png']
    assert [bool(j.refused) for j in plan(sources, 'out')[0]] == [False, False, True]
    for format in (None, 'jpg'):
        jobs = plan(['album/a.png', 'album/sub/a.png', 'one.png'], 'out', format=format)[0]
        assert [bool(j.refused) for j in jobs] == [False, True, False]
    assert 'sub/a.png would become out/a.jpg, as album/a.png does: rename it' in jobs[1].refused
    refused('exists already.*--force', plan, 'one.png', 'two words.png')
    refused('name of one file', plan, 'album', 'out.jpg')
    refused('name of one file', plan, ['one.png', 'old.gif'], 'out.jpg')
    refused('stdout takes one photo', plan, ['one.png', 'old.gif'], '-')
    refused('use one of', plan, 'one.png', 'out.xyz')
    refused('The format bmpp cannot', plan, 'one.png', 'out', format='bmpp')
    refused('contradict', plan, 'one.png', 'out.png', format='jpg')
    refused('no photos to read', plan, [], 'out')
    assert sorted(album.rglob('*')) == before  # nothing was written


def test_output_inside_the_input(album):
    for _ in range(2):
        jobs, skipped = plan('album', 'album/out', recursive=True)
        assert len(jobs) + len(skipped) == 4
        run_jobs(jobs, unchanged)
    assert (len(jobs), len(skipped)) == (0, 4)
    jobs, _ = plan('album/**/*.tif', 'album/out', force=True)
    assert {job.source.name for job in jobs} == {'ü ñ.tif'}
    assert len(plan('album', 'album/out', recursive=True, force=True)[0]) == 4


def test_many_photos_are_planned_in_no_time(tmp_path):
    start = time.process_time()  # other processes may be busy
    assert len(plan([f'{i}.jpg' for i in range(20000)], tmp_path)[0]) == 20000
    assert time.process_time() - start < 5


def test_unreadable_folder(album, monkeypatch):
    real = os.scandir

    def deny(path):
        if str(path).endswith('sub'):
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return real(path)

    monkeypatch.setattr(os, 'scandir', deny)
    refused('sub cannot be read', find_photos, 'album')


# ---- many at once


def test_one_bad_file_stops_nothing(album):
    for name in ('album/bad.jpg', 'album/sub/empty.png'):
        (album / name).write_bytes(b'' if 'empty' in name else b'no photo')
    jobs, _ = plan(['album', 'nothing.png'], 'out', recursive=True)

    def choosy(photo, number):
        if photo.format == 'PNG' and number == 1:
            raise InputError('This one is not liked.')
        return photo

    def numbered(photos):
        for i, (job, photo, _) in enumerate(photos):
            yield job, photo, i

    summary = run_jobs(jobs, choosy, numbered)
    assert [p.as_posix() for p in summary.done] == ['out/a.png', 'out/sub/a.png', 'out/sub/ü ñ.tif']
    for part, sentence in zip(('liked', 'bad.jpg', 'empty.png', 'nothing.png'), summary.failed):
        assert part in sentence
    assert str(summary).startswith('3 done, 4 failed in ')
    jobs, done = plan('album', 'out', recursive=True)
    assert str(run_jobs(jobs, choosy, skipped=len(done))).startswith(
        '1 done, 3 skipped (they exist; --force replaces them), 2 failed in'
    )


def test_many_bad_files(tmp_path):
    "None of them stays open."
    for i in range(300):
        (tmp_path / f'{i}.jpg').write_bytes(b'no photo')
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir('/proc/self/fd')) + 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
    try:
        summary = run_jobs(plan(tmp_path, tmp_path / 'out')[0], None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sum("isn't a photo" in sentence for sentence in summary.failed) == 300


def test_two_photos_of_one_name_stop_nothing(album):
    summary = run_jobs(plan(['album/a.png', 'album/sub/a.png', 'one.png'], 'out')[0], unchanged)
    assert [p.as_posix() for p in summary.done] == ['out/a.png', 'out/one.png']
    assert len(summary.failed) == 1 and 'sub/a.png would become out/a.png' in summary.failed[0]


def test_names_are_completed(album):
    summary = run_jobs(plan(['scan.2001', 'old.gif'], 'out')[0], unchanged)
    assert [p.name for p in summary.done] == ['scan.2001.png', 'old.png']


def test_batches(album):
    jobs, _ = plan('album', 'out', recursive=True)
    sizes = []

    def in_threes(photos):
        while batch := [*islice(photos, 3)]:
            sizes.append(len(batch))
            for job, photo, mean in batch:
                yield job, photo, len(batch) + mean

    def fill_with(photo, n):
        return replace(photo, pixels=np.full_like(photo.pixels, n))

    summary = run_jobs(jobs, fill_with, in_threes, prepare=lambda photo: photo.pixels.shape[0])
    assert len(summary.done) == 4 and sizes == [3, 1]
    exact = [path for path in summary.done if path.suffix != '.JPG']
    assert [int(read_photo(path).pixels.mean()) for path in exact] == [21, 21, 19]


def test_a_picture_beside(album):
    jobs, _ = plan('album', 'out', beside=['_map'])

    def outlined(photo, extra):
        return {'_map': Photo(RGB[..., 0]), '': photo}

    done = run_jobs(jobs, outlined, software='colorize').done
    assert [p.as_posix() for p in done] == ['out/a.png', 'out/b.JPG']
    names = sorted(p.name for p in (album / 'out').iterdir())
    assert names == ['a.png', 'a_map.png', 'b.JPG', 'b_map.png']
    (album / 'out' / 'a.png').unlink()
    assert 'a_map.png exists already' in run_jobs(jobs[:1], outlined).failed[0]
    assert not (album / 'out' / 'a.png').exists()


def test_notes(album):
    bright = PngImagePlugin.PngInfo()
    bright.add(b'gAMA', struct.pack('>I', 55556))
    Image.fromarray(RGB).save('bright.png', pnginfo=bright)
    write_photo(Photo(smooth(bits=16)), 'deep.png')
    jobs, _ = plan(['bright.png', 'deep.png'], 'out', format='jpg')
    assert run_jobs(jobs, unchanged).notes == [
        'bright.png: Its colours were converted from gamma 0.556 to sRGB.',
        'deep.png: JPEG holds only 8 bits: the other 8 were rounded off.',
    ]


def test_progress_only_when_asked(album, capfd):
    jobs, _ = plan('album', 'out')
    run_jobs(jobs, unchanged)
    assert capfd.readouterr() == ('', '')
    run_jobs(jobs, unchanged, force=True, bar=True)
    out, err = capfd.readouterr()
    assert out == '' and '2/2' in err and 'photos/s' in err


def test_nothing_can_be_written(album):
    (album / 'file').write_text('')
    refused('cannot be written', run_jobs, plan('album', 'file')[0], unchanged)


def test_a_fault_of_ours_is_not_hidden(album):
    def work(photo, extra):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_jobs(plan('album', 'out')[0], work)


def test_memory_is_bounded(tmp_path, monkeypatch):
    "However many photos there are, few are in memory; of huge ones, one."
    for i in range(12):
        write_photo(Photo(RGB), tmp_path / 'in' / f'{i:02}.png')
    alive, most, lock, decode = [0], [0], threading.Lock(), jobs_module.decode_photo

    def counting(file, name, megapixels):
        photo = decode(file, name, megapixels)
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        return photo

    def slow(photo, extra):
        time.sleep(0.01)
        with lock:
            alive[0] -= 1
        return photo

    def run(out, **options):
        most[0] = 0
        return run_jobs(plan(tmp_path / 'in', tmp_path / out)[0], slow, **options)

    monkeypatch.setattr(jobs_module, 'decode_photo', counting)
    monkeypatch.setattr(jobs_module, 'HUGE', 1e-4)
    assert len(run('one').done) == 12 and most[0] == 1
    assert len(run('again', prepare=lambda photo: photo.pixels[::2]).done) == 12 and most[0] == 1
    refuse = run('three', megapixels=2e-4)
    assert len(refuse.failed) == 12 and 'limit of 0.0002' in refuse.failed[0]
    monkeypatch.setattr(jobs_module, 'HUGE', 40)
    assert len(run('two').done) == 12 and most[0] <= 2 * (min(8, os.cpu_count()) + 1) + 1


SLOW = '''
import signal, sys, time
from colorize.jobs import plan, run_jobs
signal.signal(signal.SIGINT, signal.default_int_handler)
def slow(photo, extra):
    print('working', flush=True)
    time.sleep(0.05)
    return photo
jobs, done = plan(sys.argv[1], sys.argv[2])
try:
    print(run_jobs(jobs, slow, skipped=len(done)))
except KeyboardInterrupt:
    sys.exit(130)
'''


def test_ctrl_c(tmp_path):
    "In the middle of a folder: it stops soon, leaves no partial file, and a rerun completes."
    out = tmp_path / 'out'
    for i in range(40):
        write_photo(Photo(smooth(60, 60)), tmp_path / 'in' / f'{i:02}.png')
    command = [sys.executable, '-c', SLOW, str(tmp_path / 'in'), str(out)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(6):
        first.stdout.readline()
    start = time.monotonic()
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=20)
    assert first.returncode == 130 and time.monotonic() - start < 5 and err == ''
    written = sorted(out.iterdir())
    assert 0 < len(written) < 40
    assert all(p.suffix == '.png' and not p.name.startswith('.') for p in written)
    assert all(read_photo(p).pixels.shape == (60, 60, 3) for p in written)
    second = subprocess.run(command, capture_output=True, text=True)
    assert f'{40 - len(written)} done, {len(written)} skipped' in second.stdout
    assert len(list(out.iterdir())) == 40


class Noted(Pipeline):
    "Notes when each huge item is read and written; every second one cannot be written."

    def __init__(self, ahead):
        super().__init__(ahead)
        self.steps = []

    def read(self, job):
        return Huge(lambda: self.steps.append(f'read {job}') or job)

    def work(self, items):
        pairs = islice(items, 2)  # a batch of two, both of which it holds
        while batch := [*pairs]:
            yield from batch
            pairs = islice(items, 2)

    def write(self, job, item, extra):
        self.steps.append(f'write {job}')
        if job in 'bd':
            raise InputError(f'{job} is refused.')
        return item

    def is_huge(self, item):
        return True


def test_huge_items_in_batches_do_not_wait_for_each_other():
    pipeline = Noted(ahead=2)
    outcomes = {job: str(outcome) for job, outcome in pipeline.run('abcd')}
    assert outcomes == dict(a='a', b='b is refused.', c='c', d='d is refused.')
    order = {step: k for k, step in enumerate(pipeline.steps)}
    for first, second in ('ab', 'bc', 'cd'):
        assert order[f'write {first}'] < order[f'write {second}']
    assert order['write a'] < order['read c'], 'three in memory'


def test_a_name_too_long(tmp_path):
    with pytest.raises(InputError, match='shorter name'):
        with atomic(tmp_path / ('写' * 83 + '_warm.jpg')) as tmp:
            tmp.write_text('whole')


def test_stdin_and_stdout(tmp_path):
    "In another process, which has both to itself."

    def run(script, sent):
        script = (
            'import sys\nfrom colorize.jobs import plan, run_jobs\n'
            'def do(out, **options):\n'
            '    return run_jobs(plan("-", out, **options)[0], lambda photo, extra: photo)\n'
        ) + script
        command = [sys.executable, '-c', script]
        return subprocess.run(command, input=sent, capture_output=True, cwd=tmp_path)

    photo = BytesIO()
    Image.fromarray(RGB).save(photo, 'PNG')
    done = run('print(do("-", format="webp"), file=sys.stderr)', photo.getvalue())
    assert read_photo(done.stdout).format == 'WEBP' and done.stderr.startswith(b'1 done in')
    assert b'stdin is empty' in run('print(do("out").failed)', b'').stdout
