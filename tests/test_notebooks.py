"The notebooks keep to the house rules that no tool checks."

import ast, json, re, subprocess, sys

import pytest

from colorize.notebooks import notebook
from colorize.pipeline import STEPS

nbs = sorted(notebook('').parent.glob('[0-9]*.ipynb'))
with_parameters = [p for p in nbs if not p.name.startswith('00')]
directives = {'default_exp', 'export', 'exporti', 'hide', 'notest', 'eval:', 'echo:', 'output:'}
by_name = pytest.mark.parametrize('path', nbs, ids=lambda p: p.stem)


def load(path):
    return json.loads(path.read_text(encoding='utf-8'))


def code_cells(path):
    return [
        (''.join(c['source']), c['metadata'].get('tags', []))
        for c in load(path)['cells']
        if c['cell_type'] == 'code'
    ]


@pytest.mark.parametrize(
    'path', sorted(notebook('').parent.glob('runs/*.yaml')), ids=lambda p: p.stem
)
def test_runs_are_small_enough_to_read(path):
    assert len(path.read_text(encoding='utf-8').splitlines()) <= 40


def test_steps_have_notebooks():
    assert not [name for name in STEPS if not notebook(name).exists()]


@by_name
def test_kernel(path):
    assert load(path)['metadata']['kernelspec']['name'] == 'python3', (
        'papermill finds no kernel of another name'
    )


@pytest.mark.parametrize('path', with_parameters, ids=lambda p: p.stem)
def test_parameters(path):
    tagged = [source for source, tags in code_cells(path) if 'parameters' in tags]
    assert len(tagged) == 1, 'one cell is tagged parameters'
    lines = [l for l in tagged[0].splitlines() if l.strip() and not l.startswith('#')]
    for line in lines:
        assert re.fullmatch(r'\w+:(int|float|str|bool) = .+? # [^\s=][^=]*', line), (
            f'not `name:type = value # what it is` (papermill drops a line with a second equals sign): {line}'
        )
        node = ast.parse(line).body[0]
        assert type(ast.literal_eval(node.value)).__name__ == node.annotation.id, (
            f'the default is of another type: {line}'
        )
    if len(tagged[0].splitlines()) == 1:
        assert not re.match(r'(run|time|cd|ls|cat|pwd)\b', tagged[0]), (
            'IPython takes a one-line cell that starts so for a magic'
        )
    if path.stem in STEPS:
        assert any(l.startswith('run:str = "sample"') for l in lines), 'no parameter run'


@by_name
def test_cells(path):
    for source, _ in code_cells(path):
        assert 'nbdev_export(' not in source, 'papermill would run it'
        assert len(source.splitlines()) <= 40, (
            f'a cell of {len(source.splitlines())} lines: {source[:80]}'
        )
        for line in source.splitlines():
            if re.match(r'\s*#\s*\|', line):
                assert line.startswith('#| ') and line[3:].split()[0] in directives, (
                    f'nbdev passes over this in silence: {line}'
                )


@pytest.mark.parametrize(
    'path, before, after', [*zip(nbs, [None, *nbs], [*nbs[1:], None])], ids=[p.stem for p in nbs]
)
def test_one_thread(path, before, after):
    link = lambda p: f'[{p.stem}]({p.name})'
    last = load(path)['cells'][-1]
    assert last['cell_type'] == 'markdown'
    assert ''.join(last['source']) == ' · '.join(
        [*([f'← {link(before)}'] if before else []), *([f'{link(after)} →'] if after else [])]
    )


def called(tree):
    "Names of the functions that a cell calls itself; what it only defines does not count."
    if isinstance(tree, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
        return
    if isinstance(tree, ast.Call):
        yield getattr(tree.func, 'id', getattr(tree.func, 'attr', ''))
    for part in ast.iter_child_nodes(tree):
        yield from called(part)


@by_name
def test_figures_are_shown_with_words(path):
    for source, _ in code_cells(path):
        tree = ast.parse(source)
        bare = [n for s in tree.body if isinstance(s, ast.Expr) for n in [*called(s)][:1]]
        assert 'image_grid' not in bare, (
            f'a figure without a text alternative: say show(image_grid(...), ...): {source[:80]}'
        )
        if {'image_grid', 'subplots', 'figure'} & (
            names := {*called(tree)}
        ) and not source.startswith('#| export'):
            assert {'show', 'save_figure'} & names, (
                f'a figure that nobody shows, with words or without: {source[:80]}'
            )
        assert not re.search(r'\b(plt|pyplot\(\))\.show\(', source), (
            f'say show(fig, ...), which takes a text alternative: {source[:80]}'
        )


@by_name
def test_a_figure_before_the_first_long_cell(path):
    cells = [source for source, tags in code_cells(path) if 'parameters' not in tags]
    long = next((i for i, s in enumerate(cells) if len(s.splitlines()) > 15), len(cells))
    assert any('show' in called(ast.parse(s)) for s in cells[: long + 1]), (
        f'this one comes first: {cells[: long + 1][-1][:80]}'
    )


@by_name
def test_no_path_of_one_machine(path):
    text = '\n'.join(
        ''.join(c['source']) + json.dumps(c.get('outputs', '')) for c in load(path)['cells']
    )
    assert not re.findall(r'(?<![\w.~-])/(?:home|Users|root|work|mnt|opt|workspace)/[\w.-]+', text)


def imported_by(statement):
    code = f'{statement}\nimport sys; print(*{{m.split(".")[0] for m in sys.modules}})'
    return set(
        subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_import_is_light():
    assert not imported_by('import colorize') & {'torch', 'fastai', 'matplotlib', 'numpy', 'cv2'}


def test_inference_is_light():
    heavy = {'fastai', 'matplotlib', 'pytorch_fid', 'papermill'}
    assert not imported_by('import colorize.infer') & (heavy | {'torch'})
    assert (
        not imported_by(
            'from colorize import colorize; import numpy as np; colorize(np.zeros((8, 8), np.uint8))'
        )
        & heavy
    )


@pytest.mark.parametrize('module', ['pipeline', 'cli'])
def test_nothing_heavy_before_work_begins(module):
    assert not imported_by(f'import colorize.{module}') & {
        'torch',
        'fastai',
        'matplotlib',
        'papermill',
        'nbconvert',
        'cv2',
    }


@pytest.mark.parametrize(
    'given, message',
    [(dict(rum='x'), "no parameter 'rum'"), (dict(run=3), 'give a value of type str')],
)
def test_papermill_refuses_a_wrong_parameter(tmp_path, given, message):
    import papermill

    with pytest.raises(papermill.PapermillExecutionError, match=message):
        papermill.execute_notebook(
            notebook('08_pipeline'), tmp_path / 'out.ipynb', given, progress_bar=False, cwd=tmp_path
        )


@pytest.mark.parametrize('path', with_parameters, ids=lambda p: p.stem)
def test_parameters_are_checked(path):
    sources = [source for source, _ in code_cells(path)]
    at = next(i for i, (_, tags) in enumerate(code_cells(path)) if 'parameters' in tags)
    assert path.stem not in STEPS or 'check_injected(globals())' in sources[at + 1]


def test_training_looks_for_its_photos_before_it_imports_anything_heavy():
    sources = [source for source, _ in code_cells(notebook('03_train'))]
    at = next(i for i, s in enumerate(sources) if 'check_dataset(dataset, path_val)' in s)
    imports = re.findall(r'^(?:from|import) ([\w.]+)', '\n'.join(sources[: at + 1]), re.M)
    assert set(imports) == {'colorize.core'}
    assert not imported_by('import colorize.core') & {
        'torch',
        'fastai',
        'matplotlib',
        'pandas',
        'cv2',
    }
