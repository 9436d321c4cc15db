"""The report's plots: distance histograms, Tippett plot, verbal scale, optimisation curve. No plotting library."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports.svg import COLOURS, Scale, Series, beside, figure, legend, line, tag, text, x_axis, y_grid
from reports.words import number, short

_BARS: dict[str, dict[str, str | float]] = {
    "generated": {"fill_opacity": 0.62},
    "real": {"fill_opacity": 0.2},
    "other": {"fill_opacity": 0.0, "stroke_dasharray": "3 2"},
}
_LEFT, _RIGHT, _BINS = 44.0, 512.0, 40


@dataclass(frozen=True)
class Backdrop:
    """What the plots of many images have in common: parts, drawn on the scales x and y; alt says it in words."""

    parts: Markup
    x: Scale
    y: Scale
    alt: str


def distance_histogram(
    series: Sequence[Series], metric: str, suspect: float | None = None, threshold: float | None = None
) -> Markup:
    """Histograms of distances (> 0) with an image's own distance and the threshold, each where there is one."""
    marks = [v for v in (suspect, threshold) if v is not None]
    back = histogram_backdrop(series, metric, marks)
    return histogram_figure(back, back.parts, metric, suspect, threshold)


def histogram_backdrop(series: Sequence[Series], metric: str, marks: Sequence[float]) -> Backdrop:
    """Histograms of distances (> 0) on a logarithmic axis, as StyleGAN2's Figure 10: 40 bins, each class in per cent.

    metric: the distance's name, for the axis. marks: distances that must lie on the axis too.
    """
    values = [max(v, 1e-6) for v in [*(v for s in series for v in s.values), *marks]] or [0.1]
    x = Scale(min(values) / 1.15, max(values) * 1.15, _LEFT, _RIGHT, log=True)
    shares = [_shares([x(v) for v in s.values]) for s in series]
    y = Scale(0, max((max(s) for s in shares), default=0) or 1, 172, 62)
    parts = [legend(_LEFT, 14, series, {"generated": "■", "real": "□", "other": "┈"}), *y_grid(y, _LEFT, _RIGHT, " %")]
    parts += [_outline(share, s.kind, y) for share, s in zip(shares, series, strict=True)]
    parts += x_axis(x, 172, f"distance, {metric} (logarithmic axis)")
    alt = "; ".join(f"{s.label}: {_spread(s.values)}" for s in series)
    return Backdrop(Markup("").join(parts), x, y, alt)


def histogram_figure(
    back: Backdrop, behind: Markup, metric: str, suspect: float | None, threshold: float | None
) -> Markup:
    """A histogram with its marks. behind: the backdrop's parts or a reference to them.

    suspect: the image's own distance, a black line with its value; threshold: the distance below which an image is
    flagged, dashed.
    """
    x, parts = back.x, [behind]
    if threshold is not None:
        left = x(threshold) > 400 or (suspect is not None and 0 < x(suspect) - x(threshold) < 130)
        parts += [line(x(threshold), 42, x(threshold), 172, "threshold", stroke_dasharray="4 3")]
        parts += [beside(x(threshold), 52, f"threshold {number(threshold)}", "tick", left)]
    if suspect is not None:
        parts += [line(x(suspect), 24, x(suspect), 172, "suspect", stroke_width=2.0)]
        parts += [beside(x(suspect), 34, f"this image {number(suspect)}", "label", x(suspect) > 400)]
    marked = [f"{name} {number(v)}" for name, v in (("this image", suspect), ("threshold", threshold)) if v is not None]
    words = "; ".join([*([back.alt] if back.alt else []), *marked])
    return figure(520, 210, f"Histograms of {metric} distances. {words}.", parts, "histogram")


def _shares(positions: Sequence[float]) -> list[float]:
    """Per cent of the positions in each of the equal bins of the plot's width."""
    counts = [0] * _BINS
    for p in positions:
        counts[min(int((p - _LEFT) / (_RIGHT - _LEFT) * _BINS), _BINS - 1)] += 1
    return [100 * c / max(len(positions), 1) for c in counts]


def _outline(shares: Sequence[float], kind: str, y: Scale) -> Markup:
    """A histogram's outline, open where a bin is empty."""
    width, path, previous = (_RIGHT - _LEFT) / _BINS, "", 0.0
    for i, share in enumerate(shares):
        if share or previous:
            left = _LEFT + i * width
            path += "" if previous else f"M{left:.1f} {y(0):.1f}"
            path += f"V{y(share):.1f}" + (f"H{left + width:.1f}" if share else "")
        previous = share
    path += f"V{y(0):.1f}" if previous else ""
    return tag("path", d=path, class_=kind, fill=COLOURS[kind], stroke=COLOURS[kind], **_BARS[kind])


def _spread(values: Sequence[float]) -> str:
    return f"n = {len(values)}, {number(min(values))} to {number(max(values))}" if values else "none"


def tippett(series: Sequence[Series], candidate: str) -> Markup:
    """Tippett plot: for each class, the share of images whose log10 LR for the candidate is at or above a value."""
    values = [v for s in series for v in s.values] or [0.0]
    x = Scale(min(*values, -1.0) - 0.25, max(*values, 1.0) + 0.25, _LEFT, _RIGHT)
    y = Scale(0, 100, 222, 46)
    parts = [
        legend(_LEFT, 14, series, {"generated": "━", "real": "╍", "other": "┈"}),
        *y_grid(y, _LEFT, _RIGHT, " %", 6),
    ]
    parts += [
        line(x(0), 28, x(0), 222, "threshold"),
        beside(x(0), 36, f"supports {short(candidate, 24)} →", "tick", False),
    ]
    parts += [beside(x(0), 36, "← supports the alternative", "tick", True)]
    for s in series:
        dash = {"generated": None, "real": "7 3", "other": "2 3"}[s.kind]
        path = _survival(sorted(s.values), x, y)
        parts += [tag("path", d=path, class_=s.kind, stroke=COLOURS[s.kind], stroke_width=2.0, stroke_dasharray=dash)]
    parts += x_axis(x, 222, f"log10 LR for {short(candidate, 24)}, bounded; share of images at or above it")
    alt = "; ".join(f"{s.label}: {_positive(s.values)}" for s in series)
    return figure(520, 260, f"Tippett plot for {candidate}. {alt}.", parts, "tippett")


def _survival(values: Sequence[float], x: Scale, y: Scale) -> str:
    """The falling steps from 100 % to 0 % through the sorted values."""
    path = f"M{x.start:.1f} {y(100):.1f}"
    for i, value in enumerate(values, 1):
        path += f"H{x(value):.1f}V{y(100 - 100 * i / len(values)):.1f}"
    return path + f"H{x.end:.1f}" if values else ""


def _positive(values: Sequence[float]) -> str:
    return f"{sum(v > 0 for v in values)} of {len(values)} have a log10 LR above 0"


@dataclass(frozen=True)
class Mark:
    """One candidate on the verbal scale; strong for k*, the others are drawn lighter."""

    label: str
    value: float
    strong: bool


def verbal_ladder(
    marks: Sequence[Mark], bounds: tuple[float, float], steps: Sequence[tuple[float, str]], candidate: str
) -> Markup:
    """The verbal scale as a ladder of log10 LR: each candidate where it stands, and the span that can be reached."""
    back = ladder_backdrop(bounds, steps, candidate)
    return ladder_figure(back, back.parts, marks)


def ladder_backdrop(bounds: tuple[float, float], steps: Sequence[tuple[float, str]], candidate: str) -> Backdrop:
    """The ladder without a mark.

    steps: (log10 LR from which a word holds, the word), upwards from (0, neutral); the lower half mirrors it.
    bounds: the smallest and largest log10 LR that the calibration allows.
    """
    edges = [start for start, _ in steps] + [steps[-1][0] + 1]
    reach = max(3.0, *(abs(b) for b in bounds))
    count = next((i for i, edge in enumerate(edges) if i and edge >= reach), len(edges) - 1)
    y = Scale(-edges[count], edges[count], 244, 30)
    parts = [
        text(4, 14, f"▲ supports {short(candidate, 28)}", "label"),
        text(4, 266, "▼ supports the alternative", "label"),
    ]
    for sign in (1, -1):
        for (start, word), end in zip(steps[:count], edges[1:], strict=False):
            inside = bounds[0] < sign * (start + 1e-9) < bounds[1]
            middle = 0.0 if word == steps[0][1] else sign * (start + end) / 2
            parts += [line(4, y(sign * end), 104, y(sign * end), "grid")]
            if sign > 0 or word != steps[0][1]:
                parts += [text(4, y(middle) + 4, word, "label" if inside else "faint")]
            if end < edges[count]:
                parts += [text(128, y(sign * end) + 4, f"{'−' if sign < 0 else ''}{end:.1g}", text_anchor="end")]
    parts += [line(138, y(y.lo), 138, y(y.hi), stroke_dasharray="2 3"), line(134, y(0), 142, y(0))]
    parts += [line(138, y(bounds[0]), 138, y(bounds[1]), "suspect", stroke_width=3.0)]
    parts += [line(133, y(b), 143, y(b), "suspect", stroke_width=2.0) for b in bounds]
    alt = f"The calibration reaches from {number(bounds[0])} to {number(bounds[1])}."
    return Backdrop(Markup("").join(parts), Scale(0, 1, 138, 138), y, alt)


def ladder_figure(back: Backdrop, behind: Markup, marks: Sequence[Mark]) -> Markup:
    """The ladder with each candidate where it stands. behind: the backdrop's parts or a reference to them."""
    y, parts = back.y, [behind]
    places = _apart([y(m.value) for m in marks], 15, 36, 240)
    for mark, place in zip(marks, places, strict=True):
        kind = "label" if mark.strong else "tick"
        point = tag("circle", cx=138.0, cy=y(mark.value), r=5.0 if mark.strong else 3.5, stroke_width=2.0,
                    class_="mark-strong" if mark.strong else "mark-weak", stroke=COLOURS["suspect"],
                    fill=COLOURS["suspect"] if mark.strong else "#ffffff")  # fmt: skip
        weight = "bold" if mark.strong else None
        parts += [
            point,
            text(150, place + 4, f"{short(mark.label, 11)} {number(mark.value)}", kind, font_weight=weight),
        ]
    alt = "; ".join(f"{m.label} {number(m.value)}" for m in marks)
    return figure(260, 274, f"Verbal scale of log10 likelihood ratios: {alt}. {back.alt}", parts, "ladder")


def _apart(places: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """The places moved downwards (then up from the bottom) until neighbours are `gap` apart, order kept."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved, limit = list(places), top
    for i in order:
        moved[i] = limit = max(moved[i], limit)
        limit += gap
    limit = bottom
    for i in reversed(order):
        moved[i] = limit = min(moved[i], limit)
        limit -= gap
    return moved


History = Sequence[Sequence[float]]


def curve_backdrop(histories: Sequence[History], metric: str) -> Backdrop:
    """Axes that hold every one of the histories, [step, distance] pairs each; the distance's axis is logarithmic."""
    points = [p for history in histories for p in history]
    lows, highs = [max(p[1], 1e-6) for p in points] or [0.1], max((p[0] for p in points), default=1)
    x = Scale(0, max(highs, 1), _LEFT, 400)
    y = Scale(min(lows) / 1.1, max(lows) * 1.1, 172, 30, log=True)
    parts = [*y_grid(y, _LEFT, 400, most=5), text(_LEFT, 14, f"distance, {metric} (logarithmic axis)")]
    return Backdrop(Markup("").join([*parts, *x_axis(x, 172, "optimisation step")]), x, y, "")


def curve_figure(back: Backdrop, behind: Markup, histories: dict[str, History], strong: str) -> Markup:
    """Distance against step, one line per candidate with its name at the end; `strong` in ink.

    behind: the backdrop's parts or a reference to them.
    """
    x, y, parts = back.x, back.y, [behind]
    ends = {name: y(history[-1][1]) for name, history in histories.items() if history}
    for (name, end), place in zip(ends.items(), _apart(list(ends.values()), 15, 30, 172), strict=True):
        path = "M" + "L".join(f"{x(step):.0f} {y(value):.1f}" for step, value in histories[name])
        kind, width = ("suspect", 2.0) if name == strong else ("axis", 1.2)
        stroke = COLOURS.get(kind, "#5f5d58")
        parts += [tag("path", d=path, class_=kind, stroke=stroke, stroke_width=width, stroke_linejoin="round")]
        parts += [line(x(histories[name][-1][0]), end, 404, place, "grid")]
        last = number(histories[name][-1][1])
        parts += [text(408, place + 4, f"{short(name, 11)} {last}", "label" if name == strong else "tick")]
    alt = "; ".join(f"{n} from {number(h[0][1])} to {number(h[-1][1])}" for n, h in histories.items() if h)
    return figure(520, 210, f"Distance during the optimisation: {alt}.", parts, "curve")
