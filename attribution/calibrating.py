"""Make a calibration: choose images, project them into every candidate, fit, validate."""

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from attribution.calibration import Calibration, Control, DecisionSettings, fit_calibration
from attribution.calibration_checks import require_classes
from attribution.calibration_json import normal_json
from attribution.calibration_reader import read_candidates
from attribution.case_directory import require_names
from attribution.engine import (
    SILENT,
    Candidate,
    Events,
    ProjectionSettings,
    ProjectionTask,
    load_candidates,
    project_missing,
    projection_of,
)
from attribution.intake import Suspect, prepare_target
from attribution.listing import json_safe
from attribution.pipeline import candidate_record
from attribution.population import LOSSLESS, PARTS, Choice, ChosenImage, Population, choose
from attribution.projector import Projection
from attribution.provenance import tool_version
from attribution.scores import ScoreSet, Unit
from attribution.settings import projection_record
from attribution.stopped_search import Watch
from attribution.store import RunStore
from attribution.threshold import umbrella_order
from generator.images import encode_png


def calibrate(
    candidate_files: Mapping[str, Path],
    population: Population,
    decision: DecisionSettings,
    settings: ProjectionSettings,
    out: Path,
    device: str = "cpu",
    events: Events = SILENT,
    encoders: Mapping[str, Path] | None = None,
    stopping: bool = True,
) -> Calibration:
    """Write a calibration file. Killed, the same call goes on from OUT.run.sqlite, which goes when the file is there.

    stopping: with a rule by which searches end early, where one holds. encoders: by the name of the candidate whose
    searches begin there. Raises ValueError, before anything is projected, for too few real sources, images that can't
    be used (see `population.choose`), wrong candidates, or an `out` that can't be written.
    """
    _require_writable(out)
    _require_distinct([*candidate_files, *population.other])
    candidates = load_candidates(candidate_files, device, encoders)
    records = [candidate_record(c) for c in candidates]
    read_candidates(normal_json({"candidates": [asdict(record) for record in records]}, "candidates")["candidates"])
    choice = choose(candidates, population, decision, settings.seed)
    _require_enough(choice, candidates, decision)
    controls = _control_images(choice.images["calibration"], candidates, population.control_splits)
    store_path = out.with_name(out.name + ".run.sqlite")
    checkpoints = settings.config.checkpoints if stopping else ()
    recorded = {
        "checkpoints": checkpoints,
        "projection": projection_record(settings, [c.encoder_sha256 for c in candidates]),
        "batch_size": settings.batch_size,
        "candidates": {c.name: c.sha256 for c in candidates},
    }
    with RunStore(store_path, recorded) as store:
        everything = [image for part in choice.images.values() for images in part.values() for image in images]
        _project(everything, candidates, settings, store, events, checkpoints)
        measured = partial(_measured, store)
        calibration = fit_calibration(
            records,
            _score_set(choice.images["calibration"], candidates, measured),
            _score_set(choice.images["validation"], candidates, measured),
            decision,
            projection=projection_record(settings, [c.encoder_sha256 for c in candidates]),
            population=_describe(population, choice, settings.seed),
            strata=[LOSSLESS.to_json()],
            controls=[_control(kind, image, candidates, measured) for kind, image in controls],
            tool_version=tool_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=settings.seed,
            checkpoints=checkpoints,
        )
        calibration.save(out)
    for leftover in out.parent.glob(store_path.name + "*"):
        leftover.unlink()
    return calibration


def _describe(population: Population, choice: Choice, seed: int) -> dict:
    record = asdict(population)
    record["real"] = json_safe(population.real.name)
    for kind in ("generated", "other"):
        record[kind] = {name: json_safe(path.name) for name, path in getattr(population, kind).items()}
    record |= {"seed": seed, "validation": choice.validation, "merged_sources": choice.merged}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in record.items()}


def _require_enough(choice: Choice, candidates: Sequence[Candidate], decision: DecisionSettings) -> None:
    """Raise what `fit_calibration` would raise for the chosen images, whatever their distances."""
    one, another = (_score_set(choice.images[part], candidates, _not_measured) for part in PARTS)
    require_classes([c.name for c in candidates], one, another)
    umbrella_order(len(one.real), decision.alpha, decision.delta)


def _require_writable(out: Path) -> None:
    if not out.parent.is_dir():
        raise ValueError(f"--out: found no folder {out.parent}, expected an existing one for {out.name}")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise ValueError(f"--out: found that {out} can't be written, expected a file in a writable folder")


def _require_distinct(names: Sequence[str]) -> None:
    require_names(names)
    if "real" in names:
        raise ValueError("real: found the name of the real images, expected another for a generator")


def _project(
    images: Sequence[ChosenImage],
    candidates: Sequence[Candidate],
    settings: ProjectionSettings,
    store: RunStore,
    events: Events,
    checkpoints: tuple[int, ...],
) -> None:
    unique = {str(image.suspect.pixels_sha256): image.suspect for image in images}
    tasks = [ProjectionTask(key, target_of(suspect)) for key, suspect in unique.items()]

    def to_record(candidate: Candidate, task: ProjectionTask, _: np.ndarray, projection: Projection) -> dict:
        if not np.isfinite(projection.lpips):
            raise ValueError(f"{task.key[:12]}: its projection into {candidate.name} is not finite, expected a number")
        return {"lpips": projection.lpips, "checkpoints": [distance for _, distance in projection.checkpoints]}

    project_missing(tasks, len(tasks), candidates, settings, store, to_record, events, Watch(checkpoints))


def target_of(suspect: Suspect) -> Callable[[int], np.ndarray]:
    """The suspect's target pixels as a function of the resolution."""
    return lambda resolution: prepare_target(suspect, resolution, "refuse").pixels


@dataclass(frozen=True)
class _Distances:
    """Of an image to a candidate: at each checkpoint, and after all steps."""

    checkpoints: tuple[float, ...]
    full: float


Measure = Callable[[str, Candidate], _Distances]  # of an image, by its pixel hash, to a candidate


def _score_set(
    chosen: Mapping[str, Sequence[ChosenImage]], candidates: Sequence[Candidate], measure: Measure
) -> ScoreSet:
    """The units of one part."""

    def units(kind: str) -> tuple[Unit, ...]:
        rows = []
        for image in chosen[kind]:
            key = str(image.suspect.pixels_sha256)
            found = [measure(key, c) for c in candidates]
            full = tuple(d.full for d in found)
            early = tuple(zip(*(d.checkpoints for d in found), strict=True))
            rows.append(Unit(image.name, image.source, image.split, key, full, early, full))
        return tuple(rows)

    others = {kind.removeprefix("other:"): units(kind) for kind in chosen if kind.startswith("other:")}
    return ScoreSet(units("real"), tuple(units(f"generated:{c.name}") for c in candidates), others)


def _not_measured(key: str, candidate: Candidate) -> _Distances:
    return _Distances((), 0.0)


def _measured(store: RunStore, key: str, candidate: Candidate) -> _Distances:
    record = projection_of(store, key, candidate.name)
    assert record is not None  # everything chosen was projected
    return _Distances(tuple(record["checkpoints"]), record["lpips"])


def _control_images(
    chosen: Mapping[str, Sequence[ChosenImage]], candidates: Sequence[Candidate], splits: Sequence[str]
) -> list[tuple[str, ChosenImage]]:
    """Two generated and two real images with their kinds, the first of each in the seeded order.

    Raises ValueError where the splits that real ones may come from have fewer than two.
    """
    generated = [image for c in candidates for image in chosen[f"generated:{c.name}"][:2]]
    generated = generated[:: len(generated) // 2][:2]  # one of each of the first two candidates, or two of a single one
    generated = list({image.suspect.pixels_sha256: image for image in generated}.values())
    allowed = [i for i in chosen["real"] if not splits or i.split in splits]
    if len(allowed) < 2:
        raise ValueError(f"--control-split: found {len(allowed)} calibration images in it, expected at least 2")
    return [("generated", image) for image in generated] + [("real", image) for image in allowed[:2]]


def _control(kind: str, image: ChosenImage, candidates: Sequence[Candidate], measure: Measure) -> Control:
    assert image.suspect.pixels is not None
    png = base64.b64encode(encode_png(image.suspect.pixels)).decode()
    key = str(image.suspect.pixels_sha256)
    found = {c.name: measure(key, c) for c in candidates}
    distances, early = {n: d.full for n, d in found.items()}, {n: list(d.checkpoints) for n, d in found.items()}
    return Control(kind, image.name, png, key, distances, early)
