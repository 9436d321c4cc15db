"""upfirdn2d on the CPU: polyphase, so that no zeros are inserted and nothing is computed that decimation drops.

Feature maps (many channels) take one small convolution per phase, channel by channel, which oneDNN vectorises over
channels. Images (up to 4 channels) are cuda_ops/cpu_images.py's. Measured in tests/benchmarks/operators.py.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops.axes import Axis, Phase, phases
from cuda_ops.cpu_images import SHORT, resample_image
from cuda_ops.reference import correlation_taps, layout, output_size, pad_or_crop, upfirdn2d_reference

IMAGE_CHANNELS = 4
ONE_PASS_TAPS = 4  # a separable filter up to here is quicker as one two-dimensional filter


def upfirdn2d_cpu(
    x: Tensor,
    f: Tensor,
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """As upfirdn2d_reference; float16, and images in half precision, are computed in float32."""
    ky, kx = f.shape[0], f.shape[-1]
    width, height = x.shape[3], x.shape[2]
    x_axis = Axis(width, output_size(width, up[0], down[0], padding[:2], kx), up[0], down[0], padding[0], padding[1])
    y_axis = Axis(height, output_size(height, up[1], down[1], padding[2:], ky), up[1], down[1], padding[2], padding[3])
    if not x.numel():
        return x.new_empty(*x.shape[:2], y_axis.out, x_axis.out)
    if f.ndim == 1 and (x.shape[1] <= IMAGE_CHANNELS or x.dtype == torch.float64):  # oneDNN has no float64
        numbers = f.tolist()
        y = resample_image(x, tuple(numbers if flip_filter else reversed(numbers)), gain, x_axis, y_axis)
        if kx > SHORT and not y.sum().isfinite():  # a product with the zeros beside a band spreads NaN and infinity
            y = upfirdn2d_reference(x, f, up, down, padding, flip_filter, gain)
        return y.contiguous(memory_format=layout(x))
    taps = correlation_taps(f, flip_filter).to(x.device, torch.float64)
    if taps.ndim == 1 and len(taps) > ONE_PASS_TAPS:
        unit = Axis(height, height, 1, 1, 0, 0)
        y = _by_phases(x, taps[None], x_axis, unit)
        y = _by_phases(y, taps[:, None] * gain, Axis(y.shape[3], y.shape[3], 1, 1, 0, 0), y_axis)
    else:
        y = _by_phases(x, (taps if taps.ndim == 2 else torch.outer(taps, taps)) * gain, x_axis, y_axis)
    return y.contiguous(memory_format=layout(x))


def _by_phases(x: Tensor, taps: Tensor, x_axis: Axis, y_axis: Axis) -> Tensor:
    """Each phase of the output is a correlation of the input with every up-th tap: taps [ky, kx], gain included."""
    working = torch.float32 if x.dtype == torch.float16 else x.dtype
    x_phases, y_phases = phases(x_axis, taps.shape[1]), phases(y_axis, taps.shape[0])
    weight = taps.to(working)
    if x.dtype == torch.float32 and (x_axis.down, y_axis.down) == (1, 1) != (x_axis.up, y_axis.up):
        return _transposed(x, weight, x_axis, y_axis)
    if x_axis.up == y_axis.up == 1:
        return _correlate(x.to(working), weight, x_phases[0], y_phases[0]).to(x.dtype)
    y = torch.empty((*x.shape[:2], y_axis.out, x_axis.out), dtype=working, memory_format=layout(x))
    for row in y_phases:
        for column in x_phases:
            part = weight[row.tap :: y_axis.up, column.tap :: x_axis.up]
            target = y[:, :, row.phase :: len(y_phases), column.phase :: len(x_phases)]
            if part.numel() and target.numel():
                target.copy_(_correlate(x.to(working), part, column, row))
            else:
                target.zero_()
    return y.to(x.dtype)


def _transposed(x: Tensor, taps: Tensor, x_axis: Axis, y_axis: Axis) -> Tensor:
    """Upsampling as the transposed convolution that it is: as phases, and quicker, but oneDNN is slow at it in bf16."""
    # all outputs that a tap reaches; those that are asked for begin taps - 1 - before later
    rows, columns = (
        (size - 1) * up + length
        for size, up, length in zip(x.shape[2:], (y_axis.up, x_axis.up), taps.shape, strict=True)
    )
    top, left = taps.shape[0] - 1 - y_axis.before, taps.shape[1] - 1 - x_axis.before
    bottom, right = rows - top - y_axis.out, columns - left - x_axis.out
    crop = max(min(top, bottom), 0), max(min(left, right), 0)  # on both sides alike: the convolution does that itself
    weight = taps.flip(0, 1).expand(x.shape[1], 1, *taps.shape)
    y = F.conv_transpose2d(x, weight, stride=(y_axis.up, x_axis.up), padding=crop, groups=x.shape[1])
    rest = (left - crop[1], right - crop[1], top - crop[0], bottom - crop[0])
    return pad_or_crop(y, [-margin for margin in rest]) if any(rest) else y


def _correlate(x: Tensor, taps: Tensor, column: Phase, row: Phase) -> Tensor:
    """Correlate every channel with taps [h, w], after the padding (negative: cropping) that the phases ask for."""
    channels = x.shape[1]
    margins = (column.before, column.after, row.before, row.after)
    if min(margins) < 0:
        x = pad_or_crop(x, [min(margin, 0) for margin in margins])
        if not x.numel():  # they look at padding alone
            return x.new_zeros(len(x), channels, row.count, column.count)
    left, right, top, bottom = (max(margin, 0) for margin in margins)
    stride, weight = (row.stride, column.stride), taps.expand(channels, 1, *taps.shape)
    if stride == (1, 1) or (left == right and top == bottom):
        # the convolution pads by itself, on both sides alike: what is too much is left out of the result
        pad_x, pad_y = max(left, right), max(top, bottom)
        y = F.conv2d(x, weight, stride=stride, padding=(pad_y, pad_x), groups=channels)
        if stride == (1, 1):
            y = y[:, :, pad_y - top :, pad_x - left :]
        return y[:, :, : row.count, : column.count]
    return F.conv2d(F.pad(x, [left, right, top, bottom]), weight, stride=stride, groups=channels)
