"Folder against folder: what is compared, what is left out, what is written, what is refused."

import csv, hashlib, json, os, re
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from colorize import folders, networks
from colorize.cli import app
from colorize.core import InputError, shipped_model
from colorize.data import sample_photos
from colorize.folders import evaluate_folders, in_memory, pair_files, photos_of
from colorize.lab import rgb_to_lab
from colorize.metrics import Lazy, recolor
from colorize.networks import Cache
from colorize.tables import Judges, evaluation_set
from conftest import FORKS, fill, picture
from test_cli import say, tree

NONE = Judges()


@pytest.fixture(autouse=True)
def closed():
    yield
    from matplotlib import pyplot

    pyplot.close('all')


@pytest.fixture
def here(tmp_path, monkeypatch):
    "A folder outside of the checkout, on a machine without networks."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        folders, 'default_cache', lambda: tmp_path.parent / f'{tmp_path.name}.sqlite'
    )
    monkeypatch.setattr(folders, 'all_judges', lambda *_: (NONE, []))
    return tmp_path


def written(out):
    return json.loads((out / 'metrics.json').read_text())


# Which photo belongs to which


@pytest.mark.parametrize(
    'a, b, pairs, lonely, strange',
    [
        ('1.jpg 2.png', '1.png 2.webp', '1.jpg=1.png 2.png=2.webp', '', ''),  # the suffix differs
        ('x/1.jpg 1.jpg', 'x/1.png y/1.png', 'x/1.jpg=x/1.png', '1.jpg', 'y/1.png'),  # nested
        (
            '2.jpg 2.png',
            '2.jpg 2.png',
            '2.jpg=2.jpg 2.png=2.png',
            '',
            '',
        ),  # only the suffix differs
        (
            '2.jpg 2.png 3.png',
            '2.png 3.png',
            '3.png=3.png',
            '2.jpg 2.png',
            '2.png',
        ),  # which of the two?
        ('1.png 2.png 3.png', '2.png 4.png', '2.png=2.png', '1.png 3.png', '4.png'),
        ('1.png 2.png', 'a.png', '', '1.png 2.png', 'a.png'),
        ('a.b.png A.png', 'a.png a.b.jpg', 'a.b.png=a.b.jpg', 'A.png', 'a.png'),
    ],
)
def test_pairs(tmp_path, a, b, pairs, lonely, strange):
    for root, names in ((tmp_path / 'a', a), (tmp_path / 'b', b)):
        for n in names.split():
            (root / n).parent.mkdir(parents=True, exist_ok=True)
            (root / n).touch()
    if len({p.name for p in (tmp_path / 'a').iterdir()}) < len(
        {n.split('/')[0] for n in a.split()}
    ):
        pytest.skip('names here do not tell A from a')
    outcome = pair_files(tmp_path / 'a', tmp_path / 'b')

    def name(path, side):
        return path.relative_to((tmp_path / side).resolve()).as_posix()

    assert [f'{name(x, "a")}={name(y, "b")}' for x, y in outcome[0]] == pairs.split()
    assert [name(p, 'a') for p in outcome[1]] == lonely.split() and [
        name(p, 'b') for p in outcome[2]
    ] == strange.split()


def test_without_pairs(here):
    "No name agrees: the figures of collections, and none of pairs."
    fill(here / 'real', *(f'{k}.png' for k in range(5)))
    fill(here / 'made', *(f'x{k}.png' for k in range(4)), first=3)
    result = say('evaluate real made -o out')
    assert (
        result.exit_code == 0 and 'No names match: 5 true and 4 generated photos' in result.stdout
    )
    outcome = written(here / 'out')
    ours = outcome['metrics']['generated']
    assert (
        not outcome['paired']
        and ours['n'] == 4
        and 0 < ours['hist_distance'] < 1
        and {'cf', 'cf_delta'} <= ours.keys()
    )
    assert not {'ab_error', 'psnr', 'de2000', 'coherence'} & {
        k for k, v in ours.items() if v is not None
    }
    equal = outcome['metrics_at_equal_colorfulness']['generated']
    assert (
        equal['cf'] == pytest.approx(outcome['metrics']['truth']['cf'], rel=0.01)
        and equal['chroma'] > 0
        and equal['hist_distance'] > 0
    )


@pytest.mark.parametrize('side', ['real', 'made'])
def test_gray_photos(here, side):
    "A gray truth is no truth and is left out; a gray result stays, with pairs and without."
    gray = ['1.png', '3.png']
    for prefix, out in (('', 'pairs'), ('x', 'sets')):
        real = fill(
            here / out / 'real',
            *(f'{k}.png' for k in range(5)),
            gray=gray if side == 'real' else [],
        )
        generated = fill(
            here / out / 'made',
            *(f'{prefix}{k}.png' for k in range(5)),
            gray=[prefix + g for g in gray] if side == 'made' else [],
            first=9,
        )
        outcome = evaluate_folders(real, generated, here / out / 'out', floors='none', judges=NONE)
        if side == 'real':
            assert [
                name for name, why in outcome['left_out'] if 'gray' in why or 'gray' in why
            ] == gray and outcome['n'] == 3
        else:
            assert (
                outcome['left_out'] == []
                and outcome['metrics']['generated']['n'] == 5
                and '2 of the generated photos are gray.' in outcome['notes']
            )


# What cannot be used


def test_everything_is_accounted_for(here):
    "Used, left out with a reason, or without a partner: on the screen and in the JSON."
    real = fill(
        here / 'real',
        *(
            f'{n}.png'
            for n in ('ok1', 'ok2', 'ok3', 'gray', 'torn', 'torn2', 'wide', 'tiny', 'lonely')
        ),
        gray=['gray.png'],
    )
    generated = fill(
        here / 'made',
        *(
            f'{n}.png'
            for n in ('ok1', 'ok2', 'ok3', 'gray', 'torn', 'torn2', 'wide', 'tiny', 'strange')
        ),
        gray=['ok3.png'],
        first=20,
    )
    for p in (real / 'torn.png', generated / 'torn2.png'):
        p.write_bytes(p.read_bytes()[:70])
    picture(3, (72, 36)).save(generated / 'wide.png')
    for root in (real, generated):
        picture(4, (7, 6)).save(root / 'tiny.png')
    result = say('evaluate real made -o out --floors gray')
    assert result.exit_code == 0, result.output
    outcome = written(here / 'out')
    reasons = dict(outcome['left_out'])
    assert reasons.keys() == {
        'gray.png',
        'torn.png',
        'torn2.png',
        'wide.png',
        'tiny.png',
        'lonely.png',
        'strange.png',
    }
    for name, part in {
        'gray': 'near-gray',
        'torn': 'real/torn.png is damaged',
        'torn2': 'made/torn2.png is damaged',
        'wide': '48x36 and 72x36',
        'tiny': 'smaller than 32',
        'lonely': 'no photo of its name',
        'strange': 'no photo of its name',
    }.items():
        assert re.search(part, reasons[f'{name}.png']) and re.search(
            rf'{name}\.png.*{part}', result.stdout
        ), name
    assert (
        outcome['n'] == outcome['metrics']['generated']['n'] == outcome['metrics']['gray']['n'] == 3
    )
    assert '1 of the generated photos is gray.' in outcome['notes']
    assert all(note in result.stdout for note in outcome['notes'])
    with open(here / 'out' / 'photos.csv') as f:
        rows = list(csv.DictReader(f))
    assert [Path(r['photo']).stem for r in rows] == ['ok1', 'ok2', 'ok3'] and len(
        outcome['per_photo']
    ) == 3
    for key in ('ab_error', 'psnr', 'cf'):
        assert np.mean([float(r[key]) for r in rows]) == pytest.approx(
            outcome['metrics']['generated'][key], abs=1e-3
        )
    assert {p.name for p in (here / 'out').iterdir()} == {
        'metrics.json',
        'photos.csv',
        'worst.png',
        'spread.png',
    }


def test_photos_of_one_name_are_told_apart(here):
    real, generated = (
        fill(
            here / d,
            'p/1.png',
            'q/1.png',
            'q/2.png',
            'r/1.png',
            gray=['q/1.png'] if d == 'real' else (),
            first=k,
        )
        for k, d in enumerate(('real', 'made'))
    )
    outcome = evaluate_folders(real, generated, here / 'out', floors='none', judges=NONE)
    with open(here / 'out' / 'photos.csv') as f:
        assert [r['photo'] for r in csv.DictReader(f)] == ['p/1.png', 'q/2.png', 'r/1.png']
    assert [name for name, _ in outcome['left_out']] == ['q/1.png']


# What is compared


def test_mixed_sizes_and_formats_are_stated(here):
    real, generated = (
        fill(here / 'real', '1.png', '2.png'),
        fill(here / 'made', '1.jpg', '2.webp', size=(44, 33)),
    )
    picture(1, (96, 72)).save(real / '2.png')
    outcome = evaluate_folders(real, generated, here / 'out', floors='none', judges=NONE)
    notes = ' '.join(outcome['notes'])
    assert (
        'True photos: 2 png, 48x36 to 96x72 px.' in notes
        and '1 jpg, 1 webp, 44x33 to 44x33 px.' in notes
        and 'keep PNG' in notes
    )
    assert 'keep PNG' not in ' '.join(
        evaluate_folders(generated, real, here / 'out2', floors='none', judges=NONE)['notes']
    )


def test_pairs_are_brought_to_one_size(here):
    picture(1, (48, 36)).save(here / 'small.png')
    picture(1, (96, 72)).save(here / 'large.png')
    picture(1, (2100, 700)).save(here / 'huge.png')
    files = [
        (here / 'small.png', here / 'large.png'),
        (here / 'huge.png', here / 'huge.png'),
        (here / 'small.png', None),
    ]
    for pairs, shape in (
        (files[:1], (36, 48, 3)),
        ([files[0][::-1]], (36, 48, 3)),
        (files[1:2], (341, 1024, 3)),
    ):
        assert photos_of(pairs, 0)[0].shape == photos_of(pairs, 1)[0].shape == shape
    assert photos_of(files, 0, 24)[0].shape == photos_of(files, 1, 24)[0].shape == (24, 24, 3)
    assert np.array_equal(photos_of(files[2:], 0)[0], np.asarray(Image.open(here / 'small.png'))), (
        'nothing to reduce: pixels as they are'
    )


def test_same_photos_are_no_distance_apart(here, toy):
    real = fill(here / 'real', *(f'{k}.png' for k in range(6)))
    ours = evaluate_folders(
        real, real, here / 'out', floors='none', judges=Judges(toy(), None, toy(2.0))
    )['metrics']['generated']
    for key in ('fid', 'kid', 'ab_error', 'de2000', 'hist_distance', 'cf_gap', 'cf_delta'):
        assert ours[key] == pytest.approx(0, abs=1e-4), key
    assert (ours['psnr'], ours['ssim'], ours['auc'], ours['auc_balanced'], ours['top1']) == (
        100,
        1,
        1,
        1,
        1,
    )


def test_floors_stand_beside(here, toy):
    real, generated = (
        fill(here / d, *(f'{k}.png' for k in range(4)), first=k)
        for k, d in enumerate(('real', 'made'))
    )
    outcome = evaluate_folders(real, generated, here / 'out', judges=Judges(toy()))
    assert (
        list(outcome['metrics'])
        == [
            'generated',
            'gray',
            'mean ab',
            'lookup',
            'other',
            'half chroma',
            'real halves',
            'truth',
        ]
        == list(outcome['table'].columns)
    )
    assert (
        outcome['metrics']['gray']['cf'] == pytest.approx(0, abs=1)
        and outcome['metrics']['real halves']['n'] == 2
        and 'ab_error'
        not in {k for k, v in outcome['metrics']['real halves'].items() if v is not None}
    )
    assert all(r['fid'] > 0 for name, r in outcome['metrics'].items() if name != 'truth')
    assert outcome['metrics']['truth'].keys() == {'n', 'cf', 'cf_abs', 'hue_entropy'}, (
        'these blocks are too small to have coherence'
    )
    assert any(re.match('N = 4 is under 2048: .*biased.*read KID', n) for n in outcome['notes'])
    assert not any(
        '2048' in n
        for n in evaluate_folders(real, generated, here / 'out2', floors='none', judges=NONE)[
            'notes'
        ]
    ), 'there is no FID here'


def scenes(root, *names, factor=1.0):
    "Sample photos of 96 px, their chroma multiplied."
    root.mkdir(parents=True)
    for name, rgb in zip(names, evaluation_set(sample_photos(), 96)[0]):
        Image.fromarray(recolor(rgb, factor * rgb_to_lab(rgb)[..., 1:])).save(root / name)
    return root


def test_at_equal_colorfulness(here, toy):
    "Half of the truth's chroma, doubled, is the truth; networks see that too; gray has no row."
    names = [f'{k}.png' for k in range(5)]
    real, generated = scenes(here / 'real', *names), scenes(here / 'made', *names, factor=0.5)
    outcome = evaluate_folders(real, generated, here / 'out', judges=Judges(toy()))
    as_it_comes, equal = outcome['metrics'], outcome['metrics_at_equal_colorfulness']
    assert (
        list(equal)
        == ['generated', 'mean ab', 'lookup', 'other', 'half chroma']
        == list(outcome['equal'].columns)
    )
    assert equal['generated']['chroma'] == pytest.approx(2, abs=0.05)
    for row in equal.values():
        assert row['cf'] == pytest.approx(as_it_comes['truth']['cf'], rel=0.01)
    for key in ('ab_error', 'fid', 'kid'):
        assert equal['generated'][key] < 0.1 * as_it_comes['generated'][key], key
    assert as_it_comes['generated']['coherence'] < 0.7 * as_it_comes['truth']['coherence']
    assert equal['generated']['coherence'] == pytest.approx(
        as_it_comes['truth']['coherence'], rel=0.05
    )
    assert written(here / 'out')['metrics_at_equal_colorfulness'] == equal


def test_equal_colorfulness_on_the_screen(here):
    scenes(here / 'real', *(f'{k}.png' for k in range(3)))
    scenes(here / 'pale', *(f'{k}.png' for k in range(3)), factor=0.5)
    scenes(here / 'gray', *(f'{k}.png' for k in range(3)), factor=0)
    result = say('evaluate real pale -o out --floors none')
    assert result.exit_code == 0 and re.search(
        r'^chroma factor +(1\.9\d|2\.0\d)$', result.stdout, re.M
    ), result.output
    assert re.search(r'^coherence +\d+\.\d \[', result.stdout, re.M)
    result = say('evaluate real gray -o out2 --floors gray')
    assert (
        result.exit_code == 0
        and 'chroma factor' not in result.stdout
        and written(here / 'out2')['metrics_at_equal_colorfulness'] == {}
    )


def test_photos_without_one_colour_are_empty_cells(here):
    "NaN is no JSON: null there, an empty cell in the table."
    for root in ('real', 'made'):
        scenes(here / root, *(f'{k}.png' for k in range(3)), factor=1 if root == 'real' else 0.5)
        for k in (8, 9):
            Image.fromarray(
                np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            ).save(here / root / f'{k}.png')
    evaluate_folders(here / 'real', here / 'made', here / 'out', floors='none', judges=NONE)
    text = (here / 'out' / 'metrics.json').read_text()
    assert 'NaN' not in text and json.loads(text)['metrics']['generated']['coherence'] > 0
    assert [row['coherence'] is None for row in json.loads(text)['per_photo']][-2:] == [True, True]
    with open(here / 'out' / 'photos.csv') as f:
        assert [row['coherence'] for row in csv.DictReader(f)][-2:] == ['', '']


@pytest.mark.parametrize(
    'names', ['0.png 1.png 2.png 3.png 4.png', 'a.png b.png c.png d.png e.png']
)
def test_at_most_n(here, names):
    "The same few in whatever order, with pairs and without."
    real, generated = (
        fill(here / 'real', *(f'{k}.png' for k in range(5))),
        fill(here / 'made', *names.split(), first=4),
    )
    outcome = evaluate_folders(real, generated, here / 'out', floors='none', n=3, judges=NONE)
    assert outcome['n'] == outcome['metrics']['generated']['n'] == 3


def test_memory_is_bounded_by_bytes():
    "However small the first photo is."
    sizes = [8] + [1024] * 300
    assert isinstance(in_memory(Lazy(sizes[1:4], lambda s: np.zeros((s, s, 3), np.uint8))), list)
    assert not isinstance(
        in_memory(Lazy(sizes, lambda s: np.zeros((s, s, 3), np.uint8)), limit=8e6), list
    )


# Twice the same


def test_two_runs_the_same_bytes(here, toy):
    real, generated = (
        fill(here / d, *(f'{k}.png' for k in range(5)), first=k)
        for k, d in enumerate(('real', 'made'))
    )
    judges = Judges(toy(cache=Cache(here / 'c.sqlite')))
    for out in ('one', 'two'):
        evaluate_folders(real, generated, here / out, floors='other', judges=judges)
    evaluate_folders(real, generated, here / 'three', floors='other', judges=Judges(toy()))
    evaluate_folders(real, generated, here / 'four', floors='other', judges=judges, seed=1)
    one, *others = (tree(here / out) for out in ('one', 'two', 'three'))
    assert (
        all(other == one for other in others)
        and one['metrics.json'] != tree(here / 'four')['metrics.json']
    )


def evaluate_elsewhere(root, *more):
    "The command in a process of its own, with a cache of its own."
    os.environ.update(XDG_CACHE_HOME=f'{root}/cache', LOCALAPPDATA=f'{root}/cache')
    os.chdir(root)
    with open('printed', 'w') as f, redirect_stdout(f):
        app(['evaluate', 'real', 'made', *more], standalone_mode=False)


def test_another_process_the_same_bytes(tmp_path, monkeypatch, inception, lpips, classifier):
    "With all networks, each process computing for itself."
    real, generated = (
        fill(tmp_path / name, *(f'{k}.png' for k in range(3)), first=k)
        for k, name in enumerate(('real', 'made'))
    )
    more = ('-o', 'two', '--floors', 'none', '--device', 'cpu')
    process = FORKS.Process(target=evaluate_elsewhere, args=(tmp_path, *more))
    process.start()
    judges = Judges(inception, lpips, classifier)
    for net in judges[:3]:
        monkeypatch.setattr(net, 'cache', Cache())
    evaluate_folders(real, generated, tmp_path / 'one', floors='none', device='cpu', judges=judges)
    process.join(300)
    assert process.exitcode == 0
    one, two = ((tmp_path / out / 'metrics.json').read_bytes() for out in ('one', 'two'))
    assert one == two
    row = json.loads(one)['metrics']['generated']
    assert all(np.isfinite(row[k]) for k in ('fid', 'kid', 'lpips', 'top1', 'ab_error'))
    printed = (tmp_path / 'printed').read_text()
    assert all(label in printed for label in ('FID', 'KID', 'LPIPS'))


# A model


def test_a_model_in_place_of_a_folder(here):
    "Gray squares in, PNG out, whatever the truth was kept in; lightness is the truth's."
    if not shipped_model().exists():
        pytest.skip('no shipped model')
    real = fill(here / 'real', '1.jpg', '2.jpg', 'x/2.jpg', size=(60, 48))
    result = say(
        [
            'evaluate',
            'real',
            str(shipped_model()),
            '-o',
            'out',
            '--size',
            '40',
            '--floors',
            'gray',
            '--device',
            'cpu',
        ]
    )
    assert result.exit_code == 0, result.output
    generated, outcome = sorted((here / 'out' / 'generated').iterdir()), written(here / 'out')
    assert len(generated) == outcome['n'] == 3 and outcome['size'] == 40 and outcome['paired']
    for p in generated:
        with Image.open(p) as im:
            assert (im.format, im.size) == ('PNG', (40, 40))
    truth = photos_of([(real / '1.jpg', None)], 0, 40)[0]
    assert (
        np.abs(
            rgb_to_lab(truth)[..., 0]
            - rgb_to_lab(np.asarray(Image.open(here / 'out' / 'generated' / '1.png')))[..., 0]
        ).mean()
        < 0.6
    )
    assert outcome['model_sha256'] == hashlib.sha256(shipped_model().read_bytes()).hexdigest()
    assert (
        not any('JPEG' in n for n in outcome['notes'])
        and outcome['metrics']['generated']['ab_error'] != outcome['metrics']['gray']['ab_error']
    )


@pytest.mark.parametrize('size', [(36, 48), (300, 280)])
def test_a_model_on_small_photos(here, size):
    "Photos smaller than the square are enlarged to it, on both sides."
    if not shipped_model().exists():
        pytest.skip('no shipped model')
    fill(here / 'real', '1.png', '2.png', size=size)
    outcome = evaluate_folders(
        here / 'real',
        shipped_model(),
        here / 'out',
        size=64,
        floors='none',
        device='cpu',
        judges=NONE,
    )
    assert outcome['n'] == 2 and outcome['metrics']['generated']['ab_error'] > 0


# Networks that are not there


def test_what_was_not_measured_is_said(here, monkeypatch, tmp_path):
    from urllib.error import URLError
    from pytorch_fid import inception
    from torchvision.models import AlexNet_Weights
    from colorize.tables import all_judges

    def offline(*_, **__):
        raise URLError('no internet')

    def none(encoder):
        raise InputError('ImageNet weights are not to be had: go online.')

    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(networks, 'find_spec', lambda name: None)
    monkeypatch.setattr(networks, 'imagenet_weights', none)
    monkeypatch.setattr(inception, 'load_state_dict_from_url', offline)
    monkeypatch.setattr(AlexNet_Weights, 'get_state_dict', offline)
    monkeypatch.setattr(folders, 'all_judges', all_judges)
    for k, d in enumerate(('real', 'made')):
        fill(here / d, *(f'{i}.png' for i in range(4)), first=k)
    result = say('evaluate real made -o out --floors none')
    assert result.exit_code == 0, result.output
    outcome = written(here / 'out')
    for word in ('FID', 'LPIPS', 'ImageNet'):
        assert any(
            n.startswith(word) and n.endswith('.') and '\n' not in n for n in outcome['notes']
        ), word
    ours = outcome['metrics']['generated']
    absent = {
        'fid',
        'fid_infinity',
        'kid',
        'kid_std',
        'lpips',
        'top1',
        'coherence',
    }  # the blocks of these pictures are too small for coherence
    assert {k for k, v in ours.items() if v is None} == absent and outcome['networks'] == dict(
        inception=None, lpips=None, classifier=None
    )
    assert {
        'ab_error',
        'de2000',
        'de2000_p95',
        'psnr',
        'ssim',
        'auc',
        'auc_balanced',
        'cf',
        'cf_abs',
        'coherence',
        'hist_distance',
        'hue_entropy',
        'ci',
    } <= ours.keys()
    assert re.search(r'^FID ↓ +–', result.stdout, re.M)


# Bad input


@pytest.fixture
def bad(here):
    for k, d in enumerate(('real', 'made')):
        fill(here / d, *(f'{i}.png' for i in range(4)), first=k)
    fill(here / 'one', '1.png')
    fill(here / 'two', '1.png', '2.png')
    fill(here / 'gray', '1.png', '2.png', '3.png', gray=['1.png', '2.png', '3.png'])
    fill(here / 'tiny', '1.png', '2.png', size=(6, 6))
    (here / 'empty').mkdir()
    (here / 'torn').mkdir()
    for name in ('torn/1.png', 'torn/2.png', 'file', 'broken.pth'):
        (here / name).write_text(f'{name} is neither photo nor weights')
    (here / 'full').mkdir()
    (here / 'full' / 'metrics.json').write_text('{}')
    return here


MODEL = str(shipped_model())


@pytest.mark.parametrize(
    'line, part',
    [
        ('evaluate nowhere made', 'nowhere'),
        ('evaluate real nowhere', 'nowhere'),
        ('evaluate empty made', 'empty holds no photos'),
        ('evaluate real empty', 'empty holds no photos'),
        ('evaluate one one', 'at least 2 photos'),
        ('evaluate real one', 'at least 2 photos'),
        ('evaluate real made --n 1', 'at least 2 photos'),
        ('evaluate gray real', 'none (1.png: near-gray'),
        ('evaluate torn two', 'can be read'),
        ('evaluate two torn', 'can be read'),
        ('evaluate tiny tiny', 'smaller than'),
        ('evaluate real broken.pth', 'broken.pth'),
        ('evaluate real file', 'file'),
        ('evaluate real made -o file', 'cannot be written'),
        ('evaluate real made -o full', 'exists already'),
        ('evaluate real made --floors sepia', "'sepia'"),
        ('evaluate real made --size 4', 'size'),
        ('evaluate real made --size -1', 'size'),
        (f'evaluate real {MODEL} --size 0', 'size'),
        ('evaluate real made --seed -1', 'seed'),
        ('evaluate real made --batch-size 0', 'batch-size'),
        ('evaluate real', 'GENERATED'),
        ('validate --path-val one --size 7', '--size'),
        ('validate --path-val gray', 'None of the 3 photos'),
        ('validate --path-val torn', 'cannot be decoded'),
    ],
)
def test_bad_input(bad, line, part):
    if MODEL in line and not shipped_model().exists():
        pytest.skip('no shipped model')
    before = tree(bad)
    result = say(line)
    assert result.exit_code in (1, 2)
    assert result.stdout == '' and re.fullmatch(r'[^\n]+\.[^\n]*\n', result.stderr), result.output
    assert part in result.stderr
    assert tree(bad) == before


def test_no_such_device(bad, monkeypatch):
    from colorize.tables import all_judges

    monkeypatch.setattr(folders, 'all_judges', all_judges)
    result = say('evaluate real made --device abacus')
    assert (
        result.exit_code == 1
        and "no device 'abacus'" in result.stderr
        and not (bad / 'results' / 'evaluation' / 'metrics.json').exists()
    )


def test_existing_results(bad):
    "Refused before the work; replaced whole where that was said."
    assert say('evaluate real made -o out --floors none').exit_code == 0
    before = tree(bad)
    result = say('evaluate made real -o out --floors none')
    assert result.exit_code == 1 and '--force' in result.stderr and tree(bad) == before
    assert say('evaluate made real -o out --floors none --force').exit_code == 0
    assert written(bad / 'out')['real'] == 'made' and all(
        v != before[k] for k, v in tree(bad).items() if k.startswith('out/')
    )
    fill(bad / 'other', 'x.png', 'y.png', 'z.png')
    assert say('evaluate real other -o out --floors none --force').exit_code == 0
    assert {p.name for p in (bad / 'out').iterdir()} == {
        'metrics.json',
        'photos.csv',
        'spread.png',
    }, 'pictures of the evaluation before'


@pytest.mark.parametrize('name', ['photos.csv', 'generated/1.png'])
def test_what_is_not_ours_is_not_replaced(bad, name):
    if 'generated' in name and not shipped_model().exists():
        pytest.skip('no shipped model')
    (bad / 'out' / name).parent.mkdir(parents=True)
    (bad / 'out' / name).write_text('mine')
    result = say(
        [
            'evaluate',
            'real',
            MODEL if 'generated' in name else 'made',
            '-o',
            'out',
            '--floors',
            'none',
            '--device',
            'cpu',
        ]
    )
    assert (
        result.exit_code == 1
        and 'exists already' in result.stderr
        and (bad / 'out' / name).read_text() == 'mine'
    )


def test_a_faulty_network_leaves_nothing(bad, monkeypatch, toy):
    "NaN among the features: a sentence, and no files."

    class Faulty(toy):
        def forward(self, x):
            return super().forward(x) * torch.tensor([1, float('nan'), 1, 1])

    monkeypatch.setattr(folders, 'all_judges', lambda *_: (Judges(Faulty()), []))
    before = tree(bad)
    result = say('evaluate real made -o out')
    assert result.exit_code == 1 and 'not finite' in result.stderr and tree(bad) == before


def test_features_of_other_weights(bad, monkeypatch, toy):
    "One cache, two networks: each finds its own, and the second run computes nothing."
    path, outcome = bad / 'c.sqlite', []
    nets = [toy(gain, cache=Cache(path)) for gain in (1.0, 3.0, 1.0)]
    for k, net in enumerate(nets):
        monkeypatch.setattr(folders, 'all_judges', lambda *_, net=net: (Judges(net), []))
        assert say(f'evaluate real made -o out{k} --floors none').exit_code == 0
        outcome.append(written(bad / f'out{k}'))
    assert [f['networks']['inception'] for f in outcome] == [
        'toy 1.0',
        'toy 3.0',
        'toy 1.0',
    ] and nets[1].looked > 0 == nets[2].looked
    a, b, c = (f['metrics']['generated']['fid'] for f in outcome)
    assert b == pytest.approx(9 * a, abs=1e-3) and a == c


def test_what_cannot_be_written_leaves_no_half(bad, monkeypatch):
    "A full disk at the last picture: no half results, and the next run needs no --force."

    def full(*_):
        raise InputError('No space is left.')

    before = tree(bad)
    with monkeypatch.context() as m:
        m.setattr(folders, 'draw_spread', full)
        assert say('evaluate real made -o out --floors none').stderr == 'No space is left.\n'
    assert tree(bad) == before
    assert say('evaluate real made -o out --floors none').exit_code == 0


def test_validate_counts(bad):
    "Photos that could not be used are said, not only missing from the number."
    if not shipped_model().exists():
        pytest.skip('no shipped model')
    (bad / 'real' / 'torn.png').write_text('no photo')
    for k in range(4):
        picture(k, (200, 160)).save(bad / 'real' / f'{k}.png')
    result = say('validate --path-val real --device cpu')
    assert result.exit_code == 0 and re.search(r'^photos +4$', result.stdout, re.M)
    assert 'torn.png' in result.stdout + result.stderr
