"""The report as a CASE/UCO graph: valid by the ontology's own shapes, complete, the same bytes each time."""

import hashlib
import json
import socket
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import cli
from attribution.report import Report
from reports.case import report_bytes, write_report
from reports.case_uco import CONTEXT, write_case_uco
from tests.report_cases import CANDIDATES, NAMES, SCRIPT_PATH, examined, five_images, make_report, plain_pictures

with warnings.catch_warnings():  # rdflib's and pyshacl's own, at import
    warnings.simplefilter("ignore")
    from case_utils.case_validate import validate
    from case_utils.inherent_uuid import get_facet_uriref, hash_method_value_uuid
    from rdflib import XSD, Graph, Literal, Namespace, URIRef

Nodes = dict[str, dict[str, Any]]


def written(report: Report, place: Path) -> Path:
    write_case_uco(report, place / "case.jsonld", place)
    return place / "case.jsonld"


def nodes_of(path: Path) -> Nodes:
    nodes = json.loads(path.read_bytes())["@graph"]
    by_id = {node["@id"]: node for node in nodes}
    assert len(by_id) == len(nodes)
    return by_id


def of_kind(nodes: Nodes, kind: str) -> list[dict[str, Any]]:
    return [node for node in nodes.values() if node["@type"] == kind]


def linked(nodes: Nodes, node: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [nodes[reference["@id"]] for reference in node[name]]


def file_facts(nodes: Nodes, node: dict[str, Any]) -> tuple[str | None, str | None]:
    """(path, SHA-256) of an observable object."""
    facets = {facet["@type"]: facet for facet in linked(nodes, node, "core:hasFacet")}
    content = facets.get("observable:ContentDataFacet")
    hashes = linked(nodes, content, "observable:hash") if content else [None]
    assert len(hashes) == 1 and (hashes[0] is None or hashes[0]["types:hashMethod"] == "SHA256")
    found = hashes[0]["types:hashValue"]["@value"] if hashes[0] else None
    return facets["observable:FileFacet"].get("observable:filePath"), found


@pytest.fixture
def report(tmp_path: Path) -> Report:
    found = five_images(tmp_path)
    places = {name: f"generators/{name}.safetensors" for name in NAMES}
    return replace(found, run=replace(found.run, generators=places))


@pytest.fixture
def nodes(report: Report, tmp_path: Path) -> Nodes:
    return nodes_of(written(report, tmp_path))


def conforms(*paths: Path) -> tuple[bool, str]:
    """By the shapes of CASE 1.5.0 (with UCO), warnings and advice counted, any unknown term too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = validate([str(path) for path in paths], case_version="case-1.5.0", inference="none")
    return result.conforms, result.text


@pytest.mark.slow
def test_two_reports_together_conform_to_the_ontology_without_a_network(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    bare = make_report([examined("x.png", [0.1, 0.2], plain_pictures(tmp_path, "x"), calibrated=False)], False)
    bare = replace(bare, run=replace(bare.run, case="", exhibit="", examiner=""))
    unread = replace(report.images[4], sha256=None)
    (tmp_path / "bare").mkdir()
    paths = [written(replace(report, images=[*report.images, unread]), tmp_path), written(bare, tmp_path / "bare")]
    found, text = conforms(*paths)
    assert found, text


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), [("types:hashValue", "types:value"), ("xsd:dateTime", "xsd:date")])
def test_the_validation_would_notice_a_wrong_term(nodes: Nodes, tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "case.jsonld"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(f'"{old}"', f'"{new}"'))
    assert not conforms(path)[0]


def test_every_file_has_its_path_and_hash(nodes: Nodes, report: Report) -> None:
    facts = [file_facts(nodes, node) for node in of_kind(nodes, "observable:ObservableObject")]
    assert facts[:5] == [(image.path, image.sha256) for image in report.images]
    assert facts[5:7] == [(f"generators/{c.name}.safetensors", c.sha256) for c in CANDIDATES]
    assert facts[7:] == [("report.json", hashlib.sha256(report_bytes(report)).hexdigest())]


def test_the_run_names_its_tool_times_objects_and_results(nodes: Nodes, report: Report) -> None:
    (run,) = of_kind(nodes, "investigation:InvestigativeAction")
    times = [run[f"action:{name}"] for name in ("startTime", "endTime")]
    assert times == [{"@type": "xsd:dateTime", "@value": t} for t in (report.run.started, report.run.finished)]
    (tool,), (examiner,) = linked(nodes, run, "action:instrument"), linked(nodes, run, "action:performer")
    assert (tool["core:name"], tool["tool:version"]) == ("latentprint", "0.1.0")
    assert examiner["core:name"] == "M. Muster"
    (settings,) = linked(nodes, tool, "configuration:usesConfiguration")
    entries = linked(nodes, settings, "configuration:configurationEntry")
    values = {entry["configuration:itemName"]: entry["configuration:itemValue"] for entry in entries}
    assert values["settings.steps"] == ["160"] and values["environment.torch"] == ["2.15.0"]
    assert json.loads(values["command"][0]) == report.run.command
    objects, results = linked(nodes, run, "action:object"), linked(nodes, run, "action:result")
    assert [n["@type"] for n in objects] == ["observable:ObservableObject"] * 7 + ["investigation:ProvenanceRecord"]
    assert objects[-1]["investigation:exhibitNumber"] == report.run.exhibit
    assert file_facts(nodes, results[0])[0] == "report.json"
    assert results[1:] == of_kind(nodes, "core:Annotation") and len(results) == 1 + 5 + 3 * 2
    (case,) = of_kind(nodes, "investigation:Investigation")
    assert case["core:name"] == report.run.case and linked(nodes, case, "core:object") == [run]
    assert [f"Limitation: {text}" for text in report.limitations] == run["core:description"][-len(report.limitations) :]


def test_every_verdict_and_every_comparison_is_a_statement_about_its_files(nodes: Nodes, report: Report) -> None:
    annotations = of_kind(nodes, "core:Annotation")
    verdicts = [node for node in annotations if "core:tag" in node]
    assert [(v["core:tag"], v["core:statement"]) for v in verdicts] == [
        ([image.verdict.code], image.verdict.statement) for image in report.images
    ]
    about = [[file_facts(nodes, node)[0] for node in linked(nodes, v, "core:object")] for v in verdicts]
    assert about[0] == ["portrait 1.png", "generators/emoji-a.safetensors"]
    assert about[1:] == [[image.path] for image in report.images[1:]]
    assert f"Score T: {report.images[0].score!r}" in verdicts[0]["core:description"]
    assert "Error: found a truncated file" in verdicts[4]["core:description"]
    comparison = [node for node in annotations if "core:tag" not in node][1]
    row = report.images[0].candidates[1]
    assert comparison["core:statement"].startswith("Candidate emoji-b: LPIPS distance 0.139, ")
    assert row.log10_lr_bounds and f"log10 likelihood ratio {row.log10_lr!r} (" in comparison["core:statement"]
    facts = [file_facts(nodes, node)[1] for node in linked(nodes, comparison, "core:object")]
    assert facts == [report.images[0].sha256, CANDIDATES[1].sha256]


def test_a_supported_group_is_named_whole(report: Report, tmp_path: Path) -> None:
    verdict = replace(report.images[0].verdict, code="SUPPORTS_GROUP", group=NAMES)
    nodes = nodes_of(written(replace(report, images=[replace(report.images[0], verdict=verdict)]), tmp_path))
    (found,) = (node for node in of_kind(nodes, "core:Annotation") if "core:tag" in node)
    assert [node.get("core:name") for node in linked(nodes, found, "core:object")] == [None, *NAMES]


def test_without_a_calibration_no_likelihood_ratio_is_stated(tmp_path: Path) -> None:
    image = examined("x.png", [0.1, 0.2], plain_pictures(tmp_path, "x"), calibrated=False)
    text = written(make_report([image], calibrated=False), tmp_path).read_text()
    assert text.count("no likelihood ratio was calibrated") == 2 and "log10 likelihood ratio" not in text
    assert "None" not in text


def test_the_same_report_gives_the_same_bytes_and_another_other_nodes(report: Report, tmp_path: Path) -> None:
    first = written(report, tmp_path).read_bytes()
    assert written(report, tmp_path).read_bytes() == first
    before, after = nodes_of(tmp_path / "case.jsonld"), nodes_of(written(replace(report, limitations=[]), tmp_path))
    same = [before[name]["@type"] for name in before.keys() & after.keys()]
    assert same == ["types:Hash"] * 7  # of the files, not of report.json


def test_iris_are_uuids_made_as_case_utils_makes_them(nodes: Nodes) -> None:
    assert {UUID(name).version for name in nodes} == {5} and all(name.startswith("urn:uuid:") for name in nodes)
    for node in of_kind(nodes, "types:Hash"):
        value = Literal(node["types:hashValue"]["@value"], datatype=XSD.hexBinary)
        assert UUID(node["@id"]) == hash_method_value_uuid(Literal("SHA256"), value)
    for node in of_kind(nodes, "observable:ObservableObject"):
        for facet in linked(nodes, node, "core:hasFacet"):
            kind = URIRef(CONTEXT["observable"] + facet["@type"].removeprefix("observable:"))
            made = get_facet_uriref(URIRef(node["@id"]), kind, namespace=Namespace("urn:x:"))
            assert UUID(facet["@id"]) == UUID(str(made)[-36:])


@pytest.mark.parametrize(
    "name", [SCRIPT_PATH, '{"@id": "http://x.test/"}', "http://x.test/a b", "\u202e\x00gnp.exe", "@id"]
)
def test_hostile_names_stay_text(report: Report, tmp_path: Path, name: str) -> None:
    hostile = replace(report.images[0], path=name, verdict=replace(report.images[0].verdict, statement=name))
    path = written(replace(report, images=[hostile]), tmp_path)
    assert path.read_bytes().isascii()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # within rdflib's parser
        graph = Graph().parse(path, format="json-ld")
    assert Literal(name) in set(graph.objects(None, URIRef(CONTEXT["observable"] + "filePath")))
    assert Literal(name) in set(graph.objects(None, URIRef(CONTEXT["core"] + "statement")))
    assert not any("x.test" in node for triple in graph for node in triple if isinstance(node, URIRef))


def test_a_time_that_is_none_is_refused(report: Report, tmp_path: Path) -> None:
    broken = replace(report, run=replace(report.run, finished="2026-13-01T00:00:00+00:00"))
    with pytest.raises(ValueError, match=r"report.json: field run.finished: found '2026-13-01.*expected a time"):
        written(broken, tmp_path)


def test_the_graph_never_takes_the_place_of_evidence(report: Report, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found a place of the case's own files"):
        write_case_uco(report, tmp_path / "report.json", tmp_path)


def test_report_writes_the_graph_with_the_hash_of_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = tmp_path / "case"
    write_report(five_images(case), case)
    monkeypatch.setattr(sys, "argv", ["latentprint", "report", str(case), "--case-uco", str(case / "case.jsonld")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0 and "case.jsonld" in capsys.readouterr().out
    nodes = nodes_of(case / "case.jsonld")
    report_hash = hashlib.sha256((case / "report.json").read_bytes()).hexdigest()
    assert ("report.json", report_hash) in [file_facts(nodes, n) for n in of_kind(nodes, "observable:ObservableObject")]
    assert "case.jsonld" in json.loads((case / "manifest.json").read_text())["files"]
