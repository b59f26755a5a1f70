"""The report: what counts, and how each form writes it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from dreamer4_conformance.report import Report
from dreamer4_conformance.report.comparison import Comparison
from dreamer4_conformance.report.document import from_json, to_document, to_json
from dreamer4_conformance.report.markdown import to_markdown
from dreamer4_conformance.report.page import to_html
from dreamer4_conformance.report.terminal import to_text
from dreamer4_conformance.verdicts import Result, Status

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")

NASTY = "<script>alert('|*`')</script> [bold]τ[/bold]\nsecond line ```"
ENVIRONMENT = {"python": "3.11.0", "k_max": 64, "device": "cpu", "dtype": "float32", "profile": "ci", "seed": 0}


def result(status: Status, clause: str = "eq08.value", kind: str = "must", **given: Any) -> Result:
    return Result(clause, int(clause[2:4]), kind, status, **given)


def report(*results: Result, **given: Any) -> Report:
    adapter = {"name": "me/dreamer4", "version": "1.0", "level": "signal", "readings": {}}
    return Report(adapter, ENVIRONMENT, list(results), **given)


EVERYTHING = report(
    result(Status.PASS, "eq04.grid", cases=20),
    result(Status.PASS, "eq10.value", "reading", cases=20, worst_error=1e-7, bound=4e-7, reading={"A13": "v_same"}),
    result(
        Status.FAIL,
        cases=3,
        worst_error=float("inf"),
        bound=4.8e-7,
        call=NASTY,
        got=np.array([np.nan, np.inf, -np.inf]),
        expected=list(np.linspace(0, 1, 20)),
        behaves_like=["ramp-inverted", "reading A7 = flow"],
        message=NASTY,
    ),
    result(Status.KNOWN_FAILURE, "eq08.applied", "reading", message="expected: see issue 12", got=1, expected=2),
    result(Status.UNEXPECTED_PASS, "eq08.elementwise", message="expected to fail: see issue 13"),
    result(Status.NOT_PROVIDED, "eq07.perfect", message="needs dynamics_loss"),
    result(Status.INCONCLUSIVE, "eq07.mixed-steps", "reading", message="d is per sequence"),
    result(Status.FAIL, "eq04.generator", "quality", message="the seed is ignored"),
    required=(7,),
    unchecked=5,
    false_alarm=2e-8,
    laws={"eq04.step-law": "Found with certainty: ± 0.02."},
    rerun_command="dreamer4-conformance run mine.py:Mine --clause {clause}",
)
FORMS = {"text": to_text, "markdown": to_markdown, "html": to_html, "json": to_json}


# What counts


@pytest.mark.parametrize(
    ("status", "kind", "required", "expected"),
    [
        (Status.PASS, "must", (8,), 0),
        (Status.FAIL, "must", (), 1),
        (Status.FAIL, "reading", (), 1),
        (Status.FAIL, "quality", (8,), 0),
        (Status.KNOWN_FAILURE, "must", (8,), 0),
        (Status.UNEXPECTED_PASS, "must", (), 1),
        (Status.UNEXPECTED_PASS, "quality", (), 1),
        (Status.NOT_PROVIDED, "must", (), 0),
        (Status.NOT_PROVIDED, "must", (8,), 1),
        (Status.NOT_PROVIDED, "must", (7,), 0),
        (Status.NOT_PROVIDED, "quality", (8,), 0),
        (Status.INCONCLUSIVE, "reading", (), 0),
        (Status.INCONCLUSIVE, "reading", (8,), 1),
    ],
)
def test_exit_status(status: Status, kind: str, required: tuple[int, ...], expected: int) -> None:
    assert report(result(status, kind=kind), required=required).exit_status == expected


def test_only_a_pass_counts_as_conforming_and_quality_apart() -> None:
    summary = to_document(EVERYTHING)["summary"]
    assert (summary["provided"], summary["conforming"], summary["failed"]) == (6, 2, 1)
    assert (summary["quality"]["provided"], summary["quality"]["conforming"]) == (1, 0)
    assert summary["missing"] == ["eq07.perfect", "eq07.mixed-steps"]


# JSON


def schema() -> Any:
    return json.loads((files("dreamer4_conformance.report") / "schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("given", [EVERYTHING, report()], ids=["everything", "nothing"])
def test_json_follows_the_schema_that_ships_with_the_package(given: Report) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(json.loads(to_json(given)), schema())


@pytest.mark.parametrize("key", ["schema", "suite", "paper", "adapter", "environment", "clauses", "summary"])
def test_the_schema_refuses_a_document_without_its_parts(key: str) -> None:
    document = to_document(EVERYTHING)
    del document[key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema())


def test_json_holds_no_nan_and_no_infinity() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(to_json(EVERYTHING), parse_constant=refuse)
    assert document["clauses"][2]["got"] == ["NaN", "Infinity", "-Infinity"]
    assert document["clauses"][2]["worst_error"] == "Infinity"


def test_a_report_comes_back_as_it_was_written() -> None:
    back = from_json(to_json(EVERYTHING))
    assert to_json(back) == to_json(EVERYTHING)
    assert back.results[2].worst_error == float("inf")
    assert back.results[2].status is Status.FAIL


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "it has no 'schema'"),
        ('{"schema": 2}', "its schema is 2; this version reads 1"),
        ('{"schema": 1}', "does not follow the report's schema"),
        ("{", "Expecting"),
    ],
)
def test_what_is_no_report_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        from_json(text)


# Every form


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [EVERYTHING, report()], ids=["everything", "nothing"])
def test_every_form_can_write_it_again_after_json(form: str, given: Report) -> None:
    back = replace(from_json(to_json(given)), rerun_command=given.rerun_command)
    assert FORMS[form](back) == FORMS[form](given)


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_every_form_names_clauses_verdicts_and_what_did_not_run(form: str) -> None:
    written = FORMS[form](EVERYTHING)
    for one in EVERYTHING.results:
        assert one.id in written
        assert str(one.status) in written
    for part in (
        "without any check yet: 5",
        "at most 2.0e-08",
        "certainty: ± 0.02",
        "Profile ci, seed 0",
        "--clause eq08.value",
    ):
        assert part in written.replace("\\", "")


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_a_clause_judged_under_a_reading_says_so(form: str) -> None:
    assert "A13 = v_same" in FORMS[form](report(EVERYTHING.results[1])).replace("\\", "")


def test_the_table_fits_into_80_columns_without_colour() -> None:
    table = to_text(EVERYTHING, in_full=False)
    assert max(map(len, table.splitlines())) <= 80
    for one in EVERYTHING.results:
        assert re.search(rf"^  {one.id} +{one.status} ", table, re.MULTILINE)
    assert "\x1b" not in table


def test_lines_that_are_copied_are_not_wrapped() -> None:
    long = "x" * 200
    assert f"call:         {long}" in to_text(report(result(Status.FAIL, call=long)))


def test_what_was_said_is_shown_as_it_is() -> None:
    assert "[bold]τ[/bold]" in to_text(EVERYTHING)


class Page(HTMLParser):
    """Tags that are open, and all that occurred."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere() -> None:
    page = Page()
    page.feed(to_html(EVERYTHING))
    assert page.open == []
    assert {"script", "link", "img", "iframe"} & {tag for tag, _ in page.seen} == set()
    assert not any({"src", "href", "style"} & set(attributes) for _, attributes in page.seen)
    assert "url(" not in to_html(EVERYTHING)
    assert "@import" not in to_html(EVERYTHING)


def test_the_page_escapes_every_text() -> None:
    spoiled = replace(EVERYTHING, laws={"eq04.step-law": NASTY}, rerun_command=NASTY)
    spoiled.adapter = {"name": NASTY, "version": NASTY, "level": NASTY, "readings": {NASTY: NASTY}}
    spoiled.environment = {**ENVIRONMENT, NASTY: NASTY}
    spoiled.results = [replace(one, message=NASTY) for one in EVERYTHING.results]
    page = to_html(spoiled)
    assert "<script>" not in page
    assert "&lt;script&gt;alert(&#39;|*`&#39;)&lt;/script&gt; [bold]τ[/bold]\nsecond line ```" in page


def test_markdown_keeps_its_tables_and_fences_whatever_is_said() -> None:
    text = to_markdown(EVERYTHING)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)
    assert "````text" in text
    assert "<script>" not in re.sub(r"````text.*?````", "", text, flags=re.DOTALL)


# Comparison


def compared(**verdicts: Status) -> Comparison:
    return Comparison({name: report(result(status)) for name, status in verdicts.items()})


def test_a_clause_that_passed_and_deviates_in_the_last_report_is_a_regression() -> None:
    assert compared(a=Status.PASS, b=Status.FAIL).regressions() == ["eq08.value"]
    assert compared(a=Status.PASS, b=Status.KNOWN_FAILURE).regressions() == ["eq08.value"]
    assert compared(a=Status.PASS, b=Status.NOT_PROVIDED, c=Status.FAIL).regressions() == ["eq08.value"]


def test_a_clause_that_is_right_in_the_last_report_is_none() -> None:
    assert compared(a=Status.PASS, b=Status.FAIL, c=Status.PASS).regressions() == []
    assert compared(a=Status.FAIL, b=Status.FAIL).regressions() == []


def test_a_quality_clause_is_never_a_regression() -> None:
    before, after = (report(result(status, kind="quality")) for status in (Status.PASS, Status.FAIL))
    comparison = Comparison({"a": before, "b": after})
    assert comparison.regressions() == []
    assert [change.after for change in comparison.changes()] == [Status.FAIL]


def test_a_clause_that_only_one_report_has_is_a_change() -> None:
    assert [(c.before, c.after) for c in Comparison({"a": report(), "b": report(result(Status.PASS))}).changes()] == [
        (None, Status.PASS)
    ]
