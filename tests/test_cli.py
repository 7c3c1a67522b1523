"The command line: help at once; for bad input one sentence, a non-zero exit, and nothing written."

import os
import re
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from colorize.cli import app

COMMANDS = ['image', 'temperature', 'train', 'validate', 'evaluate', 'export', 'report']


def say(line):
    result = CliRunner().invoke(
        app, line.split() if isinstance(line, str) else line, prog_name='colorize'
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def here(tmp_path, monkeypatch):
    "A folder outside of the checkout: photos, no photos, damaged files."
    y, x = np.mgrid[:120, :160]
    for i, name in enumerate(
        ['photos/a.png', 'photos/b.jpg', 'photos/c.png', 'one.png', 'out.png', 'one_warm.png']
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.stack([x + 40 * i, 2 * y, 250 - x], -1).astype(np.uint8)).save(
            tmp_path / name
        )
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty' / 'notes.txt').write_text('no photo')
    for name in ('broken.jpg', 'broken.pth', 'file'):
        (tmp_path / name).write_text('neither photo nor weights')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob('*') if p.is_file()}


@pytest.mark.parametrize('command', COMMANDS)
def test_help_has_an_example(command):
    result = say(f'{command} --help')
    assert result.exit_code == 0 and f'Example: colorize {command}' in result.output


def test_help_names_every_command():
    assert all(re.search(rf'^  {c} ', say('--help').output, re.M) for c in COMMANDS)


def test_options_of_the_original():
    text = say('train --help').output
    names = '--path-train --path-val --path-trained-model --n-epochs --n-batches --lr --resume'
    assert all(name in text for name in (*names.split(), '--device'))


inference = [
    ('image nothing.jpg -o x.png', 'nothing.jpg'),
    ('image empty -o x', 'no photos'),
    ('image broken.jpg -o x.png', 'broken.jpg'),
    ('image one.png -o out.png', 'exists already'),
    ('image one.png -o file/x.png', 'cannot be written'),
    ('image one.png -o x.png --device abacus', "no device 'abacus'"),
    ('image one.png -o x.png --path-trained-model broken.pth', 'broken.pth'),
    ('image one.png -o x.png --path-trained-model nothing.pth', 'nothing.pth'),
    ('image one.png -o x.png --vividness 7', 'vividness'),
    ('image one.png -o x.png --saturation 7', 'saturation'),
    ('image one.png -o x.png --keep-color -1', 'keep-color'),
    ('image one.png -o x.png --warmth 101', 'warmth'),
    ('image one.png -o x.png --quality 0', 'quality'),
    ('image one.png -o x.png --hint 5,5', '5,5'),
    ('image one.png -o x.png --hint 500,5,#ff0000', 'outside'),
    ('image one.png -o x.png --hint 5,5,#gg0000', '#gg0000'),
    ('image one.png -o x.png --strokes broken.jpg', 'broken.jpg'),
    ('image one.png -o x.png --strokes nothing.png', 'nothing.png'),
    ('image one.png -o x.png --backend jax', "no backend 'jax'"),
    ('image one.png -o x.png --backend onnx --path-trained-model nothing.onnx', 'nothing.onnx'),
    ('image one.png -o x.png --format xyz', 'xyz'),
    ('image one.png -o x.xyz', 'xyz'),
    ('image one.png -o one.png --force', 'never replaced'),
    ('image one.png -o x.png --megapixels .01', '--megapixels'),
    ('image ftp://example.org/a.jpg -o x.png', 'http'),
    ('image *.xyz -o x', '*.xyz'),
    ('image photos -o x.png', 'x.png'),
    ('export --format tflite', 'tflite'),
    ('export -o model.pb', '.onnx'),
    ('export --path-trained-model broken.pth -o x.onnx', 'broken.pth'),
    ('validate --path-val photos --path-trained-model broken.pth', 'broken.pth'),
    ('validate --path-val nowhere', 'nowhere'),
    ('validate --path-val empty', 'no photos'),
    ('validate --path-val photos --device abacus', "no device 'abacus'"),
]
others = [
    ('temperature nothing.png', 'nothing.png'),
    ('temperature broken.jpg', 'broken.jpg'),
    ('temperature one.png -o x.png --strength .5', '--auto'),
    ('temperature one.png -o .', 'exists already'),
    ('temperature one.png -o file', 'cannot be written'),
    ('temperature one.png --warm 1000', 'warm'),
    ('temperature one.png --warm 0', 'warm'),
    ('temperature one.png --kelvin 100', 'kelvin'),
    ('temperature one.png --kelvin 5000 --cool 9', 'set the same thing'),
    ('temperature one.png --method curve --auto', 'no kelvin, tint or auto'),
    ('temperature one.png --preserve all', 'preserve'),
    ('temperature one.png -o -', 'only one picture'),
    ('temperature one.png -o x.xyz', 'xyz'),
    ('temperature one.png --warm 9 -o one.png --force', 'never replaced'),
    ('temperature one.png --warm 9 -o out.png', 'exists already'),
    ('temperature empty -o x', 'no photos'),
    ('temperature photos --megapixels 0.001 --warm', '--warm'),
    ('train --path-train nowhere', 'nowhere'),
    ('train --path-train empty', 'no photos'),
    ('train --path-train photos --path-val nowhere', 'nowhere'),
    ('train --path-train photos --path-trained-model out.png', 'exists already'),
    ('train --path-train photos --path-trained-model file/m.pth', 'cannot be written'),
    ('train --path-train photos --path-trained-model m.pth --device abacus', "no device 'abacus'"),
    ('train --path-train photos --path-trained-model m.pth --loss l3', "no loss 'l3'"),
    ('train --path-train photos --path-trained-model m.pth --n-epochs 0', 'must be above 0'),
    ('train --path-train photos --path-trained-model m.pth --kid-every -1', '--kid-every'),
    ('train --path-train photos --path-trained-model m.pth --init broken.pth', 'broken.pth'),
    ('report', 'inside a clone'),
    ('report --run other', 'inside a clone'),
    ('imag one.png', "Did you mean 'image'"),
    ('image one.png', '--out'),
    ('train --n-epochs many', '--n-epochs'),
    ('train --no-such-option', '--no-such-option'),
]


@pytest.mark.parametrize(
    'line, part',
    inference + others,
    ids=lambda x: x,
)
def test_bad_input(here, line, part):
    before = tree(here)
    result = say(line)
    assert result.exit_code not in (0, None)
    assert result.stdout == '' and re.fullmatch(r'[^\n]+\.[^\n]*\n', result.stderr), result.output
    assert part in result.stderr and 'Traceback' not in result.stderr
    assert {k: v for k, v in tree(here).items() if not k.startswith('data/')} == before


def test_the_installed_command(here):
    "In a process of its own: exit codes and streams as a shell sees them."
    command = [sys.executable, '-c', 'from colorize.cli import app; app()']
    assert subprocess.run([*command, '--help'], capture_output=True).returncode == 0
    bad = subprocess.run([*command, 'report'], capture_output=True, text=True)
    assert (bad.returncode, bad.stdout, bad.stderr.count('\n')) == (1, '', 1)


def test_ctrl_c(monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr('colorize.pipeline.report', stop)
    result = say('report')
    assert (result.exit_code, result.stderr) == (130, 'Stopped.\n')


def test_temperature_writes_two(here):
    result = say('temperature photos/b.jpg')
    assert result.exit_code == 0
    assert {k for k in tree(here) if k.startswith('results/')} == {
        'results/b_warm.jpg',
        'results/b_cool.jpg',
    }
    assert result.stdout.split() == [
        str(here / 'results' / 'b_warm.jpg'),
        str(here / 'results' / 'b_cool.jpg'),
    ]
    assert (
        say('temperature photos/b.jpg').exit_code == 1
        and say('temperature photos/b.jpg --force').exit_code == 0
    )


@pytest.mark.parametrize(
    'dial, rise',
    [
        ('--warm 30', 1),
        ('--cool 30', -1),
        ('--kelvin 5000', 1),
        ('--kelvin 9000', -1),
        ('--warm 30 --preserve white', 1),
        ('--warm 30 --method curve', 1),
    ],
)
def test_temperature_dials(here, dial, rise):
    "Warmer is more red for its blue."
    Image.new('RGB', (4, 4), (128, 128, 128)).save(here / 'gray.png')
    assert say(f'temperature gray.png {dial} -o new.png').exit_code == 0
    r, _, b = Image.open(here / 'new.png').getpixel((0, 0))
    assert rise * (r - b) > 10


def test_temperature_of_a_folder(here):
    (here / 'photos' / 'bad.jpg').write_text('no photo')
    result = say('temperature photos one.png -o new --format jpg --auto --strength .5 --tint 3')
    assert result.exit_code == 1 and 'bad.jpg' in result.stderr
    assert {k for k in tree(here) if k.startswith('new/')} == {
        'new/a.jpg',
        'new/b.jpg',
        'new/c.jpg',
        'new/one.jpg',
    }


def test_temperature_in_a_pipe(here):
    command = [
        sys.executable,
        '-c',
        'from colorize.cli import app; app()',
        'temperature',
        '-',
        '--warm',
        '20',
        '-o',
        '-',
    ]
    result = subprocess.run(command, input=(here / 'one.png').read_bytes(), capture_output=True)
    assert result.returncode == 0 and Image.open(BytesIO(result.stdout)).size == (160, 120)


def test_image_keeps_the_size(here):
    result = say('image one.png -o new/colour.png')
    assert result.exit_code == 0, result.output
    assert Image.open(here / 'new' / 'colour.png').size == (160, 120)
    assert say('image photos one.png -o new/all').exit_code == 0
    assert len([k for k in tree(here) if k.startswith('new/all/')]) == 4


def test_one_bad_photo_does_not_stop_a_folder(here):
    (here / 'photos' / 'bad.jpg').write_text('no photo')
    result = say('image photos -o new')
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == 3
    assert 'bad.jpg' in result.stderr and re.search(
        r'^3 done, 1 failed in [\d.]+ s$', result.stderr, re.M
    )
    before = tree(here)
    (here / 'photos' / 'bad.jpg').unlink()
    again = say('image photos -o new')
    assert again.exit_code == 0 and again.stdout == '' and '3 skipped' in again.stderr
    assert {k: v for k, v in before.items() if 'bad' not in k} == tree(here)


def test_a_pipe(here):
    command = [sys.executable, '-c', 'from colorize.cli import app; app()', 'image', '-', '-o', '-']
    result = subprocess.run(command, input=(here / 'one.png').read_bytes(), capture_output=True)
    assert result.returncode == 0 and Image.open(BytesIO(result.stdout)).size == (160, 120)


def test_kid_while_training(here, monkeypatch):
    "Without Inception's weights refused before the first step; measured only where it is wanted."
    from colorize.core import InputError

    def none(device):
        raise InputError('There are no weights.')

    def pixels(device):
        return lambda photos: np.stack([p[::4, ::4].ravel() / 255 for p in photos])

    line = 'train --path-train photos --path-val photos --path-trained-model m.pth'
    line += ' --size 32 --n-batches 2 --n-epochs 1'
    monkeypatch.setattr('colorize.networks.Inception', none)
    assert say(f'{line} --kid-every 1').stderr == 'There are no weights.\n'
    assert not list(here.glob('m.*'))
    assert ' kid ' not in say(line).stdout.splitlines()[-1]
    monkeypatch.setattr('colorize.networks.Inception', pixels)
    text = say(f'{line} --kid-every 1 --force').stdout.splitlines()[-1]
    assert re.search(r' hist_distance 0\.\d+  kid -?\d\S*$', text)


def test_every_setting_has_an_option():
    "With its default, and with the traditional names."
    from colorize.settings import describe_settings

    text = ' '.join(say('train --help').output.split())
    names = dict(dataset='path-train', epochs='n-epochs', batch_size='n-batches, --batch-size')
    for s in describe_settings():
        assert f'--{names.get(s.name, s.name.replace("_", "-"))} ' in text, s.name
        assert s.type is bool or s.default == '' or f'[default: {s.default}' in text


# ---- streams and names that are not as they should be


def shell(line, here, **options):
    "As a shell runs it, `colorize` being this one."
    run = (
        f'colorize() {{ {sys.executable} -c "from colorize.cli import app; app()" "$@"; }}; {line}'
    )
    return subprocess.run(['bash', '-c', run], cwd=here, capture_output=True, **options)


def test_closed_streams(here):
    assert shell('colorize temperature one.png --warm 9 -o a.png 2>&-', here).returncode == 0
    assert (
        shell('colorize temperature one.png --warm 9 -o b.png >&- 2>&- <&-', here).returncode == 0
    )
    for name in ('a.png', 'b.png'):
        assert Image.open(here / name).size == (160, 120)
    for line, part in (
        ('- --warm 9 -o c.png <&-', b'stdin is closed'),
        ('one.png --warm 9 -o - >&-', b'stdout is closed'),
    ):
        result = shell(f'colorize temperature {line}', here)
        assert result.returncode == 1 and part in result.stderr and result.stderr.count(b'\n') == 1
    assert not (here / 'c.png').exists()


@pytest.mark.skipif(sys.platform != 'linux', reason='file names are bytes on Linux alone')
def test_a_name_that_is_not_utf8(here):
    os.rename(b'photos/b.jpg', b'photos/caf\xe9.jpg')
    (here / 'photos' / 'bad.jpg').write_text('no photo')
    strict = os.environ | dict(PYTHONIOENCODING='utf-8:strict')
    result = shell('colorize temperature photos --warm 9 -o new', here, env=strict)
    assert (
        result.returncode == 1
        and rb'caf\udce9.jpg' in result.stdout
        and result.stdout.count(b'\n') == 3
    )
    assert b"bad.jpg isn't a photo" in result.stderr and b'3 done, 1 failed' in result.stderr
    assert os.path.exists(b'new/caf\xe9.jpg')


def test_a_name_too_long_for_its_result(here):
    (here / 'photos' / f'b{"写" * 82}.jpg').write_bytes((here / 'photos' / 'b.jpg').read_bytes())
    result = say('temperature photos -o new')
    assert result.exit_code == 1 and '6 done, 1 failed' in result.stderr
    assert re.search(
        'cannot be written .File name too long.: give it a shorter name[.]\n', result.stderr
    )
    assert not [k for k in tree(here) if '写' in k and k.startswith('new')]


def test_two_photos_of_one_name(here):
    for suffix, kind in (('gif', 'GIF'), ('jfif', 'JPEG'), ('JPG', 'JPEG')):
        Image.open(here / 'one.png').save(here / 'photos' / f'a.{suffix}', format=kind)

    def names(folder):
        return {p.name for p in (here / folder).iterdir()}

    assert say('temperature photos --warm 9 -o new').exit_code == 0
    assert names('new') == {'a.png', 'a.gif.png', 'a.jfif', 'a.JPG', 'b.jpg', 'c.png'}
    assert say('temperature photos --warm 9 -o two --format png').exit_code == 0
    assert names('two') == {'a.png', 'a.gif.png', 'a.jfif.png', 'a.JPG.png', 'b.png', 'c.png'}


def test_what_a_folder_run_passes_over(here):
    folders = '@eaDir', '$RECYCLE.BIN', 'x.lrdata', 'lost+found', '__MACOSX'
    for name in (
        'r.dng',
        's.DNG',
        'notes.txt',
        'notes.TXT',
        'README',
        *(f'{f}/t.png' for f in folders),
    ):
        (here / 'photos' / name).parent.mkdir(exist_ok=True)
        (here / 'photos' / name).write_bytes((here / 'one.png').read_bytes())
    result = say('temperature photos -r --warm 9 -o new')
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 3
    which = re.search(r'^3 done, 5 passed over \((.*)\) in [\d.]+ s$', result.stderr, re.M)
    assert set(which[1].split(', ')) == {'2 .dng', '2 .txt', '1 without a suffix'}


@pytest.mark.parametrize(
    'line',
    [
        '--hint 5,5',
        '--strokes broken.jpg',
        '--vividness 7',
        '--device abacus',
        '--backend jax',
        '--path-trained-model nothing.pth',
        '--format xyz',
    ],
)
def test_refused_before_torch_is_loaded(here, line):
    words = ['image', 'one.png', '-o', 'x.png', *line.split()]
    code = f'''import sys
from colorize.cli import app
try: app({words!r})
except SystemExit: print('torch' in sys.modules)'''
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=here)
    assert result.stdout == 'False\n' and result.stderr.count('\n') == 1
