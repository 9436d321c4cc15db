"""The validation figures of a calibration file, checked field by field against the scores that they are of."""

from collections.abc import Mapping, Sequence
from typing import Any

from attribution.field_checks import number, numbers, require_keys, typed, whole
from attribution.likelihood import LARGEST_LOG10
from attribution.scores import ScoreSet
from attribution.stopping import StoppingRule
from attribution.validation import COLUMNS

INTERVALS = ("cllr", "cllr_min", "cllr_cal", "auc", "eer")


def read_validation(
    value: Any, scores: ScoreSet, names: Sequence[str], rule: StoppingRule | None = None
) -> dict[str, Any]:
    """The figures as `validation.validate` makes them, with a rule as `validate_stopping` does too.

    Raises ValueError that names the field.
    """
    stopping = ["stopping"] if rule else []
    require_keys(value, ["n", "bootstrap", "candidates", "threshold", "verdicts", *stopping], "validation")
    if value["n"] != scores.sizes(names):
        raise ValueError(f"validation.n: found {str(value['n'])[:80]}, expected {scores.sizes(names)}")
    bootstrap = require_keys(value["bootstrap"], ["samples", "seed", "level"], "validation.bootstrap")
    whole(bootstrap["samples"], "validation.bootstrap.samples", 1)
    typed(bootstrap["seed"], int, "validation.bootstrap.seed")
    number(bootstrap["level"], "validation.bootstrap.level", 0, 1)
    require_keys(value["candidates"], names, "validation.candidates")
    for name, units in zip(names, scores.generated, strict=True):
        _require_candidate(
            value["candidates"][name], len(units), len(scores.alternative), f"validation.candidates.{name}"
        )
    _require_threshold(value["threshold"], scores, names)
    sizes = {"real": len(scores.real)} | {n: len(units) for n, units in zip(names, scores.generated, strict=True)}
    sizes |= {name: len(units) for name, units in scores.other.items()}
    _require_verdicts(value["verdicts"], sizes)
    if rule:
        _require_stopping(value["stopping"], sizes, len(rule.checkpoints))
    return value


def _require_stopping(value: Any, sizes: Mapping[str, int], checkpoints: int) -> None:
    require_keys(value, sizes, "validation.stopping")
    for truth, n in sizes.items():
        where = f"validation.stopping.{truth}"
        row = require_keys(value[truth], ["n", "mean_steps", "stopped", "same_verdict"], where)
        whole(row["n"], f"{where}.n", n, n)
        number(row["mean_steps"], f"{where}.mean_steps", 0)
        whole(row["same_verdict"], f"{where}.same_verdict", 0, n)
        stopped = [whole(c, f"{where}.stopped.{i}", 0, n) for i, c in enumerate(typed(row["stopped"], list, where))]
        if len(stopped) != checkpoints or sum(stopped) > n:
            raise ValueError(f"{where}.stopped: found {stopped}, expected {checkpoints} numbers, {n} in all at most")


def _require_candidate(value: Any, n_own: int, n_alternative: int, where: str) -> None:
    require_keys(value, [*INTERVALS, "separated", "tpr_at_fpr", "log10_lr"], where)
    for key in INTERVALS:
        require_keys(value[key], ["value", "low", "high"], f"{where}.{key}")
        for end in ("value", "low", "high"):
            number(value[key][end], f"{where}.{key}.{end}")
    typed(value["separated"], bool, f"{where}.separated")
    require_keys(value["tpr_at_fpr"], ["0.01", "0.05"], f"{where}.tpr_at_fpr")
    for fpr, share in value["tpr_at_fpr"].items():
        if share is not None:  # not resolvable
            number(share, f"{where}.tpr_at_fpr.{fpr}", 0, 1)
    require_keys(value["log10_lr"], ["h1", "h0"], f"{where}.log10_lr")
    for key, n in (("h1", n_own), ("h0", n_alternative)):
        numbers(value["log10_lr"][key], f"{where}.log10_lr.{key}", n, -LARGEST_LOG10, LARGEST_LOG10)


def _require_threshold(value: Any, scores: ScoreSet, names: Sequence[str]) -> None:
    where = "validation.threshold"
    keys = ["n_real", "false_positives", "fpr", "fpr_upper", "confidence", "tpr", "flagged_other"]
    require_keys(value, keys, where)
    whole(value["n_real"], f"{where}.n_real", len(scores.real), len(scores.real))
    whole(value["false_positives"], f"{where}.false_positives", 0, len(scores.real))
    for key in ("fpr", "fpr_upper", "confidence"):
        number(value[key], f"{where}.{key}", 0, 1)
    require_keys(value["tpr"], names, f"{where}.tpr")
    for name in names:
        number(value["tpr"][name], f"{where}.tpr.{name}", 0, 1)
    require_keys(value["flagged_other"], scores.other, f"{where}.flagged_other")
    for name, units in scores.other.items():
        whole(value["flagged_other"][name], f"{where}.flagged_other.{name}", 0, len(units))


def _require_verdicts(value: Any, sizes: Mapping[str, int]) -> None:
    """Counts by truth and verdict, which add up to each class's size."""
    require_keys(value, sizes, "validation.verdicts")
    for truth, n in sizes.items():
        where = f"validation.verdicts.{truth}"
        counts = [whole(count, f"{where}.{code}", 0, n) for code, count in require_keys(
            value[truth], COLUMNS, where).items()]  # fmt: skip
        if sum(counts) != n:
            raise ValueError(f"{where}: found {sum(counts)} verdicts, expected {n}")
