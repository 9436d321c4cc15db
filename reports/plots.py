"""The plots of a report's images. What they have in common is drawn once on the page, or in each of them."""

from collections.abc import Callable, Sequence
from functools import cached_property

from markupsafe import Markup

from attribution.report import CandidateEvidence, Report
from attribution.wording import VERBAL_SCALE
from reports.calibration_view import CalibrationView
from reports.figures import (
    Backdrop,
    Mark,
    curve_backdrop,
    curve_figure,
    histogram_backdrop,
    histogram_figure,
    ladder_backdrop,
    ladder_figure,
)
from reports.svg import tag


class Plots:
    """Plots of the images of one report, all on the same axes.

    once: backdrops stand once on the page (`backdrops`) and are referred to, which makes a report of many images
    small; not once: each plot is complete, for what can't follow references.
    """

    def __init__(self, report: Report, calibration: CalibrationView | None, metric: str, once: bool = True):
        self.images, self.calibration, self.metric, self.once = report.images, calibration, metric, once
        self._drawn: dict[tuple, tuple[str, Backdrop]] = {}

    def histogram(self, evidence: CandidateEvidence) -> Markup:
        """Figure 10 for the candidate, with the image's distance and the threshold."""
        known = self.calibration
        if known is None:
            raise ValueError("histogram: found no calibration, expected one")
        threshold, name = known.threshold_distance(evidence.name), evidence.name
        distances = [c.judged for image in self.images for c in image.candidates if c.name == name]
        back, behind = self._backdrop(
            ("histogram", name), lambda: histogram_backdrop(known.classes(name), self.metric, [*distances, threshold])
        )
        return histogram_figure(back, behind, self.metric, evidence.judged, threshold)

    def ladder(self, candidates: Sequence[CandidateEvidence]) -> Markup | None:
        """The verbal scale with every candidate, the first strong; None where it has no likelihood ratio."""
        best = candidates[0]
        if best.log10_lr is None or best.log10_lr_bounds is None:
            return None
        bounds = (best.log10_lr_bounds[0], best.log10_lr_bounds[1])
        back, behind = self._backdrop(
            ("ladder", best.name, bounds), lambda: ladder_backdrop(bounds, VERBAL_SCALE.steps, best.name)
        )
        marks = [Mark(c.name, c.log10_lr, c is best) for c in candidates if c.log10_lr is not None]
        return ladder_figure(back, behind, marks)

    def curve(self, candidates: Sequence[CandidateEvidence]) -> Markup:
        """How the search for the image went in every candidate, the first strong."""
        histories = [c.history for image in self.images for c in image.candidates]
        back, behind = self._backdrop(("curve",), lambda: curve_backdrop(histories, self.metric))
        return curve_figure(back, behind, {c.name: c.history for c in candidates}, candidates[0].name)

    @cached_property
    def backdrops(self) -> Markup:
        """What the page must hold once, for the plots so far."""
        parts = [tag("g", back.parts, id=name, class_="backdrop") for name, back in self._drawn.values()]
        return Markup("").join(parts) if self.once else Markup("")

    def _backdrop(self, key: tuple, draw: Callable[[], Backdrop]) -> tuple[Backdrop, Markup]:
        if key not in self._drawn:
            self._drawn[key] = (f"backdrop-{len(self._drawn) + 1}", draw())
        name, back = self._drawn[key]
        return back, tag("use", href=f"#{name}") if self.once else back.parts
