"""Winograd's minimal filtering F(2x2, 3x3) on the CPU: four pixels of a 3x3 convolution for 16 products, not 36.

Y = A' ((G w G') * (B' x B)) A, with * the product number by number (Lavin and Gray, Fast Algorithms for Convolutional
Neural Networks, 2016, section 4.1). A tile is 4x4 pixels of x, 2x2 of Y, and overlaps its neighbours by two. The 16
products of all tiles with all filters are 16 matrix products, the library's; the kernels here make tiles of images and
images of tiles, and are additions only. "Tiles" are [16, T, C], T of them in the order of their pixels.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from cuda_ops.cpu_numbers import NUMBERS, pointer, shift, take
from cuda_ops.cpu_threads import compiled, run
from cuda_ops.cpu_vectors import add_product, load_vector, product, store_vector, vector, vector_like

LANES = 16  # channels that go together
TOGETHER = 512  # tiles that are worked on at a time: few enough for a cache, enough for a matrix product
WINDOWS, GRADIENTS, RESULTS = range(3)  # what a kernel makes

JIT: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
INLINE = {"forceinline": True, **JIT}


@njit(**INLINE)
def _sum(a, b):
    return add_product(a, b, vector_like(np.float32(1), a))


@njit(**INLINE)
def _difference(a, b):
    return add_product(a, b, vector_like(np.float32(-1), a))


@njit(**INLINE)
def _window(a, b, c, d):
    """B' of four numbers."""
    return _difference(a, c), _sum(b, c), _difference(c, b), _difference(b, d)


@njit(**INLINE)
def _spread(a, b):
    """A of two numbers."""
    return a, _sum(a, b), _difference(a, b), product(b, vector_like(np.float32(-1), b))


@njit(**INLINE)
def _joined(a, b, c, d):
    """A' of four numbers."""
    return _sum(_sum(a, b), c), _difference(_difference(b, c), d)


@njit(**INLINE)
def _put(tiles, at, plane, row):
    """A row of four numbers of a tile."""
    store_vector(tiles, at, row[0])
    store_vector(tiles, at + plane, row[1])
    store_vector(tiles, at + 2 * plane, row[2])
    store_vector(tiles, at + 3 * plane, row[3])


@njit(**INLINE)
def _get(tiles, at, plane, zero):
    """A' of a row of four numbers of a tile."""
    a, b = load_vector(tiles, at, zero), load_vector(tiles, at + plane, zero)
    return _joined(a, b, load_vector(tiles, at + 2 * plane, zero), load_vector(tiles, at + 3 * plane, zero))


@njit(**INLINE)
def _column(image, i, j, lane, height, width, unit, zero):
    """B' of rows i to i + 3 of column j, zeros outside the image."""
    if j < 0 or j >= width:
        return zero, zero, zero, zero
    row = width * unit
    at = i * row + j * unit + lane
    a = load_vector(image, at, zero) if i >= 0 else zero
    d = load_vector(image, at + 3 * row, zero) if i + 3 < height else zero
    return _window(a, load_vector(image, at + row, zero), load_vector(image, at + 2 * row, zero), d)


@njit(**JIT)
def _windows(image, tiles, first, i, height, width, unit, plane, zero):
    """B' x B of the tiles whose results are rows i and i + 1: neighbours have two columns in common."""
    for lane in range(0, unit, LANES):
        a = _column(image, i - 1, -1, lane, height, width, unit, zero)
        b = _column(image, i - 1, 0, lane, height, width, unit, zero)
        for j in range(0, width, 2):
            c = _column(image, i - 1, j + 1, lane, height, width, unit, zero)
            d = _column(image, i - 1, j + 2, lane, height, width, unit, zero)
            at = (first + j // 2) * unit + lane
            _put(tiles, at, plane, _window(a[0], b[0], c[0], d[0]))
            _put(tiles, at + 4 * plane, plane, _window(a[1], b[1], c[1], d[1]))
            _put(tiles, at + 8 * plane, plane, _window(a[2], b[2], c[2], d[2]))
            _put(tiles, at + 12 * plane, plane, _window(a[3], b[3], c[3], d[3]))
            a, b = c, d


@njit(**JIT)
def _gradients(image, tiles, first, i, height, width, unit, plane, zero):
    """A y A' of the tiles of rows i and i + 1."""
    row = width * unit
    for j in range(0, width, 2):
        for lane in range(0, unit, LANES):
            o = i * row + j * unit + lane
            upper = _spread(load_vector(image, o, zero), load_vector(image, o + unit, zero))
            lower = _spread(load_vector(image, o + row, zero), load_vector(image, o + row + unit, zero))
            a, b = _spread(upper[0], lower[0]), _spread(upper[1], lower[1])
            c, d = _spread(upper[2], lower[2]), _spread(upper[3], lower[3])
            at = (first + j // 2) * unit + lane
            _put(tiles, at, plane, (a[0], b[0], c[0], d[0]))
            _put(tiles, at + 4 * plane, plane, (a[1], b[1], c[1], d[1]))
            _put(tiles, at + 8 * plane, plane, (a[2], b[2], c[2], d[2]))
            _put(tiles, at + 12 * plane, plane, (a[3], b[3], c[3], d[3]))


@njit(**JIT)
def _results(image, tiles, bias, first, i, height, width, unit, plane, zero):
    """Rows i and i + 1 of an image: A' m A of their tiles, and the bias."""
    row = width * unit
    for j in range(0, width, 2):
        for lane in range(0, unit, LANES):
            at = (first + j // 2) * unit + lane
            a, b = _get(tiles, at, plane, zero), _get(tiles, at + 4 * plane, plane, zero)
            c, d = _get(tiles, at + 8 * plane, plane, zero), _get(tiles, at + 12 * plane, plane, zero)
            left, right = _joined(a[0], b[0], c[0], d[0]), _joined(a[1], b[1], c[1], d[1])
            o, shared = i * row + j * unit + lane, load_vector(bias, lane, zero)
            store_vector(image, o, _sum(left[0], shared))
            store_vector(image, o + unit, _sum(right[0], shared))
            store_vector(image, o + row, _sum(left[1], shared))
            store_vector(image, o + row + unit, _sum(right[1], shared))


@njit(**JIT)
def _run(address, element, dtype):
    """Take pairs of rows until there are none."""
    q = pointer(address, np.int64)
    height, width, unit, plane = q[6], q[7], q[8], q[9]
    images, tiles, bias = pointer(q[1], element), pointer(q[2], element), pointer(q[3], element)
    zero = vector(dtype(0), LANES)
    rows = height // 2
    while True:
        piece = take(q)
        if piece >= q[5]:
            return
        n, i, first = (q[4] + piece) // rows, (q[4] + piece) % rows * 2, piece * (width // 2)
        image = shift(images, n * height * width * unit)
        if q[10] == WINDOWS:
            _windows(image, tiles, first, i, height, width, unit, plane, zero)
        elif q[10] == GRADIENTS:
            _gradients(image, tiles, first, i, height, width, unit, plane, zero)
        else:
            _results(image, tiles, bias, first, i, height, width, unit, plane, zero)


@cache
def _kernel(dtype: torch.dtype) -> Any:
    """The kernel for float32 or bfloat16; compiled once, and kept on the disk."""
    element, working = NUMBERS[dtype]

    def transform(address):
        _run(address, element, working)

    return compiled(transform)


def _transform(images: Tensor, tiles: Tensor, rows: range, what: int, bias: Tensor | None = None) -> None:
    """Make tiles [16, T, C] of pairs of rows of images [B, C, H, W], channels_last, or these of the tiles."""
    _, channels, height, width = images.shape
    addresses = (images.data_ptr(), tiles.data_ptr(), 0 if bias is None else bias.data_ptr())
    sizes = (height, width, channels, tiles.stride(0))
    parameters = [0, *addresses, rows.start, len(rows), *sizes, what]
    run(_kernel(images.dtype), np.array(parameters, np.int64), len(rows))


# G of the paper, and for both axes at once: [16, 9]
FILTER = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], dtype=torch.float32)
FILTERS = torch.kron(FILTER, FILTER)


def filter_tiles(weight: Tensor) -> Tensor:
    """G w G' of filters [O, I, 3, 3] -> [16, I, O]."""
    outputs, inputs = weight.shape[:2]
    return (FILTERS.to(weight.dtype) @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(16, inputs, outputs)


def _parts(x: Tensor, tiles: int) -> Iterator[tuple[range, int]]:
    """The pairs of rows of all images that are worked on at a time, and how many tiles they are."""
    pairs = range(len(x) * x.shape[2] // 2)
    each = x.shape[3] // 2
    step = max(tiles // each, 1)
    for first in pairs[::step]:
        rows = pairs[first : first + step]
        yield rows, len(rows) * each


@torch.autocast("cpu", enabled=False)
def convolve(x: Tensor, filters: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [B, I, H, W], channels_last, H and W even; filters as of `filter_tiles`; bias [O] -> [B, O, H, W].

    Outside x are zeros. All of one dtype, float32 or bfloat16; I and O are multiples of LANES.
    """
    inputs, outputs = filters.shape[1:]
    size = (len(x), outputs, *x.shape[2:])
    y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    bias = x.new_zeros(outputs) if bias is None else bias.contiguous()
    for rows, tiles in _parts(x, TOGETHER):
        windows, products = x.new_empty(16, tiles, inputs), x.new_empty(16, tiles, outputs)
        _transform(x, windows, rows, WINDOWS)
        torch.bmm(windows, filters, out=products)
        _transform(y, products, rows, RESULTS, bias)
    return y


@torch.autocast("cpu", enabled=False)
def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of `convolve` for its weights [O, I, 3, 3], in float32. grad: [B, O, H, W], channels_last.

    The adjoint of Y = A' (U * V) A: dU = V * (A dY A'), summed over tiles, and dw = G' dU G.
    """
    inputs, outputs = x.shape[1], grad.shape[1]
    sums = x.new_zeros(16, inputs, outputs, dtype=torch.float32)
    for rows, tiles in _parts(x, 4 * TOGETHER):  # long sums, for each part's are added in memory
        windows, gradients = x.new_empty(16, tiles, inputs), x.new_empty(16, tiles, outputs)
        _transform(x, windows, rows, WINDOWS)
        _transform(grad, gradients, rows, GRADIENTS)
        sums += torch.bmm(windows.transpose(1, 2), gradients)
    return (FILTERS.T @ sums.view(16, -1)).view(3, 3, inputs, outputs).permute(3, 2, 0, 1)
