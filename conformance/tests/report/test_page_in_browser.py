"""The HTML report in a browser: widths of a phone and of a screen, the filter, keys and links.

Skipped without Chromium and the package `playwright`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamer4_conformance.clauses import CLAUSES
from dreamer4_conformance.report import Report
from dreamer4_conformance.report.page import to_html
from dreamer4_conformance.verdicts import Result, Status

LONG = "sample_frame(" + "0.12345," * 40 + ")"
CYCLE = (Status.PASS, Status.FAIL, Status.NOT_PROVIDED, Status.INCONCLUSIVE, Status.KNOWN_FAILURE)
ROWS = [
    Result(clause.id, clause.equation, clause.kind, CYCLE[index % 5], call=LONG, message=LONG, cases=20)
    for index, clause in enumerate(CLAUSES)
]
ADAPTER = {"name": "me/dreamer4", "version": "1.0", "level": "signal", "readings": {}}
ENVIRONMENT = {"python": "3.11.0", "k_max": 64, "device": "cpu", "dtype": "float32", "profile": "ci", "seed": 0}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(to_html(Report(ADAPTER, ENVIRONMENT, ROWS)), "utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address: str) -> Iterator:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    yield page
    page.close()


def radio(page, label: str):
    return page.get_by_role("radio", name=label)


@pytest.mark.parametrize("width", [390, 1280])
def test_page_does_not_scroll_sideways(page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_filter_shows_the_rows_of_its_verdicts(page) -> None:
    rows = page.locator("tbody tr[id]:visible")
    shown = {"failures": (Status.FAIL, Status.KNOWN_FAILURE), "inconclusive": (Status.INCONCLUSIVE,)}
    for label, statuses in shown.items():
        radio(page, label).check()
        assert rows.count() == sum(row.status in statuses for row in ROWS)
    radio(page, "all").check()
    assert rows.count() == sum(row.status is not Status.NOT_PROVIDED for row in ROWS)


def test_filter_is_reached_and_changed_by_keys(page) -> None:
    radio(page, "all").focus()
    page.keyboard.press("ArrowRight")
    assert radio(page, "failures").is_checked()


def test_table_keeps_its_roles_on_a_narrow_screen(page) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    table = page.get_by_role("table").first
    assert table.get_by_role("rowheader").count() > 0
    assert table.get_by_role("cell").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_contrast_with_their_background(browser, contrast, address: str, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(address)
    worst = contrast(page)
    page.close()
    assert worst >= 4.5
