"""Flagging with a guaranteed false-positive rate: Neyman-Pearson umbrella, conformal p-values, and rates."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, binom, rankdata


def umbrella_order(n: int, alpha: float, delta: float) -> int:
    """m: flagging above the m-th largest of n real scores has P(false-positive rate > alpha) <= delta.

    m = max { m : sum_{j<m} C(n,j) alpha^j (1-alpha)^(n-j) <= delta } (Tong, Feng & Li 2018, proposition 1). Raises
    ValueError, naming the smallest n that will do, where n is too small.
    """
    m = int(np.sum(binom.cdf(np.arange(n), n, alpha) <= delta))
    if m == 0:
        raise ValueError(
            f"--real: found {n} real sources in the calibration set, expected at least {smallest_n(1, alpha, delta)} "
            f"for alpha {alpha:g} and delta {delta:g}"
        )
    return m


def smallest_n(m: int, alpha: float, delta: float) -> int:
    """The smallest n for which umbrella_order is m."""
    low, high = m - 1, m
    while binom.cdf(m - 1, high, alpha) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if binom.cdf(m - 1, middle, alpha) <= delta else (middle, high)
    return high


def clopper_pearson_upper(positives: int, n: int, confidence: float = 0.95) -> float:
    """One-sided upper confidence bound of a rate of which positives of n were seen."""
    return 1.0 if positives == n else float(beta.ppf(confidence, positives + 1, n - positives))


def conformal_p_value(score: float, reference: ArrayLike) -> float:
    """(1 + #{reference >= score}) / (n + 1): how rarely a unit of the reference scores this high."""
    reference = np.asarray(reference)
    return (1 + int(np.sum(reference >= score))) / (len(reference) + 1)


def benjamini_hochberg(p_values: Sequence[float], level: float) -> list[bool]:
    """Which p-values to reject so that the false discovery rate over all of them is at most `level`."""
    p = np.asarray(p_values, dtype=np.float64)
    count = len(p)
    ordered = np.sort(p)
    passing = np.nonzero(ordered <= level * np.arange(1, count + 1) / max(count, 1))[0]
    return [bool(v) for v in p <= ordered[passing[-1]]] if len(passing) else [False] * count


def reals_to_reject(images: int, level: float, hits: int = 1) -> int:
    """How many real units conformal p-values need for Benjamini-Hochberg to reject `hits` of so many images."""
    return math.ceil(images / (level * hits) - 1e-9) - 1


def auc(positive: ArrayLike, negative: ArrayLike) -> float:
    """P(positive > negative) + P(equal) / 2 (Mann-Whitney)."""
    positive, negative = np.asarray(positive), np.asarray(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    pairs = len(positive) * len(negative)
    return float((ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2) / pairs)


def tpr_at_fpr(positive: ArrayLike, negative: ArrayLike, fpr: float) -> float | None:
    """Largest share of positives above a threshold that at most `fpr` of the negatives exceed.

    None, not resolvable, with fewer than 1/fpr negatives.
    """
    positive, negative = np.asarray(positive), np.asarray(negative)
    allowed = math.floor(fpr * len(negative) + 1e-9)
    if allowed < 1:
        return None
    return float(np.mean(positive > np.sort(negative)[::-1][min(allowed, len(negative) - 1)]))


def equal_error_rate(positive: ArrayLike, negative: ArrayLike) -> float:
    """The rate at which misses and false positives are equal, linear between neighbouring thresholds."""
    misses, false_positives = error_rates(positive, negative)
    gap = misses - false_positives  # increases from -1 to 1
    i = int(np.searchsorted(gap, 0.0))
    weight = -gap[i - 1] / (gap[i] - gap[i - 1])
    return float(misses[i - 1] + weight * (misses[i] - misses[i - 1]))


def error_rates(positive: ArrayLike, negative: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of positives missed and negatives flagged at every threshold, from flagging all to flagging none."""
    positive, negative = np.sort(np.asarray(positive)), np.sort(np.asarray(negative))
    thresholds = np.unique(np.concatenate([positive, negative]))
    misses = np.searchsorted(positive, thresholds, side="right") / len(positive)
    flagged = 1 - np.searchsorted(negative, thresholds, side="right") / len(negative)
    return np.concatenate([[0.0], misses]), np.concatenate([[1.0], flagged])
