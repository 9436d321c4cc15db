"""Scores: the distances of images of known origin, and how their sources are divided among tasks.

Every choice is made by hashing (seed, source): it depends neither on the order of the files nor on what else is there.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from generator.imagesets import ImageRecord

FOUR_SETS_FROM = 600  # real sources: fit 100, bound 100, threshold 300 (alpha 1 %), validation 100
SMALLEST_PART = 100  # real sources to fit and to bound: with fewer the bound stays below log10 LR 2


class HasSource(Protocol):
    """What has a source and a split: an image record, a unit."""

    @property
    def source(self) -> str:
        """What makes images dependent on each other."""

    @property
    def split(self) -> str:
        """The part of the population, "" without one."""


@dataclass(frozen=True)
class Unit:
    """One image of known origin, the only one of its source; distances [K] in the order of the candidates, LPIPS >= 0.

    Where a stopping rule may end searches: checkpoints, the distances at each checkpoint [C, K], and full, those after
    all steps [K]; else both are empty. Raises ValueError for a distance that is negative or not finite.
    """

    name: str
    source: str
    split: str
    pixels_sha256: str
    distances: tuple[float, ...]
    checkpoints: tuple[tuple[float, ...], ...] = ()
    full: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for distance in (*self.distances, *self.full, *(d for row in self.checkpoints for d in row)):
            if not (math.isfinite(distance) and distance >= 0):
                raise ValueError(f"{self.name}: found distance {distance}, expected a finite number of at least 0")


@dataclass(frozen=True)
class ScoreSet:
    """The scores of one population: real images, images of each candidate, images of other generators by name.

    Raises ValueError for a unit with another number of distances than there are candidates, or a source that counts
    twice within a class: one image per source.
    """

    real: tuple[Unit, ...]
    generated: tuple[tuple[Unit, ...], ...]
    other: Mapping[str, tuple[Unit, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for units in (self.real, *self.generated, *self.other.values()):
            seen: set[str] = set()
            for unit in units:
                for row in (unit.distances, *unit.checkpoints, *([unit.full] if unit.checkpoints else [])):
                    if len(row) != len(self.generated):
                        found = f"{len(row)} distances"
                        expected = f"{len(self.generated)}, one per candidate"
                        raise ValueError(f"{unit.name}: found {found}, expected {expected}")
                if unit.source in seen:
                    raise ValueError(f"{unit.name}: found source {unit.source} again, expected one image per source")
                seen.add(unit.source)

    @cached_property
    def real_distances(self) -> NDArray[np.float64]:
        """[n, K]."""
        return self._matrix(self.real)

    @cached_property
    def generated_distances(self) -> tuple[NDArray[np.float64], ...]:
        """K times [n_k, K]: images of each candidate, their distances to every candidate."""
        return tuple(self._matrix(units) for units in self.generated)

    @cached_property
    def other_distances(self) -> dict[str, NDArray[np.float64]]:
        """[n, K] for each other generator."""
        return {name: self._matrix(units) for name, units in self.other.items()}

    @cached_property
    def alternative(self) -> tuple[Unit, ...]:
        """The units of H_0: the real images and those of the other generators."""
        return (*self.real, *(unit for name in sorted(self.other) for unit in self.other[name]))

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """All units, H_0 first, then H_1 ... H_K; `distances` and `labels` have the same order."""
        return (*self.alternative, *(unit for units in self.generated for unit in units))

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """[n, K] of all units."""
        return self._matrix(self.units)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """[n]: 0 for H_0, k + 1 for an image of candidate k."""
        sizes = [len(self.alternative), *map(len, self.generated)]
        return np.repeat(np.arange(len(sizes)), sizes)

    def map(self, change: Callable[[Unit], Unit]) -> "ScoreSet":
        """The set with every unit changed."""
        return ScoreSet(
            tuple(map(change, self.real)),
            tuple(tuple(map(change, units)) for units in self.generated),
            {name: tuple(map(change, units)) for name, units in self.other.items()},
        )

    def keep(self, chosen: Callable[[Unit], bool]) -> "ScoreSet":
        """The set with the units that are chosen."""
        return ScoreSet(
            tuple(filter(chosen, self.real)),
            tuple(tuple(filter(chosen, units)) for units in self.generated),
            {name: tuple(filter(chosen, units)) for name, units in self.other.items()},
        )

    def sizes(self, names: Sequence[str]) -> dict[str, object]:
        """Count units (each its own source) by class, under the candidates' names."""
        return {
            "real": len(self.real),
            "generated": {name: len(units) for name, units in zip(names, self.generated, strict=True)},
            "other": {name: len(units) for name, units in sorted(self.other.items())},
        }

    def _matrix(self, units: Sequence[Unit]) -> NDArray[np.float64]:
        return np.array([unit.distances for unit in units], dtype=np.float64).reshape(len(units), len(self.generated))


def shuffled(items: Iterable[str], seed: int) -> list[str]:
    """Distinct strings in a seeded order that adding or removing one of them doesn't change for the rest."""
    return sorted(set(items), key=lambda item: hashlib.sha256(f"{seed}:{item}".encode()).digest())


def split_sources(records: Sequence[HasSource], fraction: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide sources into calibration and validation, `fraction` of every split for validation -> two sorted tuples.

    A source that appears in several splits counts in the first of them by name. Raises ValueError for a fraction
    outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"--validation: found {fraction}, expected a fraction between 0 and 1")
    calibration: list[str] = []
    validation: list[str] = []
    for sources in _by_split(records).values():
        held_out = round(fraction * len(sources))
        order = shuffled(sources, seed)
        validation += order[:held_out]
        calibration += order[held_out:]
    return tuple(sorted(calibration)), tuple(sorted(validation))


def one_per_source(records: Sequence[ImageRecord], seed: int) -> list[ImageRecord]:
    """Pick one seeded image of every source, sorted by name."""
    by_source: dict[str, dict[str, ImageRecord]] = {}
    for record in records:
        by_source.setdefault(record.source, {})[record.name] = record
    return sorted((images[shuffled(images, seed)[0]] for images in by_source.values()), key=lambda r: r.name)


def disjoint_sets(scores: ScoreSet, n_threshold: int, seed: int) -> tuple[ScoreSet, ScoreSet, ScoreSet] | None:
    """Divide a calibration set into fit, bound and threshold (reals only), stratified by split.

    The threshold takes three fifths of the reals and at least n_threshold. None where fewer than SMALLEST_PART reals
    would remain to fit or to bound.
    """
    share = max(0.6, n_threshold / max(len(scores.real), 1))
    rest, threshold = _divide(scores.real, min(share, 1.0), seed)
    fit, bound = _divide(rest, 0.5, seed + 1)
    if min(len(fit), len(bound)) < SMALLEST_PART or len(threshold) < n_threshold:
        return None
    generated = [_divide(units, 0.5, seed + 1) for units in scores.generated]
    other = {name: _divide(units, 0.5, seed + 1) for name, units in scores.other.items()}
    return (
        ScoreSet(fit, tuple(g[0] for g in generated), {name: o[0] for name, o in other.items()}),
        ScoreSet(bound, tuple(g[1] for g in generated), {name: o[1] for name, o in other.items()}),
        ScoreSet(threshold, tuple(() for _ in generated)),
    )


def _divide(units: Sequence[Unit], fraction: float, seed: int) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """(rest, part): `part` has ceil(fraction) of every split's units."""
    part: set[str] = set()
    for sources in _by_split(units).values():
        part.update(shuffled(sources, seed)[: math.ceil(fraction * len(sources) - 1e-9)])
    return tuple(u for u in units if u.source not in part), tuple(u for u in units if u.source in part)


def _by_split(records: Sequence[HasSource]) -> dict[str, list[str]]:
    """The sources of each split, by split name; every source once."""
    split_of: dict[str, str] = {}
    for record in records:
        split_of[record.source] = min(split_of.get(record.source, record.split), record.split)
    sources: dict[str, list[str]] = {}
    for source in sorted(split_of):
        sources.setdefault(split_of[source], []).append(source)
    return dict(sorted(sources.items()))
