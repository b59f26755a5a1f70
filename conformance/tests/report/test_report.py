"""Exit status, formats and comparison of reports."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from dreamer4_conformance.clauses import SITE
from dreamer4_conformance.report import Report
from dreamer4_conformance.report.annotations import to_annotations
from dreamer4_conformance.report.comparison import Comparison
from dreamer4_conformance.report.document import from_json, from_row, to_document, to_json, to_row
from dreamer4_conformance.report.failures import failure_text
from dreamer4_conformance.report.markdown import to_markdown
from dreamer4_conformance.report.page import to_fragment, to_html
from dreamer4_conformance.report.terminal import to_text
from dreamer4_conformance.report.wording import additions
from dreamer4_conformance.verdicts import Result, Status

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")

NASTY = "<script>alert('|*`')</script> [bold]τ[/bold]\nsecond line ```"
ENVIRONMENT = {"python": "3.11.0", "k_max": 64, "device": "cpu", "dtype": "float32", "profile": "ci", "seed": 0}


def result(status: Status, clause: str = "eq08.value", kind: str = "must", **attributes: Any) -> Result:
    return Result(clause, int(clause[2:4]), kind, status, **attributes)


def report(*results: Result, **attributes: Any) -> Report:
    adapter = {"name": "me/dreamer4", "version": "1.0", "level": "signal", "readings": {}}
    return Report(adapter, ENVIRONMENT, list(results), **attributes)


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
FORMS = {
    "text": to_text,
    "table": partial(to_text, verbose=True),
    "markdown": to_markdown,
    "html": to_html,
    "json": to_json,
}


# Exit status and counts


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


def test_only_a_pass_conforms_and_quality_is_counted_separately() -> None:
    summary = to_document(EVERYTHING)["summary"]
    assert (summary["provided"], summary["conforming"], summary["failed"]) == (6, 2, 1)
    assert (summary["quality"]["provided"], summary["quality"]["conforming"]) == (1, 0)
    assert summary["missing"] == ["eq07.perfect", "eq07.mixed-steps"]


def test_report_is_a_sequence_of_results() -> None:
    rows = EVERYTHING.results
    assert (len(EVERYTHING), list(EVERYTHING), EVERYTHING[0], EVERYTHING[-2:]) == (len(rows), rows, rows[0], rows[-2:])
    assert rows[3] in EVERYTHING
    assert report(*rows[:2]) == rows[:2]
    assert report(*rows[:2]) == report(*rows[:2])
    assert report(*rows[:2]) != report(*rows[1:2])
    assert not report()
    assert repr(EVERYTHING) == "<Report on me/dreamer4 1.0: 2 of 6 provided clauses pass>"


def test_report_writes_itself_in_every_format() -> None:
    assert str(EVERYTHING) == to_text(EVERYTHING)
    assert EVERYTHING.to_html() == to_html(EVERYTHING)
    assert EVERYTHING.to_markdown() == to_markdown(EVERYTHING)
    assert EVERYTHING.to_json() == to_json(EVERYTHING)
    assert EVERYTHING._repr_html_() == to_fragment(EVERYTHING)


# JSON


def schema() -> Any:
    return json.loads((files("dreamer4_conformance.report") / "schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("given", [EVERYTHING, report()], ids=["everything", "nothing"])
def test_json_follows_the_schema_in_the_package(given: Report) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(json.loads(to_json(given)), schema())


@pytest.mark.parametrize("key", ["schema", "suite", "paper", "adapter", "environment", "clauses", "summary"])
def test_schema_rejects_a_document_with_a_missing_entry(key: str) -> None:
    document = to_document(EVERYTHING)
    del document[key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema())


def test_json_has_no_nan_and_no_infinity() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(to_json(EVERYTHING), parse_constant=refuse)
    assert document["clauses"][2]["got"] == ["NaN", "Infinity", "-Infinity"]
    assert document["clauses"][2]["worst_error"] == "Infinity"


def test_report_is_restored_from_json() -> None:
    back = from_json(to_json(EVERYTHING))
    assert to_json(back) == to_json(EVERYTHING)
    assert back.results[2].worst_error == float("inf")
    assert back.results[2].status is Status.FAIL


def altered(section: str, name: str, value: object) -> str:
    """The text of a report in which one value is replaced; the section "clauses" stands for its third row."""
    document = to_document(EVERYTHING)
    (document[section][2] if section == "clauses" else document[section])[name] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("clauses", "id", 3),
        ("clauses", "status", "good"),
        ("clauses", "status", []),
        ("clauses", "cases", "3"),
        ("clauses", "cases", True),
        ("clauses", "cases", 10**400),
        ("clauses", "worst_error", 10**400),
        ("clauses", "bound", {}),
        ("clauses", "seconds", None),
        ("clauses", "behaves_like", [3]),
        ("clauses", "reading", {"A13": 3}),
        ("adapter", "name", None),
        ("adapter", "level", "sigma"),
        ("adapter", "readings", []),
        ("environment", "seed", 0.5),
        ("summary", "required", ["7"]),
        ("summary", "unchecked", 10**400),
        ("summary", "false_alarm", "small"),
        ("summary", "laws", {"eq04.step-law": []}),
    ],
)
def test_value_of_a_wrong_type_is_refused(section: str, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name}|too large|valid Status|must be|argument"):
        from_json(altered(section, name, value))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**5,
        '{"schema":' * 10**4,
        '{"schema": ' + "[" * 400 + "]" * 400 + "}",
        "1" * 5000,
        '{"schema": 1, "adapter": [], "environment": 3, "clauses": {}, "summary": null}',
        '"\\ud800"',
    ],
    ids=["brackets", "objects", "nested schema", "digits", "types", "surrogate"],
)
def test_text_of_any_form_is_refused_with_a_message(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(text)


CONTROL = "\x1b[2J\x07\ud800\u202e"


def test_control_characters_and_lone_surrogates_are_escaped_in_every_form() -> None:
    rows = [from_row(to_row(replace(row, message=CONTROL, call=CONTROL, got=[CONTROL]))) for row in EVERYTHING.results]
    written = from_json(to_json(replace(EVERYTHING, results=rows)))
    written.adapter["name"] = from_json(altered("adapter", "name", CONTROL)).adapter["name"]
    for text in (to_json(written), to_markdown(written), to_html(written), to_text(written, in_full=True)):
        assert not set(CONTROL) & set(text) - set("[2J")
        assert text.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "it has no 'schema'"),
        ('{"schema": 2}', "its schema is 2; this version reads 1"),
        ('{"schema": 1}', "does not follow the report's schema"),
        ("{", "Expecting"),
    ],
)
def test_text_that_is_no_report_is_rejected_with_a_message(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        from_json(text)


# All formats


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [EVERYTHING, report()], ids=["everything", "nothing"])
def test_every_format_is_the_same_after_a_round_trip_by_json(form: str, given: Report) -> None:
    back = replace(from_json(to_json(given)), rerun_command=given.rerun_command)
    assert FORMS[form](back) == FORMS[form](given)


@pytest.mark.parametrize("form", ["table", "markdown", "html"])
def test_every_format_names_clauses_verdicts_and_unchecked_clauses(form: str) -> None:
    written = FORMS[form](EVERYTHING)
    for row in EVERYTHING.results:
        assert row.id in written
        assert str(row.status) in written
    for part in (
        "without any check yet: 5",
        "at most 2.0e-08",
        "certainty: ± 0.02",
        "Profile ci, seed 0",
        "--clause eq08.value",
    ):
        assert part in written.replace("\\", "")


@pytest.mark.parametrize("form", ["table", "markdown", "html"])
def test_every_format_names_the_reading_of_a_clause(form: str) -> None:
    assert "A13 = v_same" in FORMS[form](report(EVERYTHING.results[1])).replace("\\", "")


def test_table_fits_into_80_columns_without_colour() -> None:
    table = to_text(EVERYTHING, verbose=True, in_full=False)
    addresses = [line for line in table.splitlines() if line.startswith("  see: ")]  # are copied: not wrapped
    assert max(len(line) for line in table.splitlines() if line not in addresses) <= 80
    for row in EVERYTHING.results:
        assert re.search(rf"^  {row.id} +{row.status}\b", table, re.MULTILINE)
    assert "\x1b" not in table


def test_code_can_be_pasted() -> None:
    code = "import numpy as np\n\nprint(np.zeros(3))"
    failing = report(result(Status.FAIL, reproduce=code))
    assert "\n  reproduce:\nimport numpy as np\nprint(np.zeros(3))\n" in to_text(failing)
    assert f"\nreproduce:\n{code}\n" in to_markdown(failing)
    assert f"\n  reproduce:\n{code}" in failure_text(failing[0])


def test_paths_in_a_table_are_not_broken() -> None:
    path = "/home/me/projects/dreamer4/with/a/very/long/path/to/the/adapter.py:12"
    row = result(Status.INCONCLUSIVE, message=f"dynamics_loss did not return within 120 s, in {path}")
    assert path in to_text(report(row), verbose=True)
    assert path in to_text(report(row))


def test_lines_to_copy_are_not_wrapped() -> None:
    long = "x" * 200
    assert f"call:         {long}" in to_text(report(result(Status.FAIL, call=long)))


def test_terminal_prints_markup_unchanged() -> None:
    assert "[bold]τ[/bold]" in to_text(EVERYTHING)


HOSTILE = "\x1b[2J\x1b]0;title\x07\r\x9b31m\u202e\udc80"


@pytest.mark.parametrize("form", FORMS)
def test_texts_of_an_adapter_cannot_change_the_terminal(form: str) -> None:
    spoiled = report(result(Status.FAIL, call=HOSTILE, message=HOSTILE, got=[HOSTILE], expected={HOSTILE: HOSTILE}))
    spoiled.adapter |= {"name": HOSTILE, "version": HOSTILE}
    written = FORMS[form](spoiled)
    assert not {"\x1b", "\r", "\x07", "\x9b", "\u202e", "\udc80"} & set(written)
    written.encode("utf-8")


def test_default_text_has_a_line_per_equation_and_what_to_add() -> None:
    text = to_text(
        report(
            *EVERYTHING.results[:2], *(result(Status.NOT_PROVIDED, f"eq02.{x}", needs=["sample_frame"]) for x in "abc")
        )
    )
    assert "\nEq. 4         1 of 1 pass\nEq. 10        1 of 1 pass\nNot provided  3 clauses: Eq. 2 (3)\n" in text
    assert "  add `sample_frame`: 3 more clauses\n" in text
    assert "eq02.a" not in text


def test_additions_count_alternatives_and_prefer_clauses_per_operation() -> None:
    needs = [["example", "encode or decode"], ["example", "encode"], ["ramp_weight"], ["example", "encode or decode"]]
    rows = [result(Status.NOT_PROVIDED, f"eq02.{index}", needs=names) for index, names in enumerate(needs)]
    assert additions(report(*rows)) == [(["example", "encode"], 3), (["ramp_weight"], 1)]


def test_failures_of_one_cause_are_one_block_and_a_line_each() -> None:
    rows = [
        result(Status.FAIL, "eq07.finite", follows_from="eq04.grid", message="second"),
        result(Status.FAIL, "eq08.value", message="apart"),
        result(Status.FAIL, "eq04.grid", message="first"),
        result(Status.FAIL, "eq07.perfect", follows_from="eq04.grid", message="third"),
    ]
    for text in (to_text(report(*rows)), to_markdown(report(*rows)).replace("\\", "")):
        assert [text.count(part) for part in ("requires:", "second", "third")] == [2, 0, 0]
        assert re.search(r"explains: +2 clauses\n", text)
        assert "eq07.finite — fail, follows from eq04.grid" in text
        assert text.index("eq04.grid — Eq. (4)") < text.index("eq08.value — Eq. (8)")


def test_failure_that_follows_from_a_known_failure_is_printed_in_full() -> None:
    rows = [
        result(Status.KNOWN_FAILURE, "eq04.grid", message="expected: see issue 12"),
        result(Status.FAIL, "eq07.finite", follows_from="eq04.grid", message="not finite"),
    ]
    text = to_text(report(*rows))
    assert "found:        not finite\n" in text
    assert "follows from: eq04.grid\n" in text


def test_long_texts_are_cut_without_v() -> None:
    long = report(result(Status.FAIL, message="word " * 200))
    assert to_text(long).count("word") < 60
    assert to_text(long, verbose=True).count("word") >= 200


class Page(HTMLParser):
    """Open tags, and all tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed_and_loads_nothing() -> None:
    page = Page()
    page.feed(to_html(EVERYTHING))
    assert page.open == []
    assert {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags} == set()
    assert not any({"src", "style"} & set(attributes) for _, attributes in page.tags)
    assert {tag for tag, attributes in page.tags if "href" in attributes} == {"a"}
    assert "url(" not in to_html(EVERYTHING)
    assert "@import" not in to_html(EVERYTHING)


def test_every_link_of_the_page_has_its_target() -> None:
    page = Page()
    page.feed(to_html(EVERYTHING))
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = [attributes["href"] or "" for _, attributes in page.tags if "href" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    assert {row.id for row in EVERYTHING.results} <= set(identifiers)
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= set(identifiers)
    addresses = ("#", "https://arxiv.org/", "https://github.com/", f"{SITE}/spec/")
    assert [link for link in links if not link.startswith(addresses)] == []


def test_fragments_of_two_reports_share_no_identifier() -> None:
    identifiers = []
    for text in (to_fragment(EVERYTHING), to_fragment(report(*EVERYTHING.results[:3]))):
        page = Page()
        page.feed(text)
        identifiers += [attributes[key] for _, attributes in page.tags for key in ("id", "name") if key in attributes]
        assert not {"html", "body"} & {tag for tag, _ in page.tags}
    assert (
        len({name for name in identifiers if name}) == len([tag for tag in identifiers if not tag.endswith("show")]) + 2
    )


def test_page_escapes_every_text() -> None:
    spoiled = replace(EVERYTHING, laws={"eq04.step-law": NASTY}, rerun_command=NASTY)
    spoiled.adapter = {"name": NASTY, "version": NASTY, "level": NASTY, "readings": {NASTY: NASTY}}
    spoiled.environment = {**ENVIRONMENT, NASTY: NASTY}
    spoiled.results = [replace(row, message=NASTY) for row in EVERYTHING.results]
    page = to_html(spoiled)
    assert "<script>" not in page
    assert "&lt;script&gt;alert(&#39;|*`&#39;)&lt;/script&gt; [bold]τ[/bold]\nsecond line ```" in page


def test_markdown_escapes_tables_and_fences() -> None:
    text = to_markdown(EVERYTHING)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)
    assert "````text" in text
    assert "<script>" not in re.sub(r"````text.*?````", "", text, flags=re.DOTALL)


# Comparison


def compared(**verdicts: Status) -> Comparison:
    return Comparison({name: report(result(status)) for name, status in verdicts.items()})


def test_clause_that_passed_and_deviates_in_the_last_report_is_a_regression() -> None:
    assert compared(a=Status.PASS, b=Status.FAIL).regressions() == ["eq08.value"]
    assert compared(a=Status.PASS, b=Status.KNOWN_FAILURE).regressions() == ["eq08.value"]
    assert compared(a=Status.PASS, b=Status.NOT_PROVIDED, c=Status.FAIL).regressions() == ["eq08.value"]


def test_clause_that_passes_in_the_last_report_is_no_regression() -> None:
    assert compared(a=Status.PASS, b=Status.FAIL, c=Status.PASS).regressions() == []
    assert compared(a=Status.FAIL, b=Status.FAIL).regressions() == []


def test_quality_clause_is_never_a_regression() -> None:
    before, after = (report(result(status, kind="quality")) for status in (Status.PASS, Status.FAIL))
    comparison = Comparison({"a": before, "b": after})
    assert comparison.regressions() == []
    assert [change.after for change in comparison.changes()] == [Status.FAIL]


def test_clause_that_only_one_report_has_is_a_change() -> None:
    assert [(c.before, c.after) for c in Comparison({"a": report(), "b": report(result(Status.PASS))}).changes()] == [
        (None, Status.PASS)
    ]


def printed(comparison: Comparison) -> str:
    stream = StringIO()
    comparison.print(Console(file=stream, width=80, color_system=None))
    return stream.getvalue()


def test_comparison_prints_what_differs_per_clause_and_nothing_else() -> None:
    same = result(Status.PASS, "eq04.grid")
    before = report(same, result(Status.PASS), result(Status.FAIL, "eq10.value", behaves_like=["a"]))
    after = report(
        same,
        result(Status.FAIL, behaves_like=["ramp-inverted"], follows_from="eq10.value"),
        result(Status.FAIL, "eq10.value", behaves_like=["a", "b"], reading={"A13": "v_same"}),
    )
    after.adapter |= {"readings": {"A13": "v_same"}}
    after.environment = {**ENVIRONMENT, "seed": 3}
    assert printed(Comparison({"a.json": before, "b.json": after})).splitlines() == [
        "[1] a.json: me/dreamer4 1.0",
        "[2] b.json: me/dreamer4 1.0",
        "changed in [2]: readings: none → A13 = v_same",
        "changed in [2]: seed: 0 → 3",
        "changed in [2]: eq08.value: pass → fail",
        "  behaves like: none → ramp-inverted",
        "  follows from: none → eq10.value",
        "changed in [2]: eq10.value: fail",
        "  reading: none → A13 = v_same",
        "  behaves like: a → a, b",
        "The same in all reports: 1 clause.",
        "Passed before and deviate in [2]: eq08.value",
    ]


def test_comparison_of_three_reports_has_a_table_of_what_changed() -> None:
    text = printed(compared(a=Status.PASS, b=Status.FAIL, c=Status.PASS))
    assert re.search(r"^eq08.value +pass +fail +pass", text, re.MULTILINE)
    assert "Passed before and deviate in [3]: none" in text


def test_comparison_escapes_texts_of_a_report() -> None:
    spoiled = report(result(Status.FAIL, behaves_like=[HOSTILE]))
    assert not {"\x1b", "\r", "\x07"} & set(printed(Comparison({"a": report(result(Status.FAIL)), "b": spoiled})))


# Annotations


def test_annotations_name_file_and_line_where_they_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "ramp.py"):
        (tmp_path / name).touch()
    raised = "ramp_weight raised ValueError: 50 %, no\nmore (ramp.py:7)"
    results = (
        result(Status.FAIL, message=raised),
        result(Status.FAIL, "eq04.grid", message="raised (elsewhere.py:7)"),
        result(Status.FAIL, "eq04.generator", "quality", message="m"),
        result(Status.KNOWN_FAILURE, "eq07.perfect", message="expected: see issue 12"),
        result(Status.INCONCLUSIVE, "eq07.finite", message="m"),
    )
    locations = {"eq04.grid": f"{tmp_path / 'mine.py'}:3", "eq04.generator": "/outside.py:1"}
    ramp, grid, generator, known, missing = to_annotations(
        report(*results, locations=locations, required=(7,)), tmp_path
    )
    assert ramp.startswith(
        "::error title=eq08.value — Eq. (8)%2C Sec. 3.2%2C p. 6%3A fail,file=ramp.py,line=7::requires:"
    )
    assert "found: ramp_weight raised ValueError: 50 %25, no%0Amore (ramp.py:7)" in ramp
    assert "%3A fail,file=mine.py,line=3::" in grid
    assert generator.startswith("::warning title=eq04.generator")
    assert "file=" not in generator
    assert known.startswith("::notice title=eq07.perfect")
    assert missing == "::error title=eq07.finite::eq07.finite is required and inconclusive: m"


def test_clause_of_a_sealed_operation_is_counted_and_not_suggested() -> None:
    rows = [result(Status.NOT_PROVIDED, f"eq02.{name}", needs=["corrupt or rope"]) for name in "ab"]
    written = report(*rows, result(Status.NOT_PROVIDED, needs=["ramp_weight"]))
    written.adapter["not_testable"] = {"corrupt": "inline in the loss, loss.py:3"}
    assert written.not_testable == rows
    assert additions(written) == [(["ramp_weight"], 1)]
    assert "Of the clauses not provided, not testable from outside: 2." in to_text(written)
    assert from_json(to_json(written)).not_testable == rows
    jsonschema.validate(to_document(written), schema())
