"""report.html: one self-contained page, the same bytes for the same report."""

import base64
import hashlib
import shlex
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from attribution.report import Report, RunRecord
from reports import views
from reports.calibration_view import CalibrationView
from reports.words import VERDICTS, css_string, interval, number, ordinal, percent, plain, printable, score

TEMPLATES = Path(__file__).parent / "templates"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)  # the locale's names would differ from machine to machine


def render_html(report: Report, case: Path, report_json: bytes) -> bytes:
    """The page of a report whose pictures lie in the case directory; report_json: the bytes whose hash it states.

    Raises ValueError for a picture that is missing, outside the directory or not a PNG, and for a verdict of no known
    code.
    """
    calibration = CalibrationView.of(report) if report.calibration else None
    metric = _metric(report)
    shown = [views.view_image(place, report, calibration, metric) for place in range(1, len(report.images) + 1)]
    report_sha256 = hashlib.sha256(report_json).hexdigest()
    styles = [_asset("report.css"), _page_footer(report.run, report_sha256)]
    script = _asset("report.js")
    page = _environment().get_template("report.html.j2").render(
        report=report,
        run=report.run,
        title=f"latentprint report: case {report.run.case or 'without a name'}",
        styles=[Markup(s) for s in styles],
        style_hashes=[_csp_hash(s) for s in styles],
        script=Markup(script),
        script_hash=_csp_hash(script),
        data_uri=_picture_reader(case),
        cell=_number_cell,
        score=score,
        metric=metric,
        views=shown,
        calibrated=calibration is not None,
        calibration=calibration,
        results=views.results(report),
        strip=views.strip(shown, calibration is not None),
        verdict_counts=views.verdict_counts(shown),
        truth_table=views.truth_table(shown),
        errors=[v for v in shown if v.key == "out-of-scope"],
        controls_sentence=_controls_sentence(report.run),
        report_sha256=report_sha256,
        reading=_reading(calibration is not None, metric),
    )  # fmt: skip
    return page.encode()


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalize,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "plain": plain,
        "percent": percent,
        "ordinal": ordinal,
    }
    environment.filters |= {"moment": _moment, "shell": shlex.quote}
    environment.globals |= {"words": VERDICTS}
    return environment


def _finalize(value: Any) -> Any:
    """What the templates write in the place of a value: text without invisible characters; markup as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _page_footer(run: RunRecord, report_sha256: str) -> str:
    """The printed page's footer: case and hash on the left, page numbers on the right."""
    words = f"Case {printable(run.case) or 'without a name'}   ·   report.json SHA-256 {report_sha256}"
    style = 'font: 7.5pt "Liberation Sans", Arial, sans-serif; color: #5f5d58; vertical-align: top; padding-top: 3mm;'
    return (
        f"@page {{ @bottom-left {{ content: {css_string(words)}; width: 85%; {style} }} "
        f'@bottom-right {{ content: counter(page) " / " counter(pages); {style} }} }}'
    )


def case_file(case: Path, name: str) -> Path:
    """A file that report.json names. Raises ValueError for one that is missing or outside the case directory."""
    top = Path(case).resolve()
    path = (top / name).resolve()
    if not path.is_relative_to(top):
        raise ValueError(f"report.json: found file {name!r}, expected a path inside the case directory")
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected one that report.json names")
    return path


def _picture_reader(case: Path) -> Callable[[str], str]:
    """A function from a path inside the case directory to the picture as a data: URI."""

    def read(name: str) -> str:
        path = case_file(case, name)
        data = path.read_bytes()
        if not data.startswith(PNG_SIGNATURE):
            raise ValueError(f"{path}: found a file that is not a PNG, expected a picture that report.json names")
        return f"data:image/png;base64,{base64.b64encode(data).decode()}"

    return read


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


def _reading(calibrated: bool, metric: str) -> str:
    said = f"Distance: {metric} between the image and its re-synthesis by the nearest candidate; 0 means equal."
    if calibrated:
        said += (
            " log10 LR: how much more probable the findings are if that candidate produced the image than if the "
            "alternative is true, as a power of ten; see Propositions. p (generated): the share of the candidate's own "
            "images that lie as far or farther. p (real): the share of known real images that score as high or higher."
        )
    return said
