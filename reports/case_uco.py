"""The report as a graph of the CASE and UCO ontologies (caseontology.org), in JSON-LD: run, files, tool and findings.

Numbers for which UCO has no term, such as distances and likelihood ratios, are text in the statement about them. Every
node's IRI is a UUID (version 5, RFC 9562) that follows from the SHA-256 of report.json: the same report gives the same
bytes, and two reports share no node but the hash of the same content. The known origin of a test image is no finding
and is left out.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from attribution.report import CandidateEvidence, CandidateRecord, ImageReport, Report
from generator.files import write_atomically
from reports.case import report_bytes
from reports.table import require_free

Node = dict[str, Any]

_UCO = "https://ontology.unifiedcyberontology.org/uco/"
# spelled out in the file itself: a reader needs no network
CONTEXT = {
    **{name: f"{_UCO}{name}/" for name in ("action", "analysis", "configuration", "core", "identity", "observable")},
    **{"tool": f"{_UCO}tool/", "types": f"{_UCO}types/"},
    "investigation": "https://ontology.caseontology.org/case/investigation/",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}


def write_case_uco(report: Report, path: Path, case: Path) -> None:
    """Write the graph as JSON-LD in ASCII. Raises ValueError for a path that is a file of the case, as `write_csv`."""
    require_free(path, case)
    content = {"@context": CONTEXT, "@graph": graph(report)}
    write_atomically(path, (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii"))


def graph(report: Report) -> list[Node]:
    """The nodes, flat, each with an IRI of its own. Raises ValueError for a time that is none."""
    data = report_bytes(report)
    return list({node["@id"]: node for node in _Graph(report, data).nodes()}.values())


def _expanded(name: str) -> str:
    prefix, _, term = name.partition(":")
    return CONTEXT[prefix] + term


def _reference(*nodes: Node) -> list[Node]:
    return [{"@id": node["@id"]} for node in nodes]


def _typed(kind: str, value: str) -> Node:
    return {"@type": f"xsd:{kind}", "@value": value}


def _time(text: str, field: str) -> Node:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"report.json: field {field}: found {text!r} ({error}), expected a time") from error
    return _typed("dateTime", text)


def _hash(sha256: str) -> Node:
    """A hash is its method and value, wherever it occurs: its IRI follows from these alone, as in case_utils."""
    return {
        "@id": uuid5(NAMESPACE_URL, f"urn:hash::sha256:{sha256}").urn,
        "@type": "types:Hash",
        "types:hashMethod": "SHA256",
        "types:hashValue": _typed("hexBinary", sha256),
    }


class _Graph:
    """Makes the nodes of one report; data: the bytes of report.json, whose hash the IRIs follow from."""

    def __init__(self, report: Report, data: bytes) -> None:
        self.report, self.size, self.sha256 = report, len(data), hashlib.sha256(data).hexdigest()
        self.space = uuid5(NAMESPACE_URL, f"latentprint report {self.sha256}")

    def node(self, key: str, kind: str, **properties: Any) -> Node:
        """A node of this report; what is None or empty is left out; `core_name` stands for `core:name`."""
        known = {name.replace("_", ":", 1): value for name, value in properties.items() if value not in (None, "", [])}
        return {"@id": uuid5(self.space, key).urn, "@type": kind, **known}

    def nodes(self) -> Iterator[Node]:
        run = self.report.run
        suspects = [self.suspect(i, image) for i, image in enumerate(self.report.images)]
        generators = [self.generator(i, candidate) for i, candidate in enumerate(self.report.candidates)]
        named = {record.name: nodes[0] for record, nodes in zip(self.report.candidates, generators, strict=True)}
        itself = self.file("report", "report.json", self.sha256, [], size=self.size, core_name="report.json")
        found = [
            list(self.findings(i, image, nodes[0], named))
            for i, (image, nodes) in enumerate(zip(self.report.images, suspects, strict=True))
        ]
        tool = list(self.tool())
        examiner = [self.node("examiner", "identity:Identity", core_name=run.examiner)] if run.examiner else []
        examined = [nodes[0] for nodes in suspects]
        exhibit = self.exhibit(examined)
        results = [itself[0], *(node for nodes in found for node in nodes)]
        action = self.action(tool[0], examiner, [*examined, *named.values(), *exhibit], results)
        for nodes in (*suspects, *generators, itself, *found, tool, examiner, exhibit, [action]):
            yield from nodes
        if run.case:
            yield self.node("case", "investigation:Investigation", core_name=run.case, core_object=_reference(action))

    def action(self, tool: Node, performer: Sequence[Node], objects: Sequence[Node], results: Sequence[Node]) -> Node:
        report, run = self.report, self.report.run
        compared = [f"Proposition {p['id']}: {p['statement']}" for p in report.propositions]
        return self.node(
            "run",
            "investigation:InvestigativeAction",
            core_name=f"latentprint run {run.id}",
            core_description=[*compared, *(f"Limitation: {sentence}" for sentence in report.limitations)],
            action_startTime=_time(run.started, "run.started"),
            action_endTime=_time(run.finished, "run.finished"),
            action_performer=_reference(*performer),
            action_instrument=_reference(tool),
            action_object=_reference(*objects),
            action_result=_reference(*results),
        )

    def exhibit(self, examined: Sequence[Node]) -> list[Node]:
        number = self.report.run.exhibit
        kind = "investigation:ProvenanceRecord"
        record = self.node("exhibit", kind, investigation_exhibitNumber=number, core_object=_reference(*examined))
        return [record] if number else []

    def tool(self) -> Iterator[Node]:
        """latentprint as it was configured: the settings of the run, each value as JSON where it is not text."""
        run = self.report.run
        values: dict[str, Any] = {"command": run.command, "seed": run.seed, "device": run.device}
        values |= {"signer": run.signer} if run.signer else {}
        values |= {f"settings.{name}": value for name, value in run.settings.items()}
        values |= {f"environment.{name}": value for name, value in run.environment.items()}
        entries = [
            self.node(
                f"setting {name}",
                "configuration:ConfigurationEntry",
                configuration_itemName=name,
                configuration_itemValue=[value if isinstance(value, str) else json.dumps(value, sort_keys=True)],
            )
            for name, value in sorted(values.items())
        ]
        entry = _reference(*entries)
        settings = self.node("settings", "configuration:Configuration", configuration_configurationEntry=entry)
        tool = self.node("tool", "tool:ConfiguredTool", core_name="latentprint", tool_version=run.tool_version)
        yield from [tool | {"configuration:usesConfiguration": _reference(settings)}, settings, *entries]

    def suspect(self, index: int, image: ImageReport) -> list[Node]:
        key = f"image {index}"
        raster = []
        if image.width and image.height:
            size = {"observable_pictureWidth": image.width, "observable_pictureHeight": image.height}
            raster = [self.facet(key, "observable:RasterPictureFacet", **size)]
        return self.file(key, image.path, image.sha256, raster)

    def generator(self, index: int, candidate: CandidateRecord) -> list[Node]:
        side = candidate.resolution
        original = candidate.provenance.get("original_sha256")
        shown = f"Candidate generator {candidate.name}: {candidate.architecture}, {side} x {side} pixels"
        shown += f", imported from a file of SHA-256 {original}" if isinstance(original, str) else ""
        path, name = self.report.run.generators.get(candidate.name), candidate.name
        return self.file(f"candidate {index}", path, candidate.sha256, [], core_name=name, core_description=[shown])

    def facet(self, key: str, kind: str, **properties: Any) -> Node:
        """A facet of the node with this key; its IRI follows from the node's and its class, as in case_utils."""
        facet = self.node(key, kind, **properties)
        return facet | {"@id": uuid5(UUID(facet["@id"]), _expanded(kind)).urn}

    def file(
        self, key: str, path: str | None, sha256: str | None, more: list[Node], size: int | None = None, **known: Any
    ) -> list[Node]:
        """The object, its facets and its hash; without a hash for a file that could not be read."""
        name = PurePosixPath(path).name if path else None
        facets = [self.facet(key, "observable:FileFacet", observable_fileName=name, observable_filePath=path), *more]
        hashes = [_hash(sha256)] if sha256 else []
        if hashes:
            content = {"observable_hash": _reference(*hashes), "observable_sizeInBytes": size}
            facets.append(self.facet(key, "observable:ContentDataFacet", **content))
        node = self.node(key, "observable:ObservableObject", core_hasFacet=_reference(*facets), **known)
        return [node, *facets, *hashes]

    def findings(self, index: int, image: ImageReport, suspect: Node, named: dict[str, Node]) -> Iterator[Node]:
        """The verdict, then each comparison with a candidate: annotations of the file, and of the generators meant."""
        verdict = image.verdict
        supported = verdict.group or ([verdict.candidate] if verdict.candidate else [])
        yield self.node(
            f"verdict {index}",
            "core:Annotation",
            core_name="Verdict",
            core_tag=[verdict.code],
            core_statement=verdict.statement,
            core_description=list(_particulars(image)),
            core_object=_reference(suspect, *(named[name] for name in supported if name in named)),
        )
        for k, row in enumerate(image.candidates):
            yield self.node(
                f"comparison {index} {k}",
                "core:Annotation",
                core_name="Comparison",
                core_statement=_comparison(row),
                core_object=_reference(suspect, *([named[row.name]] if row.name in named else [])),
            )


def _particulars(image: ImageReport) -> Iterator[str]:
    yield f"Verdict: {image.verdict.code}"
    if image.verdict.candidate:
        yield f"Candidate: {image.verdict.candidate}"
    if image.verdict.group:
        yield f"Group: {', '.join(image.verdict.group)}"
    numbers = {
        "Score T": image.score,
        "Threshold": image.threshold,
        "p-value among real images": image.p_value_real,
        "log10 margin M": image.log10_margin,
    }
    yield from (f"{name}: {value!r}" for name, value in numbers.items() if value is not None)
    texts = {
        "File format": image.format,
        "History": image.stratum,
        "SHA-256 of the decoded pixels": image.pixels_sha256,
        "Error": image.error and image.error.message,
    }
    yield from (f"{name}: {value}" for name, value in texts.items() if value)


def _comparison(row: CandidateEvidence) -> str:
    """Every number as in report.json, not rounded."""
    said = f"Candidate {row.name}: LPIPS distance {row.lpips!r}, MSE {row.mse!r}, SSIM {row.ssim!r}"
    if row.lpips_expected is not None:
        said += f"; LPIPS distance expected after all steps, by which the image is judged, {row.lpips_expected!r}"
    if row.log10_lr is None:
        return f"{said}; no likelihood ratio was calibrated"
    bounds = f" (bounds {row.log10_lr_bounds[0]!r} to {row.log10_lr_bounds[1]!r})" if row.log10_lr_bounds else ""
    return f"{said}; log10 likelihood ratio {row.log10_lr!r}{bounds}"
