"""Project one image into one generator, without calibration or verdict."""

from pathlib import Path

from attribution.engine import SILENT, Events, ProjectionSettings, ProjectionTask, load_candidates, project_batch
from attribution.evidence_files import write_projection
from attribution.intake import SuspectFile, prepare_target, read_suspect
from attribution.listing import json_safe
from generator import LPIPS
from generator.isolation import DecodingProcess


def project_file(
    image: Path,
    generator: Path,
    out: Path,
    settings: ProjectionSettings,
    device: str = "cpu",
    events: Events = SILENT,
    encoder: Path | None = None,
) -> dict:
    """Write projection, target, re-synthesis and difference below `out`; return the numbers and paths.

    Raises ValueError for an image that can't be read or is not square, or a projection that is not finite.
    """
    (candidate,) = load_candidates({"generator": generator}, device, {"generator": encoder} if encoder else None)
    if not image.is_file():
        raise ValueError(f"{image}: no such file, expected an image")
    with DecodingProcess() as decoding:
        suspect = read_suspect(SuspectFile(json_safe(str(image)), str(image)), decode=decoding.decode)
    if suspect.error:
        raise ValueError(f"{image}: {suspect.error.message}")
    target = prepare_target(suspect, candidate.generator.resolution, "refuse")
    for folder in ("projections", "images"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    lpips = LPIPS(settings.lpips).to(candidate.generator.mapping.w_avg.device)
    task = ProjectionTask(str(suspect.pixels_sha256), lambda resolution: target.pixels)
    events.on_total(settings.config.steps)
    ((_, pixels, projection),) = project_batch([task], candidate, settings, lpips, events.on_step)
    record = write_projection(out, task.key, pixels, candidate, projection)
    if "failed" in record:
        raise ValueError(f"{image}: its projection is not finite, expected a number")
    return record
