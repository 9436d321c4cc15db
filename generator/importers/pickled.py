"""What a pickle is read as: plain values, and records of what it names and would have called."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Global:
    """Something that the pickle names, by module and name."""

    module: str
    name: str


@dataclass(eq=False, slots=True)
class Call:
    """A call that was not made. state: what BUILD was given; items, entries: what was added to its result."""

    callee: Any
    args: tuple
    kwargs: dict = field(default_factory=dict)
    state: list = field(default_factory=list)
    items: list = field(default_factory=list)
    entries: list = field(default_factory=list)


@dataclass(eq=False, slots=True)
class PersistentId:
    """A reference to something outside the pickle: in torch files a storage."""

    value: Any


LONGEST_DESCRIPTION = 60
LARGEST_SHOWN = 2**128


def described(value: Any) -> str:
    """A few words for a value from a file, whatever it is, in little time: structures are not walked."""
    if isinstance(value, str | bytes):
        text = ascii(value[:LONGEST_DESCRIPTION])
        return text if len(value) <= LONGEST_DESCRIPTION else f"{text[:LONGEST_DESCRIPTION]}..."
    if isinstance(value, int) and abs(value) > LARGEST_SHOWN:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, int | float):
        return str(value)
    if isinstance(value, Global):
        return described(f"{value.module}.{value.name}")
    return f"a value of type {type(value).__name__}"


@dataclass(frozen=True)
class PickledValue:
    """What one pickle holds, where it ends, and what it names."""

    value: Any
    end: int
    globals: Counter[Global]
    persistent_ids: tuple[PersistentId, ...]
