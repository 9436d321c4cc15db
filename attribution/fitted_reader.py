"""The fitted numbers of a calibration file, checked field by field: types, lengths and ranges."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from attribution.evidence import Bounds
from attribution.field_checks import number, numbers, one_of, require_keys, typed, whole
from attribution.fitting import LINEAGE_CLLR_MIN, Fitted
from attribution.likelihood import SOLVER, LogisticCalibrator

KEYS = (
    *("medians", "mads", "order_m", "n_real", "threshold", "real_scores"),
    *("logistic", "bounds", "pair_bounds", "sets"),
)
LARGEST = 1e100  # of a fitted number: their products stay finite


def read_fitted(value: Any, lineages: Any, names: Sequence[str]) -> Fitted:
    """What `calibration_json.fitted_to_json` and `lineages_to_json` wrote. Raises ValueError that names the field."""
    require_keys(value, KEYS, "fitted")
    pairs = {f"{a}|{b}": (i, j) for i, a in enumerate(names) for j, b in enumerate(names) if i < j}
    require_keys(value["bounds"], names, "fitted.bounds")
    require_keys(value["pair_bounds"], pairs, "fitted.pair_bounds")
    require_keys(value["sets"], ["method", "folds", "seed", "n_fit", "n_bound", "n_threshold"], "fitted.sets")
    typed(value["sets"]["seed"], int, "fitted.sets.seed")
    n_real = whole(value["n_real"], "fitted.n_real", 1)
    return Fitted(
        medians=numbers(value["medians"], "fitted.medians", len(names)),
        mads=numbers(value["mads"], "fitted.mads", len(names)),
        order_m=whole(value["order_m"], "fitted.order_m", 1, n_real),
        threshold=number(value["threshold"], "fitted.threshold"),
        real_scores=numbers(value["real_scores"], "fitted.real_scores", n_real),
        logistic=read_logistic(value["logistic"], len(names), "fitted.logistic"),
        bounds=tuple(_read_bounds(value["bounds"][name], f"fitted.bounds.{name}") for name in names),
        pair_bounds={pairs[k]: _read_bounds(value["pair_bounds"][k], f"fitted.pair_bounds.{k}") for k in pairs},
        pair_cllr_min=_read_lineages(lineages, names, list(pairs.values())),
        sets=value["sets"],
    )


def _read_lineages(value: Any, names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], float]:
    if len(typed(value, list, "lineages")) != len(pairs):
        raise ValueError(f"lineages: found {len(value)}, expected one for each of {len(pairs)} pairs of candidates")
    costs = {}
    for place, (entry, (i, j)) in enumerate(zip(value, pairs, strict=True)):
        where = f"lineages.{place}"
        require_keys(entry, ["pair", "cllr_min", "one_lineage"], where)
        one_of(entry["pair"], [[names[i], names[j]]], f"{where}.pair")
        costs[i, j] = number(entry["cllr_min"], f"{where}.cllr_min")
        one_of(entry["one_lineage"], [costs[i, j] >= LINEAGE_CLLR_MIN], f"{where}.one_lineage")
    return costs


def read_logistic(value: Any, candidates: int, where: str) -> LogisticCalibrator:
    """What `LogisticCalibrator.to_json` wrote, for so many candidates. Raises ValueError that names the field."""
    require_keys(value, [field.name for field in fields(LogisticCalibrator)], where)
    for key in ("mean", "intercept"):
        numbers(value[key], f"{where}.{key}", candidates, -LARGEST, LARGEST)
    numbers(value["scale"], f"{where}.scale", candidates, 1 / LARGEST, LARGEST)
    if len(typed(value["coef"], list, f"{where}.coef")) != candidates:
        raise ValueError(f"{where}.coef: found {len(value['coef'])} rows, expected {candidates}")
    for row in value["coef"]:
        numbers(row, f"{where}.coef", candidates, -LARGEST, LARGEST)
    typed(value["converged"], bool, f"{where}.converged")
    for key in ("iterations", "max_iter"):
        whole(value[key], f"{where}.{key}", 0)
    for key in ("C", "tol"):
        number(value[key], f"{where}.{key}", 0)
    one_of(value["solver"], [SOLVER], f"{where}.solver")
    return LogisticCalibrator.from_json(value)


def _read_bounds(value: Any, where: str) -> Bounds:
    low, high = numbers(value, where, 2)
    return low, high
