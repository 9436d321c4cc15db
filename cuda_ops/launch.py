"""The CUDA kernels as functions of tensors, on the current stream, without copies of NCHW or channels-last tensors.

Each function puts down in a `Launch` which variant runs on which grid; driver.run runs it. Arithmetic is done in
float32, in float64 for float64. Gradients are the callers' business.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from cuda_ops import driver
from cuda_ops.activations import ACTIVATIONS, PIECEWISE_LINEAR, saves
from cuda_ops.driver import THREADS, Launch, available
from cuda_ops.reference import layout
from cuda_ops.tiles import choose_tile

__all__ = ["available", "bias_act", "bias_act_grad", "bias_act_grad_grad", "synthesis_epilogue", "upfirdn2d"]

DTYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
INDEX_LIMIT = 2**30  # elements; an index plus one step of the whole grid still fits into 31 bits
BLOCKS = 132 * 8 * 4  # of the kernels that stride over their elements: a few waves of the largest GPUs

Pair = tuple[int, int]


def number_dtype(x: Tensor) -> torch.dtype:
    """What the kernels compute in: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _defines(x: Tensor, *others: Tensor | None) -> dict[str, int]:
    tensors = [t for t in (x, *others) if t is not None and t.numel()]
    reach = max((1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True)) for t in tensors), default=0)
    count = max((t.numel() for t in tensors), default=0)
    return {"DTYPE": DTYPES[x.dtype], "INDEX64": int(max(reach, count) > INDEX_LIMIT)}


def _index(defines: dict[str, int], values: Sequence[int]) -> tuple[ctypes._SimpleCData, ...]:
    kind = ctypes.c_longlong if defines["INDEX64"] else ctypes.c_int
    return tuple(kind(v) for v in values)


def _number(x: Tensor, values: Sequence[float]) -> tuple[ctypes._SimpleCData, ...]:
    kind = ctypes.c_double if x.dtype == torch.float64 else ctypes.c_float
    return tuple(kind(v) for v in values)


def _small(x: Tensor, values: Tensor | None) -> Tensor | None:
    """Taps, biases and the like as the kernels for x read them."""
    return None if values is None else values.to(device=x.device, dtype=number_dtype(x)).contiguous()


def upfirdn2d(x: Tensor, taps: Tensor | tuple[Tensor, Tensor], up: Pair, down: Pair, margins: Sequence[int]) -> Tensor:
    """Zero-insert upsample, pad or crop, correlate, and decimate: [B, C, H, W] -> [B, C, H', W'].

    x: any strides; the result is channels last where x is. taps: [ky, kx], or the pair ([ky], [kx]) of a separable
    filter, gain included. up, down: (x, y). margins: (x0, x1, y0, y1) in pixels of the upsampled image, negative
    numbers crop. H' = (H up + y0 + y1 - ky) // down + 1, at least 1.
    """
    batch, channels, in_h, in_w = x.shape
    x0, x1, y0, y1 = margins
    ky, kx = (len(taps[0]), len(taps[1])) if isinstance(taps, tuple) else taps.shape
    out_h, out_w = (in_h * up[1] + y0 + y1 - ky) // down[1] + 1, (in_w * up[0] + x0 + x1 - kx) // down[0] + 1
    channels_last = layout(x) == torch.channels_last
    y = torch.empty((batch, channels, out_h, out_w), dtype=x.dtype, device=x.device, memory_format=layout(x))
    if y.numel() == 0:
        return y
    defines = _defines(x, y) | {"CHANNELS_LAST": int(channels_last)}
    sizes = [ctypes.c_int(n) for n in (channels, in_h, in_w, out_h, out_w, x0, y0)]
    strides = _index(defines, (*x.stride(), *y.stride()))
    separable = isinstance(taps, tuple)
    tile = choose_tile(up, down, (kx, ky), separable, channels_last, (channels, out_h, out_w), number_dtype(x).itemsize)
    if tile is None:  # one thread per output, 2-D taps
        dense = torch.outer(*taps) if isinstance(taps, tuple) else taps
        factors = [ctypes.c_int(n) for n in (*up, *down, kx, ky)]
        scalars = (*sizes, *strides, *_index(defines, [y.numel()]), *factors)
        driver.run(Launch("upfirdn2d", defines, _blocks(y.numel()), (y,), (x, _small(x, dense)), scalars))
        return y
    defines |= {"UP_X": up[0], "UP_Y": up[1], "DOWN_X": down[0], "DOWN_Y": down[1], "TAPS_X": kx, "TAPS_Y": ky}
    defines |= {"SEPARABLE": int(separable), "TILE_C": tile.c, "TILE_H": tile.h, "TILE_W": tile.w}
    taps_x, taps_y = (taps[1], taps[0]) if isinstance(taps, tuple) else (taps, None)
    grid = batch * tile.count((channels, out_h, out_w), (-y0 % up[1], -x0 % up[0]))
    filters = _small(x, taps_x), _small(x, taps_y)
    driver.run(Launch("upfirdn2d", defines, grid, (y,), (x, *filters), (*sizes, *strides)))
    return y


def _blocks(items: int) -> int:
    return min(-(-items // THREADS), BLOCKS)


def bias_act(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    """Return clamp(gain * act(x + b)) in one pass, in the memory order of x.

    x: any shape; copied only if it is not dense in memory (NCHW, channels last and other permutations are dense).
    b: [x.shape[dim]], any floating point dtype. act: a name in ACTIVATIONS. clamp: None means no limit.
    """
    return _bias_act(0, act, (x,), b, dim, alpha, gain, clamp, False)[0]


def bias_act_grad(
    dy: Tensor,
    saved: Tensor,
    b: Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """Return dx for the cotangent dy of bias_act; the gradient to b is its sum over the other dimensions.

    saved: what activations.saves names: the result y (also where it names none) or x, for which alone b is used. dy is
    brought into the memory order of `saved`, a copy only where they differ. Where a result saved as y equals the
    clamp, the clamp is taken to have acted.
    """
    return _bias_act(1, act, (saved, dy), b, dim, alpha, gain, clamp, saves(act, alpha, gain, clamp) == "x")[0]


def bias_act_grad_grad(
    ddx: Tensor,
    dy: Tensor,
    saved: Tensor,
    b: Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of bias_act_grad to dy and to `saved` for the cotangent ddx of dx, in one pass.

    The second is None where act'' is zero (linear, relu, lrelu). Where x is saved, that to b is its sum over the other
    dimensions; where y is, it goes on to x and b through the gradient of bias_act.
    """
    if act in PIECEWISE_LINEAR:
        return bias_act_grad(ddx, saved, b, dim, act, alpha, gain, clamp), None
    grad_dy, grad_saved = _bias_act(
        2, act, (saved, dy, ddx), b, dim, alpha, gain, clamp, saves(act, alpha, gain, clamp) == "x"
    )
    return grad_dy, grad_saved


def _bias_act(
    order: int,
    act: str,
    tensors: tuple[Tensor, ...],
    b: Tensor | None,
    dim: int,
    alpha: float,
    gain: float,
    clamp: float | None,
    saved_x: bool,
) -> list[Tensor]:
    """tensors: the one that decides the memory order first; the kernel takes them the other way round."""
    x = _dense(tensors[0])
    inputs = [x] + [_in_order_of(x, t) for t in tensors[1:]]
    outputs = [torch.empty_like(x) for _ in range(2 if order == 2 else 1)]
    if x.numel() == 0:
        return outputs
    used = b is not None and (order == 0 or saved_x)
    bias = _small(x, b) if used else None
    defines = _defines(x) | {
        "ACT": list(ACTIVATIONS).index(act),
        "ORDER": order,
        "SAVED_X": int(saved_x),
        "PACK": _pack(outputs + inputs),
    }
    size = x.shape[dim] if used else 1
    count = _index(defines, [x.numel(), x.stride(dim) if size > 1 else 1, size])
    numbers = _number(x, [alpha, gain, 1 / gain if gain else 0, -1 if clamp is None else clamp])
    grid = _blocks(-(-x.numel() // defines["PACK"]))
    driver.run(Launch("bias_act", defines, grid, tuple(outputs), (*reversed(inputs), bias), (*count, *numbers)))
    return outputs


def synthesis_epilogue(
    x: Tensor,
    demodulation: Tensor | None,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    bias: Tensor | None,
    gain: float,
    clamp: float | None,
    alpha: float = 0.2,
) -> Tensor:
    """Return clamp(gain * lrelu(x * demodulation + noise * noise_strength + bias)) in one pass.

    x: [B, C, H, W], NCHW or channels last (another order is copied). demodulation: [B, C]; noise: [B or 1, 1, H, W]
    with noise_strength, one number on the device; bias: [C]; each may be None. alpha: the slope of the leaky ReLU.
    With saved = result, bias_act_grad(..., "lrelu", ...) gives the gradient to the argument of the leaky ReLU.
    """
    channels_last = layout(x) == torch.channels_last
    x = x if channels_last else x.contiguous()
    y = torch.empty_like(x)
    if x.numel() == 0:
        return y
    channels, height, width = x.shape[1:]
    small = [_small(x, t) for t in (demodulation, noise, noise_strength, bias)]
    defines = _defines(x) | {
        "CHANNELS_LAST": int(channels_last),
        "PACK": _pack([x, y], *small) if (channels if channels_last else height * width) % 8 == 0 else 1,
    }
    noise_step = 0 if noise is None or len(noise) == 1 else height * width
    sizes = _index(defines, [x.numel(), channels, height * width, noise_step])
    numbers = _number(x, [alpha, gain, -1 if clamp is None else clamp])
    grid = _blocks(-(-x.numel() // defines["PACK"]))
    driver.run(Launch("synthesis_epilogue", defines, grid, (y,), (x, *small), (*sizes, *numbers)))
    return y


def _dense(x: Tensor) -> Tensor:
    """x itself where its elements fill their memory without gaps or overlaps, in whatever order; else a copy."""
    dims = sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n != 1)
    expected = 1
    for stride, size in dims:
        if stride != expected:
            return x.contiguous()
        expected *= size
    return x


def _in_order_of(x: Tensor, other: Tensor) -> Tensor:
    """`other` with the strides of the dense tensor x."""
    strides = [[s for s, n in zip(t.stride(), t.shape, strict=True) if n != 1] for t in (x, other)]
    return other if strides[0] == strides[1] else torch.empty_like(x).copy_(other)


def _pack(tensors: Sequence[Tensor], *others: Tensor | None) -> int:
    """Elements of `tensors` per load: 16 bytes where every tensor starts at a multiple of 16, else one."""
    aligned = all(t is None or t.data_ptr() % 16 == 0 for t in (*tensors, *others))
    return 16 // tensors[0].element_size() if aligned else 1
