"The network's shapes, its weights file for each of them, and colour that stops where L does."

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from colorize.core import InputError
from colorize.data import Batches, ab_histogram, check_photo, sample_photos
from colorize.metrics import mean_colorfulness
from colorize.model import Bins, class_weights, enlarge, known_colors, make_model
from colorize.train import to_photos, tune_decoding
from colorize.weights import load_model, save_model


@pytest.fixture(scope='module')
def squares():
    return np.stack([rgb for p in sample_photos() if (rgb := check_photo(p, 64)[0]) is not None])


@pytest.mark.parametrize(
    'shape',
    [
        dict(loss='classification'),
        dict(loss='l1', zoom=2),
        dict(loss='classification', stride=2, context=1),
        dict(loss='l1', context=2, hints=True),
        dict(loss='classification', encoder='classic'),
        dict(loss='l1', stride=8, zoom=2, encoder='resnet10t'),
    ],
    ids=str,
)
def test_weights_file_brings_back_any_shape(tmp_path, squares, shape):
    loss, shape = shape['loss'], {k: v for k, v in shape.items() if k != 'loss'}
    net = make_model(loss, ab_histogram(squares), **shape).eval()
    again, L = load_model(save_model(net, tmp_path / 'm.pth')), torch.rand(2, 1, 64, 96) * 100
    assert again.config == net.config and net(L).shape[-2:] == (
        64 // shape.get('stride', 4),
        96 // shape.get('stride', 4),
    )
    with torch.no_grad():
        assert torch.allclose(again(L), net(L), atol=0.05)


def test_known_colours_are_heard_everywhere(squares):
    torch.manual_seed(0)
    net, L = (
        make_model('l1', stride=8, context=2, hints=True).eval(),
        torch.rand(1, 1, 64, 96) * 100,
    )
    known = known_colors(torch.full((1, 2, 4, 6), 40.0), torch.zeros(1, 1, 4, 6))
    known[..., 1, 1] = torch.tensor([0.8, 0.8, 1])
    with torch.no_grad():
        assert torch.equal(net(L, known), net(L))  # at the start it changes nothing
        torch.nn.init.normal_(net.hints.weight)
        for block in net.context:
            torch.nn.init.normal_(block.project.weight, std=0.1)
        far = (net(L, known) - net(L)).abs()[..., -1, -1]
        nothing = net(L, known * 0) - net(L)
    assert far.max() > 1e-5 and nothing.abs().max() < 1e-6


@pytest.mark.parametrize(
    'shape', [dict(stride=3), dict(stride=16, zoom=2), dict(stride=1)], ids=str
)
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(InputError, match='must be 16, 8, 4 or 2'):
        make_model('l1', **shape)


@settings(max_examples=25, deadline=None)
@given(h=st.integers(1, 9), w=st.integers(1, 9), scale=st.integers(1, 7), seed=st.integers(0, 99))
def test_even_colour_stays_even(h, w, scale, seed):
    L = torch.rand(1, 1, h * scale, w * scale, generator=torch.Generator().manual_seed(seed)) * 100
    ab = torch.tensor([30.0, -20.0])[None, :, None, None].expand(1, 2, h, w)
    assert torch.allclose(
        enlarge(ab, L), ab[..., :1, :1].expand(1, 2, h * scale, w * scale), atol=0.01
    )


def test_colour_stops_at_an_edge_of_lightness():
    side = (torch.arange(64) >= 27).float()  # inside a cell of the small picture
    L, ab = (20 + 50 * side).expand(1, 1, 64, 64), (40 * side).expand(1, 2, 64, 64)
    small = F.adaptive_avg_pool2d(ab, 8)
    smooth = F.interpolate(small, size=(64, 64), mode='bilinear')
    guided = enlarge(small, L)
    assert (guided - ab).abs().mean() < 0.5 * (smooth - ab).abs().mean()


def test_weights_of_the_loss_are_divided_out(squares):
    centers, share = (
        torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 60.0]]),
        torch.tensor([0.8, 0.15, 0.05]),
    )
    heads = [Bins(4, centers, share, rebalance) for rebalance in (0, 0.5, 1)]
    seen = torch.randn(1, 3, 2, 2)
    a, *others = [
        h.decode(seen + class_weights(centers, share, r).log()[:, None, None])
        for h, r in zip(heads, (0, 0.5, 1))
    ]
    for b in others:
        assert torch.allclose(a, b, atol=1e-4)


def test_tuned_decoding_is_as_colourful_as_the_truth(squares):
    torch.manual_seed(0)
    net, valid = (
        make_model('classification', ab_histogram(squares)),
        Batches(squares, bs=4, train=False),
    )
    dials = tune_decoding(net, valid, [(v, b) for v in (0.2, 0.6) for b in (0, 0.5, 1)])
    assert {k: getattr(net.head, k) for k in dials} == dials
    with torch.no_grad():
        pairs = [(to_photos(L, net.ab(L)), to_photos(L, ab)) for L, ab in valid]
    made, true = (mean_colorfulness([x for p in pairs for x in p[k]]) for k in (0, 1))
    assert dials['saturation'] == 2 or abs(made / true - 1) < 0.05


def test_decodings_tuned_as_before(squares):
    "Trying dials leaves the head alone: what it decodes is what `decode` with these dials gives."
    net = make_model('classification', ab_histogram(squares)).eval()
    pred, head = torch.randn(2, len(net.head.centers), 4, 4), net.head
    for head.vividness, head.balance in ((0, 0.25), (0.4, 0), (0.7, 1)):
        dials = torch.tensor(float(head.vividness)), torch.tensor(float(head.balance))
        assert torch.equal(head.decode(pred), head.sharpened_mean(pred, *dials))


def test_weights_of_nothing_known_are_refused():
    with pytest.raises(InputError, match='no loss'):
        make_model('l3')
    with pytest.raises(InputError, match='give hist'):
        make_model('classification')
    with pytest.raises(InputError, match='init'):
        make_model('l1', init='none')
