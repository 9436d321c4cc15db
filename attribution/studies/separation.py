"""How far a candidate's own images lie from real ones and from a sibling's (StyleGAN2, Figures 9 and 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from attribution.calibrating import target_of
from attribution.calibration import Calibration
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
from attribution.evidence_files import noise_autocorrelation
from attribution.population import ChosenImage, generate_units, read_units
from attribution.projector import Projection
from attribution.scores import one_per_source
from attribution.settings import calibrated_order, projection_record, watch_for
from attribution.stopped_search import Watch
from attribution.store import RunStore
from attribution.threshold import auc
from generator.imagesets import open_image_set

BOOTSTRAPS = 2000
QUANTILES = (2.5, 97.5)


@dataclass(frozen=True)
class SeparationUnit:
    """One image of the study: its class ("real" or a candidate's name), source, and distance to each candidate.

    Distances are those by which the image is judged: expected ones, where its searches ended early.
    steps: how many its searches took.
    """

    truth: str
    name: str
    source: str
    distances: dict[str, float]
    noise_autocorrelation: float
    verdict: str | None
    steps: int


@dataclass(frozen=True)
class Separation:
    """AUC of one class against another by distance to candidate A, with a 95 % bootstrap interval over sources."""

    positive: str
    negative: str
    n_positive: int
    n_negative: int
    auc: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class SeparationStudy:
    """The study's table. verdicts: code by truth, None where the settings are not the calibration's."""

    candidate: str
    settings: dict
    units: tuple[SeparationUnit, ...]
    separations: tuple[Separation, ...]
    verdicts: dict[str, dict[str, int]] | None

    def means(self) -> list[tuple[str, float, float, float]]:
        """(class, mean distance to A, mean noise autocorrelation, mean steps) of each class."""
        rows = []
        for truth in dict.fromkeys(unit.truth for unit in self.units):
            units = [unit for unit in self.units if unit.truth == truth]
            distance = float(np.mean([u.distances[self.candidate] for u in units]))
            autocorrelation = float(np.mean([u.noise_autocorrelation for u in units]))
            rows.append((truth, distance, autocorrelation, float(np.mean([u.steps for u in units]))))
        return rows


def study_separation(
    candidate_files: Mapping[str, Path],
    calibration: Calibration,
    real: Path,
    splits: Sequence[str],
    settings: ProjectionSettings,
    store_path: Path,
    units: int = 64,
    events: Events = SILENT,
    encoders: Mapping[str, Path] | None = None,
    full: bool = False,
) -> SeparationStudy:
    """Project `units` fresh images per class into the candidates; the first candidate is A.

    Generated images have seeds that no calibration used; real ones are one seeded image for each validation source.
    With settings other than the calibration's only A is projected into, and there are no verdicts. full: no search ends
    early, and verdicts are by the calibration of such searches. A killed study goes on from store_path. Raises
    ValueError for too few validation sources, or unknown candidates.
    """
    candidates = load_candidates(candidate_files, encoders=encoders)
    calibration = calibration.without_stopping() if full else calibration
    searches = projection_record(settings, [c.encoder_sha256 for c in candidates])
    with_verdicts = len(candidates) == len(calibration.candidates) and (searches == calibration.projection)
    into = candidates if with_verdicts else candidates[:1]
    classes = {c.name: generate_units(c, units, 1.0, f"separation:{settings.seed}") for c in candidates}
    classes["real"] = _validation_reals(
        calibration, real, splits, units, settings.seed, candidates[0].generator.resolution
    )
    recorded = {
        "projection": searches,
        "candidates": {c.name: c.sha256 for c in candidates},
        "full": full,
    }
    with RunStore(store_path, recorded | {"units": units, "batch_size": settings.batch_size}) as store:
        known = calibrated_order(candidates, calibration) if with_verdicts else []
        watch = watch_for(calibration if with_verdicts else None, [candidates[place].name for place in known])
        _project(classes, into, settings, store, events, watch)
        rows = [
            _unit(truth, image, into, calibration if with_verdicts else None, store)
            for truth, images in classes.items()
            for image in images
        ]
    first = candidates[0].name
    others = [name for name in classes if name != first]
    return SeparationStudy(
        candidate=first,
        settings=asdict(settings),
        units=tuple(rows),
        separations=tuple(
            _separate(rows, first, other, settings.seed) for other in sorted(others, key=lambda n: n != "real")
        ),
        verdicts=_count_verdicts(rows) if with_verdicts else None,
    )


def _validation_reals(
    calibration: Calibration, real: Path, splits: Sequence[str], units: int, seed: int, resolution: int
) -> list[ChosenImage]:
    images = open_image_set(real, splits, str(calibration.population.get("source_column", "source")))
    sources = {unit.source for unit in calibration.scores["validation"].real}
    records = one_per_source([r for r in images.records if r.source in sources], seed + 1)
    if len(records) < units:
        raise ValueError(f"units: found {len(records)} validation sources in {real}, expected at least {units}")
    chosen = np.random.default_rng([seed, 7]).permutation(len(records))[:units]
    return read_units(images, [records[i] for i in sorted(chosen)], resolution)


def _project(
    classes: Mapping[str, Sequence[ChosenImage]],
    into: Sequence[Candidate],
    settings: ProjectionSettings,
    store: RunStore,
    events: Events,
    watch: Watch,
) -> None:
    everything = [image for images in classes.values() for image in images]
    tasks = [ProjectionTask(str(i.suspect.pixels_sha256), target_of(i.suspect)) for i in everything]

    def to_record(_: Candidate, task: ProjectionTask, target: np.ndarray, projection: Projection) -> dict:
        autocorrelation = noise_autocorrelation(projection)
        return {"lpips": projection.lpips, "autocorrelation": autocorrelation, "steps": projection.steps}

    project_missing(tasks, len(tasks), into, settings, store, to_record, events, watch)


def _unit(
    truth: str, image: ChosenImage, into: Sequence[Candidate], calibration: Calibration | None, store: RunStore
) -> SeparationUnit:
    key = str(image.suspect.pixels_sha256)
    records = {c.name: projection_of(store, key, c.name) or {} for c in into}
    distances = {name: record["lpips"] for name, record in records.items()}
    verdict = None
    if calibration is not None:
        by_hash = {c.sha256: c.name for c in into}
        known = [by_hash[candidate.sha256] for candidate in calibration.candidates]
        judged = calibration.judged([distances[name] for name in known], records[known[0]]["steps"])
        distances = dict(zip(known, judged, strict=True))
        verdict = calibration.decide(judged).code
    first = records[into[0].name]
    return SeparationUnit(truth, image.name, image.source, distances, first["autocorrelation"], verdict, first["steps"])


def _separate(rows: Sequence[SeparationUnit], candidate: str, other: str, seed: int) -> Separation:
    """AUC with its interval; every unit has a source of its own, so that resampling units resamples sources."""
    positive = np.array([-r.distances[candidate] for r in rows if r.truth == candidate])
    negative = np.array([-r.distances[candidate] for r in rows if r.truth == other])
    rng = np.random.default_rng([seed, 11])
    draws = [auc(rng.choice(positive, len(positive)), rng.choice(negative, len(negative))) for _ in range(BOOTSTRAPS)]
    low, high = np.percentile(draws, QUANTILES)
    return Separation(
        candidate, other, len(positive), len(negative), auc(positive, negative), (float(low), float(high))
    )


def _count_verdicts(rows: Sequence[SeparationUnit]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = table.setdefault(row.truth, {})
        code = str(row.verdict)
        counts[code] = counts.get(code, 0) + 1
    return table
