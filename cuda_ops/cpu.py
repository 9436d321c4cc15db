"""upfirdn2d on the CPU: what its compiled kernel is told, and the call. Measured in tests/benchmarks/operators.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np
import torch
from torch import Tensor

from cuda_ops import cpu_threads
from cuda_ops.cpu_features import features_kernel, fits
from cuda_ops.cpu_parameters import Parameters
from cuda_ops.cpu_resampling import resampling_kernel
from cuda_ops.reference import layout, output_size

PIECE = 1 << 16  # bytes of the result that a thread makes at a time, at least
ROWS = 16  # of the result in a piece, at least: neighbours share input rows, which only one thread should fetch
FEW = 8  # channels side by side that are too few to work on together: planes are quicker, though copied first
LARGE = 1 << 24  # bytes of the result that a cache can't be hoped to keep
ALONE = 1 << 17  # bytes of the result for which no other thread is woken


def upfirdn2d_cpu(
    x: Tensor,
    f: Tensor,
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """As upfirdn2d_reference; float16 is computed in float32."""
    if x.dtype == torch.float16:
        return upfirdn2d_cpu(x.float(), f, up, down, padding, flip_filter, gain).half()
    memory_format = layout(x)
    if memory_format == torch.channels_last and x.shape[1] < FEW:
        y = upfirdn2d_cpu(x.contiguous(), f, up, down, padding, flip_filter, gain)
        return y.contiguous(memory_format=memory_format)
    x = x.contiguous(memory_format=memory_format)
    settings = (tuple(up), tuple(down), tuple(padding), flip_filter, gain)
    numbers = f.tolist()
    taps = tuple(numbers) if f.ndim == 1 else tuple(map(tuple, numbers))
    plan = _plan(tuple(x.shape), memory_format == torch.channels_last, x.element_size(), taps, settings)
    y = torch.empty(plan.shape, dtype=x.dtype, device=x.device, memory_format=memory_format)
    if y.numel():
        parameters = plan.parameters.copy()
        parameters[1], parameters[2] = x.data_ptr(), y.data_ptr()
        if y.data_ptr() % 64:  # PyTorch's own memory never begins so
            parameters[-1] = False
        kernel = features_kernel if plan.features else resampling_kernel
        cpu_threads.run(kernel(x.dtype), parameters, plan.threads)
    return y


@dataclass(frozen=True)
class _Plan:
    """The result's shape, the kernel's parameters but for the addresses of x and y, and how many threads are useful.

    features: whether it is a kernel of cpu_features.py, not of cpu_resampling.py.
    """

    shape: tuple[int, int, int, int]
    parameters: np.ndarray
    threads: int
    features: bool
    taps: tuple[np.ndarray, np.ndarray]  # the parameters hold their addresses


@lru_cache(maxsize=512)
def _plan(shape: tuple, channels_last: bool, bytes_each: int, taps: tuple, settings: tuple) -> _Plan:
    batch, channels, height, width = shape
    up, down, padding, flip_filter, gain = settings
    f = np.array(taps, dtype=np.float64)
    f = f if flip_filter else np.flip(f)
    ky, kx = f.shape[0], f.shape[-1]
    rows = output_size(height, up[1], down[1], padding[2:], ky)
    columns = output_size(width, up[0], down[0], padding[:2], kx)
    unit, images = (channels, batch) if channels_last else (1, batch * channels)
    taps_x = np.ascontiguousarray(f * gain) if f.ndim == 2 else f.copy()
    taps_y = np.ones(ky) if f.ndim == 2 else f * gain
    row_bytes = max(columns * unit * bytes_each, 1)
    piece = max(PIECE // row_bytes, ROWS)
    piece += piece % 2  # rows are made in pairs
    pieces = -(-rows // piece) * images
    common = gcd(up[0], down[0])
    parameters = Parameters(
        *(0, 0, 0, taps_x.ctypes.data, taps_y.ctypes.data, f.ndim == 1),
        *(images, unit, piece, up[0] // common, down[0] // common),
        *(width, columns, up[0], down[0], padding[0], kx),
        *(height, rows, up[1], down[1], padding[2], ky),
        bytes_each >= 4 and row_bytes * rows * images >= LARGE,  # half precision fills half a cache line at a time
    )
    threads = 1 if row_bytes * rows * images < ALONE else pieces
    features = f.ndim == 1 and fits((ky, kx), up, down, unit)
    result = (batch, channels, rows, columns)
    return _Plan(result, np.array(parameters, np.int64), threads, features, (taps_x, taps_y))
