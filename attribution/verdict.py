"""Verdict: from the evidence on one image to a code and a sentence; the first rule that matches."""

from collections.abc import Iterable, Sequence

from attribution.evidence import DecisionSettings, Evidence
from attribution.report import ImageVerdict
from attribution.wording import of_this_image, times

RULE_VERSION = "latentprint.verdict/1"
OUT_OF_SCOPE = "The image is out of scope: "  # how the statement begins
CODES = ("SUPPORTS", "SUPPORTS_GROUP", "UNRESOLVED", "NOT_SUPPORTED", "INCONCLUSIVE", "OUT_OF_SCOPE")


def decide(evidence: Evidence, names: Sequence[str], decision: DecisionSettings, alternative: str) -> ImageVerdict:
    """Apply the rule. names: the candidates in the evidence's order; decision: the calibration's own settings.

    alternative: what H_0 holds, from `wording.alternative_sentence`.
    """
    k, name = evidence.k_star, names[evidence.k_star]
    fitting = [j for j, p in enumerate(evidence.p_value_generated) if p >= decision.epsilon]
    flagged = evidence.score > evidence.threshold
    if flagged and k in fitting and evidence.log10_lr[k] >= decision.lambda_:
        lead = (
            f"The findings are about {times(evidence.log10_lr[k])} times more probable if {name} produced this image "
            f"than if {alternative}."
        )
        apart = evidence.log10_margin is None or evidence.log10_margin >= decision.mu
        if apart and evidence.group == (k,):
            return ImageVerdict("SUPPORTS", name, None, lead + _against_others(evidence, names))
        group = sorted(names[j] for j in evidence.group)
        told = f"They don't tell {name} from {_listed(n for n in group if n != name)} well enough"
        told += f": the support is for the group as a whole.{_for_others(evidence, names)}"
        return ImageVerdict("SUPPORTS_GROUP", name, group, f"{lead} {told}")
    if flagged and not fitting:
        return ImageVerdict(
            "UNRESOLVED",
            None,
            None,
            f"The image is closer to {name} than the calibration's known real images come, yet its distance fits "
            f"{_none_of(names)}: another generator, related to {name}, is one explanation.",
        )
    strongest = max(evidence.log10_lr)
    if not flagged and not fitting and strongest <= -decision.mu:
        least = "about" if len(names) == 1 else "at least about"
        return ImageVerdict(
            "NOT_SUPPORTED",
            None,
            None,
            f"The findings are {least} {times(strongest)} times more probable if {of_this_image(alternative)} than if "
            f"{_listed(names, 'or')} produced it. They say nothing about generators that were not examined.",
        )
    return inconclusive(_why_inconclusive(evidence, names, decision, fitting, alternative))


def out_of_scope(reason: str) -> ImageVerdict:
    """The image could not be examined. reason: a clause without a full stop."""
    return ImageVerdict("OUT_OF_SCOPE", None, None, f"{OUT_OF_SCOPE}{reason}.")


def inconclusive(reason: str) -> ImageVerdict:
    """The findings don't suffice. reason: a clause without a full stop."""
    return ImageVerdict("INCONCLUSIVE", None, None, f"The findings don't suffice for a conclusion: {reason}.")


def _better_by_ratio(evidence: Evidence, names: Sequence[str], alternative: str) -> str:
    """What to add where the score points to one candidate and the likelihood ratio speaks for another."""
    strongest = max(range(len(names)), key=lambda j: evidence.log10_lr[j])
    if strongest == evidence.k_star or evidence.log10_lr[strongest] <= 0:
        return ""
    return (
        f"; score and ratio disagree, for they are about {times(evidence.log10_lr[strongest])} times more probable if "
        f"{names[strongest]} produced it than if {alternative}"
    )


def _why_inconclusive(
    evidence: Evidence, names: Sequence[str], decision: DecisionSettings, fitting: Sequence[int], alternative: str
) -> str:
    """The first condition of a conclusion that fails."""
    k = evidence.k_star
    ratio = evidence.log10_lr[k]
    if evidence.score > evidence.threshold and k in fitting:
        likelier = f"if {names[k]} produced this image than if {alternative}"
        if ratio < 0:
            likelier = f"if {of_this_image(alternative)} than if {names[k]} produced it"
        return (
            f"they are about {times(ratio)} times more probable {likelier}; {times(decision.lambda_)} times in favour "
            f"of {names[k]} are asked for{_better_by_ratio(evidence, names, alternative)}"
        )
    if evidence.score > evidence.threshold:
        fits = _listed(names[j] for j in fitting)
        return f"the image is closest to {names[k]} by its score, but its distance fits {fits} and not {names[k]}"
    if fitting:
        return (
            f"the distance fits {_listed(names[j] for j in fitting)}, but known real images come as close as the "
            "false-positive rate asked for allows"
        )
    return (
        f"the image is not close enough to any candidate to be flagged, and its distance fits {_none_of(names)}, but "
        f"the likelihood ratios don't reach the {times(decision.mu)} times against every candidate that are asked for"
    )


def _against_others(evidence: Evidence, names: Sequence[str]) -> str:
    """The margin over the other candidates as a sentence, nothing with one candidate."""
    if evidence.log10_margin is None:
        return ""
    others = [name for j, name in enumerate(names) if j != evidence.k_star]
    least = "about" if len(others) == 1 else "at least about"
    return f" They are {least} {times(evidence.log10_margin)} times more probable than if {_listed(others, 'or')} did."


def _for_others(evidence: Evidence, names: Sequence[str]) -> str:
    """A sentence for each of the group that the findings speak for rather than for k*, nothing where there is none.

    k* has the largest score, which takes each candidate's own spread into account; a ratio needn't agree.
    """
    against = {j: ratio for j, ratio in evidence.pairwise.items() if ratio < 0 and times(ratio) != "1.0"}
    return "".join(
        f" They are about {times(ratio)} times more probable if {names[j]} produced this image than if "
        f"{names[evidence.k_star]} did."
        for j, ratio in against.items()
    )


def _none_of(names: Sequence[str]) -> str:
    return "none of the candidates" if len(names) > 1 else f"no image that {names[0]} is known to produce"


def _listed(names: Iterable[str], word: str = "and") -> str:
    """Names as a list in words: "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last
