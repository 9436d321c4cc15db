"""The wavelet filters of the augmentations against PyWavelets, and the band filters against its multiresolution."""

import numpy as np
import pytest
import pywt
import torch

from training.wavelets import SYM2, SYM6, band_filters


@pytest.mark.parametrize(("name", "taps"), [("sym2", SYM2), ("sym6", SYM6)])
def test_low_pass_filters_are_the_published_ones(name, taps):
    np.testing.assert_allclose(taps, pywt.Wavelet(name).dec_lo, atol=1e-12)


@pytest.mark.parametrize("taps", [SYM2, SYM6])
def test_low_pass_filters_are_orthogonal_to_their_even_shifts(taps):
    h = np.array(taps)
    products = [h[2 * k :] @ h[: len(h) - 2 * k] for k in range(len(h) // 2)]
    np.testing.assert_allclose(products, [1] + [0] * (len(h) // 2 - 1), atol=1e-11)


def test_bands_are_symmetric_and_add_up_to_the_image():
    bands = band_filters()
    assert bands.shape == (4, 43) and bands.dtype == torch.float64
    torch.testing.assert_close(bands, bands.flip(1), rtol=0, atol=1e-15)
    impulse = torch.zeros(43, dtype=torch.float64)
    impulse[21] = 1
    torch.testing.assert_close(bands.sum(0), impulse, rtol=0, atol=1e-15)


def test_bands_are_the_details_of_an_undecimated_transform():
    """Of a periodic signal, each band is one term of the additive decomposition of sym2's stationary transform."""
    signal = np.random.default_rng(0).normal(size=64)
    terms = pywt.mra(signal, "sym2", level=3, transform="swt")  # approximation, then details from coarse to fine
    for taps, term in zip(band_filters().numpy(), terms, strict=True):
        ours = sum(tap * np.roll(signal, k - 21) for k, tap in enumerate(taps))
        np.testing.assert_allclose(ours, term, atol=1e-10)


def test_bands_meet_at_their_edges():
    """The response at pi/8, pi/4 and pi/2 is shared by the bands on either side; each band keeps its own middle."""

    def response(frequency: float) -> np.ndarray:
        return np.abs(band_filters().numpy() @ np.exp(-1j * frequency * np.arange(-21, 22)))

    np.testing.assert_allclose(response(0), [1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(response(np.pi), [0, 0, 0, 1], atol=1e-12)
    assert response(np.pi / 2)[3] == pytest.approx(0.5)
    for i in range(3):
        edge = response(np.pi / 2 ** (3 - i))
        assert edge[i : i + 2].sum() > 0.85 and edge[i] == pytest.approx(edge[i + 1], rel=0.2)
        assert response(0.75 * np.pi / 2 ** (2 - i)).argmax() == i + 1
