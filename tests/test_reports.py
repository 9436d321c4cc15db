"""What a reader, the other side's expert and a machine find in a case directory's report."""

import base64
import hashlib
import io
import json
import math
import os
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

import cli
from attribution.likelihood import cllr
from attribution.report import ImageReport
from reports.calibration_view import CalibrationView
from reports.case import read_report, write_report
from reports.figures import Mark, distance_histogram, tippett, verbal_ladder
from reports.html import render_html
from reports.pictures import Pictures
from reports.plots import Plots
from reports.svg import Scale, Series
from reports.validation_figures import cross_entropy, cross_entropy_plot, error_rates, trade_off_plot
from reports.views import view_images
from reports.words import css_string, interval, join, number, ordinal, percent, printable, score, short
from tests.report_cases import (
    CANDIDATES,
    SCRIPT_PATH,
    calibration,
    examined,
    five_images,
    make_report,
    plain_pictures,
    write_pictures,
    write_projections,
)

VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """A page's elements in order, and its text as the reader gets it; that of style and script apart."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.raw[self.open[-1]].append(data) if self.open and self.open[-1] in self.raw else self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def links_to_images(page: Page) -> list[str]:
    return [href for a in page.attributes("a") if (href := a["href"] or "").startswith("#image-")]


def page_of(case: Path) -> Page:
    return Page((case / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    write_report(five_images(folder), folder)
    return folder


@pytest.fixture(scope="module")
def page(case):
    return page_of(case)


def test_names_from_outside_are_text_and_never_markup(page):
    assert len(page.attributes("script")) == 1
    assert SCRIPT_PATH in page.text
    assert "A-3 <b>bold</b>" in page.text
    assert not any(key.startswith("on") or key == "style" for _, attrs in page.elements for key in attrs)
    assert not page.open  # every element is closed


def test_names_from_outside_neither_hide_nor_turn_what_follows(tmp_path):
    report = five_images(tmp_path)
    name = "\u202egnp.exe\u200b\x1b[31m\n\x85\u2066.png"
    shown = "\ufffdgnp.exe\ufffd\ufffd[31m\ufffd\ufffd\ufffd.png"
    candidates = [replace(c, provenance={name: [name, {"x": name}]}) for c in report.candidates]
    images = [replace(i, path=name, truth=name, intake=[{"step": "decode", name: name}]) for i in report.images]
    images = [replace(i, verdict=replace(i.verdict, statement=name)) for i in images]
    run = replace(report.run, case=name, exhibit=name, examiner=name, command=[name], settings={"paths": [name]})
    write_report(replace(report, run=run, images=images, candidates=candidates), tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", html)
    assert "202e" not in html  # nor as an escape in the printed page's footer
    apart = re.findall("<bdi>([^<]*)</bdi>", html)
    shell = f"&#39;{shown}&#39;"
    assert apart.count(shown) >= 3 + 5 + 5 + 5 and shell in apart  # the head, then each image three times
    assert json.loads((tmp_path / "report.json").read_bytes())["images"][0]["path"] == name


def test_marks_piled_on_a_letter_are_cut_off():
    assert (
        printable("Ve\u0301rdict Z" + "\u0351\u0343\u0358" * 300 + "x")
        == "Ve\u0301rdict Z\u0351\u0343\u0358\u0351\ufffdx"
    )


def test_the_report_names_only_commands_that_there_are(page):
    named = set(re.findall(r"latentprint ([a-z]+) CASE", page.text))
    assert named == {"report"} <= {getattr(c.callback, "__name__", c.name) for c in cli.app.registered_commands}


def test_the_page_loads_nothing(page):
    for tag, attrs in page.elements:
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            address = attrs.get(key)
            assert address is None or address.startswith(("data:image/png;base64,", "#")), (tag, address)
    assert "link" not in dict(page.elements)
    assert not re.search(r"url\(|@import|https?:", "".join(page.raw["style"] + page.raw["script"]))


def test_the_security_policy_allows_this_style_and_script_only(page):
    (policy,) = [m["content"] for m in page.attributes("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    hashes = {
        tag: {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in page.raw[tag]}
        for tag in ("style", "script")
    }
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert set(rules["style-src"].split()) == hashes["style"] and len(hashes["style"]) == 2
    assert set(rules["script-src"].split()) == hashes["script"] and len(hashes["script"]) == 1


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_text_colour_has_contrast_aa_in_light_and_in_dark(page):
    light, dark = re.findall(r":root \{(.*?)\}", page.raw["style"][0], re.DOTALL)[:2]
    for mode in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", mode))
        for ink in ("ink", "grey", "blue", "purple", "orange"):
            for ground in ("paper", "wash"):
                low, high = sorted(luminance(colours[name]) for name in (ink, ground))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_every_image_is_there_with_its_sentence(case, page):
    ids = [attrs.get("id") for _, attrs in page.elements]
    images = read_report(case).images
    assert [i.verdict.code for i in images] == [
        "SUPPORTS",
        "INCONCLUSIVE",
        "NOT_SUPPORTED",
        "OUT_OF_SCOPE",
        "OUT_OF_SCOPE",
    ]
    for place, image in enumerate(images, 1):
        assert ids.count(f"image-{place}") == 1
        assert image.path in page.text and image.verdict.statement in page.text and image.sha256 in page.text
    assert "emoji-a: 1 of 5 images supported" in page.text and "emoji-b: 0 of 5 images supported" in page.text
    assert hashlib.sha256((case / "report.json").read_bytes()).hexdigest() in page.text
    for section in ("results", "images", "calibration", "propositions", "limitations", "run", "integrity"):
        assert ids.count(section) == 1


def test_pictures_and_plots_say_in_words_what_they_show(page):
    pictures, plots = page.attributes("img"), [a for a in page.attributes("svg") if not a.get("aria-hidden")]
    # a thumbnail, the three of k*, two of the other candidate, noise maps
    assert len(pictures) == 3 * (1 + 3 + 2 + 1)
    assert all(a.get("alt") for a in pictures)
    assert plots and all(a.get("role") == "img" and a.get("aria-label") for a in plots)


def test_the_strip_runs_down_the_score_with_the_threshold_in_its_place(case, page):
    above, also, below = (i.score or 0 for i in read_report(case).images[:3])
    assert above > also > calibration().fitted.threshold > below
    assert links_to_images(page)[:5] == [f"#image-{i}" for i in (1, 2, 3, 4, 5)]
    html = (case / "report.html").read_text()
    cut = html.index('class="cut"')
    assert html.index('href="#image-2"') < cut < html.index('href="#image-3"') < html.index('class="cut none"')


def test_known_origins_are_shown_against_verdicts(page):
    assert "Known origin and verdict" in page.text and "known origin: a drawing" in page.text


def test_the_same_report_gives_the_same_bytes(case, tmp_path):
    again = five_images(tmp_path)
    write_report(again, tmp_path)
    for name in ("report.json", "report.html", "manifest.json"):
        assert (tmp_path / name).read_bytes() == (case / name).read_bytes()
    times = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    write_report(read_report(tmp_path), tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == times


def test_what_is_read_is_what_was_written(tmp_path):
    report = five_images(tmp_path)
    write_report(report, tmp_path)
    assert read_report(tmp_path) == report
    data = (tmp_path / "report.json").read_bytes()
    assert data.endswith(b"}\n") and json.loads(data) == asdict(report)


def test_the_manifest_holds_the_hash_of_every_other_file_of_the_case(tmp_path):
    report = five_images(tmp_path)
    for name in ("calibration.json", "notes.txt", "projections/control.safetensors", os.fsdecode(b"images/\xff.png")):
        (tmp_path / name).write_bytes(b"other")
    for name in ("run.sqlite", "run.sqlite-wal", "images/.x.png.7.partial"):
        (tmp_path / name).write_bytes(b"no part of the case")
    (tmp_path / "link.png").symlink_to(tmp_path.parent)
    digest = write_report(report, tmp_path).manifest_sha256
    data = (tmp_path / "manifest.json").read_bytes()
    manifest = json.loads(data)
    rows = [row for image in report.images for row in image.candidates]
    named = {name for row in rows for name in (row.projection, row.target, row.resynthesis, row.difference)}
    others = {"calibration.json", "notes.txt", "projections/control.safetensors", "images/\\udcff.png"}
    assert set(manifest["files"]) == {"report.json", "report.html", *others, *named}
    assert list(manifest["files"]) == sorted(manifest["files"]) and manifest["schema"] == "latentprint.manifest/1"
    for name, sha256 in manifest["files"].items():
        path = tmp_path / name.replace("\\udcff", "\udcff")
        assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == hashlib.sha256(data).hexdigest()
    assert data == json.dumps(manifest, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()  # RFC 8785


def test_a_signature_goes_with_the_manifest_that_it_signed(tmp_path):
    report = five_images(tmp_path)
    write_report(report, tmp_path)
    (tmp_path / "manifest.sig").write_bytes(b"signature")
    write_report(report, tmp_path)
    assert (tmp_path / "manifest.sig").exists()
    write_report(replace(report, limitations=["another"]), tmp_path)
    assert not (tmp_path / "manifest.sig").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_and_nothing_written(tmp_path, value):
    report = five_images(tmp_path)
    broken = replace(report, images=[replace(report.images[0], score=value)])
    with pytest.raises(ValueError, match=r"report\.json: .*not finite"):
        write_report(broken, tmp_path)
    assert not (tmp_path / "report.json").exists() and not (tmp_path / "report.html").exists()


def change(case: Path, tmp_path: Path, edit) -> Path:
    content = json.loads((case / "report.json").read_bytes())
    edit(content)
    (tmp_path / "report.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            lambda c: c.update(schema="latentprint.report/9"),
            "field schema: found 'latentprint.report/9', expected 'lat",
        ),
        (lambda c: c.pop("images"), "field images: is missing"),
        (lambda c: c.update(extra=1), "field extra: found an unknown field"),
        (
            lambda c: c["images"][0]["candidates"][1].pop("ssim"),
            r"field images\[0\]\.candidates\[1\]\.ssim: is missing",
        ),
        (lambda c: c["run"].update(seed="0"), "field run.seed: found '0', expected a whole number"),
        (lambda c: c["run"].update(seed=True), "field run.seed: found True, expected a whole number"),
        (lambda c: c["images"][0].update(score=math.nan), "broken JSON .*NaN"),
        (lambda c: c["images"][0].update(intake={}), r"field images\[0\]\.intake: found {}, expected a list"),
        (lambda c: c["images"][0].update(verdict=None), r"field images\[0\]\.verdict: found None, expected an object"),
    ],
)
def test_a_changed_report_is_refused_by_file_and_field(case, tmp_path, edit, sentence):
    with pytest.raises(ValueError, match=rf"report\.json: .*{sentence}"):
        read_report(change(case, tmp_path, edit))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000])
def test_a_file_that_is_no_report_is_refused(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match=r"report\.json: "):
        read_report(tmp_path)


def test_a_number_beyond_floats_is_refused(case, tmp_path):
    text = (case / "report.json").read_text()
    (tmp_path / "report.json").write_text(re.sub(r'"ssim": [0-9.]+', '"ssim": 1e999', text, count=1))
    with pytest.raises(ValueError, match=r"broken JSON .*1e999, which is not finite"):
        read_report(tmp_path)


def test_no_report_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"report\.json: no such file, expected"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("../outside.png", b"\x89PNG\r\n\x1a\n", "expected a path inside the case directory"),
        ("/etc/hostname", None, "expected a path inside the case directory"),
        ("images/none.png", None, "no such file, expected one that report.json names"),
        ("images/text.png", b"not a picture", "not a PNG"),
    ],
)
def test_only_pictures_of_the_case_are_shown(tmp_path, name, content, sentence):
    folder = tmp_path / "case"
    report = five_images(folder)
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        write_report(replace(report, images=[replace(report.images[0], thumbnail=name)]), folder)


def test_a_verdict_of_no_known_code_is_refused(tmp_path):
    report = five_images(tmp_path)
    image = replace(report.images[0], verdict=replace(report.images[0].verdict, code="REAL"))
    with pytest.raises(ValueError, match=r"verdict\.code: found 'REAL', expected one of SUPPORTS"):
        write_report(replace(report, images=[image]), tmp_path)


def test_without_a_calibration_nothing_speaks_of_likelihood_ratios(tmp_path):
    images = [
        examined(name, distances, plain_pictures(tmp_path, name), calibrated=False)
        for name, distances in (("far.png", [0.2, 0.3]), ("near.png", [0.01, 0.1]))
    ]
    write_report(write_projections(make_report(images, calibrated=False), tmp_path), tmp_path)
    page = page_of(tmp_path)
    assert links_to_images(page)[:2] == ["#image-2", "#image-1"]
    assert "log10 LR" not in page.text and "threshold" not in page.text
    assert "calibration" not in [attrs.get("id") for _, attrs in page.elements]


def test_candidates_are_matched_to_the_calibration_by_their_files(tmp_path):
    renamed = [replace(CANDIDATES[1], name="second"), replace(CANDIDATES[0], name="first")]
    report = five_images(tmp_path)
    new = {"emoji-a": "first", "emoji-b": "second"}
    images = [replace(i, candidates=[replace(c, name=new[c.name]) for c in i.candidates]) for i in report.images]
    write_report(replace(report, candidates=renamed, images=images), tmp_path)
    n = len(calibration().scores["calibration"].real)
    assert f"generated by first, n = {n}" in page_of(tmp_path).text
    stranger = replace(CANDIDATES[0], sha256="0" * 64)
    with pytest.raises(ValueError, match="calibration's emoji-a"):
        write_report(replace(report, candidates=[stranger, CANDIDATES[1]]), tmp_path)


def test_drifting_controls_are_said_at_the_top(tmp_path):
    report = five_images(tmp_path)
    write_report(replace(report, run=replace(report.run, controls_hold=False)), tmp_path)
    text = page_of(tmp_path).text
    assert text.index("The run controls do not hold") < text.index("images supported")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0112, "0.011"), (2.06, "2.1"), (139.6, "140"), (1234.0, "1,200"), (-0.5851, "−0.59"), (0.0, "0"),
        (None, "–"), (0.00001234, "1.2 × 10⁻⁵"), (1e-9, "10⁻⁹"), (9.96, "10"), (0.0996, "0.10"), (999_999.0, "10⁶"),
    ],
)  # fmt: skip
def test_numbers_have_two_significant_digits(value, words):
    assert number(value) == words


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_a_rounded_number_is_within_five_per_cent(value):
    written = number(value).replace(",", "")
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    read = re.fullmatch(r"(?:([\d.]+) × )?10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", written)
    found = float(read[1] or 1) * 10.0 ** int(read[2].translate(powers)) if read else float(written)
    assert found == pytest.approx(value, rel=0.0501)


def test_words_for_shares_ranks_lists_and_intervals():
    assert [percent(p) for p in (0.05, 0.001, 1.0, 0.098)] == ["5 %", "0.1 %", "100 %", "9.8 %"]
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 22, 112)] == [
        "largest", "2nd largest", "3rd largest", "4th largest", "11th largest", "22nd largest", "112th largest"
    ]  # fmt: skip
    assert (join(["a"]), join(["a", "b"]), join(["a", "b", "c"])) == ("a", "a and b", "a, b and c")
    assert (short("emoji-a", 11), short("a-very-long-name", 11)) == ("emoji-a", "a-ver…-name")
    assert [score(t) for t in (-5.514, -0.001, 12.0, None)] == ["−5.51", "0.00", "12.00", "–"]
    assert (interval([-2.0, 2.1]), interval(None)) == ("[−2.0, 2.1]", "–")


@given(st.text(max_size=20))
def test_a_css_string_can_end_neither_its_quotes_nor_its_element(text):
    written = css_string(text)
    assert not re.search(r'["<>\n]', written[1:-1])
    assert re.sub(r"\\([0-9a-f]+) ", lambda m: chr(int(m[1], 16)), written[1:-1]) == text


def svg(figure) -> ElementTree.Element:
    return ElementTree.fromstring(str(figure))


def place_of(root: ElementTree.Element, words: str, axis: str = "x") -> float:
    (found,) = [float(t.attrib[axis]) for t in root.iter("text") if "".join(t.itertext()) == words]
    return found


def test_a_histogram_puts_the_image_where_its_distance_lies():
    series = [Series("generated", "generated by <a>", [0.01, 0.012, 0.02]), Series("real", "real", [0.1, 0.2])]
    root = svg(distance_histogram(series, "LPIPS-VGG", suspect=0.02, threshold=0.05))
    (suspect,) = [float(e.attrib["x1"]) for e in root.iter("line") if e.get("class") == "suspect"]
    (threshold,) = [float(e.attrib["x1"]) for e in root.iter("line") if e.get("class") == "threshold"]
    assert suspect == pytest.approx(place_of(root, "0.02"), abs=0.1)
    assert threshold == pytest.approx(place_of(root, "0.05"), abs=0.1)
    assert "generated by <a>: n = 3, 0.010 to 0.020" in root.attrib["aria-label"]


@given(st.lists(st.floats(min_value=0, max_value=2), min_size=1, max_size=30))
def test_a_histogram_draws_any_distances(values):
    assert svg(distance_histogram([Series("real", "real", values)], "LPIPS", suspect=values[0])).get("role") == "img"


def test_a_tippett_plot_falls_by_the_share_of_images_at_each_ratio():
    root = svg(tippett([Series("generated", "own", [2.0, -1.0, 1.0, 2.0]), Series("real", "real", [-2.0])], "a"))
    (path,) = [e.attrib["d"] for e in root.iter("path") if e.get("class") == "generated"]
    numbers = [float(v) for v in re.findall(r"[-\d.]+", path)]
    full, none = place_of(root, "100 %", "y") - 4, place_of(root, "0 %", "y") - 4
    falls = dict(zip(numbers[2:-1:2], numbers[3::2], strict=True))
    at_minus_one, at_one, at_two = (place_of(root, w) for w in ("−1", "1", "2"))
    for x, share in ((at_minus_one, 0.75), (at_one, 0.5), (at_two, 0.0)):
        (y,) = [y for place, y in falls.items() if place == pytest.approx(x, abs=0.1)]
        assert y == pytest.approx(none + (full - none) * share, abs=0.1)


def test_the_ladder_shows_ratios_in_order_and_how_far_it_reaches():
    steps = [(0.0, "neutral"), (0.3, "weak"), (1.0, "moderate"), (2.0, "moderately strong"), (3.0, "strong")]
    root = svg(verbal_ladder([Mark("b", -1.5, False), Mark("a", 2.1, True)], (-2.0, 2.1), steps, "a"))
    heights = [float(e.attrib["cy"]) for e in root.iter("circle")]
    assert heights[0] > place_of(root, "neutral", "y") > heights[1]
    assert {t.get("class") for t in root.iter("text") if t.text == "moderately strong"} == {"label", "faint"}
    assert "from −2.0 to 2.1" in root.attrib["aria-label"]


@given(st.floats(min_value=-50, max_value=50), st.floats(min_value=0.01, max_value=100))
def test_ticks_are_few_and_inside(lo, span):
    scale = Scale(lo, lo + span, 0, 100)
    ticks = scale.ticks(5)
    assert 1 <= len(ticks) <= 5 and all(lo - 1e-6 * span <= t <= lo + span * (1 + 1e-6) for t in ticks)


def test_many_images_lie_beside_the_page_and_in_the_manifest(tmp_path, monkeypatch):
    monkeypatch.setattr("reports.pictures.EMBEDDED_IMAGES", 4)
    digest = write_report(five_images(tmp_path), tmp_path)
    page, manifest = page_of(tmp_path), json.loads((tmp_path / "manifest.json").read_bytes())
    sources = {a["src"] or "" for a in page.attributes("img")}
    assert sources <= manifest["files"].keys() and all((tmp_path / name).is_file() for name in sources)
    noise = {name for name in sources if name.startswith("report/")}
    assert len(noise) == 3 and all(name.endswith(".noise.png") for name in noise)
    (policy,) = [m["content"] for m in page.attributes("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "img-src 'self' file:;" in policy and "http" not in policy
    assert write_report(read_report(tmp_path), tmp_path) == digest


def test_large_pictures_lie_beside_the_page_with_small_thumbnails(tmp_path, monkeypatch):
    monkeypatch.setattr("reports.pictures.EMBEDDED_BYTES", 1000)
    large = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    pictures = write_pictures(tmp_path, "large", large, [large, large])
    write_report(write_projections(make_report([examined("large.png", [0.01, 0.1], pictures)]), tmp_path), tmp_path)
    first, *others = [a["src"] or "" for a in page_of(tmp_path).attributes("img")]
    assert first == "report/large.target.thumbnail.png" and "images/large.target.png" in others
    with Image.open(tmp_path / first) as thumbnail:
        assert thumbnail.size == (128, 128)


def test_noise_maps_are_drawn_from_coarse_to_fine_with_their_structure(tmp_path):
    flat, striped = np.zeros((1, 1, 16, 16), np.float32), np.ones((128, 128), np.float32)
    striped[1::2] = -1
    (tmp_path / "p.safetensors").write_bytes(save({"noise_00": flat, "noise_01": striped, "w": flat[0, 0]}))
    evidence = examined("x", [0.01, 0.1], plain_pictures(tmp_path, "x")).candidates[0]
    pictures = Pictures(tmp_path, embedded=False)
    noise = pictures.noise(replace(evidence, projection="p.safetensors"))
    assert noise and noise.sides == [16, 128] and noise.autocorrelation == pytest.approx(1)
    with Image.open(io.BytesIO(pictures.beside[noise.source])) as image:
        grey = np.asarray(image.convert("L")).astype(int)
    assert grey.shape == (64, 132)
    assert abs(grey[:, :64] - 127).max() <= 9  # zero is the middle grey
    assert set((grey[0::2, 68:] - grey[1::2, 68:]).flat) == {grey[0, 68] - grey[1, 68]} and grey[0, 68] > grey[1, 68]


@pytest.mark.parametrize("data", [b"", b"no tensors", save({"w": np.zeros(3, np.float32)})])
def test_a_projection_without_noise_maps_is_shown_without_them(tmp_path, data):
    report = five_images(tmp_path)
    (tmp_path / report.images[0].candidates[0].projection).write_bytes(data)
    write_report(report, tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert html.count('class="noise"') == 2


def test_names_are_shown_without_the_folders_that_all_share(case, page):
    report = read_report(case)
    assert "Image 1 of 5 · portrait 1.png" in page.text
    calibrated = CalibrationView.of(report)
    deep = replace(report, images=[replace(i, path=f"/evidence/a b/{n}/x.png") for n, i in enumerate(report.images)])
    plots = Plots(deep, calibrated, "LPIPS")
    names = [view.name for view in view_images(deep, calibrated, plots, Pictures(case, embedded=True))]
    assert names == [f"{n}/x.png" for n in range(5)]


def test_facts_of_the_file_are_shown_where_intake_found_any(tmp_path):
    @dataclass(frozen=True)
    class WithFacts(ImageReport):
        facts: dict[str, Any] | None = None

    report = five_images(tmp_path)
    found = {"exif": {"software": "<b>paint</b>"}, "jpeg": {"tables": [[16, 11], [17, 18]]}, "icc": None, "c2pa": None,
             "new_fact": [1, None, {"x": "y"}], "problems": []}  # fmt: skip
    images: list = [WithFacts(**vars(i) | {"facts": None if n else found}) for n, i in enumerate(report.images)]
    html = render_html(replace(report, images=images), tmp_path, b"{}").decode()
    text = Page(html).text
    assert text.count("What the file says of itself") == 1 and "no evidence for a verdict" in text
    assert "EXIFsoftware <b>paint</b>" in text and "JPEG codingtables 16, 11; 17, 18" in text
    assert "new fact1, none, x y" in text and "not in the fileICC profile, C2PA manifest" in text
    assert "could not be read" not in text[text.index("What the file says") :][:400]


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=20), st.lists(st.floats(-4, 4), min_size=1, max_size=20))
def test_cross_entropy_is_cllr_at_even_odds_and_the_prior_s_own_without_evidence(h1, h0):
    assert cross_entropy(h1, h0, np.array([0.0]))[0] == pytest.approx(cllr(h1, h0))
    odds = np.array([-1.0, 0.0, 2.0])
    p = 10**odds / (1 + 10**odds)
    assert cross_entropy([0], [0], odds) == pytest.approx(-p * np.log2(p) - (1 - p) * np.log2(1 - p))
    assert svg(cross_entropy_plot(h1, h0, "<a>")).get("role") == "img"


def test_error_rates_run_from_all_missed_to_none():
    rates = error_rates([2.0, 1.0, -1.0, 2.0], [-2.0, 1.0])
    assert rates[0][1] == 1 and rates[-1] == (1.0, 0.0)
    assert (0.0, 0.5) in rates and (0.5, 0.25) in rates  # above 1: half the own images; at 1: three, and one other


def test_a_trade_off_plot_puts_rates_at_their_ticks():
    h1, h0 = [1.0] * 90 + [-1.0] * 10, [-1.0] * 95 + [1.0] * 5  # at 1: 10 % missed, 5 % false
    root = svg(trade_off_plot(h1, h0, "a"))
    (path,) = [e.attrib["d"] for e in root.iter("path")]
    points = re.findall(r"V([-\d.]+)H([-\d.]+)", path)
    (miss,) = [
        float(t.attrib["y"]) - 4 for t in root.iter("text") if t.text == "10 %" and t.get("text-anchor") == "end"
    ]
    (false,) = [float(t.attrib["x"]) for t in root.iter("text") if t.text == "5 %" and t.get("text-anchor") == "middle"]
    assert (miss, false) in [(pytest.approx(float(v), abs=0.1), pytest.approx(float(h), abs=0.1)) for v, h in points]
    assert "5 % false positives with 10 % misses" in root.attrib["aria-label"]
