"""What must hold between the parts of a calibration: its classes, and what was fitted to its scores."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from attribution.evidence import Bounds, DecisionSettings
from attribution.fitting import FOLDS, MAD_FLOOR, Fitted, log_distances
from attribution.likelihood import cllr_min
from attribution.scores import ScoreSet, Unit, disjoint_sets
from attribution.threshold import smallest_n, umbrella_order

TOLERANCE = 1e-9
FEWEST = {"calibration": 2, "validation": 1}  # units of a class: cross-fitting judges each by a fit without it


def require_classes(names: Sequence[str], calibration: ScoreSet, validation: ScoreSet) -> None:
    """Raise ValueError for classes that are too small, named alike, or share a source or an image.

    No image may be in both sets, nor in two classes of one.
    """
    known = ["real", *names, *sorted({*calibration.other, *validation.other})]
    for name in known:
        if known.count(name) > 1:
            raise ValueError(f"candidate: found the name {name} twice, expected distinct names, none of them 'real'")
    parts = {"calibration": calibration, "validation": validation}
    for part, scores in parts.items():
        if len(scores.generated) != len(names) or not names:
            raise ValueError(f"{part} scores: found {len(scores.generated)} candidates, expected {len(names)}")
        for name, units in zip(["real", *names], [scores.real, *scores.generated], strict=True):
            if len(units) < FEWEST[part]:
                expected = f"expected at least {FEWEST[part]}"
                raise ValueError(f"{part} scores: found {len(units)} images of {name}, {expected}")
    # by class: folders without an index may well name their files alike
    pairs = [(calibration.real, validation.real), *zip(calibration.generated, validation.generated, strict=True)]
    pairs += [(units, validation.other.get(name, ())) for name, units in calibration.other.items()]
    for one, another in pairs:
        both = {u.source for u in one} & {u.source for u in another}
        if both:
            raise ValueError(f"scores: found source {min(both)} in calibration and in validation, expected it in one")
    _require_distinct_images(names, parts)


def _require_distinct_images(names: Sequence[str], parts: Mapping[str, ScoreSet]) -> None:
    """Raise ValueError for an image, by its pixels, that is in two sets or in two classes of one."""
    place_of: dict[str, tuple[str, Unit]] = {}
    for part, scores in parts.items():
        classes = [("real", scores.real), *zip(names, scores.generated, strict=True), *scores.other.items()]
        for place, unit in [(f"{part} images of {name}", unit) for name, units in classes for unit in units]:
            before, first = place_of.setdefault(unit.pixels_sha256, (place, unit))
            if before != place:
                found = f"found the pixels of {first.name} ({before}) again in {unit.name} ({place})"
                raise ValueError(f"scores: {found}, expected every image in one set and class")


def require_fitted(fitted: Fitted, scores: ScoreSet, decision: DecisionSettings, names: Sequence[str]) -> None:
    """Raise ValueError that names the field where fitted numbers don't follow from the calibration set's scores."""
    logs = [log_distances(d[:, k]) for k, d in enumerate(scores.generated_distances)]
    medians = [float(np.median(x)) for x in logs]
    mads = [max(float(np.median(np.abs(x - m))), MAD_FLOOR) for x, m in zip(logs, medians, strict=True)]
    _require_close(fitted.medians, medians, "fitted.medians")
    _require_close(fitted.mads, mads, "fitted.mads")
    for_threshold = _threshold_set(fitted, scores, decision)
    real_scores = np.sort(fitted.flag_scores(for_threshold.real_distances)[0])[::-1]
    _require_close(fitted.real_scores, real_scores.tolist(), "fitted.real_scores")
    try:
        order = umbrella_order(len(real_scores), decision.alpha, decision.delta)
    except ValueError as error:
        raise ValueError(f"fitted.order_m: {error}") from error
    if fitted.order_m != order:
        found = f"found {fitted.order_m}, expected {order}"
        raise ValueError(f"fitted.order_m: {found} for {len(real_scores)} real scores at alpha {decision.alpha:g}")
    if fitted.threshold != fitted.real_scores[order - 1]:
        found = f"found {fitted.threshold}, expected number {order} of the real scores"
        raise ValueError(f"fitted.threshold: {found}, {fitted.real_scores[order - 1]}")
    _require_bounds(fitted, scores, names)
    for (i, j), cost in fitted.pair_cllr_min.items():
        of_i, of_j = scores.generated_distances[i], scores.generated_distances[j]
        _require_close([cost], [cllr_min(of_i[:, j] - of_i[:, i], of_j[:, j] - of_j[:, i])], "lineages.cllr_min")


def _threshold_set(fitted: Fitted, scores: ScoreSet, decision: DecisionSettings) -> ScoreSet:
    """The part of the calibration set whose reals set the threshold."""
    found, parts = fitted.sets, None
    if found["method"] == "disjoint":
        parts = disjoint_sets(scores, smallest_n(1, decision.alpha, decision.delta), found["seed"])
        if parts is None:
            raise ValueError(f"fitted.sets.method: found disjoint, but {len(scores.real)} reals are too few for it")
    to_fit, to_bound, for_threshold = parts or (scores, scores, scores)
    expected = {
        "method": "disjoint" if parts else "cross-fitted",
        "folds": None if parts else FOLDS,
        "seed": found["seed"],
        "n_fit": len(to_fit.units),
        "n_bound": len(to_bound.units),
        "n_threshold": len(for_threshold.real),
    }
    if found != expected:
        raise ValueError(f"fitted.sets: found {found}, expected {expected}")
    return for_threshold


def _require_bounds(fitted: Fitted, scores: ScoreSet, names: Sequence[str]) -> None:
    """No empirical bound goes beyond log10(n + 1) of the n units of the class that it protects."""
    n, alternative = [len(units) for units in scores.generated], len(scores.alternative)
    for k, bounds in enumerate(fitted.bounds):
        _require_reachable(bounds, n[k], alternative, f"fitted.bounds.{names[k]}")
    for (i, j), bounds in fitted.pair_bounds.items():
        _require_reachable(bounds, n[i], n[j], f"fitted.pair_bounds.{names[i]}|{names[j]}")


def _require_reachable(bounds: Bounds, n_above: int, n_below: int, where: str) -> None:
    """bounds of log10 p(d|a)/p(d|b); n_above units of a limit the lower one, n_below units of b the upper one."""
    low, high = -math.log10(n_above + 1) - TOLERANCE, math.log10(n_below + 1) + TOLERANCE
    if not low <= bounds[0] <= 0 <= bounds[1] <= high:
        expected = f"expected a lower bound from {low:.3f} to 0 and an upper one from 0 to {high:.3f}"
        raise ValueError(f"{where}: found {list(bounds)}, {expected}")


def _require_close(found: Sequence[float], expected: Sequence[float], where: str) -> None:
    if len(found) != len(expected):
        raise ValueError(f"{where}: found {len(found)} numbers, expected {len(expected)} from the scores")
    for value, other in zip(found, expected, strict=True):
        if not math.isclose(value, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise ValueError(f"{where}: found {value}, expected {other} from the scores")
