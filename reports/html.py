"""report.html: one self-contained page, the same bytes for the same report."""

import base64
import hashlib
import shlex
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from attribution.report import Report, RunRecord
from attribution.wording import VERBAL_SCALE
from reports import views
from reports.calibration_view import CalibrationView
from reports.pictures import Pictures
from reports.plots import Plots
from reports.texts import READING, READING_RATIOS, RULES, TEXTS, fill, shown
from reports.words import VERDICTS, css_string, interval, number, ordinal, percent, plain, printable, score, short

TEMPLATES = Path(__file__).parent / "templates"
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)  # the locale's names would differ from machine to machine


def render_html(report: Report, case: Path, report_json: bytes, pictures: Pictures | None = None) -> bytes:
    """The page of a report whose pictures lie in the case directory; report_json: the bytes whose hash it states.

    pictures: how the page holds them, by default as Pictures.of says; what they then hold `beside` must be written into
    the case directory. Raises ValueError for a picture that is missing, outside the directory or not a PNG, and for a
    verdict of no known code.
    """
    return _render(report, report_json, pictures or Pictures.of(report, case), paper=False).encode()


def render_paper(report: Report, case: Path, report_json: bytes) -> str:
    """The same page for printing: without script, its pictures inside, every plot complete. Raises as render_html."""
    return _render(report, report_json, Pictures(case, embedded=True), paper=True)


def _render(report: Report, report_json: bytes, pictures: Pictures, paper: bool) -> str:
    calibration = CalibrationView.of(report) if report.calibration else None
    metric = _metric(report)
    plots = Plots(report, calibration, metric, once=not paper)
    images = views.view_images(report, calibration, plots, pictures)
    report_sha256 = hashlib.sha256(report_json).hexdigest()
    styles = [_asset("report.css"), _page_footer(report.run, report_sha256)]
    script = _asset("report.js")
    return _environment().get_template("report.html.j2").render(
        report=report,
        run=report.run,
        title=TEXTS["title"].format(name=report.run.case or "without a name"),
        styles=[Markup(s) for s in styles],
        style_hashes=[_csp_hash(s) for s in styles],
        script=None if paper else Markup(script),
        script_hash=_csp_hash(script),
        pictures=pictures,
        lazy=Markup("" if pictures.embedded else ' loading="lazy"'),
        backdrops=plots.backdrops,
        cell=_number_cell,
        score=score,
        metric=metric,
        views=images,
        calibrated=calibration is not None,
        calibration=calibration,
        results=views.results(report),
        strip=views.strip(images, calibration is not None),
        verdict_counts=views.verdict_counts(images),
        truth_table=views.truth_table(images),
        errors=[v for v in images if v.key == "out-of-scope"],
        controls_sentence=_controls_sentence(report.run),
        report_sha256=report_sha256,
        reading=READING + (READING_RATIOS if calibration else ()),
        rules=RULES,
        scale=VERBAL_SCALE,
    )  # fmt: skip


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=shown,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "plain": plain,
        "percent": percent,
        "ordinal": ordinal,
        "moment": _moment,
        "brief": lambda text: short(text, views.LONGEST_NAME),
        "shell": shlex.quote,
        "fill": fill,
    }
    environment.globals |= {"words": VERDICTS, "t": {name: Markup(text) for name, text in TEXTS.items()}}
    return environment


@cache
def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _page_footer(run: RunRecord, report_sha256: str) -> str:
    """The printed page's footer: case and hash on the left, page numbers on the right."""
    words = f"Case {printable(short(run.case, 48)) or 'without a name'}   ·   report.json SHA-256 {report_sha256}"
    style = 'font: 7.5pt "Liberation Sans", Arial, sans-serif; color: #5f5d58; vertical-align: top; padding-top: 3mm;'
    return (
        f"@page {{ @bottom-left {{ content: {css_string(words)}; width: 85%; {style} }} "
        f'@bottom-right {{ content: counter(page) " / " counter(pages); {style} }} }}'
    )


def _number_cell(value: float | None, written: Callable[[float | None], str] = number) -> Markup:
    """A table's cell: the number as read, and in full for sorting."""
    key = "" if value is None else repr(float(value))
    return Markup('<td class="n" data-key="{}">{}</td>').format(key, written(value))


def _moment(text: str) -> str:
    """2026-11-22T09:10:00+00:00 -> 22 November 2026, 09:10; other text as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment.day} {MONTHS[moment.month - 1]} {moment.year}, {moment:%H:%M}"


def _metric(report: Report) -> str:
    """The distance's name from the run's settings: LPIPS-VGG."""
    network = report.run.settings.get("lpips")
    return f"LPIPS-{network.upper()}" if isinstance(network, str) else "LPIPS"


def _controls_sentence(run: RunRecord) -> str:
    if run.controls is None:
        return "there are none without a calibration"
    drift = max((c.drift for c in run.controls), default=0.0)
    kept, n = "within" if run.controls_hold else "beyond", len(run.controls)
    return (
        f"{n} image{'' if n == 1 else 's'} of the calibration, projected again, drifted by at most {number(drift)}, "
        f"{kept} the tolerance of {number(run.controls_tolerance)}"
    )
