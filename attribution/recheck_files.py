"""What a case directory holds of each projection, rendered again: do files, numbers and pictures agree?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attribution.case_directory import evidence_paths
from attribution.engine import Candidate, Events
from attribution.evidence_files import StoredProjection, difference_picture, read_projection
from attribution.findings import LEVEL_TOLERANCE
from attribution.rerendering import Measured, rerender
from generator import LPIPS
from generator.decoding import Limits, decode, pixels_sha256
from generator.files import file_sha256

LARGEST_FILE = 2**28  # bytes of a picture: one of 1024 x 1024 pixels has four million
BATCH = 4  # see projector.TOGETHER


@dataclass(frozen=True)
class Claim:
    """What a report says of one projection's files. key: SHA-256 of the image's pixels; name: the candidate's.

    projection_sha256: of the file, None where the report doesn't say.
    """

    key: str
    name: str
    target_sha256: str
    seed: int
    projection_sha256: str | None = None


@dataclass(frozen=True)
class Remade:
    """A claim's re-rendering, and in what its files are wrong. measured: None where they can't be rendered."""

    problems: list[str] = field(default_factory=list)
    measured: Measured | None = None
    largest_level: int = 0


def remake(
    case: Path, claims: Sequence[Claim], candidates: Mapping[str, Candidate], lpips: str, events: Events
) -> dict[tuple[str, str], Remade]:
    """Render every claim on a candidate that is at hand again, by (key, name). lpips: the distance's network."""
    made: dict[tuple[str, str], Remade] = {}
    network: LPIPS | None = None
    unique = list(dict.fromkeys(claim for claim in claims if claim.name in candidates))
    events.on_total(len(unique))
    for name, candidate in candidates.items():
        network = network or LPIPS(lpips).to(candidate.generator.mapping.w_avg.device)
        own = [claim for claim in unique if claim.name == name]
        for first in range(0, len(own), BATCH):
            batch = own[first : first + BATCH]
            for key, remade in _remake_batch(case, batch, candidate, network).items():
                made.setdefault(key, remade)  # an image may be a control too: what the report says of it comes first
            events.on_step(len(batch))
    return made


def _remake_batch(
    case: Path, claims: Sequence[Claim], candidate: Candidate, lpips: LPIPS
) -> dict[tuple[str, str], Remade]:
    made, ready = {}, []
    for claim in claims:
        try:
            ready.append((claim, *_read(case, claim, candidate)))
        except ValueError as error:
            made[claim.key, claim.name] = Remade([str(error)])
    if not ready:
        return made
    measured = rerender(candidate, [p for _, p, _ in ready], np.stack([t for _, _, t in ready]), lpips)
    for (claim, projection, target), again in zip(ready, measured, strict=True):
        problems, level = _compare_pictures(case, claim, candidate, target, again.pixels)
        problems += _projection_problems(case, claim, candidate, projection)
        made[claim.key, claim.name] = Remade(problems, again, level)
    return made


def _read(case: Path, claim: Claim, candidate: Candidate) -> tuple[StoredProjection, np.ndarray]:
    """The stored search and the target. Raises ValueError that names the file."""
    paths = evidence_paths(claim.key, claim.name, candidate.resolution)
    try:
        projection = read_projection(case / paths["projection"], candidate.generator)
    except ValueError as error:
        raise ValueError(str(error).replace(f"{case}/", "")) from error
    return projection, _picture(case, paths["target"], candidate.resolution, claim.target_sha256)


def _picture(case: Path, name: str, resolution: int, sha256: str | None = None) -> np.ndarray:
    """The pixels of a picture of the case. Raises ValueError that names it."""
    try:
        if (case / name).stat().st_size > LARGEST_FILE:
            raise ValueError(f"found more than {LARGEST_FILE:,} bytes")
        picture = decode((case / name).read_bytes(), Limits(max_pixels=resolution**2))
    except OSError as error:
        raise ValueError(f"{name}: could not be read ({error.strerror}), expected a picture") from error
    except ValueError as error:  # ImageError is one
        raise ValueError(f"{name}: {error}") from error
    if (picture.width, picture.height) != (resolution, resolution):
        found = f"found {picture.width} x {picture.height} pixels"
        raise ValueError(f"{name}: {found}, expected {resolution} x {resolution}")
    if sha256 and (found := pixels_sha256(picture.pixels)) != sha256:
        raise ValueError(f"{name}: found pixels of SHA-256 {found}, expected {sha256}")
    return picture.pixels


def _compare_pictures(
    case: Path, claim: Claim, candidate: Candidate, target: np.ndarray, again: np.ndarray
) -> tuple[list[str], int]:
    """In what the stored re-synthesis and difference are wrong, and the largest deviation of the first in levels."""
    paths = evidence_paths(claim.key, claim.name, candidate.resolution)
    try:
        stored = _picture(case, paths["resynthesis"], candidate.resolution)
        difference = _picture(case, paths["difference"], candidate.resolution)
    except ValueError as error:
        return [str(error)], 0
    level = _largest(stored, again)
    problems = []
    if level > LEVEL_TOLERANCE:
        expected = f"expected at most {LEVEL_TOLERANCE}"
        problems.append(f"{paths['resynthesis']}: found pixels {level} levels from the re-rendering, {expected}")
    if (found := _largest(difference, difference_picture(target, stored))) > 1:
        expected = "expected those of target and re-synthesis"
        problems.append(f"{paths['difference']}: found pixels {found} levels from the difference, {expected}")
    return problems, level


def _largest(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(np.int16) - other).max())


def _projection_problems(case: Path, claim: Claim, candidate: Candidate, stored: StoredProjection) -> Iterator[str]:
    """What the stored search says of itself, against the claim."""
    path = evidence_paths(claim.key, claim.name, candidate.resolution)["projection"]
    if claim.projection_sha256 and (sha256 := file_sha256(case / path)) != claim.projection_sha256:
        yield f"{path}: found SHA-256 {sha256}, expected {claim.projection_sha256} of report.json"
    for name, expected in (
        ("generator_sha256", candidate.sha256),
        ("target_sha256", claim.target_sha256),
        ("seed", claim.seed),
    ):
        if (found := getattr(stored, name)) != expected:
            yield f"{path}: found {name} {found}, expected {expected}"
