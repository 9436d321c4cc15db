"""Findings: what a check of a case gives, item by item, and how recorded values are compared with those made again."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# What a re-rendering may differ by on another machine; on the same one it is equal to the bit.
DISTANCE_TOLERANCE = 1e-3  # LPIPS, MSE, SSIM
LEVEL_TOLERANCE = 2  # of 255, in every pixel of the pictures
# What is computed from recorded distances takes a few operations in float64.
DERIVED_TOLERANCE = 1e-6  # relative, and 1e-9 near 0
TOLERANCES = (
    f"Tolerances: LPIPS, MSE and SSIM of a re-rendering {DISTANCE_TOLERANCE:g}; its pixels {LEVEL_TOLERANCE} of 255 "
    f"levels; p-values, likelihood ratios, bounds, scores and thresholds {DERIVED_TOLERANCE:g} of themselves; hashes, "
    "names, counts, verdicts and sentences exactly."
)


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. holds: None where it could not be checked; sentence: what was found and expected."""

    item: str
    holds: bool | None
    sentence: str


def differences(found: Any, expected: Any, where: str) -> Iterator[str]:
    """One sentence for each value that differs, named by its place; found, expected: JSON values."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            place = f"{where}.{key}"
            if key not in found:
                yield f"{place}: is missing, expected {shown(expected[key])}"
            elif key not in expected:
                yield f"{place}: found {shown(found[key])}, expected no such field"
            else:
                yield from differences(found[key], expected[key], place)
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(one, other, f"{where}[{i}]")
    elif not _equal(found, expected):
        yield f"{where}: found {shown(found)}, expected {shown(expected)}"


def _equal(found: Any, expected: Any) -> bool:
    numbers = (int, float)
    if type(found) in numbers and type(expected) in numbers:
        return math.isclose(found, expected, rel_tol=DERIVED_TOLERANCE, abs_tol=1e-3 * DERIVED_TOLERANCE)
    return type(found) is type(expected) and found == expected


def shown(value: Any) -> str:
    """A value for a sentence, cut to a line."""
    text = f"{value:.10g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
