"""The report in Chromium, as a colleague sees it: on a desk, on a phone, in the dark, by keyboard alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from report.page.material import Material
from report.page.page import write_page
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tests.programs import BROWSER, needs_browser

pytestmark = [
    pytest.mark.slow,
    needs_browser,
]
HARMLESS = ("Canvas2D", "GPU stall")  # what drawing without a graphics card says
SIZES = {"desk": (1280, 900, "light"), "phone": (390, 844, "light"), "dark": (1280, 900, "dark")}


@pytest.fixture
def address(store: Store, record: RunRecord, tmp_path: Path) -> str:
    out = tmp_path / "report.html"
    write_page(Material(store, record, "retrieval-sfm run <photos>"), out)
    return out.as_uri()


@pytest.fixture(params=SIZES)
def opened(request: pytest.FixtureRequest, address: str) -> Iterator[tuple[Any, str]]:
    """The loaded page at one size; what it asked for and what it complained of are looked at afterwards."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    width, height, scheme = SIZES[request.param]
    asked, errors = [], []
    with sync_api.sync_playwright() as playwright:
        arguments = [
            "--no-sandbox",
            "--use-gl=angle",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
        ]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("request", lambda each: asked.append(each.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.set_default_timeout(120_000)
        page.goto(address)
        yield page, request.param
        browser.close()
    assert [each for each in asked if not each.startswith(("data:", "blob:"))] == [address]
    assert [each for each in errors if not any(known in each for known in HARMLESS)] == []


def test_pictures_are_decoded_and_nothing_hangs_over_the_edge(opened: tuple[Any, str]) -> None:
    """Also pictures of what is folded, without scrolling there."""
    page, _ = opened
    undecoded = "() => [...document.images].filter((e) => !e.complete || !e.naturalWidth).map((e) => e.alt)"
    assert page.locator("img[data-p]").count() > 3
    for _ in range(200):  # set in idle moments; the page's policy forbids to wait for an expression
        if not page.evaluate(undecoded):
            break
        page.wait_for_timeout(100)
    assert page.evaluate(undecoded) == []
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_the_figures_are_drawn(opened: tuple[Any, str]) -> None:
    from PIL import Image

    page, _ = opened
    page.locator("#space").scroll_into_view_if_needed()
    page.wait_for_selector("#space canvas")
    canvas = page.locator("#space canvas").first
    for _ in range(50):  # WebGL draws some frames later
        drawn = Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")
        if len(drawn.getcolors(1 << 24) or ()) > 10:
            break
        page.wait_for_timeout(100)
    assert len(drawn.getcolors(1 << 24) or ()) > 10
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector("#curves .scatterlayer path.js-line", state="attached")
    assert page.locator("#curves .ytitle").text_content() == "loss"


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(1, 2, 3)", WCAG 2.1."""
    parts = [float(each) / 255 for each in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_words_can_be_read(opened: tuple[Any, str]) -> None:
    """Contrast at least 4.5 to 1, WCAG 2.1 level AA, for text and for the marks of ranked photographs."""
    page, name = opened
    ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.05) == (name == "dark")
    marks = ("body", "header > p", "a", "figcaption", ".right b", ".wrong b", ".junk b")
    for mark in marks:
        found = page.evaluate(
            "(m) => { const e = document.querySelector(m); return e && getComputedStyle(e).color; }", mark
        )
        assert found is not None, mark
        ink = luminance(found)
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5, (mark, found)


def test_every_control_is_reached_by_the_keyboard_and_shows_it(opened: tuple[Any, str]) -> None:
    page, _ = opened
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        outline, width, what = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e), to = e.getAttribute('href');"
            " return [s.outlineStyle, parseFloat(s.outlineWidth), e.id || to || e.tagName]; })()"
        )
        if what == "BODY":
            break
        assert outline != "none" and width >= 2, (what, outline, width)
        reached.append(what)
    assert reached[0] == "#main" and {"#models", "theme", "SUMMARY", "model"} <= set(reached)


def test_light_and_dark_are_exchanged_by_the_button(opened: tuple[Any, str]) -> None:
    page, name = opened
    before = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector("#curves .ytitle")
    page.locator("#theme").click()
    after = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (before < 0.05) == (name == "dark") and (after < 0.05) != (before < 0.05)
    ink = luminance(page.evaluate("getComputedStyle(document.querySelector('#curves .ytitle')).fill"))
    assert (ink > 0.5) == (after < 0.05)
