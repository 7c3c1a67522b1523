"Training: whatever stops a run, it goes on and ends with the same weights; processes can share it."

import ast
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FORKS
from fastprogress.fastprogress import ProgressBar
from PIL import Image
from typer.testing import CliRunner

import colorize.callbacks
import colorize.runs
from colorize.callbacks import find_rate, reveal
from colorize.core import InputError, folder
from colorize.data import Batches
from colorize.runs import Checkpoint, check_same
from colorize.settings import (
    TrainSettings,
    as_line,
    check,
    describe_settings,
    may_begin,
    sample_run,
)
from colorize.train import prepare, train
from colorize.weights import load_model

EPOCHS, OPTIONS = 3, '--n-epochs 3 --batch-size 4 --size 32 --lr 0.0003 --device cpu'.split()

# ---- Runs in processes of their own, forked from one that has imported everything already.

PLACES = dict(
    step=(Checkpoint, 'after_batch'),  # a step is taken, and not yet recorded
    writing=(os, 'fsync'),  # a file is written, and not yet renamed
    journal=(colorize.runs, 'save_figure'),  # the history is written, the checkpoint is not
)


def hit_at(place, n, number=signal.SIGKILL):
    "Let a signal hit this process when it is in a place for the n-th time."
    owner, name = PLACES[place]
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == n:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def work(words, log, hit, disk, frozen, env):
    "What the process does: `colorize train`."
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.environ.update(env)
    torch.set_num_threads(1)
    if disk:
        resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    if hit:
        hit_at(*hit)
    if frozen:
        colorize.callbacks.freeze = freeze_norms
    from colorize.cli import app

    app(['train', *words])


class Run:
    "A process that trains."

    def __init__(self, album, out, *more, hit=None, disk=None, frozen=False, **env):
        words = ['--path-train', album, '--path-trained-model', out, *OPTIONS, *more]
        self.log = out.parent.parent / f'{out.parent.name}-{os.urandom(4).hex()}.log'
        args = [str(w) for w in words], str(self.log), hit, disk, frozen, env
        self.process = FORKS.Process(target=work, args=args)
        self.process.start()

    def end(self, seconds=180):
        "Exit code (below 0: by which signal) and all that was printed."
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        return self.process.exitcode, self.log.read_text() if self.log.exists() else ''


def finish(*args, **kwargs):
    code, text = Run(*args, **kwargs).end()
    assert code == 0, text
    return text


@pytest.fixture(scope='module')
def album(tmp_path_factory):
    "Twenty pictures of 64 px: four steps an epoch."
    root = tmp_path_factory.mktemp('album')
    for k in range(20):
        blocks = np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(blocks).resize((64, 64), Image.Resampling.BICUBIC)
        picture.save(root / f'{k:02}.png')
    return root


@pytest.fixture(scope='module')
def whole(album, tmp_path_factory):
    "The weights file of a run that nobody disturbed."
    finish(album, out := tmp_path_factory.mktemp('whole') / 'm.pth')
    return out


def same(a, b):
    a, b = ([p.read_bytes() for p in (x, x.with_suffix('.json'))] for x in (a, b))
    return a == b


def leftovers(root):
    return [p.name for p in root.iterdir() if p.suffix == '.ckpt' or p.name.startswith('.')]


def place_of(checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    return state['epoch'], state['batch']


def test_killed_at_many_places_it_ends_with_the_same_weights(album, whole, tmp_path):
    out, places = tmp_path / 'm.pth', []
    hits = [('step', 3), ('writing', 3), ('journal', 1), ('step', 4), ('writing', 2)]
    for hit in hits:  # with a checkpoint after every step
        code, text = Run(album, out, '--resume', '--minutes', '0', hit=hit).end()
        assert code == -signal.SIGKILL, text
        places.append(place_of(out.with_suffix('.ckpt')))
    assert places == sorted(places) and len(set(places)) >= 4 and any(b for _, b in places)
    out.write_bytes(whole.read_bytes())  # as if killed between weights and checkpoint's end
    assert 'Going on in epoch' in finish(album, out, '--resume')
    assert same(out, whole) and not leftovers(tmp_path)


def test_killed_before_the_first_epoch_is_kept(album, whole, tmp_path):
    "The journal is written, its checkpoint is not."
    code, text = Run(album, out := tmp_path / 'm.pth', hit=('journal', 1)).end()
    assert code == -signal.SIGKILL and out.with_suffix('.json').exists(), text
    assert place_of(out.with_suffix('.ckpt')) == (0, 0)
    finish(album, out, '--resume')
    assert same(out, whole) and not leftovers(tmp_path)


def test_asked_to_stop_it_leaves_a_checkpoint(album, whole, tmp_path):
    "By one signal, and, when it goes on, by the other."
    out = tmp_path / 'm.pth'
    for epoch, hit in enumerate([('step', 3, signal.SIGINT), ('step', 4, signal.SIGTERM)]):
        code, text = Run(album, out, '--resume', hit=hit).end()
        assert code == 130 and f'Stopped in epoch {epoch + 1}, after batch' in text
        assert '--resume' in text and 'Traceback' not in text
        at, batch = place_of(out.with_suffix('.ckpt'))
        assert at == epoch and batch
    finish(album, out, '--resume')
    assert same(out, whole) and not leftovers(tmp_path)


def test_a_full_disk(album, whole, tmp_path):
    out, full = tmp_path / 'm.pth', dict(disk=2**24)
    code, text = Run(album, out, **full).end()  # before any work
    assert code == 1 and 'm.ckpt cannot be written' in text and 'Epoch' not in text
    assert not [*tmp_path.iterdir()]
    Run(album, out, hit=('step', 1)).end()
    before = out.with_suffix('.ckpt').read_bytes()
    code, text = Run(album, out, '--resume', '--minutes', '0', **full).end()
    assert code == 1 and 'm.ckpt cannot be written' in text and 'make room' in text
    assert 'Traceback' not in text and not out.exists()
    assert out.with_suffix('.ckpt').read_bytes() == before
    finish(album, out, '--resume')
    assert same(out, whole)


# ---- Several processes

needs_accelerate = pytest.mark.skipif(find_spec('accelerate') is None, reason='needs accelerate')


def two(album, outs, *more, hits=(None, None), **options):
    "Two processes of one run, as a launcher would start them."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = str(s.getsockname()[1])
    common = dict(WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    return [
        Run(album, out, *more, hit=hit, RANK=str(k), LOCAL_RANK=str(k), **common, **options)
        for k, (out, hit) in enumerate(zip(outs, hits))
    ]


def freeze_norms(net):
    "What differs between one process and two: batch norms that see half of a batch."
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.requires_grad_(False)


@needs_accelerate
def test_two_processes_give_the_curve_of_one(album, tmp_path):
    "With batch norms that stay as they are: the same batches, gradients and averages."
    options = '--size 64 --batch-size 8 --quick'.split()
    one, both = tmp_path / 'one.pth', tmp_path / 'both.pth'
    runs = [Run(album, one, *options, frozen=True)]
    for run in runs + two(album, [both, both], *options, frozen=True):
        code, text = run.end()
        assert code == 0, text
    one, both = (json.loads(p.with_suffix('.json').read_text())['history'] for p in (one, both))
    for a, b in zip(one, both, strict=True):
        assert b['train_loss'] == pytest.approx(a['train_loss'], rel=1e-4)
        for k in ('valid_loss', 'ab_error', 'cf', 'hist_distance'):
            assert b[k] == pytest.approx(a[k], rel=2e-3), k  # rounding has grown over the steps


@needs_accelerate
def test_the_launcher(album, whole, tmp_path):
    "The command of docs/training.md, with two processes: nearly the same curve, by batch norm."
    page = Path(__file__).parent.parent / 'docs' / 'training.md'
    typed = re.search(r'^accelerate (launch .*) -m colorize train', page.read_text(), re.M)[1]
    launch = typed.replace('--num_processes 8', '--num_processes 2')
    launch += ' --num_machines 1 --main_process_port 0 --mixed_precision no --dynamo_backend no'
    words = [sys.executable, '-W', 'ignore', '-m', *f'accelerate.commands.{launch}'.split()]
    words += ['-m', 'colorize', 'train', '--path-train', album]
    words += ['--path-trained-model', tmp_path / 'm.pth', *OPTIONS]
    env, words = os.environ | dict(OMP_NUM_THREADS='1'), [str(w) for w in words]
    result = subprocess.run(words, capture_output=True, text=True, env=env, timeout=240)
    assert result.returncode == 0, result.stderr
    assert load_model(tmp_path / 'm.pth').meta['batch_size'] == 4
    logs = whole.with_suffix('.json'), tmp_path / 'm.json'
    histories = [json.loads(p.read_text())['history'] for p in logs]
    for a, b in zip(*histories, strict=True):
        assert b['train_loss'] == pytest.approx(a['train_loss'], rel=0.1)


@needs_accelerate
def test_a_lost_process_ends_the_run(album, tmp_path):
    out = tmp_path / 'm.pth'
    first, second = two(album, [out, out], '--minutes', '0', hits=(None, ('step', 3)))
    assert second.end()[0] == -signal.SIGKILL
    code, text = first.end(60)
    assert code == 1 and not out.exists()
    words = 'Another process of this run has ended, so process 0 stops, too. Give the same command'
    assert words in text
    finish(album, out, '--resume')
    assert len(json.loads(out.with_suffix('.json').read_text())['history']) == EPOCHS


@needs_accelerate
def test_machines_that_do_not_share_a_folder(album, tmp_path):
    "The second process sees no checkpoint, as on a machine with a disk of its own."
    outs = [tmp_path / side / 'm.pth' for side in '01']
    for out in outs:
        out.parent.mkdir()
    Run(album, outs[0], hit=('step', 2)).end()
    for run in two(album, outs, '--resume'):
        code, text = run.end()
        assert code == 1
        assert 'The processes do not start from the same photos and checkpoint' in text


# ---- Runs in this process


def quick(album, out, **settings):
    usual = dict(epochs=2, steps=2, batch_size=4, size=32, lr=3e-4, device='cpu')
    return train(dataset=album, path_trained_model=out, **dict(usual, **settings))


def stop_early(album, out, monkeypatch, **settings):
    "A run that is asked to stop after its first step."
    go_on = Checkpoint.after_batch

    def ask(self):
        if self.training:
            self.stop_requests.append('stop')
        go_on(self)

    with monkeypatch.context() as m:
        m.setattr(Checkpoint, 'after_batch', ask)
        with pytest.raises(KeyboardInterrupt, match='Stopped in epoch 1, after batch 1'):
            quick(album, out, **settings)


def copied(album, root):
    (copy := root / 'album').mkdir()
    for p in album.iterdir():
        (copy / p.name).write_bytes(p.read_bytes())
    return copy


def test_a_loss_that_is_no_number(album, tmp_path, monkeypatch):
    make, out = Batches.make, tmp_path / 'm.pth'

    def poisoned(self, rgb, g):
        L, ab = make(self, rgb, g)
        return (L * float('nan') if self.train and self.epoch == 1 else L), ab

    quick(album, tmp_path / 'good.pth')
    monkeypatch.setattr(Batches, 'make', poisoned)
    words = '^The loss became nan in epoch 2, batch 1: go on from the last checkpoint with a lower'
    with pytest.raises(InputError, match=words):
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
    real, out, taken = torch.optim.AdamW.step, tmp_path / 'm.pth', []

    def spoil(self, *args, **kwargs):
        taken.append(1)
        if len(taken) == 2 * epoch + 2:
            self.param_groups[0]['params'][0].grad.fill_(float('nan'))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, 'step', spoil)
    words = f'^The weights became infinite in epoch {epoch + 1}, batch 2: '
    with pytest.raises(InputError, match=words):
        quick(album, out)
    assert (tmp_path / 'm.best.pth').exists() == bool(epoch)
    monkeypatch.undo()
    state = torch.load(out.with_suffix('.ckpt'), weights_only=True)
    assert state['epoch'] == epoch and all(v.isfinite().all() for v in state['model'].values())
    assert len(quick(album, out, resume=True, lr=1e-4)[1]) == 2


def test_a_validation_that_is_no_number(album, tmp_path, monkeypatch):
    "Finite weights may be wild enough for it."
    make, out = Batches.make, tmp_path / 'm.pth'

    def poisoned(self, rgb, g):
        return tuple(x * (1 if self.train else float('nan')) for x in make(self, rgb, g))

    with monkeypatch.context() as m:
        m.setattr(Batches, 'make', poisoned)
        words = '^The validation loss became nan in epoch 1, batch 2: '
        with pytest.raises(InputError, match=words):
            quick(album, out)
    assert [p.name for p in tmp_path.iterdir()] == ['m.ckpt']
    assert len(quick(album, out, resume=True, lr=1e-4)[1]) == 2


@pytest.mark.parametrize('change', ['half of them are gone', 'others come last'])
def test_photos_that_change(album, tmp_path, monkeypatch, capsys, change):
    copy = copied(album, tmp_path)
    stop_early(copy, tmp_path / 'm.pth', monkeypatch)
    photos = sorted(copy.iterdir())
    for p in photos[::2] if 'half' in change else photos[:5]:
        p.unlink() if 'half' in change else p.rename(copy / f'z{p.name}')
    assert len(quick(copy, tmp_path / 'm.pth', resume=True)[1]) == 2
    assert 'the photos changed' in capsys.readouterr().out


def test_a_run_that_was_stopped_is_not_lost_by_forgetting_resume(album, tmp_path, monkeypatch):
    stop_early(album, out := tmp_path / 'm.pth', monkeypatch)
    before = out.with_suffix('.ckpt').read_bytes()
    words = 'm.ckpt is the checkpoint of a run that has not ended: go on with resume'
    with pytest.raises(InputError, match=words):
        quick(album, out)
    with pytest.raises(InputError, match=r'other settings \(path_val'):
        quick(album, out, resume=True, path_val=str(album))
    assert out.with_suffix('.ckpt').read_bytes() == before
    assert len(quick(album, out, force=True)[1]) == 2


@pytest.mark.parametrize('name', ['m.png', 'm.json', 'm.best.pth', 'm_epochs/001.png'])
def test_nothing_beside_is_replaced(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('mine')
    with pytest.raises(InputError, match='exists already'):
        may_begin(TrainSettings(path_trained_model=str(tmp_path / 'm.pth')))
    assert (tmp_path / name).read_text() == 'mine'


@pytest.mark.parametrize('name', ['m.ckpt', 'm.json', 'm.v2', 'm'])
def test_weights_files_end_in_pth(tmp_path, name):
    with pytest.raises(InputError, match='ends in .pth'):
        may_begin(TrainSettings(path_trained_model=str(tmp_path / name)))


def test_killed_while_the_journal_is_written(album, tmp_path, monkeypatch):
    "The best weights are still those of the best epoch, whatever was written before."
    draw = colorize.runs.draw_history

    def die(history):
        if len(history) == 2:
            raise KeyboardInterrupt
        return draw(history)

    def best(history):
        return min(len(history), 2)

    for module in ('runs', 'train'):
        monkeypatch.setattr(f'colorize.{module}.best_epoch', best)
    with monkeypatch.context() as m:
        m.setattr(colorize.runs, 'draw_history', die)
        with pytest.raises(KeyboardInterrupt):
            quick(album, tmp_path / 'm.pth', epochs=3)
    quick(album, tmp_path / 'm.pth', epochs=3, resume=True)
    assert load_model(tmp_path / 'm.best.pth').meta['validation']['epoch'] == 2
    names = sorted(p.name for p in (tmp_path / 'm_epochs').iterdir())
    assert names == ['001.png', '002.png', '003.png']


def test_resuming_what_is_finished(album, whole):
    def ask(*more):
        words = ['train', '--path-trained-model', str(whole), *OPTIONS, '--resume', *more]
        return CliRunner().invoke(app, words)

    from colorize.cli import app

    before = whole.read_bytes()
    result = ask()
    assert result.exit_code == 0 and 'is finished' in result.output
    result = ask('--n-epochs', str(EPOCHS + 1))
    assert result.exit_code == 1 and '--init' in result.output
    assert f'is finished after {EPOCHS} epochs' in result.output
    assert whole.read_bytes() == before


LIGHT = dict(quick=True, bf16=True, stride=8, zoom=1, context=2)


def test_quick_leaves_the_costly_parts_as_they_are(album, tmp_path):
    learn, _ = quick(album, tmp_path / 'm.pth', ema_decay=0, epochs=1, **LIGHT)
    before, after = load_model().state_dict(), learn.model.state_dict()
    floats = [k for k, v in after.items() if v.dtype.is_floating_point and k in before]
    unchanged = {k for k in floats if torch.equal(before[k], after[k])}
    encoder = 'conv_stem.weight', 'blocks.1.0.conv_pw.weight', 'blocks.5.0.conv_dw.weight'
    assert unchanged.issuperset(f'encoder.{k}' for k in encoder)
    assert 'encoder.blocks.5.0.bn1.running_mean' in unchanged
    learned = ['encoder.blocks.2.0.conv_pw.weight', 'decoder.0.convs.0.0.weight']
    learned += ['decoder.0.convs.0.1.running_mean', 'head.conv.weight']
    assert unchanged.isdisjoint(learned)


def test_light_training_resumes_as_if_never_stopped(album, tmp_path, monkeypatch):
    "And each batch reveals other cells."
    shown = []

    def watched(*args):
        shown.append(reveal(*args))
        return shown[-1]

    out = tmp_path / 'm.pth'
    with monkeypatch.context() as m:
        m.setattr('colorize.callbacks.reveal', watched)
        quick(album, tmp_path / 'whole.pth', **LIGHT)
    assert len(shown) == len({m.numpy().tobytes() for m in shown}) == 4
    stop_early(album, out, monkeypatch, **LIGHT)
    quick(album, out, resume=True, **LIGHT)
    assert same(out, tmp_path / 'whole.pth')


def test_the_bar_goes_on_where_the_epoch_was_left(album, tmp_path, monkeypatch, capsys):
    "And the folder may be typed in another way."
    out, shown = tmp_path / 'm.pth', []
    stop_early(album, out, monkeypatch)
    update = ProgressBar.update
    monkeypatch.setattr(ProgressBar, 'update', lambda self, n: (shown.append(n), update(self, n)))
    monkeypatch.chdir(album.parent)
    assert len(quick(f'./{album.name}/', out, resume=True)[1]) == 2
    assert next(filter(None, shown)) == 2  # one of two steps was done before
    text = capsys.readouterr().out
    assert 'Going on in epoch 1, after batch 1' in text and 'changed' not in text


def test_folders_can_be_drawn_less_often(album, tmp_path, capsys):
    quick(album, tmp_path / 'm.pth', steps=0, epochs=1, shares=f'{album.name}: 0.5')
    assert 'Training on 17 photos, 8 crops an epoch' in capsys.readouterr().out
    with pytest.raises(InputError, match='no photo is in such a folder'):
        quick(album, tmp_path / 'n.pth', shares='nowhere: 0.5')


@pytest.mark.parametrize('name', ['m', 'a name of more than forty characters, as people give'])
def test_nothing_half_written_stays(album, tmp_path, monkeypatch, name):
    stop_early(album, out := tmp_path / f'{name}.pth', monkeypatch, loss='l2')
    photos = out.with_name(f'{name}_epochs')
    photos.mkdir()
    paths = [out.with_suffix(s) for s in ('.ckpt', '.best.pth', '.json')]
    for p in (*paths, photos / '001.png'):
        (p.parent / f'.{p.stem[:40]}-a1b2c3d4{p.suffix}').write_text('half')
    quick(album, out, resume=True, loss='l2', epochs=2)
    assert not list(tmp_path.rglob('.*'))


def test_a_date_for_a_seed():
    batches = Batches(np.zeros((4, 16, 16, 3), np.uint8), 2, 16, seed=20261124)
    assert len(next(iter(batches))) == 2


def test_what_a_run_leaves(album, tmp_path):
    learn, history = quick(album, tmp_path / 'm.pth', epochs=3)
    assert json.loads((tmp_path / 'm.json').read_text())['history'] == history
    names = sorted(p.name for p in (tmp_path / 'm_epochs').iterdir())
    assert names == ['001.png', '002.png', '003.png']
    assert Image.open(tmp_path / 'm_epochs' / '001.png').size[1] == 3 * 40
    assert Image.open(tmp_path / 'm.png').size[0] > 500
    learn.model.requires_grad_(True)  # the Learner is free afterwards
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    assert not (tmp_path / 'm.ckpt').exists()
    quick(album, tmp_path / 'm.pth', epochs=1, force=True)
    assert [p.name for p in (tmp_path / 'm_epochs').iterdir()] == ['001.png']


@pytest.mark.parametrize('best', [1, 2])
def test_the_best_epoch_is_kept_if_it_is_not_the_last(album, tmp_path, monkeypatch, capsys, best):
    for module in ('runs', 'train'):
        monkeypatch.setattr(f'colorize.{module}.best_epoch', lambda h: min(best, len(h)))
    _, history = quick(album, tmp_path / 'm.pth')
    text = capsys.readouterr().out
    assert (tmp_path / 'm.best.pth').exists() == (best == 1)
    assert ('Epoch 1 had the least validation loss' in text) == (best == 1)
    if best == 1:
        first, last = load_model(tmp_path / 'm.best.pth'), load_model(tmp_path / 'm.pth')
        assert first.meta['validation'] == history[0] and last.meta['validation'] == history[1]
        assert any(not torch.equal(v, w) for v, w in zip(first.parameters(), last.parameters()))


def test_tensorboard(album, tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, history = quick(album, tmp_path / 'm.pth', log='tensorboard')
    events = EventAccumulator(str(tmp_path / 'm_tensorboard')).Reload()
    values = [e.value for e in events.Scalars('valid_loss')]
    assert values == pytest.approx([h['valid_loss'] for h in history], rel=1e-3)


def test_wandb(album, tmp_path, monkeypatch):
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    quick(album, tmp_path / 'm.pth', log='wandb')
    assert [*(tmp_path / 'm_wandb').rglob('run-*.wandb')]


def test_a_log_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(InputError, match='pip install wandb'):
        check(TrainSettings(log='wandb'))


def test_the_finder_leaves_the_learner_as_it_was(album):
    s = TrainSettings(dataset=str(album), batch_size=4, size=32, device='cpu')
    learn, _ = prepare(s)
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    with learn.no_bar():
        rate = find_rate(learn, 12)
    assert 1e-7 <= rate <= 10
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())


def test_resuming_with_other_settings(tmp_path):
    with pytest.raises(InputError, match='size: 2 then, 1 now'):
        check_same(tmp_path / 'm.ckpt', dict(size=2), dict(size=1))


def test_kid_needs_someone_to_measure_it(tmp_path):
    with pytest.raises(InputError, match='kid_every needs'):
        train(path_trained_model=str(tmp_path / 'm.pth'), kid_every=1)


# ---- Settings are declared once


@pytest.fixture
def parameters_cell():
    path = Path(__file__).parent.parent / 'nbs' / '03_train.ipynb'
    cells = json.loads(path.read_text())['cells']
    cell = next(c for c in cells if 'parameters' in c['metadata'].get('tags', []))
    return ''.join(cell['source'])


def test_the_notebooks_parameters_are_the_settings(parameters_cell):
    "Names, types, values of the sample's run, and comments."
    own = 'run', 'repeat', 'find_lr'
    lines = [x for x in parameters_cell.splitlines() if x.split(':')[0] not in own]
    sample = [s._replace(default=sample_run.get(s.name, s.default)) for s in describe_settings()]
    assert lines == [as_line(s) for s in sample]
    names = {node.target.id for node in ast.parse(parameters_cell).body}
    assert names == {s.name for s in sample} | {*own}


def test_every_setting_is_described():
    assert all(s.help and s.type in (str, int, float, bool) for s in describe_settings())
    assert all(type(s.default) is s.type for s in describe_settings())


@pytest.mark.parametrize('name', ['epochs', 'batch_size', 'lr', 'size', 'crops'])
@pytest.mark.parametrize('value', [0, -1, float('nan'), float('inf')])
def test_numbers_above_zero(name, value):
    with pytest.raises(InputError, match=f'{name} is {value}: it must be above 0'):
        check(TrainSettings(**{name: value}))


def test_the_models_of_the_project_are_where_they_were():
    assert may_begin(TrainSettings(force=True)).weights == folder('trained_model', 'mine.pth')
