"""upfirdn2d of images, up to 4 channels, on the CPU: there is nothing to vectorise over but the pixels of a line.

Axis by axis, in strips so small that what lies between the two stays in the cache: the cost of new memory exceeds that
of arithmetic. Short filters are added up tap by tap from shifted lines; long ones are products with a banded matrix, in
blocks so narrow that the band fills a good part of them.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor

import torch
from torch import Tensor

from cuda_ops.axes import Axis, phases

SHORT = 6  # taps; the banded product costs the same for all
BLOCK = 128  # outputs per banded product
STRIP = 1 << 19  # pixels, of the image or of the result, per strip


def resample_image(x: Tensor, taps: tuple[float, ...], gain: float, x_axis: Axis, y_axis: Axis) -> Tensor:
    """Correlate with taps along both axes, times gain; [B, C, H, W] -> NCHW [B, C, y_axis.out, x_axis.out].

    Half precision is computed in float32. More than SHORT taps spread NaN and infinity along the lines.
    """
    planes = x.reshape(-1, *x.shape[2:])
    y = x.new_empty(len(planes), y_axis.out, x_axis.out)
    # the smaller image in between; where both are alike, what leaves fewer pixels to a stride along the lines
    if_x_first, if_y_first = x_axis.out * y_axis.size, y_axis.out * x_axis.size
    x_first = if_x_first < if_y_first or (if_x_first == if_y_first and x_axis.down == 1)
    scale_first = y_axis.out * x_axis.out > y_axis.size * x_axis.size  # where there are fewer pixels
    weights, unit = _in_units(taps)
    line = max(x_axis.out, x_axis.size * y_axis.down // y_axis.up)
    rows = max(STRIP // line // y_axis.up, 1) * y_axis.up  # strips begin at the same phase
    group = max(rows // y_axis.out, 1)
    for plane in range(0, len(planes), group):
        for first in range(0, y_axis.out, rows):
            last = min(first + rows, y_axis.out)
            start, stop = _reach(y_axis, first, last, len(taps))
            out = y[plane : plane + group, first:last]
            if start >= stop:
                out.zero_()  # padding alone
                continue
            before = y_axis.before + start * y_axis.up - first * y_axis.down
            strip = Axis(stop - start, last - first, y_axis.up, y_axis.down, before, 0)
            passes = _passes(x_axis, strip, weights, x_first)
            _resample_strip(planes[plane : plane + group, start:stop], passes, gain * unit**2, scale_first, out)
    return y.view(*x.shape[:2], y_axis.out, x_axis.out)


def _reach(axis: Axis, first: int, last: int, taps: int) -> tuple[int, int]:
    """The inputs start ... stop - 1 that outputs first ... last - 1 look at."""
    start = max(ceil((first * axis.down - axis.before) / axis.up), 0)
    return start, min(floor(((last - 1) * axis.down + taps - 1 - axis.before) / axis.up) + 1, axis.size)


@lru_cache(maxsize=64)
def _in_units(taps: tuple[float, ...]) -> tuple[tuple[float, ...], float]:
    """The taps as multiples of the smallest, [1, 3, 3, 1] / 8 as 1, 3, 3, 1: a factor of 1 is a pass less."""
    sizes = [abs(tap) for tap in taps if tap]
    unit = min(sizes, default=1.0)
    if max(sizes, default=1.0) > 16 * unit:  # no harm to the range of numbers
        return taps, 1.0
    return tuple(tap / unit for tap in taps), unit


Index = tuple[slice, slice, slice]


@dataclass(frozen=True)
class _Pass:
    """What happens along one axis: the outputs of a phase are a sum of weight * part of the image within its zeros."""

    axis: Axis
    along_x: bool
    weights: tuple[float, ...]
    frame: tuple[int, int] | None  # the image's height and width with its zeros; None: it needs none
    inside: Index
    sums: tuple[tuple[tuple[tuple[float, Index], ...], Index], ...]  # none for a banded product
    size: tuple[int, int]  # of the image


@lru_cache(maxsize=256)
def _passes(x_axis: Axis, y_axis: Axis, weights: tuple[float, ...], x_first: bool) -> tuple[_Pass, _Pass]:
    between = (y_axis.size, x_axis.out) if x_first else (y_axis.out, x_axis.size)
    first, second = (x_axis, y_axis) if x_first else (y_axis, x_axis)
    return _pass(first, weights, x_first, (y_axis.size, x_axis.size)), _pass(second, weights, not x_first, between)


def _pass(axis: Axis, weights: tuple[float, ...], along_x: bool, size: tuple[int, int]) -> _Pass:
    def lines(start: int, stop: int | None, stride: int = 1) -> Index:
        part = slice(start, stop, stride)
        return (slice(None), slice(None), part) if along_x else (slice(None), part, slice(None))

    if len(weights) > SHORT:
        return _Pass(axis, along_x, weights, None, lines(0, None), (), size)
    parts = phases(axis, len(weights))
    before = max(0, *(part.before for part in parts))
    after = max(0, *(part.after for part in parts))
    sums = []
    for part in parts:
        start, reach = before - part.before, part.stride * (part.count - 1) + 1
        terms = [
            (weight, lines(start + k, start + k + reach, part.stride))
            for k, weight in enumerate(weights[part.tap :: axis.up])
        ]
        if part.count:  # a factor of 1 first: there is nothing to multiply
            ordered = tuple(sorted(terms, key=lambda term: term[0] != 1))
            sums.append((ordered, lines(part.phase, None, len(parts))))
    height, width = (size[0], before + size[1] + after) if along_x else (before + size[0] + after, size[1])
    frame = (height, width) if before or after else None
    return _Pass(axis, along_x, weights, frame, lines(before, before + axis.size), tuple(sums), size)


def _resample_strip(x: Tensor, passes: tuple[_Pass, _Pass], scale: float, scale_first: bool, out: Tensor) -> None:
    """One axis, then the other, into `out`; x: [planes, height, width]."""
    working = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
    first, second = passes
    if first.frame is None and not scale_first and x.dtype == working:
        source = x
    else:
        source, inside = _frame(x, first, working)
        if scale_first and x.dtype == working:
            torch.mul(x, scale, out=inside)
        else:
            inside.copy_(x)
            if scale_first:
                inside.mul_(scale)
    between, inside = _frame(x, second, working)
    result = out if out.dtype == working else torch.empty_like(out, dtype=working)
    _filter(source, first, inside)
    _filter(between, second, result)
    if not scale_first:
        torch.mul(result, scale, out=out)
    elif result is not out:
        out.copy_(result)


def _frame(x: Tensor, step: _Pass, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Memory for the image that a pass reads, within the zeros that it needs: all of it, and the inside."""
    if step.frame is None:
        image = x.new_empty((len(x), *step.size), dtype=dtype)
        return image, image
    image = x.new_zeros((len(x), *step.frame), dtype=dtype)
    return image, image[step.inside]


def _filter(image: Tensor, step: _Pass, out: Tensor) -> None:
    if not step.sums:
        _multiply(image, step, out)
    elif step.along_x and len(step.sums) == 2 and out.shape[2] % 2 == 0:
        # PyTorch is slow at writing every second number, but quick at making complex ones, which lie like that
        even, odd = (out.new_empty((*out.shape[:2], out.shape[2] // 2)) for _ in range(2))
        _add_up(image, step.sums[0][0], even)
        _add_up(image, step.sums[1][0], odd)
        torch.complex(even, odd, out=torch.view_as_complex(out.unflatten(2, (-1, 2))))
    else:
        for terms, target in step.sums:
            _add_up(image, terms, out[target])


def _add_up(image: Tensor, terms: tuple[tuple[float, Index], ...], out: Tensor) -> None:
    """sum of weight * part of the image, into `out`."""
    if not terms:
        out.zero_()
        return
    weight, part = terms[0]
    total = image[part]
    if weight != 1 or len(terms) == 1:
        total = torch.mul(total, weight, out=out)
    for weight, part in terms[1:]:
        total = torch.add(total, image[part], alpha=weight, out=out)


def _multiply(image: Tensor, step: _Pass, out: Tensor) -> None:
    """As a product with a banded matrix."""
    out.zero_()
    for block in _band(step.axis, step.weights, image.dtype):
        if step.along_x:
            out[..., block.first : block.last] = image[..., block.start : block.stop] @ block.matrix
        else:
            out[:, block.first : block.last] = block.matrix.T @ image[:, block.start : block.stop]


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
        start, stop = _reach(axis, first, last, len(taps))
        if stop <= start:
            continue  # nothing but padding
        inputs, outputs = torch.arange(start, stop), torch.arange(first, last)
        # output o correlates with the upsampled image from o * down - before on; input i lies there at i * up
        tap = inputs[:, None] * axis.up + axis.before - outputs * axis.down
        inside = (tap >= 0) & (tap < len(taps))
        matrix = torch.tensor(taps, dtype=torch.float64)[tap.clamp(0, len(taps) - 1)] * inside
        blocks.append(_Block(first, last, start, stop, matrix.to(dtype)))
    return blocks
