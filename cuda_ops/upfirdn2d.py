"""Upsample, pad, filter and decimate in one operation: what StyleGAN2, Appendix B fuses into one kernel.

The adjoint of an upfirdn2d is an upfirdn2d with the factors exchanged and the filter reversed, so that one operator
serves the result, its gradient and every higher gradient.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from cuda_ops import launch
from cuda_ops.cpu import upfirdn2d_cpu
from cuda_ops.dispatch import cuda_kernels_run, reference_forced
from cuda_ops.reference import correlation_taps, layout, output_size, upfirdn2d_reference


def setup_filter(taps: Sequence[float] | Tensor) -> Tensor:
    """Return FIR taps as a float32 tensor that sums to 1; 1-D (separable) stays 1-D.

    Raises ValueError unless the taps are 1-D or 2-D, not empty, and have a sum other than zero.
    """
    f = torch.as_tensor(taps, dtype=torch.float32)
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise ValueError(f"f: found shape {tuple(f.shape)}, expected a non-empty 1-D or 2-D filter")
    if f.sum() == 0:
        raise ValueError("f: the taps sum to 0, expected a filter that can be normalised")
    return f / f.sum()


def upfirdn2d(
    x: Tensor,
    f: Tensor,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Zero-insert upsample, pad or crop, convolve with a FIR filter, and decimate.

    x: [B, C, H, W], floating point. f: 1-D (applied along both axes) or 2-D taps.
    up, down: factors, one number or [x, y]. padding: one number, [x, y] or [x0, x1, y0, y1] in pixels of the upsampled
    image; negative numbers crop. flip_filter: False convolves, True correlates. gain: multiplies the result once.
    Returns [B, C, H', W'] with H' = (H up + y0 + y1 - k) // down + 1, channels_last where x is, else NCHW.
    Differentiable in x to any order, not in f.
    Raises ValueError for arguments of another form, or where the filter is larger than the padded image.
    """
    if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x: found {_described(x)}, expected floating point [B, C, H, W]")
    _require_filter(f)
    if not isinstance(gain, int | float):
        raise ValueError(f"gain: found {gain!r}, expected a number")
    sizes = (*x.shape[2:], *f.shape)
    asked = (_whole("up", up), _whole("down", down), _whole("padding", padding))
    if torch.compiler.is_compiling():
        return torch.ops.latentprint.upfirdn2d(x, f, *_settings(sizes, *asked), flip_filter, float(gain))
    arguments = (x, f, *_kept_settings(sizes, *asked), flip_filter, float(gain))
    if x.device.type != "cpu" or type(x) is not Tensor:
        return torch.ops.latentprint.upfirdn2d(*arguments)
    if x.requires_grad and torch.is_grad_enabled():
        return _OnCpu.apply(*arguments)
    return _on_cpu(*arguments)


def upsample2d(x: Tensor, f: Tensor, up: int = 2, gain: float = 1) -> Tensor:
    """Upsample [B, C, H, W] to [B, C, H up, W up] in place: an even filter shifts nothing (f: see upfirdn2d)."""
    _require_filter(f)
    ky, kx = f.shape[0], f.shape[-1]
    padding = [(kx + up - 1) // 2, (kx - up) // 2, (ky + up - 1) // 2, (ky - up) // 2]
    return upfirdn2d(x, f, up=up, padding=padding, gain=gain * up**2)


def downsample2d(x: Tensor, f: Tensor, down: int = 2, gain: float = 1) -> Tensor:
    """Downsample [B, C, H, W], multiples of `down`, to [B, C, H / down, W / down] (f: see upfirdn2d)."""
    _require_filter(f)
    ky, kx = f.shape[0], f.shape[-1]
    padding = [(kx - down + 1) // 2, (kx - down) // 2, (ky - down + 1) // 2, (ky - down) // 2]
    return upfirdn2d(x, f, down=down, padding=padding, gain=gain)


def filter2d(x: Tensor, f: Tensor, gain: float = 1) -> Tensor:
    """Filter [B, C, H, W], the size stays (f: see upfirdn2d)."""
    _require_filter(f)
    ky, kx = f.shape[0], f.shape[-1]
    return upfirdn2d(x, f, padding=[kx // 2, (kx - 1) // 2, ky // 2, (ky - 1) // 2], gain=gain)


def _described(value: object) -> str:
    """A value for a sentence."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def _require_filter(f: Tensor) -> None:
    if not isinstance(f, Tensor) or f.ndim not in (1, 2) or not f.numel() or f.is_complex():
        raise ValueError(f"f: found {_described(f)}, expected a non-empty 1-D or 2-D filter of real numbers")


def _whole(name: str, value: int | Sequence[int]) -> int | tuple[int, ...]:
    """The value, such that it can be remembered. Raises ValueError unless it consists of whole numbers."""
    if isinstance(value, int):
        return value
    if isinstance(value, Sequence) and all(isinstance(v, int) for v in value):
        return tuple(value)
    raise ValueError(f"{name}: found {value!r}, expected one whole number or several")


def _settings(
    sizes: tuple[int, ...], up: int | tuple[int, ...], down: int | tuple[int, ...], padding: int | tuple[int, ...]
) -> tuple[list[int], list[int], list[int]]:
    """The factors and margins in full; sizes: the image's and the filter's. Raises ValueError as upfirdn2d does."""
    factors, divisors, margins = _pair("up", up), _pair("down", down), _margins(padding)
    rows, columns, *taps = sizes
    height, width = rows * factors[1] + sum(margins[2:]), columns * factors[0] + sum(margins[:2])
    if height < taps[0] or width < taps[-1]:
        raise ValueError(f"f: {taps[0]} x {taps[-1]} taps are larger than the padded image, {height} x {width}")
    return factors, divisors, margins


def _pair(name: str, value: int | Sequence[int]) -> list[int]:
    pair = [value, value] if isinstance(value, int) else list(value)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"{name}: found {value}, expected one factor of at least 1, or [x, y]")
    return pair


_kept_settings = lru_cache(maxsize=1024)(_settings)


def _margins(padding: int | Sequence[int]) -> list[int]:
    if isinstance(padding, int):
        return [padding] * 4
    if len(padding) == 2:
        return [padding[0], padding[0], padding[1], padding[1]]
    if len(padding) != 4:
        raise ValueError(f"padding: found {padding}, expected one number, [x, y] or [x0, x1, y0, y1]")
    return list(padding)


torch.library.define(
    "latentprint::upfirdn2d",
    "(Tensor x, Tensor f, int[] up, int[] down, int[] padding, bool flip_filter, float gain) -> Tensor",
)
torch.library.impl("latentprint::upfirdn2d", "default")(upfirdn2d_reference)


def _on_cpu(x, f, up, down, padding, flip_filter, gain):
    kernel = upfirdn2d_reference if reference_forced() else upfirdn2d_cpu
    return kernel(x, f, up, down, padding, flip_filter, gain)


torch.library.impl("latentprint::upfirdn2d", "cpu")(_on_cpu)


@torch.library.impl("latentprint::upfirdn2d", "cuda")
def _(x, f, up, down, padding, flip_filter, gain):
    if not cuda_kernels_run():
        return upfirdn2d_reference(x, f, up, down, padding, flip_filter, gain)
    taps = correlation_taps(f, flip_filter)
    separable = taps.ndim == 1
    scaled = (taps, taps * gain) if separable else taps * gain
    return launch.upfirdn2d(x, scaled, tuple(up), tuple(down), tuple(padding))


@torch.library.register_fake("latentprint::upfirdn2d")
def _(x, f, up, down, padding, flip_filter, gain):
    rows = output_size(x.shape[2], up[1], down[1], padding[2:], f.shape[0])
    columns = output_size(x.shape[3], up[0], down[0], padding[:2], f.shape[-1])
    return x.new_empty(*x.shape[:2], rows, columns).contiguous(memory_format=layout(x))


def _setup_context(ctx, inputs, output):
    x, f, ctx.up, ctx.down, padding, ctx.flip_filter, ctx.gain = inputs
    ctx.save_for_backward(f)
    ky, kx = f.shape[0], f.shape[-1]
    x0, y0 = kx - 1 - padding[0], ky - 1 - padding[2]
    # the gradient has the size of x: up * in = down * out + margins - taps + 1
    x1 = x.shape[3] * ctx.up[0] - output.shape[3] * ctx.down[0] - x0 + kx - 1
    y1 = x.shape[2] * ctx.up[1] - output.shape[2] * ctx.down[1] - y0 + ky - 1
    ctx.padding = [x0, x1, y0, y1]


def _backward(ctx, grad):
    (f,) = ctx.saved_tensors
    flipped = not ctx.flip_filter
    gradient = torch.ops.latentprint.upfirdn2d(grad, f, ctx.down, ctx.up, ctx.padding, flipped, ctx.gain)
    return gradient, None, None, None, None, None, None


torch.library.register_autograd("latentprint::upfirdn2d", _backward, setup_context=_setup_context)


class _OnCpu(torch.autograd.Function):
    """The operator past PyTorch's dispatcher, which takes longer than a small image."""

    @staticmethod
    def forward(ctx, x, f, up, down, padding, flip_filter, gain):
        y = _on_cpu(x, f, up, down, padding, flip_filter, gain)
        _setup_context(ctx, (x, f, up, down, padding, flip_filter, gain), y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (f,) = ctx.saved_tensors
        adjoint = _OnCpu.apply if torch.is_grad_enabled() else _on_cpu
        gradient = adjoint(grad, f, ctx.down, ctx.up, ctx.padding, not ctx.flip_filter, ctx.gain)
        return gradient, None, None, None, None, None, None
