"""Which piece of the output a block of the tiled upfirdn2d kernel makes; see kernels/upfirdn2d.cu for the account."""

from dataclasses import dataclass
from functools import cache

SHARED_BYTES = 44 * 1024  # of the 48 KB that every architecture gives without asking
MAX_FACTOR = 4
MAX_TAPS = 16  # per axis of a separable filter, in all of a 2-D one: they are held in registers

# (channels, height, width), the largest first; the first one that fits into shared memory is taken
Sizes = tuple[tuple[int, int, int], ...]
WIDE: Sizes = ((1, 32, 64), (1, 32, 32), (1, 16, 32), (1, 16, 16), (1, 8, 16), (1, 8, 8))
SMALL: Sizes = ((16, 8, 8), (8, 8, 8), (4, 8, 8), (1, 8, 8))  # feature maps of at most 8 x 8
CHANNELS: Sizes = ((32, 16, 16), (32, 8, 8), (32, 4, 8), (32, 4, 4), (16, 4, 4), (8, 4, 4))


@dataclass(frozen=True)
class Tile:
    """A piece of c channels, h rows and w columns."""

    c: int
    h: int
    w: int

    def count(self, size: tuple[int, int, int], shift: tuple[int, int]) -> int:
        """Tiles of an output of size (c, h, w) whose first tile starts `shift` rows and columns before it."""
        c, h, w = size
        return -(-c // self.c) * -(-(h + shift[0]) // self.h) * -(-(w + shift[1]) // self.w)

    def shared_bytes(self, up: tuple[int, int], down: tuple[int, int], taps: tuple[int, int], itemsize: int) -> int:
        """Shared memory for the piece of the input and for the rows between the two passes of a separable filter."""
        in_w = ((self.w - 1) * down[0] + taps[0] - 1) // up[0] + 1
        in_h = ((self.h - 1) * down[1] + taps[1] - 1) // up[1] + 1
        return self.c * in_h * (in_w + self.w) * itemsize


@cache
def choose_tile(
    up: tuple[int, int],
    down: tuple[int, int],
    taps: tuple[int, int],
    separable: bool,
    channels_last: bool,
    size: tuple[int, int, int],
    itemsize: int,
) -> Tile | None:
    """The tile for factors and taps (x, y) and an output of size (c, h, w), or None: the general kernel's case.

    Tiles want up or down equal to 1 on each axis, both at most 4, up no 3, and no more taps than registers hold.
    """
    if not {*up} <= {1, 2, 4} or max(down) > MAX_FACTOR or any(u > 1 and d > 1 for u, d in zip(up, down, strict=True)):
        return None
    if (max(taps) if separable else taps[0] * taps[1]) > MAX_TAPS:
        return None
    channels, height, width = size
    if channels_last and channels > 4:
        tiles: Sizes = CHANNELS if max(height, width) > 8 else CHANNELS[1:]
    elif channels_last:  # colours: neighbouring pixels are as good as neighbouring channels
        tiles = tuple((channels, h, w) for _, h, w in WIDE[1:])
    elif max(height, width) <= 8:
        tiles = SMALL
    else:
        tiles = WIDE if width > 32 else WIDE[1:] if width > 16 else WIDE[3:]
    fits = (Tile(*t) for t in tiles)
    return next((t for t in fits if t.shared_bytes(up, down, taps, itemsize) <= SHARED_BYTES), None)
