"""The site cannot drift from the code: nothing that the specification consists of may be missing from its pages."""

from __future__ import annotations

import doctest
import re
from collections import Counter
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

from docs.generator import eleven
from docs.generator.catalogue_pages import CONSEQUENCES
from docs.generator.clause_entries import checks_of
from docs.generator.figures import FIGURES, FIGURES_OF
from docs.generator.generation import FOLDERS, expanded, generated_pages
from docs.generator.markdown import identifier, paragraphs, reading_label
from docs.generator.repository import GITHUB, ROOT, code, link_to
from docs.generator.subjects import COUNTERPARTS, SUBJECTS, TITLES
from docs.generator.symptoms import symptom_of, symptoms
from dreamer4_conformance.clauses import BY_ID, CLAUSES, SITE
from dreamer4_conformance.judging.check import CHECKS
from dreamer4_conformance.readings import READINGS
from dreamer4_conformance.report.failures import failure_text
from dreamer4_conformance.verdicts import Result, Status
from dreamer4_conformance.zoo.catalogue import catalogue

DOCS = ROOT / "docs"
NOT_WRITTEN = {*FOLDERS, "_build"}
WRITTEN = sorted(path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] not in NOT_WRITTEN)
EXECUTED = [path for path in WRITTEN if "```pycon" in path.read_text("utf-8")]
DRAWN_HERE = ("ramp", "grid", "mask-encoder", "mask-dynamics-2", "mask-window")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Every page by its path within `docs`, the sections from other files included."""
    written = {path.relative_to(DOCS).as_posix(): expanded(path.read_text("utf-8")) for path in WRITTEN}
    return {**generated_pages(), **written}


def labels(text: str) -> list[str]:
    return re.findall(r"(?m)^\(([\w.-]+)\)=$", text)


def slug(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_every_module_of_the_reference_has_a_page_a_title_and_a_counterpart(pages: dict[str, str]) -> None:
    stems = {path.stem for path in (ROOT / "reference/dreamer4_reference").glob("*.py")} - {"__init__"}
    assert set(TITLES) == set(COUNTERPARTS) == stems
    assert {f"spec/{stem}.md" for stem in stems} <= pages.keys()
    missing = [path for subject in SUBJECTS for path in subject.counterparts if not (ROOT / path).is_file()]
    assert missing == []


def test_page_of_a_module_has_its_equation_its_functions_and_its_checks(pages: dict[str, str]) -> None:
    for subject in SUBJECTS:
        page = pages[f"spec/{subject.stem}.md"]
        equations = [text for text in paragraphs(subject.module.__doc__ or "") if text.startswith("    ")]
        assert all(f"```text\n{dedent(text)}\n```" in page for text in equations), subject.stem
        assert all(f"dreamer4_reference.{subject.stem}.{member.__name__}\n" in page for member in subject.members)
        assert all(f"def {member.__name__}(" in page for member in subject.members if not isinstance(member, type))
    listed = "".join(pages.values())
    assert [check.name for check in CHECKS.values() if f"def {check.name}(" not in listed] == []


def test_all_eleven_equations_are_displayed_and_on_their_pages(pages: dict[str, str]) -> None:
    assert sorted(eleven.equations()) == list(range(1, 12))
    assert {number for numbers in eleven.STEMS.values() for number in numbers} == set(range(1, 12))
    for stem in eleven.STEMS:
        assert all(equation in pages[f"spec/{stem}.md"] for equation in eleven.equations_of(stem))


def test_every_clause_reading_mistake_and_symptom_has_one_place(pages: dict[str, str]) -> None:
    places = Counter(name for text in pages.values() for name in labels(text))
    wanted = [
        *BY_ID,
        *(reading_label(reading.id) for reading in READINGS),
        *(f"mistake-{name}" for name in catalogue()),
        *(f"symptom-{symptom.id}" for symptom in symptoms()),
    ]
    assert {name: places[name] for name in wanted if places[name] != 1} == {}
    assert [name for name, count in places.items() if count > 1] == []


def test_entry_of_a_clause_links_reference_checks_and_mistakes(pages: dict[str, str]) -> None:
    rows = dict(re.findall(r"(?m)^\| \[([\w.-]+)\]\(#[\w.-]+\) \| (.*)$", pages["spec/clauses.md"]))
    assert rows.keys() == BY_ID.keys()
    for clause in CLAUSES:
        rejected = [name for name, (rejecting, _) in catalogue().items() if rejecting == clause.id]
        assert all(f"(#mistake-{name})" in rows[clause.id] for name in rejected)
        assert rows[clause.id].count("/checks/") == len(checks_of(clause)) > 0 or clause.id in UNCHECKED
        assert clause.module is None or f"(/spec/{clause.module}.md)" in rows[clause.id]


UNCHECKED: set[str] = set()


def test_address_that_a_failure_prints_exists(pages: dict[str, str]) -> None:
    for clause in CLAUSES:
        text = failure_text(Result(clause.id, clause.equation, clause.kind, Status.FAIL))
        (address,) = re.findall(rf"see: +{re.escape(SITE)}/(\S+)", text)
        page, _, anchor = address.partition(".html#")
        assert anchor in [identifier(name) for name in labels(pages[f"{page}.md"])], address


def test_internal_links_of_all_pages_resolve(pages: dict[str, str]) -> None:
    targets = {name for text in pages.values() for name in labels(text)}
    dead = []
    for page, text in pages.items():
        outside = "".join(re.split(r"(?m)^`{3,}.*$", text)[::2])
        anchors = targets | {slug(title) for title in re.findall(r"(?m)^#+ (.*)$", outside)}
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", outside)):
            name, _, anchor = link.partition("#")
            base = DOCS / name.lstrip("/") if name.startswith("/") else DOCS / Path(page).parent / name
            inside = base.resolve()
            is_page = inside.is_relative_to(DOCS) and str(inside.relative_to(DOCS)) in pages
            exists = not name or inside.is_file() or is_page
            if not re.match(r"\w+:", link) and not (exists and (name or anchor in anchors)):
                dead.append(f"{page}: {link}")
    assert dead == []


def test_every_mistake_has_a_symptom_and_none_is_listed_for_nothing() -> None:
    used = {symptom_of(name).id for name in catalogue()}
    assert used == {symptom.id for symptom in symptoms()}
    patterns = [pattern for symptom in symptoms() for pattern in symptom.clauses]
    assert [pattern for pattern in patterns if not any(fnmatchcase(clause, pattern) for clause in BY_ID)] == []
    named = [name for symptom in symptoms() for name in symptom.mistakes]
    assert len(named) == len(set(named)) == len(set(named) & catalogue().keys())


def test_every_reading_has_its_consequence() -> None:
    assert CONSEQUENCES.keys() == {reading.id for reading in READINGS}


def test_every_module_of_the_reference_has_a_figure() -> None:
    assert FIGURES_OF.keys() == TITLES.keys()


def test_figures_have_alternatives_and_are_shown(pages: dict[str, str]) -> None:
    shown = {name for text in pages.values() for name in re.findall(r"\{drawing\} ([\w-]+)", text)}
    assert shown == FIGURES.keys()
    assert all(figure.alternative and figure.caption for figure in FIGURES.values())


@pytest.mark.parametrize(
    "name", [name if name in DRAWN_HERE else pytest.param(name, marks=pytest.mark.nightly) for name in FIGURES]
)
def test_figure_has_the_colours_of_the_page_and_is_reproducible(name: str) -> None:
    svg = FIGURES[name].draw()
    fixed = re.findall(r'(?<!, )#[0-9a-f]{6}|"black"', svg)
    assert fixed == []
    assert FIGURES[name].draw() == svg


def test_code_that_pages_show_exists(pages: dict[str, str]) -> None:
    names = [name for text in pages.values() for line in re.findall(r"\{code-of\} (.+)", text) for name in line.split()]
    for name in names:
        module, _, member = name.rpartition(".")
        subject = getattr(import_module(module if "." in module else f"dreamer4_reference.{module}"), member)
        assert code(subject, requirements=False).startswith(("def ", "class ", "@"))
        assert link_to(subject).startswith(GITHUB)
    assert names


@pytest.mark.parametrize("path", EXECUTED, ids=lambda p: p.stem)
def test_examples_of_a_written_page_run(path: Path) -> None:
    run_examples(path.read_text("utf-8"), path.name)


def run_examples(page: str, name: str) -> None:
    import numpy as np

    blocks = "\n\n".join(re.findall(r"(?ms)^```pycon\n(.*?)^```", page))
    examples = doctest.DocTestParser().get_doctest(blocks, {"np": np}, name, name, 0)
    report: list[str] = []
    result = doctest.DocTestRunner().run(examples, out=report.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(report)


def test_ten_questions_are_answered_within_two_clicks(pages: dict[str, str]) -> None:
    assert ":link: questions\n" in pages["index.md"]
    asked = [name for name in labels(pages["questions.md"]) if name.startswith("question-")]
    assert len(asked) == 10
    sections = re.split(r"(?m)^\(question-[\w-]+\)=$", pages["questions.md"])[1:]
    assert all(re.search(r"\]\((#|/spec/)", section) for section in sections)


SEARCHES = {
    "context-label": "label of context frames",
    "return-index": "lambda return index",
    "pmpo-normalisation": "PMPO normalise",
    "loss-normalisation": "loss normalise",
    "tokenizer-masking": "tokenizer masked",
    "step-sizes": "step sizes",
    "sum-or-mean": "sum or mean",
    "mtp-length": "MTP length",
    "twohot-space": "two-hot space",
    "kl-direction": "KL direction",
}
"""Question → words, reduced as the search reduces them; it lists pages that contain all of them."""


def test_ten_questions_contain_what_is_searched_for(pages: dict[str, str]) -> None:
    sections = dict(re.findall(r"(?ms)^\(question-([\w-]+)\)=$(.*?)(?=^\(question-|\Z)", pages["questions.md"]))
    assert sections.keys() == SEARCHES.keys()
    for name, words in SEARCHES.items():
        assert [word for word in words.lower().split() if word not in sections[name].lower()] == [], name
