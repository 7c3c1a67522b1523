"The page of a run as a visitor meets it, in a browser; and the run itself, made smaller."

import io, re, shutil, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorize.core import load_json, project
from colorize.page import CLAIMS, answered, write_index
from colorize.pipeline import STEPS

root = project()
looks = pytest.mark.parametrize(
    'scheme, width', [('light', 1280), ('dark', 1280), ('light', 390), ('dark', 390)]
)


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    "A checkout with the reference run's figures and numbers."
    at = tmp_path_factory.mktemp('report')
    shutil.copy(root / 'settings.ini', at)
    for name in ('nbs', 'colorize', 'trained_model', 'results/reference'):
        shutil.copytree(
            root / name,
            at / name,
            ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '*.html'),
        )
    return at


@pytest.fixture(scope='module')
def index(clone):
    with pytest.MonkeyPatch.context() as m:
        m.chdir(clone)
        yield write_index('reference')


@pytest.fixture
def opened(browser, index):
    "Open the page; it must ask for nothing but itself."
    pages = []

    def visit(scheme='light', width=1280, path=index):
        page = browser.new_page(color_scheme=scheme, viewport=dict(width=width, height=900))
        asked = []
        page.on('request', lambda r: asked.append(r.url))
        page.goto(path.as_uri())
        pages.append((page, asked, path))
        return page

    yield visit
    for page, asked, path in pages:
        assert [url for url in asked if not url.startswith('data:')] == [path.as_uri()]
        page.close()


def test_weight(index):
    assert index.stat().st_size < 8_000_000


def violations(page):  # what axe-core finds
    axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe()
    return [
        (v['id'], v['impact'], [n['html'][:99] for n in v['nodes']])
        for v in axe.run(page).response['violations']
    ]


@looks
def test_it_can_be_read_and_reached(opened, scheme, width):
    page = opened(scheme, width)
    assert not violations(page)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert page.locator('img:not([alt])').count() == 0 and page.locator('img[alt=""]').count() == 0


def chroma(page):  # of the slider, as it is seen
    rgb = np.asarray(
        Image.open(io.BytesIO(page.locator('.slider').screenshot())).convert('RGB')
    ).astype(int)
    return (rgb.max(-1) - rgb.min(-1)).mean()


def test_slider_by_keyboard(opened):
    page = opened()
    slider = page.get_by_role('slider')
    half = chroma(page)
    for _ in range(9):  # the link past the header, its links, the slider
        page.keyboard.press('Tab')
        if slider.evaluate('e => e === document.activeElement'):
            break
    page.keyboard.press('Home')
    colour = chroma(page)
    page.keyboard.press('End')
    gray = chroma(page)
    page.keyboard.press('ArrowLeft')
    assert slider.input_value() == '99'
    assert gray < 0.5 * half and half < 0.8 * colour


def test_slider_by_mouse(opened):
    page = opened(width=390)
    box = page.locator('.slider').bounding_box()
    page.mouse.click(box['x'] + 0.25 * box['width'], box['y'] + 0.5 * box['height'])
    shown = page.locator('.over').evaluate('e => getComputedStyle(e).clipPath')
    assert abs(int(page.get_by_role('slider').input_value()) - 25) <= 8, shown


def test_on_paper(opened):
    page = opened(width=800)
    page.emulate_media(media='print')
    assert (
        not page.get_by_role('navigation').is_visible()
        and not page.get_by_role('slider').is_visible()
    )
    left, right = (page.locator('.slider img').nth(k).bounding_box() for k in (0, 1))
    assert (
        left['x'] + left['width'] <= right['x']
        and page.locator('.over').evaluate('e => getComputedStyle(e).clipPath') == 'none'
    )


def test_links_lead_somewhere(index):
    text = index.read_text(encoding='utf-8')
    for link in re.findall(r'href="([^"]+)"', text):
        assert f'id="{link[1:]}"' in text if link[0] == '#' else (index.parent / link).exists(), (
            link
        )


def test_claims_are_the_metrics(index):
    "What the page says of KID is what the file says."
    text, ours = (
        index.read_text(encoding='utf-8'),
        load_json(index.parent / 'metrics' / '06_fid.json')['metrics']['ours'],
    )
    assert f'ours: {ours["kid"] * 1000:.3g} [' in text
    assert len(answered('reference')) == len(CLAIMS)


SMALL = '''
03_train: {epochs: 1, crops: 2}
04_loss_comparison: {epochs: 1, crops: 2, photos: 4}
05_colorize: {photos: 2}
06_fid: {n: 4, tiles: 2, size: 64, sheet: 2, lies: 4}
'''


def test_a_whole_report(clone, opened):
    "Every notebook of the report, executed; then its page, and the way through its notebooks."
    (clone / 'nbs' / 'runs' / 'small.yaml').write_text(SMALL)
    done = subprocess.run(
        [Path(sys.executable).with_name('colorize'), 'report', '--run', 'small'],
        cwd=clone,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith('Look at results/small/index.html\n') and done.stderr == ''
    made = clone / 'results' / 'small'
    page = opened(path=made / 'index.html')
    assert (
        page.locator('#notebooks ~ dl dt').count() == len(STEPS)
        and page.get_by_role('slider').is_visible()
    )
    test_links_lead_somewhere(made / 'index.html')
    for name, after in zip(STEPS, [*STEPS][1:]):
        text = (made / f'{name}.html').read_text(encoding='utf-8')
        assert f'href="{after}.html"' in text and 'href="index.html"' in text
        page = opened(width=390, path=made / f'{name}.html')
        assert not [v for v in violations(page) if v[1] in ('serious', 'critical')], name
        assert page.evaluate('document.documentElement.scrollWidth') <= 390, name
        said = [o for c in load_json(made / f'{name}.ipynb')['cells'] for o in c.get('outputs', ())]
        assert not [o for o in said if o['output_type'] == 'error' or o.get('name') == 'stderr'], (
            name
        )
        assert not page.eval_on_selector_all(
            'img',
            "all => all.filter(i => i.alt.length < 20 || i.alt.includes('No description')).map(i => i.alt)",
        ), name
