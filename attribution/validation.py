"""Validation: how good a calibration is on images that it has not seen, as plain JSON values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from attribution.evidence import DecisionSettings, Evidence
from attribution.fitting import Fitted
from attribution.likelihood import Floats, bootstrap_intervals, cllr, cllr_cal, cllr_min
from attribution.report import ImageVerdict
from attribution.scores import ScoreSet, Unit
from attribution.stopping import StoppingRule
from attribution.threshold import auc, clopper_pearson_upper, equal_error_rate, tpr_at_fpr
from attribution.verdict import decide

LEVEL = 0.95
Decide = Callable[[Sequence[float]], ImageVerdict]
COLUMNS = ("SUPPORTS_RIGHT", "SUPPORTS_WRONG", "SUPPORTS_GROUP", "UNRESOLVED", "NOT_SUPPORTED", "INCONCLUSIVE")


def validate(
    fitted: Fitted,
    evaluate: Callable[[Sequence[float]], Evidence],
    scores: ScoreSet,
    names: Sequence[str],
    decision: DecisionSettings,
    alternative: str,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of the validation set.

    candidates: by name, Cllr's and AUC's with intervals over sources, error rates, and the log10 LR behind them (for
    Tippett, ECE and DET plots). threshold: the false-positive rate on real images. verdicts: counts by truth and code.
    """
    return {
        "n": scores.sizes(names),
        "bootstrap": {"samples": bootstrap, "seed": seed, "level": LEVEL},
        "candidates": {name: _candidate(fitted, scores, k, bootstrap, seed) for k, name in enumerate(names)},
        "threshold": _threshold(fitted, scores, names),
        "verdicts": count_verdicts(evaluate, scores, names, decision, alternative),
    }


def _candidate(fitted: Fitted, scores: ScoreSet, k: int, bootstrap: int, seed: int) -> dict[str, Any]:
    """Cllr of the bounded ratios against H_0; AUC and error rates of -d_k against the real images."""
    own, alternative = scores.labels == k + 1, scores.labels == 0
    ratios = fitted.log10_lr(scores.distances)[:, k]
    h1, h0 = ratios[own], ratios[alternative]
    positive, negative = -scores.generated_distances[k][:, k], -scores.real_distances[:, k]

    def costs(h1: Floats, h0: Floats) -> list[float]:
        return [cllr(h1, h0), cllr_min(h1, h0), cllr_cal(h1, h0)]

    def rates(positive: Floats, negative: Floats) -> list[float]:
        return [auc(positive, negative), equal_error_rate(positive, negative)]

    sources, reals = [u.source for u in scores.generated[k]], [u.source for u in scores.real]
    cost_intervals = bootstrap_intervals(
        costs, (h1, h0), (sources, [u.source for u in scores.alternative]), bootstrap, seed, LEVEL
    )
    rate_intervals = bootstrap_intervals(rates, (positive, negative), (sources, reals), bootstrap, seed, LEVEL)
    values = [*costs(h1, h0), *rates(positive, negative)]
    keys = ("cllr", "cllr_min", "cllr_cal", "auc", "eer")
    return {
        **{key: {"value": value, "low": low, "high": high}
           for key, value, (low, high) in zip(keys, values, cost_intervals + rate_intervals, strict=True)},
        # Resampling separated classes shows no spread: then the intervals say nothing about the next sample.
        "separated": bool(positive.min() > negative.max()),
        "tpr_at_fpr": {"0.01": tpr_at_fpr(positive, negative, 0.01), "0.05": tpr_at_fpr(positive, negative, 0.05)},
        "log10_lr": {"h1": sorted(h1.tolist()), "h0": sorted(h0.tolist())},
    }  # fmt: skip


def _threshold(fitted: Fitted, scores: ScoreSet, names: Sequence[str]) -> dict[str, Any]:
    """How many images of each class T > t_alpha flags; the upper bound is Clopper and Pearson's, one-sided."""

    def flagged(distances: Floats) -> int:
        return int(np.sum(fitted.flag_scores(distances)[0] > fitted.threshold)) if len(distances) else 0

    n, false = len(scores.real), flagged(scores.real_distances)
    own = zip(names, scores.generated_distances, strict=True)
    return {
        "n_real": n,
        "false_positives": false,
        "fpr": false / n,
        "fpr_upper": clopper_pearson_upper(false, n, LEVEL),
        "confidence": LEVEL,
        "tpr": {name: flagged(distances) / len(distances) for name, distances in own},
        "flagged_other": {name: flagged(distances) for name, distances in sorted(scores.other_distances.items())},
    }


def validate_stopping(
    rule: StoppingRule, scores: ScoreSet, steps: int, decide_stopped: Decide, decide_full: Decide, names: Sequence[str]
) -> dict[str, Any]:
    """What stopping did to the validation images, by truth: where they stopped, and how many kept their verdict.

    decide_stopped, decide_full: distances to verdict, by the calibration with the rule and by the one without it;
    steps: of a search that nothing stops.
    """

    def row(units: Sequence[Unit]) -> dict[str, Any]:
        places = [rule.first_stop(unit.checkpoints) for unit in units]
        taken = [steps if place is None else rule.steps[place] for place in places]
        same = sum(same_verdict(decide_stopped(unit.distances), decide_full(unit.full)) for unit in units)
        return {
            "n": len(units),
            "mean_steps": sum(taken) / len(taken) if taken else float(steps),
            "stopped": [places.count(place) for place in range(len(rule.checkpoints))],
            "same_verdict": same,
        }

    return {truth: row(units) for truth, units in _classes(scores, names)}


def same_verdict(one: ImageVerdict, another: ImageVerdict) -> bool:
    """Whether code and candidate are the same."""
    return (one.code, one.candidate) == (another.code, another.candidate)


def _classes(scores: ScoreSet, names: Sequence[str]) -> list[tuple[str, tuple[Unit, ...]]]:
    """(truth, units): each candidate, the real images, each other generator."""
    return [*zip(names, scores.generated, strict=True), ("real", scores.real), *sorted(scores.other.items())]


def count_verdicts(
    evaluate: Callable[[Sequence[float]], Evidence],
    scores: ScoreSet,
    names: Sequence[str],
    decision: DecisionSettings,
    alternative: str,
) -> dict[str, dict[str, int]]:
    """Counts by truth (each candidate, "real", each other generator) and verdict; SUPPORTS is split by being right."""

    def row(truth: str, units: Sequence[Unit]) -> dict[str, int]:
        counts = dict.fromkeys(COLUMNS, 0)
        for unit in units:
            verdict = decide(evaluate(unit.distances), names, decision, alternative)
            right = "RIGHT" if verdict.candidate == truth else "WRONG"
            counts[f"SUPPORTS_{right}" if verdict.code == "SUPPORTS" else verdict.code] += 1
        return counts

    return {truth: row(truth, units) for truth, units in _classes(scores, names)}
