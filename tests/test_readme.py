"Every command of README.md is run, on photos made here: what a reader types must work."

import os, re, shutil, subprocess, sys
from itertools import count
from pathlib import Path

import pytest
from conftest import fill, picture

from colorize.core import project

root = project()
text = (root / 'README.md').read_text(encoding='utf-8')
bin = Path(sys.executable).parent
programs = 'colorize|papermill|accelerate|make|pip|mkdir'

new = count()

# What a test cannot do as it stands there: another way of saying the same, shorter, or without a network.
INSTEAD = [
    (r'^make ', 'make -n '),  # this is `make test`; tests/test_report.py runs the report
    (r'^pip install ', 'pip install --dry-run --no-deps --no-index --no-build-isolation '),
    (r'--(n-)?epochs 20|epochs 5', lambda m: re.sub(r'\d+', '1', m[0])),
    (
        r'--num_processes 8(.*)--batch-size 256',
        r'--num_processes 2\1--batch-size 4 --n-epochs 1 --force --device cpu',
    ),
    (
        r's3://bucket/scans -r -o s3://bucket/colour --ray --ray-address head:6379',
        'album -r -o colour --ray --workers 1',
    ),
    (r'~/', 'home/'),
    (r'^colorize \w+$', r'\g<0> --help'),
    (r'\bREAL GENERATED\b', 'photos photos'),
    (r'\bPHOTO(\.\.\.)?(?= |$)', 'old.jpg'),
    (r'-o OUT$', lambda m: f'-o out{next(new)}/'),
]
ELSEWHERE = {
    r'^colorize demo': 'tests/test_demo.py',
    r'^colorize report': 'tests/test_report.py',
    r'RUN=mine$': 'needs a run file of one\'s own',
}


def commands():
    "Shell commands in the order of the text: lines of ```sh blocks, and whole commands within sentences."
    for block, span in re.findall(
        rf'^```sh\n(.*?)^```|`((?:{programs}) [a-z-][^`\n]+)`', text, re.M | re.S
    ):
        yield from (
            line.split('  #')[0].strip() for line in (block or span).splitlines() if line.strip()
        )


table = [
    r.split('|')[2]
    for r in re.search(r'\| what was asked for .*?\n\n', text, re.S)[0].splitlines()[2:]
    if r
]
bare = {
    c
    for row in table
    for c in re.findall(r'`(colorize [^`]+)`', row)
    if re.search(r'--[\w-]+( --|$)', c)
}  # only names options


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    "A clone, set up, with somebody's photos in it."
    at = tmp_path_factory.mktemp('clone')
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'README.md', 'Makefile'):
        shutil.copy(root / name, at)
    for name in ('nbs', 'colorize', 'trained_model'):
        shutil.copytree(
            root / name,
            at / name,
            ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'),
        )
    fill(at, 'album/portrait.jpg', 'album/street.png', 'scan.tif', size=(200, 160))
    picture(9, (200, 160)).convert('L').save(at / 'old.jpg')
    fill(at, *(f'photos/{i}.png' for i in range(12)), size=(160, 160), first=20)
    fill(at, *(f'holdout/{i}.png' for i in range(3)), size=(160, 160), first=40)
    shutil.copytree(at / 'photos', at / 'home' / 'photos')
    return at


def run(command, at):
    env = dict(os.environ, PATH=f'{bin}{os.pathsep}{os.environ["PATH"]}', OMP_WAIT_POLICY='PASSIVE')
    return subprocess.run(
        ['bash', '-c', command], cwd=at, env=env, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize('command', dict.fromkeys(commands()))
def test_command(command, clone):
    for pattern, where in ELSEWHERE.items():
        if re.search(pattern, command):
            pytest.skip(where)
    if command in bare:
        words = command.split()
        told = run(f'colorize {words[1]} --help', clone).stdout
        assert not [w for w in words if w.startswith('-') and w not in told]
        return
    for old, new in INSTEAD:
        command = re.sub(old, new, command)
    done = run(command, clone)
    assert not done.returncode and 'Traceback' not in done.stderr, (
        f'{command}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}'
    )


@pytest.mark.parametrize('code', re.findall(r'^```python\n(.*?)^```', text, re.M | re.S))
def test_python(code, clone):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], cwd=clone, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr[-2000:]
    assert (clone / 'colour.png').stat().st_size


@pytest.mark.parametrize(
    'doc',
    [
        'README.md',
        'CONTRIBUTING.md',
        'CHANGELOG.md',
        'data/README.md',
        'results/README.md',
        'results/reference/README.md',
        'results/benchmark/README.md',
        'trained_model/README.md',
    ],
)
def test_links_lead_somewhere(doc):
    "Files that a page names, and headings that it jumps to."
    at, page = root / doc, (root / doc).read_text(encoding='utf-8')
    for link in re.findall(r'\]\(([^)\s]+)\)', page):
        if '://' in link:
            continue
        file, _, jump = link.partition('#')
        target = (at.parent / file) if file else at
        assert target.exists(), f'{doc}: {link}'
        headings = (
            [
                re.sub(r'[^\w\- ]', '', h).strip().lower().replace(' ', '-')
                for h in re.findall(r'^#+ (.+)', target.read_text(encoding='utf-8'), re.M)
            ]
            if jump
            else []
        )
        assert not jump or jump in headings, f'{doc}: {link}'


def test_every_notebook_is_listed():
    listed = re.findall(
        r'`(\d\d\w?_\w+)`',
        text[text.index('## What each notebook shows') : text.index('## Limits')],
    )
    assert {*listed} >= {p.stem for p in (root / 'nbs').glob('[0-9]*.ipynb')}
