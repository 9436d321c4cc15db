"""How the report says things: verdict words and marks, numbers with two significant digits, CSS strings."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class VerdictWord:
    """word: what the reader sees; key: names the mark and the style of the verdict; meaning: one line of the legend."""

    word: str
    key: str
    meaning: str


VERDICTS = {
    "SUPPORTS": VerdictWord("Supports", "supports", "one candidate is supported"),
    "SUPPORTS_GROUP": VerdictWord("Supports a group", "group", "supported, but not one candidate alone"),
    "UNRESOLVED": VerdictWord("Unresolved", "unresolved", "closer than real images come, yet fits no candidate"),
    "NOT_SUPPORTED": VerdictWord("Not supported", "not-supported", "no examined candidate is supported"),
    "INCONCLUSIVE": VerdictWord("Inconclusive", "inconclusive", "the findings do not decide"),
    "OUT_OF_SCOPE": VerdictWord("Out of scope", "out-of-scope", "could not be examined"),
}

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 2) -> str:
    """Two significant digits for a reader: 0.011, 2.1, 140, 1,200, 1.2 × 10⁻⁵; an en dash for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    sign, value = ("−" if value < 0 else ""), abs(value)
    leading, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    power = int(exponent)
    if power < -4 or power > 5:
        mantissa = leading.rstrip("0").rstrip(".") if "." in leading else leading
        return f"{sign}{'' if mantissa == '1' else f'{mantissa} × '}10{str(power).translate(_SUPERSCRIPT)}"
    rounded = round(value, digits - 1 - power)
    return f"{sign}{rounded:,.{max(digits - 1 - power, 0)}f}"


def percent(share: float) -> str:
    """A share in per cent, at most two significant digits: 5 %, 0.1 %, 99 %."""
    return f"{float(f'{100 * share:.2g}'):g} %"


def plain(value: object) -> str:
    """A recorded value as written: a float with six digits, anything else as it is."""
    return f"{value:.6g}".replace("-", "−") if isinstance(value, float) else str(value)


def ordinal(rank: int) -> str:
    """largest, 2nd largest, 3rd largest, 11th largest."""
    if rank == 1:
        return "largest"
    ending = "th" if rank // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending} largest"


def score(value: float | None) -> str:
    """A score T, two decimals: its zero is nothing special, so that digits count from the point. En dash for None."""
    return "–" if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def interval(bounds: Sequence[float | None] | None) -> str:
    """[lo, hi] as the reader sees it; an en dash for None."""
    return "–" if bounds is None else f"[{number(bounds[0])}, {number(bounds[1])}]"


def join(names: Sequence[str], last: str = "and") -> str:
    """a; a and b; a, b and c."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def short(name: str, most: int) -> str:
    """The name, its middle left out where it is longer than `most` characters."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - most // 2 - 1) :]}"


def printable(text: str) -> str:
    """Text from outside without what could break a line, hide, or turn the direction of what follows: U+FFFD there.

    So are combining marks on one letter beyond the fourth, which would cover the lines above and below.
    """
    if text.isascii() and text.isprintable():
        return text
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, invisible and bidi marks, lone surrogates, separators
    marks, written = 0, []
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks <= 5:  # the fifth stands for the rest
            written.append("\ufffd" if category in hidden or marks == 5 else character)
    return "".join(written)


def css_string(text: str) -> str:
    """A quoted CSS string that can't end early, neither its quotes nor its style element."""
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):x} " for c in text) + '"'
