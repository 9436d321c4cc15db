"""Checks of what a JSON file from outside holds; every one names the field that is wrong."""

import json
import math
import re
from collections.abc import Collection
from typing import Any

SHA256 = re.compile(r"[0-9a-f]{64}")
DEEPEST = 32  # levels: beyond them Python's own recursion limit comes near
LONGEST_INTEGER = 18  # digits: below 2^63, and a float holds it

_KINDS = {str: "text", int: "a whole number", bool: "true or false", dict: "an object", list: "a list"}


def parse_json(data: bytes) -> Any:
    """UTF-8 JSON, stricter than Python's reader.

    Raises ValueError for broken JSON, a key twice in one object, a number that is not finite or too large, text that is
    not Unicode, and more than DEEPEST levels.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=distinct_keys,
            parse_constant=finite,
            parse_float=finite,
            parse_int=_short_integer,
        )
    except RecursionError as error:
        raise ValueError(f"found broken JSON (nested too deeply), expected at most {DEEPEST} levels") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are such
        raise ValueError(f"found broken JSON ({error})") from error
    _require_unicode(value, "", 0)
    return value


def distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's content, for `json.loads`. Raises ValueError for a key that is there twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)[:40]!r} twice in one object")
    return content


def finite(text: str) -> float:
    """A number's text as a float, for `json.loads`. Raises ValueError for one that is not finite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]}, which is not finite")
    return value


def _short_integer(text: str) -> int:
    if len(text.lstrip("-")) > LONGEST_INTEGER:
        raise ValueError(f"the number {text[:24]}... of {len(text)} digits")
    return int(text)


def _require_unicode(value: Any, where: str, depth: int) -> None:
    """Raise ValueError that names the field whose text has half a surrogate pair, which no file can hold."""
    if depth > DEEPEST:
        raise ValueError(f"{_shown(where)[1:-1]}: found more than {DEEPEST} levels")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{_shown(where)[1:-1]}: found {_shown(value)}, expected Unicode text")
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        _require_unicode(key, f"{where} (a key)", depth)
        _require_unicode(child, f"{where}.{key}".lstrip("."), depth + 1)


def require_keys(value: Any, expected: Collection[str], where: str) -> dict[str, Any]:
    """The value, an object with exactly these keys."""
    found, names = set(typed(value, dict, where)), set(expected)
    for name in sorted(names - found):
        raise ValueError(f"{where}.{name}: is missing")
    for name in sorted(found - names):
        raise ValueError(f"{where}: found an unknown field {name[:40]!r}")
    return value


def typed(value: Any, kind: type, where: str) -> Any:
    """The value, of exactly this type."""
    if type(value) is not kind:
        raise ValueError(f"{where}: found {_shown(value)}, expected {_KINDS[kind]}")
    return value


def matched(value: Any, pattern: re.Pattern[str], where: str) -> str:
    """The value, text of this pattern."""
    if not pattern.fullmatch(typed(value, str, where)):
        raise ValueError(f"{where}: found {_shown(value)}, expected text of the form {pattern.pattern}")
    return value


def one_of(value: Any, known: Collection[Any], where: str) -> Any:
    """The value, equal to one of these and of its type."""
    if not any(type(value) is type(other) and value == other for other in known):
        raise ValueError(f"{where}: found {_shown(value)}, expected one of {', '.join(map(str, known))}")
    return value


def whole(value: Any, where: str, low: int, high: int = 10**LONGEST_INTEGER) -> int:
    """The value, a whole number from low to high."""
    if not low <= typed(value, int, where) <= high:
        raise ValueError(f"{where}: found {value}, expected a whole number from {low} to {high}")
    return value


def number(value: Any, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The value as a float: finite, from low to high."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{where}: found {_shown(value)}, expected a finite number")
    if not low <= value <= high:
        raise ValueError(f"{where}: found {value}, expected a number from {low:g} to {high:g}")
    return float(value)


def numbers(
    value: Any, where: str, length: int | None = None, low: float = -math.inf, high: float = math.inf
) -> tuple[float, ...]:
    """The value, a list of finite numbers from low to high, as floats."""
    found = tuple(number(item, where, low, high) for item in typed(value, list, where))
    if length is not None and len(found) != length:
        raise ValueError(f"{where}: found {len(found)} numbers, expected {length}")
    return found


def _shown(value: Any) -> str:
    return json.dumps(value)[:60]
