"""report.pdf: an archive file that carries its own evidence, drawn without looking anywhere."""

import builtins
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import cli
from reports.case import read_report, write_report
from reports.pdf import render_pdf
from tests.report_cases import five_images

pikepdf = pytest.importorskip("pikepdf", reason="pikepdf is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:.*sRGB2014:pytest.PytestUnraisableExceptionWarning"
    ),  # WeasyPrint's colour profile
]


def weasyprint_works() -> bool:
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


needs_weasyprint = pytest.mark.skipif(not weasyprint_works(), reason="WeasyPrint or its Pango is not installed")


def run(*words: str) -> int:
    """The exit code of the command line."""
    try:
        cli.app(list(words), standalone_mode=False)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_report(five_images(folder), folder)
    if weasyprint_works():
        assert run("report", str(folder), "--pdf") == 0
    return folder


@pytest.fixture(scope="module")
def pdf(case):
    with pikepdf.open(case / "report.pdf") as opened:
        yield opened


@needs_weasyprint
def test_it_is_pdf_a_3b_with_every_font_inside(pdf):
    with pdf.open_metadata() as metadata:
        assert (metadata["pdfaid:part"], metadata["pdfaid:conformance"]) == ("3", "B")
        assert metadata["dc:title"] == "latentprint report: case 2026-0117"
    assert pdf.Root.OutputIntents[0].DestOutputProfile.read_bytes()
    fonts = [o for o in pdf.objects if isinstance(o, pikepdf.Dictionary) and o.get("/Type") == "/FontDescriptor"]
    assert fonts and all(any(f"/FontFile{n}" in font for n in ("", "2", "3")) for font in fonts)
    assert not pdf.is_encrypted and "/JavaScript" not in pdf.Root.get("/Names", {})


@needs_weasyprint
def test_it_carries_report_json(case, pdf):
    attached = pdf.attachments["report.json"]
    assert attached.get_file().read_bytes() == (case / "report.json").read_bytes()
    assert {str(f.AFRelationship) for f in pdf.Root.AF} == {"/Source"}


@needs_weasyprint
def test_it_is_a4_with_a_page_for_each_image(pdf):
    assert {tuple(round(float(v)) for v in page.mediabox) for page in pdf.pages} == {(0, 0, 595, 842)}
    assert len(pdf.pages) >= 2 + 3 + 1  # for the court, each image examined, the calibration
    titles = []

    def collect(items):
        for item in items:
            titles.append(item.title)
            collect(item.children)

    with pdf.open_outline() as outline:
        collect(outline.root)
    assert {"Case 2026-0117", "Limitations", "Supports emoji-a", "The calibration"} <= {t.strip() for t in titles}


@needs_weasyprint
def test_the_manifest_lists_it_and_the_same_report_gives_the_same_bytes(case):
    data = (case / "report.pdf").read_bytes()
    manifest = json.loads((case / "manifest.json").read_bytes())
    assert manifest["files"]["report.pdf"] == hashlib.sha256(data).hexdigest()
    assert render_pdf(read_report(case), case, (case / "report.json").read_bytes()) == data


@needs_weasyprint
def test_its_own_dates_are_those_of_the_run(pdf):
    ended = datetime(2026, 11, 22, 9, 10, tzinfo=UTC)
    stream = pdf.Root.AF[0].EF.F
    assert pikepdf.models.metadata.decode_pdf_date(str(stream.Params.ModDate)) == ended


def test_a_pdf_of_another_report_is_removed(tmp_path):
    report = five_images(tmp_path)
    write_report(report, tmp_path)
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    write_report(report, tmp_path)
    assert (tmp_path / "report.pdf").exists()
    write_report(replace(report, limitations=["another"]), tmp_path)
    assert not (tmp_path / "report.pdf").exists()


@pytest.mark.parametrize("error", [ImportError("No module named 'weasyprint'"), OSError("cannot load libpango")])
def test_without_weasyprint_one_sentence_says_what_is_missing(case, monkeypatch, error):
    known = builtins.__import__

    def missing(name, *rest, **options):
        if name.startswith("weasyprint"):
            raise error
        return known(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r"--pdf: found no WeasyPrint that works .*expected that of .pip install"):
        render_pdf(read_report(case), case, b"{}")
