"""What the report's page shows of each image and of all of them: order, words, figures, tables."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from attribution.report import CandidateEvidence, ImageReport, Report
from attribution.wording import VERBAL_SCALE, verbal
from reports.calibration_view import CalibrationView, CrossTable
from reports.figures import Mark, optimisation_curve, verbal_ladder
from reports.words import VERDICTS, join, number, plain, score

LARGE = 256  # above this side a picture is shown smaller than its pixels, and may be smoothed


@dataclass(frozen=True)
class ImageView:
    """One image on the page. best: the evidence of k* (without a score: of the smallest distance); None without any.

    candidates: best first; histogram and ladder are None where the image has no evidence from the calibration.
    """

    number: int
    image: ImageReport
    key: str
    word: str
    headline: str
    candidates: list[CandidateEvidence]
    best: CandidateEvidence | None
    rank: tuple[float, ...]
    rank_value: str
    large: bool
    facts: list[tuple[str, str]]
    histogram: Markup | None
    ladder: Markup | None
    curve: Markup | None

    @property
    def others(self) -> list[CandidateEvidence]:
        """The candidates after the first."""
        return self.candidates[1:]


@dataclass(frozen=True)
class Strip:
    """All images in order; cut: the threshold's words between above and below; unranked: images without a score."""

    heading: str
    above: list[ImageView]
    cut: str | None
    below: list[ImageView]
    unranked: list[ImageView]


def view_image(place: int, report: Report, calibration: CalibrationView | None, metric: str) -> ImageView:
    """The view of the report's image number `place`, counted from 1."""
    image = report.images[place - 1]
    word = VERDICTS.get(image.verdict.code)
    if word is None:
        raise ValueError(
            f"image {image.path}: found verdict {image.verdict.code!r}, expected one of {', '.join(VERDICTS)}"
        )
    known = calibration if image.score is not None else None  # outside its strata a calibration says nothing
    ordered = sorted(image.candidates, key=lambda c: known.closeness(c) if known else -c.lpips, reverse=True)
    best = ordered[0] if ordered else None
    sides = [c.resolution for c in report.candidates] if best else [image.width or 0, image.height or 0]
    return ImageView(
        number=place,
        image=image,
        key=word.key,
        word=word.word,
        headline=_headline(image, word.word),
        candidates=ordered,
        best=best,
        rank=_rank(image, best),
        rank_value=_rank_value(image, best, calibration is not None),
        large=max(sides) > LARGE,
        facts=_facts(image, best, known) if known and best else [],
        histogram=known.histogram(best.name, metric, best.lpips) if known and best else None,
        ladder=_ladder(ordered) if known and best else None,
        curve=optimisation_curve({c.name: c.history for c in ordered}, best.name, metric) if best else None,
    )


def _headline(image: ImageReport, word: str) -> str:
    if image.verdict.code == "SUPPORTS_GROUP":
        return f"Supports the group {join(image.verdict.group or [])}"
    return f"{word} {image.verdict.candidate}" if image.verdict.code == "SUPPORTS" else word


def _rank(image: ImageReport, best: CandidateEvidence | None) -> tuple[float, ...]:
    """Sorts the strip: by the score above its threshold, then what has only a distance, then what has neither."""
    if image.score is not None and image.threshold is not None:
        return (0, image.threshold - image.score)
    return (1, best.lpips) if best else (2, 0)


def _facts(image: ImageReport, best: CandidateEvidence, known: CalibrationView) -> list[tuple[str, str]]:
    """The numbers of an image, each with what it is held against."""
    fitted, decision = known.summary["fitted"], known.summary["decision"]
    facts = [
        (f"log10 LR {number(best.log10_lr)}, in words", verbal(best.log10_lr or 0)),
        ("score T", f"{score(image.score)}, threshold {score(image.threshold)}"),
        ("p (real)", f"{number(image.p_value_real)}, of {fitted['n_real']} real images"),
    ]
    if image.log10_margin is not None:
        facts.append(("margin M", f"{number(image.log10_margin)}, {plain(decision['mu'])} asked for"))
    return facts


def _ladder(candidates: Sequence[CandidateEvidence]) -> Markup | None:
    best = candidates[0]
    if best.log10_lr is None or best.log10_lr_bounds is None:
        return None
    marks = [Mark(c.name, c.log10_lr, c is best) for c in candidates if c.log10_lr is not None]
    return verbal_ladder(marks, (best.log10_lr_bounds[0], best.log10_lr_bounds[1]), VERBAL_SCALE.steps, best.name)


def _rank_value(image: ImageReport, best: CandidateEvidence | None, calibrated: bool) -> str:
    """What the strip shows below a thumbnail: the score, without a calibration the distance."""
    if image.score is None:
        return number(best.lpips if best and not calibrated else None)
    return score(image.score)


def strip(views: Sequence[ImageView], calibrated: bool) -> Strip:
    """The thumbnails in order of the score, with the place of the threshold."""
    ordered = sorted(views, key=lambda v: (*v.rank, v.number))
    if not calibrated:
        return Strip("All images, smallest distance first", [], None, [], ordered)
    above = [v for v in ordered if v.rank[0] == 0 and v.rank[1] < 0]
    unranked = [v for v in ordered if v.rank[0] > 0]
    thresholds = sorted({v.image.threshold for v in ordered if v.image.threshold is not None})
    cut = "T = " + join([score(t) for t in thresholds], "or") if thresholds else None
    return Strip(
        "All images, highest score T first", above, cut, ordered[len(above) : len(ordered) - len(unranked)], unranked
    )


def results(report: Report) -> list[dict[str, object]]:
    """For each candidate, how many images support it, alone and as one of a group."""
    alone = Counter(i.verdict.candidate for i in report.images if i.verdict.code == "SUPPORTS")
    groups = Counter(n for i in report.images if i.verdict.code == "SUPPORTS_GROUP" for n in i.verdict.group or [])
    return [{"name": c.name, "supported": alone[c.name], "grouped": groups[c.name]} for c in report.candidates]


def verdict_counts(views: Sequence[ImageView]) -> list[dict[str, object]]:
    """Verdicts that occur, with their count, in the order of the rule."""
    counts = Counter(v.key for v in views)
    return [
        {"key": v.key, "word": v.word, "meaning": v.meaning, "count": counts[v.key]}
        for v in VERDICTS.values()
        if counts[v.key]
    ]


def truth_table(views: Sequence[ImageView]) -> CrossTable | None:
    """Known origin by verdict, None where no origin is known."""
    known = [v for v in views if v.image.truth]
    if not known:
        return None
    columns = sorted(
        {v.headline for v in known},
        key=lambda h: min((list(VERDICTS).index(v.image.verdict.code), h) for v in known if v.headline == h),
    )
    counts = Counter((v.image.truth, v.headline) for v in known)
    truths = sorted({v.image.truth for v in known if v.image.truth})
    return CrossTable("Known origin", columns, [(t, [counts[t, c] for c in columns]) for t in truths])
