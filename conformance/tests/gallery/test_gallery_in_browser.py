"""The gallery in a browser: widths of a phone and of a screen, filter, keys, links, contrast, and without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamer4_conformance.gallery.entries import read_entries
from dreamer4_conformance.gallery.page import to_html

REPORTS = Path(__file__).parents[2] / "reports"
CELLS = "#matrix tbody tr[data-equation]:visible"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("gallery") / "index.html"
    path.write_text(to_html(read_entries(REPORTS)), "utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address: str) -> Iterator:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    yield page
    page.close()
    assert faults == []


@pytest.mark.parametrize("width", [390, 1280])
def test_page_does_not_scroll_sideways_and_headers_stay(page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    region = page.get_by_role("region", name="Matrix of clauses")
    header, clause = page.locator("#matrix thead th").first, page.locator("#matrix tbody th[scope=row] code").nth(60)
    before = header.bounding_box()
    region.evaluate("element => { element.scrollTop += 900; element.scrollLeft += 300 }")
    assert header.bounding_box() == before
    left = region.bounding_box()["x"]
    assert left <= clause.bounding_box()["x"] < left + 40


def test_filter_shows_rows_of_an_equation_and_of_a_verdict(page) -> None:
    everything = page.locator(CELLS).count()
    page.get_by_label("Equation").select_option("Eq. 8")
    rows = page.locator(CELLS)
    assert {row.get_attribute("data-equation") for row in rows.all()} == {"Eq. 8"}
    assert page.locator(".block:visible[data-equations='Eq. 1']").count() == 0
    page.get_by_label("Verdict").select_option("fail")
    assert rows.count() > 0
    assert all(row.locator("td.fail").count() for row in rows.all())
    assert page.get_by_role("status").inner_text() == f"{rows.count()} of {everything} clauses"
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function(
        f"document.querySelectorAll('#matrix tbody tr[data-equation]:not([hidden])').length == {everything}"
    )


def test_arrow_keys_move_between_cells_and_enter_opens_a_failure(page) -> None:
    link = page.locator("#matrix td.fail a").first
    link.focus()
    assert "fail" in page.locator("#said").inner_text()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert link.evaluate("element => element === document.activeElement")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    position = page.evaluate("document.activeElement.closest('td').cellIndex")
    assert position == 2
    assert page.locator("#matrix td [tabindex='0'], #matrix td[tabindex='0']").count() == 1
    link.focus()
    page.keyboard.press("Enter")
    target = page.evaluate("document.querySelector(location.hash.replaceAll('.', '\\\\.')).getBoundingClientRect().top")
    assert -1 <= target <= 900


def test_everything_is_there_without_scripts(browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator(CELLS).count() > 100
    assert not page.get_by_label("Equation").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_contrast_with_their_background(browser, contrast, address: str, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(address)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    worst = contrast(page)
    page.close()
    assert worst >= 4.5
