"""What upfirdn2d's CPU kernels are told, as int64 one after another. After a change see cpu_numbers.py."""

from typing import NamedTuple

from numba import njit


class Parameters(NamedTuple):
    """Sizes in pixels, but where something else is said."""

    taken: int  # pieces of work so far
    x: int  # addresses
    y: int
    taps_x: int  # of float64: kx, or ky times kx of a filter that isn't separable
    taps_y: int
    separable: int
    images: int
    unit: int
    rows: int  # of the result in a piece of work
    phases: int  # of the outputs in a row,
    stride: int  # inputs apart
    width: int
    out_width: int
    up_x: int
    down_x: int
    before_x: int
    kx: int
    height: int
    out_height: int
    up_y: int
    down_y: int
    before_y: int
    ky: int
    stream: (
        int  # whether cpu_features.py's kernels store the result past the cache; it begins at a multiple of 64 bytes
    )


@njit(nogil=True, forceinline=True)
def parameters(q):
    """Those at a pointer."""
    return Parameters(
        *(q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7], q[8], q[9], q[10], q[11]),
        *(q[12], q[13], q[14], q[15], q[16], q[17], q[18], q[19], q[20], q[21], q[22], q[23]),
    )
