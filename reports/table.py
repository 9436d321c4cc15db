"""The report as a table: one row per image and candidate, as CSV or Parquet."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attribution.report import CandidateEvidence, ImageReport, Report
from generator.files import write_atomically
from reports.words import printable

COLUMNS: dict[str, type] = {
    **{"image": str, "sha256": str, "pixels_sha256": str, "width": int, "height": int, "format": str, "stratum": str},
    **{"verdict": str, "verdict_candidate": str, "verdict_group": str, "statement": str, "error": str, "truth": str},
    **{"score": float, "threshold": float, "p_value_real": float, "log10_margin": float},
    **{"candidate": str, "candidate_sha256": str, "lpips": float, "lpips_start": float, "mse": float, "ssim": float},
    "lpips_expected": float,
    **{"p_value_generated": float, "log10_lr_unbounded": float, "log10_lr": float},
    **{"log10_lr_low": float, "log10_lr_high": float, "seed": int, "steps": int},
}
RESERVED = {"report.json", "report.html", "report.pdf", "manifest.json", "manifest.sig", "calibration.json"}
_FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would calculate


def table_rows(report: Report) -> Iterator[dict[str, Any]]:
    """One row per image and candidate, in the report's order; one without a candidate for an image not projected."""
    hashes = {candidate.name: candidate.sha256 for candidate in report.candidates}
    for image in report.images:
        known = _of_image(image)
        yield from [known | _of_candidate(row, hashes) for row in image.candidates] or [known]


def _of_image(image: ImageReport) -> dict[str, Any]:
    same = ("sha256", "pixels_sha256", "width", "height", "format", "stratum", "truth")
    numbers = ("score", "threshold", "p_value_real", "log10_margin")
    return {name: getattr(image, name) for name in (*same, *numbers)} | {
        "image": image.path,
        "verdict": image.verdict.code,
        "verdict_candidate": image.verdict.candidate,
        "verdict_group": " ".join(image.verdict.group) if image.verdict.group else None,
        "statement": image.verdict.statement,
        "error": image.error.message if image.error else None,
    }


def _of_candidate(row: CandidateEvidence, hashes: dict[str, str]) -> dict[str, Any]:
    same = (
        "lpips",
        "lpips_start",
        "lpips_expected",
        "mse",
        "ssim",
        "p_value_generated",
        "log10_lr_unbounded",
        "log10_lr",
        "seed",
        "steps",
    )
    low, high = row.log10_lr_bounds or (None, None)
    named = {
        "candidate": row.name,
        "candidate_sha256": hashes.get(row.name),
        "log10_lr_low": low,
        "log10_lr_high": high,
    }
    return {name: getattr(row, name) for name in same} | named


def write_csv(report: Report, path: Path, case: Path) -> None:
    """Write the table as CSV in UTF-8; empty cells for what is unknown.

    Text that a spreadsheet would calculate gets an apostrophe before it, and invisible characters become U+FFFD.
    Raises ValueError for a path that is a file of the case.
    """
    require_free(path, case)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in table_rows(report))
    write_atomically(path, text.getvalue().encode())


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return repr(value) if isinstance(value, float) else value
    shown = printable(value)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown


def write_parquet(report: Report, path: Path, case: Path) -> None:
    """Write the table as Parquet, texts as they are. Raises ValueError as `write_csv`, and where pyarrow is missing."""
    require_free(path, case)
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError('--parquet: found no pyarrow, expected it: pip install "latentprint[parquet]"') from error
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    table = pyarrow.Table.from_pylist(list(table_rows(report)), schema=schema)
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, buffer)
    write_atomically(path, buffer.getvalue().to_pybytes())


def require_free(path: Path, case: Path) -> None:
    """An export may lie in the case directory, but not in the place of the evidence. Raises ValueError there."""
    place, top = path.resolve(), Path(case).resolve()
    if not place.is_relative_to(top):
        return
    inside = place.relative_to(top)
    if len(inside.parts) != 1 or inside.name in RESERVED or inside.name.startswith("run.sqlite"):
        raise ValueError(f"{path}: found a place of the case's own files, expected another")
