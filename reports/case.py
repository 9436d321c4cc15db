"""The case directory's report: report.json, report.html and manifest.json, written and read."""

import dataclasses
import json
import math
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from attribution.case_directory import evidence_paths
from attribution.report import REPORT_SCHEMA, Report
from generator.files import file_sha256, write_atomically
from reports.html import render_html
from reports.pdf import PDF, remove_old_pdf
from reports.pictures import Pictures, case_file

MANIFEST_SCHEMA = "latentprint.manifest/1"


def write_report(report: Report, case: Path) -> str:
    """Write report.json, report.html and manifest.json into the case directory; return the manifest's SHA-256.

    A file is rewritten only where its bytes change; a changed manifest also removes manifest.sig, which signed the old
    one. The files that the report names must be in the directory already; what else is there is no part of the case
    and not in the manifest. Raises ValueError for NaN, infinity, text that is not Unicode or a value of another type
    in the report, for a file that is missing or outside the directory, and for a picture that is not a PNG.
    """
    case = Path(case)
    data = _canonical(dataclasses.asdict(report), "report.json")
    pictures = Pictures.of(report, case)
    html = render_html(_read(data, case / "report.json"), case, data, pictures)  # as read back: a re-rendering is equal
    remove_old_pdf(case, data)
    evidence = _evidence_files(report, case)
    for name, content in pictures.beside.items():
        (case / name).parent.mkdir(exist_ok=True)
        _write_if_changed(case / name, content)
        evidence[name] = case / name
    _write_if_changed(case / "report.json", data)
    _write_if_changed(case / "report.html", html)
    if _write_if_changed(case / "manifest.json", _manifest(case, evidence)):
        (case / "manifest.sig").unlink(missing_ok=True)
    return file_sha256(case / "manifest.json")


def read_report(case: Path) -> Report:
    """The report of a case directory. Raises ValueError, naming file and field, for anything but its exact schema."""
    path = Path(case) / "report.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected the report.json of a case directory")
    return _read(path.read_bytes(), path)


def _read(data: bytes, path: Path) -> Report:
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: found broken JSON ({error}), expected {REPORT_SCHEMA}") from error
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != REPORT_SCHEMA:
        raise ValueError(f"{path}: field schema: found {schema!r}, expected {REPORT_SCHEMA!r}")
    return _build(Report, value, f"{path}: field ")


def _canonical(value: Any, name: str) -> bytes:
    """Canonical JSON: UTF-8, sorted keys, two spaces, a newline at the end, no NaN."""
    try:
        return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError as error:
        found = error.object[max(error.start - 20, 0) : error.end]
        raise ValueError(f"{name}: found text that is not Unicode ({found!r}), expected Unicode only") from error
    except ValueError as error:
        raise ValueError(f"{name}: found a number that is not finite ({error}), expected none") from error


def _write_if_changed(path: Path, data: bytes) -> bool:
    if path.is_file() and path.read_bytes() == data:
        return False
    write_atomically(path, data)
    return True


def _evidence_files(report: Report, case: Path) -> dict[str, Path]:
    """The files behind the report by name: those that it names, the controls', and the calibration's copy."""
    named = {image.thumbnail for image in report.images if image.thumbnail}
    for row in (row for image in report.images for row in image.candidates):
        named |= {row.projection, row.target, row.resynthesis, row.difference}
    found = {PDF, "calibration.json"} if report.calibration else {PDF}
    for control in report.run.controls or []:
        for c in report.candidates:
            found |= set(evidence_paths(control.pixels_sha256, c.name, c.resolution).values())
    present = {name for name in found if (case / name).is_file()}
    return {name: case_file(case, name) for name in named | present}


def _manifest(case: Path, evidence: dict[str, Path]) -> bytes:
    """The SHA-256 of the report's files and of those behind it."""
    files = {name: case / name for name in ("report.json", "report.html")} | evidence
    hashes = {name: file_sha256(path) for name, path in sorted(files.items())}
    return _canonical({"schema": MANIFEST_SCHEMA, "files": hashes}, "manifest.json")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"the constant {name}")


def _build(kind: Any, value: Any, where: str) -> Any:
    """The value as the annotated type `kind` (a dataclass, list, dict, union or plain type); strict, by field."""
    if kind is Any:
        return value
    if get_origin(kind) in (Union, types.UnionType):
        inner = [k for k in get_args(kind) if k is not type(None)]
        return None if value is None else _build(inner[0], value, where)
    if dataclasses.is_dataclass(kind):
        return _build_record(kind, value, where)
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is float and type(value) is int:
        value = float(value)
    if type(value) is not origin or (origin is float and not math.isfinite(value)):
        raise ValueError(f"{where}: found {_short(value)}, expected {origin.__name__}")
    if origin is list:
        return [_build(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict:
        return {k: _build(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    return value


def _build_record(kind: Any, value: Any, where: str) -> Any:
    prefix = where if where.endswith(" ") else f"{where}."
    if type(value) is not dict:
        raise ValueError(f"{where}: found {_short(value)}, expected an object")
    hints = get_type_hints(kind)
    for name in sorted(hints.keys() - value.keys()):
        raise ValueError(f"{prefix}{name}: is missing, expected {kind.__name__}'s")
    for name in sorted(value.keys() - hints.keys()):
        raise ValueError(f"{prefix}{name}: found an unknown field, expected only {kind.__name__}'s")
    return kind(**{name: _build(hint, value[name], f"{prefix}{name}") for name, hint in hints.items()})


def _short(value: Any) -> str:
    return text if len(text := repr(value)) <= 40 else f"{text[:37]}..."
