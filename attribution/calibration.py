"""Calibration: what turns distances into evidence, made from images of known origin and kept in one JSON file."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attribution.calibration_checks import require_classes
from attribution.calibration_json import (
    CALIBRATION_SCHEMA,
    Control,
    canonical_json,
    content_id,
    control_to_json,
    decision_to_json,
    fitted_to_json,
    lineages_to_json,
    normal_json,
    scores_to_json,
    stopping_to_json,
)
from attribution.calibration_reader import read_fields
from attribution.evidence import DecisionSettings, Evidence
from attribution.field_checks import parse_json
from attribution.fitting import Fitted, fit, unreachable
from attribution.report import CandidateRecord, ImageVerdict
from attribution.scores import FOUR_SETS_FROM, ScoreSet
from attribution.stopping import StoppingRule, fit_stopping, without_checkpoints
from attribution.validation import validate, validate_stopping
from attribution.verdict import decide
from attribution.wording import alternative_sentence
from generator.files import write_atomically

__all__ = ["Calibration", "Control", "DecisionSettings", "Evidence", "fit_calibration", "load_calibration"]


@dataclass(frozen=True)
class Calibration:
    """A calibration. Distances are in the order of `candidates`; scores has "calibration" and "validation".

    stopping: the rule by which searches end early, None where all take all their steps; the scores' distances are those
    by which it judges its own images.
    projection, population, strata (`Stratum.to_json`), validation (figures) and unreachable are JSON values.
    """

    candidates: tuple[CandidateRecord, ...]
    decision: DecisionSettings
    projection: dict[str, Any]
    population: dict[str, Any]
    strata: list[dict[str, Any]]
    scores: dict[str, ScoreSet]
    fitted: Fitted
    unreachable: list[dict[str, Any]]
    validation: dict[str, Any]
    controls: tuple[Control, ...]
    tool_version: str
    created: str
    stopping: StoppingRule | None = None

    @property
    def names(self) -> list[str]:
        """The candidates' names in the calibration."""
        return [candidate.name for candidate in self.candidates]

    @property
    def other_names(self) -> list[str]:
        """The other generators that H_0 holds."""
        return sorted(self.scores["calibration"].other)

    @property
    def alternative(self) -> str:
        """What H_0 holds, in words."""
        return alternative_sentence(self.other_names)

    @property
    def lineages(self) -> list[dict[str, Any]]:
        """The tested pairs of candidates: {pair, cllr_min, one_lineage}."""
        return lineages_to_json(self.fitted, self.names)

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of everything else in the file."""
        return content_id(self.to_json(with_id=False))

    def judged(self, distances: Sequence[float], steps: int) -> tuple[float, ...]:
        """Distances [K] after so many steps -> those by which an image is judged whose searches ended there."""
        return self.stopping.expected(distances, steps) if self.stopping else tuple(distances)

    def evaluate(self, distances: Sequence[float]) -> Evidence:
        """What the calibration says of an image judged by these distances [K], in the order of `candidates`.

        Raises ValueError for another number of distances, or one that is negative or not finite.
        """
        own = [d[:, k] for k, d in enumerate(self.scores["calibration"].generated_distances)]
        return self.fitted.evaluate(distances, own, self.decision.mu)

    def decide(self, distances: Sequence[float]) -> ImageVerdict:
        """The verdict on an image judged by these distances, which raises as `evaluate` does."""
        return decide(self.evaluate(distances), self.names, self.decision, self.alternative)

    def control_distance(self, control: Control, name: str, steps: int) -> float:
        """The distance of a control to one of the candidates after so many steps, where a search may have ended."""
        if self.stopping and steps in self.stopping.steps:
            return control.checkpoints[name][self.stopping.steps.index(steps)]
        return control.distances[name]

    def to_json(self, with_id: bool = True) -> dict[str, Any]:
        """The file's content as JSON values."""
        content = {
            "schema": CALIBRATION_SCHEMA,
            "created": self.created,
            "tool_version": self.tool_version,
            "candidates": [dataclasses.asdict(candidate) for candidate in self.candidates],
            "projection": self.projection,
            "decision": decision_to_json(self.decision),
            "population": self.population,
            "strata": self.strata,
            "scores": {part: scores_to_json(scores, self.names) for part, scores in self.scores.items()},
            "fitted": fitted_to_json(self.fitted, self.names),
            "unreachable": self.unreachable,
            "lineages": self.lineages,
            "validation": self.validation,
            "controls": [control_to_json(control) for control in self.controls],
        }
        if self.stopping:
            content["stopping"] = stopping_to_json(self.stopping)
        return content | {"id": self.id} if with_id else content

    def without_stopping(self) -> "Calibration":
        """The calibration of searches that take all their steps, fitted to the same images' distances after these."""
        if self.stopping is None:
            return self
        everything = {part: scores.map(without_checkpoints) for part, scores in self.scores.items()}
        return fit_calibration(
            self.candidates,
            everything["calibration"],
            everything["validation"],
            self.decision,
            self.projection,
            self.population,
            self.strata,
            self.controls,
            self.tool_version,
            self.created,
            self.fitted.sets["seed"],
            self.validation.get("bootstrap", {"samples": 1})["samples"],
        )

    def public_summary(self) -> dict[str, Any]:
        """What a report shows: all but the units' names and hashes and the controls' pixels.

        n: units, each of a source of its own, by class; distances: lists [K] by class, for plots.
        """
        content = self.to_json()
        scores = content.pop("scores")
        for control in content["controls"]:
            del control["png_base64"]
        return content | {
            "alternative": self.alternative,
            "n": {part: s.sizes(self.names) for part, s in self.scores.items()},
            "distances": {
                part: {
                    "real": [unit["distances"] for unit in s["real"]],
                    "generated": {name: [u["distances"] for u in units] for name, units in s["generated"].items()},
                    "other": {name: [u["distances"] for u in units] for name, units in s["other"].items()},
                }
                for part, s in scores.items()
            },
        }

    def save(self, path: str | Path) -> None:
        """Write the file atomically as canonical JSON."""
        write_atomically(path, canonical_json(self.to_json()))


def fit_calibration(
    candidates: Sequence[CandidateRecord],
    calibration: ScoreSet,
    validation: ScoreSet,
    decision: DecisionSettings,
    projection: Mapping[str, Any],
    population: Mapping[str, Any],
    strata: Sequence[Mapping[str, Any]],
    controls: Sequence[Control],
    tool_version: str,
    created: str,
    seed: int = 0,
    bootstrap: int = 1000,
    checkpoints: Sequence[int] = (),
) -> Calibration:
    """Fit on one set of scores and validate on the other; they may share no source and no image.

    checkpoints: numbers of steps after which the units' distances were measured on the way, for a rule that stops
    searches early; without them, or where no rule holds (`fit_stopping`), all searches take all their steps.

    With FOUR_SETS_FROM real sources or more in all, separate units fit, bound and set the threshold, where there are
    enough. projection, population: JSON values; strata: `Stratum.to_json`; seed: of folds and resampling; bootstrap:
    samples of each interval. Raises ValueError for too few real sources, a class without images, a shared source or
    image, or names that are not distinct.
    """
    names = [candidate.name for candidate in candidates]
    require_classes(names, calibration, validation)
    rule = None
    if checkpoints:
        rule = fit_stopping(calibration, checkpoints, decision, seed)
    change = rule.apply if rule else without_checkpoints
    calibration, validation = calibration.map(change), validation.map(change)
    disjoint = len(calibration.real) + len(validation.real) >= FOUR_SETS_FROM
    fitted = fit(calibration, decision, disjoint, seed)
    unvalidated = Calibration(
        candidates=tuple(candidates),
        decision=decision,
        projection=normal_json(projection, "projection"),
        population=normal_json(population, "population"),
        strata=[normal_json(stratum, "strata") for stratum in strata],
        scores={"calibration": calibration, "validation": validation},
        fitted=fitted,
        unreachable=unreachable(fitted, [len(units) for units in calibration.generated], names, decision),
        validation={},
        controls=tuple(c if rule else dataclasses.replace(c, checkpoints={}) for c in controls),
        tool_version=tool_version,
        created=created,
        stopping=rule,
    )
    alternative = unvalidated.alternative
    figures = validate(fitted, unvalidated.evaluate, validation, names, decision, alternative, bootstrap, seed)
    if rule:
        full = unvalidated.without_stopping()
        steps = int(projection["steps"])
        figures["stopping"] = validate_stopping(rule, validation, steps, unvalidated.decide, full.decide, names)
    return dataclasses.replace(unvalidated, validation=figures)


def load_calibration(path: str | Path) -> Calibration:
    """Read a calibration file. Raises ValueError, naming the file and the field, for anything but what `save` wrote."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected a calibration ({CALIBRATION_SCHEMA})")
    try:
        content = parse_json(path.read_bytes())
        calibration = Calibration(**read_fields(content))
        if calibration.id != content["id"]:
            raise ValueError(f"id: found {content['id']}, expected {calibration.id}, of its parts as they are read")
    except OSError as error:
        raise ValueError(f"{path}: could not be read ({error.strerror}), expected {CALIBRATION_SCHEMA}") from error
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from error
    return calibration
