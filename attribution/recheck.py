"""Recheck a case: make every number of its report again from the stored searches and the calibration, and compare."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from attribution.assembly import assemble_image, run_id, summarize
from attribution.calibration import Calibration
from attribution.calibration_json import normal_json
from attribution.case_directory import evidence_paths
from attribution.engine import SILENT, Candidate, Events, ProjectionSettings
from attribution.findings import DISTANCE_TOLERANCE, Finding, differences, shown
from attribution.intake import Stratum, Suspect
from attribution.pipeline import CONTROLS_TOLERANCE
from attribution.projector import image_seed
from attribution.recheck_files import Claim, Remade, remake
from attribution.report import CandidateEvidence, CandidateRecord, ControlRecord, ImageReport, Report
from attribution.schedules import ProjectionConfig
from attribution.settings import calibrated_order, require_settings
from attribution.verdict import OUT_OF_SCOPE
from attribution.wording import limitations, propositions
from generator.containers import ImageError
from generator.squares import square_side

NUMBERS = ("lpips", "lpips_start", "mse", "ssim")
FAILED = -1.0  # the distance of a control whose projection failed
_STRATUM = re.compile(r"(png|jpeg|webp|avif|heif)(?: q(\d{1,3}))?, scale [0-9.e+-]+")
_CODECS = {"PNG": "png", "BMP": "png", "GIF": "png", "JPEG": "jpeg", "MPO": "jpeg", "AVIF": "avif", "HEIF": "heif"}
Again = Mapping[tuple[str, str], Remade]


@dataclass(frozen=True)
class CaseFacts:
    """A case's report with what it is judged by. calibration: the case's copy, None where there is none that holds."""

    report: Report
    settings: ProjectionSettings
    shape: str
    calibration: Calibration | None
    order: Sequence[int]

    @property
    def names(self) -> list[str]:
        """The candidates' names in the report."""
        return [candidate.name for candidate in self.report.candidates]

    @property
    def lacks_calibration(self) -> bool:
        """Whether the report rests on a calibration that is not at hand."""
        return self.report.calibration is not None and self.calibration is None


def recheck(
    case: Path,
    report: Report,
    candidates: Mapping[str, Candidate],
    calibration: Calibration | None,
    events: Events = SILENT,
) -> list[Finding]:
    """What holds of a report, image by image, control by control, and as a whole.

    candidates: the report's by name, those whose file is at hand; calibration: the case's copy.
    """
    try:
        facts = _facts(report, calibration)
    except ValueError as error:
        return [Finding("report.json", False, str(error)), *_unchecked(report)]
    again = remake(case, list(_claims(report)), candidates, facts.settings.lpips, events)
    findings = _verdict_of("report.json", list(_report_problems(facts)), [], "summary, propositions, limitations hold")
    for place, image in enumerate(report.images):
        findings += _check_image(place, image, facts, again)
    for place in range(max(len(report.run.controls or []), len(calibration.controls if calibration else []))):
        findings += _check_control(place, facts, again)
    return findings


def _unchecked(report: Report) -> Iterator[Finding]:
    """Every image and control, where the run's settings don't allow to check them."""
    items = [f"images[{place}] {image.path}" for place, image in enumerate(report.images)]
    items += [f"run.controls[{place}]" for place in range(len(report.run.controls or []))]
    for item in items:
        yield Finding(item, None, f"{item}: was not checked, because run.settings does not hold")


def _facts(report: Report, calibration: Calibration | None) -> CaseFacts:
    """Raises ValueError where the report's settings are none, or none of the calibration's."""
    recorded = report.run.settings
    try:
        config = ProjectionConfig(**recorded["config"])
        settings = ProjectionSettings(config, recorded["lpips"], recorded["seed"], recorded["batch_size"])
        shape, encoders = recorded["shape"], dict(recorded["encoders"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"run.settings: found none of a run ({error}), expected those of `attribute`") from error
    order = calibrated_order(report.candidates, calibration)
    if calibration:
        require_settings(settings, [encoders.get(report.candidates[i].name, "") for i in order], calibration)
    return CaseFacts(report, settings, shape, calibration, order)


def _verdict_of(item: str, problems: list[str], unchecked: list[str], otherwise: str) -> list[Finding]:
    """One finding for each problem and each thing unchecked; with none of them, one that all holds."""
    wrong = [Finding(item, False, problem) for problem in problems]
    open_ = [Finding(item, None, sentence) for sentence in unchecked]
    return wrong + open_ or [Finding(item, True, otherwise)]


def _claims(report: Report) -> Iterator[Claim]:
    for image in report.images:
        for row in image.candidates:
            yield Claim(str(image.pixels_sha256), row.name, row.target_sha256, row.seed, row.projection_sha256)
    for control in report.run.controls or []:
        seed = image_seed(report.run.seed, control.pixels_sha256)
        for name, distance in control.distances.items():
            if distance != FAILED:
                yield Claim(control.pixels_sha256, name, control.pixels_sha256, seed)


def _report_problems(facts: CaseFacts) -> Iterator[str]:
    """What does not follow from the rest of the report, or from the calibration."""
    report, run, calibration = facts.report, facts.report.run, facts.calibration
    settings = run.settings
    files = [(image.path, image.sha256) for image in report.images]
    labels = {name: getattr(run, name) for name in ("case", "exhibit", "examiner")}
    yield from differences(run.id, run_id(run.started, files, settings), "run.id")
    yield from differences(labels, settings.get("labels"), "run")
    yield from differences([run.seed, run.device], [settings["seed"], settings.get("device")], "run.seed and device")
    yield from differences(run.controls_tolerance, CONTROLS_TOLERANCE, "run.controls_tolerance")
    yield from differences(
        {c.name: c.sha256 for c in report.candidates}, settings.get("candidates"), "run.settings.candidates"
    )
    yield from differences(report.summary, summarize(report.images, facts.names), "summary")
    if facts.lacks_calibration:
        return
    others = calibration.other_names if calibration else []
    content = normal_json(calibration.public_summary(), "calibration") if calibration else None
    hold = None if run.controls is None else all(c.drift <= CONTROLS_TOLERANCE for c in run.controls)
    yield from differences(run.controls_hold, hold, "run.controls_hold")
    yield from differences(report.calibration, content, "calibration")
    yield from differences(settings.get("calibration"), calibration.id if calibration else None, "settings.calibration")
    yield from differences(report.propositions, propositions(facts.names, others), "propositions")
    yield from differences(report.limitations, limitations(calibration), "limitations")


def _check_image(place: int, image: ImageReport, facts: CaseFacts, again: Again) -> list[Finding]:
    where, key = f"images[{place}]", str(image.pixels_sha256)
    records = {c.name: c for c in facts.report.candidates}
    problems, unchecked, deviations, levels = [], [], [0.0], [0]
    for j, row in enumerate(image.candidates):
        here = f"{where}.candidates[{j}]"
        if row.name not in records:
            problems.append(f"{here}.name: found {row.name}, expected one of {', '.join(records)}")
            continue
        problems += _row_problems(row, image, records[row.name], facts, here)
        if (made := again.get((key, row.name))) is None:
            unchecked.append(f"{here}: was not rendered again, because the file of {row.name} is not at hand")
            continue
        problems += made.problems
        if made.measured:
            problems += _number_problems(asdict(row), asdict(made.measured), here)
            deviations.append(abs(row.lpips - made.measured.lpips))
            levels.append(made.largest_level)
    if facts.lacks_calibration:
        unchecked.append(f"{where}: its evidence was not computed again, because calibration.json does not hold")
    elif not problems:
        problems += _evidence_problems(image, facts, again, where)
    otherwise = f"{image.verdict.code} follows again" if facts.calibration else "holds"
    if image.candidates and not unchecked:
        otherwise += f"; re-rendered, LPIPS within {max(deviations):.1g}, pixels within {max(levels)} levels"
    return _verdict_of(f"{where} {image.path}", problems, unchecked, otherwise)


def _row_problems(
    row: CandidateEvidence, image: ImageReport, record: CandidateRecord, facts: CaseFacts, here: str
) -> Iterator[str]:
    """What of a row follows from the image, the candidate and the settings."""
    key, resolution = str(image.pixels_sha256), record.resolution
    expected: dict[str, Any] = {
        **evidence_paths(key, row.name, resolution),
        "seed": image_seed(facts.report.run.seed, key),
        "steps": image.stopping.steps if image.stopping else facts.settings.config.steps,
    }
    whole = (image.width, image.height) == (resolution, resolution)
    if whole and facts.shape != "landmarks":  # then nothing was cropped or resized
        expected["target_sha256"] = key
    if image.stopping and row.checkpoints and row.checkpoints[-1][0] == row.steps:
        yield from differences(row.lpips, row.checkpoints[-1][1], f"{here}.lpips")
    found = asdict(row)
    yield from differences({name: found[name] for name in expected}, expected, here)
    if abs(sum(row.lpips_per_layer) - row.lpips) > DISTANCE_TOLERANCE:
        total = shown(sum(row.lpips_per_layer))
        yield f"{here}.lpips: found {shown(row.lpips)}, expected the sum of its layers, {total}"


def _number_problems(found: Mapping[str, Any], measured: Mapping[str, Any], here: str) -> Iterator[str]:
    """Numbers that the re-rendering does not give within the tolerance."""
    pairs = [(name, found[name], measured[name]) for name in NUMBERS]
    layers, expected = found["lpips_per_layer"], measured["lpips_per_layer"]
    if len(layers) != len(expected):
        yield f"{here}.lpips_per_layer: found {len(layers)} layers, expected {len(expected)}"
    else:
        pairs += [(f"lpips_per_layer[{i}]", *pair) for i, pair in enumerate(zip(layers, expected, strict=True))]
    for name, value, other in pairs:
        if not abs(value - other) <= DISTANCE_TOLERANCE:
            yield f"{here}.{name}: found {shown(value)}, expected {shown(other)} as re-rendered"


def _evidence_problems(image: ImageReport, facts: CaseFacts, again: Again, where: str) -> Iterator[str]:
    """What of an image does not follow from its distances by the calibration; then by the re-rendered distances."""
    known = [name for name in facts.names if any(row.name == name for row in image.candidates)]
    if known != [row.name for row in image.candidates]:
        yield f"{where}.candidates: found {[row.name for row in image.candidates]}, expected {known}"
        return
    try:
        suspect, strata = _suspect(image, facts)
    except ValueError as error:
        yield f"{where}.{error}"
        return
    examined = [] if suspect.refusal or suspect.error else image.candidates
    rows = {row.name: _without_ratios(row) for row in examined}

    def assemble(rows: Mapping[str, CandidateEvidence]) -> ImageReport:
        hold = facts.report.run.controls_hold
        return assemble_image(suspect, strata, facts.names, facts.order, facts.calibration, rows, hold, image.truth)

    yield from differences(asdict(image), asdict(assemble(rows)), where)
    measured = {name: again.get((str(image.pixels_sha256), name), Remade()).measured for name in rows}
    remade = {name: replace(rows[name], lpips=m.lpips, lpips_start=m.lpips_start) for name, m in measured.items() if m}
    if len(remade) == len(rows) and (code := assemble(remade).verdict.code) != image.verdict.code:
        yield f"{where}.verdict.code: found {image.verdict.code}, expected {code} from the re-rendered distances"


def _without_ratios(row: CandidateEvidence) -> CandidateEvidence:
    return replace(
        row, p_value_generated=None, log10_lr_unbounded=None, log10_lr=None, log10_lr_bounds=None, lpips_expected=None
    )


def _suspect(image: ImageReport, facts: CaseFacts) -> tuple[Suspect, list[Stratum]]:
    """The suspect and its strata as intake had them, from what the report says. Raises ValueError for a wrong field."""
    suspect = Suspect(
        image.path, image.sha256, image.pixels_sha256, image.width, image.height, image.format,
        intake=tuple(image.intake), error=image.error, facts=image.facts,
    )  # fmt: skip
    if image.error:
        return suspect, []
    if image.width is None or image.height is None or image.pixels_sha256 is None:
        raise ValueError("width, height, pixels_sha256: found null, expected those of an image that was decoded")
    try:
        side = _side(image, facts.shape)
    except ImageError as refusal:
        return replace(suspect, refusal=refusal.message), []
    match = _STRATUM.fullmatch(image.stratum or "")
    if not match or match[1] != _CODECS.get(str(image.format), match[1]):
        raise ValueError(f"stratum: found {image.stratum!r}, expected that of a {image.format} file")
    quality = int(match[2]) if match[2] else None
    return suspect, [Stratum(match[1], quality, side / c.resolution) for c in facts.report.candidates]


def _side(image: ImageReport, shape: str) -> float:
    """The side of the square before resizing. Raises ImageError where the image was refused for having none.

    The landmarks are not in the case: a face's crop is taken from the record of it, and a refusal from its statement.
    """
    if shape != "landmarks":
        return square_side(int(image.width or 0), int(image.height or 0), shape)
    sizes = [step.get("size") for step in image.intake if step.get("step") == "align_face"]
    if not sizes:
        raise ImageError("refused", image.verdict.statement.removeprefix(OUT_OF_SCOPE).removesuffix("."))
    if isinstance(sizes[0], bool) or not isinstance(sizes[0], int | float):
        raise ValueError(f"intake: found align_face with size {sizes[0]!r}, expected a number")
    return float(sizes[0])


def _check_control(place: int, facts: CaseFacts, again: Again) -> list[Finding]:
    where = f"run.controls[{place}]"
    if facts.calibration is None:
        return [Finding(where, None, f"{where}: was not checked, because calibration.json does not hold")]
    controls, known = facts.report.run.controls or [], facts.calibration.controls
    if place >= min(len(controls), len(known)):
        return [Finding(where, False, f"run.controls: found {len(controls)}, expected the calibration's {len(known)}")]
    control, calibrated = controls[place], known[place]
    names = dict(zip((facts.names[i] for i in facts.order), facts.calibration.names, strict=True))
    rule, steps = facts.calibration.stopping, facts.settings.config.steps
    steps = control.steps if rule and control.steps in rule.steps else steps
    then = {name: facts.calibration.control_distance(calibrated, own, steps) for name, own in names.items()}
    expected = ControlRecord(
        kind=calibrated.kind,
        pixels_sha256=calibrated.pixels_sha256,
        distances={name: control.distances.get(name, FAILED) for name in names},
        calibrated=then,
        drift=max(abs(control.distances.get(name, FAILED) - then[name]) for name in names),
        steps=steps,
    )
    problems = list(differences(asdict(control), asdict(expected), where))
    unchecked = []
    for name, distance in control.distances.items():
        made = again.get((control.pixels_sha256, name))
        if distance != FAILED and made is None:
            unchecked.append(f"{where}: was not rendered again, because the file of {name} is not at hand")
        elif made:
            problems += made.problems
            if made.measured and not abs(made.measured.lpips - distance) <= DISTANCE_TOLERANCE:
                again_text = f"expected {shown(made.measured.lpips)} as re-rendered"
                problems.append(f"{where}.distances.{name}: found {shown(distance)}, {again_text}")
    return _verdict_of(where, problems, unchecked, "its pixels are the calibration's; re-rendered, its distances hold")
