"""Projection settings, and what a calibration demands of a run: its settings and exactly its candidates."""

from collections.abc import Sequence
from dataclasses import asdict

from attribution.calibration import Calibration
from attribution.engine import Candidate, ProjectionSettings
from attribution.projector import ProjectionConfig
from attribution.report import CandidateRecord


def projection_record(settings: ProjectionSettings) -> dict:
    """The settings that a calibration fixes, flat; the batch size is recorded but free."""
    return asdict(settings.config) | {"lpips": settings.lpips, "seed": settings.seed}


def projection_settings(
    calibration: Calibration | None,
    steps: int | None,
    lpips: str | None,
    precision: str | None,
    seed: int | None,
    batch_size: int,
) -> ProjectionSettings:
    """The calibration's settings where one is given, else those asked for; None takes the default.

    Raises ValueError for a setting that differs from the calibration's.
    """
    asked = {"steps": steps, "lpips": lpips, "precision": precision, "seed": seed}
    if calibration is None:
        config = ProjectionConfig(steps=1000 if steps is None else steps, precision=precision or "fp32")
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
    lpips, seed = values.pop("lpips"), values.pop("seed")
    return ProjectionSettings(ProjectionConfig(**values), lpips=lpips, seed=seed, batch_size=batch_size)


def require_settings(settings: ProjectionSettings, calibration: Calibration) -> None:
    """Raise ValueError naming the first projection setting in which a run differs from its calibration."""
    ours = projection_record(settings)
    for name, value in calibration.projection.items():
        if ours.get(name) != value:
            raise ValueError(f"{name}: found {ours.get(name)}, but the calibration was made with {value}")


def calibrated_order(candidates: Sequence[Candidate | CandidateRecord], calibration: Calibration | None) -> list[int]:
    """For each of the calibration's candidates, the place of ours with the same generator file.

    Matched by the SHA-256 of the file, or of the original that it was imported from. Without a calibration: our order.
    Raises ValueError that names a missing or an extra candidate.
    """
    if calibration is None:
        return list(range(len(candidates)))
    order = []
    for known in calibration.candidates:
        places = [i for i, c in enumerate(candidates) if _hashes(c) & _hashes(known)]
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


def _hashes(candidate: Candidate | CandidateRecord) -> set[str]:
    """What a candidate is known by: the SHA-256 of its file, and of the original that it was imported from."""
    original = candidate.provenance.get("original_sha256")
    return {candidate.sha256} | ({original} if isinstance(original, str) else set())
