"""The reference kernels: the definitions in plain tensor operations, on any device. Slow; the fast ones must agree."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def layout(x: Tensor) -> torch.memory_format:
    """The memory format that results of an operator on x [B, C, H, W] have: that of x, NCHW where it has neither."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format


def correlation_taps(f: Tensor, flip_filter: bool) -> Tensor:
    """f [k] or [ky, kx], turned so that applying it is a correlation."""
    return f if flip_filter else f.flip(list(range(f.ndim)))


def output_size(size: int, up: int, down: int, margins: Sequence[int], taps: int) -> int:
    """Pixels of one axis after upfirdn2d (0 or less where the filter is larger than the padded image)."""
    return (size * up + sum(margins) - taps) // down + 1


def pad_or_crop(x: Tensor, margins: Sequence[int]) -> Tensor:
    """Zeros around the last two axes, [x0, x1, y0, y1]; negative margins crop, however much."""
    if max(margins) > 0:  # before cropping: a crop can't take more than is there
        x = F.pad(x, [max(margin, 0) for margin in margins])
    x0, x1, y0, y1 = (max(-margin, 0) for margin in margins)
    return x[..., y0 : max(x.shape[-2] - y1, 0), x0 : max(x.shape[-1] - x1, 0)]


def upfirdn2d_reference(
    x: Tensor,
    f: Tensor,
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """Insert zeros, pad or crop, add the shifted images up tap by tap, decimate. Arguments: see upfirdn2d.

    up, down: [x, y]; padding: [x0, x1, y0, y1]. Accumulates in float32, or float64 for float64.
    """
    working = torch.float64 if x.dtype == torch.float64 else torch.float32
    taps = correlation_taps(f, flip_filter).to(x.device, working)
    taps = taps if taps.ndim == 2 else torch.outer(taps, taps)
    batch, channels, height, width = x.shape
    z = x.new_zeros(batch, channels, height * up[1], width * up[0], dtype=working)
    z[:, :, :: up[1], :: up[0]] = x
    z = pad_or_crop(z, padding)
    rows = output_size(z.shape[2], 1, down[1], (0, 0), taps.shape[0])
    columns = output_size(z.shape[3], 1, down[0], (0, 0), taps.shape[1])
    y = z.new_zeros(batch, channels, rows, columns)
    for i in range(taps.shape[0]):
        for j in range(taps.shape[1]):
            y += (
                taps[i, j]
                * z[:, :, i : i + rows * down[1] : down[1], j : j + columns * down[0] : down[0]][:, :, :rows, :columns]
            )
    return y.mul_(gain).to(x.dtype).contiguous(memory_format=layout(x))
