"""Inline SVG by hand: scales, lines, texts and legends that the report's figures are made of.

Colours are attributes, so that a figure also stands alone; the page's style sheet overrides them by class (dark mode).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.words import number, printable, short

BLUE, ORANGE, INK, GREY, RULE = "#1f5fa8", "#a94c08", "#1b1b19", "#5f5d58", "#cfcbc2"
FONT = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
COLOURS = {"generated": BLUE, "real": ORANGE, "other": GREY, "label": INK, "suspect": INK, "threshold": INK}


@dataclass(frozen=True)
class Series:
    """One class of images in a plot: kind "generated" | "real" | "other" decides colour and line; label names it."""

    kind: str
    label: str
    values: Sequence[float]


@dataclass(frozen=True)
class Scale:
    """From data (lo, hi) to user units (start, end); log: base-10 logarithm of the data first. Clips."""

    lo: float
    hi: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value, in user units."""
        ends = (self.lo, self.hi, min(max(value, self.lo), self.hi))
        lo, hi, v = map(math.log10, ends) if self.log else ends
        return self.start + (self.end - self.start) * (v - lo) / (hi - lo)

    def ticks(self, most: int = 7) -> list[float]:
        """Round values inside the scale, at most `most` of them."""
        if not self.log:
            power = 10.0 ** math.floor(math.log10(self.hi - self.lo) - 2)
            steps = (d * power * 10**k for k in range(5) for d in (1, 2, 5))
            step = next(s for s in steps if (self.hi - self.lo) / s <= most - 1)
            return [k * step for k in range(math.ceil(self.lo / step - 1e-9), math.floor(self.hi / step + 1e-9) + 1)]
        powers = range(math.floor(math.log10(self.lo)), math.ceil(math.log10(self.hi)) + 1)
        for digits in (range(1, 10), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
            ticks = [d * 10.0**p for p in powers for d in digits if self.lo <= d * 10.0**p <= self.hi]
            if len(ticks) <= most:
                break
        return ticks[:: -(-len(ticks) // most) or 1]


def tag(name: str, content: str | Markup = "", /, **attributes: str | float | None) -> Markup:
    """One SVG element; content and attributes are escaped; `class_` is class, `stroke_width` is stroke-width."""
    named = {k if k == "viewBox" else k.rstrip("_").replace("_", "-"): v for k, v in attributes.items()}
    words = {k: f"{v:.5g}" if isinstance(v, float) else printable(str(v)) for k, v in named.items() if v is not None}
    written = "".join(f' {name}="{escape(value)}"' for name, value in words.items())
    shown = content if isinstance(content, Markup) else printable(content)
    return Markup(f"<{name}{written}>{escape(shown)}</{name}>")


def text(x: float, y: float, content: str | Markup, kind: str = "tick", **attributes: str | float | None) -> Markup:
    """A line of text; kind "label" (ink) or "tick" (grey)."""
    return tag(
        "text", content, **{"class_": kind, "x": float(x), "y": float(y), "fill": COLOURS.get(kind, GREY), **attributes}
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis", **attributes: str | float | None) -> Markup:
    """A straight line; kind "axis" | "grid" | "suspect" | "threshold"."""
    stroke = RULE if kind == "grid" else COLOURS.get(kind, GREY)
    ends = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return tag("line", **{"class_": kind, **ends, "stroke": stroke, **attributes})


def figure(width: int, height: int, alt: str, parts: Sequence[Markup], kind: str) -> Markup:
    """The svg element around a plot's parts; alt says in words what it shows."""
    settings = {"role": "img", "aria_label": alt, "font_family": FONT, "font_size": "12", "fill": "none"}
    return tag("svg", Markup("").join(parts), class_=f"plot {kind}", viewBox=f"0 0 {width} {height}", **settings)


def legend(x: float, y: float, series: Sequence[Series], swatches: dict[str, str]) -> Markup:
    """The classes of a plot, one after the other in a line: swatch, label, n."""
    spans = [
        tag("tspan", f"{swatches[s.kind]} {short(s.label, 34)}, n = {len(s.values)}", class_=f"{s.kind}-text",
            fill=COLOURS[s.kind], dx=14.0 if i else None)
        for i, s in enumerate(series)
    ]  # fmt: skip
    return text(x, y, Markup("").join(spans))


def beside(x: float, y: float, content: str, kind: str, left: bool) -> Markup:
    """A label beside a vertical line, on its left or right."""
    return text(x - 5 if left else x + 5, y, content, kind, text_anchor="end" if left else "start")


def x_axis(x: Scale, y: float, label: str) -> list[Markup]:
    """Axis line, ticks with their values, and the label below."""
    parts = [line(x.start, y, x.end, y)]
    for tick in x.ticks():
        parts += [line(x(tick), y, x(tick), y + 4), text(x(tick), y + 17, tick_label(tick), text_anchor="middle")]
    return [*parts, text((x.start + x.end) / 2, y + 33, label, text_anchor="middle")]


def y_grid(y: Scale, start: float, end: float, unit: str = "", most: int = 4) -> list[Markup]:
    """Faint lines across the plot with their values on the left."""
    return [
        part
        for tick in y.ticks(most)
        for part in (
            line(start, y(tick), end, y(tick), "grid"),
            text(start - 6, y(tick) + 4, tick_label(tick) + unit, text_anchor="end"),
        )
    ]


def tick_label(value: float) -> str:
    """A round value as written at an axis."""
    return number(value, 1) if 0 < abs(value) < 1e-4 or abs(value) >= 1e6 else f"{value:.6g}".replace("-", "−")
