"""The report as one HTML page that needs nothing from elsewhere; light or dark, as the reader has it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from dreamer4_conformance.report import Report
from dreamer4_conformance.report.wording import (
    conclusion,
    failure_fields,
    failure_title,
    failures,
    groups,
    remark,
    share_of_bound,
    summary_lines,
)
from dreamer4_conformance.verdicts import Result

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
caption { font-size: 1.3rem; font-weight: 600; text-align: left; padding: 1.5rem 0 .5rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; }
tbody th { padding-top: 1rem; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
code, pre { font: .9rem/1.5 ui-monospace, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }
dd { margin: 0; }
dt { opacity: .75; }
section { border-left: 4px solid #8886; padding-left: 1rem; margin: 2rem 0; }
.pass { color: light-dark(#17692c, #6cd587); }
.fail, .unexpected-pass { color: light-dark(#b3151c, #ff8f8f); font-weight: 600; }
.known-failure, .inconclusive { color: light-dark(#7d5300, #ecb44e); }
.not-provided { opacity: .7; }
"""


def to_html(report: Report) -> str:
    """The whole page."""
    name = escape(f"{report.adapter['name']} {report.adapter['version']}")
    parts = [f"<h1>{name}</h1>", f"<p><strong>{escape(conclusion(report))}</strong></p>", "<ul>"]
    parts += [f"<li>{escape(line)}</li>" for line in summary_lines(report)]
    parts += ["</ul>", *_about(report)]
    for title, results in (("Conformance", report.conformance), ("Quality, apart from conformance", report.quality)):
        parts += _table(title, results) if results else []
    parts += ["<h2>From random draws</h2><dl>"] if report.laws else []
    parts += [f"<dt>{escape(clause)}</dt><dd>{escape(finds)}</dd>" for clause, finds in report.laws.items()]
    parts += ["</dl>"] if report.laws else []
    for result in failures(report):
        parts += _failure(result, report.rerun_command)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
    body = "\n".join(parts)
    page = f'<html lang="en">\n<head>{head}<style>{STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>'
    return f"<!doctype html>\n{page}\n"


def _about(report: Report) -> Iterator[str]:
    readings = ", ".join(f"{name} = {option}" for name, option in report.adapter["readings"].items())
    facts = {"level": report.adapter["level"], "readings": readings or "the default ones", **report.environment}
    yield "<details><summary>Adapter and environment</summary><dl>"
    for label, value in facts.items():
        yield f"<dt>{escape(str(label))}</dt><dd>{escape(str(value))}</dd>"
    yield "</dl></details>"


def _table(title: str, results: list[Result]) -> Iterator[str]:
    names = ("clause", "verdict", "cases", "of bound", "remark")
    columns = "".join(f'<th scope="col">{name}</th>' for name in names)
    yield f"<table><caption>{escape(title)}</caption><thead><tr>{columns}</tr></thead>"
    for heading, group in groups(results):
        yield f'<tbody><tr><th colspan="5" scope="rowgroup">{escape(heading)}</th></tr>'
        yield from (_row(result) for result in group)
        yield "</tbody>"
    yield "</table>"


def _row(result: Result) -> str:
    name, status = escape(result.id), escape(str(result.status))
    numbers = f'<td class="number">{result.cases or ""}</td><td class="number">{share_of_bound(result)}</td>'
    verdict = f'<td class="{status}">{status}</td>'
    return f"<tr><td><code>{name}</code></td>{verdict}{numbers}<td>{escape(remark(result))}</td></tr>"


def _failure(result: Result, rerun_command: str) -> Iterator[str]:
    yield f'<section><h2 class="{escape(str(result.status))}">{escape(failure_title(result))}</h2><dl>'
    for label, text in failure_fields(result, rerun_command):
        yield f"<dt>{escape(label)}</dt><dd><pre>{escape(text)}</pre></dd>"
    yield "</dl></section>"
