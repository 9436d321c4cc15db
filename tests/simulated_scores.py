"""Simulated calibration sets of known distribution, for the tests of the statistics."""

import base64
import hashlib
from dataclasses import asdict

import numpy as np

from attribution.calibration import Calibration, Control, DecisionSettings, fit_calibration
from attribution.report import CandidateRecord
from attribution.schedules import ProjectionConfig
from attribution.scores import ScoreSet, Unit
from generator.decoding import pixels_sha256
from generator.images import encode_png

STRATA = [{"codec": "png", "jpeg_quality": None, "scale": 1.0}]
FEW = DecisionSettings(alpha=0.05, lambda_=1.0)


def pixel_hash(name: str) -> str:
    """What stands for the pixel hash of a simulated image."""
    return hashlib.sha256(name.encode()).hexdigest()


def control(kind: str, names: str, size: int = 64) -> Control:
    """A run control with real pixels, of its own for each kind."""
    pixels = np.random.default_rng(len(kind)).integers(0, 256, (size, size, 3), np.uint8)
    png = base64.b64encode(encode_png(pixels)).decode()
    return Control(kind, f"{kind}.png", png, pixels_sha256(pixels), dict.fromkeys(names, 0.25))


def units(distances, prefix: str) -> tuple[Unit, ...]:
    """One unit of its own source for each row of distances [n, K]."""
    return tuple(
        Unit(f"{prefix}{i}.png", f"{prefix}{i}", f"split{i % 2}", pixel_hash(f"{prefix}{i}"), tuple(map(float, row)))
        for i, row in enumerate(np.asarray(distances))
    )


def score_set(n: int, prefix: str, separation: float, candidates: int = 2, seed: int = 0, other: int = 0) -> ScoreSet:
    """Log distances N(-1.5, 0.3); a candidate's own images are closer to it by `separation`."""
    rng = np.random.default_rng([seed, *prefix.encode()])

    def draw(count: int, own: int | None = None):
        logs = rng.normal(-1.5, 0.3, (count, candidates))
        if own is not None:
            logs[:, own] -= separation
        return np.exp(logs)

    generated = tuple(units(draw(n, k), f"{prefix}g{k}-") for k in range(candidates))
    others = {"cousin": units(draw(other) * np.exp(-separation / 2), f"{prefix}o")} if other else {}
    return ScoreSet(units(draw(n), f"{prefix}r"), generated, others)


def calibrated(
    calibration: ScoreSet, validation: ScoreSet, decision: DecisionSettings = FEW, bootstrap: int = 20
) -> Calibration:
    """A calibration of candidates named a, b, c."""
    names = "abc"[: len(calibration.generated)]
    return fit_calibration(
        [CandidateRecord(name, name * 64, "stylegan2", 64, {}) for name in names],
        calibration,
        validation,
        decision,
        projection=asdict(ProjectionConfig(steps=160)) | {"lpips": "vgg", "seed": 0},
        population={"psi": 1.0, "real": "portraits.zip"},
        strata=STRATA,
        controls=[control("generated", names), control("real", names)],
        tool_version="0.1.0",
        created="2026-01-01T00:00:00+00:00",
        bootstrap=bootstrap,
    )
