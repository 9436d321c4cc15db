"""upfirdn2d of features on the CPU: channels side by side, four taps along each axis, compiled at first use.

What the networks do between any two resolutions: filter, filter and keep every other pixel, or double. LANES channels
go along a row together, and the sums over the last columns are kept from pixel to pixel, in registers where the
processor has enough: what lies between the two axes is stored nowhere. cpu_resampling.py does everything else: other
filters and factors, planes, and channels that are no multiple of LANES.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit

from cuda_ops.cpu_numbers import NUMBERS, hold, pointer, shift, take
from cuda_ops.cpu_parameters import parameters
from cuda_ops.cpu_threads import compiled
from cuda_ops.cpu_vectors import (
    add_product,
    complete,
    load_vector,
    prefetch,
    product,
    store_vector,
    stream_vector,
    vector,
    vector_like,
)

LANES = 16  # in float32 one vector of AVX-512, several of less

JIT: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
INLINE = {"forceinline": True, **JIT}


class Own(NamedTuple):
    """Pointers to a thread's own memory."""

    zeros: Any  # a row outside the image
    spare: Any  # for the second of two rows where there is none
    taps_x: Any
    taps_y: Any


@njit(**INLINE)
def _row(i, image, p, own):
    """Row i of an image, zeros outside it."""
    if 0 <= i < p.height:
        return shift(image, i * p.width * p.unit)
    return own.zeros


@njit(**INLINE)
def _weights(taps, like):
    """The taps, each in every lane."""
    return (
        vector_like(taps[0], like),
        vector_like(taps[1], like),
        vector_like(taps[2], like),
        vector_like(taps[3], like),
    )


@njit(**INLINE)
def _sum(a, b, c, d, w):
    """The sum of four vectors with four weights."""
    return add_product(add_product(add_product(product(a, w[0]), b, w[1]), c, w[2]), d, w[3])


@njit(**INLINE)
def _two_columns(i, lane, p, rows, w, zero):
    """The sums of rows 0 to 3 and of rows 1 to 4 at column i, zero outside the image."""
    if i < 0 or i >= p.width:
        return zero, zero
    at = i * p.unit + lane
    b, c, d = load_vector(rows[1], at, zero), load_vector(rows[2], at, zero), load_vector(rows[3], at, zero)
    return _sum(load_vector(rows[0], at, zero), b, c, d, w), _sum(b, c, d, load_vector(rows[4], at, zero), w)


@njit(**INLINE)
def _column(i, lane, p, rows, w, zero):
    """The sum of four rows at column i, zero outside the image."""
    if i < 0 or i >= p.width:
        return zero
    at = i * p.unit + lane
    a, b = load_vector(rows[0], at, zero), load_vector(rows[1], at, zero)
    return _sum(a, b, load_vector(rows[2], at, zero), load_vector(rows[3], at, zero), w)


@njit(**INLINE)
def _short_column(i, lane, p, rows, w, zero):
    """The sum of two rows at column i, zero outside the image."""
    if i < 0 or i >= p.width:
        return zero
    at = i * p.unit + lane
    return add_product(product(load_vector(rows[0], at, zero), w[0]), load_vector(rows[1], at, zero), w[1])


@njit(**INLINE)
def _put(out, i, numbers, stream):
    """Store LANES numbers, past the cache if `stream`: a large result would drive the image out of it."""
    if stream:
        stream_vector(out, i, numbers)
    else:
        store_vector(out, i, numbers)


@njit(**INLINE)
def _fetch(row, i, lane, p):
    """Have column i of the two rows after this one brought near, for output rows that come soon.

    The processor's own foresight fails, as a row is passed through LANES channels at a time.
    """
    at = (p.width + i) * p.unit + lane
    prefetch(row, at)
    prefetch(row, at + p.width * p.unit)


@njit(**JIT)
def _filter(out, below, lane, p, rows, taps_x, taps_y, stream, zero):
    """Two output rows, a pixel for each of the input's: what they have in common is read once."""
    wx, wy = _weights(taps_x, zero), _weights(taps_y, zero)
    i = -p.before_x
    a, e = _two_columns(i, lane, p, rows, wy, zero)
    b, f = _two_columns(i + 1, lane, p, rows, wy, zero)
    c, g = _two_columns(i + 2, lane, p, rows, wy, zero)
    for o in range(p.out_width):
        d, h = _two_columns(i + o + 3, lane, p, rows, wy, zero)
        _fetch(rows[4], i + o + 3, lane, p)
        _put(out, o * p.unit + lane, _sum(a, b, c, d, wx), stream)
        _put(below, o * p.unit + lane, _sum(e, f, g, h, wx), stream)
        a, b, c, e, f, g = b, c, d, f, g, h


@njit(**JIT)
def _halve(out, lane, p, rows, taps_x, taps_y, stream, zero):
    """An output row, a pixel for every other one of the input's."""
    wx, wy = _weights(taps_x, zero), _weights(taps_y, zero)
    i = -p.before_x
    a = _column(i, lane, p, rows, wy, zero)
    b = _column(i + 1, lane, p, rows, wy, zero)
    for o in range(p.out_width):
        c = _column(i + 2 * o + 2, lane, p, rows, wy, zero)
        d = _column(i + 2 * o + 3, lane, p, rows, wy, zero)
        _fetch(rows[3], i + 2 * o + 2, lane, p)
        _fetch(rows[3], i + 2 * o + 3, lane, p)
        _put(out, o * p.unit + lane, _sum(a, b, c, d, wx), stream)
        a, b = c, d


@njit(**JIT)
def _double(out, lane, p, rows, taps_x, taps_y, odd, stream, zero):
    """An output row, two pixels for each of the input's: nothing is computed of the inserted zeros."""
    wx, wy = _weights(taps_x, zero), (vector_like(taps_y[odd], zero), vector_like(taps_y[odd + 2], zero))
    first = -p.before_x >> 1
    a = _short_column(first, lane, p, rows, wy, zero)
    b = _short_column(first + 1, lane, p, rows, wy, zero)
    for i in range(first, (p.out_width - p.before_x + 1) >> 1):
        c = _short_column(i + 2, lane, p, rows, wy, zero)
        _fetch(rows[1], i + 2, lane, p)
        o = 2 * i + p.before_x
        if o >= 0:
            _put(out, o * p.unit + lane, add_product(product(a, wx[0]), b, wx[2]), stream)
        if o + 1 < p.out_width:
            _put(out, (o + 1) * p.unit + lane, add_product(product(b, wx[1]), c, wx[3]), stream)
        a, b = b, c


@njit(**JIT)
def _output(o, image, out, below, p, own, stream, zero):
    """Output row o, LANES channels at a time; `_filter` makes row o + 1 with it, at `below`."""
    place = o * p.down_y - p.before_y
    odd = place & (p.up_y - 1)
    i = (place + odd) >> (p.up_y - 1)
    a, b, c = _row(i, image, p, own), _row(i + 1, image, p, own), _row(i + 2, image, p, own)
    d, e = _row(i + 3, image, p, own), _row(i + 4, image, p, own)
    for lane in range(0, p.unit, LANES):
        if p.up_y == 2:
            _double(out, lane, p, (a, b), own.taps_x, own.taps_y, odd, stream, zero)
        elif p.down_y == 2:
            _halve(out, lane, p, (a, b, c, d), own.taps_x, own.taps_y, stream, zero)
        else:
            _filter(out, below, lane, p, (a, b, c, d, e), own.taps_x, own.taps_y, stream, zero)


@njit(**JIT)
def _resample(p, counter, source, result, own, zero):
    """Take pieces of `rows` output rows until there are none."""
    pieces = (p.out_height + p.rows - 1) // p.rows
    size, together = p.out_width * p.unit, 2 if p.up_y == p.down_y else 1
    while True:
        piece = take(counter)
        n, first = piece // pieces, piece % pieces * p.rows
        if n >= p.images:
            return
        image = shift(source, n * p.height * p.width * p.unit)
        last = min(first + p.rows, p.out_height) - 1
        for o in range(first, last + 1, together):
            out = shift(result, (n * p.out_height + o) * size)
            alone = o == last
            stream = p.stream > 0 and not (alone and together == 2)
            _output(o, image, out, own.spare if alone else shift(out, size), p, own, stream, zero)


@njit(**JIT)
def _run(address, element, dtype):
    q = pointer(address, np.int64)
    p = parameters(q)
    zeros = np.zeros(p.width * p.unit, dtype)
    spare = np.empty(p.out_width * p.unit, dtype)
    taps = np.empty(8, dtype)
    for k in range(4):
        taps[k], taps[k + 4] = pointer(p.taps_x, np.float64)[k], pointer(p.taps_y, np.float64)[k]
    taps_x = pointer(taps.ctypes.data, dtype)
    own = Own(
        *(pointer(zeros.ctypes.data, element), pointer(spare.ctypes.data, element)),
        *(taps_x, shift(taps_x, 4)),
    )
    _resample(p, q, pointer(p.x, element), pointer(p.y, element), own, vector(dtype(0), LANES))
    complete()
    hold(zeros)
    hold(spare)
    hold(taps)


def fits(taps: tuple[int, int], up: tuple[int, int], down: tuple[int, int], unit: int) -> bool:
    """Whether these kernels do it. taps: along y and x, of a separable filter; unit: channels side by side."""
    filtered, halved, doubled = ((1, 1), (1, 1)), ((1, 1), (2, 2)), ((2, 2), (1, 1))
    return unit % LANES == 0 and taps == (4, 4) and (up, down) in {filtered, halved, doubled}


@cache
def features_kernel(dtype: torch.dtype) -> Any:
    """The kernel for one of NUMBERS; compiled once, and kept on the disk."""
    element, working = NUMBERS[dtype]

    def resample(address):
        _run(address, element, working)

    return compiled(resample)
