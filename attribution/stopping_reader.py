"""The stopping rule of a calibration file, checked against the scores that it stopped."""

from collections.abc import Mapping, Sequence
from typing import Any

from attribution.field_checks import number, require_keys, typed, whole
from attribution.fitted_reader import read_logistic
from attribution.scores import ScoreSet, Unit
from attribution.stopping import StoppingCheckpoint, StoppingRule

CHECKPOINTS_AT_MOST = 64


def read_stopping(value: Any, candidates: int, scores: Mapping[str, ScoreSet]) -> StoppingRule:
    """What `calibration_json.stopping_to_json` wrote.

    Raises ValueError that names the field, also where a unit's distances are not those at which the rule stops it.
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
    for part, its in scores.items():
        for unit in its.units:
            _require_stopped(rule, unit, f"scores.{part}")
    return rule


def _read_checkpoint(value: Any, candidates: int, units: int, where: str) -> StoppingCheckpoint:
    require_keys(value, ["steps", "logistic", "clarity", "stopped", "changed"], where)
    stopped = whole(value["stopped"], f"{where}.stopped", 0, units)
    return StoppingCheckpoint(
        steps=whole(value["steps"], f"{where}.steps", 1),
        logistic=read_logistic(value["logistic"], candidates, f"{where}.logistic"),
        clarity=None if value["clarity"] is None else number(value["clarity"], f"{where}.clarity", 0),
        stopped=stopped,
        changed=whole(value["changed"], f"{where}.changed", 0, stopped),
    )


def _require_stopped(rule: StoppingRule, unit: Unit, where: str) -> None:
    if len(unit.checkpoints) != len(rule.checkpoints):
        found = f"found distances at {len(unit.checkpoints)} checkpoints"
        raise ValueError(f"{where}: {unit.name}: {found}, expected {len(rule.checkpoints)}, the rule's")
    if rule.apply(unit).distances != unit.distances:
        found = f"found distances {_listed(unit.distances)}"
        expected = f"expected {_listed(rule.apply(unit).distances)}, where the rule stops it"
        raise ValueError(f"{where}: {unit.name}: {found}, {expected}")


def _listed(distances: Sequence[float]) -> str:
    return ", ".join(f"{d:.6g}" for d in distances)
