"""Stopping: when a search may end early because its verdict would stay as it is.

From the distances at a checkpoint those after all steps are expected, on lines through the calibration's own images.
An image stops where no distances about the expected ones have another verdict, as far about as experience with these
images asks for. A rule reads nothing but one image's distances to all candidates at one checkpoint, so that neither
the batch nor the order of images matters. All candidates' searches for an image stop together. It is judged by the
distances that are then expected, for distances after 3 steps and after 30 are not comparable; everything else of the
calibration is fitted to its own images' in the same way.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from attribution.evidence import DecisionSettings
from attribution.fitting import log_distances
from attribution.leeway import LEVELS, Judge, leeways
from attribution.likelihood import Floats, folds_of
from attribution.scores import ScoreSet, Unit
from attribution.threshold import clopper_pearson_upper, smallest_n

RISK = 0.02  # of another verdict at the end, at most
CONFIDENCE = 0.95
FOLDS = 5
LARGEST_LOG = 4.0  # of an expected distance: far beyond LPIPS, and finite


@dataclass(frozen=True)
class StoppingCheckpoint:
    """After `steps` steps an image stops whose verdict has at least this `leeway`; None: none stops here.

    forecast: by candidate (a, b) of ln d_end = a + b ln d_here, least squares over the calibration images; spread: by
    candidate, the standard deviation of what ln d_end is beside it. leeway: in spreads, about the expected distances.
    stopped, changed: of the calibration images, judged by fits without them, how many stop here, and how many of those
    have another verdict by the distances expected here than by those at the end.
    """

    steps: int
    forecast: tuple[tuple[float, float], ...]
    spread: tuple[float, ...]
    leeway: float | None
    stopped: int
    changed: int

    def expected(self, distances: Sequence[float]) -> tuple[float, ...]:
        """Distances [K] here -> those expected after all steps [K]."""
        return tuple(along(self.forecast, np.array([distances]))[0].tolist())

    def leeway_of(self, distances: Sequence[float], judge: Judge, most: float = LEVELS[-1]) -> float:
        """The leeway of an image at these distances [K], as far as `most`; judge: of distances after all steps."""
        return float(leeways(judge, np.array([self.expected(distances)]), self.spread, most)[0])


@dataclass(frozen=True)
class StoppingRule:
    """Checkpoints in the order of their steps. units: calibration images; risk, confidence: what was asked for.

    judge: the verdicts after all steps, of a calibration of the same images' distances there.
    """

    checkpoints: tuple[StoppingCheckpoint, ...]
    units: int
    judge: Judge = field(compare=False, repr=False)
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
        return next(
            (place for place, _ in enumerate(self.steps[: len(distances)]) if self.stops(place, distances[place])), None
        )

    def stops(self, place: int, distances: Sequence[float]) -> bool:
        """Whether an image at these distances [K] stops at the checkpoint of this place; none if one is not finite."""
        checkpoint = self.checkpoints[place]
        asked = checkpoint.leeway
        if asked is None or not np.all(np.isfinite(distances)):
            return False
        return checkpoint.leeway_of(distances, self.judge, asked) >= asked

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


def fit_stopping(scores: ScoreSet, steps: Sequence[int], decision: DecisionSettings, seed: int) -> StoppingRule | None:
    """Fit a rule to a calibration set whose units have distances at the checkpoints, after these numbers of steps.

    An image counts as changed where the distances expected at the checkpoint give another verdict than those after all
    steps, by a calibration of the latter; every image is judged by fits, forecasts and spreads without its fold. Each
    checkpoint's leeway is the smallest of LEVELS at which the upper bound of the share of changed verdicts among all
    that have stopped so far (Clopper & Pearson, one-sided, at CONFIDENCE) is at most RISK. The bound is looked at for
    many values of leeway, so it guides rather than guarantees: the validation set reports what came of it.
    None where there are too few images to judge, or none would stop.
    """
    fold = folds_of(scores, FOLDS, seed)
    remaining = len(scores.real) - max(np.bincount(fold[: len(scores.real)]))
    fewest = min(len(units) for units in (scores.real, *scores.generated))
    if remaining < smallest_n(1, decision.alpha, decision.delta) or fewest < 2 * FOLDS:
        return None
    ended = scores.map(_after_all)
    judges = [(fold == held_out, _judge_without(ended, fold == held_out, decision)) for held_out in np.unique(fold)]
    running = np.ones(len(fold), dtype=bool)
    checkpoints, stopped, changed = [], 0, 0
    for place, count in enumerate(steps):
        here = scores.map(partial(_at, place)).distances
        leeway, other = _cross_fitted(judges, here, ended.distances)
        least = _least_leeway(leeway[running], other[running], stopped, changed)
        stopping = running & (leeway >= least) if least is not None else np.zeros_like(running)
        found = int(stopping.sum()), int(other[stopping].sum())
        ahead = forecast(here, ended.distances)
        checkpoints.append(StoppingCheckpoint(count, ahead, spread(ahead, here, ended.distances), least, *found))
        running &= ~stopping
        stopped, changed = stopped + found[0], changed + found[1]
    return StoppingRule(tuple(checkpoints), len(fold), judge_after_all(scores, decision)) if stopped else None


def judge_after_all(scores: ScoreSet, decision: DecisionSettings) -> Judge:
    """Of a calibration set's distances after all steps."""
    return Judge.of(scores.map(_after_all), decision)


def forecast(here: Floats, ended: Floats) -> tuple[tuple[float, float], ...]:
    """Distances [n, K] at a checkpoint and after all steps -> by candidate (a, b) of ln d_end = a + b ln d_here."""
    x, y = log_distances(here), log_distances(ended)
    varying = np.ptp(x, axis=0) > 0
    covariance = ((x - x.mean(0)) * (y - y.mean(0))).mean(0)
    slope = np.where(varying, covariance / np.where(varying, x.var(axis=0), 1.0), 1.0)
    return tuple(zip((y.mean(0) - slope * x.mean(0)).tolist(), slope.tolist(), strict=True))


def spread(lines: Sequence[tuple[float, float]], here: Floats, ended: Floats) -> tuple[float, ...]:
    """By candidate: the standard deviation of ln d_end about these lines, over distances [n, K] here and at the end."""
    return tuple((log_distances(ended) - log_distances(along(lines, here))).std(axis=0).tolist())


def along(lines: Sequence[tuple[float, float]], here: Floats) -> Floats:
    """Distances [n, K] at a checkpoint -> those expected after all steps [n, K]."""
    a, b = np.array(lines).T
    return np.exp(np.minimum(a + b * log_distances(here), LARGEST_LOG))


def _after_all(unit: Unit) -> Unit:
    return replace(unit, distances=unit.full)


def _is_not_in(out: Container[int], unit: Unit) -> bool:
    return id(unit) not in out


def _at(place: int, unit: Unit) -> Unit:
    return replace(unit, distances=unit.checkpoints[place])


def _judge_without(ended: ScoreSet, held_out: NDArray[np.bool_], decision: DecisionSettings) -> Judge:
    out = {id(unit) for unit, is_out in zip(ended.units, held_out, strict=True) if is_out}
    return Judge.of(ended.keep(partial(_is_not_in, out)), decision)


def _cross_fitted(
    judges: Sequence[tuple[NDArray[np.bool_], Judge]], here: Floats, ended: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Of every unit, by what the other folds say: its leeway at the distances [n, K] here, and whether they change it.

    judges: the units that each is for, and a judge without them.
    """
    leeway, changed = np.empty(len(here)), np.empty(len(here), dtype=bool)
    for own, judge in judges:
        lines = forecast(here[~own], ended[~own])
        expected = along(lines, here[own])
        leeway[own] = leeways(judge, expected, spread(lines, here[~own], ended[~own]))
        changed[own] = judge.verdicts(expected) != judge.verdicts(ended[own])
    return leeway, changed


def _least_leeway(leeway: Floats, changed: NDArray[np.bool_], stopped_before: int, changed_before: int) -> float | None:
    """The smallest of LEVELS at which the bound holds for the images with as much and those stopped before."""
    for level in LEVELS:
        stopping = leeway >= level
        found = changed_before + int(changed[stopping].sum()), stopped_before + int(stopping.sum())
        if stopping.any() and clopper_pearson_upper(*found, CONFIDENCE) <= RISK:
            return level
    return None
