"What `pip install .` leaves: models, templates, and commands that colour photos without torch."

import os, shutil, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorize.infer import Colorizer

root = Path(__file__).parent.parent

CODE = '''
import colorize.core, colorize.page
print(colorize.core.__file__)
print(colorize.core.shipped_model())
print(colorize.load_model().meta['loss'])
print(colorize.page.write_index('sample'))
colorize.page.template('notebook.html.j2')
'''


def run(*args, python=sys.executable, check=True, **kw):
    return subprocess.run(
        [python, *map(str, args)], capture_output=True, text=True, check=check, **kw
    )


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp('wheel')
    (source := place / 'source').mkdir()
    for name in ('setup.py', 'settings.ini', 'pyproject.toml', 'README.md'):
        shutil.copy(root / name, source)
    for name in ('colorize', 'trained_model'):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    run(*'-m pip wheel -q --no-deps --no-build-isolation -w'.split(), place, source)
    (path,) = place.glob('*.whl')
    return path


def test_the_wheel_is_whole(wheel, tmp_path):
    site, elsewhere = tmp_path / 'site', tmp_path / 'elsewhere'
    run(*'-m pip install -q --no-deps --target'.split(), site, wheel)
    elsewhere.mkdir()
    env = dict(os.environ, PYTHONPATH=str(site))
    done = run('-W', 'ignore', '-c', CODE, cwd=elsewhere, env=env).stdout.strip()
    module, weights, loss, page = done.splitlines()
    assert Path(module).is_relative_to(site) and Path(weights).is_relative_to(site)
    assert loss == 'classification' and Path(page).is_relative_to(elsewhere)


@pytest.fixture(scope='module')
def light(wheel, tmp_path_factory):
    "The Python of an empty environment, into which the wheel was installed with what it needs."
    place = tmp_path_factory.mktemp('light')
    run(*'-m venv --without-pip'.split(), place)
    python = next(p for p in place.glob('*/python*') if p.is_file())
    install = '-m pip -q --disable-pip-version-check --python'.split()
    done = run(*install, python, 'install', wheel, check=False)
    if 'No matching distribution' in done.stderr or 'onnection' in done.stderr:
        pytest.skip('pip reaches no index from here')
    assert done.returncode == 0, done.stderr
    return python


def test_a_light_install(light, tmp_path):
    photo = np.tile(np.arange(160, dtype=np.uint8), (120, 1))
    Image.fromarray(photo).save(tmp_path / 'old.png')
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}

    def colorize(line):
        return run(
            '-m', 'colorize', *line.split(), python=light, cwd=tmp_path, env=env, check=False
        )

    for line in (
        'image old.png -o new.png --hint 3,3,#3040a0',
        'temperature new.png -o cool.png --cool 20',
    ):
        assert (done := colorize(line)).returncode == 0, done.stderr
    want = Colorizer(hints=['3,3,#3040a0'])(photo)
    assert np.abs(np.asarray(Image.open(tmp_path / 'new.png')).astype(int) - want).max() <= 1
    for line, extra in (('train', 'train'), ('report', 'report'), ('demo', 'demo')):
        done = colorize(line)
        assert done.returncode == 1 and f"pip install '.[{extra}]'" in done.stderr
        assert done.stderr.count('\n') == 1
