"""How often each augmentation happens and by how much: what keeps it from leaking (ADA, Appendix C.4)."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from tests.augmentation import GEOMETRIC, HEIGHT, WIDTH, Only, Watched, all_stages, alone, rng
from training.augment import _Draw, add_noise, band_gains, cutout_mask, geometry_inverse

MANY = 20_000


@pytest.mark.parametrize("p", [0.1, 0.6, 0.95])
def test_every_gate_opens_with_its_probability_and_independently(p):
    """The 18 transformations are skipped with probability 1 - p > 0; a rotation, before or after, happens with p."""
    draw = Watched(MANY, p)
    all_stages(draw)
    gates = torch.stack(draw.open).double().numpy()
    expected = np.full(19, p)
    assert len(gates) == 19  # the rotation, one of the 18, has two
    rotations = [GEOMETRIC.index("pre-rotation"), GEOMETRIC.index("post-rotation")]
    expected[rotations] = 1 - math.sqrt(1 - p)
    deviation = np.sqrt(expected * (1 - expected) / MANY)
    assert (np.abs(gates.mean(1) - expected) < 4.5 * deviation).all()
    assert abs((gates[rotations].max(0)).mean() - p) < 4.5 * math.sqrt(p * (1 - p) / MANY)
    correlation = np.corrcoef(gates) - np.eye(len(gates))
    assert np.abs(correlation).max() < 4.5 / math.sqrt(MANY)


@pytest.mark.parametrize("p", [0.3, 0.9])
def test_group_elements_are_uniform_but_for_the_identity(p):
    """So that no Fourier coefficient of their distribution vanishes: the smallest is 1 - p (C.4.2, C.5.1)."""
    inverse = geometry_inverse(_Draw(MANY, p, rng()), WIDTH, HEIGHT, ["blit"])
    flipped = inverse[:, :2, :2].det() < 0
    upright = torch.where(flipped[:, None, None], torch.diag(torch.tensor([-1.0, 1, 1])), torch.eye(3)) @ inverse
    quarters = (torch.atan2(upright[:, 1, 0], upright[:, 0, 0]) / (math.pi / 2)).round().long() % 4
    for elements, order in ((flipped.long(), 2), (quarters, 4)):
        counts = np.bincount(elements.numpy(), minlength=order)
        expected = np.full(order, p / order) + np.eye(order)[0] * (1 - p)
        assert stats.chisquare(counts, expected * MANY).pvalue > 1e-3
        assert np.abs(np.fft.fft(counts / MANY)).min() > (1 - p) * 0.8


def uniform(low: float, high: float) -> stats.rv_continuous:
    return stats.uniform(low, high - low)


@pytest.mark.parametrize(
    ("name", "amount", "law"),
    [
        ("scale", lambda m: torch.log2(m[:, 0, 0]), stats.norm(0, 0.2)),
        ("pre-rotation", lambda m: torch.atan2(m[:, 1, 0], m[:, 0, 0]), uniform(-math.pi, math.pi)),
        ("stretch", lambda m: torch.log2(m[:, 0, 0]), stats.norm(0, 0.2)),
        ("post-rotation", lambda m: torch.atan2(m[:, 1, 0], m[:, 0, 0]), uniform(-math.pi, math.pi)),
        ("translation", lambda m: m[:, 0, 2] / WIDTH, stats.norm(0, 0.125)),
        ("translation", lambda m: m[:, 1, 2] / HEIGHT, stats.norm(0, 0.125)),
        ("brightness", lambda m: m[:, 1, 3], stats.norm(0, 0.2)),
        ("contrast", lambda m: torch.log2(m[:, 1, 1]), stats.norm(0, 0.5)),
        (
            "hue",
            lambda m: torch.atan2((m[:, 1, 0] - m[:, 0, 1]) * 3**0.5, m[:, 0, 0] * 3 - 1),
            uniform(-math.pi, math.pi),
        ),
        ("saturation", lambda m: torch.log2((m[:, 0, 0] * 3 - 1) / 2), stats.norm(0, 1)),
    ],
)
def test_amounts_follow_the_published_laws(name, amount, law):
    _, matrix = alone(name, MANY)
    assert stats.kstest(amount(matrix.double()).numpy(), law.cdf).pvalue > 1e-3


def test_whole_translations_are_rounded_uniform():
    _, matrix = alone("whole translation", MANY)
    for column, size in ((matrix[:, 0, 2], WIDTH), (matrix[:, 1, 2], HEIGHT)):
        pixels = column.round().long().numpy()
        np.testing.assert_allclose(column, pixels, atol=1e-5)
        reach = size // 8
        counts = np.bincount(pixels + reach, minlength=2 * reach + 1)
        expected = np.ones(2 * reach + 1) / (2 * reach)
        expected[[0, -1]] /= 2  # round: the ends get half a pixel each
        assert stats.chisquare(counts, expected * MANY).pvalue > 1e-3


def test_the_axes_of_a_translation_are_independent():
    for name in ("whole translation", "translation"):
        _, matrix = alone(name, MANY)
        assert abs(np.corrcoef(matrix[:, 0, 2], matrix[:, 1, 2])[0, 1]) < 0.03


def test_band_gains_and_noise_follow_the_published_laws():
    for band in range(4):
        draw = Only(MANY, band)
        band_gains(draw)
        assert stats.kstest(draw.value.log2().numpy(), "norm").pvalue > 1e-3
    draw = Only(MANY, 0)
    add_noise(torch.zeros(MANY, 3, 1, 1), draw)
    assert stats.kstest(draw.value.numpy() / 0.1, stats.halfnorm.cdf).pvalue > 1e-3


def test_cutout_is_centred_anywhere():
    draw = Only(MANY, 0)
    cutout_mask(draw, 8, 8)
    for centre in draw.randoms:
        assert stats.kstest(centre.numpy(), "uniform").pvalue > 1e-3
