"""The stopping rule of a calibration file, checked against the scores that it stopped."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attribution.calibration_checks import TOLERANCE
from attribution.field_checks import number, require_keys, typed, whole
from attribution.fitted_reader import read_logistic
from attribution.scores import ScoreSet, Unit
from attribution.stopping import StoppingCheckpoint, StoppingRule, forecast

CHECKPOINTS_AT_MOST = 64


def read_stopping(value: Any, candidates: int, scores: Mapping[str, ScoreSet]) -> StoppingRule:
    """What `calibration_json.stopping_to_json` wrote.

    Raises ValueError that names the field, also where a forecast doesn't follow from the scores, or a unit's distances
    are not those by which the rule judges it.
    """
    require_keys(value, ["checkpoints", "units", "risk", "confidence"], "stopping")
    units = whole(value["units"], "stopping.units", 1)
    if units != len(scores["calibration"].units):
        raise ValueError(f"stopping.units: found {units}, expected {len(scores['calibration'].units)}, the images")
    entries = typed(value["checkpoints"], list, "stopping.checkpoints")
    if not 1 <= len(entries) <= CHECKPOINTS_AT_MOST:
        raise ValueError(f"stopping.checkpoints: found {len(entries)}, expected 1 to {CHECKPOINTS_AT_MOST}")
    rule = StoppingRule(
        tuple(_read_checkpoint(c, candidates, units, f"stopping.checkpoints.{i}") for i, c in enumerate(entries)),
        units,
        number(value["risk"], "stopping.risk", 0, 1),
        number(value["confidence"], "stopping.confidence", 0, 1),
    )
    if list(rule.steps) != sorted(set(rule.steps)):
        raise ValueError(f"stopping.checkpoints: found steps {list(rule.steps)}, expected ascending ones")
    if (stopped := sum(checkpoint.stopped for checkpoint in rule.checkpoints)) > units:
        raise ValueError(
            f"stopping.checkpoints: found {stopped} images stopped, expected at most {units}, all there are"
        )
    for part, its in scores.items():
        for unit in its.units:
            _require_checkpoints(rule, unit, f"scores.{part}")
    _require_forecasts(rule, scores["calibration"])
    for part, its in scores.items():
        for unit in its.units:
            _require_judged(rule, unit, f"scores.{part}")
    return rule


def _read_checkpoint(value: Any, candidates: int, units: int, where: str) -> StoppingCheckpoint:
    require_keys(value, ["steps", "logistic", "forecast", "clarity", "stopped", "changed"], where)
    stopped = whole(value["stopped"], f"{where}.stopped", 0, units)
    return StoppingCheckpoint(
        steps=whole(value["steps"], f"{where}.steps", 1),
        logistic=read_logistic(value["logistic"], candidates, f"{where}.logistic"),
        forecast=_read_forecast(value["forecast"], candidates, f"{where}.forecast"),
        clarity=None if value["clarity"] is None else number(value["clarity"], f"{where}.clarity", 0),
        stopped=stopped,
        changed=whole(value["changed"], f"{where}.changed", 0, stopped),
    )


def _read_forecast(value: Any, candidates: int, where: str) -> tuple[tuple[float, float], ...]:
    pairs = typed(value, list, where)
    if [len(pair) if isinstance(pair, list) else 0 for pair in pairs] != [2] * candidates:
        raise ValueError(f"{where}: found {str(value)[:60]}, expected a list of two numbers for each candidate")
    return tuple((number(a, f"{where}.{k}.0"), number(b, f"{where}.{k}.1")) for k, (a, b) in enumerate(pairs))


def _require_forecasts(rule: StoppingRule, scores: ScoreSet) -> None:
    ended = np.array([unit.full for unit in scores.units])
    for place, checkpoint in enumerate(rule.checkpoints):
        expected = forecast(np.array([unit.checkpoints[place] for unit in scores.units]), ended)
        if not np.allclose(checkpoint.forecast, expected, rtol=TOLERANCE, atol=TOLERANCE):
            found = f"found {_listed(sum(checkpoint.forecast, ()))}"
            follows = f"expected {_listed(sum(expected, ()))}, which follows from the scores"
            raise ValueError(f"stopping.checkpoints.{place}.forecast: {found}, {follows}")


def _require_checkpoints(rule: StoppingRule, unit: Unit, where: str) -> None:
    if len(unit.checkpoints) != len(rule.checkpoints):
        found = f"found distances at {len(unit.checkpoints)} checkpoints"
        raise ValueError(f"{where}: {unit.name}: {found}, expected {len(rule.checkpoints)}, the rule's")


def _require_judged(rule: StoppingRule, unit: Unit, where: str) -> None:
    if not np.allclose(rule.apply(unit).distances, unit.distances, rtol=TOLERANCE, atol=0):
        found = f"found distances {_listed(unit.distances)}"
        expected = f"expected {_listed(rule.apply(unit).distances)}, by which the rule judges it"
        raise ValueError(f"{where}: {unit.name}: {found}, {expected}")


def _listed(distances: Sequence[float]) -> str:
    return ", ".join(f"{d:.6g}" for d in distances)
