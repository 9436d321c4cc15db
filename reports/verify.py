"""Verify a case directory: hashes, signature and schema, and every number and picture made again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from attribution.calibration import Calibration, load_calibration
from attribution.engine import SILENT, Candidate, Events, load_candidates
from attribution.field_checks import SHA256
from attribution.findings import TOLERANCES, Finding, differences
from attribution.pipeline import candidate_record
from attribution.provenance import tool_version
from attribution.recheck import recheck
from attribution.report import CandidateRecord, Report
from generator.files import file_sha256
from reports.case import parse_report
from reports.html import render_html
from reports.manifest import MANIFEST, SIGNATURE, case_files, parse_manifest
from reports.signature_check import check_signature
from reports.signing import read_public_key

REWRITTEN = (
    "Without a signature and its public key (--key), or the manifest's SHA-256 as it was printed when the run ended "
    "(--manifest), a manifest that was rewritten together with the files can't be told from the first one."
)
NOT_REPEATED = (
    "Not repeated: the search itself (history, steps, checkpoints), the suspects' decoding, cropping and resizing "
    "(intake; compare the files' SHA-256), the calibration's measurements, and what only the run knew (times, command, "
    "environment, known origins)."
)


@dataclass(frozen=True)
class Verification:
    """What was checked of a case. notes: what no check of the case alone can tell."""

    findings: list[Finding]
    notes: list[str]

    @property
    def holds(self) -> bool:
        """Whether everything was checked and holds."""
        return all(finding.holds for finding in self.findings)


def verify_case(
    case: Path,
    candidates: Mapping[str, Path] | None = None,
    key: Path | None = None,
    manifest_sha256: str | None = None,
    device: str = "cpu",
    events: Events = SILENT,
) -> Verification:
    """Check everything of a case directory that can be checked.

    candidates: generator files by name, for those that are not where the report says; key: the signer's public key;
    manifest_sha256: as printed when the run ended. Raises ValueError for a folder that is no case directory, a name
    that the report lacks, a file that is no public key, or a text that is no SHA-256.
    """
    case = Path(case)
    if not (case / "report.json").is_file() and not (case / MANIFEST).is_file():
        raise ValueError(f"{case}: found no report.json and no manifest.json, expected a case directory")
    if manifest_sha256 is not None and not SHA256.fullmatch(manifest_sha256):
        raise ValueError(f"--manifest: found {manifest_sha256[:80]!r}, expected a SHA-256 in 64 hexadecimal digits")
    public = read_public_key(key) if key else None
    report, of_report = _read(case)
    if report and (unknown := [name for name in candidates or {} if name not in {c.name for c in report.candidates}]):
        known = ", ".join(c.name for c in report.candidates)
        raise ValueError(f"--candidate: found {unknown[0]}, expected a candidate of the report: {known}")
    findings = check_files(case, manifest_sha256)
    findings += check_signature(case, public, report.run.signer if report else None)
    findings += of_report
    if report:
        findings += _check_page(case, report)
        calibration, of_calibration = _check_calibration(case, report)
        loaded, of_candidates = _check_candidates(report, candidates or {}, device)
        findings += of_calibration + of_candidates + recheck(case, report, loaded, calibration, events)
    known_origin = manifest_sha256 or (public and (case / SIGNATURE).is_file())
    return Verification(findings, [TOLERANCES, NOT_REPEATED, *([] if known_origin else [REWRITTEN])])


def _read(case: Path) -> tuple[Report | None, list[Finding]]:
    path = case / "report.json"
    if not path.is_file():
        return None, [Finding("report.json", False, "report.json: found no such file, expected the report")]
    try:
        report = parse_report(path.read_bytes(), Path("report.json"))
    except ValueError as error:
        return None, [Finding("report.json", False, f"{error}; nothing that it says could be checked")]
    return report, [Finding("report.json", True, f"is valid by its schema, {report.schema}")]


def check_files(case: Path, expected: str | None) -> list[Finding]:
    """The manifest, and every file against it."""
    path = case / MANIFEST
    if path.is_symlink() or not path.is_file():
        found = "a link" if path.is_symlink() else "no such file"
        return [Finding(MANIFEST, False, f"{MANIFEST}: found {found}, expected the SHA-256 of every other file")]
    found = file_sha256(path)
    findings = []
    if expected is not None and found != expected:
        findings.append(Finding(MANIFEST, False, f"{MANIFEST}: found SHA-256 {found}, expected {expected} as printed"))
    try:
        listed = parse_manifest(path.read_bytes())
    except ValueError as error:
        return [*findings, Finding(MANIFEST, False, f"{MANIFEST}: {error}; no file could be checked against it")]
    there = dict(case_files(case))
    findings += [Finding(name, False, f"{name}: {words}") for name, words in _wrong_files(listed, there)]
    if not findings:
        printed = ", the one that was printed" if expected else ""
        words = f"has SHA-256 {found}{printed}; {len(listed)} files have the SHA-256 that it lists"
        findings.append(Finding(MANIFEST, True, words))
    return findings


def _wrong_files(listed: Mapping[str, str], there: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    for name in sorted(listed.keys() | there.keys()):
        if name not in there:
            yield name, f"found no such file, expected one of SHA-256 {listed[name]}"
        elif name not in listed:
            yield name, f"found a file that {MANIFEST} does not list, expected none"
        elif there[name].is_symlink() or not there[name].is_file():
            yield name, "found a link or a device, expected a file"
        elif (sha256 := file_sha256(there[name])) != listed[name]:
            yield name, f"found SHA-256 {sha256}, expected {listed[name]} of {MANIFEST}"


def _check_page(case: Path, report: Report) -> list[Finding]:
    """report.html is what report.json and the pictures give."""
    path = case / "report.html"
    if not path.is_file():
        return [Finding("report.html", False, "report.html: found no such file, expected the page of report.json")]
    try:
        same = render_html(report, case, (case / "report.json").read_bytes()) == path.read_bytes()
    except (ValueError, KeyError, TypeError, IndexError) as error:  # an edited report may lack what the page draws
        return [
            Finding("report.html", False, f"report.html: could not be drawn again ({error}), expected the same page")
        ]
    if same:
        return [Finding("report.html", True, "is the page that report.json and the pictures give")]
    if report.run.tool_version != tool_version():
        words = f"was written by latentprint {report.run.tool_version}, expected that version to draw it again"
        return [Finding("report.html", None, f"report.html: {words}, not {tool_version()}")]
    return [
        Finding("report.html", False, "report.html: found another page than report.json gives, expected the same bytes")
    ]


def _check_calibration(case: Path, report: Report) -> tuple[Calibration | None, list[Finding]]:
    path = case / "calibration.json"
    if report.calibration is None:
        if path.exists():
            sentence = "calibration.json: found a calibration, expected none: report.json rests on none"
            return None, [Finding("calibration.json", False, sentence)]
        return None, []
    try:
        calibration = load_calibration(path)
    except ValueError as error:
        return None, [Finding("calibration.json", False, str(error).replace(f"{case}/", ""))]
    if (found := report.calibration.get("id")) != calibration.id:
        sentence = f"calibration.json: found id {calibration.id}, expected {found}, which report.json rests on"
        return None, [Finding("calibration.json", False, sentence)]
    return calibration, [Finding("calibration.json", True, f"its numbers follow from its scores, id {calibration.id}")]


def _check_candidates(
    report: Report, given: Mapping[str, Path], device: str
) -> tuple[dict[str, Candidate], list[Finding]]:
    """The candidates whose file is at hand and has the SHA-256 of the report."""
    loaded, findings = {}, []
    for record in report.candidates:
        place = given.get(record.name) or report.run.generators.get(record.name)
        item = f"candidate {record.name}"
        if place is None or not Path(place).is_file():
            where = f"at {place}" if place else "in report.json"
            sentence = (
                f"{item}: found no file {where}, expected its generator file: give --candidate {record.name}=FILE"
            )
            findings.append(Finding(item, None, sentence))
        elif (sha256 := file_sha256(place)) != record.sha256:
            findings.append(Finding(item, None, f"{item}: found SHA-256 {sha256} at {place}, expected {record.sha256}"))
        else:
            candidate, wrong = _load(record, Path(place), device)
            findings += [Finding(item, False, sentence) for sentence in wrong]
            if candidate and not wrong:
                loaded[record.name] = candidate
                findings.append(Finding(item, True, f"its file has the SHA-256 of the report, {sha256}"))
    return loaded, findings


def _load(record: CandidateRecord, path: Path, device: str) -> tuple[Candidate | None, list[str]]:
    try:
        (candidate,) = load_candidates({record.name: path}, device)
    except ValueError as error:
        return None, [str(error)]
    found = {name: getattr(record, name) for name in ("architecture", "resolution", "provenance")}
    known = candidate_record(candidate)
    return candidate, list(
        differences(found, {name: getattr(known, name) for name in found}, f"candidate {record.name}")
    )
