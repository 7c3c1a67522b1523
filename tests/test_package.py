"What `pip install .` leaves: the wheel holds the weights and works in a folder outside of the clone."

import os, shutil, subprocess, sys
from pathlib import Path

root = Path(__file__).parent.parent


def run(*args, **kw):
    return subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, check=True, **kw
    ).stdout.strip()


def test_the_wheel_carries_the_weights(tmp_path):
    (source := tmp_path / 'source').mkdir()
    for name in ('setup.py', 'settings.ini', 'pyproject.toml', 'README.md'):
        shutil.copy(root / name, source)
    for name in ('colorize', 'trained_model'):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    run(
        '-m',
        'pip',
        'wheel',
        '-q',
        '--no-deps',
        '--no-build-isolation',
        '-w',
        tmp_path / 'wheels',
        source,
    )
    (wheel,) = (tmp_path / 'wheels').iterdir()
    run('-m', 'pip', 'install', '-q', '--no-deps', '--target', tmp_path / 'site', wheel)
    (elsewhere := tmp_path / 'elsewhere').mkdir()
    code = 'import colorize.model as m; print(m.__file__, m.shipped_model(), m.load_model().meta["loss"])'
    module, weights, loss = run(
        '-W',
        'ignore',
        '-c',
        code,
        cwd=elsewhere,
        env=dict(os.environ, PYTHONPATH=str(tmp_path / 'site')),
    ).split()
    assert (
        Path(module).is_relative_to(tmp_path / 'site')
        and Path(weights).is_relative_to(tmp_path / 'site')
        and loss == 'classification'
    )
