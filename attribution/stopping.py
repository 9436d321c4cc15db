"""Stopping: when a search may end early because its verdict would stay as it is.

A rule is fitted to a calibration's own images and reads nothing but one image's distances to all candidates at one
checkpoint, so that neither the batch nor the order of images matters. All candidates' searches for an image stop
together. An image that stopped is judged by the distances that are then expected after all steps, for distances after 3
steps and after 30 are not comparable. Everything else of the calibration is fitted to its own images' in the same way.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attribution.evidence import DecisionSettings
from attribution.fitting import Fitted, fit, log_distances
from attribution.likelihood import Floats, LogisticCalibrator, cross_fit, folds_of
from attribution.scores import ScoreSet, Unit
from attribution.threshold import clopper_pearson_upper, smallest_n
from attribution.verdict import decide

RISK = 0.02  # of another verdict at the end, at most
CONFIDENCE = 0.95
FOLDS = 5
LARGEST_LOG = 4.0  # of an expected distance: far beyond LPIPS, and finite

VerdictOf = Callable[[Sequence[float]], str]


@dataclass(frozen=True)
class StoppingCheckpoint:
    """After `steps` steps an image stops whose findings are at least `clarity`; None: none stops here.

    logistic: fitted to the distances at this checkpoint. forecast: by candidate (a, b) of ln d_end = a + b ln d_here,
    least squares over the calibration images. stopped, changed: of these, judged by fits without them, how many stop
    here, and how many of those have another verdict by the distances expected here than by those at the end.
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
        return tuple(along(self.forecast, np.array([distances]))[0].tolist())

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

    An image counts as changed where the distances expected at the checkpoint give another verdict than those after all
    steps, by a calibration of the latter; every image is judged by fits and forecasts without its fold. Each
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
    judges = list(_judges(ended, fold, decision, names, alternative))
    final = _verdicts(judges, ended.distances)
    running = np.ones(len(fold), dtype=bool)
    checkpoints, stopped, changed = [], 0, 0
    for place, count in enumerate(steps):
        here = scores.map(partial(_at, place))
        clear = clarity(cross_fit(here, FOLDS, seed))
        other = _verdicts(judges, _cross_fitted_forecasts(judges, here.distances, ended.distances)) != final
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
    varying = np.ptp(x, axis=0) > 0
    covariance = ((x - x.mean(0)) * (y - y.mean(0))).mean(0)
    slope = np.where(varying, covariance / np.where(varying, x.var(axis=0), 1.0), 1.0)
    return tuple(zip((y.mean(0) - slope * x.mean(0)).tolist(), slope.tolist(), strict=True))


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


def _least_clarity(clear: Floats, changed: NDArray[np.bool_], stopped_before: int, changed_before: int) -> float | None:
    """The smallest clarity at which the bound holds for the images that are as clear and those stopped before."""
    order = np.argsort(-clear, kind="stable")
    errors = changed_before + np.cumsum(changed[order])
    for n in range(len(order), 0, -1):
        if clopper_pearson_upper(int(errors[n - 1]), stopped_before + n, CONFIDENCE) <= RISK:
            return float(clear[order[n - 1]])
    return None


def _judges(
    ended: ScoreSet, fold: NDArray[np.int64], decision: DecisionSettings, names: Sequence[str], alternative: str
) -> Iterator[tuple[NDArray[np.bool_], VerdictOf]]:
    """(its units [n], from distances to code and candidate by a calibration of the other folds) of every fold."""
    for held_out in np.unique(fold):
        out = {id(unit) for place, unit in enumerate(ended.units) if fold[place] == held_out}
        kept = ended.keep(partial(_is_not_in, out))
        own = [d[:, k] for k, d in enumerate(kept.generated_distances)]
        fitted = fit(kept, decision, False, 0)
        yield fold == held_out, partial(_verdict, fitted, own, decision, names, alternative)


def _verdict(
    fitted: Fitted,
    own: Sequence[Floats],
    decision: DecisionSettings,
    names: Sequence[str],
    alternative: str,
    distances: Sequence[float],
) -> str:
    verdict = decide(fitted.evaluate(distances, own, decision.mu), names, decision, alternative)
    return f"{verdict.code} {verdict.candidate}"


def _verdicts(judges: Sequence[tuple[NDArray[np.bool_], VerdictOf]], distances: Floats) -> NDArray[np.str_]:
    """Code and candidate of every unit [n] from its distances [n, K], by the calibration without its fold."""
    verdicts = np.empty(len(distances), dtype=object)
    for held_out, verdict in judges:
        for place in np.nonzero(held_out)[0]:
            verdicts[place] = verdict(distances[place].tolist())
    return verdicts.astype(str)


def _cross_fitted_forecasts(
    judges: Sequence[tuple[NDArray[np.bool_], VerdictOf]], here: Floats, ended: Floats
) -> Floats:
    """Expected distances [n, K] of every unit, along lines through those of the other folds."""
    expected = np.empty_like(here)
    for held_out, _ in judges:
        expected[held_out] = along(forecast(here[~held_out], ended[~held_out]), here[held_out])
    return expected
