"""The JSON Schema of latentprint.report/1, and what a report says against it: the boundary where it is validated."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

SCHEMA_FILE = Path(__file__).parent / "schema" / "report.schema.json"
_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}


@cache
def report_validator() -> Validator:
    """The validator of the shipped schema."""
    kind = extend(Draft202012Validator, {"items": _items})
    return kind(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def _items(validator: Any, items: Any, values: Any, schema: Any) -> Iterator[ValidationError]:
    """As jsonschema's own rule, but quick for lists of numbers: a report of 1,000 images has a million."""
    if not _plainly_numbers(items, values):
        yield from Draft202012Validator.VALIDATORS["items"](validator, items, values, schema)


def _plainly_numbers(items: Any, values: Any) -> bool:
    """Whether a list holds numbers, or lists of them, as the schema of its items asks: False where that takes more."""
    if not isinstance(values, list):
        return False
    if items == {"type": "number"}:
        return all(type(value) in (int, float) for value in values)
    if items.keys() == {"type", "items", "minItems", "maxItems"}:
        low, high, inner = items["minItems"], items["maxItems"], items["items"]
        return all(type(v) is list and low <= len(v) <= high and _plainly_numbers(inner, v) for v in values)
    return False


def require_schema(value: Any, where: str) -> None:
    """Raise ValueError for the first value that the schema doesn't allow: one sentence that names the field."""
    for error in report_validator().iter_errors(value):
        raise ValueError(f"{where}: field {_sentence(error)}")


def field_name(path: Sequence[str | int]) -> str:
    """["images", 0, "path"] -> "images[0].path"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or "(all)"


def _sentence(error: ValidationError) -> str:
    path: list[str | int] = list(error.absolute_path)
    rule: Any = error.validator_value
    instance: Any = error.instance
    schema: Any = error.schema
    if error.validator == "required":
        name = next(name for name in rule if name not in instance)
        return f"{field_name([*path, name])}: is missing"
    if error.validator == "additionalProperties":
        name = next(name for name in instance if name not in schema.get("properties", {}))
        return f"{field_name([*path, name])}: found an unknown field, expected those of the schema only"
    expected = {
        "type": lambda: " or ".join(_KINDS.get(kind, kind) for kind in ([rule] if isinstance(rule, str) else rule)),
        "enum": lambda: f"one of {', '.join(map(str, rule))}",
        "const": lambda: repr(rule),
        "pattern": lambda: f"text of the form {rule}",
        "minimum": lambda: f"at least {rule}",
        "maximum": lambda: f"at most {rule}",
        "minItems": lambda: f"at least {rule} entries",
        "maxItems": lambda: f"at most {rule} entries",
    }[str(error.validator)]()
    return f"{field_name(path)}: found {_short(instance)}, expected {expected}"


def _short(value: Any) -> str:
    return text if len(text := repr(value)) <= 40 else f"{text[:37]}..."
