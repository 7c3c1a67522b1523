"The graph, on toy notebooks in a checkout of their own."

import json, os, re, signal, subprocess, sys, time

import nbformat
import pytest
from nbformat import v4
from PIL import Image

from colorize import pipeline
from colorize.core import InputError, save_json
from colorize.page import write_index
from colorize.pipeline import NotebookFailed, read_run, report, run_notebook, stamps

STEPS = ['01_first', '02_second', '03_apart']
FIRST = 'results/toy/metrics/01_first.json'  # what the first makes and the second reads
HEAD = """from colorize.core import folder, load_json, save_json
out = folder('results', run, 'metrics')"""
PARAMS = """run:str = "sample" # where
x:int = 2 # a number
lr:float = 0.1 # a rate
word:str = "" # a word
file:str = "" # to read
flag:bool = False # yes or no"""


def write_nb(root, name, *sources):
    params = PARAMS.replace('file:str = ""', f'file:str = "{FIRST}"') if '02' in name else PARAMS
    cells = [
        v4.new_markdown_cell(f'# Title of {name}\n\n> toy'),
        v4.new_code_cell(params, metadata=dict(tags=['parameters'])),
        *map(v4.new_code_cell, sources),
    ]
    kernel = dict(kernelspec=dict(name='python3', display_name='python3'))
    nb = v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(nb, root / 'nbs' / f'{name}.ipynb')


def write_run(root, text, run='toy'):
    (root / 'nbs' / 'runs' / f'{run}.yaml').write_text(text)


@pytest.fixture
def toys(tmp_path, monkeypatch):
    "A checkout with three notebooks: the second reads what the first makes."
    (tmp_path / 'nbs' / 'runs').mkdir(parents=True)
    (tmp_path / 'toylib').mkdir()
    (tmp_path / 'toylib' / 'one.py').write_text('from .two import *\n')
    (tmp_path / 'toylib' / 'two.py').write_text('two = 2\n')
    (tmp_path / 'toylib' / 'unused.py').write_text('')
    (tmp_path / 'settings.ini').write_text(
        '[DEFAULT]\nlib_name = colorize\nlib_path = toylib\n'
        'results_path = results\ntrained_model_path = trained_model\n'
    )
    write_nb(tmp_path, '01_first', HEAD, "save_json(dict(square=x*x), out/'01_first.json');")
    write_nb(
        tmp_path,
        '02_second',
        HEAD,
        "save_json(dict(sum=load_json(file)['square'] + x), out/'02_second.json');",
    )
    write_nb(tmp_path, '03_apart', 'from toylib.one import two', '## half way', 'x*two')
    write_run(tmp_path, '')
    monkeypatch.chdir(tmp_path / 'nbs')  # any folder of the checkout will do
    return tmp_path


@pytest.fixture
def fake(monkeypatch, toys):
    "Run no kernel: note the step and write what the notebook would. Returns the notes."
    ran = []

    def run(name, params, run):
        ran.append(name)
        root = toys / 'results' / run
        values = pipeline.values_of(name, params)
        (root / f'{name}.ipynb').parent.mkdir(parents=True, exist_ok=True)
        (root / f'{name}.ipynb').write_text('{"cells": []}')
        save_json(dict(square=values['x'] ** 2), root / 'metrics' / f'{name}.json')
        if values['word'].endswith('.out'):
            (root / 'other').mkdir(exist_ok=True)
            (toys / values['word']).write_text(str(len(ran)))

    monkeypatch.setattr(pipeline, 'run_notebook', run)
    return ran


def again(ran, **kw):
    ran.clear()
    report('toy', steps=STEPS, **kw)
    return list(ran)


def state(toys):
    return json.loads((toys / 'results' / 'toy' / '.steps.json').read_text())


def record(toys):
    return [n for n in STEPS if n in state(toys)]


# -- what is out of date


def test_only_what_changed_runs(toys, fake):
    assert again(fake) == [*STEPS]
    assert again(fake) == []
    write_run(toys, '02_second: {x: 5}')
    assert again(fake) == ['02_second']
    write_run(toys, '02_second: {x: 5}\n01_first: {x: -2}')
    assert again(fake) == ['01_first']  # the square is the same: what reads it is not touched
    write_run(toys, '02_second: {x: 5}\n01_first: {x: 3}')
    assert again(fake) == ['01_first', '02_second']
    write_run(toys, 'all: {x: 5}\n01_first: {x: 3}')
    assert again(fake) == ['03_apart']


def test_it_says_why(toys, fake, capsys):
    def why(**kw):
        again(fake, **kw)
        return re.findall(r'^(\S+) +\d.*\((.*)\)$', capsys.readouterr().out, re.M)

    first = [*STEPS, 'page']
    assert why() == [(name, 'not made yet') for name in first]
    assert why() == []
    write_run(toys, '01_first: {x: 3}')
    assert why()[:2] == [
        ('01_first', 'parameter x changed'),
        ('02_second', '01_first.json changed'),
    ]
    (toys / 'toylib' / 'two.py').write_text('two = 3\n')
    assert why()[0] == ('03_apart', 'two.py changed')
    write_nb(toys, '03_apart', '1')
    assert why()[0] == ('03_apart', 'its code changed')
    (toys / 'results' / 'toy' / '02_second.ipynb').unlink()
    assert why()[0] == ('02_second', '02_second.ipynb is gone')
    assert why(force=True) == [(name, 'forced') for name in first]


def test_an_edit_while_it_runs_counts(toys, fake, monkeypatch):
    run = pipeline.run_notebook

    def slow(name, params, where):
        run(name, params, where)
        if name == '03_apart':
            (toys / 'toylib' / 'two.py').write_text('two = 4\n')

    monkeypatch.setattr(pipeline, 'run_notebook', slow)
    again(fake)
    assert again(fake) == ['03_apart']
    assert again(fake) == []


def test_the_page_is_written_when_something_changed(toys, fake):
    again(fake)
    page = toys / 'results' / 'toy' / 'index.html'
    page.write_text('kept')
    again(fake)
    assert page.read_text() == 'kept'
    write_nb(toys, '03_apart', '1')
    again(fake)
    assert page.read_text() != 'kept'


def test_naming_a_default_changes_nothing(toys, fake):
    again(fake)
    write_run(toys, 'all: {x: 2, word: ""}\n02_second: {lr: 1e-1}')
    assert again(fake) == []


def test_code_counts_prose_and_outputs_do_not(toys, fake):
    again(fake)
    path = toys / 'nbs' / '03_apart.ipynb'
    nb = nbformat.read(path, 4)
    nb.cells[0].source += '\n\nmore prose'
    nb.cells[-1].outputs = [v4.new_output('stream', text='4')]
    nbformat.write(nb, path)
    assert again(fake) == []
    nb.cells[-1].source += ' + 1'
    nbformat.write(nb, path)
    assert again(fake) == ['03_apart']


def test_modules_count_where_they_are_used(toys, fake):
    again(fake)
    (toys / 'toylib' / 'unused.py').write_text('x = 1\n')
    assert again(fake) == []
    (toys / 'toylib' / 'two.py').write_text('two = 3\n')  # imported by one.py
    assert again(fake) == ['03_apart']


def test_a_lost_file_is_made_again(toys, fake):
    again(fake)
    (toys / 'results' / 'toy' / '03_apart.ipynb').unlink()
    assert again(fake) == ['03_apart']
    (toys / 'results' / 'toy' / 'metrics' / '02_second.json').unlink()
    assert again(fake) == ['02_second']


def test_files_that_a_parameter_names(toys, fake):
    (toys / 'photos').mkdir()
    (toys / 'photos' / 'a.jpg').write_text('a')
    write_run(toys, '03_apart: {word: photos}')
    again(fake)
    assert again(fake) == []
    (toys / 'photos' / 'b.jpg').write_text('b')
    assert again(fake) == ['03_apart']


def test_a_parameter_that_names_what_the_step_writes(toys, fake):
    write_run(toys, '03_apart: {word: results/toy/other/x.out}')
    assert again(fake) == [*STEPS]
    assert again(fake) == []
    (toys / 'results' / 'toy' / 'other' / 'x.out').unlink()
    assert again(fake) == ['03_apart']
    assert again(fake) == []


def test_force(toys, fake):
    again(fake)
    assert again(fake, force=True) == [*STEPS]


def test_a_record_cut_off_counts_for_nothing(toys, fake):
    again(fake)
    (toys / 'results' / 'toy' / '.steps.json').write_text('{"01_fi')
    assert again(fake) == [*STEPS]


def test_unwritable_results(toys, fake):
    (toys / 'results').write_text('a file where the folder should be')
    with pytest.raises(InputError, match='cannot be written'):
        report('toy', steps=STEPS)
    assert fake == []


# -- runs and parameters


@pytest.mark.parametrize(
    'text, message',
    [
        ('04_nothing: {x: 1}', r"no notebook '04_nothing'"),
        ('02_secnd: {x: 1}', r'did you mean 02_second'),
        (
            '01_first: {xx: 1}',
            r"toy.yaml, notebook 01_first has no parameter 'xx': did you mean x",
        ),
        ('all: {wrd: 1}', r"no notebook has the parameter 'wrd'.*did you mean word"),
        ('01_first: {x: 1.5}', r'01_first cannot take 1.5 as x: give a value of type int'),
        ('01_first: {x: yes}', r'True as x: give a value of type int'),
        ('01_first: {lr: fast}', r"'fast' as lr: give a value of type float"),
        ('all: {flag: 1}', r'1 as flag: give a value of type bool'),
        ('01_first: {word: 3}', r'3 as word: give a value of type str'),
        ('01_first: {run: other}', r'leave out the parameter run'),
        ('01_first: 3', r'must map notebooks to parameters'),
        ('- 1', r'must map notebooks to parameters'),
        ('a: [', r'not valid YAML'),
    ],
)
def test_bad_run(toys, text, message):
    write_run(toys, text)
    with pytest.raises(InputError, match=message) as e:
        report('toy', steps=STEPS)
    assert '\n' not in str(e.value)
    assert not (toys / 'results').exists()


def test_good_run(toys):
    write_run(toys, 'all: {lr: 1e-3, word: a}\n03_apart: {lr: 1, flag: true}')
    assert read_run('toy', STEPS)['01_first'] == dict(lr=0.001, word='a', run='toy')
    assert read_run('toy', STEPS)['03_apart'] == dict(lr=1.0, word='a', run='toy', flag=True)


def test_unknown_run(toys):
    with pytest.raises(InputError, match="no run 'tooy' in nbs/runs: did you mean toy"):
        report('tooy', steps=STEPS)


def test_outside_of_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match='inside a clone'):
        report('sample')


def test_unknown_parameter_of_one_notebook(toys):
    with pytest.raises(InputError, match="no parameter 'y'"):
        run_notebook('01_first', dict(y=1), 'toy')
    assert not (toys / 'results').exists()


# -- with kernels


def test_a_whole_run(toys, capfd):
    page = report('toy', steps=STEPS)
    root = toys / 'results' / 'toy'
    assert json.loads((root / 'metrics' / '02_second.json').read_text()) == dict(sum=6)
    printed = capfd.readouterr()
    assert (
        re.search(r'01_first +\d+\.\d s .*\n02_second +\d+\.\d s .*\n03_apart +\d', printed.out)
        and printed.err == ''
    )
    assert {p.name for p in root.iterdir()} == {
        f'{n}{s}' for n in STEPS for s in ('.ipynb', '.html')
    } | {'index.html', 'metrics', '.steps.json'}
    for p in [page, *root.glob('*.html')]:
        assert not re.findall(
            r'<(?:script|link|img|iframe)[^>]*(?:src|href)=["\'](?!data:|#)[^"\']*["\']',
            text := p.read_text(),
        ), p
        assert 'cdnjs' not in text and not re.findall(r'@import|url\(["\']?http', text), p
    before = {p: p.read_bytes() for p in root.rglob('*') if p.is_file()}
    start = time.monotonic()
    report('toy', steps=STEPS)
    assert capfd.readouterr().out.count('up to date') == 4 and time.monotonic() - start < 5
    run_notebook('01_first', dict(run='toy'), 'toy')  # equal runs give equal files
    assert before == {p: p.read_bytes() for p in before}


def test_a_failing_notebook(toys, capsys):
    write_nb(toys, '02_second', HEAD, 'fine = 1', "raise ValueError('no such luck\\nmore')")
    with pytest.raises(
        NotebookFailed,
        match=r'Notebook 02_second stopped in cell \[\d\], under "Title of 02_second": '
        r'ValueError: no such luck \(see .*02_second.failed.ipynb\)\.$',
    ):
        report('toy', steps=STEPS)
    root = toys / 'results' / 'toy'
    assert 'stopped' in capsys.readouterr().out
    assert record(toys) == ['01_first']
    assert sorted(p.name for p in root.glob('0*')) == [
        '01_first.html',
        '01_first.ipynb',
        '02_second.failed.ipynb',
    ]
    assert 'stopped with an error' in (root / 'index.html').read_text()
    write_nb(toys, '02_second', '1')
    assert (
        run_notebook('02_second', {}, 'toy').exists()
        and not (root / '02_second.failed.ipynb').exists()
    )


def test_ctrl_c(toys):
    write_nb(
        toys,
        '02_second',
        'import os, time\nfrom pathlib import Path',
        "Path('pid').write_text(str(os.getpid()))\ntime.sleep(100)",
    )
    code = f'from colorize.pipeline import report; report("toy", steps={STEPS[:2]})'
    p = subprocess.Popen(
        [sys.executable, '-c', code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=toys,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a shell's background jobs ignore it
    until(lambda: (toys / 'pid').exists() and (toys / 'pid').read_text())
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=60)
    assert p.returncode != 0
    assert record(toys) == ['01_first']
    assert not list((toys / 'results' / 'toy').glob('*02_second*')) and not list(
        (toys / 'results' / 'toy').glob('.*.ipynb')
    )
    until(lambda: not alive(int((toys / 'pid').read_text())))


def until(done, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.05)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -- the page


def test_page_of_what_is_there(toys):
    root = toys / 'results' / 'toy'
    (root / 'figures').mkdir(parents=True)
    Image.new('L', (2, 2)).save(root / 'figures' / '01_two_words.png')
    save_json(
        [dict(loss='l1', psnr=21.56789, note='<b>'), dict(loss='l2', psnr=None)],
        root / 'metrics' / '01_first.json',
    )
    page = write_index('toy', STEPS).read_text()
    assert 'src="figures/01_two_words.png"' in page and 'alt="two words"' in page
    assert '<td>21.57</td>' in page and 'not measured' in page and '<td>&lt;b&gt;</td>' in page
    assert 'Not made by this run: run 03_apart.' in page
    assert stamps('toy').keys() == {'figures/01_two_words.png', 'metrics/01_first.json'}
