"`colorize demo` as a visitor meets it: a server of its own, and a browser."

import os, re, signal, socket, subprocess, sys
from io import BytesIO
from time import monotonic

import numpy as np
import pytest
from PIL import Image

for module in ('gradio', 'playwright'):
    pytest.importorskip(module, reason=f'the demo needs {module}')

from fastcore.test import test_eq as eq
from playwright.sync_api import expect
from typer.testing import CliRunner

from colorize.albums import colorize_files
from colorize.cli import app
from colorize.data import sample_photos

LIMITS = ['--max-mb', '3', '--megapixels', '13']


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def heed_ctrl_c():  # a shell's background jobs ignore it
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def serve(port, tmp):
    "A server, and what it prints first."
    env = dict(os.environ, TMPDIR=str(tmp), OMP_WAIT_POLICY='PASSIVE')
    server = subprocess.Popen(
        [sys.executable, '-m', 'colorize', 'demo', '--port', str(port), *LIMITS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        preexec_fn=heed_ctrl_c,
    )
    return server, server.stdout.readline()


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    "Its port. Ends as by Ctrl-C, and must leave nothing behind."
    port, tmp = free_port(), tmp_path_factory.mktemp('server')
    server, line = serve(port, tmp)
    try:
        eq(line, f'Open http://127.0.0.1:{port}/ in a browser. Ctrl-C ends it.\n')
        eq(len([*tmp.glob('colorize-*')]), 1)
        yield port
        server.send_signal(signal.SIGINT)
        eq((server.wait(20), server.stdout.read().strip(), [*tmp.glob('colorize-*')]), (0, '', []))
    finally:
        server.kill()


@pytest.fixture
def page(server, browser):
    "The page, opened; whatever it did, it asked nobody else, and no script failed."
    context, asked, failed = browser.new_context(viewport=dict(width=1280, height=900)), [], []
    page = context.new_page()
    page.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)
    page.on('request', lambda r: asked.append(r.url))
    page.on('pageerror', lambda e: failed.append(str(e)))
    page.goto(f'http://127.0.0.1:{server}')
    page.locator('#samples img').first.wait_for()
    yield page
    context.close()
    own = re.compile(rf'http://127\.0\.0\.1:{server}/|data:|blob:')
    assert asked and all(map(own.match, asked))
    assert not failed


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    "A gray scan with EXIF, larger than the page's copy of it."
    path, exif = tmp_path_factory.mktemp('photo') / 'old scan.jpg', Image.Exif()
    exif[0x013B] = 'A. Photographer'
    scan = Image.open(sample_photos()[2]).convert('L').resize((1600, 1067))
    scan.save(path, exif=exif, quality=90)
    return path


def drop(page, path):
    page.locator('#photo input[type=file]').set_input_files(path)


def pictures(page):
    return page.eval_on_selector_all('#slider img', 'images => images.map(i => i.src)')


def says(page, start):  # a message that begins so: no folder of the server in it
    message = page.get_by_role('status').get_by_text(re.compile('^' + re.escape(start)))
    expect(message).to_be_visible()


def shown(page, name):
    expect(page.locator('#note')).to_contain_text(name, timeout=20_000)


def painted(page, change):
    "Wait until a change has made another picture; its pixels."
    before = pictures(page)
    change()
    page.wait_for_function(
        """old => {
            const now = [...document.querySelectorAll('#slider img')]
            const loaded = now.every(i => i.complete && i.naturalWidth)
            return now.length > 1 && loaded && now.map(i => i.src).join() != old.join()
        }""",
        arg=before,
    )
    return colours(page)


def colours(page):  # HxWx3: the colour side
    data = BytesIO(page.request.get(pictures(page)[-1]).body())
    return np.asarray(Image.open(data).convert('RGB')).astype(int)


def turn(page, dial, value):
    box = page.locator(f'#{dial} input[type=number]')
    box.fill(str(value))
    box.press('Tab')


def download(page, folder):
    with page.expect_download() as started:
        page.get_by_role('button', name='Download at full size').click()
    started.value.save_as(out := folder / started.value.suggested_filename)
    return out


def test_a_photo_from_drop_to_download(page, photo, tmp_path):
    first = painted(page, lambda: drop(page, photo))
    eq(first.shape, (854, 1280, 3))
    assert abs(painted(page, lambda: turn(page, 'vividness', 0.2)) - first).mean() > 1
    painted(page, lambda: turn(page, 'warmth', 20))
    page.get_by_role('tab', name='Hints').click()
    picture = page.locator('#click img')
    picture.scroll_into_view_if_needed()
    k = 1600 / picture.bounding_box()['width']
    before = picture.get_attribute('src')
    picture.click(position=dict(x=400, y=60))
    hints = page.locator('#hints textarea')
    expect(hints).to_have_value(re.compile('^[0-9]+,[0-9]+,#3f6b3f$'))
    hint = hints.input_value()
    assert np.abs(np.array(hint.split(',')[:2], float) - [400 * k, 60 * k]).max() < 2 * k
    expect(picture).not_to_have_attribute('src', before)
    path = download(page, tmp_path)
    colorize_files([photo], same := tmp_path / 'same.jpg', vividness=0.2, warmth=20, hints=[hint])
    eq(path.name, 'old scan_colour.jpg')
    eq(np.asarray(Image.open(path)), np.asarray(Image.open(same)))
    eq(Image.open(path).getexif()[0x013B], 'A. Photographer')
    eq(dict(Image.open(path).getexif()), dict(Image.open(same).getexif()))
    page.get_by_role('button', name='Undo last hint').click()
    expect(hints).to_have_value('')
    page.get_by_role('button', name='Reset the dials').click()
    expect(page.locator('#vividness input[type=number]')).not_to_have_value('0.2')
    path = download(page, tmp_path)
    colorize_files([photo], plain := tmp_path / 'plain.jpg')
    eq(np.asarray(Image.open(path)), np.asarray(Image.open(plain)))


def test_twelve_megapixels(page, tmp_path, record_property):
    "A test does not judge speed; `pytest -k twelve --junit-xml=FILE` writes the seconds down."
    Image.open(sample_photos()[2]).resize((4000, 3000)).save(tmp_path / 'large.jpg')
    start = monotonic()
    eq(painted(page, lambda: drop(page, tmp_path / 'large.jpg')).shape, (960, 1280, 3))
    record_property('seconds from file to colour', round(monotonic() - start, 2))
    shown(page, '4000 x 3000 pixels')


def test_hints_by_keyboard(page):
    plain = painted(page, lambda: page.locator('#samples button').nth(1).press('Enter'))
    shown(page, 'chelsea.png')
    page.get_by_role('tab', name='Hints').press('Enter')
    page.locator('#click img').wait_for()  # the tab is built when it is first opened

    def tell(text):
        page.locator('#hints textarea').fill(text)
        page.locator('#hints textarea').press('Tab')

    red = painted(page, lambda: tell('200,40,#c02020'))
    assert (red - plain)[40, 200, 0] > 10
    tell('200,40,red')
    says(
        page,
        "The hint '200,40,red' has no colour 'red': write six hex digits, for example #aa3311.",
    )
    eq(colours(page), red)


def test_doubt_lies_over_the_colours_and_not_in_the_download(page, tmp_path):
    plain = painted(page, lambda: page.locator('#samples button').nth(3).click())
    assert abs(painted(page, lambda: turn(page, 'doubt', 1)) - plain).mean() > 20
    path = download(page, tmp_path)
    colorize_files([sample_photos()[3]], same := tmp_path / 'same.png')
    eq(np.asarray(Image.open(path)), np.asarray(Image.open(same)))


def test_what_is_refused(page, server, tmp_path):
    drop(page, sample_photos()[1])
    shown(page, 'chelsea.png')
    (tmp_path / 'bad.jpg').write_text('no photo')
    Image.new('L', (4000, 3400)).save(tmp_path / 'wide.png')
    (tmp_path / 'heavy.jpg').write_bytes(b'\xff\xd8\xff' + bytes(4_000_000))
    for name, sentence in {
        'bad.jpg': "bad.jpg isn't a photo",
        'wide.png': 'wide.png has 14 megapixels, more than the limit of 13: ',
    }.items():
        page.get_by_role('button', name='Clear').first.click()
        drop(page, tmp_path / name)
        says(page, sentence)
        shown(page, 'Drop a photo')
        expect(page.get_by_role('button', name='Download at full size')).to_be_disabled()
    page.get_by_role('button', name='Clear').first.click()
    drop(page, tmp_path / 'heavy.jpg')
    says(page, 'File(s) exceed the maximum allowed size of 3.0 Mb')
    shown(page, 'Drop a photo')
    data = (tmp_path / 'heavy.jpg').read_bytes()
    files = dict(files=dict(name='heavy.jpg', mimeType='image/jpeg', buffer=data))
    address = f'http://127.0.0.1:{server}/gradio_api/upload'
    eq(page.request.post(address, multipart=files).status, 413)  # by the server, too


def test_nobody_else_is_reached(page, server):
    blocked = page.evaluate("""() => new Promise(done => {
        document.addEventListener('securitypolicyviolation', e => done(e.blockedURI))
        fetch('https://example.org/').catch(() => {})
        setTimeout(() => done('nothing'), 5000) })""")
    eq(blocked, 'https://example.org/')
    evil = dict(headers={'Host': 'evil.example'})
    eq(page.request.get(f'http://127.0.0.1:{server}/', **evil).status, 400)
    with pytest.raises(ConnectionError):  # all of 127.* is this computer
        socket.create_connection(('127.0.0.2', server), 2)


@pytest.mark.parametrize('scheme, width', [('light', 1280), ('dark', 390)])
def test_it_can_be_read_and_reached(browser, server, scheme, width):
    axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe()
    page = browser.new_page(color_scheme=scheme, viewport=dict(width=width, height=900))
    page.goto(f'http://127.0.0.1:{server}')
    page.locator('#samples button').nth(1).click()
    shown(page, 'chelsea.png')
    for tab in ('Before and after', 'Hints'):
        page.get_by_role('tab', name=tab).click()
        violations = axe.run(page).response['violations']
        bad = [v for v in violations if v['impact'] in ('serious', 'critical')]
        eq([(v['id'], [n['html'][:99] for n in v['nodes']]) for v in bad], [])
        assert page.evaluate('document.documentElement.scrollWidth') <= width
    page.close()


@pytest.mark.parametrize(
    'missing, sentence',
    [
        ('', 'The demo cannot listen on 127.0.0.1:{}: it is taken, or not an address of'),
        ('gradio', "The demo needs the package gradio: pip install '.[demo]'"),
    ],
)
def test_one_sentence(server, monkeypatch, missing, sentence):
    monkeypatch.setenv('GRADIO_TEMP_DIR', '')  # which `demo` sets; to be as before afterwards
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    result = CliRunner().invoke(app, ['demo', '--port', str(server)])
    assert result.exit_code == 1 and result.output.count('\n') == 1
    assert result.output.startswith(sentence.format(server))
