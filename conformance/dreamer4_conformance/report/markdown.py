"""The report as Markdown, for the summary of a CI job."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dreamer4_conformance.report import Report
from dreamer4_conformance.report.failures import (
    PASTED,
    blocks,
    failure_fields,
    failure_title,
    known_failures,
)
from dreamer4_conformance.report.wording import (
    addition_line,
    conclusion,
    groups,
    remark,
    share_of_bound,
    summary_lines,
)
from dreamer4_conformance.verdicts import Result, Status, printable


def to_markdown(report: Report) -> str:
    """The report as Markdown: summary, failures by cause, what to add, tables."""
    adapter = report.adapter
    title = escape(f"{adapter['name']} {adapter['version']}")
    lines = [f"# {title}", "", f"**{escape(conclusion(report))}**", ""]
    lines += [f"- {escape(line)}" for line in summary_lines(report)]
    for block in blocks(report):
        lines += ["", *_failure(block.result, report.rerun_command, block.followers)]
    for result in known_failures(report):
        lines += ["", *_failure(result, report.rerun_command)]
    if addition := addition_line(report):
        lines += ["", prose(f"To have more clauses judged, {addition}.")]
    for title, results in (("Conformance", report.conformance), ("Quality, apart from conformance", report.quality)):
        judged = [result for result in results if result.status is not Status.NOT_PROVIDED]
        lines += ["", f"## {title}", "", *_table(judged)] if judged else []
    if absent := [result for result in report.results if result.status is Status.NOT_PROVIDED]:
        lines += ["", f"<details><summary>Not provided ({len(absent)})</summary>", ""]
        lines += [f"- {escape(f'{result.id}: {result.status}, {remark(result)}')}" for result in absent]
        lines += ["", "</details>"]
    lines += ["", "## From random draws", ""] if report.laws else []
    lines += [f"- {escape(clause)}: {escape(effect)}" for clause, effect in report.laws.items()]
    return "\n".join(lines) + "\n"


def _table(results: list[Result]) -> list[str]:
    rows = ["| equation | clause | verdict | cases | of bound | remark |", "|---|---|---|---:|---:|---|"]
    for heading, group in groups(results):
        for result in group:
            cells = (heading, result.id, result.status, result.cases or "", share_of_bound(result), remark(result))
            rows.append("| " + " | ".join(escape(str(cell)) for cell in cells) + " |")
    return rows


def _failure(result: Result, rerun_command: str, followers: Sequence[Result] = ()) -> list[str]:
    fields = failure_fields(result, rerun_command, followers)
    text = "\n".join(
        f"{label}:\n{value}" if label in PASTED else f"{label}: " + value.replace("\n", "\n    ")
        for label, value in fields
    )
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"### {escape(failure_title(result))}", "", f"{fence}text", text, fence]


def escape(text: str) -> str:
    r"""Escapes text for one line of Markdown.

    >>> print(escape("a|b *c*"))
    a\|b \*c\*
    """
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", printable(" ".join(text.split())))


def prose(text: str) -> str:
    r"""Escapes text in which backticks mark code.

    >>> print(prose("add `a_b`: *two* more"))
    add `a_b`: \*two\* more
    """
    pieces = text.split("`")
    return "".join(f"`{piece}`" if index % 2 else _escaped(piece) for index, piece in enumerate(pieces))


def _escaped(text: str) -> str:
    """Escaped text with the spaces at its ends, which `escape` drops."""
    stripped = text.strip()
    return text.replace(stripped, escape(stripped)) if stripped else text
