"""A study's table as JSON and as one self-contained HTML page."""

import json
from dataclasses import asdict
from pathlib import Path

from markupsafe import Markup, escape

from attribution.studies.separation import SeparationStudy
from generator.files import write_atomically
from reports.figures import distance_histogram
from reports.svg import Series

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}"
    "td,th{padding:0 1rem 0 0;text-align:left}"
)


def write_separation(study: SeparationStudy, out: Path) -> None:
    """Write separation.json and separation.html below `out`."""
    text = json.dumps(asdict(study), indent=1, sort_keys=True, allow_nan=False)
    write_atomically(out / "separation.json", text.encode())
    write_atomically(out / "separation.html", _page(study).encode())


def _page(study: SeparationStudy) -> str:
    config = study.settings["config"]
    series = [
        Series(
            _kind(truth, study.candidate),
            truth,
            [u.distances[study.candidate] for u in study.units if u.truth == truth],
        )
        for truth in dict.fromkeys(unit.truth for unit in study.units)
    ]
    rows = [
        Markup("<tr><td>{} vs {}<td>{:.4f}<td>{:.4f} to {:.4f}<td>{} and {}").format(
            s.positive, s.negative, s.auc, *s.interval, s.n_positive, s.n_negative
        )
        for s in study.separations
    ]
    means = [Markup("<tr><td>{}<td>{:.4f}<td>{:.4f}<td>{:.1f}").format(*row) for row in study.means()]
    return Markup(
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Separation</title><style>{}</style>"
        "<h1>Separation: distance to {}</h1><p>{} steps, LPIPS {}, {}, noise weight {:g}, seed {}.</p>{}"
        "<table><tr><th>classes<th>AUC<th>95 % interval<th>n{}</table>"
        "<table><tr><th>class<th>mean distance<th>mean |autocorrelation| of the noise maps<th>mean steps{}</table>{}"
        "</html>\n"
    ).format(
        Markup(STYLE),
        study.candidate,
        config["steps"],
        study.settings["lpips"],
        config["precision"],
        config["noise_weight"],
        study.settings["seed"],
        distance_histogram(series, f"LPIPS ({study.settings['lpips']})"),
        Markup("").join(rows),
        Markup("").join(means),
        _verdicts(study),
    )


def _kind(truth: str, candidate: str) -> str:
    return "generated" if truth == candidate else "real" if truth == "real" else "other"


def _verdicts(study: SeparationStudy) -> Markup:
    if study.verdicts is None:
        return Markup("")
    lines = [
        f"{truth}: {', '.join(f'{code} {n}' for code, n in sorted(counts.items()))}"
        for truth, counts in study.verdicts.items()
    ]
    return Markup("<h2>Verdicts by truth</h2><ul>{}</ul>").format(
        Markup("").join(Markup("<li>") + escape(line) for line in lines)
    )
