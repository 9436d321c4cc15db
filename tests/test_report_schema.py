"""The report's JSON Schema: what is documented, what the dataclasses hold, and what it refuses."""

import dataclasses
import json
import math
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from attribution.report import REPORT_SCHEMA, Report
from reports.case import parse_report, read_report, report_bytes, write_report
from reports.report_schema import SCHEMA_FILE, report_validator, require_schema
from tests.report_cases import five_images

SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_report(five_images(folder), folder)
    return folder


def content_of(case: Path) -> dict[str, Any]:
    return json.loads((case / "report.json").read_bytes())


def schema_fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, sub in schema.get("properties", {}).items():
        inner = sub.get("items", {})
        here = f"{path}{name}{'[]' if 'properties' in inner else ''}"
        yield here
        yield from schema_fields(sub, f"{here}.")
        yield from schema_fields(inner, f"{here}.")


def record_fields(kind: Any, path: str = "") -> Iterator[str]:
    """The fields of the report's dataclasses, written as the documentation does."""
    for name, hint in get_type_hints(kind).items():
        inner = [k for k in get_args(hint) if k is not type(None)] if _is_union(hint) else [hint]
        listed = get_args(inner[0])[0] if get_origin(inner[0]) is list else None
        record = listed or inner[0]
        here = f"{path}{name}{'[]' if dataclasses.is_dataclass(listed) else ''}"
        yield here
        if dataclasses.is_dataclass(record):
            yield from record_fields(record, f"{here}.")


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def test_documentation_and_schema_name_the_same_fields() -> None:
    documented = re.findall(r"^\| `([^`]+)` \|", SCHEMA_FILE.with_name("report.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(documented) == sorted(schema_fields(SCHEMA))
    assert len(set(documented)) == len(documented)


def test_every_field_of_the_report_is_in_the_schema_and_required() -> None:
    free = ("run.settings.", "calibration.", "summary.", "propositions[].")  # plain dicts in the dataclasses
    known = {re.sub(r"\[\]$", "", f) for f in schema_fields(SCHEMA) if not f.startswith(free)}
    assert known == {re.sub(r"\[\]$", "", f) for f in record_fields(Report)}
    row = SCHEMA["properties"]["images"]["items"]["properties"]["candidates"]["items"]
    for part in (SCHEMA, SCHEMA["properties"]["run"], SCHEMA["properties"]["images"]["items"], row):
        assert part["required"] == sorted(part["properties"]) and part["additionalProperties"] is False


def test_the_schema_is_one_and_names_itself(case: Path) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["title"] == SCHEMA["properties"]["schema"]["const"] == REPORT_SCHEMA
    Draft202012Validator(SCHEMA).validate(content_of(case))  # the plain validator, without our quick way


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda c: c["images"][0].update(sha256="x"), r"images\[0\]\.sha256: found 'x', expected text of the form"),
        (lambda c: c["images"][0].update(p_value_real=1.5), r"p_value_real: found 1\.5, expected at most 1"),
        (lambda c: c["images"][0]["candidates"][0].update(lpips=-1), r"lpips: found -1, expected at least 0"),
        (lambda c: c["images"][0]["candidates"][0].update(history=[[1, 2, 3]]), "expected at most 2 entries"),
        (lambda c: c["images"][0]["candidates"][0].update(history=[[True, 2]]), "found True, expected a number"),
        (lambda c: c["images"][0]["candidates"][0].update(log10_lr_bounds=[]), "expected at least 2 entries"),
        (lambda c: c["images"][0].update(width="64"), "width: found '64', expected a whole number or null"),
        (lambda c: c["run"].update(started="now"), "run.started: found 'now', expected text of the form"),
        (lambda c: c["run"].update(signer="me"), "run.signer: found 'me', expected text of the form"),
        (lambda c: c["images"][4]["error"].update(kind="odd"), "kind: found 'odd', expected one of unreadable, refu"),
        (lambda c: c["summary"].pop("errors"), "summary.errors: is missing"),
        (lambda c: c["propositions"][0].update(x=1), r"propositions\[0\]\.x: found an unknown field"),
    ],
)
def test_what_the_schema_forbids_is_named(case: Path, edit: Callable[[Any], Any], sentence: str) -> None:
    content = content_of(case)
    edit(content)
    with pytest.raises(ValueError, match=f"a.json: field .*{sentence}"):
        parse_report(json.dumps(content).encode(), Path("a.json"))


def test_a_key_twice_is_refused(case: Path) -> None:
    text = (case / "report.json").read_text().replace('"exhibit"', '"examiner": "X", "exhibit"', 1)
    with pytest.raises(ValueError, match="the key 'examiner' twice"):
        parse_report(text.encode(), Path("a.json"))


def test_what_a_later_release_adds_may_be_missing(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = content_of(case)
    del content["run"]["signer"], content["run"]["generators"]
    run = SCHEMA["properties"]["run"]
    required = [name for name in run["required"] if name not in ("signer", "generators")]
    older = Draft202012Validator(
        {**SCHEMA, "properties": {**SCHEMA["properties"], "run": {**run, "required": required}}}
    )
    monkeypatch.setattr("reports.report_schema.report_validator", lambda: older)
    report = parse_report(json.dumps(content).encode(), Path("a.json"))
    assert report.run.signer is None and report.run.generators == {}


def test_a_report_that_the_schema_forbids_is_not_written(tmp_path: Path) -> None:
    report = five_images(tmp_path)
    odd = dataclasses.replace(report, run=dataclasses.replace(report.run, id="ABC"))
    with pytest.raises(ValueError, match=r"field run\.id: found 'ABC', expected text of the form"):
        write_report(odd, tmp_path)
    assert not (tmp_path / "report.json").exists()


@given(st.lists(st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=2), st.none()), max_size=4))
def test_the_quick_way_for_numbers_judges_as_jsonschema_does(values: list[Any]) -> None:
    for items in ({"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}):
        schema, value = {"type": "array", "items": items}, values if items["type"] == "number" else [values]
        quick, plain = report_validator().evolve(schema=schema), Draft202012Validator(schema)
        assert [e.message for e in quick.iter_errors(value)] == [e.message for e in plain.iter_errors(value)]


def test_reading_turns_whole_numbers_into_floats(case: Path) -> None:
    content = content_of(case)
    content["images"][0]["score"] = 3
    score = parse_report(json.dumps(content).encode(), Path("a.json")).images[0].score
    assert type(score) is float and score == 3
    content["images"][0]["score"] = 10**400
    with pytest.raises(ValueError, match=r"images\[0\]\.score: found a whole number of 401 digits"):
        parse_report(json.dumps(content).encode(), Path("a.json"))


def test_bytes_are_the_same_after_reading(case: Path) -> None:
    report = read_report(case)
    assert report_bytes(report) == (case / "report.json").read_bytes()
    require_schema(dataclasses.asdict(report), "a.json")
    assert not any(math.isnan(c.lpips) for image in report.images for c in image.candidates)


def test_the_sample_in_the_repository_is_a_report_of_this_schema() -> None:
    sample = SCHEMA_FILE.parents[1] / "sample"
    report = parse_report((sample / "report.json").read_bytes(), sample / "report.json")
    assert report_bytes(report) == (sample / "report.json").read_bytes()
    page = (sample / "report.html").read_text(encoding="utf-8")
    assert report.run.id in page and all(Path(image.path).name in page for image in report.images)
