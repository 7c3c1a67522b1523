"What `pip install .` leaves: weights and templates, and it works in a folder outside of the clone."

import os, shutil, subprocess, sys
from pathlib import Path

root = Path(__file__).parent.parent

CODE = '''
import colorize.core, colorize.page
print(colorize.core.__file__)
print(colorize.core.shipped_model())
print(colorize.load_model().meta['loss'])
print(colorize.page.write_index('sample'))
colorize.page.template('notebook.html.j2')
'''


def run(*args, **kw):
    return subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, check=True, **kw
    ).stdout.strip()


def test_the_wheel_is_whole(tmp_path):
    (source := tmp_path / 'source').mkdir()
    for name in ('setup.py', 'settings.ini', 'pyproject.toml', 'README.md'):
        shutil.copy(root / name, source)
    for name in ('colorize', 'trained_model'):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    wheels, site, elsewhere = (tmp_path / name for name in ('wheels', 'site', 'elsewhere'))
    run(*'-m pip wheel -q --no-deps --no-build-isolation -w'.split(), wheels, source)
    (wheel,) = wheels.iterdir()
    run(*'-m pip install -q --no-deps --target'.split(), site, wheel)
    elsewhere.mkdir()
    env = dict(os.environ, PYTHONPATH=str(site))
    done = run('-W', 'ignore', '-c', CODE, cwd=elsewhere, env=env)
    module, weights, loss, page = done.splitlines()
    assert Path(module).is_relative_to(site) and Path(weights).is_relative_to(site)
    assert loss == 'classification' and Path(page).is_relative_to(elsewhere)
