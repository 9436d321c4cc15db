"""report.html in a browser: what a reader does with it, what it asks of the machine, and who can use it."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reports.case import write_report
from tests.report_cases import five_images, many_images

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.filterwarnings("default::ResourceWarning"),  # of the driver's own pipes
]

MANY = 1000
ROWS = "#results-table tbody tr:not([hidden])"


class Visit:
    """A page of a browser, with every request and complaint since it was opened."""

    def __init__(self, page, address: str):
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.set_default_timeout(120_000)
        page.goto(address)

    def state(self) -> str | None:
        return self.page.evaluate("document.documentElement.dataset.state ?? null")

    def images(self) -> list[str]:
        """The images' articles that a reader sees, once a change of address has come through."""
        settled = "new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))"
        shown = "[...document.querySelectorAll('.image')].filter(a => a.offsetParent).map(a => a.id)"
        return self.page.evaluate(f"{settled}.then(() => {shown})")

    def column(self, number: int) -> list[str]:
        return self.page.locator(f"{ROWS} > :nth-child({number})").all_inner_texts()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as driver:
        options = ["--disable-gpu", "--disable-quic", *(["--no-sandbox"] if os.getuid() == 0 else [])]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options, timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("five")
    write_report(five_images(folder), folder)
    return folder


@pytest.fixture(scope="module")
def large_case(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_report(many_images(folder, MANY), folder)
    return folder


@pytest.fixture
def visit(browser):
    """Open a case's report: visit(case, fragment, ...the context's options)."""
    contexts = []

    def open_page(case: Path, fragment: str = "", **options) -> Visit:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        return Visit(contexts[-1].new_page(), (case / "report.html").as_uri() + fragment)

    yield open_page
    for context in contexts:
        context.close()


def test_the_page_opens_without_a_complaint_or_a_request_to_anywhere(case, visit):
    seen = visit(case)
    assert seen.state() == "overview" and seen.images() == []
    assert seen.page.inner_text("#filter-shown") == "5 of 5 shown"
    seen.page.goto(seen.page.url + "#images")
    assert len(seen.images()) == 5
    assert seen.complaints == []
    assert {url for url in seen.requests if not url.startswith("data:image/png;")} == {(case / "report.html").as_uri()}


def test_the_policy_stops_what_the_page_does_not_hold(case, visit):
    """So that the absence of requests is no luck: a script, style, picture or form from elsewhere does nothing."""
    seen = visit(case)
    seen.page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.ran = true';
        document.body.append(script);
        const image = new Image(); image.src = 'https://example.org/x.png'; document.body.append(image);
        document.body.insertAdjacentHTML('beforeend', '<p id="styled" style="color: red">x</p>');
    }""")
    assert seen.page.evaluate("window.ran ?? null") is None
    assert seen.page.evaluate("getComputedStyle(document.getElementById('styled')).color") != "rgb(255, 0, 0)"
    assert len(seen.complaints) == 3 and all("Content Security Policy" in text for text in seen.complaints)


def test_the_table_sorts_by_number_and_by_word_with_the_unknown_last(case, visit):
    seen = visit(case)
    for name, ascending in (("Distance", [1, 2, 3, 4, 5]), ("Score T", [3, 2, 1, 4, 5])):
        button = seen.page.get_by_role("button", name=name)
        button.click()
        assert list(map(int, seen.column(1))) == ascending
        button.click()
        assert list(map(int, seen.column(1))) == [*reversed(ascending[:3]), 4, 5]
        assert seen.page.locator("th[aria-sort=descending]").inner_text().startswith(name)
    seen.page.get_by_role("button", name="Verdict").click()
    assert seen.column(2) == sorted(seen.column(2))


def test_the_table_filters_by_verdict_and_text(case, visit):
    seen = visit(case)
    seen.page.select_option("#filter-verdict", "out-of-scope")
    assert seen.column(3) == ["wide.png", "broken.jpg"]
    seen.page.fill("#filter-text", "BROKEN")
    assert seen.column(3) == ["broken.jpg"] and seen.page.inner_text("#filter-shown") == "1 of 5 shown"
    seen.page.select_option("#filter-verdict", "")
    seen.page.fill("#filter-text", "<script>")
    assert list(map(int, seen.column(1))) == [3]


def test_an_image_has_its_own_address_and_the_browser_goes_back_and_on(case, visit):
    seen = visit(case)
    seen.page.get_by_role("button", name="Distance").click()
    seen.page.get_by_role("button", name="Distance").click()  # 3, 2, 1
    seen.page.locator(f"{ROWS} a").nth(1).click()
    assert (seen.images(), seen.state(), seen.page.url.partition("#")[2]) == (["image-2"], "image", "image-2")
    assert seen.page.evaluate("document.activeElement.id") == "image-2-verdict" and "portrait 2" in seen.page.title()
    seen.page.keyboard.press("ArrowRight")
    assert seen.images() == ["image-1"]  # the next of the table as sorted
    seen.page.locator(".image.open .previous").click()
    seen.page.locator(".image.open .previous").click()
    assert seen.images() == ["image-3"] and seen.page.locator(".image.open .previous").is_hidden()
    seen.page.go_back()
    assert seen.images() == ["image-2"]
    seen.page.go_forward()
    assert seen.images() == ["image-3"]
    seen.page.keyboard.press("Escape")
    assert seen.images() == [] and seen.state() == "overview"
    assert seen.page.evaluate("document.activeElement.closest('tr').id") == "result-3"
    assert seen.complaints == []


def test_a_link_to_an_image_opens_it(case, visit):
    assert visit(case, "#image-2").images() == ["image-2"]
    assert visit(case, "#image-99").state() == "overview"


def test_slider_and_button_lay_the_suspect_over_the_resynthesis(case, visit):
    seen = visit(case, "#image-1")
    over = ".open .frame img + img"
    clip = f"getComputedStyle(document.querySelector('{over}')).clipPath"
    seen.page.locator(".open .compare input").focus()
    seen.page.keyboard.press("Home")
    assert seen.page.evaluate(clip) in ("inset(0px)", "inset(0px 0% 0px 0px)")
    seen.page.locator(".open .compare input").fill("25")
    assert seen.page.evaluate(clip) == "inset(0px 25% 0px 0px)"
    suspect = seen.page.locator(".open .frame img").first.get_attribute("src")
    assert seen.page.locator(over).get_attribute("src") == suspect
    seen.page.get_by_role("button", name="Blink").click()
    assert seen.page.evaluate(clip) == "inset(0px 100% 0px 0px)"
    assert seen.complaints == []


def test_zoom_shows_square_pixels_and_scrolls_the_three_pictures_together(case, visit):
    seen = visit(case, "#image-1")
    seen.page.select_option(".open .compare select", "16")
    widths = seen.page.evaluate(
        "[...document.querySelectorAll('.open .triptych img')].map(i => i.getBoundingClientRect().width)"
    )
    assert widths == [16 * 8] * 4  # the suspect lies over the re-synthesis
    seen.page.evaluate(
        "document.querySelectorAll('.open .frame').forEach(f => { f.style.width = f.style.height = '64px'; })"
    )
    seen.page.evaluate("document.querySelector('.open .frame').scrollTo(30, 20)")
    seen.page.wait_for_function(
        "[...document.querySelectorAll('.open .triptych .frame')].every(f => f.scrollLeft === 30 && f.scrollTop === 20)"
    )
    rendering = "[...document.querySelectorAll('.open .triptych img')].map(i => getComputedStyle(i).imageRendering)"
    assert set(seen.page.evaluate(rendering)) == {"pixelated"}
    seen.page.select_option(".open .compare select", "")
    assert seen.page.locator(".open .zoomed").count() == 0
    assert seen.complaints == []


def test_a_thousand_images_are_small_and_open_one_by_one(large_case, visit):
    assert (large_case / "report.html").stat().st_size < 30e6
    seen = visit(large_case)
    assert len(seen.column(1)) == MANY and seen.page.inner_text("#filter-shown") == "1000 of 1000 shown"
    assert (
        seen.page.evaluate("document.querySelectorAll('*').length") < 40 * MANY
    )  # an image's part is built when opened
    seen.page.get_by_role("button", name="Score T").click()
    seen.page.fill("#filter-text", "folder 3/")
    scores = [float(text.replace("−", "-")) for text in seen.column(10)]
    assert len(scores) == 143 and scores == sorted(scores)
    seen.page.locator(f"{ROWS} a").nth(5).click()
    assert len(seen.images()) == 1 and seen.page.locator(".image").count() == 1
    seen.page.locator(".open .compare input").fill("50")
    seen.page.locator(".open .noise").scroll_into_view_if_needed()
    loaded = "[...document.querySelectorAll('.open img')].every(i => i.complete && i.naturalWidth > 0)"
    seen.page.wait_for_function(loaded)
    assert seen.page.locator(".open .plot use").count() == 3
    seen.page.goto(seen.page.url.partition("#")[0] + "#image-777")
    assert seen.images() == ["image-777"]
    folder = large_case.as_uri()
    assert len(seen.requests) < MANY and all(url.startswith(f"{folder}/") for url in seen.requests)
    assert seen.complaints == []


def test_without_javascript_everything_is_there(case, large_case, visit):
    seen = visit(case, java_script_enabled=False)
    assert all(seen.page.locator(f"#image-{n} .statement").is_visible() for n in range(1, 6))
    assert seen.page.locator("#filters").is_hidden() and seen.page.locator(".compare").first.is_hidden()
    seen.page.locator("#results-table a").nth(2).click()
    assert seen.page.locator("#image-3").is_visible() and seen.page.locator("#image-1").is_hidden()
    seen.page.locator("#image-3 .pager a").first.click()
    assert seen.page.locator("#image-1").is_visible() and seen.page.locator("#results").is_visible()
    large = visit(large_case, "#image-777", java_script_enabled=False)
    assert large.page.locator("#image-777 .statement").is_visible() and large.page.locator("#image-776").is_hidden()


HOSTILE = [
    "<img src=x onerror=window.ran=1>" * 20,
    "a" * 4000,
    "\u202egnp.exe\u2066" * 100,
    "line\nbreak\r\x1b[31m\x00 \u2028",
    "</noscript></script><script>window.ran=1</script>",
    "javascript:window.ran=1//{{7*7}}${7*7}",
    "Z\u0351\u0343\u0358" * 300,
]


@pytest.mark.parametrize("fragment", ["", "#image-2", "#images"])
@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_names_are_inert_and_keep_the_layout(tmp_path, visit, fragment, width):
    report = five_images(tmp_path)
    names = iter(HOSTILE)
    images = [
        replace(i, path=(name := next(names)), truth=name, format=name, stratum=name,
                intake=[{"step": name, name: {name: [name]}}], verdict=replace(i.verdict, statement=name))
        for i in report.images
    ]  # fmt: skip
    run = replace(
        report.run,
        case=HOSTILE[1],
        exhibit=HOSTILE[5],
        examiner=HOSTILE[4],
        command=HOSTILE,
        settings={HOSTILE[0]: HOSTILE},
    )
    write_report(replace(report, run=run, images=images, limitations=HOSTILE), tmp_path)
    seen = visit(tmp_path, fragment, viewport={"width": width, "height": 900})
    assert seen.page.evaluate("window.ran ?? null") is None and seen.complaints == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert seen.images() == {"": [], "#image-2": ["image-2"], "#images": [f"image-{n}" for n in range(1, 6)]}[fragment]


def test_on_paper_it_is_a4_with_a_page_for_each_image(case, visit):
    seen = visit(case)
    pdf = seen.page.pdf(prefer_css_page_size=True)
    boxes = set(re.findall(rb"/MediaBox \[([^\]]*)\]", pdf))
    assert {tuple(round(float(v)) for v in box.split()) for box in boxes} == {(0, 0, 595, 842)}
    assert len(re.findall(rb"/Type /Page\b(?!s)", pdf)) >= 2 + 3 + 1  # for the court, each image examined, calibration
    seen.page.emulate_media(media="print")
    hidden = ("header nav", ".filters", ".compare >> nth=0", ".pager >> nth=0")
    assert not any(seen.page.locator(selector).first.is_visible() for selector in hidden)
    assert len(seen.images()) == 5


def violations(page) -> list[tuple[str, str]]:
    """What axe-core finds: rule and the first place of it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 10
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("fragment", ["", "#image-1", "#images"])
def test_axe_finds_nothing(case, visit, scheme, fragment):
    assert violations(visit(case, fragment, color_scheme=scheme).page) == []


def test_axe_finds_nothing_on_a_phone_or_in_a_picture_zoomed(case, visit):
    seen = visit(case, "#image-1", viewport={"width": 390, "height": 844})
    seen.page.select_option(".open .compare select", "16")
    assert violations(seen.page) == []


def test_axe_finds_nothing_where_images_are_many(tmp_path, visit):
    write_report(many_images(tmp_path, 70), tmp_path)
    seen = visit(tmp_path)
    assert violations(seen.page) == []
    seen.page.locator(f"{ROWS} a").first.click()
    assert len(seen.images()) == 1 and violations(seen.page) == []
