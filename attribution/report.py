"""The report's dataclasses: report.json (schema latentprint.report/1) field by field.

Plain values only, so that `dataclasses.asdict` gives the JSON; NaN and infinity never occur (None stands for what is
unknown or unbounded).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REPORT_SCHEMA = "latentprint.report/1"


@dataclass(frozen=True)
class FileError:
    """Why a file has no verdict of its own. kind: "unreadable" | "refused"; message: one sentence."""

    kind: str
    message: str


@dataclass(frozen=True)
class CandidateEvidence:
    """What the projection of one image into one candidate gave.

    Distances are LPIPS at min(resolution, 256)^2; log10_lr is bounded by log10_lr_bounds [lo, hi]. Without calibration,
    p_value_generated and the likelihood ratios are None. projection, resynthesis and difference are paths inside the
    case directory; history holds [step, LPIPS] pairs of the optimisation, coarse to the eye; checkpoints [steps, LPIPS]
    pairs where a stopping rule looked at it. lpips_expected: after all steps, where the search ended before them.
    """

    name: str
    lpips: float
    lpips_start: float
    lpips_per_layer: list[float]
    mse: float
    ssim: float
    p_value_generated: float | None
    log10_lr_unbounded: float | None
    log10_lr: float | None
    log10_lr_bounds: list[float] | None
    target_sha256: str
    seed: int
    steps: int
    projection: str
    projection_sha256: str
    resynthesis: str
    difference: str
    target: str
    history: list[list[float]]
    checkpoints: list[list[float]] = field(default_factory=list)
    lpips_expected: float | None = None

    @property
    def judged(self) -> float:
        """The distance by which the image is judged."""
        return self.lpips if self.lpips_expected is None else self.lpips_expected


@dataclass(frozen=True)
class ImageVerdict:
    """code: one of verdict.CODES; candidate for SUPPORTS and SUPPORTS_GROUP; group sorted names or None."""

    code: str
    candidate: str | None
    group: list[str] | None
    statement: str


@dataclass(frozen=True)
class SearchEnd:
    """Where and why the searches for an image ended under a stopping rule.

    steps: taken by each; of: of a search that nothing ends; leeway: at each checkpoint reached, in spreads of what is
    expected there; asked: what stops at each of the rule's, None where nothing does; statement: the reason in words.
    """

    steps: int
    of: int
    leeway: list[float]
    asked: list[float | None]
    statement: str


@dataclass(frozen=True)
class ImageReport:
    """One suspect. score is T, log10_margin is M (None where there is one candidate only, or no calibration).

    facts: what the file says besides its pixels (`generator.facts`), no part of any verdict; None for a file that was
    not decoded. stopping: where and why its searches ended, None where no rule could end them.
    """

    path: str
    sha256: str | None
    pixels_sha256: str | None
    width: int | None
    height: int | None
    format: str | None
    intake: list[dict[str, Any]]
    candidates: list[CandidateEvidence]
    stratum: str | None
    score: float | None
    threshold: float | None
    p_value_real: float | None
    log10_margin: float | None
    verdict: ImageVerdict
    error: FileError | None
    thumbnail: str | None = None
    truth: str | None = None
    facts: dict[str, Any] | None = None
    stopping: SearchEnd | None = None


@dataclass(frozen=True)
class CandidateRecord:
    """A candidate generator: its file's hash, shape and lineage."""

    name: str
    sha256: str
    architecture: str
    resolution: int
    provenance: dict[str, Any]

    @property
    def hashes(self) -> set[str]:
        """What it is known by: the SHA-256 of its file, and of the original that it was imported from."""
        return known_hashes(self.sha256, self.provenance)


def known_hashes(sha256: str, provenance: Mapping) -> set[str]:
    """A generator file's SHA-256, and that of the original in its provenance."""
    original = provenance.get("original_sha256")
    return {sha256} | ({original} if isinstance(original, str) else set())


@dataclass(frozen=True)
class ControlRecord:
    """One re-projected calibration image: its distance to each candidate now, after so many steps, and in the
    calibration after as many.
    """

    kind: str
    pixels_sha256: str
    distances: dict[str, float]
    calibrated: dict[str, float]
    drift: float
    steps: int


@dataclass(frozen=True)
class RunRecord:
    """How the run was made. controls: None without a calibration; controls_hold: every drift within the tolerance.

    generators: where each candidate's file lay; signer: the public key (Ed25519, hexadecimal) of the signature in
    manifest.sig, None where the report was not signed.
    """

    id: str
    tool_version: str
    started: str
    finished: str
    case: str
    exhibit: str
    examiner: str
    command: list[str]
    settings: dict[str, Any]
    seed: int
    device: str
    environment: dict[str, str]
    controls: list[ControlRecord] | None
    controls_tolerance: float
    controls_hold: bool | None
    generators: dict[str, str] = field(default_factory=dict)
    signer: str | None = None


@dataclass(frozen=True)
class Report:
    """The whole case. calibration: the calibration's own summary (see attribution.calibration), None without one."""

    run: RunRecord
    candidates: list[CandidateRecord]
    calibration: dict[str, Any] | None
    images: list[ImageReport]
    summary: dict[str, Any]
    propositions: list[dict[str, str]]
    limitations: list[str]
    schema: str = field(default=REPORT_SCHEMA)
