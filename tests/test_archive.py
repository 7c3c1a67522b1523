"Archives through Ray Data: the plan for addresses, what a worker does, and 500 photos of which one worker dies in the middle."

import signal, sys, time
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest
from PIL import Image
from typer.testing import CliRunner

import colorize.archive as archive
from colorize.archive import (
    Painter,
    colorize_archive,
    file_system,
    on_disk,
    plan_archive,
    write_whole,
)
from colorize.cli import app
from colorize.core import InputError
from colorize.albums import colorize_files

pytest.importorskip('pyarrow', reason='no pyarrow, which comes with the extras dev and ray')


def has_ray():
    try:
        import ray.data  # noqa: F401
    except ImportError:
        return False
    return True


needs_ray = pytest.mark.skipif(not has_ray(), reason='no Ray: pip install "colorize[ray]"')


def fill(root, *names, seed=0):
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(seed + k).integers(0, 256, (4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((64, 48), Image.Resampling.BICUBIC).save(root / name)
    return root


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def same_photo(a, b, levels=1):
    "Equal but for rounding: the network's last digits depend on how many photos it sees together."
    with Image.open(a) as x, Image.open(b) as y:
        assert (x.size, x.mode, x.format, x.getexif().get(305)) == (
            y.size,
            y.mode,
            y.format,
            y.getexif().get(305),
        ) and x.getexif()[305].startswith('colorize ')
        off = np.abs(np.asarray(x, int) - np.asarray(y, int))
    assert off.max() <= levels and (off > 0).mean() < 0.05


def here_and_now(ray, jobs, disk, workers, gpu, batch, *args, **kwargs):
    "What `spread` does, by one worker in this process; it loses what cannot be read, as Ray does."
    painter, paths = Painter(jobs, *args, batch=batch, **kwargs), [*jobs]
    for i in range(0, len(paths), batch):
        try:
            rows = dict(
                path=paths[i : i + batch],
                bytes=[disk.open_input_file(p).read() for p in paths[i : i + batch]],
            )
        except OSError:
            continue
        ends = painter(rows)
        yield from (dict(zip(ends, row)) for row in zip(*ends.values()))


class Ray:
    "A stand-in for the module."

    def cluster_resources(self):
        return dict(CPU=2)


@pytest.fixture
def without_ray(monkeypatch):
    "Everything but Ray itself."
    from contextlib import nullcontext

    monkeypatch.setattr(archive, '_ray', Ray)
    monkeypatch.setattr(archive, 'cluster', lambda *_: nullcontext(Ray()))
    monkeypatch.setattr(archive, 'spread', here_and_now)


# --- places and plans ---


@pytest.mark.parametrize('out_is_address', [False, True])
@pytest.mark.parametrize('in_is_address', [False, True])
def test_folder_or_address_the_plan_is_the_same(tmp_path, in_is_address, out_is_address):
    fill(
        tmp_path / 'in', 'a.png', 'b/c.jpg', 'b/d.e/f.gif', '.hidden.png', 'b/.h/x.png', 'out/a.png'
    )
    (tmp_path / 'in' / 'b' / 'notes.txt').write_text('no photo')
    place = lambda p, is_address: f'file://{p}' if is_address else p
    photos, out = (
        place(tmp_path / 'in', in_is_address),
        place(tmp_path / 'in' / 'out', out_is_address),
    )
    jobs, there = plan_archive(photos, out, recursive=True)
    assert sorted((on_disk(j.source), on_disk(j.out)) for j in jobs) == [
        (f'{tmp_path}/in/b/{n}', f'{tmp_path}/in/out/b/{m}')
        for n, m in (('c.jpg', 'c.jpg'), ('d.e/f.gif', 'd.e/f.png'))
    ]
    assert [on_disk(t) for t in there] == [f'{tmp_path}/in/out/a.png']
    assert len(plan_archive(photos, out, recursive=True, force=True)[0]) == 3
    assert {
        Path(on_disk(j.out)).suffix
        for j in plan_archive(photos, out, recursive=True, format='webp')[0]
    } == {'.webp'}
    with pytest.raises(InputError, match='never replaced'):
        plan_archive(photos, photos, recursive=True)
    fill(tmp_path / 'in', 'same.gif', 'same.png')
    names = {Path(on_disk(j.out)).name for j in plan_archive(photos, out, recursive=True)[0]}
    assert {'same.png', 'same.gif.png'} <= names


@pytest.mark.parametrize(
    'photos, out, message',
    [
        (['-'], 'out', 'stdin'),
        (['in'], '-', 'stdout'),
        (['https://example.org/a.jpg'], 'out', 'download it'),
        (['file:///nowhere/at/all'], 'out', 'There is nothing'),
        (['nowhere://x'], 'out', 'no address'),
        (['in'], 'nowhere://x', 'no address'),
        (['in'], 'file:///x/a.png', 'name of a file'),
        (['in/*.xyz'], 'file:///x', None),
    ],
)
def test_refused_before_anything_starts(tmp_path, monkeypatch, without_ray, photos, out, message):
    monkeypatch.chdir(fill(tmp_path, 'in/a.png'))
    before = files(tmp_path)
    if message is None:
        assert (
            'in/*.xyz' in colorize_archive(photos, f'file://{tmp_path}/out').failed[0]
        )  # as `colorize_files` has it
    else:
        with pytest.raises(InputError, match=message):
            colorize_archive(photos, out)
        assert files(tmp_path) == before


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(hints=['1,1,#ff0000']), 'one photo'),
        (dict(strokes='mask.png'), 'one photo'),
        (dict(workers=0), '1 or more'),
        (dict(batch_size=0), '1 or more'),
        (dict(saturation=9), 'saturation'),
        (dict(model='nothing.pth'), 'nothing.pth'),
        (dict(format='xyz'), 'xyz'),
    ],
)
def test_wrong_dials_are_refused(tmp_path, without_ray, wrong, message):
    with pytest.raises(InputError, match=message):
        colorize_archive(fill(tmp_path / 'in', 'a.png'), tmp_path / 'out', **wrong)
    assert not (tmp_path / 'out').exists()


def test_without_ray_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(InputError, match=r'colorize\[ray\]'):
        colorize_archive(fill(tmp_path / 'in', 'a.png'), tmp_path / 'out')
    result = CliRunner().invoke(
        app, ['image', str(tmp_path / 'in'), '-o', str(tmp_path / 'out'), '--ray']
    )
    assert result.exit_code == 1 and result.output.count('\n') == 1


@pytest.mark.parametrize(
    'line', ['--workers 2', '--ray-address x:1', '--ray --uncertainty', '--ray --workers 0']
)
def test_options_that_do_not_go_together(tmp_path, line):
    assert (
        CliRunner()
        .invoke(app, ['image', 'a.png', '-o', str(tmp_path / 'out'), *line.split()])
        .exit_code
        == 2
    )


# --- what a worker does ---


def test_a_file_is_whole_or_not_there(tmp_path):
    disk, root = file_system(tmp_path)

    class Broken:  # a disk that fails at the last step
        def __getattr__(self, name):
            return getattr(disk, name)

        def move(self, a, b):
            raise OSError('no space')

    with pytest.raises(InputError, match='cannot be written'):
        write_whole(Broken(), f'{root}/a/b.png', b'data')
    assert not files(tmp_path)
    for data in (b'one', b'two'):
        write_whole(disk, f'{root}/a/b.png', data)
    assert files(tmp_path) == {'a/b.png': b'two'}


def test_every_photo_ends_once_whatever_becomes_of_it(tmp_path, without_ray):
    names = [f'{k % 3}/{k:02}.png' for k in range(12)]
    fill(tmp_path / 'in', *names)
    odd = tmp_path / 'in' / 'odd'
    odd.mkdir()
    (odd / 'damaged.jpg').write_bytes(b'\xff\xd8\xff')
    (odd / 'empty.jpg').write_bytes(b'')
    (odd / 'two\nlines.png').write_bytes((tmp_path / 'in' / names[0]).read_bytes())
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(
        odd / 'scan', format='PNG'
    )  # no suffix: named alone below
    sources = [
        tmp_path / 'in',
        odd / 'scan',
        odd / 'gone.png',
        tmp_path / 'in' / '0' / '00.png',
    ]  # the last twice, under two names
    done = colorize_archive(sources, tmp_path / 'out', recursive=True, batch_size=5)
    assert [len(done.done), len(done.failed), done.skipped] == [14, 4, 0]
    assert [p.relative_to(tmp_path / 'out').as_posix() for p in done.done] == sorted(names) + [
        'scan.png',
        '00.png',
    ]
    for word, sentence in zip(
        (
            'damaged.jpg is damaged',
            'empty.jpg is empty',
            'lines.png could not be handed',
            'no photo',
        ),
        done.failed,
    ):
        assert word in sentence
    assert (
        set(files(tmp_path / 'out')) == {*names, 'scan.png', '00.png'}
        and files(tmp_path / 'out')['00.png'] == files(tmp_path / 'out')['0/00.png']
    )


def test_a_photo_that_nobody_can_read_takes_no_other_with_it(tmp_path, without_ray, monkeypatch):
    fill(tmp_path / 'in', *(f'{k}.png' for k in range(9)))
    plain = here_and_now

    def locked(ray, jobs, disk, *args, **kwargs):
        class Locked:
            def open_input_file(self, path):
                if path.endswith('4.png'):
                    raise PermissionError(13, 'Permission denied')
                return disk.open_input_file(path)

        return plain(ray, jobs, Locked(), *args, **kwargs)

    monkeypatch.setattr(archive, 'spread', locked)
    done = colorize_archive(tmp_path / 'in', tmp_path / 'out', batch_size=4)
    assert len(done.done) == 8 and len(done.failed) == 1 and '4.png' in done.failed[0]


def test_parts_are_joined_in_order(tmp_path, without_ray, monkeypatch):
    monkeypatch.setattr(archive, 'PART', 4)
    names = [f'{k}.png' for k in range(10)]
    assert [
        p.name for p in colorize_archive(fill(tmp_path / 'in', *names), tmp_path / 'out').done
    ] == names


def test_when_the_engine_breaks_it_says_how_to_go_on(tmp_path, without_ray, monkeypatch):
    fill(tmp_path / 'in', *(f'{k}.png' for k in range(6)))

    def breaks(*args, **kwargs):
        for n, row in enumerate(here_and_now(*args, **kwargs)):
            if n == 4:
                raise ConnectionError('the head is gone')
            yield row

    with monkeypatch.context() as m:
        m.setattr(archive, 'spread', breaks)
        with pytest.raises(InputError, match='4 of 6 photos .the head is gone.*same command'):
            colorize_archive(tmp_path / 'in', tmp_path / 'out', batch_size=2)
    again = colorize_archive(tmp_path / 'in', tmp_path / 'out')
    assert (
        len(again.done) + again.skipped == 6
        and again.skipped >= 4
        and len(files(tmp_path / 'out')) == 6
    )


# --- Ray itself ---


def murder(out, when, killed):
    "Kill one of this process's workers when so many results are there."
    while not killed:
        time.sleep(0.05)
        if (n := sum(1 for _ in out.rglob('*.png'))) < when:
            continue
        for child in psutil.Process().children(recursive=True):
            try:
                if 'Painter' in ''.join(child.cmdline()):
                    child.send_signal(signal.SIGKILL)
                    killed.append(n)
                    break
            except psutil.Error:
                pass


@pytest.fixture(scope='module')
def local_ray():
    "A Ray of two workers, started and stopped as the command does it."
    with pytest.MonkeyPatch.context() as m:
        m.delenv('RAY_ADDRESS', raising=False)
        with archive.cluster(workers=2) as ray:
            yield ray
        assert not ray.is_initialized()


@needs_ray
def test_500_photos_two_workers_one_killed_every_photo_done_once(tmp_path, local_ray):
    names = [f'{k % 7}/{k % 3}/{k:03}.png' for k in range(499)]
    fill(tmp_path / 'in', *names)
    bad = tmp_path / 'in' / '6' / 'damaged.png'
    bad.write_bytes((tmp_path / 'in' / names[0]).read_bytes()[:60])
    Thread(target=murder, args=(tmp_path / 'out', 150, killed := []), daemon=True).start()
    done = colorize_archive(tmp_path / 'in', tmp_path / 'out', recursive=True, workers=2)
    assert (
        150 <= killed[0] < 450 and len(files(tmp_path / 'out')) == 499
    )  # no temporary file among them
    assert [p.relative_to(tmp_path / 'out').as_posix() for p in done.done] == sorted(names)
    assert len(done.failed) == 1 and 'damaged.png' in done.failed[0]
    few = colorize_files([tmp_path / 'in' / '3' / '0'], tmp_path / 'plain').done
    assert len(few) > 20
    for p in few:
        same_photo(p, tmp_path / 'out' / '3' / '0' / p.name)
    bad.unlink()
    again = colorize_archive(tmp_path / 'in', tmp_path / 'out', recursive=True, workers=2)
    assert (again.done, again.failed, again.skipped) == ([], [], 499)


@needs_ray
def test_the_command_from_address_to_address(tmp_path, local_ray):
    fill(tmp_path / 'in', *(names := ['a.png', 'b/#1 50%?.png', 'b/ä [x].jpg', '_c/;d.tif']))
    result = CliRunner().invoke(
        app,
        [
            'image',
            f'file://{tmp_path}/in',
            '-o',
            f'file://{tmp_path}/out',
            '-r',
            '--ray',
            '--workers',
            '1',
            '--saturation',
            '0.5',
        ],
    )
    assert result.exit_code == 0 and sorted(files(tmp_path / 'out')) == sorted(names)
    assert [l for l in result.output.splitlines() if l.startswith('file://')] == [
        f'file://{tmp_path}/out/{n}' for n in sorted(names)
    ]
    colorize_files([tmp_path / 'in'], tmp_path / 'plain', recursive=True, saturation=0.5)
    for n in names:
        same_photo(tmp_path / 'plain' / n, tmp_path / 'out' / n, 4 if n.endswith('.jpg') else 1)
