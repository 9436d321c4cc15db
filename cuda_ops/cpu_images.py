"""upfirdn2d of images, up to 4 channels, on the CPU: there is nothing to vectorise over but the pixels of a line.

Axis by axis. Short filters are added up tap by tap from shifted lines; long ones are products with a banded matrix, in
blocks so narrow that the band fills a good part of them.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops.axes import Axis, phases
from cuda_ops.reference import pad_or_crop

SHORT = 6  # taps; the banded product costs the same for all
BLOCK = 128  # outputs per banded product


def resample_image(x: Tensor, taps: tuple[float, ...], gain: float, x_axis: Axis, y_axis: Axis) -> Tensor:
    """Correlate with taps along x, then with gain * taps along y; [B, C, H, W] -> NCHW [B, C, y_axis.out, x_axis.out].

    Half precision is computed in float32.
    """
    working = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
    x_first = x_axis.out * y_axis.size <= y_axis.out * x_axis.size  # the smaller image in between
    y = x.to(working, memory_format=torch.contiguous_format)
    for along_x in (x_first, not x_first):
        weights = taps if along_x else tuple(tap * gain for tap in taps)
        y = _along_x(y, weights, x_axis) if along_x else _along_y(y, weights, y_axis)
    return y.to(x.dtype)


def _along_y(x: Tensor, taps: tuple[float, ...], axis: Axis) -> Tensor:
    if len(taps) > SHORT:
        y = x.new_zeros(*x.shape[:2], axis.out, x.shape[3])
        for block in _band(axis, taps, x.dtype):
            y[:, :, block.first : block.last] = block.matrix.T @ x[:, :, block.start : block.stop]
        return y
    y = x.new_empty(*x.shape[:2], axis.out, x.shape[3])
    parts = phases(axis, len(taps))
    for part in parts:
        lines = pad_or_crop(x, [0, 0, part.before, part.after])
        chosen = taps[part.tap :: axis.up]
        _add_up(
            [lines[:, :, k :: part.stride][:, :, : part.count] for k in range(len(chosen))],
            chosen,
            y[:, :, part.phase :: len(parts)],
        )
    return y


def _along_x(x: Tensor, taps: tuple[float, ...], axis: Axis) -> Tensor:
    if len(taps) > SHORT or axis.up > 2 or axis.down > 2 or axis.up == axis.down == 2:
        y = x.new_zeros(*x.shape[:3], axis.out)
        for block in _band(axis, taps, x.dtype):
            y[..., block.first : block.last] = x[..., block.start : block.stop] @ block.matrix
        return y
    results = []
    for part in phases(axis, len(taps)):
        chosen = taps[part.tap :: axis.up]
        line = pad_or_crop(x, [part.before, part.after + part.stride - 1, 0, 0])
        # every stride-th pixel: neighbours in memory once the pixels of each remainder are put side by side
        sides = (
            [line[..., r :: part.stride].contiguous() for r in range(min(part.stride, len(chosen)))]
            if part.stride > 1
            else [line]
        )
        shifted = [sides[k % part.stride][..., k // part.stride :][..., : part.count] for k in range(len(chosen))]
        results.append(_add_up(shifted, chosen, x.new_empty(*x.shape[:3], part.count)))
    return results[0] if len(results) == 1 else _interleave(results[0], results[1], axis.out)


def _add_up(images: list[Tensor], weights: tuple[float, ...], out: Tensor) -> Tensor:
    """sum of weight * image, into `out`."""
    if not images:
        return out.zero_()
    torch.mul(images[0], weights[0], out=out)
    for image, weight in zip(images[1:], weights[1:], strict=True):
        out.add_(image, alpha=weight)
    return out


def _interleave(even: Tensor, odd: Tensor, size: int) -> Tensor:
    """even[0], odd[0], even[1], ...: complex numbers lie in memory like that, and PyTorch is quick at making them."""
    odd = F.pad(odd, [0, even.shape[-1] - odd.shape[-1]])
    return torch.view_as_real(torch.complex(even, odd)).flatten(-2)[..., :size]


@dataclass(frozen=True)
class _Block:
    """Outputs first ... last - 1 of an axis are inputs start ... stop - 1 times matrix [inputs, outputs]."""

    first: int
    last: int
    start: int
    stop: int
    matrix: Tensor


@lru_cache(maxsize=64)
def _band(axis: Axis, taps: tuple[float, ...], dtype: torch.dtype) -> list[_Block]:
    blocks = []
    for first in range(0, axis.out, BLOCK):
        last = min(first + BLOCK, axis.out)
        start = max(ceil((first * axis.down - axis.before) / axis.up), 0)
        stop = min(floor(((last - 1) * axis.down + len(taps) - 1 - axis.before) / axis.up) + 1, axis.size)
        if stop <= start:
            continue  # nothing but padding
        inputs, outputs = torch.arange(start, stop), torch.arange(first, last)
        # output o correlates with the upsampled image from o * down - before on; input i lies there at i * up
        tap = inputs[:, None] * axis.up + axis.before - outputs * axis.down
        inside = (tap >= 0) & (tap < len(taps))
        matrix = torch.tensor(taps, dtype=torch.float64)[tap.clamp(0, len(taps) - 1)] * inside
        blocks.append(_Block(first, last, start, stop, matrix.to(dtype)))
    return blocks
