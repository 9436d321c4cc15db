"""What follows a convolution, on the CPU in one pass: scale, noise, bias, piecewise linear activation, gain and clamp.

Compiled at first use, for feature maps whose channels lie side by side. The way back is one pass, too: it reads the
gradient, the result (its sign is the activation's side) and, where the scale wants a gradient, x; the sums over an
image are made in blocks of pixels, so that they don't depend on threads or on the batch.
"""

from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from cuda_ops import cpu_threads
from cuda_ops.cpu_numbers import hold, load, pointer, shift, store, take

BLOCK = 1 << 15  # numbers in a piece of work, about
RUN = 1 << 9  # numbers of several pixels that are worked on side by side: 32 channels alone are too short a loop
ALONE = 1 << 15  # numbers for which no other thread is woken
JIT = {"nogil": True, "fastmath": {"contract", "reassoc"}, "error_model": "numpy"}


# places of a kernel's parameters, int64 but for the last three, which are float64. Addresses are 0 where there is
# nothing; _STEP: from image to image, 0 where all share
TAKEN, X, Y, DY, DX, SCALE, NOISE, BIAS, SUM_SCALED, SUM_BIAS, SUM_NOISE = range(11)
IMAGES, PIXELS, CHANNELS, PER_BLOCK, SCALE_STEP, NOISE_STEP, ALPHA, GAIN, CLAMP, COUNT = range(11, 21)


@njit(**JIT)
def _forward(address, element):
    p, numbers = pointer(address, np.int64), pointer(address, np.float64)
    x, y = pointer(p[X], element), pointer(p[Y], element)
    scale, noise, bias = pointer(p[SCALE], np.float32), pointer(p[NOISE], np.float32), pointer(p[BIAS], np.float32)
    alpha, gain, clamp = np.float32(numbers[ALPHA]), np.float32(numbers[GAIN]), np.float32(numbers[CLAMP])
    pixels, channels, block = p[PIXELS], p[CHANNELS], p[PER_BLOCK]
    blocks, images, noisy = (pixels + block - 1) // block, p[IMAGES], p[NOISE] != 0
    scale_step, noise_step = p[SCALE_STEP], p[NOISE_STEP]
    while True:
        piece = take(p)
        n, first = piece // blocks, piece % blocks * block
        if n >= images:
            return
        factors = shift(scale, n * scale_step)
        for i in range(first, min(first + block, pixels)):
            a, b = shift(x, (n * pixels + i) * channels), shift(y, (n * pixels + i) * channels)
            added = noise[n * noise_step + i] if noisy else np.float32(0)
            for c in range(channels):
                u = load(a, c) * factors[c] + (added + bias[c])
                v = (u if u > 0 else alpha * u) * gain
                v = clamp if v > clamp else v
                store(b, c, -clamp if v < -clamp else v)


@njit(**JIT)
def _before(dy, y, alpha, gain, clamp):
    """The gradient to the activation's argument, from that to the result y: its sign tells the side."""
    du = dy * (gain if y > 0 else gain * alpha)
    return du if abs(y) < clamp or clamp == np.inf else np.float32(0)


@njit(**JIT)
def _over_channels(dy, y, channels, alpha, gain, clamp):
    """The sum of `_before` over a pixel."""
    total = np.float32(0)
    for c in range(channels):
        total += _before(load(dy, c), load(y, c), alpha, gain, clamp)
    return total


@njit(**JIT)
def _repeat(out, factors, channels, count):
    """factors [channels], `count` times."""
    for r in range(count):
        for c in range(channels):
            out[r * channels + c] = factors[c]


@njit(**JIT)
def _add_up(out, sums, channels, count):
    """Add sums [count, channels] to out [channels]."""
    for r in range(count):
        for c in range(channels):
            out[c] += sums[r * channels + c]


@njit(**JIT)
def _backward(address, element):
    p, numbers = pointer(address, np.int64), pointer(address, np.float64)
    x, y, dy, dx = pointer(p[X], element), pointer(p[Y], element), pointer(p[DY], element), pointer(p[DX], element)
    scale, sum_noise = pointer(p[SCALE], np.float32), pointer(p[SUM_NOISE], np.float32)
    sum_scaled, sum_bias = pointer(p[SUM_SCALED], np.float32), pointer(p[SUM_BIAS], np.float32)
    alpha, gain, clamp = np.float32(numbers[ALPHA]), np.float32(numbers[GAIN]), np.float32(numbers[CLAMP])
    pixels, channels, block = p[PIXELS], p[CHANNELS], p[PER_BLOCK]
    blocks, images, scale_step = (pixels + block - 1) // block, p[IMAGES], p[SCALE_STEP]
    scaled, noisy = p[SUM_SCALED] != 0, p[SUM_NOISE] != 0
    run = min(max(RUN // channels, 1), pixels)
    size = run * channels
    memory = np.zeros(3 * size, np.float32)
    factors = pointer(memory.ctypes.data, np.float32)
    of_bias, of_scaled = shift(factors, size), shift(factors, 2 * size)
    while True:
        piece = take(p)
        n, first = piece // blocks, piece % blocks * block
        if n >= images:
            break
        last = min(first + block, pixels)
        _repeat(factors, shift(scale, n * scale_step), channels, run)
        for j in range(size):
            of_bias[j] = of_scaled[j] = 0
        for i in range(first, last, run):
            at = (n * pixels + i) * channels
            a, b, d, e = shift(x, at), shift(y, at), shift(dy, at), shift(dx, at)
            count = min(run, last - i) * channels
            for j in range(count):
                du = _before(load(d, j), load(b, j), alpha, gain, clamp)
                of_bias[j] += du
                store(e, j, du * factors[j])
            if scaled:
                for j in range(count):
                    of_scaled[j] += _before(load(d, j), load(b, j), alpha, gain, clamp) * load(a, j)
        if noisy:
            at = n * pixels
            for i in range(at + first, at + last):
                b, d = shift(y, i * channels), shift(dy, i * channels)
                sum_noise[i] = _over_channels(d, b, channels, alpha, gain, clamp)
        _add_up(shift(sum_bias, piece * channels), of_bias, channels, run)
        if scaled:
            _add_up(shift(sum_scaled, piece * channels), of_scaled, channels, run)
    hold(memory)


@cache
def _kernel(backward: bool, dtype: torch.dtype) -> Any:
    element = np.uint16 if dtype == torch.bfloat16 else np.float32

    def forth(address):
        _forward(address, element)

    def back(address):
        _backward(address, element)

    return cpu_threads.compiled(back if backward else forth)


def fits(x: Tensor) -> bool:
    """Whether the kernels take x: [B, C], or [B, C, H, W] with its channels side by side, in float32 or bfloat16."""
    if x.dtype not in (torch.float32, torch.bfloat16) or torch.compiler.is_compiling() or type(x) is not Tensor:
        return False
    return x.is_contiguous() if x.ndim == 2 else x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Bend:
    """clamp(gain * (u if u > 0 else alpha * u)); gain, alpha: more than 0."""

    alpha: float
    gain: float
    clamp: float | None


def epilogue(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor | None, bend: Bend) -> Tensor:
    """bend(x * scale + noise + bias), in x's dtype.

    x: one that `fits`, [B, C, H, W] or [B, C]; scale: [B, C]; noise: [B or 1, 1, H, W]; bias: [C].
    """
    y = torch.empty_like(x)
    limit = inf if bend.clamp is None else bend.clamp
    p = _shape(x, scale, bend, limit)
    factors = _ones(x.shape[1]) if scale is None else scale.detach().float().contiguous()
    added = _zeros(x.shape[1]) if bias is None else bias.detach().float().contiguous()
    maps = None if noise is None else noise.detach().float().contiguous()
    p[[X, Y, SCALE, BIAS]] = [t.data_ptr() for t in (x, y, factors, added)]
    if maps is not None:
        p[NOISE], p[NOISE_STEP] = maps.data_ptr(), p[PIXELS] if len(maps) > 1 else 0
    _run(False, x, p)
    return y


def epilogue_gradients(
    dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, bend: Bend, noisy: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """The gradients to x, scale [B, C] (where x is given), noise [B, 1, H, W] (where noisy) and bias [C], from y's.

    Sums are in float32.
    """
    memory_format = torch.channels_last if y.ndim == 4 else torch.contiguous_format
    dy = dy.to(y.dtype).contiguous(memory_format=memory_format)
    dx = torch.empty_like(y)
    # what the result was limited to is rounded as the result was
    limit = inf if bend.clamp is None else torch.tensor(bend.clamp, dtype=y.dtype).item()
    p = _shape(y, scale, bend, limit)
    factors = _ones(y.shape[1]) if scale is None else scale.detach().float().contiguous()
    blocks = -(-int(p[PIXELS]) // int(p[PER_BLOCK]))
    sums = torch.zeros(1 if x is None else 2, len(y), blocks, y.shape[1], device=y.device)
    over_channels = torch.empty(len(y), 1, *y.shape[2:], device=y.device) if noisy else None
    p[[Y, DY, DX, SCALE, SUM_BIAS]] = [t.data_ptr() for t in (y, dy, dx, factors, sums[0])]
    if x is not None:
        p[X], p[SUM_SCALED] = x.data_ptr(), sums[1].data_ptr()
    if over_channels is not None:
        p[SUM_NOISE] = over_channels.data_ptr()
    _run(True, y, p)
    return dx, None if x is None else sums[1].sum(1), over_channels, sums[0].sum([0, 1])


def _shape(x: Tensor, scale: Tensor | None, bend: Bend, limit: float) -> np.ndarray:
    batch, channels = x.shape[:2]
    p = np.zeros(COUNT, np.int64)
    p[IMAGES:NOISE_STEP] = (
        batch,
        x.shape[2:].numel(),
        channels,
        max(BLOCK // channels, 1),
        channels * (scale is not None),
    )
    p[ALPHA:COUNT].view(np.float64)[:] = bend.alpha, bend.gain, limit
    return p


def _run(backward: bool, x: Tensor, p: np.ndarray) -> None:
    if x.numel():
        pieces = int(p[IMAGES]) * -(-int(p[PIXELS]) // int(p[PER_BLOCK]))
        cpu_threads.run(_kernel(backward, x.dtype), p, 1 if x.numel() < ALONE else pieces)


@cache
def _ones(channels: int) -> Tensor:
    return torch.ones(channels, device="cpu")


@cache
def _zeros(channels: int) -> Tensor:
    return torch.zeros(channels, device="cpu")
