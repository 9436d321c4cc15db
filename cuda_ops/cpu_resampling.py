"""upfirdn2d on the CPU, compiled at first use: row by row, so that what lies between the two axes stays in the cache.

An output row is a sum of a few input rows, which then is filtered along itself. The image is read and the result
written once; nothing is computed of inserted zeros or of what decimation drops. A pixel of a row is of `unit` numbers:
the channels of a channels_last tensor, else 1. Along a row the outputs fall into phases of equal taps.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit

from cuda_ops.cpu_numbers import NUMBERS, hold, load, pointer, shift, store, take
from cuda_ops.cpu_parameters import parameters
from cuda_ops.cpu_threads import compiled


class Axis(NamedTuple):
    """What happens along one axis; before: zeros (negative: pixels to leave out) before the image."""

    size: int
    out: int
    up: int
    down: int
    before: int
    taps: int


class Own(NamedTuple):
    """Pointers to a thread's own memory. A phase adds up counts[r] inputs at `offsets`, with `weights`."""

    row: Any  # of the image, padded
    dealt: Any  # the same, pixels in turns: as many rows as the stride
    parts: Any  # results by phase
    total: Any  # two rows for a filter that isn't separable
    filtered: Any
    counts: Any
    offsets: Any
    weights: Any
    row_offsets: Any  # the same for the sum of rows
    row_weights: Any


JIT: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
INLINE = {"forceinline": True, **JIT}  # where a call takes as long as a short row


@njit(**JIT)
def _weigh(out, x, offsets, weights, count, n):
    """out[j] = the sum of weights[k] * x[offsets[k] + j] over k < count, at most 4; j < n."""
    if count == 0:
        for j in range(n):
            store(out, j, weights[0] * 0)
        return
    w, a = weights[0], shift(x, offsets[0])
    if count == 1:
        for j in range(n):
            store(out, j, w * load(a, j))
        return
    v, b = weights[1], shift(x, offsets[1])
    if count == 2:
        for j in range(n):
            store(out, j, w * load(a, j) + v * load(b, j))
        return
    u, c = weights[2], shift(x, offsets[2])
    if count == 3:
        for j in range(n):
            store(out, j, w * load(a, j) + v * load(b, j) + u * load(c, j))
        return
    t, d = weights[3], shift(x, offsets[3])
    for j in range(n):
        store(out, j, (w * load(a, j) + v * load(b, j)) + (u * load(c, j) + t * load(d, j)))


@njit(**JIT)
def _weigh_many(out, x, offsets, weights, count, n):
    """As `_weigh` for any count; out: in the dtype of the weights."""
    _weigh(out, x, offsets, weights, min(count, 4), n)
    k = 4
    while k + 2 <= count:  # in pairs, and pairs of pairs: every pass reads and writes the sums
        w, a, v, b = weights[k], shift(x, offsets[k]), weights[k + 1], shift(x, offsets[k + 1])
        if k + 4 <= count:
            u, c, t, d = weights[k + 2], shift(x, offsets[k + 2]), weights[k + 3], shift(x, offsets[k + 3])
            for j in range(n):
                out[j] += (w * load(a, j) + v * load(b, j)) + (u * load(c, j) + t * load(d, j))
            k += 4
        else:
            for j in range(n):
                out[j] += w * load(a, j) + v * load(b, j)
            k += 2
    if k < count:
        w, a = weights[k], shift(x, offsets[k])
        for j in range(n):
            out[j] += w * load(a, j)


@njit(**JIT)
def _deal(row, parts, count, length, unit):
    """The pixels of a row to `count` rows of `length` pixels, in turns."""
    if count == 2 and unit == 1:
        odd = shift(parts, length)
        for m in range(length):
            parts[m] = row[2 * m]
            odd[m] = row[2 * m + 1]
        return
    for m in range(length):
        for r in range(count):
            source, target = shift(row, (m * count + r) * unit), shift(parts, (r * length + m) * unit)
            for c in range(unit):
                target[c] = source[c]


@njit(**JIT)
def _collect(parts, row, count, length, pixels, unit):
    """The reverse, into `pixels` pixels of a row of any dtype."""
    if count == 1:
        for j in range(pixels * unit):
            store(row, j, parts[j])
        return
    if count == 2 and unit == 1:
        odd = shift(parts, length)
        for m in range(pixels >> 1):
            store(row, 2 * m, parts[m])
            store(row, 2 * m + 1, odd[m])
        if pixels & 1:
            store(row, pixels - 1, parts[length - 1])
        return
    for m in range(length):
        for r in range(min(count, pixels - m * count)):
            source, target = shift(parts, (r * length + m) * unit), shift(row, (m * count + r) * unit)
            for c in range(unit):
                store(target, c, source[c])


@njit(**INLINE)
def _reached(o, axis):
    """What output o looks at: its first tap, the input that meets it, and how many taps meet an input."""
    place = o * axis.down - axis.before
    tap = (-place) % axis.up
    return tap, (place + tap) // axis.up, max((axis.taps - tap + axis.up - 1) // axis.up, 0)


@njit(**JIT)
def _phases(p, axis, left, pixels, taps, counts, offsets, weights):
    """How many inputs every phase along a row adds up, where they lie in a padded and dealt row, and their weights."""
    for r in range(p.phases):
        tap, i, counts[r] = _reached(r, axis)
        for k in range(counts[r]):
            q, place = i + left + k, r * axis.taps + k
            offsets[place] = (q % p.stride * (pixels // p.stride) + q // p.stride) * p.unit
            weights[place] = taps[tap + k * axis.up]


@njit(**INLINE)
def _sum_rows(o, image, out, axis, size, own, taps):
    """The sum of input rows [size] that output row o wants, into `out`."""
    tap, i, count = _reached(o, axis)
    found = 0
    for k in range(max(-i, 0), min(count, axis.size - i)):
        own.row_offsets[found] = (i + k) * size
        own.row_weights[found] = taps[tap + k * axis.up]
        found += 1
    _weigh_many(out, image, own.row_offsets, own.row_weights, found, size)


@njit(**JIT)
def _filter_row(out, p, axis, pixels, own, weights):
    """Filter the padded row along itself, into a row of any dtype."""
    source = own.row
    if p.stride > 1:
        _deal(own.row, own.dealt, p.stride, pixels // p.stride, p.unit)
        source = own.dealt
    if p.phases == 1 and own.counts[0] <= 4:
        _weigh(out, source, own.offsets, weights, own.counts[0], axis.out * p.unit)
        return
    length = (axis.out + p.phases - 1) // p.phases
    for r in range(p.phases):
        part, offsets, taps = shift(own.parts, r * length * p.unit), shift(own.offsets, r * axis.taps), r * axis.taps
        _weigh_many(part, source, offsets, shift(weights, taps), own.counts[r], length * p.unit)
    _collect(own.parts, out, p.phases, length, axis.out, p.unit)


@njit(**JIT)
def _filter_rows_apart(o, image, inside, out, p, x, y, pixels, own):
    """An output row of a filter that is not separable: every input row is filtered by taps of its own."""
    tap, i, count = _reached(o, y)
    size, out_size = x.size * p.unit, x.out * p.unit
    for j in range(out_size):
        own.total[j] = 0
    for k in range(max(-i, 0), min(count, y.size - i)):
        for j in range(size):
            inside[j] = load(image, (i + k) * size + j)
        _filter_row(own.filtered, p, x, pixels, own, shift(own.weights, (tap + k * y.up) * p.phases * x.taps))
        for j in range(out_size):
            own.total[j] += own.filtered[j]
    for j in range(out_size):
        store(out, j, own.total[j])


@njit(**JIT)
def _resample(p, counter, source, result, pixels, left, own):
    """Take pieces of `rows` output rows until there are none. pixels: of a padded row, `left` of them before it."""
    x = Axis(p.width, p.out_width, p.up_x, p.down_x, p.before_x, p.kx)
    y = Axis(p.height, p.out_height, p.up_y, p.down_y, p.before_y, p.ky)
    taps_x, taps_y = pointer(p.taps_x, np.float64), pointer(p.taps_y, np.float64)
    for i in range(1 if p.separable else y.taps):
        weights = shift(own.weights, i * p.phases * x.taps)
        _phases(p, x, left, pixels, shift(taps_x, i * x.taps), own.counts, own.offsets, weights)
    inside = shift(own.row, left * p.unit)
    size, out_size = x.size * p.unit, x.out * p.unit
    pieces = (y.out + p.rows - 1) // p.rows
    while True:
        piece = take(counter)
        n, first = piece // pieces, piece % pieces * p.rows
        if n >= p.images:
            return
        image = shift(source, n * y.size * size)
        for o in range(first, min(first + p.rows, y.out)):
            out = shift(result, (n * y.out + o) * out_size)
            if p.separable:
                _sum_rows(o, image, inside, y, size, own, taps_y)
                _filter_row(out, p, x, pixels, own, own.weights)
            else:
                _filter_rows_apart(o, image, inside, out, p, x, y, pixels, own)


@njit(**JIT)
def _run(address, element, dtype):
    q = pointer(address, np.int64)
    p = parameters(q)
    length = (p.out_width + p.phases - 1) // p.phases
    left = max(p.before_x // p.up_x, 0)
    # to the last input that a whole number of phases looks at
    last = ((p.phases * length - 1) * p.down_x - p.before_x + p.kx - 1) // p.up_x
    pixels = left + max(p.width, last + 1)
    pixels += -pixels % p.stride
    row, part, filters = pixels * p.unit, p.phases * length * p.unit, 1 if p.separable else p.ky
    taps = p.phases * p.kx
    memory = np.zeros(2 * row + 3 * part + p.phases + (1 + filters) * taps + 2 * p.ky, np.int64)
    at = memory.ctypes.data
    dealt = at + 8 * row
    parts = dealt + 8 * row
    total = parts + 8 * part
    filtered = total + 8 * part
    counts = filtered + 8 * part
    offsets = counts + 8 * p.phases
    weights = offsets + 8 * taps
    row_offsets = weights + 8 * filters * taps
    own = Own(
        *(pointer(at, dtype), pointer(dealt, dtype), pointer(parts, dtype)),
        *(pointer(total, dtype), pointer(filtered, dtype)),
        *(pointer(counts, np.int64), pointer(offsets, np.int64), pointer(weights, dtype)),
        *(pointer(row_offsets, np.int64), pointer(row_offsets + 8 * p.ky, dtype)),
    )
    _resample(p, q, pointer(p.x, element), pointer(p.y, element), pixels, left, own)
    hold(memory)


@cache
def resampling_kernel(dtype: torch.dtype) -> Any:
    """upfirdn2d of one of NUMBERS; compiled once, and kept on the disk."""
    element, working = NUMBERS[dtype]

    def resample(address):
        _run(address, element, working)

    return compiled(resample)
