"The metrics: closed forms, second implementations, and what is said when nothing is measured."

import math, threading, time, weakref

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.segmentation import felzenszwalb

from colorize import tables
from colorize.core import InputError, threaded
from colorize.data import sample_photos
from colorize.evaluate import fid, fid_infinity, kid
from colorize.lab import rgb_to_lab
from colorize.metrics import (
    Lazy,
    chroma_to_match,
    coherence,
    color_table,
    colorfulness,
    crossed_floors,
    floors,
    histogram_distance,
    hue_table,
    mean_colorfulness,
    photo_metrics,
    recolor,
    scaled_chroma,
    segments,
)
from colorize.networks import Cache
from colorize.tables import (
    Judges,
    balanced_auc,
    compare,
    compare_equal,
    evaluation_set,
    measure,
    metrics_table,
    parse_names,
    resample,
    rounded,
    statistics,
    summarize,
    truth_row,
)


def plain(*rgb):
    return np.full((16, 16, 3), rgb, np.uint8)


@pytest.mark.parametrize('rgb', [(0, 0, 0), (128, 128, 128), (255, 255, 255)])
def test_colorfulness_of_gray(rgb):
    assert colorfulness(plain(*rgb)) == colorfulness(plain(*rgb), True) == 0


@pytest.mark.parametrize('rgb', [(255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 200, 90)])
def test_colorfulness_of_one_colour(rgb):
    r, g, b = rgb  # nothing spreads: only the mean term is left
    want = 0.3 * np.hypot(r - g, (r + g) / 2 - b)
    assert colorfulness(plain(*rgb)) == pytest.approx(want, abs=1e-3)
    assert colorfulness(plain(*rgb), True) == pytest.approx(want, abs=1e-3)


def test_colorfulness_of_two_colours():
    both = np.concatenate([plain(0, 0, 255), plain(255, 255, 0)])  # yb = -255, 255; rg = 0
    assert colorfulness(both) == pytest.approx(255, abs=1e-3)
    assert colorfulness(both, True) == pytest.approx(0.3 * 255, abs=1e-3)


def test_fid_of_itself(rng):
    for shape in ((40, 300), (300, 40)):
        x = rng.normal(3, 2, size=shape)
        assert fid(x, x) < 1e-6


def test_fid_closed_form(rng):
    "One feature: (m - n)^2 + (s - t)^2. And a shift moves it by its square."
    x, y = rng.normal(1, 2, (50, 1)), rng.normal(4, 0.5, (70, 1))
    assert fid(x, y) == pytest.approx(
        (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    )
    z = rng.normal(size=(30, 100))
    assert fid(z, z + 0.5) == pytest.approx(100 * 0.25)


def test_kid_subsets_are_torchmetrics(rng):
    "Mean and spread over random subsets, against the whole class fed with ready features."
    from torchmetrics.image.kid import KernelInceptionDistance

    class Ready(torch.nn.Module):
        num_features = 128

        def forward(self, x):
            return x.flatten(1)

    x, y = rng.gamma(1, 0.4, (60, 128)), rng.gamma(1.5, 0.4, (60, 128))
    theirs = KernelInceptionDistance(feature=Ready(), subsets=400, subset_size=30)
    for f, real in ((x, True), (y, False)):
        theirs.update(torch.tensor(f), real=real)
    mean, std = (float(v) for v in theirs.compute())
    assert kid(x, y, subsets=400, size=30) == pytest.approx((mean, std), rel=0.25)
    assert kid(x, y, subsets=400, size=30)[0] == pytest.approx(mean, abs=4 * std / 20)


def test_kid_of_pairs(rng):
    x = rng.gamma(1, 0.4, (40, 64))
    assert kid(x, x, paired=True) == pytest.approx((0, 0), abs=1e-12)
    assert kid(x, x, size=40)[0] < 0, 'pairs treated as unrelated photos'
    assert kid(x, x + rng.normal(0, 0.5, x.shape), paired=True)[0] > 0


def test_kid_of_one_kind_is_nothing(rng):
    measured = [kid(*rng.gamma(1, 0.4, (2, 40, 64)), subsets=1, size=40)[0] for _ in range(200)]
    assert abs(np.mean(measured)) < 4 * np.std(measured) / 200**0.5


def test_same_seed_same_kid(rng):
    x, y = rng.gamma(1, 0.4, (2, 30, 64))
    assert kid(x, y, seed=3) == kid(x, y, seed=3) != kid(x, y, seed=4)


@pytest.mark.parametrize(
    'call, words',
    [
        (lambda x: fid(x[:1], x), 'at least 2'),
        (lambda x: kid(x, x[:1]), 'at least 2'),
        (lambda x: fid(x, x[:, :3]), 'same network'),
        (lambda x: fid(x, x * np.nan), 'not finite'),
        (lambda x: kid(x, x[:4], paired=True), 'equally many'),
    ],
)
def test_bad_features(rng, call, words):
    with pytest.raises(InputError, match=words):
        call(rng.normal(size=(9, 5)))


def test_delta_e_is_colours(photos):
    colour = pytest.importorskip('colour')
    x, y = photos[0][0], photos[0][3]
    theirs = colour.difference.delta_E_CIE2000(
        rgb_to_lab(x).astype(float), rgb_to_lab(y).astype(float)
    )
    measured = photo_metrics(x, y)
    assert measured['de2000'] == pytest.approx(theirs.mean(), abs=1e-3)
    assert measured['de2000_p95'] == pytest.approx(np.percentile(theirs, 95), abs=1e-2)


def test_psnr_and_ssim_are_scikit_images(photos):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    x, y = photos[0][0], recolor(photos[0][0], 0)
    measured = photo_metrics(x, y)
    assert measured['psnr'] == pytest.approx(peak_signal_noise_ratio(x, y), abs=1e-4)
    assert measured['ssim'] == pytest.approx(structural_similarity(x, y, channel_axis=-1), abs=1e-4)


def test_a_known_shift():
    "Two plain colours of the same L, 30 apart along a: every pixel errs by 30."
    base = recolor(plain(145, 145, 145), (0, 10))
    moved = recolor(base, (30, 10))
    measured = photo_metrics(base, moved)
    assert measured['ab_error'] == pytest.approx(30, abs=0.7)
    assert measured['ab_rmse'] == pytest.approx(30, abs=0.7)
    assert measured['auc'] == pytest.approx(1 - measured['ab_error'] / 150)  # the curve is a step


def faded(real, k):
    return real if k == 1 else [recolor(x, rgb_to_lab(x)[..., 1:] * k) for x in real]


def test_distances_rise_as_truth_fades(photos):
    real = photos[0]
    rows = [compare(real, faded(real, k)) for k in (1, 0.8, 0.6, 0.4, 0.2, 0)]
    for key in (
        'ab_error',
        'ab_rmse',
        'de2000',
        'de2000_p95',
        'hist_distance',
        'cf_gap',
        'cf_delta',
    ):
        assert np.all(np.diff([r[key] for r in rows]) > 0), key
    for key in ('cf', 'cf_abs', 'auc', 'auc_balanced', 'psnr', 'ssim'):
        assert np.all(np.diff([r[key] for r in rows]) < 0), key


@pytest.mark.parametrize('paired', [True, False])
def test_networks_distances_rise_as_truth_fades(photos, inception, lpips, paired):
    real = photos[0][::2]  # of so few, KID tells large steps only
    rows = [
        compare(real, faded(real, k), Judges(inception, lpips if paired else None), paired)
        for k in (1, 0.3, 0)
    ]
    for key in ('fid', 'kid', 'lpips') if paired else ('fid', 'kid'):
        assert np.all(np.diff([r[key] for r in rows]) > 0), key
    assert rows[0]['fid'] == pytest.approx(0, abs=1e-6)
    if paired:
        assert rows[0]['kid'] == pytest.approx(0, abs=1e-12) and rows[0]['lpips'] == 0


def test_compare_with_itself(photos):
    real = photos[0]
    row = compare(real, real)
    assert [row[k] for k in ('n', 'ab_error', 'de2000', 'cf_gap', 'psnr', 'fid', 'kid')] == [
        len(real),
        0,
        0,
        0,
        100,
        None,
        None,
    ]
    assert row['hist_distance'] == pytest.approx(0, abs=1e-6)
    assert compare(real, real[::-1]) == compare(real, real[::-1])


def test_floors_keep_lightness(photos):
    real, group = photos
    for name, predicted in crossed_floors(real, group).items():
        off = [
            np.abs(rgb_to_lab(x)[..., 0] - rgb_to_lab(y)[..., 0]).mean()
            for x, y in zip(real, predicted)
        ]
        assert np.mean(off) < 0.5, name
        assert all(x.shape == y.shape and y.dtype == np.uint8 for x, y in zip(real, predicted))


def test_floors_know_only_the_others(photos):
    "A photo's floors, half chroma aside, may not change with its own colours."
    real, group = photos
    gray = [recolor(x, 0) if g == group[0] else x for x, g in zip(real, group)]
    a, b = crossed_floors(real, group), crossed_floors(gray, group)
    for name in ('gray', 'mean ab', 'lookup', 'other'):
        assert np.abs(a[name][0].astype(int) - b[name][0]).mean() < 1.5, name  # L in 8 bits
    assert np.abs(a['half chroma'][0].astype(int) - b['half chroma'][0]).mean() > 5


def test_lookup_of_one_photo():
    "Fitted on a photo of one colour, the lookup paints that colour."
    teacher = recolor(plain(145, 145, 145), (20, -30))
    predicted = floors([plain(145, 145, 145)], [teacher])
    for name in ('mean ab', 'lookup', 'other'):
        assert np.abs(predicted[name][0].astype(int) - teacher).max() <= 1


def test_evaluation_set_counts_everything(tmp_path, photos):
    Image.fromarray(photos[0][0]).save(tmp_path / 'a.png')
    Image.fromarray(photos[0][0]).save(tmp_path / 'b.png')
    Image.fromarray(plain(90, 90, 90).repeat(4, 0).repeat(4, 1)).save(tmp_path / 'gray.png')
    (tmp_path / 'broken.jpg').write_bytes(b'no photo')
    cut, group, left_out = evaluation_set(sorted(tmp_path.iterdir()), 64)
    assert len(cut) == len(group) == 1 and len(left_out) == 3
    assert (
        dict(left_out)['broken.jpg'] == 'cannot be decoded'
        and dict(left_out)['gray.png'] == 'near-gray'
    )
    with pytest.raises(InputError, match='None of the 1 photos'):
        evaluation_set([tmp_path / 'gray.png'], 64)


def test_evaluation_set_has_one_order():
    paths = sample_photos()
    a, b = evaluation_set(paths, 32, n=4)[0], evaluation_set(paths[::-1], 32)[0]
    assert all(np.array_equal(x, y) for x, y in zip(a, b))


# Patches


@pytest.fixture(scope='module')
def squares256():
    "The centre squares of the sample photos that have colour, 256 px."
    return evaluation_set(sample_photos(), 256)[0]


def coherence_by_hand(real, predicted):
    "The definition, segment by segment and in float64."
    labels = felzenszwalb(cv2.GaussianBlur(real, (0, 0), 1), scale=300, sigma=0.8, min_size=300)
    truth, guess = (rgb_to_lab(x)[..., 1:].astype(float) for x in (real, predicted))
    total = area = 0
    for k in np.unique(labels):
        t, g = truth[labels == k], guess[labels == k]
        if np.sqrt(t[:, 0].var() + t[:, 1].var()) < 8:
            total += len(g) * np.sqrt(g[:, 0].var() + g[:, 1].var())
            area += len(g)
    return total / area if area else None


def test_coherence_is_its_definition(squares256):
    counted = 0
    for real in squares256[::2]:
        for predicted in (real, recolor(real, rgb_to_lab(real)[..., [2, 1]])):
            spread, own = coherence(real, predicted)
            if (by_hand := coherence_by_hand(real, predicted)) is None:
                assert math.isnan(spread) and math.isnan(own)
                continue
            counted += 1
            assert spread == pytest.approx(by_hand, rel=1e-4)
            assert own == pytest.approx(coherence_by_hand(real, real), rel=1e-4) and own < 8
    assert counted >= 6


def test_coherence_of_two_fields():
    "Two fields of one colour: 0. One split in two colours d apart spreads by d/2, over its half."
    real = np.concatenate(
        [recolor(np.full((64, 128, 3), 145, np.uint8), ab) for ab in ((30, 20), (-30, 20))]
    )
    assert len(np.unique(segments(real))) == 2
    assert coherence(real, real) == (pytest.approx(0, abs=0.1), pytest.approx(0, abs=0.1))
    split = rgb_to_lab(real)[..., 1:]
    split[:64, 64:] += (-12, 16)
    spread, own = coherence(real, recolor(real, split))
    assert spread == pytest.approx(0.5 * 20 / 2, abs=0.3) and own == pytest.approx(0, abs=0.1)


def test_patches_raise_coherence_and_gray_has_none(squares256):
    rng = np.random.default_rng(0)
    measured = 0
    for real in squares256[1::2]:
        patches = rng.normal(size=(8, 8, 2)).repeat(32, 0).repeat(32, 1) * 12
        patchy, own = coherence(real, recolor(real, rgb_to_lab(real)[..., 1:] + patches))
        if math.isnan(own):
            continue
        measured += 1
        assert patchy > own + 2
        assert coherence(real, recolor(real, 0))[0] == pytest.approx(0, abs=0.1)
        assert coherence(real, recolor(real, rgb_to_lab(real)[..., 1:] / 2))[0] == pytest.approx(
            own / 2, rel=0.15
        )
    assert measured >= 3


def test_coherence_of_large_photos(squares256):
    "A figure does not depend on how large the file is: photos are segmented at 256 px."
    for real in squares256[:1]:
        stained = recolor(real, rgb_to_lab(real)[..., [2, 1]])
        large = [x.repeat(2, 0).repeat(2, 1) for x in (real, stained)]
        assert coherence(*large) == pytest.approx(coherence(real, stained), rel=1e-6, nan_ok=True)
        assert len(np.unique(segments(large[0]))) != len(np.unique(segments(real))), (
            'size makes no difference here'
        )


def test_photos_without_one_colour_do_not_count(squares256):
    "The mean is that of the others; where there are none nothing is measured, and nothing is NaN."
    rng = np.random.default_rng(1)
    noise = [
        recolor(np.full((64, 64, 3), 145, np.uint8), rng.normal(0, 30, (64, 64, 2)))
        for _ in range(4)
    ]
    assert all(math.isnan(v) for v in coherence(noise[0], noise[0]))
    plain_ones = [x[::4, ::4] for x in squares256]
    known = [v for x in plain_ones if not math.isnan(v := coherence(x, x)[1])]
    mixed = [*noise[:2], *plain_ones, *noise[2:]]
    row = compare(mixed, mixed)
    assert 2 <= len(known) < len(mixed)
    assert row['coherence'] == row['coherence_real'] == pytest.approx(np.mean(known), rel=1e-5)
    low, high = row['ci']['coherence']
    assert 0 <= low <= row['coherence'] <= high
    nothing = compare(noise, noise)
    assert (
        nothing['coherence'] is None
        and 'coherence' not in nothing['ci']
        and 'coherence' not in truth_row(nothing)
    )
    assert (
        metrics_table(dict(noise=nothing)).loc['coherence', 'noise'] == '–'
        and rounded(nothing)['coherence'] is None
    )
    few = compare([*noise, plain_ones[0]], [*noise, plain_ones[0]])
    assert all(math.isfinite(q) for q in few['ci'].get('coherence', ()))


def test_the_truth_has_its_own_column(photos):
    row = compare(photos[0], faded(photos[0], 0.5))
    assert truth_row(row) == {
        k: row[f'{k}_real'] for k in ('cf', 'cf_abs', 'coherence', 'hue_entropy')
    }
    assert row['coherence'] < row['coherence_real'] and not any(
        k.endswith('_real') for k in rounded(row)
    )


# Equal colorfulness


@pytest.mark.parametrize('name', ['mean ab', 'lookup', 'other', 'half chroma'])
def test_one_factor_makes_equally_colourful(photos, name):
    real, predicted = photos[0], crossed_floors(*photos)[name]
    factor = chroma_to_match(real, predicted)
    assert mean_colorfulness(scaled_chroma(predicted, factor)) == pytest.approx(
        mean_colorfulness(real), rel=0.01
    )
    assert abs(mean_colorfulness(predicted) / mean_colorfulness(real) - 1) > 0.02, (
        'there is nothing to scale here'
    )
    row = compare_equal(real, predicted)
    assert row['chroma'] == factor and row['cf'] == pytest.approx(row['cf_real'], rel=0.01)


def test_chroma_is_taken_away_too(photos):
    real = photos[0]
    assert chroma_to_match(faded(real, 0.5), real) == pytest.approx(0.5, abs=0.02)
    assert chroma_to_match(real, real) == pytest.approx(1, abs=0.01)


def test_gray_cannot_be_scaled(photos):
    gray = [recolor(x, 0) for x in photos[0]]
    assert chroma_to_match(photos[0], gray) is None and compare_equal(photos[0], gray) is None


def test_scaled_chroma_keeps_lightness_and_hue(photos):
    real = photos[0]
    for x, y in zip(real, scaled_chroma(real, 0.5)):
        before, after = rgb_to_lab(x), rgb_to_lab(y)
        assert np.abs(before[..., 0] - after[..., 0]).mean() < 0.5
        assert np.abs(before[..., 1:] / 2 - after[..., 1:]).mean() < 0.6
    assert len(scaled_chroma(real, 0.5)[:3]) == 3 and np.array_equal(
        scaled_chroma(real, 0)[0], recolor(real[0], 0)
    )


def test_fading_wins_by_error_and_not_at_equal_colorfulness(photos):
    "Wrong colours, faded, err less; once both are equally colourful, that is gone."
    real, wrong = photos[0], list(crossed_floors(*photos)['other'])
    pale = faded(wrong, 0.5)
    assert (
        compare(real, pale)['ab_error'] < compare(real, wrong)['ab_error'] - 1
        and compare(real, pale)['psnr'] > compare(real, wrong)['psnr'] + 0.5
    )
    fair, faded_first = compare_equal(real, wrong), compare_equal(real, pale)
    assert faded_first['ab_error'] == pytest.approx(fair['ab_error'], rel=0.03) and faded_first[
        'psnr'
    ] == pytest.approx(fair['psnr'], abs=0.3)


# Figures of colours


@pytest.mark.parametrize(
    'a, b, cell, hue',
    [
        (10, 0, (12, 11), 0),
        (0, 20, (11, 13), 9),
        (-30, 0, (8, 11), 18),
        (0, -42, (11, 7), 27),
        (20, -1, (13, 11), 35),
        (20, -5, (13, 11), 34),
        (-20, -1, (9, 11), 18),
        (-20, 1, (9, 11), 17),
        (2, 2, (11, 11), None),
        (0, 0, (11, 11), None),
        (-86, 83, (2, 19), 13),
    ],
)
def test_tables_of_one_colour(a, b, cell, hue):
    "All of it lies in one cell; all chroma in one hue, counted in tens of degrees from +a to +b."
    lab = np.full((5, 6, 3), (50, a, b), np.float32)
    table, hues = color_table(lab).reshape(23, 23), hue_table(lab)
    assert table[cell] == 1 == table.sum()
    assert hues.shape == (36,) and hues.sum() == pytest.approx(
        0 if hue is None else np.hypot(a, b), rel=1e-5
    )
    assert hue is None or np.flatnonzero(hues).tolist() == [hue]


def test_tables_of_a_mixture():
    lab = np.full((4, 4, 3), (50, 30, 0), np.float32)
    lab[0] = 50, 0, -60
    assert color_table(lab).reshape(23, 23)[[14, 11], [11, 5]] == pytest.approx([0.75, 0.25])
    assert hue_table(lab)[[0, 27]] == pytest.approx([0.75 * 30, 0.25 * 60], rel=1e-5)


def test_hues_of_a_wheel():
    "Every hue equally often: every tenth of degrees alike, and log2(36) bits."
    angle = np.deg2rad(np.arange(-180, 180, 0.5) + 0.25)
    lab = np.stack([np.full_like(angle, 50), 30 * np.cos(angle), 30 * np.sin(angle)], -1)[
        None
    ].astype(np.float32)
    assert hue_table(lab) == pytest.approx(30 / 36, rel=1e-4)
    side = dict(
        cf=np.zeros(1), cf_abs=np.zeros(1), color=color_table(lab)[None], hue=hue_table(lab)[None]
    )
    one = np.ones((1, 1))
    assert statistics(side, side, one, one)['hue_entropy'][0] == pytest.approx(
        np.log2(36), rel=1e-4
    )
    assert statistics(side, dict(side, hue=np.eye(36)[:1]), one, one)['hue_entropy'][
        0
    ] == pytest.approx(0, abs=1e-6)
    assert statistics(side, dict(side, hue=np.zeros((1, 36))), one, one)['hue_entropy'][0] == 0, (
        'a gray collection has no hues'
    )


def test_histogram_distance_closed_form():
    "Two colours: the root of the mean Kullback-Leibler divergence from their middle, in bits."
    red, blue = (recolor(plain(120, 120, 120), ab) for ab in ((40, 20), (0, -40)))
    p, q = np.array([0.75, 0.25]), np.array([0.25, 0.75])
    bits = np.mean([(s * np.log2(s / ((p + q) / 2))).sum() for s in (p, q)])
    assert histogram_distance([red, red, red, blue], [red, blue, blue, blue]) == pytest.approx(
        bits**0.5
    )
    assert (
        histogram_distance([red], [blue]) == pytest.approx(1)
        and histogram_distance([red], [red]) == 0
    )


def test_histogram_distance_is_a_number(photos):
    "Another order of photos may differ in the last bit, and a tiny negative number has no root."
    real = [x[:53, :61] for x in photos[0]]
    for seed in range(20):
        assert (
            0
            <= histogram_distance(
                real, [real[i] for i in np.random.default_rng(seed).permutation(len(real))]
            )
            < 1e-6
        )
    for seed in range(20):
        row = compare(
            real,
            [real[i] for i in np.random.default_rng(seed).permutation(len(real))],
            paired=False,
        )
        assert all(math.isfinite(v) for v in (row['hist_distance'], *row['ci']['hist_distance']))


def zhang(real, predicted, steps=1500):
    "Area under the curve of Zhang 2016, 3.1: pixels within t = 0 .. 150, each weighing 1/p."
    labs = [
        (
            rgb_to_lab(x).reshape(-1, 3)[:, 1:].astype(float),
            rgb_to_lab(y).reshape(-1, 3)[:, 1:].astype(float),
        )
        for x, y in zip(real, predicted)
    ]
    p = np.zeros((27, 27))  # colours in cells of 10 units, with room around them
    for truth, _ in labs:
        for i, j in np.floor((truth + 135) / 10).astype(int):
            p[i, j] += 1 / len(truth)
    kernel = np.array([np.exp(-((k / 0.5) ** 2) / 2) for k in range(-2, 3)])  # sigma = 5 units
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    smooth = {
        (i, j): (p[i - 2 : i + 3, j - 2 : j + 3] * kernel).sum() for i, j in zip(*np.nonzero(p))
    }
    weight = np.concatenate(
        [
            [1 / smooth[tuple(c)] / len(truth) for c in np.floor((truth + 135) / 10).astype(int)]
            for truth, _ in labs
        ]
    )
    error = np.concatenate([np.hypot(*(truth - guess).T) for truth, guess in labs])
    return (
        np.mean([weight[error <= t].sum() for t in (np.arange(steps) + 0.5) * 150 / steps])
        / weight.sum()
    )


def test_balanced_auc_is_zhangs(photos):
    real = [x[::2, ::2] for x in photos[0][:6]]
    for ab in ((0, 0), (20, 30)):
        predicted = [recolor(x, ab) for x in real]
        measured = compare(real, predicted)
        assert measured['auc_balanced'] == pytest.approx(zhang(real, predicted), abs=1e-3)
        assert abs(measured['auc_balanced'] - measured['auc']) > 0.01, 'the weights do nothing here'


def test_balanced_auc_of_two_colours():
    "Rare or not, a colour weighs the same: one is hit, the other missed by 60 of 150 units."
    color, error = np.zeros((1, 529)), np.zeros((1, 529))
    color[0, [100, 400]] = 0.9, 0.1
    error[0, 400] = 0.1 * 60
    assert balanced_auc(color, error) == pytest.approx(1 - 0.5 * 60 / 150)


# Intervals


def test_intervals_are_scipys(photos):
    from scipy.stats import bootstrap

    real = photos[0]
    sides = measure(real, faded(real, 0.5))
    measured = summarize(*sides, times=8000)['ci']
    for key in ('ab_error', 'psnr', 'cf'):
        theirs = bootstrap(
            (sides[1][key],), np.mean, n_resamples=8000, method='percentile', rng=1
        ).confidence_interval
        assert measured[key] == pytest.approx(
            [*theirs], abs=0.06 * float(theirs.high - theirs.low)
        ), key


def test_squares_of_a_photo_are_drawn_together():
    group = [5, 2, 5, 2, 2, 9]
    w = resample(group, 500)
    assert w.shape == (500, 6) and w.sum(1) == pytest.approx(1, abs=1e-6)
    assert (
        np.array_equal(w[:, 0], w[:, 2])
        and np.array_equal(w[:, 1], w[:, 3])
        and np.array_equal(w[:, 1], w[:, 4])
    )
    assert not np.array_equal(w[:, 0], w[:, 1]) and (w == 0).any(0).all()
    assert np.array_equal(w, resample(group, 500)) and not np.array_equal(
        w, resample(group, 500, seed=1)
    )


def test_more_squares_are_no_more_photos(photos):
    "Each photo three times over: the same figures and intervals, if squares are drawn together."
    real = photos[0][:8]
    alone, triple = (measure(x, faded(x, 0.5)) for x in (real, real * 3))
    one, three = summarize(*alone), summarize(*triple, group=[*range(8)] * 3)
    for key in one['ci']:
        assert three['ci'][key] == pytest.approx(one['ci'][key], abs=1e-5), key
    low, high = summarize(*triple)['ci']['ab_error']
    assert high - low < 0.8 * np.diff(one['ci']['ab_error'])[0]


def test_intervals_hold_the_figure(photos):
    real = photos[0]
    measured = compare(real, faded(real, 0.5), group=photos[1])
    for key in ('ab_error', 'de2000', 'psnr', 'cf', 'coherence', 'hist_distance', 'auc_balanced'):
        assert measured['ci'][key][0] < measured[key] < measured['ci'][key][1], key


# FID at infinity


@pytest.mark.parametrize('shift', [0, 0.5])
def test_fid_infinity_of_gaussians(shift):
    "Two normal distributions a known distance apart: FID is far above it, FID at infinity is not."
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 900, 64))
    truth = 64 * shift**2
    extrapolated, rows = fid_infinity(x, y + shift)
    assert fid(x, y + shift) > truth + 1.5 and abs(extrapolated - truth) < 0.6
    assert [n for n, _ in rows] == sorted(n for n, _ in rows) and rows[-1] == (
        900,
        pytest.approx(fid(x, y + shift)),
    )
    assert fid_infinity(x, y + shift)[0] == extrapolated


def test_fid_infinity_of_itself(rng):
    x = rng.normal(size=(60, 16))
    assert fid_infinity(x, x, paired=True)[0] == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match='at least 16'):
        fid_infinity(x[:15], x)


# Collections


def test_same_figures_twice(photos, toy):
    real, group = photos
    rows = [compare(real, faded(real, 0.5), Judges(toy()), group=group) for _ in range(2)]
    assert rows[0] == rows[1] != compare(real, faded(real, 0.5), Judges(toy()), group=group, seed=1)


def test_pixels_are_remembered(photos, monkeypatch, tmp_path):
    "The second run works nothing out; its figures are the same to the last bit."
    real, path = photos[0][:6], tmp_path / 'c.sqlite'
    predicted = faded(real, 0.5)
    fresh, first = compare(real, predicted), compare(real, predicted, Judges(cache=Cache(path)))

    def never(*_):
        raise AssertionError('worked out again')

    for work in ('photo_record', 'pair_record'):
        monkeypatch.setattr(tables, work, never)
    assert fresh == first == compare(real, predicted, Judges(cache=Cache(path)))
    with pytest.raises(AssertionError):
        compare(real, predicted[::-1], Judges(cache=Cache(path)))


def test_no_coherence_is_remembered(photos, tmp_path):
    "That a photo has none is no damage, in a second run either."
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    real, path = [*photos[0][:4], noise], tmp_path / 'c.sqlite'
    first, second = (compare(real, real, Judges(cache=Cache(path))) for _ in range(2))
    assert first == second and first['coherence'] == pytest.approx(
        compare(real[:4], real[:4])['coherence']
    )


def test_nothing_measured_is_none(photos):
    row = compare(photos[0][:3], photos[0][3:6])
    assert [row[k] for k in ('fid', 'kid', 'kid_std', 'fid_infinity', 'lpips', 'top1')] == [
        None
    ] * 6
    table = metrics_table(dict(ours=row))
    assert table.loc['FID ↓', 'ours'] == table.loc['LPIPS ↓', 'ours'] == '–'
    assert rounded(row)['fid'] is None and all(
        v is not None
        for k, v in rounded(row).items()
        if k not in ('fid', 'kid', 'kid_std', 'fid_infinity', 'lpips', 'top1')
    )


def test_judges_are_asked(photos, toy):
    real = photos[0][:8]
    row = compare(real, faded(real, 0.5), Judges(toy(), lambda x, y: 0.25, toy(2.0)))
    assert (
        row['fid'] > 0 and row['lpips'] == 0.25 and row['top1'] == 0 and row['fid_infinity'] is None
    )
    assert compare(real, real, Judges(toy(), None, toy(2.0)))['top1'] == 1
    assert compare(real, real[::-1][:5], Judges(toy()), paired=False)['n'] == 5


@pytest.mark.parametrize(
    'real, predicted, words', [(3, 2, 'one for each'), (0, 0, 'photo'), (2, 'small', 'same size')]
)
def test_pairs_that_are_none(photos, real, predicted, words):
    predicted = (
        [x[:32, :32] for x in photos[0][:2]] if predicted == 'small' else photos[0][:predicted]
    )
    with pytest.raises(InputError, match=words):
        compare(photos[0][:real], predicted)


def test_floors_by_name():
    assert parse_names('all') == ['gray', 'mean ab', 'lookup', 'other', 'half chroma']
    assert (
        parse_names('gray, half chroma') == ['gray', 'half chroma']
        and parse_names('none') == parse_names('') == []
    )
    with pytest.raises(InputError, match="'sepia'"):
        parse_names('gray, sepia')
    with pytest.raises(InputError, match='two photos'):
        crossed_floors([plain(1, 2, 3)] * 3, [4, 4, 4])


def test_floors_are_in_order(photos):
    "A lazy collection of floors is what its elements are, whole or in slices."
    predicted = crossed_floors(*photos)['lookup']
    assert (
        len(predicted) == len(photos[0])
        and isinstance(predicted[::3], Lazy)
        and len(predicted[::3]) == -(-len(predicted) // 3)
    )
    assert np.array_equal(predicted[::3][1], predicted[3])


class Counted(np.ndarray):
    "Arrays that say how many of them there are."

    alive = most = 0
    lock = threading.RLock()  # a finalizer may run while a thread holds it

    @classmethod
    def count(cls, by):
        with cls.lock:
            cls.alive, cls.most = cls.alive + by, max(cls.alive + by, cls.most)

    @classmethod
    def predicted(cls, i):
        x = np.full((32, 32, 3), (i % 200, 80, 120), np.uint8).view(cls)
        cls.count(1)
        weakref.finalize(x, cls.count, -1)
        return x


@pytest.mark.parametrize('paired', [True, False])
def test_collections_are_never_held_whole(paired, toy):
    n, Counted.alive, Counted.most = 200, 0, 0
    real, predicted = (Lazy(range(k, k + n), Counted.predicted) for k in (0, 3))
    sides = measure(
        real, predicted, Judges(toy(), (lambda x, y: 0.0) if paired else None, toy(2.0)), paired
    )
    summarize(*sides, paired, times=10)
    assert len(sides[1]['cf']) == n and 0 < Counted.most < 60 < n, Counted.most


def test_floors_hold_one_photo_at_a_time():
    n, Counted.alive, Counted.most = 120, 0, 0
    predicted = crossed_floors(Lazy(range(n), Counted.predicted), range(n))
    assert (
        sum(
            1
            for name in ('gray', 'mean ab', 'lookup', 'other')
            for k in range(0, n, 10)
            if predicted[name][k].shape == (32, 32, 3)
        )
        == 48
    )
    assert 0 < Counted.most < 60, Counted.most


def test_threaded_waits_for_the_taker():
    started = []
    results = threaded(lambda i: started.append(i) or i * i, range(100), ahead=5)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(started) <= 6
    for k in range(1, 20):
        assert next(results) == k * k
        time.sleep(0.002)
        assert len(started) <= k + 6
    results.close()
    assert len(started) <= 26

    def fails(i):
        raise InputError(f'number {i}')

    with pytest.raises(InputError, match='number 0'):
        list(threaded(fails, range(50)))
