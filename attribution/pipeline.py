"""The order of the work: files -> suspects -> projections -> evidence -> verdicts -> report."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

from attribution.assembly import assemble_image, run_id, stored_evidence, summarize
from attribution.calibration import Calibration
from attribution.case_directory import open_case, require_names, require_place
from attribution.controls import control_records, control_tasks
from attribution.engine import (
    SILENT,
    Candidate,
    Events,
    ProjectionSettings,
    load_candidates,
    project_missing,
)
from attribution.evidence_files import write_projection
from attribution.examination import Examination, IntakeRecord, digest_of
from attribution.intake import (
    DEFAULT_INTAKE,
    IntakeSettings,
    Suspect,
    SuspectFile,
    list_suspects,
    read_suspect,
)
from attribution.landmarks import Landmarks
from attribution.listing import json_safe
from attribution.provenance import environment, tool_version
from attribution.report import CandidateRecord, ImageReport, Report, RunRecord
from attribution.settings import calibrated_order, require_settings, watch_for
from attribution.wording import limitations, propositions
from generator.isolation import DecodingProcess

# The search amplifies rounding: kernels that add in another order, as another processor's do, moved single distances by
# .006 in the mean and .020 at most (8 projections at 64x64 in 60 steps; .013 and .073 of 40 in 40 steps), in the
# calibration as in a case. So the controls can show that something is grossly wrong, such as other pixels or weights.
CONTROLS_TOLERANCE = 0.15


@dataclass(frozen=True)
class CaseLabels:
    """What the examiner writes on the report; blank where not given."""

    case: str = ""
    exhibit: str = ""
    examiner: str = ""


BLANK = CaseLabels()


def attribute(
    paths: Sequence[str | Path],
    candidate_files: Mapping[str, Path],
    out: Path,
    *,
    settings: ProjectionSettings,
    calibration: Calibration | None = None,
    shape: str = "refuse",
    landmarks: Landmarks | None = None,
    intake: IntakeSettings = DEFAULT_INTAKE,
    device: str = "cpu",
    labels: CaseLabels = BLANK,
    command: Sequence[str] = (),
    truths: Mapping[str, str] | None = None,
    events: Events = SILENT,
    encoders: Mapping[str, Path] | None = None,
    full: bool = False,
) -> Report:
    """Examine every image of `paths` (files, folders, zips) against the candidates; fill the case directory `out`.

    What was projected stays done if the process is killed: the same call goes on and gives the same report. `out` is
    new, empty, or holds that run; it may lie among the suspects, whom its content never joins.
    Files are decoded in a process of their own, so that one which ends its decoder ends nothing else.
    settings: must be the calibration's where one is given. shape: "refuse", "crop" or "letterbox" for images that are
    not square, or "landmarks": faces are cut out by `landmarks`. truths: known origin by file name, for the report.
    encoders: by the name of the candidate whose searches begin there. full: no search ends before all its steps, and
    the calibration is that of such searches. Raises ValueError for wrong usage, before any projection.
    """
    require_names(candidate_files)
    require_place(out)
    candidates = load_candidates(candidate_files, device, encoders)
    names = [c.name for c in candidates]
    order = calibrated_order(candidates, calibration)
    if calibration is not None and full:
        calibration = calibration.without_stopping()
    if calibration is not None:
        require_settings(settings, [candidates[i].encoder_sha256 for i in order], calibration)
    files = _listed(paths, out, intake)
    recorded = asdict(settings) | {
        "candidates": {c.name: c.sha256 for c in candidates},
        "encoders": {c.name: c.encoder_sha256 for c in candidates if c.encoder},
        "calibration": calibration.id if calibration else None,
        "shape": shape,
        "full": full,
        "intake": asdict(intake),
        "paths": [json_safe(str(path)) for path in paths],
        "labels": {name: json_safe(text) for name, text in asdict(labels).items()},
        "device": device,
    }
    points: dict[str, Any] = {}
    if landmarks:
        points = landmarks.by_file([file.path for file in files])
        recorded["landmarks"] = landmarks.sha256
    version, libraries = tool_version(), environment(device)
    with open_case(out, recorded, {"latentprint": version} | libraries) as store, DecodingProcess() as decoding:

        def read(file: SuspectFile) -> Suspect:
            suspect = read_suspect(file, intake.limits, intake.frame, decoding.decode)
            return replace(suspect, landmarks=points.get(file.path))

        if calibration is not None:
            calibration.save(out / "calibration.json")
        started = store.first("run", "started", _now())
        records: list[IntakeRecord] = []
        examination = Examination(files, tuple(c.resolution for c in candidates), shape, read)
        if landmarks:
            examination.require_one_face(calibration)
        before = control_tasks(calibration)
        project_missing(
            chain(before, examination.tasks(records, {task.key for task in before})),
            len(before) + len(files),
            candidates,
            settings,
            store,
            lambda c, task, target, projection: write_projection(out, task.key, target, c, projection),
            events,
            watch_for(calibration, [names[place] for place in order]),
        )
        controls = control_records(calibration, candidates, order, store)
        holds = None if controls is None else all(c.drift <= CONTROLS_TOLERANCE for c in controls)
        images = []
        for r in records:
            rows, truth = stored_evidence(r.suspect, names, store), _truth(r.suspect, truths)
            images.append(assemble_image(r.suspect, r.strata, names, order, calibration, rows, holds, truth))
        run = RunRecord(
            id=run_id(started, [(r.suspect.path, r.suspect.sha256) for r in records], recorded),
            tool_version=version,
            started=started,
            finished=store.first("finished", digest_of(records), _now()),
            **recorded["labels"],
            command=store.first("run", "command", [json_safe(word) for word in command]),
            settings=recorded,
            seed=settings.seed,
            device=device,
            environment=libraries,
            controls=controls,
            controls_tolerance=CONTROLS_TOLERANCE,
            controls_hold=holds,
            generators=store.first("run", "generators", _places(candidates)),
        )
    return _report(run, candidates, calibration, images)


def _listed(paths: Sequence[str | Path], out: Path, intake: IntakeSettings) -> list[SuspectFile]:
    """The files to examine. Raises ValueError where there is none, or more than may be."""
    files = list(islice(list_suspects(paths, out, intake.recursive), intake.max_files + 1))
    if 0 < len(files) <= intake.max_files:
        return files
    named = ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    found = f"more than {intake.max_files:,} files, expected at most that, or a larger --max-files"
    raise ValueError(f"{named}: found {found if files else 'no files, expected at least one image'}")


def _report(
    run: RunRecord, candidates: Sequence[Candidate], calibration: Calibration | None, images: list[ImageReport]
) -> Report:
    names, others = [c.name for c in candidates], calibration.other_names if calibration else []
    return Report(
        run=run,
        candidates=[candidate_record(c) for c in candidates],
        calibration=calibration.public_summary() if calibration else None,
        images=images,
        summary=summarize(images, names),
        propositions=propositions(names, others),
        limitations=limitations(calibration),
    )


def _truth(suspect: Suspect, truths: Mapping[str, str] | None) -> str | None:
    return truths.get(suspect.path.rsplit("/", 1)[-1]) if truths else None


def _places(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Where the candidates' files lie."""
    return {c.name: json_safe(os.path.abspath(c.path)) for c in candidates}


def candidate_record(candidate: Candidate) -> CandidateRecord:
    """What reports and calibrations say of a candidate."""
    G = candidate.generator
    return CandidateRecord(candidate.name, candidate.sha256, G.architecture, G.resolution, candidate.provenance)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
