"""Plots of a calibration's quality beside Tippett's: empirical cross-entropy, and detection error trade-off."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reports.svg import COLOURS, Scale, figure, line, tag, text, x_axis, y_grid
from reports.words import number, percent, short

_LEFT, _RIGHT = 44.0, 512.0
_RATES = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4)
_PRIORS = np.linspace(-2.5, 2.5, 101)

Floats = NDArray[np.float64]


def cross_entropy(h1: Sequence[float], h0: Sequence[float], log10_odds: Floats) -> Floats:
    """Empirical cross-entropy in bits at prior log10 odds [n] -> [n] (Ramos et al. 2013); at even odds it is Cllr.

    h1, h0: log10 likelihood ratios of images of the candidate and of the alternative.
    """
    prior = 1 / (1 + 10.0**-log10_odds)
    for_h1 = _bits(-(np.asarray(h1)[:, None] + log10_odds)).mean(axis=0)
    for_h0 = _bits(np.asarray(h0)[:, None] + log10_odds).mean(axis=0)
    return prior * for_h1 + (1 - prior) * for_h0


def _bits(log10_odds: Floats) -> Floats:
    """log2(1 + 10^x)."""
    return np.logaddexp(0, log10_odds * np.log(10)) / np.log(2)


def cross_entropy_plot(h1: Sequence[float], h0: Sequence[float], candidate: str) -> Markup:
    """Cost of the likelihood ratios against the prior odds, beside that of saying nothing (every ratio 1)."""
    x, y = Scale(-2.5, 2.5, _LEFT, _RIGHT), Scale(0, 1, 222, 30)
    costs, nothing = cross_entropy(h1, h0, _PRIORS), cross_entropy([0.0], [0.0], _PRIORS)
    parts = [*y_grid(y, _LEFT, _RIGHT, most=6), *x_axis(x, 222, "prior log10 odds")]
    parts += [text(_LEFT, 14, "cost in bits:  ━ these likelihood ratios   ╍ saying nothing")]
    for values, kind, dash in ((nothing, "axis", "7 3"), (costs, "suspect", None)):
        points = "L".join(f"{x(p):.1f} {y(c):.1f}" for p, c in zip(_PRIORS.tolist(), values.tolist(), strict=True))
        stroke = COLOURS.get(kind, COLOURS["other"])
        parts += [tag("path", d=f"M{points}", class_=kind, stroke=stroke, stroke_width=2.0, stroke_dasharray=dash)]
    even, most = number(float(costs[len(_PRIORS) // 2])), number(float(costs.max()))
    worse = "never" if (costs <= nothing + 1e-9).all() else "for some odds"
    alt = f"at even odds {even} bits (Cllr), at most {most}; {worse} above the cost of saying nothing"
    return figure(520, 260, f"Empirical cross-entropy for {candidate}: {alt}.", parts, "cross-entropy")


def error_rates(h1: Sequence[float], h0: Sequence[float]) -> list[tuple[float, float]]:
    """(false-positive rate, miss rate) at every threshold on the ratios, from the strictest to the most lenient."""
    own, others = np.asarray(h1), np.asarray(h0)
    thresholds = np.unique(np.concatenate([own, others]))[::-1]
    return [(1e-9, 1.0), *((float((others >= t).mean()), float((own < t).mean())) for t in thresholds)]


def trade_off_plot(h1: Sequence[float], h0: Sequence[float], candidate: str) -> Markup:
    """DET plot: miss rate against false-positive rate, both on normal deviates; a rate of none is drawn at 0.1 %."""
    deviate = NormalDist().inv_cdf
    x = Scale(deviate(_RATES[0]), deviate(0.5), _LEFT + 16, _RIGHT)
    y = Scale(deviate(_RATES[0]), deviate(0.5), 222, 30)
    parts = [text(_LEFT, 14, f"misses among {short(candidate, 24)}'s own images")]
    for rate in _RATES:
        at = deviate(rate)
        parts += [line(x.start, y(at), x.end, y(at), "grid"), line(x(at), y.start, x(at), y.end, "grid")]
        parts += [text(x.start - 6, y(at) + 4, percent(rate), text_anchor="end")]
        parts += [text(x(at), 239, percent(rate), text_anchor="middle")]
    parts += [text((x.start + x.end) / 2, 255, "false positives among the alternative's images", text_anchor="middle")]
    shown = [(min(max(f, 1e-4), 0.9999), min(max(m, 1e-4), 0.9999)) for f, m in error_rates(h1, h0)]
    steps = "".join(f"V{y(deviate(m)):.1f}H{x(deviate(f)):.1f}" for f, m in shown)
    first = f"M{x(deviate(shown[0][0])):.1f} {y(deviate(shown[0][1])):.1f}"
    parts += [tag("path", d=first + steps, class_="suspect", stroke=COLOURS["suspect"], stroke_width=2.0)]
    best = min(error_rates(h1, h0), key=lambda rates: max(rates))
    alt = f"{percent(best[0])} false positives with {percent(best[1])} misses where the larger of the two is smallest"
    return figure(520, 262, f"Detection error trade-off for {candidate}: {alt}.", parts, "trade-off")
