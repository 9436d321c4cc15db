"""What stopping and fewer steps cost in separation and verdicts.

    python -m tests.benchmarks.trade_off CALIBRATION [--markdown FILE] [--figure FILE.svg]

CALIBRATION: a file with a stopping rule, whose images' distances at its checkpoints give the curve: AUC on the
validation images, and how many of them have the verdict that they have after all steps, where all searches end at that
checkpoint (the calibration is fitted anew to the distances there). Nothing is projected. `methods.py` compares with the
paper's 1000 steps.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from attribution import load_calibration
from attribution.calibration import Calibration, fit_calibration
from attribution.report import ImageVerdict
from attribution.scores import ScoreSet
from attribution.stopping import without_checkpoints
from attribution.threshold import auc
from attribution.validation import same_verdict
from generator.files import write_atomically
from reports.svg import BLUE, INK, ORANGE, Scale, figure, line, tag, text, x_axis, y_grid

COLOURS = (BLUE, ORANGE, INK)


@dataclass(frozen=True)
class Point:
    """A way to search: an image's cost (steps or seconds), AUC by pair of classes, shares of equal verdicts."""

    label: str
    cost: float
    auc: dict[str, float]
    same: dict[str, float]


def curve(calibration: Calibration) -> list[Point]:
    """A point for each checkpoint, for the rule, and for all steps."""
    rule, full = calibration.stopping, calibration.without_stopping()
    if rule is None:
        raise ValueError("CALIBRATION: found none with a stopping rule, expected distances at checkpoints")
    truth = [full.decide(unit.full) for unit in calibration.scores["validation"].units]
    points = []
    for place, steps in enumerate(rule.steps):
        here = _ending_at(calibration, place)
        points.append(_point(f"all at {steps}", steps, here, truth))
    taken = [_steps(calibration, unit.checkpoints) for unit in calibration.scores["validation"].units]
    points.append(_point("the rule", float(np.mean(taken)), calibration, truth))
    return [*points, _point("all steps", int(calibration.projection["steps"]), full, truth)]


def kept(calibration: Calibration) -> str:
    """How many validation images that the rule stops keep the verdict that they have after all steps, in a sentence."""
    rule, full = calibration.stopping, calibration.without_stopping()
    assert rule is not None
    stopped = [u for u in calibration.scores["validation"].units if rule.first_stop(u.checkpoints) is not None]
    same = sum(same_verdict(calibration.decide(u.distances), full.decide(u.full)) for u in stopped)
    return f"Of {len(stopped)} validation images that the rule stops, {same} have the same verdict after all steps."


def _steps(calibration: Calibration, distances: Sequence[Sequence[float]]) -> int:
    assert calibration.stopping is not None
    place = calibration.stopping.first_stop(distances)
    return int(calibration.projection["steps"]) if place is None else calibration.stopping.steps[place]


def _ending_at(calibration: Calibration, place: int) -> Calibration:
    """The calibration of searches that all end at this checkpoint."""

    def ended(scores: ScoreSet) -> ScoreSet:
        return scores.map(lambda u: without_checkpoints(replace(u, full=u.checkpoints[place])))

    c = calibration.without_stopping()
    one, another = (ended(calibration.scores[part]) for part in ("calibration", "validation"))
    fixed = (c.decision, c.projection, c.population, c.strata, c.controls, c.tool_version, c.created)
    return fit_calibration(c.candidates, one, another, *fixed, seed=c.fitted.sets["seed"], bootstrap=1)


def _point(label: str, steps: float, calibration: Calibration, truth: Sequence[ImageVerdict]) -> Point:
    scores = calibration.scores["validation"]
    first = calibration.names[0]
    own = -scores.generated_distances[0][:, 0]
    others = {"real": scores.real_distances} | dict(
        zip(calibration.names[1:], scores.generated_distances[1:], strict=True)
    )
    now = [calibration.decide(unit.distances) for unit in scores.units]
    same = np.mean([same_verdict(a, b) for a, b in zip(now, truth, strict=True)])
    aucs = {f"AUC {first} vs {n}": auc(own, -d[:, 0]) for n, d in others.items()}
    return Point(label, steps, aucs, {"same verdict": float(same)})


def curve_table(points: list[Point]) -> str:
    """The points as a markdown table."""
    names = list(points[0].auc)
    rows = [f"| searches end | steps | {' | '.join(names)} | verdicts as after all steps |"]
    rows.append("| --- " * (len(names) + 3) + "|")
    for p in points:
        shares = [f"{p.auc[n]:.4f}" for n in names] + [f"{share:.1%}" for share in p.same.values()]
        rows.append(f"| {p.label} | {p.cost:.1f} | {' | '.join(shares)} |")
    return "\n".join(rows)


def curve_figure(points: list[Point], cost: str = "steps of a search") -> str:
    """AUCs above shares of equal verdicts, each over the cost; the rule is a ring."""
    x = Scale(min(p.cost for p in points) * 0.9, max(p.cost for p in points) * 1.1, 60, 600, log=True)
    parts = [
        *_panel([(p.label, x(p.cost), p.auc) for p in points], 20, 190),
        *_panel([(p.label, x(p.cost), p.same) for p in points], 215, 385),
        *x_axis(x, 385, cost),
    ]
    drawn = figure(640, 425, f"Separation and verdicts against the {cost}", parts, "trade-off")
    return drawn.replace("<svg ", Markup('<svg xmlns="http://www.w3.org/2000/svg" '), 1)


def _panel(points: list[tuple[str, float, dict[str, float]]], top: float, bottom: float) -> list[Markup]:
    """A line for every name over the points' places, up to 1."""
    low = min(min(values.values()) for _, _, values in points)
    y = Scale(low - 0.05 * (1.001 - low), 1.0, bottom, top)
    parts = y_grid(y, 60, 600)
    for row, (name, colour) in enumerate(zip(points[0][2], COLOURS, strict=False)):
        dots = [(at, y(values[name]), label == "the rule") for label, at, values in points]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b, ring in dots if not ring)
        parts.append(tag("polyline", points=path, stroke=colour, stroke_width=2.0))
        parts += [tag("circle", cx=a, cy=b, r=5.0 if ring else 3.0, stroke=colour) for a, b, ring in dots]
        at = bottom - 30 + 18 * row
        parts += [line(430, at, 450, at, stroke=colour), text(456, at + 4, name, "label")]
    return parts


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    calibration = load_calibration(options.calibration)
    points = curve(calibration)
    table = f"{curve_table(points)}\n\n{kept(calibration)}"
    print(table)
    if options.markdown:
        write_atomically(options.markdown, (table + "\n").encode())
    if options.figure:
        write_atomically(options.figure, curve_figure(points).encode())


if __name__ == "__main__":
    main()
