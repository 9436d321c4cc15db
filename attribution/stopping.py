"""Stopping: when a search may end early because its verdict would stay as it is.

A rule is fitted to a calibration's own images and reads nothing but one image's distances to all candidates at one
checkpoint, so that neither the batch nor the order of images matters. All candidates' searches for an image stop
together. An image that stopped is judged by the distances that are then expected after all steps, for distances after 3
steps and after 30 are not comparable. Everything else of the calibration is fitted to its own images' in the same way.
"""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attribution.evidence import DecisionSettings
from attribution.fitting import fit, log_distances
from attribution.likelihood import Floats, LogisticCalibrator, cross_fit, folds_of
from attribution.scores import ScoreSet, Unit
from attribution.threshold import clopper_pearson_upper, smallest_n
from attribution.verdict import decide

RISK = 0.02  # of another verdict at the end, at most
CONFIDENCE = 0.95
FOLDS = 5


@dataclass(frozen=True)
class StoppingCheckpoint:
    """After `steps` steps an image stops whose findings are at least `clarity`; None: none stops here.

    logistic: fitted to the distances at this checkpoint. forecast: by candidate (a, b) of ln d_end = a + b ln d_here,
    least squares over the calibration images. stopped, changed: of these, judged by fits without them, how many stop
    here, and how many of those would have had another verdict at the end.
    """

    steps: int
    logistic: LogisticCalibrator
    forecast: tuple[tuple[float, float], ...]
    clarity: float | None
    stopped: int
    changed: int

    def clarity_of(self, distances: ArrayLike) -> Floats:
        """Distances [n, K] here -> [n], log10 of how many times likelier the likeliest hypothesis is than the next."""
        return clarity(self.logistic.log10_lr(distances))

    def expected(self, distances: Sequence[float]) -> tuple[float, ...]:
        """Distances [K] here -> those expected after all steps [K]."""
        logs = log_distances(distances).tolist()
        return tuple(math.exp(a + b * x) for (a, b), x in zip(self.forecast, logs, strict=True))

    def stops(self, distances: Sequence[float]) -> bool:
        """Whether an image at these distances [K] stops."""
        return self.clarity is not None and bool(self.clarity_of([distances])[0] >= self.clarity)


@dataclass(frozen=True)
class StoppingRule:
    """Checkpoints in the order of their steps. units: calibration images; risk, confidence: what was asked for."""

    checkpoints: tuple[StoppingCheckpoint, ...]
    units: int
    risk: float = RISK
    confidence: float = CONFIDENCE

    @property
    def steps(self) -> tuple[int, ...]:
        """Where distances are looked at."""
        return tuple(checkpoint.steps for checkpoint in self.checkpoints)

    def first_stop(self, distances: Sequence[Sequence[float]]) -> int | None:
        """The place of the first checkpoint that stops an image, None where none does.

        distances: [K] at each checkpoint from the first on, as many as were reached.
        """
        reached = zip(self.checkpoints, distances, strict=False)
        return next((place for place, (checkpoint, d) in enumerate(reached) if checkpoint.stops(d)), None)

    def expected(self, distances: Sequence[float], steps: int) -> tuple[float, ...]:
        """Distances [K] after so many steps -> those expected after all; themselves where that is no checkpoint."""
        here = next((checkpoint for checkpoint in self.checkpoints if checkpoint.steps == steps), None)
        return here.expected(distances) if here else tuple(distances)

    def apply(self, unit: Unit) -> Unit:
        """A calibration image with the distances by which it is judged."""
        place = self.first_stop(unit.checkpoints)
        judged = unit.full if place is None else self.checkpoints[place].expected(unit.checkpoints[place])
        return replace(unit, distances=judged)


def without_checkpoints(unit: Unit) -> Unit:
    """A calibration image with its distances after all steps, and no others."""
    return replace(unit, distances=unit.full or unit.distances, checkpoints=(), full=())


def clarity(ratios: Floats) -> Floats:
    """log10 LR against H_0 [n, K] -> log10 ratio of the likeliest hypothesis, H_0 among them, to the next [n]."""
    with_alternative = np.sort(np.concatenate([np.zeros((len(ratios), 1)), ratios], axis=1), axis=1)
    return with_alternative[:, -1] - with_alternative[:, -2]


def fit_stopping(
    scores: ScoreSet,
    steps: Sequence[int],
    decision: DecisionSettings,
    names: Sequence[str],
    alternative: str,
    seed: int,
) -> StoppingRule | None:
    """Fit a rule to a calibration set whose units have distances at the checkpoints, after these numbers of steps.

    An image counts as changed where its verdict at the checkpoint, by a calibration of the distances there, is not its
    verdict after all steps, by one of the distances there; every image is judged by fits without its source. Each
    checkpoint's clarity is the smallest at which the upper bound of the share of changed verdicts among all that have
    stopped so far (Clopper & Pearson, one-sided, at CONFIDENCE) is at most RISK. The bound is looked at for many
    values of clarity, so it guides rather than guarantees: the validation set reports what came of it.
    None where there are too few images to judge, or none would stop.
    """
    fold = folds_of(scores, FOLDS, seed)
    remaining = len(scores.real) - max(np.bincount(fold[scores.labels == 0]))
    fewest = min(len(units) for units in (scores.real, *scores.generated))
    if remaining < smallest_n(1, decision.alpha, decision.delta) or fewest < 2 * FOLDS:
        return None
    ended = scores.map(_after_all)
    final = _cross_fitted_verdicts(ended, fold, decision, names, alternative)
    running = np.ones(len(fold), dtype=bool)
    checkpoints, stopped, changed = [], 0, 0
    for place, count in enumerate(steps):
        here = scores.map(partial(_at, place))
        clear = clarity(cross_fit(here, FOLDS, seed))
        other = _cross_fitted_verdicts(here, fold, decision, names, alternative) != final
        least = _least_clarity(clear[running], other[running], stopped, changed)
        stopping = running & (clear >= least) if least is not None else np.zeros_like(running)
        logistic = LogisticCalibrator.fit(here.distances, here.labels)
        found = int(stopping.sum()), int(other[stopping].sum())
        ahead = forecast(here.distances, ended.distances)
        checkpoints.append(StoppingCheckpoint(count, logistic, ahead, least, *found))
        running &= ~stopping
        stopped, changed = stopped + found[0], changed + found[1]
    return StoppingRule(tuple(checkpoints), len(fold)) if stopped else None


def forecast(here: Floats, ended: Floats) -> tuple[tuple[float, float], ...]:
    """Distances [n, K] at a checkpoint and after all steps -> by candidate (a, b) of ln d_end = a + b ln d_here."""
    x, y = log_distances(here), log_distances(ended)
    varying = x.var(axis=0)
    slope = np.where(varying > 0, ((x - x.mean(0)) * (y - y.mean(0))).mean(0) / np.where(varying > 0, varying, 1), 1.0)
    return tuple(zip((y.mean(0) - slope * x.mean(0)).tolist(), slope.tolist(), strict=True))


def _after_all(unit: Unit) -> Unit:
    return replace(unit, distances=unit.full)


def _is_not_in(out: Container[int], unit: Unit) -> bool:
    return id(unit) not in out


def _at(place: int, unit: Unit) -> Unit:
    return replace(unit, distances=unit.checkpoints[place])


def _least_clarity(clear: Floats, changed: NDArray[np.bool_], stopped_before: int, changed_before: int) -> float | None:
    """The smallest clarity at which the bound holds for the images that are as clear and those stopped before."""
    order = np.argsort(-clear, kind="stable")
    errors = changed_before + np.cumsum(changed[order])
    for n in range(len(order), 0, -1):
        if clopper_pearson_upper(int(errors[n - 1]), stopped_before + n, CONFIDENCE) <= RISK:
            return float(clear[order[n - 1]])
    return None


def _cross_fitted_verdicts(
    scores: ScoreSet, fold: NDArray[np.int64], decision: DecisionSettings, names: Sequence[str], alternative: str
) -> NDArray[np.str_]:
    """Code and candidate of every unit [n], by a calibration without the units of its fold."""
    verdicts = np.empty(len(fold), dtype=object)
    for held_out in np.unique(fold):
        out = {id(unit) for place, unit in enumerate(scores.units) if fold[place] == held_out}
        kept = scores.keep(partial(_is_not_in, out))
        fitted = fit(kept, decision, False, 0)
        own = [d[:, k] for k, d in enumerate(kept.generated_distances)]
        for place in np.nonzero(fold == held_out)[0]:
            evidence = fitted.evaluate(scores.units[place].distances, own, decision.mu)
            verdict = decide(evidence, names, decision, alternative)
            verdicts[place] = f"{verdict.code} {verdict.candidate}"
    return verdicts.astype(str)
