"""Projection settings, and what a calibration demands of a run: its settings and exactly its candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from attribution.calibration import Calibration
from attribution.engine import Candidate, ProjectionSettings
from attribution.report import CandidateRecord
from attribution.schedules import PAPER_STEPS, ProjectionConfig, method_config
from attribution.stopped_search import Watch


def projection_record(settings: ProjectionSettings, encoders: Sequence[str]) -> dict:
    """The settings that a calibration fixes, flat; the batch size is recorded but free.

    encoders: SHA-256 of each candidate's encoder file, "" for none; left out where there is none at all.
    """
    searched_from = {"encoders": list(encoders)} if any(encoders) else {}
    return asdict(settings.config) | {"lpips": settings.lpips, "seed": settings.seed} | searched_from


def projection_settings(
    calibration: Calibration | None,
    method: str,
    steps: int | None,
    lpips: str | None,
    precision: str | None,
    seed: int | None,
    batch_size: int,
    encoded: bool,
) -> ProjectionSettings:
    """The calibration's settings where one is given, else those asked for; None takes the default.

    encoded: every candidate has an encoder. Raises ValueError for a setting that differs from the calibration's.
    """
    if method == "paper" and steps is None:
        steps = PAPER_STEPS
    asked = {"steps": steps, "lpips": lpips, "precision": precision, "seed": seed}
    if calibration is None:
        config = method_config(method, steps, encoded, precision or "fp32")
        return ProjectionSettings(config, lpips=lpips or "vgg", seed=seed or 0, batch_size=batch_size)
    for name, value in asked.items():
        if value is not None and value != calibration.projection[name]:
            raise ValueError(
                f"--{name}: found {value}, but the calibration was made with {calibration.projection[name]}"
            )
    return settings_of(calibration, batch_size)


def settings_of(calibration: Calibration, batch_size: int) -> ProjectionSettings:
    """The settings that a calibration was made with."""
    values = dict(calibration.projection)
    values.pop("encoders", None)
    lpips, seed = values.pop("lpips"), values.pop("seed")
    return ProjectionSettings(ProjectionConfig(**values), lpips=lpips, seed=seed, batch_size=batch_size)


def watch_for(calibration: Calibration | None, names: Sequence[str]) -> Watch:
    """Where a run looks at its searches, and which end there. names: ours, in the order of the calibration's."""
    if calibration is None or calibration.stopping is None:
        return Watch()
    rule = calibration.stopping

    def stops(place: int, distances: Mapping[str, float]) -> bool:
        return rule.stops(place, [distances[name] for name in names])

    return Watch(rule.steps, stops)


def require_settings(settings: ProjectionSettings, encoders: Sequence[str], calibration: Calibration) -> None:
    """Raise ValueError naming the first projection setting in which a run differs from its calibration.

    encoders: as in `projection_record`, in the order of the calibration's candidates.
    """
    ours = projection_record(settings, encoders)
    for name in ours | calibration.projection:
        found, known = ours.get(name), calibration.projection.get(name)
        if found != known:
            found, known = ("none" if value is None else value for value in (found, known))
            raise ValueError(f"{name}: found {found}, but the calibration was made with {known}")


def calibrated_order(candidates: Sequence[Candidate | CandidateRecord], calibration: Calibration | None) -> list[int]:
    """For each of the calibration's candidates, the place of ours with the same generator file.

    Matched by the SHA-256 of the file, or of the original that it was imported from. Without a calibration: our order.
    Raises ValueError that names a missing or an extra candidate.
    """
    if calibration is None:
        return list(range(len(candidates)))
    order = []
    for known in calibration.candidates:
        places = [i for i, c in enumerate(candidates) if c.hashes & known.hashes]
        if not places:
            raise ValueError(
                f"candidate: the calibration's {known.name} (SHA-256 {known.sha256[:12]}) is missing, "
                "expected exactly the calibration's candidates"
            )
        found = candidates[places[0]].resolution
        if found != known.resolution:
            raise ValueError(
                f"candidate: {candidates[places[0]].name} makes images of {found} pixels a side, "
                f"but the calibration says {known.resolution}"
            )
        order.append(places[0])
    for i, candidate in enumerate(candidates):
        if i not in order:
            raise ValueError(
                f"candidate: {candidate.name} (SHA-256 {candidate.sha256[:12]}) is not in the calibration, "
                "expected exactly the calibration's candidates"
            )
    return order
