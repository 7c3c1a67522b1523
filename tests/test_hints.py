"Hints: what is typed or drawn, and how far it spreads."

import re
from types import SimpleNamespace

import numpy as np, pytest, torch
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from colorize.core import InputError
from colorize.hints import (
    Hint,
    affinity,
    apply_hints,
    known_cells,
    parse_hint,
    propagate,
    read_hints,
    scale_hints,
    spread_hints,
)
from colorize.infer import Colorizer
from colorize.lab import lab_to_rgb, rgb_to_lab
from colorize.model import make_model

quick = settings(max_examples=40, deadline=None, derandomize=True)
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
colours = st.tuples(st.floats(-100, 100), st.floats(-100, 100))


@st.composite
def scenes(draw, most=3):
    "Any small L and ab, and hints on them."
    h, w = draw(sizes)
    L = draw(arrays(np.float32, (h, w), elements=st.floats(0, 100, width=32)))
    ab = draw(arrays(np.float32, (h, w, 2), elements=st.floats(-100, 100, width=32)))
    x, y = (st.floats(0, side, exclude_max=True) for side in (w, h))
    hints = st.lists(st.builds(Hint, x, y, colours), min_size=1, max_size=most)
    return L, ab, draw(hints)


def flat(h=24, w=32, L=50):
    return np.full((h, w), L, np.float32), np.full((h, w, 2), (10, -30), np.float32)


red, green = (60.0, 40.0), (-50.0, 40.0)


@quick
@given(scenes(most=1))
def test_colour_is_reached_at_the_hint(scene):
    L, ab, [hint] = scene
    np.testing.assert_allclose(
        spread_hints(L, ab, [hint])[int(hint.y), int(hint.x)], hint.ab, atol=0.5
    )


@quick
@given(scenes(most=6))
def test_stays_between_the_known_colours(scene):
    L, ab, hints = scene
    out, known = spread_hints(L, ab, hints), np.array([h.ab for h in hints])
    assert out.dtype == np.float32 and out.shape == ab.shape and np.isfinite(out).all()
    assert (out >= np.minimum(ab, known.min(0)) - 0.01).all()
    assert (out <= np.maximum(ab, known.max(0)) + 0.01).all()


@quick
@given(scenes(), st.booleans())
def test_without_hints_no_bit_changes(scene, empty):
    L, ab, _ = scene
    before = ab.copy()
    out = spread_hints(L, ab, [], (np.zeros(L.shape, bool), 0 * ab) if empty else None)
    np.testing.assert_array_equal(out, before)
    assert out is not ab


@quick
@given(scenes())
def test_order_of_hints_and_input_do_not_change(scene):
    L, ab, hints = scene
    before = L.copy(), ab.copy()
    np.testing.assert_allclose(
        spread_hints(L, ab, hints), spread_hints(L, ab, hints[::-1]), atol=0.01
    )
    for a, b in zip((L, ab), before):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (2, 2), (24, 32)])
@pytest.mark.parametrize('L', [0, 50, 100])
def test_flat_photos_of_any_shape_are_filled(shape, L):
    out = spread_hints(*flat(*shape, L), [Hint(shape[1] - 1, 0, red)])
    np.testing.assert_allclose(out, np.broadcast_to(red, out.shape), atol=2)


@quick
@given(st.floats(15, 100), st.integers(12, 20), st.integers(0, 11), st.integers(0, 23))
def test_nothing_changes_behind_a_strong_edge(step, edge, x, y):
    L, ab = flat(L=0)
    L[:, edge:] = step
    out = spread_hints(L, ab, [Hint(x, y, red)])
    np.testing.assert_allclose(out[:, :edge], np.broadcast_to(red, (24, edge, 2)), atol=2)
    np.testing.assert_allclose(out[:, edge:], ab[:, edge:], atol=1)


def test_fades_with_distance():
    L, ab = flat(8, 800)
    strength = spread_hints(L, 0 * ab, [Hint(0, 4, (1, 1))])[4, :, 0]
    assert strength[0] > 0.99 and strength[40] > 0.9 and strength[-1] < 0.01
    assert (np.diff(strength) <= 1e-6).all()


@quick
@given(colours, st.integers(0, 15), st.integers(16, 31))
def test_same_colour_twice_is_that_colour_between(colour, x0, x1):
    L, ab = flat()
    out = spread_hints(L, ab, [Hint(x0, 12, colour), Hint(x1, 12, colour)])
    np.testing.assert_allclose(
        out[12, x0 : x1 + 1], np.broadcast_to(colour, (x1 - x0 + 1, 2)), atol=1
    )


def test_two_colours_share_a_flat_photo_fairly():
    L, ab = flat(24, 31)
    out = spread_hints(L, ab, [Hint(5, 12, red), Hint(25, 12, green)])
    np.testing.assert_allclose(out[12, 15], np.mean([red, green], 0), atol=1)
    mirrored = out[:, ::-1, 0]  # these places exchange the colours
    np.testing.assert_allclose(mirrored + out[..., 0], red[0] + green[0], atol=1)
    assert (np.diff(out[12, 6:25, 0]) <= 0.01).all()


def test_each_colour_stops_at_the_edge_between():
    L, ab = flat()
    L[:, 16:] = 60
    out = spread_hints(L, ab, [Hint(14, 12, red), Hint(17, 12, green)])
    np.testing.assert_allclose(out[:, :15], np.broadcast_to(red, (24, 15, 2)), atol=2)
    np.testing.assert_allclose(out[:, 17:], np.broadcast_to(green, (24, 15, 2)), atol=2)


def test_shading_and_texture_are_no_edges():
    L, ab = flat()
    texture = np.random.default_rng(0).normal(0, 1.5, L.shape).astype(np.float32)
    L += np.linspace(0, 20, 32, dtype=np.float32) + texture
    out = spread_hints(L, ab, [Hint(3, 12, red)])
    assert np.mean(np.linalg.norm(out - red, axis=-1) < 5) > 0.95


def test_a_gray_hint_makes_gray():
    out = spread_hints(*flat(), [parse_hint('4,4,#777777')])
    assert np.abs(out).max() < 2


def test_two_hints_on_one_pixel_are_averaged():
    out = spread_hints(*flat(), [Hint(4, 4, (10, 10)), Hint(4.9, 4.2, (14, 12))])
    np.testing.assert_allclose(out[4, 4], (12, 11), atol=0.1)


def test_strokes_are_reached_and_spread_like_hints():
    L, ab = flat()
    mask = np.zeros(L.shape, bool)
    mask[5, 3:9] = True
    beside = 1e6  # counts for nothing
    drawn = np.where(mask[..., None], np.float32(red), beside).astype(np.float32)
    np.testing.assert_allclose(
        spread_hints(L, ab, [], (mask, drawn)),
        spread_hints(L, ab, [Hint(x, 5, red) for x in range(3, 9)]),
        atol=1e-3,
    )
    both = spread_hints(L, ab, [Hint(30, 20, green)], (mask, drawn))
    np.testing.assert_allclose(both[5, 3:9], np.broadcast_to(red, (6, 2)), atol=0.5)
    np.testing.assert_allclose(both[20, 30], green, atol=0.5)


def test_shades_of_one_stroke_are_kept():
    L, ab = flat()
    shades = np.zeros_like(ab)
    shades[5, :, 0] = np.linspace(-60, 60, 32)
    mask = np.zeros(L.shape, bool)
    mask[5] = True
    np.testing.assert_allclose(spread_hints(L, ab, [], (mask, shades))[5], shades[5], atol=3)


@quick
@given(arrays(np.float32, sizes, elements=st.floats(0, 100, width=32)), st.floats(0.3, 10))
def test_affinity_is_symmetric_and_bounded(L, sigma):
    W = affinity(L, sigma).toarray()
    np.testing.assert_array_equal(W, W.T)
    assert not W.diagonal().any() and W.max(initial=0) <= 1
    neighbours = 8 * L.size - 6 * sum(L.shape) + 4  # eight each, fewer at the border
    assert (W > 0).sum() == neighbours


@quick
@given(scenes(), st.floats(1e-5, 1))
def test_propagate_solves_the_walk(scene, pull):
    L, _, hints = scene
    W, count = affinity(L), np.zeros(L.size)
    for x, y, _ in hints:
        count[int(y) * L.shape[1] + int(x)] = 1
    D = propagate(W, count, count, pull)
    assert D.min() >= 0 and D.max() <= 1 + 1e-9
    np.testing.assert_allclose(D[count > 0], 1, atol=2e-4)
    free = count == 0
    np.testing.assert_allclose(((1 + pull) * W.sum(1) * D - W @ D)[free], 0, atol=1e-9)


@quick
@given(st.integers(0, 9999), st.integers(0, 9999), st.tuples(*[st.integers(0, 255)] * 3))
def test_parse_reads_back_the_colour(x, y, rgb):
    hint = parse_hint('{},{},#{:02x}{:02x}{:02x}'.format(x, y, *rgb))
    assert hint[:2] == (x, y)
    L = np.arange(0, 100.1, 0.5, dtype=np.float32)
    lab = np.column_stack([L, np.broadcast_to(np.float32(hint.ab), (len(L), 2))])
    off = np.abs(lab_to_rgb(lab[None])[0] * 255 - rgb).max(-1)
    assert off.min() < 4  # at some L it is this very colour


@quick
@given(st.text(max_size=20))
@example('')
@example('1,2')
@example('1,2,#fff')
@example('1e9,2,#ffffff')
@example('nan,2,#ffffff')
@example('٣,2,#ffffff')
@example('-1,2,#ffffff')
@example('1,2,#ff00gg')
def test_parse_answers_with_a_hint_or_one_sentence(text):
    try:
        assert isinstance(parse_hint(text), Hint)
    except InputError as e:
        assert str(e).endswith('.') and ':' in str(e) and '\n' not in str(e)


@pytest.mark.parametrize(
    'text, message',
    [
        ('120;80;#aa3311', 'not of the form x,y,#rrggbb'),
        ('a,80,#aa3311', 'not of the form'),
        ('1,2,3,#aa3311', 'not of the form'),
        ('1.,2,#aa3311', 'not of the form'),
        ('1,2,red', "no colour 'red': write six hex digits"),
        ('1,2,#fff', "no colour '#fff'"),
        ('-1,2,#aa3311', 'count from 0'),
        ('1,-2,#aa3311', 'count from 0'),
    ],
)
def test_parse_says_what_is_wrong(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse_hint(text)


@pytest.mark.parametrize('x, y', [(32, 0), (0, 24), (-1, 0), (float('nan'), 0), (0, float('inf'))])
def test_a_hint_outside_of_the_photo(x, y):
    with pytest.raises(
        InputError, match='outside of the photo: x goes from 0 to 31, y from 0 to 23'
    ):
        spread_hints(*flat(), [Hint(x, y, red)])


@quick
@given(st.integers(1, 5000), st.integers(1, 5000), st.data())
def test_every_pixel_of_a_photo_has_its_place_on_the_copy(W, H, data):
    w, h = data.draw(st.integers(1, W)), data.draw(st.integers(1, H))
    x, y = data.draw(st.integers(0, W - 1)), data.draw(st.integers(0, H - 1))
    (moved,) = scale_hints([Hint(x, y, red)], (W, H), (w, h))
    assert (int(moved.x), int(moved.y)) == (x * w // W, y * h // H)


def test_hints_and_strokes_of_a_photo_on_its_copy():
    L, ab = flat(24, 32)
    strokes = np.zeros((240, 320, 4), np.uint8)
    strokes[40:60, 40:60] = 255, 0, 0, 255
    out = apply_hints(L, ab, [Hint(300, 200, green)], strokes, (320, 240))
    np.testing.assert_allclose(out[20, 30], green, atol=0.5)
    np.testing.assert_allclose(out[5, 5], parse_hint('0,0,#ff0000').ab, atol=0.5)
    with pytest.raises(InputError, match='outside of the photo: x goes from 0 to 319'):
        apply_hints(L, ab, [Hint(320, 0, green)], None, (320, 240))


def layer(W=40, H=20, box=(slice(4, 12), slice(8, 24)), rgb=(255, 0, 0)):
    out = np.zeros((H, W, 4), np.uint8)
    out[box] = (*rgb, 255)
    return out


def test_strokes_on_a_transparent_layer_a_palette_or_a_gray_copy_are_the_same():
    rgba = layer()
    noise = np.random.default_rng(0).integers(0, 256, (20, 40, 1), dtype=np.uint8)
    gray = np.where(rgba[..., 3:] > 0, rgba[..., :3], noise)
    opaque = np.dstack([gray, np.full((20, 40), 255, np.uint8)])  # as many programs save it
    mask, ab = read_hints(rgba, (40, 20))
    np.testing.assert_array_equal(mask, rgba[..., 3] > 0)
    want = np.broadcast_to(parse_hint('0,0,#ff0000').ab, (mask.sum(), 2))
    np.testing.assert_allclose(ab[mask], want, atol=0.01)
    for same in (
        gray,
        opaque,
        Image.fromarray(gray),
        Image.fromarray(rgba),
        Image.fromarray(rgba).convert('PA'),
        Image.fromarray(rgba).quantize(8),
    ):
        for a, b in zip(read_hints(same, (40, 20)), (mask, ab)):
            np.testing.assert_allclose(a, b, atol=0.01)


def test_gray_strokes_need_the_layer_and_faint_ones_are_none():
    rgba = layer(rgb=(90, 90, 90))
    assert read_hints(rgba, (40, 20))[0].sum() == 8 * 16
    with pytest.raises(InputError, match='no strokes'):
        read_hints(rgba[..., :3], (40, 20))
    with pytest.raises(InputError, match='no strokes'):
        read_hints(rgba // np.uint8([1, 1, 1, 5]), (40, 20))


def test_strokes_on_a_copy_keep_their_shape_and_thin_ones_are_not_lost():
    broad = layer(box=(slice(4, 13), slice(8, 24)))  # covers a row of the copy by a quarter
    mask, ab = read_hints(broad, (40, 20), (10, 5))
    assert np.argwhere(mask).tolist() == [[y, x] for y in (1, 2) for x in (2, 3, 4, 5)]
    np.testing.assert_array_equal(ab[~mask], 0)
    thin, _ = read_hints(layer(box=(slice(7, 8), slice(None))), (40, 20), (10, 5))
    assert np.argwhere(thin).tolist() == [[1, x] for x in range(10)]
    two = np.maximum(
        layer(box=(slice(4, 8), slice(0, 2))),
        layer(box=(slice(4, 8), slice(2, 4)), rgb=(0, 0, 255)),
    )
    mixed = read_hints(two, (40, 20), (10, 5))[1][1, 0]
    both = [parse_hint(f'0,0,#{c}').ab for c in ('ff0000', '0000ff')]
    np.testing.assert_allclose(mixed, np.mean(both, 0), atol=0.01)


@pytest.mark.parametrize(
    'image, message',
    [
        (np.zeros((20, 40), np.uint8), 'cannot be read'),
        (np.zeros((20, 40, 2), np.uint8), 'cannot be read'),
        (np.zeros((20, 40, 3)), 'float64'),
        (layer(41), '41 x 20 pixels, the upright photo 40 x 20'),
        (layer(20, 40), '20 x 40 pixels'),
        (np.zeros((20, 40, 4), np.uint8), 'no strokes'),
        (Image.new('L', (40, 20), 99), 'no strokes'),
    ],
)
def test_bad_pictures_of_hints(image, message):
    with pytest.raises(InputError, match=message):
        read_hints(image, (40, 20))


def scene(h=24, w=32):
    return np.tile(np.linspace(40, 220, h, dtype=np.uint8)[:, None, None], (1, w, 3))


def test_a_copy_that_is_coloured_everywhere_is_not_a_stroke():
    sepia = (scene() * np.array([1, 0.9, 0.8])).astype(np.uint8)
    for image in (sepia, np.dstack([sepia, np.full((24, 32), 255, np.uint8)])):
        with pytest.raises(InputError, match='coloured on .*% of its area, which is not a stroke'):
            read_hints(image, (32, 24))


def test_a_copy_with_a_clear_corner_is_not_a_layer():
    copy = np.dstack([scene(), np.full((24, 32), 255, np.uint8)])
    copy[10:12, 4:20, :3], copy[:3, :3, 3] = (120, 40, 160), 0
    mask, _ = read_hints(copy, (32, 24))
    assert mask.sum() == 2 * 16 and mask[10:12, 4:20].all()


@pytest.mark.parametrize('opacity, counts', [(0.4, True), (0.3, True), (0.1, False)])
def test_a_soft_brush(opacity, counts):
    soft = layer()
    soft[..., 3] = soft[..., 3] * opacity
    if counts:
        assert read_hints(soft, (40, 20))[0].sum() == 8 * 16
    else:
        with pytest.raises(InputError, match='less than a quarter opaque'):
            read_hints(soft, (40, 20))


# -- what the network is told


def test_a_cell_knows_the_mean_of_its_hints():
    hints = [Hint(3, 5, red), Hint(4, 6, green), Hint(40, 20, red)]
    cells = known_cells((24, 48), hints, None, (48, 24), SimpleNamespace(saturation=1.25))
    assert cells.shape == (1, 3, 2, 4) and cells.dtype == np.float32  # padded to 32 x 64
    mean = np.mean([red, green], 0) / 50 / 1.25
    np.testing.assert_allclose(cells[0, :, 0, 0], [*mean, 1], rtol=1e-5)
    np.testing.assert_allclose(cells[0, :, 1, 2], [*np.divide(red, 62.5), 1], rtol=1e-5)
    assert cells[0, 2].sum() == 2 and not cells[:, :2, 0, 1:].any()


@pytest.mark.parametrize('reads', [True, False])
def test_a_network_that_reads_known_colours_is_told_and_any_honours_the_hint(reads):
    hist = np.zeros((23, 23))
    hist[8:15, 8:15] = 1
    torch.manual_seed(0)
    net = make_model('classification', hist, hints=reads, encoder='classic', stride=8)
    net.head.saturation = 1.25
    if reads:
        torch.nn.init.normal_(net.hints.weight, std=3)
    run, seen = Colorizer(net.eval(), hints=['41,71,#aa3311']), []
    real = run.net

    class Watched(SimpleNamespace):
        def __call__(self, L, vividness, known):
            seen.append(known)
            return real(L, vividness, known)

    run.net = Watched(bins=real.bins, hints=real.hints)
    gray = np.full((96, 128), 90, np.uint8)
    out = rgb_to_lab(run(gray))
    assert seen[0] is None and len(seen) == 1 + reads
    want = parse_hint('0,0,#aa3311').ab
    if reads:
        np.testing.assert_allclose(seen[1][0, :, 4, 2], [*np.divide(want, 62.5), 1], rtol=1e-4)
        assert seen[1][0, 2].sum() == 1
    assert np.linalg.norm(out[71, 41, 1:] - want) < 12
