"Every command of README.md and docs/ is run, on photos made here: what a reader types must work."

import os, re, shlex, shutil, subprocess, sys
from configparser import ConfigParser
from importlib.metadata import version
from itertools import count
from pathlib import Path

import pytest
from conftest import FORKS, fill, picture

from colorize.core import project, shipped_model

root = project()
pages = [root / 'README.md', *sorted((root / 'docs').glob('*.md'))]
text = '\n\n'.join(page.read_text(encoding='utf-8') for page in pages)
programs = 'colorize|papermill|accelerate|make|pip|mkdir'

folders = count()

# What a test cannot do as it is written: another way of saying the same, shorter or offline.
INSTEAD = [
    (r'^make ', 'make -n '),  # this is `make test`; tests/test_report.py runs the report
    (r'^(colorize \w+) --[\w-]+ --.*', r'\1 --help'),  # the table names options, without values
    (r'--n-epochs \d+', '--n-epochs 1 --steps 1'),
    (r'-p epochs \d+', '-p epochs 1 -p steps 1'),
    (r'(--path-train \S+)$', r'\1 --n-epochs 1 --steps 1'),
    (
        r'--num_processes 8(.*)--batch-size 256',
        r'--num_processes 2\1--batch-size 4 --n-epochs 1 --steps 1 --force --device cpu',
    ),
    (
        r's3://bucket/scans -r -o s3://bucket/colour --ray --ray-address head:6379',
        'album -r -o colour --ray --workers 1',
    ),
    (r'~/', 'home/'),
    (r'^colorize \w+$', r'\g<0> --help'),
    (r'\bREAL GENERATED\b', 'holdout holdout'),
    (r'\bPHOTO(\.\.\.)?(?= |$)', 'old.jpg'),
    (r'-o OUT$', lambda m: f'-o out{next(folders)}/'),
]
# Unless pytest is called with --long: other tests run these from end to end, so here they begin.
QUICK = [
    (r'^papermill nbs', 'papermill --prepare-only nbs'),  # tests/test_report.py
    (r'^(colorize \w+) .*--ray.*', r'\1 --help'),  # tests/test_archive.py
    (r'^accelerate .* -m (colorize \w+) .*', r'\1 --help'),  # tests/test_train.py, as typed
]
ELSEWHERE = {
    r'^colorize demo': 'tests/test_demo.py',
    r'^colorize report --run': 'tests/test_report.py',
    r'^pip install (--no-deps )?\.$': 'tests/test_package.py',
    r'RUN=mine$': 'needs a run file of the reader\'s own',
}
# One `colorize` goes through the shell as typed, and so does everything that starts processes.
IN_A_SHELL = r'^(?!colorize )|^colorize image old.jpg -o old_colour.jpg$'


def commands():
    "Shell commands in their order: lines of ```sh blocks, and whole commands in sentences."
    blocks = rf'^```sh\n(.*?)^```|`((?:{programs}) [a-z-][^`\n]+)`'
    for block, span in re.findall(blocks, text, re.M | re.S):
        for line in (block or span).splitlines():
            if line.strip():
                yield line.split('  #')[0].strip()


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    "A clone, set up, with somebody's photos in it."
    place = tmp_path_factory.mktemp('clone')
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'README.md', 'Makefile'):
        shutil.copy(root / name, place)
    ignore = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints')
    for name in ('nbs', 'colorize', 'trained_model'):
        shutil.copytree(root / name, place / name, ignore=ignore)
    fill(place, 'album/portrait.jpg', 'album/street.png', 'scan.tif', size=(200, 160))
    picture(9, (200, 160)).convert('L').save(place / 'old.jpg')
    fill(place, *(f'photos/{i}.png' for i in range(12)), size=(160, 160), first=20)
    fill(place, *(f'holdout/{i}.png' for i in range(3)), size=(160, 160), first=40)
    shutil.copytree(place / 'photos', place / 'home' / 'photos')
    return place


def in_a_shell(command, place):
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    env = dict(os.environ, PATH=path, OMP_WAIT_POLICY='PASSIVE')
    return subprocess.run(
        ['bash', '-c', command], cwd=place, env=env, capture_output=True, text=True, timeout=300
    )


def type_it(command):
    "What the script `colorize` does with these words."
    from colorize.cli import app

    sys.argv = shlex.split(command)
    app()


def _begin(work, text, place, out, err):
    os.chdir(place)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    work(text)


def in_a_fork(work, text, place):
    "`work(text)` in a process of its own, in the folder `place`."
    out, err = place / 'stdout.txt', place / 'stderr.txt'
    process = FORKS.Process(target=_begin, args=(work, text, place, out, err))
    process.start()
    process.join(300)
    if process.exitcode is None:
        process.kill()
    texts = [path.read_text(encoding='utf-8') for path in (out, err)]
    return subprocess.CompletedProcess(text, process.exitcode, *texts)


def lend_weights(command, place):
    "A command that reads weights which an earlier one trains can also be run alone."
    if not re.search(' train | export ', command):
        for name in re.findall(r'[\w/]+\.pth', command):
            if not (place / name).exists():
                shutil.copy(shipped_model(), place / name)


def check_packages(names):
    "Extras that setup.py offers, and packages of which each is installed here."
    config = ConfigParser(delimiters=['='])
    config.read(root / 'settings.ini')
    for name in names:
        if extra := re.fullmatch(r'\.\[(\w+)\]', name):
            assert config['DEFAULT'][f'{extra[1]}_requirements'].strip()
        else:
            assert version(name)


def make_way(command, place):
    "Remove what an earlier command wrote to the same place; that place, or None."
    result = re.search(r' -o (\S+)', command)
    if result is None:
        return None
    path = place / result[1]
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path


@pytest.mark.parametrize('typed', dict.fromkeys(commands()))
def test_command(typed, clone, request):
    for pattern, where in ELSEWHERE.items():
        if re.search(pattern, typed):
            pytest.skip(where)
    if typed.startswith('pip install '):
        return check_packages(shlex.split(typed)[2:])
    quick = [] if request.config.getoption('--long', False) else QUICK
    command = typed
    for old, new in (*quick, *INSTEAD):
        command = re.sub(old, new, command)
    lend_weights(command, clone)
    result = make_way(command, clone)
    if re.search(IN_A_SHELL, command):
        done = in_a_shell(command, clone)
    else:
        done = in_a_fork(type_it, command, clone)
    assert done.returncode == 0 and 'Traceback' not in done.stderr, (
        f'{command}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}'
    )
    assert 'unknown parameter' not in done.stderr  # papermill only warns
    assert result is None or result.exists()
    if command.endswith('--help'):
        left_out = {*typed.rpartition(' -m ')[2].split()} - {*command.split()}
        assert not [w for w in left_out if w.startswith('--') and w not in done.stdout]


@pytest.mark.parametrize('code', re.findall(r'^```python\n(.*?)^```', text, re.M | re.S))
def test_python(code, clone):
    lend_weights(code, clone)
    done = in_a_fork(exec, code, clone)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (clone / 'colour.png').stat().st_size


def name(page):
    return page.relative_to(root).as_posix()


def headings(page):  # as GitHub makes them into anchors
    lines = re.findall(r'^#+ (.+)', page.read_text(encoding='utf-8'), re.M)
    return {re.sub(r'[^\w\- ]', '', line).strip().lower().replace(' ', '-') for line in lines}


others = [
    'CONTRIBUTING.md',
    'CHANGELOG.md',
    'data/README.md',
    'results/README.md',
    'results/reference/README.md',
    'results/benchmark/README.md',
    'trained_model/README.md',
]


@pytest.mark.parametrize('page', [*pages, *(root / other for other in others)], ids=name)
def test_links_lead_somewhere(page):
    "Files that a page names, and headings that it jumps to."
    for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text(encoding='utf-8')):
        if '://' not in link:
            file, _, heading = link.partition('#')
            target = page.parent / file if file else page
            assert target.exists(), link
            assert not heading or heading in headings(target), link


def test_every_page_is_linked():
    readme = pages[0].read_text(encoding='utf-8')
    assert all(f'(docs/{page.name}' in readme for page in pages[1:])


def test_every_notebook_is_listed():
    readme = pages[0].read_text(encoding='utf-8')
    notebooks = {name(p) for p in (root / 'nbs').rglob('*.ipynb') if '.ipynb_' not in str(p)}
    assert {*re.findall(r'\]\((nbs/[\w/]+\.ipynb)\)', readme)} == notebooks


def test_the_readme_is_short():
    assert len(pages[0].read_text(encoding='utf-8').split()) <= 1500
