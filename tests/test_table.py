"""The report's table in the two forms that other programs read."""

import csv
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest

import cli
from reports.case import write_report
from reports.table import COLUMNS, write_csv, write_parquet
from tests.report_cases import NAMES, SCRIPT_PATH, five_images


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def test_one_row_per_image_and_candidate(tmp_path: Path) -> None:
    report = five_images(tmp_path)
    write_csv(report, tmp_path / "table.csv", tmp_path)
    rows = read(tmp_path / "table.csv")
    assert list(rows[0]) == list(COLUMNS) and len(rows) == 3 * 2 + 2
    assert [r["candidate"] for r in rows] == [*NAMES * 3, "", ""]
    evidence = report.images[0].candidates[1]
    assert float(rows[1]["lpips"]) == evidence.lpips and float(rows[1]["log10_lr"]) == evidence.log10_lr
    assert [float(rows[1][f"log10_lr_{end}"]) for end in ("low", "high")] == evidence.log10_lr_bounds
    assert int(rows[1]["seed"]) == evidence.seed and rows[0]["verdict_candidate"] == "emoji-a"
    assert rows[4]["image"] == SCRIPT_PATH and rows[7]["error"] == "found a truncated file" and rows[7]["lpips"] == ""


@pytest.mark.parametrize("name", ["=1+1.png", "+1.png", "-1.png", "@x.png", " =1", "\t=1", "\n=1"])
def test_no_name_is_calculated_by_a_spreadsheet_or_breaks_a_row(tmp_path: Path, name: str) -> None:
    report = five_images(tmp_path)
    write_csv(replace(report, images=[replace(report.images[0], path=name)]), tmp_path / "table.csv", tmp_path)
    assert all(not row["image"].lstrip().startswith(("=", "+", "-", "@")) for row in read(tmp_path / "table.csv"))
    assert len((tmp_path / "table.csv").read_bytes().split(b"\r\n")) == 1 + 2 + 1


def test_parquet_holds_types_and_names_as_they_are(tmp_path: Path) -> None:
    report = five_images(tmp_path)
    report = replace(report, images=[replace(report.images[0], path="=1+1.png"), *report.images[3:]])
    write_parquet(report, tmp_path / "table.parquet", tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "table.parquet")
    rows = table.to_pylist()
    assert table.column_names == list(COLUMNS) and len(rows) == 2 + 2
    assert rows[0]["image"] == "=1+1.png" and rows[0]["seed"] == report.images[0].candidates[0].seed
    assert rows[1]["lpips"] == report.images[0].candidates[1].lpips and rows[3]["lpips"] is None
    assert str(table.schema.field("score").type) == "double" and str(table.schema.field("width").type) == "int64"


@pytest.mark.parametrize(
    "name", ["report.json", "manifest.sig", "run.sqlite-wal", "images/x.png", "../case/report.html"]
)
def test_a_table_never_takes_the_place_of_evidence(tmp_path: Path, name: str) -> None:
    case = tmp_path / "case"
    report = five_images(case)
    for write in (write_csv, write_parquet):
        with pytest.raises(ValueError, match="found a place of the case's own files"):
            write(report, case / name, case)


def test_report_writes_the_tables_and_lists_one_that_lies_in_the_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = tmp_path / "case"
    write_report(five_images(case), case)
    options = ["--csv", str(case / "table.csv"), "--parquet", str(tmp_path / "table.parquet")]
    monkeypatch.setattr(sys, "argv", ["latentprint", "report", str(case), *options])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0 and "table.csv" in capsys.readouterr().out
    assert len(read(case / "table.csv")) == pyarrow.parquet.read_table(tmp_path / "table.parquet").num_rows == 8
    assert "table.csv" in json.loads((case / "manifest.json").read_text())["files"]
