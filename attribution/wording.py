"""Wording: the words for likelihood ratios, propositions and limitations.

A suspect is never called real, fake or authentic, and no posterior probability is ever printed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attribution.calibration import Calibration
    from attribution.stopping import StoppingRule


@dataclass(frozen=True)
class VerbalScale:
    """steps: (log10 LR above which a word holds, the word), upwards from neutral. New words are a new version."""

    version: str
    source: str
    steps: tuple[tuple[float, str], ...]


VERBAL_SCALE = VerbalScale(
    version="latentprint.verbal-scale/1",
    source="ENFSI guideline for evaluative reporting in forensic science, 2015",
    steps=(
        (0.0, "neutral"),
        (math.log10(2), "weak"),
        (1.0, "moderate"),
        (2.0, "moderately strong"),
        (3.0, "strong"),
        (4.0, "very strong"),
        (6.0, "extremely strong"),
    ),
)

NOT_EXAMINED = (
    "Generators that are not among the candidates were not examined.",
    "Fine-tuned siblings of a candidate were not examined: an image of one may be attributed to the candidate.",
    "Style mixing and edits in W+ were not examined: such images of a candidate may lie outside the search in W.",
    "Removal attacks, made to erase or to imitate a generator's traces, were not examined.",
)
NO_CALIBRATION = (
    "No calibration was given: the distances can't be turned into likelihood ratios, and every verdict is INCONCLUSIVE."
)


def verbal(log10_lr: float) -> str:
    """The words for a ratio, the weaker ones on a border; below 1 the reciprocal supports the alternative."""
    neutral = VERBAL_SCALE.steps[0][1]
    word = next((word for above, word in reversed(VERBAL_SCALE.steps) if abs(log10_lr) > above), neutral)
    if word == neutral:
        return neutral
    return f"{word} support" if log10_lr > 0 else f"{word} support for the alternative"


def times(log10_lr: float) -> str:
    """10^|log10_lr| with two significant digits: "1.4", "140", "12,000"."""
    value = 10 ** abs(log10_lr)
    rounded = round(value, 1 - math.floor(math.log10(value)))
    return f"{rounded:.1f}" if rounded < 10 else f"{rounded:,.0f}"


def alternative_sentence(other_names: Sequence[str] = ()) -> str:
    """What H_0 holds, to follow "than if": exactly the populations that the calibration was fitted on."""
    sentence = "it came from the calibration's population of known real images"
    if not other_names:
        return sentence
    which = "the generator" if len(other_names) == 1 else "one of the generators"
    return f"{sentence} or from {which} {', '.join(sorted(other_names))}"


def of_this_image(alternative: str) -> str:
    """The alternative as a clause that stands alone: "this image came from ..."."""
    return alternative.replace("it came", "this image came", 1)


def propositions(names: Sequence[str], other_names: Sequence[str] = ()) -> list[dict[str, str]]:
    """H_1 ... H_K and the alternative H_0: {id, statement}."""
    stated = [{"id": f"H_{k}", "statement": f"{name} produced this image."} for k, name in enumerate(names, 1)]
    alternative = alternative_sentence(other_names).replace("it came", "This image came", 1)
    return [*stated, {"id": "H_0", "statement": f"{alternative}."}]


def limitations(calibration: "Calibration | None") -> list[str]:
    """What the report can't say: always what was not examined, then what this calibration leaves open."""
    if calibration is None:
        return [NO_CALIBRATION, *NOT_EXAMINED, "No truncation of a candidate's latent space was calibrated."]
    psi = calibration.population.get("psi")
    drawn = f"psi {psi:g}" if isinstance(psi, int | float) else "the calibration's own images"
    scores = calibration.scores["calibration"]
    reals, n = len(scores.real), min(map(len, scores.generated))
    alternative = of_this_image(calibration.alternative)
    return [
        *NOT_EXAMINED,
        f"Truncations of a candidate other than that of {drawn} were not examined.",
        f"Likelihood ratios compare each candidate with one alternative, that {alternative}; they say nothing about "
        "other origins.",
        f"The calibration rests on {reals} real sources and at least {n} images of each candidate; it holds for images "
        "like these, of the histories that it names.",
        *_lineage_notes(calibration),
        *_unreachable_notes(calibration),
    ]


def stopping_statement(place: int | None, rule: "StoppingRule", steps: int) -> str:
    """Why an image's searches ended at a checkpoint, or at none; steps: of searches that nothing ends."""
    if place is None:
        return f"The searches took all {steps} steps: at no checkpoint was the verdict sure enough to stop."
    checkpoint = rule.checkpoints[place]
    so_far = rule.checkpoints[: place + 1]
    stopped, changed = sum(c.stopped for c in so_far), sum(c.changed for c in so_far)
    return (
        f"The searches stopped after {checkpoint.steps} of {steps} steps. The image is judged by the distances to be "
        "expected after all steps, from how those of the calibration's images went on; distances off by "
        f"{checkpoint.leeway:g} times the standard deviation of these would not change the verdict. Of the "
        f"calibration's {stopped} images that stopped by then, {stopped - changed} have the same verdict after all "
        "steps."
    )


def _lineage_notes(calibration: "Calibration") -> list[str]:
    return [
        f"{' and '.join(tested['pair'])} can't be told apart by their distances: they are reported as a group."
        for tested in calibration.lineages
        if tested["one_lineage"]
    ]


def _unreachable_notes(calibration: "Calibration") -> list[str]:
    return [
        f"{u['code']} can't be reached{' for ' + u['candidate'] if u['candidate'] else ''}: {u['why']}."
        for u in calibration.unreachable
    ]
