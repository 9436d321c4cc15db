"""What the report's page shows of each image and of all of them: order, words, figures, tables."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from attribution.report import CandidateEvidence, ImageReport, Report
from attribution.wording import verbal
from reports.calibration_view import CalibrationView, CrossTable
from reports.pictures import NoisePicture, Pictures
from reports.plots import Plots
from reports.texts import FACTS, TEXTS
from reports.words import VERDICTS, join, number, plain, score, short

LARGE = 256  # above this side a picture is shown smaller than its pixels, and may be smoothed
LONGEST_NAME = 160  # characters of a file's name as shown; the whole of it is in the evidence in full
DENSE = 60  # with more images thumbnails are small, and the page builds an image's part when it is opened


@dataclass(frozen=True)
class FileFacts:
    """What intake found a file to say of itself: (word, value), and the words for what it looked for in vain."""

    found: list[tuple[str, Any]]
    absent: list[str]


@dataclass(frozen=True)
class ImageView:
    """One image on the page. best: the evidence of k* (without a score: of the smallest distance); None without any.

    name: its path without the folders that all images share. candidates: best first. file_facts: None where the report
    has none. histogram and ladder are None where the image has no evidence from the calibration.
    """

    number: int
    name: str
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
    file_facts: FileFacts | None
    thumbnail: str | None
    noise: NoisePicture | None
    histogram: Markup | None
    ladder: Markup | None
    curve: Markup | None


@dataclass(frozen=True)
class Strip:
    """All images in order; cut: the threshold's words between above and below; unranked: images without a score."""

    heading: str
    above: list[ImageView]
    cut: str | None
    below: list[ImageView]
    unranked: list[ImageView]
    dense: bool


def view_images(
    report: Report, calibration: CalibrationView | None, plots: Plots, pictures: Pictures
) -> list[ImageView]:
    """The views of all images. Raises ValueError for a picture that can't be shown, and a verdict of no known code."""
    common = _common_folder([image.path for image in report.images])
    return [
        _view_image(place, image.path[len(common) :], report, calibration, plots, pictures)
        for place, image in enumerate(report.images, 1)
    ]


def _common_folder(paths: Sequence[str]) -> str:
    """What all paths begin with, up to a slash: of the first and last in order, as all others lie between them."""
    first, last = min(paths, default=""), max(paths, default="")
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[: first.rfind("/", 0, same) + 1]


def _view_image(
    place: int, name: str, report: Report, calibration: CalibrationView | None, plots: Plots, pictures: Pictures
) -> ImageView:
    image = report.images[place - 1]
    word = VERDICTS.get(image.verdict.code)
    if word is None:
        raise ValueError(
            f"image {image.path}: found verdict {image.verdict.code!r}, expected one of {', '.join(VERDICTS)}"
        )
    known = calibration if image.score is not None else None  # outside its strata a calibration says nothing
    ordered = sorted(image.candidates, key=lambda c: known.closeness(c) if known else -c.judged, reverse=True)
    best = ordered[0] if ordered else None
    sides = [c.resolution for c in report.candidates] if best else [image.width or 0, image.height or 0]
    return ImageView(
        number=place,
        name=short(name, LONGEST_NAME),
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
        file_facts=_file_facts(getattr(image, "facts", None)),
        thumbnail=pictures.thumbnail(image.thumbnail) if image.thumbnail else None,
        noise=pictures.noise(best) if best else None,
        histogram=plots.histogram(best) if known and best else None,
        ladder=plots.ladder(ordered) if known and best else None,
        curve=plots.curve(ordered) if best else None,
    )


def _file_facts(facts: Mapping[str, Any] | None) -> FileFacts | None:
    """Known facts in plain words, others under their own names."""
    if not facts:
        return None
    words = {name: FACTS.get(name, name.replace("_", " ")) for name in facts}
    found = [(words[name], value) for name, value in facts.items() if value not in (None, [], {})]
    return FileFacts(found, [words[name] for name, value in facts.items() if value is None])


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


def _rank_value(image: ImageReport, best: CandidateEvidence | None, calibrated: bool) -> str:
    """What the strip shows below a thumbnail: the score, without a calibration the distance."""
    if image.score is None:
        return number(best.lpips if best and not calibrated else None)
    return score(image.score)


def strip(views: Sequence[ImageView], calibrated: bool) -> Strip:
    """The thumbnails in order of the score, with the place of the threshold."""
    ordered, dense = sorted(views, key=lambda v: (*v.rank, v.number)), len(views) > DENSE
    if not calibrated:
        return Strip(TEXTS["strip_distances"], [], None, [], ordered, dense)
    above = [v for v in ordered if v.rank[0] == 0 and v.rank[1] < 0]
    unranked = [v for v in ordered if v.rank[0] > 0]
    thresholds = sorted({v.image.threshold for v in ordered if v.image.threshold is not None})
    cut = "T = " + join([score(t) for t in thresholds], "or") if thresholds else None
    below = ordered[len(above) : len(ordered) - len(unranked)]
    return Strip(TEXTS["strip_scored"], above, cut, below, unranked, dense)


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
