"""Leeway: how far an image's distances may move before its verdict changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.evidence import DecisionSettings
from attribution.fitting import Fitted, fit, log_distances
from attribution.likelihood import Floats
from attribution.scores import ScoreSet

LEVELS = tuple(i / 4 for i in range(1, 17))  # what leeway is measured in, in spreads


@dataclass(frozen=True)
class Judge:
    """The verdicts of a calibration on many images at once, without words: `verdict.decide` says the same of each.

    own: K times [n_k] in ascending order, the distances of each candidate's own images to it.
    """

    fitted: Fitted
    own: tuple[Floats, ...]
    decision: DecisionSettings

    @classmethod
    def of(cls, scores: ScoreSet, decision: DecisionSettings) -> "Judge":
        """Fitted to these images' distances, cross-fitted and with seed 0."""
        own = tuple(np.sort(d[:, k]) for k, d in enumerate(scores.generated_distances))
        return cls(fit(scores, decision, False, 0), own, decision)

    def verdicts(self, distances: Floats) -> NDArray[np.int64]:
        """Distances [n, K] -> [n] numbers, equal where the code and the candidate of the verdict are."""
        n, count = distances.shape
        score, best = self.fitted.flag_scores(distances)
        rows = np.arange(n)
        fits = np.stack([self._p_value(distances[:, k], k) >= self.decision.epsilon for k in range(count)], axis=1)
        ratios = self.fitted.log10_lr(distances)
        flagged, none = score > self.fitted.threshold, ~fits.any(axis=1)
        supported = flagged & fits[rows, best] & (ratios[rows, best] >= self.decision.lambda_)
        refuted = ~flagged & none & (ratios.max(axis=1) <= -self.decision.mu)
        # SUPPORTS, SUPPORTS_GROUP, UNRESOLVED, NOT_SUPPORTED, else INCONCLUSIVE
        kinds = [supported & self._alone(distances, best), supported, flagged & none, refuted]
        code = np.select(kinds, range(len(kinds)), len(kinds))
        return code * count + np.where(supported, best, 0)

    def _p_value(self, distances: Floats, k: int) -> Floats:
        """`threshold.conformal_p_value` of each of the distances [n] among the candidate's own."""
        own = self.own[k]
        return (1 + len(own) - np.searchsorted(own, distances, side="left")) / (len(own) + 1)

    def _alone(self, distances: Floats, best: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the findings tell the candidate with the largest score [n] from all others."""
        alone = np.ones(len(distances), dtype=bool)
        count = distances.shape[1]
        for k, j in ((k, j) for k in range(count) for j in range(count) if j != k):
            apart = self.fitted.log10_pairwise(distances, k, j) >= self.decision.mu
            alone &= (best != k) | (apart & (not self.fitted.one_lineage(k, j)))
        return alone


def leeways(judge: Judge, distances: Floats, spread: Sequence[float], most: float = LEVELS[-1]) -> Floats:
    """The largest of LEVELS, up to `most`, up to which no move of an image's distances changes its verdict; else 0.

    distances [n, K] -> [n]; spread [K]: of the logarithm of each distance. Moves by a level: that many spreads of one
    candidate's distance, of all, and of one's against all others', both ways.
    """
    levels = np.array([level for level in LEVELS if level <= most])
    moves = levels[:, None, None] * _directions(distances.shape[1]) * np.array(spread)
    moved = np.exp(log_distances(distances)[:, None, None, :] + moves)
    verdicts = judge.verdicts(moved.reshape(-1, distances.shape[1])).reshape(moved.shape[:3])
    steady = (verdicts == judge.verdicts(distances)[:, None, None]).all(axis=2)
    reached = np.cumprod(steady, axis=1).sum(axis=1)
    return np.concatenate([[0.0], levels])[reached]


def _directions(count: int) -> Floats:
    """[m, K] of -1, 0 and 1."""
    one, every = np.eye(count), np.ones([1, count])
    half = np.concatenate([one, every, 2 * one - every])
    return np.unique(np.concatenate([half, -half]), axis=0)
