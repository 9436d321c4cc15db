"""What upfirdn2d does along one axis, and the phases into which its outputs fall."""

from dataclasses import dataclass
from math import ceil, gcd


@dataclass(frozen=True)
class Axis:
    """What happens along one axis: sizes in pixels, factors, and the margins before and after."""

    size: int
    out: int
    up: int
    down: int
    before: int
    after: int


@dataclass(frozen=True)
class Phase:
    """Outputs phase, phase + P, ...: `count` correlations, `stride` inputs apart, with taps tap, tap + up, ...

    They reach from `before` pixels before the input to `after` pixels behind it (negative: not to its border).
    """

    phase: int
    tap: int
    count: int
    stride: int
    before: int
    after: int


def phases(axis: Axis, taps: int) -> list[Phase]:
    """The phases of an axis for a filter of so many taps."""
    common = gcd(axis.up, axis.down)
    period, stride = axis.up // common, axis.down // common
    phases = []
    for phase in range(period):
        tap = (axis.before - phase * axis.down) % axis.up
        offset = (phase * axis.down + tap - axis.before) // axis.up
        count = max(ceil((axis.out - phase) / period), 0)
        length = len(range(tap, taps, axis.up))
        end = (count - 1) * stride + offset + length  # one after the last input that is looked at
        phases.append(Phase(phase, tap, count, stride, -offset, end - axis.size))
    return phases
