"""The case directory's report: report.json, report.html and manifest.json, written and read."""

import dataclasses
import json
import types
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attribution.field_checks import distinct_keys, finite
from attribution.report import REPORT_SCHEMA, Report
from generator.files import file_sha256, write_atomically
from reports.html import render_html
from reports.manifest import MANIFEST, SIGNATURE, manifest_bytes
from reports.pdf import remove_old_pdf
from reports.pictures import Pictures, case_file
from reports.report_schema import require_schema
from reports.signing import key_text, signature_bytes


@dataclass(frozen=True)
class Written:
    """What `write_report` did. signature_removed: manifest.sig had signed a manifest that is no more."""

    manifest_sha256: str
    signature_removed: bool


def write_report(report: Report, case: Path, key: Ed25519PrivateKey | None = None) -> Written:
    """Write report.json, report.html and manifest.json into the case directory, with a key manifest.sig too.

    A file is rewritten only where its bytes change; a changed manifest removes the manifest.sig that signed the old
    one. The files that the report names must be in the directory already. Raises ValueError for NaN, infinity, text
    that is not Unicode or a value that the schema doesn't allow, for a file that is missing or outside the directory,
    and for a picture that is not a PNG.
    """
    case = Path(case)
    if key:
        report = replace(report, run=replace(report.run, signer=key_text(key.public_key())))
    data = report_bytes(report)
    as_read, pictures = parse_report(data, case / "report.json"), Pictures.of(report, case)
    html = render_html(as_read, case, data, pictures)  # a re-rendering is equal
    for name in named_files(report):
        case_file(case, name)
    remove_old_pdf(case, data)
    for name, content in pictures.beside.items():
        (case / name).parent.mkdir(exist_ok=True)
        _write_if_changed(case / name, content)
    _write_if_changed(case / "report.json", data)
    _write_if_changed(case / "report.html", html)
    manifest, signature = manifest_bytes(case), case / SIGNATURE
    signed = signature.is_file()
    if not _holds(case / MANIFEST, manifest):
        signature.unlink(missing_ok=True)  # first: it must never lie beside a manifest that it did not sign
        write_atomically(case / MANIFEST, manifest)
    if key:
        _write_if_changed(signature, signature_bytes(key, manifest))
    return Written(file_sha256(case / MANIFEST), signed and not signature.is_file())


def read_report(case: Path) -> Report:
    """The report of a case directory. Raises ValueError, naming file and field, for anything but its schema."""
    path = Path(case) / "report.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected the report.json of a case directory")
    return parse_report(path.read_bytes(), path)


def parse_report(data: bytes, path: Path) -> Report:
    """The report in these bytes. Raises ValueError that names the file, which is not read, and the field."""
    try:
        value = json.loads(data, parse_constant=finite, parse_float=finite, object_pairs_hook=distinct_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: found broken JSON ({error}), expected {REPORT_SCHEMA}") from error
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != REPORT_SCHEMA:
        raise ValueError(f"{path}: field schema: found {schema!r}, expected {REPORT_SCHEMA!r}")
    require_schema(value, str(path))
    return _build(Report, value, f"{path}: field ")


def report_bytes(report: Report) -> bytes:
    """report.json: UTF-8, sorted keys, two spaces, a newline at the end. Raises ValueError for what JSON lacks.

    Not the canonical form of RFC 8785, which has no whole numbers above 2^53: seeds are larger.
    """
    value = dataclasses.asdict(report)
    try:
        return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError as error:
        found = error.object[max(error.start - 20, 0) : error.end]
        raise ValueError(f"report.json: found text that is not Unicode ({found!r}), expected Unicode only") from error
    except ValueError as error:
        raise ValueError(f"report.json: found a number that is not finite ({error}), expected none") from error


def named_files(report: Report) -> set[str]:
    """The files inside the case directory that the report names."""
    named = {image.thumbnail for image in report.images if image.thumbnail}
    for row in (row for image in report.images for row in image.candidates):
        named |= {row.projection, row.target, row.resynthesis, row.difference}
    return named


def _write_if_changed(path: Path, data: bytes) -> None:
    if not _holds(path, data):
        write_atomically(path, data)


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _build(kind: Any, value: Any, where: str) -> Any:
    """The value, which the schema allows, as the annotated type `kind`; whole numbers become floats where asked for."""
    if get_origin(kind) in (Union, types.UnionType):
        inner = [k for k in get_args(kind) if k is not type(None)]
        return None if value is None else _build(inner[0], value, where)
    if dataclasses.is_dataclass(kind):
        return _build_record(kind, value, where)
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is float:
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"{where}: found a whole number of {len(str(value))} digits, expected less") from error
    if origin is list:
        return [_build(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict and arguments[1] is not Any:
        return {k: _build(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    return value


def _build_record(kind: Any, value: Any, where: str) -> Any:
    """A field that the value lacks takes its default: a later version of the schema added it."""
    prefix, hints = where if where.endswith(" ") else f"{where}.", get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{prefix}{field.name}: is missing, expected {kind.__name__}'s")
    for name in value.keys() - hints.keys():
        raise ValueError(f"{prefix}{name}: found an unknown field, expected only {kind.__name__}'s")
    return kind(**{name: _build(hints[name], v, f"{prefix}{name}") for name, v in value.items()})
