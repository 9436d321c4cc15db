"""The calibration file's JSON: its parts as plain values. `calibration_reader` is the way back."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attribution.evidence import DecisionSettings
from attribution.fitting import LINEAGE_CLLR_MIN, Fitted
from attribution.scores import ScoreSet, Unit
from attribution.stopping import StoppingRule

CALIBRATION_SCHEMA = "latentprint.calibration/1"
EARLY = ("checkpoints", "full")  # of a unit: its distances on the way and after all steps


@dataclass(frozen=True)
class Control:
    """A calibration image that every run projects again. kind: "generated" | "real"; distances by candidate name.

    checkpoints: those at each checkpoint where searches may stop, by candidate; empty where none does.
    """

    kind: str
    name: str
    png_base64: str
    pixels_sha256: str
    distances: dict[str, float]
    checkpoints: dict[str, list[float]] = dataclasses.field(default_factory=dict)


def canonical_json(value: Any) -> bytes:
    """UTF-8, sorted keys, two spaces, a newline at the end. Raises ValueError for a number that is not finite."""
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def content_id(content: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(content)).hexdigest()[:16]


def normal_json(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The value as JSON gives it back (tuples become lists). Raises ValueError for what JSON doesn't have."""
    try:
        return json.loads(canonical_json(dict(value)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: found a value that JSON doesn't have ({error}), expected plain values") from error


def control_to_json(control: Control) -> dict[str, Any]:
    """checkpoints are left out where nothing stops."""
    value = dataclasses.asdict(control)
    return value if control.checkpoints else {k: v for k, v in value.items() if k != "checkpoints"}


def decision_to_json(decision: DecisionSettings) -> dict[str, float]:
    """The settings under the names of the command line."""
    return {name.strip("_"): float(value) for name, value in dataclasses.asdict(decision).items()}


def scores_to_json(scores: ScoreSet, names: Sequence[str]) -> dict[str, Any]:
    """{real: units, generated: {NAME: units}, other: {NAME: units}}."""
    return {
        "real": _units_to_json(scores.real),
        "generated": {n: _units_to_json(units) for n, units in zip(names, scores.generated, strict=True)},
        "other": {n: _units_to_json(units) for n, units in scores.other.items()},
    }


def _units_to_json(units: Sequence[Unit]) -> list[dict[str, Any]]:
    """checkpoints and full are left out where nothing stops."""
    rows = [dataclasses.asdict(unit) | {"distances": [float(d) for d in unit.distances]} for unit in units]
    return [row if row["full"] else {k: v for k, v in row.items() if k not in EARLY} for row in rows]


def stopping_to_json(rule: StoppingRule) -> dict[str, Any]:
    """The rule by which searches stop."""
    checkpoints = [dataclasses.asdict(checkpoint) for checkpoint in rule.checkpoints]
    return {"checkpoints": checkpoints, "units": rule.units, "risk": rule.risk, "confidence": rule.confidence}


def fitted_to_json(fitted: Fitted, names: Sequence[str]) -> dict[str, Any]:
    """Everything fitted, with candidates by name; pairs as "a|b", whose bounds are of log10 p(d|a)/p(d|b)."""
    return {
        "medians": list(fitted.medians),
        "mads": list(fitted.mads),
        "order_m": fitted.order_m,
        "n_real": len(fitted.real_scores),
        "threshold": fitted.threshold,
        "real_scores": list(fitted.real_scores),
        "logistic": fitted.logistic.to_json(),
        "bounds": {name: list(bounds) for name, bounds in zip(names, fitted.bounds, strict=True)},
        "pair_bounds": {f"{names[i]}|{names[j]}": list(bounds) for (i, j), bounds in fitted.pair_bounds.items()},
        "sets": fitted.sets,
    }


def lineages_to_json(fitted: Fitted, names: Sequence[str]) -> list[dict[str, Any]]:
    """Every pair of candidates with its Cllr_min on the difference of distances."""
    return [
        {"pair": [names[i], names[j]], "cllr_min": cost, "one_lineage": cost >= LINEAGE_CLLR_MIN}
        for (i, j), cost in fitted.pair_cllr_min.items()
    ]
