"""Likelihood ratios: the logistic calibrator, how far its ratios may go, and how good they are. log10 everywhere."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression

from attribution.scores import ScoreSet, shuffled

Floats = NDArray[np.float64]

SOLVER = "lbfgs"
PENALTY_C = 1e6  # as good as none: scikit-learn's default, C = 1, flattens ratios on the scale of LPIPS
TOLERANCE = 1e-10
MAX_ITERATIONS = 10_000
LARGEST_LOG10 = 15.0  # ELUB needs only to know that a ratio is beyond any number of units


@dataclass(frozen=True)
class LogisticCalibrator:
    """Class-balanced multinomial logistic on standardised scores: log-odds against H_0 are log-likelihood ratios.

    For K candidates the score of a distance d is (-d - mean) / scale, [K]; ln LR_k = coef[k] . score + intercept[k].
    coef is [K, K]. How the optimiser ended is recorded; separated data have no finite optimum without the weak penalty.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coef: tuple[tuple[float, ...], ...]
    intercept: tuple[float, ...]
    iterations: int
    converged: bool
    C: float = PENALTY_C
    tol: float = TOLERANCE
    max_iter: int = MAX_ITERATIONS
    solver: str = SOLVER

    @classmethod
    def fit(cls, distances: ArrayLike, labels: ArrayLike) -> "LogisticCalibrator":
        """Fit to distances [n, K] and labels [n]: 0 for H_0, k + 1 for candidate k.

        Raises ValueError where one of the K + 1 classes is absent.
        """
        scores, labels = -np.asarray(distances, dtype=np.float64), np.asarray(labels)
        count = scores.shape[1]
        absent = sorted(set(range(count + 1)) - set(labels.tolist()))
        if absent:
            raise ValueError(f"calibration: found no images of class {absent[0]}, expected all of 0 ... {count}")
        mean, scale = scores.mean(axis=0), scores.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        model = LogisticRegression(
            C=PENALTY_C, solver=SOLVER, tol=TOLERANCE, max_iter=MAX_ITERATIONS, class_weight="balanced"
        )
        with warnings.catch_warnings():  # recorded as `converged`; the last digits move, the bounded ratio doesn't
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((scores - mean) / scale, labels)
        binary = count == 1  # then scikit-learn keeps the log-odds, otherwise one row for every class
        coef = model.coef_ if binary else model.coef_[1:] - model.coef_[0]
        intercept = model.intercept_ if binary else model.intercept_[1:] - model.intercept_[0]
        iterations = int(model.n_iter_.max())
        return cls(
            tuple(mean.tolist()),
            tuple(scale.tolist()),
            tuple(tuple(row) for row in coef.tolist()),
            tuple(intercept.tolist()),
            iterations,
            iterations < MAX_ITERATIONS,
        )

    def log10_lr(self, distances: ArrayLike) -> Floats:
        """log10 p(d | H_k) / p(d | H_0) of distances [n, K] -> [n, K], unbounded."""
        scores = (-np.asarray(distances, dtype=np.float64) - np.array(self.mean)) / np.array(self.scale)
        # a sum, not a matrix product: the last digit of an image's ratio must not depend on how many are computed
        return ((scores[:, None, :] * np.array(self.coef)).sum(axis=2) + np.array(self.intercept)) / math.log(10)

    def log10_pairwise(self, distances: ArrayLike, k: int, j: int) -> Floats:
        """log10 p(d | H_k) / p(d | H_j) of distances [n, K] -> [n], unbounded."""
        ratios = self.log10_lr(distances)
        return ratios[:, k] - ratios[:, j]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {k: [list(r) if isinstance(r, tuple) else r for r in v] if isinstance(v, tuple) else v
                for k, v in asdict(self).items()}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LogisticCalibrator":
        """Inverse of to_json. Raises ValueError for missing or extra keys, or coefficients of unequal number."""
        expected = {f.name for f in fields(cls)}
        if set(data) != expected:
            raise ValueError(f"logistic: found keys {sorted(data)}, expected {sorted(expected)}")
        vectors = {name: tuple(float(x) for x in data[name]) for name in ("mean", "scale", "intercept")}
        coef = tuple(tuple(float(x) for x in row) for row in data["coef"])
        lengths = {len(coef), *map(len, coef), *map(len, vectors.values())}
        if len(lengths) != 1:
            raise ValueError(f"logistic: found lengths {sorted(lengths)}, expected one number of candidates")
        return cls(**{**data, **vectors, "coef": coef})


def cross_fit(scores: ScoreSet, folds: int = 5, seed: int = 0) -> Floats:
    """Out-of-fold log10 LR [n, K] of all units, in their order: every source is judged by a fit without it.

    Folds are seeded and stratified by class and split. Raises ValueError for a class of fewer than two sources.
    """
    fold = folds_of(scores, folds, seed)
    ratios = np.empty_like(scores.distances)
    for held_out in np.unique(fold):
        out = fold == held_out
        logistic = LogisticCalibrator.fit(scores.distances[~out], scores.labels[~out])
        ratios[out] = logistic.log10_lr(scores.distances[out])
    return ratios


def folds_of(scores: ScoreSet, folds: int, seed: int) -> NDArray[np.int64]:
    """[n] fold of every unit; a source that is in several classes stays in one fold.

    Raises ValueError for a class of fewer than two sources.
    """
    fold_of: dict[str, int] = {}
    for label in range(len(scores.generated) + 1):
        units = [unit for unit, its in zip(scores.units, scores.labels, strict=True) if its == label]
        sources = [s for split in sorted({u.split for u in units})
                   for s in shuffled((u.source for u in units if u.split == split), seed)]  # fmt: skip
        if len(set(sources)) < 2:
            raise ValueError(f"calibration: found {len(sources)} sources of class {label}, expected at least 2")
        for position, source in enumerate(sources):
            fold_of.setdefault(source, position % min(folds, len(sources)))
    return np.array([fold_of[unit.source] for unit in scores.units])


def elub(log10_lr_h1: ArrayLike, log10_lr_h2: ArrayLike) -> tuple[float, float]:
    """Empirical lower and upper bound of log10 LR (Vergeer et al. 2016): lo <= 0 <= hi.

    Beyond them, once one more misleading unit is added, deciding by the ratios costs more than ignoring them.
    n + n perfectly separated units give +-log10(n + 1).
    """
    h1 = np.clip(np.asarray(log10_lr_h1, dtype=np.float64), -LARGEST_LOG10, LARGEST_LOG10)
    h2 = np.clip(np.asarray(log10_lr_h2, dtype=np.float64), -LARGEST_LOG10, LARGEST_LOG10)
    return -_upper_bound(-h2, -h1), _upper_bound(h1, h2)


def _upper_bound(h1: Floats, h2: Floats) -> float:
    """First threshold t >= 1 whose cost P(LR < t | H_1) + t P(LR >= t | H_2), with one LR = t added to H_2, is above 1.

    1 is the cost of ignoring the ratios. Between neighbouring ratios the cost is linear in t.
    """
    start = np.unique(np.concatenate([[0.0], h1[h1 > 0], h2[h2 > 0]]))
    end = np.append(10.0 ** start[1:], np.inf)
    misses = np.searchsorted(np.sort(h1), start, side="right") / len(h1)
    misleading = (len(h2) - np.searchsorted(np.sort(h2), start, side="right") + 1) / (len(h2) + 1)
    break_even = (1 - misses) / misleading
    first = int(np.argmax(break_even < end))  # the last interval has no end
    return math.log10(max(10.0 ** start[first], break_even[first]))


def cllr(log10_lr_h1: ArrayLike, log10_lr_h2: ArrayLike) -> float:
    """Cost of log-likelihood ratios in bits (Brümmer & du Preez 2006, eq. 9): 0 perfect, 1 as good as no system."""
    h1, h2 = np.asarray(log10_lr_h1) * math.log(10), np.asarray(log10_lr_h2) * math.log(10)
    return float((np.logaddexp(0, -h1).mean() + np.logaddexp(0, h2).mean()) / (2 * math.log(2)))


def cllr_min(score_h1: ArrayLike, score_h2: ArrayLike) -> float:
    """Cllr after the best monotone recalibration (PAV): the cost of discrimination. Larger scores speak for H_1."""
    h1, h2 = np.asarray(score_h1), np.asarray(score_h2)
    ranks = np.unique(np.concatenate([h1, h2]), return_inverse=True)[1]
    n1 = np.bincount(ranks[: len(h1)], minlength=ranks.max() + 1)
    n2 = np.bincount(ranks[len(h1) :], minlength=ranks.max() + 1)
    p = isotonic_regression(n1 / (n1 + n2), sample_weight=(n1 + n2).astype(np.float64), y_min=0, y_max=1)
    of_h1, of_h2 = n1 > 0, n2 > 0  # within these 0 < p and p < 1: the LR is finite where it is needed
    cost1 = n1[of_h1] @ np.log2(1 + (1 - p[of_h1]) / p[of_h1] * len(h1) / len(h2)) / len(h1)
    cost2 = n2[of_h2] @ np.log2(1 + p[of_h2] / (1 - p[of_h2]) * len(h2) / len(h1)) / len(h2)
    return float((cost1 + cost2) / 2)


def cllr_cal(log10_lr_h1: ArrayLike, log10_lr_h2: ArrayLike) -> float:
    """Cllr - Cllr_min: what miscalibration costs."""
    return cllr(log10_lr_h1, log10_lr_h2) - cllr_min(log10_lr_h1, log10_lr_h2)


def bootstrap_intervals(
    statistics: Callable[[Floats, Floats], Sequence[float]],
    values: tuple[Floats, Floats],
    sources: tuple[Sequence[str], Sequence[str]],
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[tuple[float, float]]:
    """Percentile intervals of statistics(h1, h2), resampling the sources of each class with their units."""
    rng = np.random.default_rng(seed)
    units = [_units_by_source(s) for s in sources]
    drawn = []
    for _ in range(samples):
        index = [np.concatenate([u[i] for i in rng.integers(len(u), size=len(u))]) for u in units]
        drawn.append(statistics(values[0][index[0]], values[1][index[1]]))
    low, high = np.quantile(np.array(drawn), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _units_by_source(sources: Sequence[str]) -> list[NDArray[np.int64]]:
    """The places of each source's units."""
    number, counts = np.unique(np.array(sources), return_inverse=True, return_counts=True)[1:]
    return np.split(np.argsort(number, kind="stable"), np.cumsum(counts)[:-1])
