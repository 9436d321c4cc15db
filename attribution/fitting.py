"""Fitting: the numbers that a calibration set gives, and the evidence that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attribution.evidence import Bounds, DecisionSettings, Evidence
from attribution.likelihood import Floats, LogisticCalibrator, cllr_min, cross_fit, elub
from attribution.scores import ScoreSet, disjoint_sets
from attribution.threshold import conformal_p_value, smallest_n, umbrella_order

FOLDS = 5
LINEAGE_CLLR_MIN = 0.9
DISTANCE_FLOOR = 1e-8  # below what float32 LPIPS resolves: keeps the logarithm of a perfect re-synthesis finite
MAD_FLOOR = 1e-3  # 0.1 % of a distance, for generated images that are all as far


@dataclass(frozen=True)
class Fitted:
    """The numbers that a calibration set gives; candidates by index, pair_bounds by (i, j) with i < j.

    medians, mads: of the log distances of each candidate's own images. threshold: the order_m-th largest of
    real_scores, which are in descending order. lineages: pairs that can't be told apart. sets: how units were used.
    """

    medians: tuple[float, ...]
    mads: tuple[float, ...]
    order_m: int
    threshold: float
    real_scores: tuple[float, ...]
    logistic: LogisticCalibrator
    bounds: tuple[Bounds, ...]
    pair_bounds: dict[tuple[int, int], Bounds]
    pair_cllr_min: dict[tuple[int, int], float]
    sets: dict[str, Any]

    def flag_scores(self, distances: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
        """Distances [n, K] -> T = max_k (median_k - log d_k) / MAD_k and the k of the maximum, both [n]."""
        closeness = (np.array(self.medians) - log_distances(distances)) / np.array(self.mads)
        return closeness.max(axis=1), closeness.argmax(axis=1)

    def log10_lr(self, distances: ArrayLike) -> Floats:
        """Bounded log10 LR against H_0 of distances [n, K] -> [n, K]."""
        return np.clip(self.logistic.log10_lr(distances), *np.array(self.bounds).T)

    def log10_pairwise(self, distances: ArrayLike, k: int, j: int) -> Floats:
        """Bounded log10 p(d|H_k)/p(d|H_j) of distances [n, K] -> [n]."""
        return np.clip(self.logistic.log10_pairwise(distances, k, j), *self.pair_bound(k, j))

    def pair_bound(self, k: int, j: int) -> Bounds:
        """Bounds of log10 p(d|H_k)/p(d|H_j)."""
        if k < j:
            return self.pair_bounds[k, j]
        low, high = self.pair_bounds[j, k]
        return -high, -low

    def one_lineage(self, k: int, j: int) -> bool:
        """Whether the distances don't tell the images of two candidates apart: two checkpoints of one run, say."""
        return self.pair_cllr_min[min(k, j), max(k, j)] >= LINEAGE_CLLR_MIN

    def evaluate(self, distances: Sequence[float], generated: Sequence[Floats], mu: float) -> Evidence:
        """Evidence from the distances [K] of one image; generated: K times [n_k], each candidate's own images.

        Raises ValueError for another number of distances, or one that is negative or not finite.
        """
        count = len(self.medians)
        d = np.array(distances, dtype=np.float64).reshape(1, -1)
        if d.shape[1] != count or not np.all(np.isfinite(d) & (d >= 0)):
            raise ValueError(f"distances: found {list(distances)}, expected {count} finite numbers of at least 0")
        scores, best = self.flag_scores(d)
        score, k = float(scores[0]), int(best[0])
        pairwise = {j: float(self.log10_pairwise(d, k, j)[0]) for j in range(count) if j != k}
        return Evidence(
            score=score,
            threshold=self.threshold,
            k_star=k,
            p_value_generated=tuple(conformal_p_value(x, own) for x, own in zip(d[0], generated, strict=True)),
            log10_lr_unbounded=tuple(self.logistic.log10_lr(d)[0].tolist()),
            log10_lr=tuple(self.log10_lr(d)[0].tolist()),
            log10_lr_bounds=self.bounds,
            p_value_real=conformal_p_value(score, self.real_scores),
            pairwise=pairwise,
            log10_margin=min(pairwise.values(), default=None),
            group=tuple(sorted({k} | {j for j, ratio in pairwise.items() if ratio < mu or self.one_lineage(k, j)})),
        )


def fit(scores: ScoreSet, decision: DecisionSettings, disjoint: bool, seed: int) -> Fitted:
    """Fit a calibration set; disjoint: to separate units for fit, bound and threshold, where there are enough.

    Raises ValueError for too few real sources (it names the smallest number that will do) or images of a class.
    """
    parts = disjoint_sets(scores, smallest_n(1, decision.alpha, decision.delta), seed) if disjoint else None
    to_fit, to_bound, for_threshold = parts or (scores, scores, scores)
    order = umbrella_order(len(for_threshold.real), decision.alpha, decision.delta)
    logistic = LogisticCalibrator.fit(to_fit.distances, to_fit.labels)
    ratios = logistic.log10_lr(to_bound.distances) if parts else cross_fit(scores, FOLDS, seed)
    medians, mads = _medians_and_mads(scores)
    closeness = (np.array(medians) - log_distances(for_threshold.real_distances)) / np.array(mads)
    real_scores = tuple(sorted(closeness.max(axis=1).tolist(), reverse=True))
    bounds, pair_bounds = _bounds(ratios, to_bound.labels)
    return Fitted(
        medians=medians,
        mads=mads,
        order_m=order,
        threshold=real_scores[order - 1],
        real_scores=real_scores,
        logistic=logistic,
        bounds=bounds,
        pair_bounds=pair_bounds,
        pair_cllr_min={(i, j): _pair_cllr_min(scores, i, j) for i, j in pair_bounds},
        sets={
            "method": "disjoint" if parts else "cross-fitted",
            "folds": None if parts else FOLDS,
            "seed": seed,
            "n_fit": len(to_fit.units),
            "n_bound": len(to_bound.units),
            "n_threshold": len(for_threshold.real),
        },
    )


def log_distances(distances: ArrayLike) -> Floats:
    """ln of distances, which are floored first."""
    return np.log(np.maximum(np.asarray(distances, dtype=np.float64), DISTANCE_FLOOR))


def _medians_and_mads(scores: ScoreSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of the log distances of each candidate's own images."""
    logs = [log_distances(d[:, k]) for k, d in enumerate(scores.generated_distances)]
    medians = [float(np.median(x)) for x in logs]
    mads = [max(float(np.median(np.abs(x - m))), MAD_FLOOR) for x, m in zip(logs, medians, strict=True)]
    return tuple(medians), tuple(mads)


def _bounds(ratios: Floats, labels: NDArray[np.int64]) -> tuple[tuple[Bounds, ...], dict[tuple[int, int], Bounds]]:
    """ELUB of each candidate against H_0 and of each pair, from log10 LR [n, K] of units that were not fitted on."""
    count = ratios.shape[1]
    alternative, *of = (ratios[labels == label] for label in range(count + 1))
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    return (
        tuple(elub(of[k][:, k], alternative[:, k]) for k in range(count)),
        {(i, j): elub(of[i][:, i] - of[i][:, j], of[j][:, i] - of[j][:, j]) for i, j in pairs},
    )


def _pair_cllr_min(scores: ScoreSet, i: int, j: int) -> float:
    """Cllr_min of d_i - d_j between the images of candidates i and j: 1 where it can't tell them apart."""
    of_i, of_j = scores.generated_distances[i], scores.generated_distances[j]
    return cllr_min(of_i[:, j] - of_i[:, i], of_j[:, j] - of_j[:, i])


def unreachable(
    fitted: Fitted, generated: Sequence[int], names: Sequence[str], decision: DecisionSettings
) -> list[dict[str, str | None]]:
    """Verdicts that no image can get: {code, candidate, why}; candidate None: for none of the candidates.

    generated: how many images each candidate's p-value counts.
    """
    found: list[tuple[str, str | None, str]] = []
    for k, name in enumerate(names):
        found += [(code, name, why) for code, why in _out_of_reach(fitted, k, names, decision)]
    if len(names) == 1:
        found.append(("SUPPORTS_GROUP", None, "there is one candidate only"))
    for name, n in zip(names, generated, strict=True):
        if 1 / (n + 1) >= decision.epsilon:
            why = f"with {n} images of {name} no p-value falls below {decision.epsilon:g}"
            found += [("UNRESOLVED", None, why), ("NOT_SUPPORTED", None, why)]
    for name, (low, _) in zip(names, fitted.bounds, strict=True):
        if low > -decision.mu:
            why = f"log10 LR of {name} goes down to {low:.2f} only, not to the {-decision.mu:g} asked for"
            found.append(("NOT_SUPPORTED", None, why))
    return [{"code": code, "candidate": candidate, "why": why} for code, candidate, why in found]


def _out_of_reach(fitted: Fitted, k: int, names: Sequence[str], decision: DecisionSettings) -> list[tuple[str, str]]:
    """(code, why) of the supporting verdicts that candidate k can't get."""
    name, high = names[k], fitted.bounds[k][1]
    if high < decision.lambda_:
        why = f"log10 LR of {name} goes up to {high:.2f} only, not to the {decision.lambda_:g} asked for"
        return [("SUPPORTS", why), ("SUPPORTS_GROUP", why)]
    found = []
    for j in (j for j in range(len(names)) if j != k):
        margin = fitted.pair_bound(k, j)[1]
        if fitted.one_lineage(k, j):
            found.append(("SUPPORTS", f"{name} and {names[j]} are one lineage and only supported as a group"))
        elif margin < decision.mu:
            versus = f"log10 LR of {name} against {names[j]}"
            why = f"{versus} goes up to {margin:.2f} only, not to the {decision.mu:g} asked for"
            found.append(("SUPPORTS", why))
    return found
