"The page of a run as a visitor meets it, in a browser; and the run itself, made smaller."

import io, re, subprocess
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from conftest import MACHINE, checkout
from PIL import Image

from colorize.core import load_json
from colorize.notebooks import cells
from colorize.page import CLAIMS, answers, read_shipped, write_index
from colorize.pipeline import STEPS

looks = pytest.mark.parametrize(
    'scheme, width', [('light', 1280), ('dark', 1280), ('light', 390), ('dark', 390)]
)


@pytest.fixture(scope='module')
def index(tmp_path_factory):
    with pytest.MonkeyPatch.context() as m:
        m.chdir(checkout(tmp_path_factory.mktemp('page')))
        yield write_index('reference', STEPS)


@pytest.fixture
def opened(browser, index):
    "Open the page; it must ask for nothing from outside of its folder."
    pages = []

    def visit(scheme='light', width=1280, path=index):
        page = browser.new_page(color_scheme=scheme, viewport=dict(width=width, height=900))
        urls = []
        page.on('request', lambda r: urls.append(r.url))
        page.goto(path.as_uri())
        pages.append((page, urls, path))
        return page

    yield visit
    for page, urls, path in pages:
        assert all(url.startswith(('data:', path.parent.as_uri())) for url in urls)
        page.close()


def test_weight(index):
    assert index.stat().st_size < 200_000


def violations(page):  # what axe-core finds
    axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe()
    return [
        (v['id'], v['impact'], [n['html'][:99] for n in v['nodes']])
        for v in axe.run(page, options=dict(resultTypes=['violations'])).response['violations']
    ]


@looks
def test_it_can_be_read_and_reached(opened, scheme, width):
    page = opened(scheme, width)
    assert not violations(page)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert page.locator('img:not([alt])').count() == 0 and page.locator('img[alt=""]').count() == 0


def chroma(part):  # of a locator, as it is seen
    rgb = np.asarray(Image.open(io.BytesIO(part.screenshot())).convert('RGB')).astype(int)
    return (rgb.max(-1) - rgb.min(-1)).mean()


def test_the_wall(opened):
    "Gray, and colour under the pointer, in focus or once chosen."
    page = opened()
    page.emulate_media(reduced_motion='reduce')
    photo, large = page.locator('.wall a').nth(2), page.locator('.slider .over')
    gray = chroma(photo)
    for act in (photo.hover, photo.focus):
        act()
        assert chroma(photo) > gray + 10
        page.locator('h1').hover()
        page.keyboard.press('Tab')
        assert chroma(photo) == gray
    before = large.evaluate('e => e.src')
    photo.press('Enter')
    page.keyboard.press('Tab')
    assert photo.get_attribute('aria-current') and chroma(photo) > gray + 10
    after = [over.evaluate('e => e.src') for over in (large, photo.locator('.over'))]
    assert after[0] == after[1] != before
    assert page.locator('.wall [aria-current]').count() == 1
    name = photo.locator('img').first.get_attribute('alt').split()[0]
    assert page.locator('figcaption').first.inner_text().startswith(name)


def test_without_scripts(browser, index):
    "A photo of the wall opens as a file; the slider shows the first one."
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(index.as_uri())
    assert page.get_by_role('slider').is_visible()
    page.locator('.wall a').first.click()
    assert page.url.endswith('05_wall_00_colour.jpg')
    page.close()


def test_slider_by_keyboard(opened):
    page = opened()
    slider = page.get_by_role('slider')
    half = chroma(page.locator('.slider'))
    for _ in range(20):  # the link past the header, its links, the wall, the slider
        page.keyboard.press('Tab')
        if slider.evaluate('e => e === document.activeElement'):
            break
    page.keyboard.press('Home')
    colour = chroma(page.locator('.slider'))
    page.keyboard.press('End')
    gray = chroma(page.locator('.slider'))
    page.keyboard.press('ArrowLeft')
    assert slider.input_value() == '99'
    assert gray < 0.5 * half and half < 0.8 * colour


def test_slider_by_mouse(opened):
    page = opened(width=390)
    box = page.locator('.slider').bounding_box()
    page.mouse.click(box['x'] + 0.25 * box['width'], box['y'] + 0.5 * box['height'])
    shown = page.locator('.slider .over').evaluate('e => getComputedStyle(e).clipPath')
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
        and page.locator('.slider .over').evaluate('e => getComputedStyle(e).clipPath') == 'none'
    )


def dead_links(page):
    text = page.read_text(encoding='utf-8')
    links = {l for l in re.findall(r'href="([^"]+)"', text) if '://' not in l}
    jumps = {l for l in links if l[0] == '#'}
    return [l for l in jumps if f'id="{l[1:]}"' not in text] + [
        l for l in links - jumps if not (page.parent / l.partition('#')[0]).exists()
    ]


def test_links_lead_somewhere(index):
    assert not dead_links(index)


def test_claims_are_the_metrics(index):
    "What the page says of KID is what the file says."
    text, ours = (
        index.read_text(encoding='utf-8'),
        load_json(index.parent / 'metrics' / '06_fid.json')['metrics']['ours'],
    )
    assert f'ours: {ours["kid"] * 1000:.3g} [' in text
    assert len(answers('reference')) == len(CLAIMS)


def test_the_shipped_model(index):
    "It comes before the run's own answers, once; not if other weights were measured."
    text = index.read_text(encoding='utf-8')
    assert text.count('What the shipped model does') == 1
    assert text.index('id="model"') < text.index('id="claims"')
    file = index.parent / 'metrics' / '06_fid.json'
    metrics = load_json(file)
    assert metrics['model_sha256'][:12] in text and f'{metrics["n"]} test photos' in text
    assert read_shipped(index.parent)
    with patch('colorize.page.sha256', lambda path: 'other'):
        assert not read_shipped(index.parent)


def test_open_questions_are_behind_a_disclosure(index):
    shown = re.sub(r'<details>.*?</details>', '', index.read_text(encoding='utf-8'), flags=re.S)
    assert not re.search('<td class="answer">(undecided|no )', shown)


# -- what the repository holds of the reference run


@pytest.fixture(scope='module')
def committed():
    "The files of results/reference that git has."
    root, asked = Path(__file__).parent.parent, ['git', 'ls-files', '-z', 'results/reference']
    done = subprocess.run(asked, cwd=root, capture_output=True, text=True)
    paths = [root / name for name in done.stdout.split('\0')[:-1]]
    return [p for p in paths if p.exists()] or pytest.skip('this is no clone')


def test_the_reference_is_small(committed):
    assert sum(p.stat().st_size for p in committed) <= 12_000_000


def test_the_reference_names_no_machine(committed):
    for path in committed:
        if path.suffix not in ('.png', '.jpg'):
            text = path.read_text(encoding='utf-8')
            assert not re.findall(MACHINE, text), path


def test_links_of_the_reference(committed):
    "In a clone they lead somewhere, too."
    for path in committed:
        text = path.read_text(encoding='utf-8') if path.suffix in ('.md', '.html') else ''
        if path.suffix == '.ipynb':
            text = '\n'.join(c.source for c in cells(path, 'markdown'))
        links = re.findall(r'\]\(([^)\s#]+)', text) + re.findall(r'href="([^"#]+)', text)
        for link in (l for l in links if '://' not in l):
            target = (path.parent / link).resolve()
            ours = target.is_relative_to(committed[0].parent)
            assert target in committed if ours else target.exists(), (path.name, link)


# -- the small report: this is the test of the notebooks of the thread, all of their cells


@pytest.fixture(scope='module')
def small(running_report):
    "Every notebook of the report, executed: any assertion that fails stops it."
    place, process = running_report
    out, err = process.communicate()
    print(out)
    assert process.returncode == 0, out + err
    assert out.endswith('Look at results/small/index.html\n') and err == ''
    return place / 'results' / 'small'


def test_a_whole_report(small):
    assert {p.name for p in small.glob('*.*') if p.name[0] != '.'} >= {
        f'{name}{suffix}' for name in STEPS for suffix in ('.ipynb', '.html')
    } | {'index.html'}
    assert not dead_links(small / 'index.html')


def test_its_page(small, opened):
    page = opened(path=small / 'index.html')
    assert page.locator('#notebooks ~ dl dt').count() == len(STEPS)
    assert page.get_by_role('slider').is_visible()


@pytest.mark.parametrize('name', STEPS)
def test_every_cell_was_run(small, name):
    cells = [c for c in load_json(small / f'{name}.ipynb')['cells'] if c['cell_type'] == 'code']
    assert all(c['execution_count'] for c in cells if ''.join(c['source']).strip())
    outputs = [o for c in cells for o in c['outputs']]
    assert not [o for o in outputs if o['output_type'] == 'error' or o.get('name') == 'stderr']


@pytest.mark.parametrize('name', STEPS)
def test_the_way_through(small, name):
    text = (small / f'{name}.html').read_text(encoding='utf-8')
    after = [*STEPS, 'index'][STEPS.index(name) + 1]
    assert f'href="{after}.html"' in text and 'href="index.html"' in text
    assert not [l for l in dead_links(small / f'{name}.html') if l[0] != '#']


@pytest.mark.parametrize('name', STEPS)
def test_its_notebooks_can_be_read(small, opened, name):
    page = opened(width=390, path=small / f'{name}.html')
    for scheme in ('light', 'dark'):
        page.emulate_media(color_scheme=scheme)
        assert not [v for v in violations(page) if v[1] in ('serious', 'critical')]
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    assert not page.eval_on_selector_all(
        'img',
        "all => all.map(i => i.alt).filter(a => a.length < 20 || a.includes('No description'))",
    )
