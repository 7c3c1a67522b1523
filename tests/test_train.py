"Training: whatever stops a run, it goes on and ends with the same weights; several processes make what one makes."

import json, os, resource, signal, subprocess, sys, time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from fastprogress.fastprogress import ProgressBar
from PIL import Image

from colorize.core import InputError
from colorize.data import Batches
from colorize.distributed import start_processes
from colorize.model import load_model
from colorize.runs import Checkpoint
from colorize.train import find_rate, prepare, reveal, start_model, train

EPOCHS, OPTIONS = 3, '--n-epochs 3 --batch-size 4 --size 32 --lr 0.0003 --device cpu'.split()


@pytest.fixture(scope='module')
def album(tmp_path_factory):
    "Forty pictures of 64 px: nine steps an epoch."
    root = tmp_path_factory.mktemp('album')
    for k in range(40):
        blocks = np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((64, 64), Image.Resampling.BICUBIC).save(
            root / f'{k:02}.png'
        )
    return root


def start(album, out, *more, launcher=(), **popen):
    command = [
        sys.executable,
        '-W',
        'ignore',
        *launcher,
        '-m',
        'colorize.train',
        '--path-train',
        album,
        '--path-trained-model',
        out,
        *OPTIONS,
        *more,
    ]
    return subprocess.Popen(
        [str(c) for c in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | dict(OMP_NUM_THREADS='1', COLORIZE_TEST=str(os.getpid())),
        **popen,
    )


def finish(process, seconds=180):
    try:
        said = ''.join(process.communicate(timeout=seconds))
    finally:
        process.kill()
    return process.returncode, said


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(''.join(process.communicate()))
        time.sleep(0.005)


@pytest.fixture(scope='module')
def whole(album, tmp_path_factory):
    "The weights file of a run that nobody disturbed."
    out = tmp_path_factory.mktemp('whole') / 'm.pth'
    code, said = finish(start(album, out))
    assert code == 0, said
    return out


def same(a, b):
    return (
        a.read_bytes() == b.read_bytes()
        and a.with_suffix('.json').read_text() == b.with_suffix('.json').read_text()
    )


def leftovers(folder):
    return [p.name for p in folder.iterdir() if p.suffix == '.ckpt' or p.name.startswith('.')]


def written(checkpoint):
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0


def test_killed_at_three_points_it_ends_with_the_same_weights(album, whole, tmp_path):
    out, stopped = tmp_path / 'm.pth', []
    for steps in np.random.default_rng(int(os.environ.get('COLORIZE_TEST_SEED', 7))).integers(
        1, 9, 3
    ):
        process = start(album, out, '--resume', '--minutes', '0')  # a checkpoint after every step
        for _ in range(steps):
            before = written(out.with_suffix('.ckpt'))
            wait_for(lambda before=before: written(out.with_suffix('.ckpt')) != before, process)
        process.kill()  # SIGKILL
        process.communicate()
        state = torch.load(out.with_suffix('.ckpt'), weights_only=True)
        stopped.append((state['epoch'], state['batch']))
    out.write_bytes(
        whole.read_bytes()
    )  # as if killed after the weights were written, before the checkpoint was removed
    code, said = finish(start(album, out, '--resume'))
    assert code == 0 and 'Going on in epoch' in said and not leftovers(tmp_path)
    assert (
        any(batch for _, batch in stopped)
        and stopped == sorted(stopped)
        and stopped[0] != stopped[-1]
    )
    assert same(out, whole)


def test_killed_before_the_first_epoch_is_kept(album, whole, tmp_path):
    "The journal is written, its checkpoint is not; and between two checkpoints, at any moment."
    out = tmp_path / 'm.pth'
    process = start(album, out)
    wait_for(out.with_suffix('.json').exists, process)
    process.kill()
    process.communicate()
    wait = np.random.default_rng().uniform(0, 3)
    process = start(album, out, '--resume', '--minutes', '0.005')
    wait_for(
        (before := written(out.with_suffix('.ckpt')))
        and (lambda: written(out.with_suffix('.ckpt')) != before),
        process,
    )
    time.sleep(wait)
    process.kill()
    process.communicate()
    code, said = finish(start(album, out, '--resume'))
    assert code == 0 and same(out, whole) and not leftovers(tmp_path), f'{wait} s\n{said}'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_leaves_a_checkpoint(album, whole, tmp_path, number):
    out = tmp_path / 'm.pth'
    process = start(album, out)
    wait_for(lambda: (tmp_path / 'm_epochs' / '001.png').exists(), process)
    process.send_signal(number)
    code, said = finish(process)
    assert (
        code == 130
        and 'Stopped in epoch' in said
        and '--resume' in said
        and 'Traceback' not in said
    )
    assert torch.load(out.with_suffix('.ckpt'), weights_only=True)['batch']
    code, said = finish(start(album, out, '--resume'))
    assert code == 0 and same(out, whole) and not leftovers(tmp_path)


def test_a_full_disk(album, whole, tmp_path):
    out = tmp_path / 'm.pth'
    code, said = finish(
        start(
            album, out, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**24, 2**24))
        )
    )
    assert (
        code == 1
        and 'm.ckpt cannot be written' in said
        and 'Epoch' not in said
        and not [*tmp_path.iterdir()]
    )  # before any work
    process = start(album, out)
    wait_for(out.with_suffix('.ckpt').exists, process)
    process.kill()
    process.communicate()
    before = out.with_suffix('.ckpt').read_bytes()
    code, said = finish(
        start(
            album,
            out,
            '--resume',
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**24, 2**24)),
        )
    )
    assert (
        code == 1
        and 'm.ckpt cannot be written' in said
        and 'make room' in said
        and 'Traceback' not in said
    )
    assert out.with_suffix('.ckpt').read_bytes() == before and not out.exists()
    code, said = finish(start(album, out, '--resume'))
    assert code == 0 and same(out, whole)


def quick(album, out, **settings):
    return train(
        album,
        path_trained_model=out,
        **dict(dict(epochs=2, steps=2, batch_size=4, size=32, lr=3e-4, device='cpu'), **settings),
    )


def test_a_loss_that_is_no_number(album, tmp_path, monkeypatch):
    make, out = Batches.make, tmp_path / 'm.pth'

    def poisoned(self, rgb, g):
        L, ab = make(self, rgb, g)
        return (L * float('nan') if self.train and self.epoch == 1 else L), ab

    quick(album, tmp_path / 'good.pth')
    monkeypatch.setattr(Batches, 'make', poisoned)
    with pytest.raises(
        InputError,
        match='^The loss became nan in epoch 2, batch 1: go on from the last checkpoint with a lower lr',
    ):
        quick(album, out)
    state = torch.load(out.with_suffix('.ckpt'), weights_only=True)
    assert state['epoch'] == 1 and all(v.isfinite().all() for v in state['model'].values())
    assert load_model(tmp_path / 'm.best.pth').meta['validation']['epoch'] == 1
    monkeypatch.undo()
    quick(album, out, resume=True)
    assert same(out, tmp_path / 'good.pth')


@pytest.mark.parametrize('epoch', [0, 1])
def test_weights_that_are_no_numbers(album, tmp_path, monkeypatch, epoch):
    "The last step of an epoch spoils them; its loss was still good."
    real, out = torch.optim.AdamW.step, tmp_path / 'm.pth'
    taken = []

    def spoil(self, *args, **kwargs):
        taken.append(1)
        if len(taken) == 2 * epoch + 2:
            self.param_groups[0]['params'][0].grad.fill_(float('nan'))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, 'step', spoil)
    with pytest.raises(
        InputError, match=f'^The weights became infinite in epoch {epoch + 1}, batch 2: '
    ):
        quick(album, out)
    assert (tmp_path / 'm.best.pth').exists() == bool(epoch)
    monkeypatch.undo()
    state = torch.load(out.with_suffix('.ckpt'), weights_only=True)
    assert state['epoch'] == epoch and all(v.isfinite().all() for v in state['model'].values())
    assert len(quick(album, out, resume=True, lr=1e-4)[1]) == 2


def test_a_validation_that_is_no_number(album, tmp_path, monkeypatch):
    "Finite weights may be wild enough for it."
    make, out = Batches.make, tmp_path / 'm.pth'
    with monkeypatch.context() as m:
        m.setattr(
            Batches,
            'make',
            lambda self, rgb, g: tuple(
                x * (1 if self.train else float('nan')) for x in make(self, rgb, g)
            ),
        )
        with pytest.raises(
            InputError, match='^The validation loss became nan in epoch 1, batch 2: '
        ):
            quick(album, out)
    assert [p.name for p in tmp_path.iterdir()] == ['m.ckpt']
    assert len(quick(album, out, resume=True, lr=1e-4)[1]) == 2


def stopped(album, out, monkeypatch, **settings):
    "A run that is asked to stop after its first step."
    go_on = Checkpoint.after_batch

    def ask(self):
        if self.training:
            self.told.append('stop')
        go_on(self)

    with monkeypatch.context() as m:
        m.setattr(Checkpoint, 'after_batch', ask)
        with pytest.raises(KeyboardInterrupt, match='Stopped in epoch 1, after batch 1'):
            quick(album, out, **settings)


def test_photos_that_go_away_and_come(album, tmp_path, monkeypatch, capsys):
    (copy := tmp_path / 'album').mkdir()
    for p in album.iterdir():
        (copy / p.name).write_bytes(p.read_bytes())
    stopped(copy, tmp_path / 'm.pth', monkeypatch)
    for p in sorted(copy.iterdir())[::2]:
        p.unlink()
    assert len(quick(copy, tmp_path / 'm.pth', resume=True)[1]) == 2
    assert 'photos changed' in capsys.readouterr().out


def test_a_run_that_was_stopped_is_not_lost_by_forgetting_resume(album, tmp_path, monkeypatch):
    stopped(album, out := tmp_path / 'm.pth', monkeypatch)
    before = out.with_suffix('.ckpt').read_bytes()
    with pytest.raises(
        InputError, match='m.ckpt is the checkpoint of a run that has not ended: go on with resume'
    ):
        quick(album, out)
    with pytest.raises(InputError, match=r'other settings \(path_val'):
        quick(album, out, resume=True, path_val=album)
    assert out.with_suffix('.ckpt').read_bytes() == before
    assert len(quick(album, out, force=True)[1]) == 2


@pytest.mark.parametrize('name', ['m.png', 'm.json', 'm.best.pth', 'm_epochs/001.png'])
def test_nothing_beside_is_replaced(album, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('mine')
    with pytest.raises(InputError, match='exists already'):
        quick(album, tmp_path / 'm.pth')
    assert (tmp_path / name).read_text() == 'mine'


def test_killed_while_the_journal_is_written(album, tmp_path, monkeypatch):
    import colorize.train as module

    draw = module.draw_history

    def die(history):
        if len(history) == 2:
            raise KeyboardInterrupt
        return draw(history)

    monkeypatch.setattr(module, 'best_epoch', lambda history: 2 if len(history) > 1 else 1)
    with monkeypatch.context() as m:
        m.setattr(module, 'draw_history', die)
        with pytest.raises(KeyboardInterrupt):
            quick(album, tmp_path / 'm.pth', epochs=3)
    quick(album, tmp_path / 'm.pth', epochs=3, resume=True)
    assert load_model(tmp_path / 'm.best.pth').meta['validation']['epoch'] == 2
    assert sorted(p.name for p in (tmp_path / 'm_epochs').iterdir()) == [
        '001.png',
        '002.png',
        '003.png',
    ]


def test_the_learner_is_free_afterwards(album, tmp_path):
    learn, _ = quick(album, tmp_path / 'm.pth', epochs=1)
    learn.model.requires_grad_(True)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    assert not (tmp_path / 'm.ckpt').exists()


@pytest.mark.parametrize('name', ['m.ckpt', 'm.json', 'm.v2', 'm'])
def test_weights_files_end_in_pth(album, tmp_path, name):
    with pytest.raises(InputError, match='ends in .pth'):
        quick(album, tmp_path / name)


def test_resuming_what_is_finished(album, whole):
    before = whole.read_bytes()
    code, said = finish(start(album, whole, '--resume'))
    assert code == 0 and 'is finished' in said and whole.read_bytes() == before
    code, said = finish(start(album, whole, '--resume', '--n-epochs', str(EPOCHS + 1)))
    assert code == 1 and f'is finished after {EPOCHS} epochs' in said and '--init' in said
    assert whole.read_bytes() == before


LIGHT = dict(quick=True, bf16=True, stride=8, zoom=1, context=2, hints=True)


def test_quick_leaves_the_costly_parts_as_they_are(album, tmp_path):
    learn, _ = quick(album, tmp_path / 'm.pth', ema_decay=0, epochs=1, **LIGHT)
    before, after = load_model().state_dict(), learn.model.state_dict()
    same = {
        k for k in before if before[k].dtype.is_floating_point and torch.equal(before[k], after[k])
    }
    kept = (
        'encoder.conv_stem.weight',
        'encoder.blocks.1.0.conv_pw.weight',
        'encoder.blocks.5.0.conv_dw.weight',
        'encoder.blocks.5.0.bn1.running_mean',
    )
    learned = (
        'encoder.blocks.2.0.conv_pw.weight',
        'decoder.0.convs.0.0.weight',
        'decoder.0.convs.0.1.running_mean',
        'head.conv.weight',
    )
    assert same.issuperset(kept) and same.isdisjoint(learned)


def test_light_training_resumes_as_if_never_stopped(album, tmp_path, monkeypatch):
    out = tmp_path / 'm.pth'
    quick(album, tmp_path / 'whole.pth', **LIGHT)
    stopped(album, out, monkeypatch, **LIGHT)
    quick(album, out, resume=True, **LIGHT)
    assert same(out, tmp_path / 'whole.pth')


def test_each_batch_reveals_other_cells(album, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        'colorize.train.reveal', lambda *a: (shown.append(reveal(*a)), shown[-1])[1]
    )
    quick(album, tmp_path / 'm.pth', epochs=2, steps=2, size=64, **LIGHT)
    assert len(shown) == len({m.numpy().tobytes() for m in shown}) == 4


def test_a_new_shape_starts_as_the_old_model():
    old, L = load_model(), torch.rand(1, 1, 64, 96) * 100
    new = start_model('shipped', 'classification', None, context=2, hints=True).eval()
    assert new.config['context'] == 2
    with torch.no_grad():
        assert torch.allclose(new(L), old(L), atol=1e-3)


def test_the_bar_goes_on_where_the_epoch_was_left(album, tmp_path, monkeypatch):
    out, shown = tmp_path / 'm.pth', []
    stopped(album, out, monkeypatch)
    update = ProgressBar.update
    monkeypatch.setattr(ProgressBar, 'update', lambda self, n: (shown.append(n), update(self, n)))
    quick(album, out, resume=True)
    assert next(filter(None, shown)) == 2  # one of two steps was done before


def test_folders_can_be_drawn_less_often(album, tmp_path, capsys):
    quick(album, tmp_path / 'm.pth', steps=0, epochs=1, shares=f'{album.name}: 0.5')
    assert 'Training on 34 photos, 16 crops an epoch' in capsys.readouterr().out
    with pytest.raises(InputError, match='no photo is in such a folder'):
        quick(album, tmp_path / 'n.pth', shares='nowhere: 0.5')


def test_the_same_folder_by_another_name(album, tmp_path, monkeypatch, capsys):
    stopped(album, out := tmp_path / 'm.pth', monkeypatch)
    monkeypatch.chdir(album.parent)
    assert len(quick(f'./{album.name}/', out, resume=True)[1]) == 2
    said = capsys.readouterr().out
    assert 'Going on in epoch 1, after batch 1' in said and 'changed' not in said


@pytest.mark.parametrize('name', ['m', 'a name of more than forty characters, as people give'])
def test_nothing_half_written_stays(album, tmp_path, monkeypatch, name):
    stopped(album, out := tmp_path / f'{name}.pth', monkeypatch)
    (out.with_name(f'{name}_epochs')).mkdir()
    for at in (
        out.with_suffix('.ckpt'),
        out.with_suffix('.best.pth'),
        out.with_suffix('.json'),
        out.with_name(f'{name}_epochs') / '001.png',
    ):
        (at.parent / f'.{at.stem[:40]}-a1b2c3d4{at.suffix}').write_text('half')
    quick(album, out, resume=True)
    assert not list(tmp_path.rglob('.*'))


def test_as_many_photos_but_others(album, tmp_path, monkeypatch, capsys):
    (copy := tmp_path / 'album').mkdir()
    for p in album.iterdir():
        (copy / p.name).write_bytes(p.read_bytes())
    stopped(copy, tmp_path / 'm.pth', monkeypatch)
    for p in sorted(copy.iterdir())[:5]:
        p.rename(copy / f'z{p.name}')  # they come last now
    quick(copy, tmp_path / 'm.pth', resume=True)
    assert 'the photos changed' in capsys.readouterr().out


def test_a_date_for_a_seed(album):
    assert len(next(iter(Batches(np.zeros((4, 16, 16, 3), np.uint8), 2, 16, seed=20261124)))) == 2


def test_what_a_run_leaves(album, tmp_path):
    _, history = quick(album, tmp_path / 'm.pth', epochs=3)
    assert json.loads((tmp_path / 'm.json').read_text())['history'] == history
    assert sorted(p.name for p in (tmp_path / 'm_epochs').iterdir()) == [
        '001.png',
        '002.png',
        '003.png',
    ]
    assert (
        Image.open(tmp_path / 'm_epochs' / '001.png').size[1] == 3 * 40
        and Image.open(tmp_path / 'm.png').size[0] > 500
    )
    quick(album, tmp_path / 'm.pth', epochs=1, force=True)
    assert sorted(p.name for p in (tmp_path / 'm_epochs').iterdir()) == ['001.png']


def test_the_best_epoch_is_kept(album, tmp_path, monkeypatch, capsys):
    import colorize.train as module

    monkeypatch.setattr(module, 'best_epoch', lambda history: 1)
    _, history = quick(album, tmp_path / 'm.pth')
    assert 'Epoch 1 had the least validation loss' in capsys.readouterr().out
    best, last = load_model(tmp_path / 'm.best.pth'), load_model(tmp_path / 'm.pth')
    assert best.meta['validation'] == history[0] and last.meta['validation'] == history[1]
    assert any(not torch.equal(v, w) for v, w in zip(best.parameters(), last.parameters()))


def test_the_best_epoch_is_not_kept_twice(album, tmp_path, monkeypatch):
    import colorize.train as module

    monkeypatch.setattr(module, 'best_epoch', lambda history: history[-1]['epoch'])
    quick(album, tmp_path / 'm.pth')
    assert not (tmp_path / 'm.best.pth').exists()


def test_tensorboard(album, tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, history = quick(album, tmp_path / 'm.pth', log='tensorboard')
    events = EventAccumulator(str(tmp_path / 'm_tensorboard')).Reload()
    assert [e.value for e in events.Scalars('valid_loss')] == pytest.approx(
        [h['valid_loss'] for h in history], rel=1e-3
    )


def test_wandb(album, tmp_path, monkeypatch):
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    quick(album, tmp_path / 'm.pth', log='wandb')
    assert [*(tmp_path / 'm_wandb').rglob('run-*.wandb')]


def test_unknown_log(album, tmp_path):
    with pytest.raises(InputError, match="no log 'diary'"):
        quick(album, tmp_path / 'm.pth', log='diary')


def test_a_log_that_is_not_installed(album, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(InputError, match='pip install wandb'):
        quick(album, tmp_path / 'm.pth', log='wandb')


def test_the_finder_leaves_the_learner_as_it_was(album):
    learn, _ = prepare(album, batch_size=4, size=32, device='cpu')
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    with learn.no_bar():
        rate = find_rate(learn, 12)
    assert 1e-7 <= rate <= 10
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())


def two():
    return '-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0 --mixed_precision no --dynamo_backend no'.split()


def worker(rank):
    "The process id of one of the processes that a launcher started."
    for p in Path('/proc').glob('[0-9]*'):
        try:
            given = (p / 'environ').read_bytes().split(b'\0')
            if b'LOCAL_RANK=%d' % rank in given and b'COLORIZE_TEST=%d' % os.getpid() in given:
                return int(p.name)
        except OSError:
            pass


needs_accelerate = pytest.mark.skipif(
    find_spec('accelerate') is None or not Path('/proc').exists(),
    reason='needs accelerate, and finds its processes in /proc',
)


@needs_accelerate
def test_two_processes_give_the_curve_of_one(album, tmp_path):
    runs = [
        start(album, tmp_path / f'{k}.pth', '--size', '64', '--batch-size', '8', launcher=launcher)
        for k, launcher in enumerate(((), two()))
    ]
    wait_for(lambda: all(worker(rank) for rank in range(2)), runs[1])
    for run in runs:
        assert finish(run)[0] == 0
    one, both = (json.loads((tmp_path / f'{k}.json').read_text())['history'] for k in range(2))
    for a, b in zip(one, both, strict=True):
        assert b['train_loss'] == pytest.approx(a['train_loss'], rel=1e-4)
        for k in ('valid_loss', 'ab_error', 'cf', 'hist_distance'):
            assert b[k] == pytest.approx(a[k], rel=2e-3), k  # rounding has grown over the steps


@needs_accelerate
def test_a_lost_process_ends_the_run(album, tmp_path):
    out = tmp_path / 'm.pth'
    process = start(album, out, '--minutes', '0', launcher=two())
    wait_for(out.with_suffix('.ckpt').exists, process)
    os.kill(worker(1), signal.SIGKILL)
    code, said = finish(process, 60)
    assert code != 0 and not out.exists()
    assert (
        'Another process of this run has ended, so process 0 stops, too. Give the same command with resume'
        in said
    )
    code, said = finish(start(album, out, '--resume'))
    assert code == 0 and len(json.loads(out.with_suffix('.json').read_text())['history']) == EPOCHS


def test_processes_that_cannot_share(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '3')
    with pytest.raises(InputError, match='multiple of 3'):
        start_processes('cpu', 32)


@needs_accelerate
def test_machines_that_do_not_share_a_folder(album, tmp_path):
    "The second process sees no checkpoint, as on a machine with a disk of its own."
    script = tmp_path / 'run.py'
    script.write_text(
        "import os, sys\nfrom colorize.cli import app\napp(['train', *(a.replace('SIDE', os.environ['RANK']) for a in sys.argv[1:])])"
    )
    for side in '01':
        (tmp_path / side).mkdir()
    process = start(album, tmp_path / '0' / 'm.pth', '--minutes', '0')
    wait_for((tmp_path / '0' / 'm.ckpt').exists, process)
    process.kill()
    command = [
        sys.executable,
        '-W',
        'ignore',
        *two(),
        script,
        '--path-train',
        album,
        '--path-trained-model',
        tmp_path / 'SIDE' / 'm.pth',
        *OPTIONS,
        '--resume',
    ]
    said = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, timeout=180
    ).stderr
    assert 'The processes do not start from the same photos and checkpoint' in said


def test_resuming_with_other_settings(tmp_path):
    keep = Checkpoint(tmp_path / 'm.ckpt', dict(size=1))
    torch.save(dict(format=Checkpoint.format, settings=dict(size=2)), keep.path)
    with pytest.raises(InputError, match='size: 2 then, 1 now'):
        keep.read()
