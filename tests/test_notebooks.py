"The notebooks keep to the house rules that no tool checks: limits, links, parameters, imports."

import ast, json, re, subprocess, sys
from functools import cache

import pytest
from conftest import MACHINE

from colorize.notebooks import cells, nbs, notebook, parameters
from colorize.pipeline import STEPS, read_run, thread

THREAD = [notebook(name) for name in STEPS]
TOOLS = sorted((nbs() / 'tool').glob('*.ipynb'))
RUNS = sorted((nbs() / 'runs').glob('*.yaml'))
PACKAGE = nbs().parent / 'colorize'
DIRECTIVES = {'default_exp', 'export', 'exporti', 'hide', 'notest', 'eval:', 'echo:', 'output:'}

each = pytest.mark.parametrize('path', [*THREAD, *TOOLS], ids=lambda p: p.stem)
each_of_the_thread = pytest.mark.parametrize('path', THREAD, ids=lambda p: p.stem)


def load(path):
    return json.loads(path.read_text(encoding='utf-8'))


def is_exported(source):
    return re.search(r'^#\| export', source, re.M)


def is_shown(source):
    return not is_exported(source) and not re.search(r'^#\| (hide|default_exp)', source, re.M)


def lines_of(source):
    return [l for l in source.splitlines() if not l.startswith('#|')]


def called(tree):
    "Names of the functions that a cell calls itself; what it only defines does not count."
    if isinstance(tree, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
        return
    if isinstance(tree, ast.Call):
        yield getattr(tree.func, 'id', getattr(tree.func, 'attr', ''))
    for part in ast.iter_child_nodes(tree):
        yield from called(part)


# -- limits


def test_the_thread_is_whole():
    assert sorted(nbs().glob('*.ipynb')) == THREAD


def test_the_thread_is_short():
    assert sum(len(load(path)['cells']) for path in THREAD) <= 320


@each_of_the_thread
def test_a_notebook_of_the_thread_is_short(path):
    assert len(load(path)['cells']) <= 40


@each
def test_cells(path):
    for source, tags in cells(path):
        first, n = source[:80], len(lines_of(source))
        assert 'nbdev_export(' not in source, f'papermill would run it: {first}'
        # papermill wants all parameters in one cell, and there is one to a line
        assert n <= 25 or 'parameters' in tags, f'{n} lines: {first}'
        assert not [l for l in source.splitlines() if len(l) > 100], f'over 100 columns: {first}'
        for line in source.splitlines():
            if re.match(r'\s*#\s*\|', line):
                assert line.startswith('#| ') and line[3:].split()[0] in DIRECTIVES, (
                    f'nbdev passes over this in silence: {line}'
                )


@each
def test_exported_cells(path):
    for source, _ in cells(path):
        if is_exported(source):
            size = len(lines_of(source)), len(source)
            assert size[0] <= 25 and size[1] <= 1000, f'{size} lines, characters: {source[:80]}'


def is_example(source):
    "Does it end in a value or a picture, or assert something?"
    tree = ast.parse(source)
    ends_in_value = bool(tree.body) and isinstance(tree.body[-1], ast.Expr)
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(tree)) or any(
        name == 'expect_fail' or name.startswith('test_') for name in called(tree)
    )
    return is_shown(source) and (ends_in_value or asserts)


@each
def test_what_is_exported_is_shown_at_work(path):
    stretch = 0
    for source, _ in cells(path):
        if is_exported(source):
            stretch += sum(bool(l.strip()) for l in lines_of(source))
            assert stretch <= 50, f'{stretch} lines without an example: {source[:80]}'
        elif is_example(source):
            stretch = 0


@pytest.mark.parametrize('path', RUNS, ids=lambda p: p.stem)
def test_runs(path):
    assert len(path.read_text(encoding='utf-8').splitlines()) <= 40, 'too long to read'
    assert read_run(path.stem).keys() == {*STEPS}


# -- parameters


@each
def test_kernel(path):
    assert load(path)['metadata']['kernelspec']['name'] == 'python3', (
        'papermill finds no kernel of another name'
    )


@each
def test_parameters(path):
    tagged = [c.source for c in cells(path) if 'parameters' in c.tags]
    assert len(tagged) <= 1, 'several cells are tagged parameters'
    for line in '\n'.join(tagged).splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        assert re.fullmatch(r'\w+: (int|float|str|bool) = .+?  # [^\s=][^=]*', line), (
            'not `name: type = value  # what it is` '
            f'(papermill drops a line with a second equals sign): {line}'
        )
        node = ast.parse(line).body[0]
        assert type(ast.literal_eval(node.value)).__name__ == node.annotation.id, (
            f'the default is of another type: {line}'
        )
    if tagged and len(tagged[0].splitlines()) == 1:
        assert not re.match(r'(run|time|cd|ls|cat|pwd)\b', tagged[0]), (
            'IPython takes a one-line cell that starts so for a magic'
        )
    if tagged and path in THREAD:
        assert parameters(path)['run'] == ('str', 'sample')


with_parameters = [p for p in (*THREAD, *TOOLS) if any('parameters' in c.tags for c in cells(p))]


def test_most_notebooks_have_parameters():
    assert len({*with_parameters} & {*THREAD}) >= 7 and len(with_parameters) >= 15


@pytest.mark.parametrize('path', with_parameters, ids=lambda p: p.stem)
def test_parameters_are_checked(path):
    all_cells = cells(path)
    k = next(i for i, c in enumerate(all_cells) if 'parameters' in c.tags)
    assert 'check_injected(globals())' in all_cells[k + 1].source


@pytest.mark.parametrize(
    'given, message',
    [(dict(rum='x'), "no parameter 'rum'"), (dict(run=3), 'give a value of type str')],
)
def test_papermill_refuses_a_wrong_parameter(tmp_path, given, message):
    import papermill

    with pytest.raises(papermill.PapermillExecutionError, match=message):
        papermill.execute_notebook(
            notebook('page'), tmp_path / 'out.ipynb', given, progress_bar=False, cwd=nbs()
        )


def test_training_checks_its_settings_before_it_imports_anything_heavy():
    sources = [c.source for c in cells(notebook('03_train'))]
    k = next(i for i, s in enumerate(sources) if 'check(settings)' in s)
    imports = re.findall(r'^(?:from|import) ([\w.]+)', '\n'.join(sources[: k + 1]), re.M)
    assert {*imports} <= {'warnings', *(f'colorize.{m}' for m in ('core', 'notebooks', 'settings'))}


# -- what a reader meets


@each_of_the_thread
def test_one_thread(path):
    last = load(path)['cells'][-1]
    assert (last['cell_type'], last['id']) == ('markdown', 'links')
    assert ''.join(last['source']) == thread(path.stem)


@each
def test_links_lead_somewhere(path):
    for source, _ in cells(path, 'markdown'):
        for link in re.findall(r'\]\(([^)\s#]+)[^)]*\)', source):
            assert '://' in link or (path.parent / link).exists(), link


@each
def test_figures_are_shown_with_words(path):
    for source, _ in cells(path):
        tree, first = ast.parse(source), source[:80]
        bare = [n for s in tree.body if isinstance(s, ast.Expr) for n in [*called(s)][:1]]
        assert 'image_grid' not in bare, (
            f'a figure without a text alternative: say show(image_grid(...), ...): {first}'
        )
        drawn = {'image_grid', 'subplots', 'figure'} & {*called(tree)}
        if drawn and not is_exported(source):
            assert {'show', 'save_figure', 'close'} & {*called(tree)}, (
                f'a figure nobody shows: {first}'
            )
        assert not re.search(r'\b(plt|pyplot\(\))\.show\(', source), (
            f'say show(fig, ...), which takes a text alternative: {first}'
        )


@each_of_the_thread
def test_a_figure_before_the_first_long_cell(path):
    sources = [c.source for c in cells(path) if 'parameters' not in c.tags]
    long = next((i for i, s in enumerate(sources) if len(s.splitlines()) > 15), len(sources))
    assert any('show' in called(ast.parse(s)) for s in sources[: long + 1]), (
        f'this one comes first: {sources[: long + 1][-1][:80]}'
    )


@each
def test_no_path_of_one_machine(path):
    text = '\n'.join(
        ''.join(c['source']) + json.dumps(c.get('outputs', '')) for c in load(path)['cells']
    )
    assert not re.findall(MACHINE, text)


# -- who imports what

ORDER = [  # of the thread's modules: each may import those before it
    'lab',
    'data',
    'model',
    'metrics',
    'temperature',
    'train',
    'infer',
    'evaluate',
    'loss_comparison',
]
FOR_ALL = {  # tools that the thread may import
    'core',
    'figures',
    'files',
    'store',
    'runs',
    'settings',  # what can be set for a run
    'weights',  # the file that a model is kept in
}
BESIDES = {  # further tools, and why
    'data': {'jobs'},  # photos are found in folders as jobs are
    'model': {'encoders'},  # the first half of the network, from timm
    'temperature': {'paint'},  # the fast way, which gives what the plain one gives
    'train': {'callbacks', 'distributed'},  # what watches a run; several processes as one
    # what runs the network; known colours; the fast way; other plausible colours
    'infer': {'backends', 'hints', 'paint', 'variants'},
    'evaluate': {'networks'},  # the networks that judge
    'loss_comparison': {'tables'},  # how figures are set beside each other
}


@cache
def imports(module):
    "What a module imports, also inside functions: module -> names that it takes from it."
    taken = {}
    for node in ast.walk(ast.parse((PACKAGE / f'{module}.py').read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [a.name for a in node.names]
            for source in [node.module] if node.module else names:
                taken.setdefault(source, []).extend(names)
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('colorize.'):
            source = node.module.removeprefix('colorize.')
            taken.setdefault(source, []).extend(a.name for a in node.names)
    return taken


MODULES = sorted(p.stem for p in PACKAGE.glob('*.py') if not p.stem.startswith('_'))


def test_modules_have_notebooks():
    "Each module is what one notebook exports; a module of the thread comes from the thread."
    exporters = {
        name: path
        for path in (*THREAD, *TOOLS)
        for name in re.findall(
            r'^#\| default_exp (\w+)', '\n'.join(c.source for c in cells(path)), re.M
        )
    }
    assert sorted(exporters) == MODULES
    assert {name for name, path in exporters.items() if path in THREAD} == {*ORDER}


def test_no_circle_of_imports():
    def walk(module, path):
        assert module not in path, ' -> '.join([*path[path.index(module) :], module])
        if module not in walked:
            for other in imports(module):
                if other in MODULES:
                    walk(other, [*path, module])
            walked.add(module)

    walked = set()
    for module in MODULES:
        walk(module, [])


@pytest.mark.parametrize('module', ORDER)
def test_what_the_thread_imports(module):
    before = {*ORDER[: ORDER.index(module)]}
    too_many = {*imports(module)} - before - FOR_ALL - BESIDES.get(module, set())
    assert not too_many, f'{module} imports {too_many}'


@pytest.mark.parametrize('module', MODULES)
def test_private_names_stay_private(module):
    names = [n for source in imports(module).values() for n in source if n.startswith('_')]
    assert not names


LIGHT = '''
import sys
HEAVY = {'torch', 'fastai', 'matplotlib', 'pytorch_fid', 'papermill', 'nbconvert'}
def check(what, heavy):
    loaded = heavy & {name.split('.')[0] for name in sys.modules}
    assert not loaded, f'{what} loads {loaded}'
import colorize
check('import colorize', HEAVY | {'numpy', 'cv2'})
import colorize.core, colorize.notebooks, colorize.settings
check('what every notebook imports first', HEAVY | {'pandas', 'cv2'})
import colorize.pipeline, colorize.cli
check('the command line', HEAVY | {'cv2'})
import colorize.infer
check('what colours photos', HEAVY)
import numpy as np
colorize.colorize(np.zeros((8, 8), np.uint8))
check('colouring a photo', HEAVY - {'torch'})
'''


def test_imports_are_light():
    done = subprocess.run([sys.executable, '-c', LIGHT], capture_output=True, text=True)
    assert not done.returncode, done.stderr[-500:]
