"""report.pdf: the report on A4 as PDF/A-3b with report.json attached (extra `pdf`, WeasyPrint)."""

import hashlib
from datetime import datetime
from pathlib import Path

from attribution.report import Report
from generator.files import write_atomically
from reports.html import render_paper

PDF = "report.pdf"


def write_pdf(report: Report, case: Path, report_json: bytes) -> Path:
    """Write report.pdf into the case directory, the same bytes for the same report; return its path.

    report_json: the bytes of report.json. Raises ValueError where WeasyPrint or its libraries are missing, and for a
    picture that is missing, outside the directory or not a PNG.
    """
    path = Path(case) / PDF
    write_atomically(path, render_pdf(report, case, report_json))
    return path


def remove_old_pdf(case: Path, report_json: bytes) -> None:
    """Remove report.pdf where the case's report.json has other bytes than these: it was drawn from those."""
    known = Path(case) / "report.json"
    if not known.is_file() or known.read_bytes() != report_json:
        (Path(case) / PDF).unlink(missing_ok=True)


def render_pdf(report: Report, case: Path, report_json: bytes) -> bytes:
    """The report as PDF/A-3b. Nothing is loaded from anywhere: the page's pictures are inside it."""
    try:
        from weasyprint import HTML, Attachment
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as error:  # OSError: the package is there, but not the Pango that it draws with
        raise ValueError(
            f"--pdf: found no WeasyPrint that works ({str(error).splitlines()[0]}), expected that of "
            "`pip install latentprint[pdf]` and the system's Pango"
        ) from error
    finished = _moment(report.run.finished)
    attached = Attachment(
        string=report_json, name="report.json", description="The report as data", relationship="Source",
        created=finished, modified=finished, url_fetcher=URLFetcher(allowed_protocols=()),
    )  # fmt: skip
    page = HTML(string=render_paper(report, case, report_json), url_fetcher=URLFetcher(allowed_protocols=("data",)))
    identifier = hashlib.sha256(report_json).digest()[:16]
    return page.write_pdf(pdf_variant="pdf/a-3b", pdf_identifier=identifier, attachments=[attached])


def _moment(text: str) -> datetime:
    """The run's end; for another text a fixed time, so that equal reports give equal files."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime(1970, 1, 1)
