"Variants: other plausible pictures of one photo, and what is refused."

import numpy as np, pytest, torch

from colorize.albums import colorize_files
from colorize.backends import ColorBins, TorchNet
from colorize.core import InputError
from colorize.files import read_photo
from colorize.infer import Colorizer
from colorize.model import make_model
from colorize.variants import choices, has_variants, vary

GREEN, RED, BLUE, GRAY = centers = np.float32([[-40, 30], [50, 30], [10, -50], [0, 0]])


class TwoMinds:
    "Sure that the left half is green; the right one is red or, less likely, blue."

    hints, zero = True, np.zeros(4, np.float32)
    bins = ColorBins(centers, zero, zero, vividness=0.7, balance=0.0, saturation=1.25)

    def answer(self, L, known=None):
        n, _, h, w = L.shape
        p = np.full((n, 4, h // 4, w // 4), 1e-4, np.float32)
        p[:, 0, :, : w // 8] = 1
        p[:, 1, :, w // 8 :], p[:, 2, :, w // 8 :] = 0.6, 0.4
        if known is not None and known[0, 2, :, w // 32 :].any():
            right = known[0, :, :, w // 32 :]
            ab = 50 * (right[:2] * right[2]).sum((1, 2)) / right[2].sum()
            p[:, :, :, w // 8 :] = 1e-4
            p[:, np.linalg.norm(centers - ab, axis=1).argmin(), :, w // 8 :] = 1
        return np.log(p)

    def __call__(self, L, vividness=None, known=None):
        p = self.bins.probabilities(self.answer(L, known), vividness)
        ab = self.bins.saturation * np.einsum('nqhw,qc->nchw', p, centers)
        return ab, np.zeros_like(ab[:, :1])


L = np.full((1, 1, 128, 128), 50, np.float32)


@pytest.fixture(scope='module')
def reader():
    "A network that reads known colours, untrained."
    hist = np.zeros((23, 23))
    hist[8:15, 8:15] = 1
    torch.manual_seed(0)
    net = make_model('classification', hist, hints=True, encoder='classic', stride=8)
    torch.nn.init.normal_(net.hints.weight, std=3)
    return TorchNet(net.eval())


def test_a_variant_differs_where_the_network_is_unsure_and_agrees_where_it_is_sure():
    net = TwoMinds()
    usual, _ = net(L)
    other, entropy = vary(net, net, L, 1)
    np.testing.assert_allclose(other[..., :16], usual[..., :16], atol=0.5)
    np.testing.assert_allclose(other[0, :, 5, 20], 1.25 * BLUE, atol=0.5)  # one colour, no patches
    assert np.ptp(other[..., 16:], axis=(2, 3)).max() < 0.5
    np.testing.assert_array_equal(vary(net, net, L, 1)[0], other)
    assert entropy.shape == other[:, :1].shape


def test_what_the_user_knows_stays():
    net, known = TwoMinds(), np.zeros((1, 3, 8, 8), np.float32)
    known[0, :, 2, 6] = *RED / 50, 1
    seen = []

    def look(L, vividness, known):
        seen.append(known)
        return net(L, vividness, known)

    vary(net, look, L, 1, known=known)
    assert len(seen) > 0
    for cells in seen:
        np.testing.assert_array_equal(cells[0, :, 2, 6], known[0, :, 2, 6])


def test_nothing_is_more_vivid_than_the_photo_nor_gray_instead_of_a_colour():
    usual, member = np.repeat([[20.0], [0.0]], 6, 1), np.ones(6)
    p = np.repeat(np.array([[0.1], [0.3], [0.3], [0.3]]), 6, 1)
    others = choices(p, centers, usual, member, 1.0)
    np.testing.assert_allclose([np.linalg.norm(c.colour) for c in others], 20, atol=1e-3)
    assert all(np.linalg.norm(c.colour - GRAY) > 8 for c in others)


def test_where_nothing_else_is_plausible_the_usual_picture_remains():
    net, logits = TwoMinds(), np.float32([9, 0, 0, 0]).reshape(1, 4, 1, 1)
    net.answer = lambda L, known=None: np.tile(logits, (1, 1, 32, 32))
    np.testing.assert_array_equal(vary(net, net, L, 1)[0], net(L)[0])


def test_same_number_same_picture_and_lightness_stays(reader):
    gray = np.random.default_rng(0).integers(0, 256, (96, 128), np.uint8)
    usual, first, again = (Colorizer(reader, variant=k)(gray) for k in (0, 1, 1))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(usual, Colorizer(reader)(gray))


@pytest.mark.parametrize('variant', [-1, 1.5, '2'])
def test_no_such_variant(variant):
    with pytest.raises(InputError, match='give 0, 1, 2'):
        Colorizer(variant=variant)


@pytest.mark.parametrize('variants', [0, 9, 2.5])
def test_no_such_number_of_variants(variants, tmp_path):
    with pytest.raises(InputError, match='from 1 to 8'):
        colorize_files([tmp_path / 'a.png'], tmp_path / 'out', variants=variants)


def test_a_model_with_one_picture_says_so():
    torch.manual_seed(0)
    hist = np.eye(23)
    for loss, hints in (('classification', False), ('l1', True)):
        net = TorchNet(make_model(loss, hist, hints=hints, encoder='classic', stride=8).eval())
        assert not has_variants(net)
        with pytest.raises(InputError, match='only one picture'):
            Colorizer(net, variant=1)


def test_several_files_with_clear_names(reader, tmp_path):
    from PIL import Image

    gray = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(gray).save(tmp_path / 'old.png')
    done = colorize_files([tmp_path / 'old.png'], tmp_path / 'new', model=reader, variants=3).done
    assert [p.name for p in done] == ['old.png', 'old_variant1.png', 'old_variant2.png']
    for k, path in enumerate(done):
        np.testing.assert_array_equal(read_photo(path).pixels, Colorizer(reader, variant=k)(gray))
