"""The stopping rule of a calibration file, checked against the scores that it stopped."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attribution.calibration_checks import TOLERANCE
from attribution.evidence import DecisionSettings
from attribution.field_checks import number, numbers, one_of, require_keys, typed, whole
from attribution.leeway import LEVELS
from attribution.scores import ScoreSet, Unit
from attribution.stopping import StoppingCheckpoint, StoppingRule, forecast, judge_after_all, spread

CHECKPOINTS_AT_MOST = 64


def read_stopping(
    value: Any, candidates: int, scores: Mapping[str, ScoreSet], decision: DecisionSettings
) -> StoppingRule:
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
    for part, its in scores.items():
        for unit in its.units:
            _require_checkpoints(len(entries), unit, f"scores.{part}")
    rule = StoppingRule(
        tuple(_read_checkpoint(c, candidates, units, f"stopping.checkpoints.{i}") for i, c in enumerate(entries)),
        units,
        judge_after_all(scores["calibration"], decision),
        number(value["risk"], "stopping.risk", 0, 1),
        number(value["confidence"], "stopping.confidence", 0, 1),
    )
    if list(rule.steps) != sorted(set(rule.steps)):
        raise ValueError(f"stopping.checkpoints: found steps {list(rule.steps)}, expected ascending ones")
    if (stopped := sum(checkpoint.stopped for checkpoint in rule.checkpoints)) > units:
        raise ValueError(
            f"stopping.checkpoints: found {stopped} images stopped, expected at most {units}, all there are"
        )
    _require_forecasts(rule, scores["calibration"])
    for part, its in scores.items():
        for unit in its.units:
            _require_judged(rule, unit, f"scores.{part}")
    return rule


def _read_checkpoint(value: Any, candidates: int, units: int, where: str) -> StoppingCheckpoint:
    require_keys(value, ["steps", "forecast", "spread", "leeway", "stopped", "changed"], where)
    stopped = whole(value["stopped"], f"{where}.stopped", 0, units)
    return StoppingCheckpoint(
        steps=whole(value["steps"], f"{where}.steps", 1),
        forecast=_read_forecast(value["forecast"], candidates, f"{where}.forecast"),
        spread=numbers(value["spread"], f"{where}.spread", candidates, 0),
        leeway=None if value["leeway"] is None else one_of(value["leeway"], LEVELS, f"{where}.leeway"),
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
        here = np.array([unit.checkpoints[place] for unit in scores.units])
        lines = forecast(here, ended)
        _require_close(sum(checkpoint.forecast, ()), sum(lines, ()), f"stopping.checkpoints.{place}.forecast")
        _require_close(checkpoint.spread, spread(lines, here, ended), f"stopping.checkpoints.{place}.spread")


def _require_close(found: Sequence[float], expected: Sequence[float], where: str) -> None:
    if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
        follows = f"expected {_listed(expected)}, which follows from the scores"
        raise ValueError(f"{where}: found {_listed(found)}, {follows}")


def _require_checkpoints(expected: int, unit: Unit, where: str) -> None:
    if len(unit.checkpoints) != expected:
        found = f"found distances at {len(unit.checkpoints)} checkpoints"
        raise ValueError(f"{where}: {unit.name}: {found}, expected {expected}, the rule's")


def _require_judged(rule: StoppingRule, unit: Unit, where: str) -> None:
    if not np.allclose(rule.apply(unit).distances, unit.distances, rtol=TOLERANCE, atol=0):
        found = f"found distances {_listed(unit.distances)}"
        expected = f"expected {_listed(rule.apply(unit).distances)}, by which the rule judges it"
        raise ValueError(f"{where}: {unit.name}: {found}, {expected}")


def _listed(distances: Sequence[float]) -> str:
    return ", ".join(f"{d:.6g}" for d in distances)
