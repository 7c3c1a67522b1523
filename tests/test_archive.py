"Archives through Ray Data: plans for addresses, what a worker does, and a worker that dies."

import signal, sys, time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest
from PIL import Image
from typer.testing import CliRunner

import colorize.archive as archive
from colorize.albums import colorize_files
from colorize.archive import (
    Painter,
    colorize_archive,
    file_system,
    on_disk,
    plan_archive,
    write_whole,
)
from colorize.cli import app
from colorize.core import InputError, shipped_model

pytest.importorskip('pyarrow', reason='no pyarrow, which comes with the extra ray')


def has_ray():
    try:
        import ray.data  # noqa: F401
    except ImportError:
        return False
    return True


needs_ray = pytest.mark.skipif(not has_ray(), reason="no Ray: pip install '.[ray]'")


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
        kinds = [(im.size, im.mode, im.format, im.getexif().get(305)) for im in (x, y)]
        off = np.abs(np.asarray(x, int) - np.asarray(y, int))
    assert kinds[0] == kinds[1] and kinds[0][-1].startswith('colorize ')
    assert off.max() <= levels and (off > 0).mean() < 0.05


def here_and_now(crew, jobs, batch):
    "What `run_on_ray` does, by one worker in this process; what cannot be read is lost, as by Ray."
    painter, paths = Painter(jobs, batch=batch, **crew.options), [*jobs]
    for i in range(0, len(paths), batch):
        some = paths[i : i + batch]
        try:
            data = [crew.disk.open_input_file(path).read() for path in some]
        except OSError:
            continue
        columns = painter(dict(path=some, bytes=data))
        yield from (dict(zip(columns, row)) for row in zip(*columns.values()))


class Ray:
    "A stand-in for the module."

    def cluster_resources(self):
        return dict(CPU=2)


@pytest.fixture
def without_ray(monkeypatch):
    "Everything but Ray itself."
    from contextlib import nullcontext

    monkeypatch.setattr(archive, 'import_ray', Ray)
    monkeypatch.setattr(archive, 'cluster', lambda *_: nullcontext(Ray()))
    monkeypatch.setattr(archive, 'run_on_ray', here_and_now)


# --- places and plans ---


@pytest.mark.parametrize('out_is_address', [False, True])
@pytest.mark.parametrize('in_is_address', [False, True])
def test_folder_or_address_the_plan_is_the_same(tmp_path, in_is_address, out_is_address):
    fill(
        tmp_path / 'in', 'a.png', 'b/c.jpg', 'b/d.e/f.gif', '.hidden.png', 'b/.h/x.png', 'out/a.png'
    )
    (tmp_path / 'in' / 'b' / 'notes.txt').write_text('no photo')
    photos, out = tmp_path / 'in', tmp_path / 'in' / 'out'
    photos = f'file://{photos}' if in_is_address else photos
    out = f'file://{out}' if out_is_address else out
    jobs, skipped = plan_archive(photos, out, recursive=True)
    assert sorted((on_disk(j.source), on_disk(j.out)) for j in jobs) == [
        (f'{tmp_path}/in/b/{n}', f'{tmp_path}/in/out/b/{m}')
        for n, m in (('c.jpg', 'c.jpg'), ('d.e/f.gif', 'd.e/f.png'))
    ]
    assert [on_disk(path) for path in skipped] == [f'{tmp_path}/in/out/a.png']
    assert len(plan_archive(photos, out, recursive=True, force=True)[0]) == 3
    webp, _ = plan_archive(photos, out, recursive=True, format='webp')
    assert {Path(on_disk(j.out)).suffix for j in webp} == {'.webp'}
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
        (['nowhere://x'], 'out', 'not an address'),
        (['in'], 'nowhere://x', 'not an address'),
        (['in'], 'file:///x/a.png', 'name of a file'),
        (['in/*.xyz'], 'file:///x', None),
    ],
)
def test_refused_before_anything_starts(tmp_path, monkeypatch, without_ray, photos, out, message):
    monkeypatch.chdir(fill(tmp_path, 'in/a.png'))
    before = files(tmp_path)
    if message is None:  # as for `colorize_files`
        assert 'in/*.xyz' in colorize_archive(photos, f'file://{tmp_path}/out').failed[0]
    else:
        with pytest.raises(InputError, match=message):
            colorize_archive(photos, out)
        assert files(tmp_path) == before


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(hints=['1,1,#ff0000']), 'one photo'),
        (dict(strokes='mask.png'), 'one photo'),
        (dict(workers=0), 'at least one'),
        (dict(batch_size=0), 'at least one'),
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
    with pytest.raises(InputError, match=r"'\.\[ray\]'"):
        colorize_archive(fill(tmp_path / 'in', 'a.png'), tmp_path / 'out')
    line = ['image', str(tmp_path / 'in'), '-o', str(tmp_path / 'out'), '--ray']
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 1 and result.output.count('\n') == 1


@pytest.mark.parametrize(
    'line', ['--workers 2', '--ray-address x:1', '--ray --uncertainty', '--ray --workers 0']
)
def test_options_that_do_not_go_together(tmp_path, line):
    line = ['image', 'a.png', '-o', str(tmp_path / 'out'), *line.split()]
    assert CliRunner().invoke(app, line).exit_code == 2


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
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(odd / 'scan', format='PNG')
    # without a suffix, it has to be named; the last one comes twice, under two names
    sources = [tmp_path / 'in', odd / 'scan', odd / 'gone.png', tmp_path / 'in' / '0' / '00.png']
    done = colorize_archive(sources, tmp_path / 'out', recursive=True, batch_size=5)
    assert [len(done.done), len(done.failed), done.skipped] == [14, 4, 0]
    written = [p.relative_to(tmp_path / 'out').as_posix() for p in done.done]
    assert written == [*sorted(names), 'scan.png', '00.png']
    why = (
        'damaged.jpg is damaged',
        'empty.jpg is empty',
        'lines.png could not be handed',
        'There is no photo',
    )
    assert all(words in sentence for words, sentence in zip(why, done.failed))
    results = files(tmp_path / 'out')
    assert set(results) == {*names, 'scan.png', '00.png'}
    assert results['00.png'] == results['0/00.png']


def test_a_photo_that_nobody_can_read_takes_no_other_with_it(tmp_path, without_ray, monkeypatch):
    fill(tmp_path / 'in', *(f'{k}.png' for k in range(9)))

    def locked(crew, jobs, batch):
        class Locked:
            def open_input_file(self, path):
                if path.endswith('4.png'):
                    raise PermissionError(13, 'Permission denied')
                return crew.disk.open_input_file(path)

        return here_and_now(replace(crew, disk=Locked()), jobs, batch)

    monkeypatch.setattr(archive, 'run_on_ray', locked)
    done = colorize_archive(tmp_path / 'in', tmp_path / 'out', batch_size=4)
    assert len(done.done) == 8 and len(done.failed) == 1 and '4.png' in done.failed[0]


def test_parts_are_joined_in_order(tmp_path, without_ray, monkeypatch):
    monkeypatch.setattr(archive, 'PART', 4)
    names = [f'{k}.png' for k in range(10)]
    done = colorize_archive(fill(tmp_path / 'in', *names), tmp_path / 'out').done
    assert [p.name for p in done] == names


def test_when_the_engine_breaks_it_says_how_to_go_on(tmp_path, without_ray, monkeypatch):
    fill(tmp_path / 'in', *(f'{k}.png' for k in range(6)))

    def breaks(*args):
        for n, row in enumerate(here_and_now(*args)):
            if n == 4:
                raise ConnectionError('the head is gone')
            yield row

    with monkeypatch.context() as m:
        m.setattr(archive, 'run_on_ray', breaks)
        with pytest.raises(InputError, match='4 of 6 photos .the head is gone.*same command'):
            colorize_archive(tmp_path / 'in', tmp_path / 'out', batch_size=2)
    again = colorize_archive(tmp_path / 'in', tmp_path / 'out')
    assert len(again.done) + again.skipped == 6 and again.skipped >= 4
    assert len(files(tmp_path / 'out')) == 6


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
def test_two_workers_one_killed_every_photo_done_once(tmp_path, local_ray):
    names = [f'{k % 7}/{k % 3}/{k:03}.png' for k in range(119)]
    fill(tmp_path / 'in', *names)
    bad = tmp_path / 'in' / '6' / 'damaged.png'
    bad.write_bytes((tmp_path / 'in' / names[0]).read_bytes()[:60])
    Thread(target=murder, args=(tmp_path / 'out', 30, killed := []), daemon=True).start()
    done = colorize_archive(tmp_path / 'in', tmp_path / 'out', recursive=True, workers=2)
    assert 30 <= killed[0] < 110
    assert len(files(tmp_path / 'out')) == 119  # no temporary file among them
    assert [p.relative_to(tmp_path / 'out').as_posix() for p in done.done] == sorted(names)
    assert len(done.failed) == 1 and 'damaged.png' in done.failed[0]
    few = colorize_files([tmp_path / 'in' / '3' / '0'], tmp_path / 'plain').done
    assert len(few) > 4
    for p in few:
        same_photo(p, tmp_path / 'out' / '3' / '0' / p.name)
    bad.unlink()
    again = colorize_archive(tmp_path / 'in', tmp_path / 'out', recursive=True, workers=2)
    assert (again.done, again.failed, again.skipped) == ([], [], 119)


@needs_ray
def test_the_command_from_address_to_address(tmp_path, local_ray):
    fill(tmp_path / 'in', *(names := ['a.png', 'b/#1 50%?.png', 'b/ä [x].jpg', '_c/;d.tif']))
    model = shipped_model('.onnx')
    line = f'image file://{tmp_path}/in -o file://{tmp_path}/out -r --ray --workers 1'
    line += f' --saturation 0.5 --path-trained-model {model}'
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 0 and sorted(files(tmp_path / 'out')) == sorted(names)
    addresses = [line for line in result.output.splitlines() if line.startswith('file://')]
    assert addresses == [f'file://{tmp_path}/out/{n}' for n in sorted(names)]
    plain = dict(model=model, recursive=True, saturation=0.5)
    colorize_files([tmp_path / 'in'], tmp_path / 'plain', **plain)
    for n in names:
        same_photo(tmp_path / 'plain' / n, tmp_path / 'out' / n, 4 if n.endswith('.jpg') else 1)
