"""The orthogonal wavelet filters of the augmentations, and the band filters built from them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Low-pass (scaling) coefficients of Daubechies' least asymmetric wavelets; they sum to sqrt(2).
SYM2 = (-0.12940952255126037, 0.2241438680420134, 0.8365163037378079, 0.48296291314453416)
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)


def band_filters() -> Tensor:
    """Zero-phase FIR filters of the four bands with edges pi/8, pi/4, pi/2: float64 [4, 43], lowest band first.

    From sym2's H: P0(z) = H(z) H(1/z) / 2 passes the lower half band, P1 = 1 - P0 the upper. The bands P0(z) P0(z^2)
    P0(z^4), P0(z) P0(z^2) P1(z^4), P0(z) P1(z^2), P1(z) add up to 1 (ADA, Appendix B).
    """
    h = torch.tensor(SYM2, dtype=torch.float64) / math.sqrt(2)
    low = _convolve(h, h.flip(0))
    high = -low
    high[len(low) // 2] += 1
    low2, high2, low4, high4 = _spread(low, 2), _spread(high, 2), _spread(low, 4), _spread(high, 4)
    below = _convolve(low, low2)
    bands = [_convolve(below, low4), _convolve(below, high4), _convolve(low, high2), high]
    width = max(len(band) for band in bands)
    return torch.stack([F.pad(band, [(width - len(band)) // 2] * 2) for band in bands])


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    padded = F.pad(a, [len(b) - 1] * 2)
    return padded.unfold(0, len(b), 1) @ b.flip(0)


def _spread(taps: Tensor, factor: int) -> Tensor:
    """F(z) -> F(z^factor)."""
    spread = taps.new_zeros((len(taps) - 1) * factor + 1)
    spread[::factor] = taps
    return spread
