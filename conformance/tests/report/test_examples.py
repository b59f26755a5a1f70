"""The reports that README and `reports/examples.md` show are those that the suite prints today."""

from __future__ import annotations

import html
import re
import runpy
from pathlib import Path

import pytest

REPORTS = Path(__file__).parents[2] / "reports"
NAMES = ("right", "failing", "free-levels")
SCRIPT = runpy.run_path(str(REPORTS / "picture.py"))


def committed(name: str) -> str:
    texts = re.findall(r"```text\n(.*?)```", (REPORTS / "examples.md").read_text("utf-8"), re.DOTALL)
    return dict(zip(NAMES, texts, strict=True))[name]


#: Each runs the suite for several seconds.
BY_NIGHT = [pytest.param(name, marks=[pytest.mark.nightly] * (name != "failing")) for name in NAMES]


@pytest.fixture(scope="module", params=BY_NIGHT)
def printed(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Name of an example, and what the command prints for it."""
    return request.param, SCRIPT["text_of"](SCRIPT["output"](request.param))


def outline(text: str) -> list[str]:
    """Titles, labels and names without figures: the examples that are drawn depend on the version of Hypothesis."""
    text = re.sub(r"  reproduce:\n(.+\n)*", "  reproduce:\n", text)
    lines = [line for line in text.splitlines() if re.match(r"\S|  [a-z ]+:| +\S+ — |  add ", line)]
    lines = [re.sub(r"^(Eq\. \d+|Not provided) .*", r"\1", line) for line in lines]  # a new clause changes the counts
    values = [re.sub(r"^  (found|call|got|expected|error|what to do):.*", r"\1", line) for line in lines]
    return [re.sub(r"\d+", "0", line) for line in values]


def test_committed_report_is_up_to_date(printed: tuple[str, str]) -> None:
    name, text = printed
    assert outline(text) == outline(committed(name))


def test_report_on_readme_adapter_has_at_most_40_lines_of_80_columns(printed: tuple[str, str]) -> None:
    lines = printed[1].splitlines()
    assert len(lines) <= 40
    copied = re.compile(r"  (call|run again|see):|(subject|evaluation|.result.) = ")
    assert [line for line in lines if len(line) > 80 and not copied.match(line)] == []


@pytest.mark.parametrize("name", NAMES)
def test_picture_shows_the_committed_text(name: str) -> None:
    picture = (REPORTS / f"{name}.svg").read_text("utf-8")
    shown = html.unescape("".join(re.findall(r"<text[^>]*>([^<]*)<", picture))).replace("\xa0", " ")
    assert "".join(committed(name).split()) in "".join(shown.split())
