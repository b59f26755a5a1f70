"""The report as a self-contained HTML page in the light or dark colours of the reader, and as an element of a notebook.

It has no script: the filter is a group of radio buttons that the style sheet reads.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined

from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.report import PAPER, Report, failures, wording
from dreamer4_conformance.verdicts import Result, Status, printable

PAPER_PAGE = f"https://arxiv.org/abs/{PAPER.removeprefix('arXiv:')}"
REFERENCE_PAGES = "https://github.com/dreamer4-conformance/dreamer4-conformance/blob/main/reference/dreamer4_reference"
FILTERS = {
    "all": tuple(status for status in Status if status is not Status.NOT_PROVIDED),
    "failures": (Status.FAIL, Status.KNOWN_FAILURE, Status.UNEXPECTED_PASS),
    "inconclusive": (Status.INCONCLUSIVE,),
    "passes": (Status.PASS,),
}
"""Label of a filter → the verdicts that it shows."""


def _printed(value: Any) -> Any:
    # What a macro has printed is markup, with the method __html__, and printable already.
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def environment(loader: BaseLoader) -> Environment:
    """Templates whose variables are escaped, printable, and errors if they are undefined."""
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printed,
    )


LOADER = PackageLoader("dreamer4_conformance.report", "")
"""The templates of this package, and `base.css`, which the gallery shares."""
_PAGES = environment(LOADER)


def _selectors(statuses: tuple[Status, ...]) -> str:
    """CSS selectors of the rows that have one of the verdicts."""
    return ", ".join(f".row-{status}" for status in statuses)


_PAGES.filters |= {
    "by_equation": wording.groups,
    "failure_fields": failures.failure_fields,
    "failure_title": failures.failure_title,
    "remark": wording.remark,
    "selectors": _selectors,
    "share_of_bound": wording.share_of_bound,
}


def to_html(report: Report) -> str:
    """HTML document that loads nothing from other addresses; all texts are escaped."""
    return _PAGES.get_template("page.html").render(_content(report, anchor=""))


def to_fragment(report: Report) -> str:
    """The same as an element with its style sheet, for notebooks, whose other elements it leaves alone."""
    anchor = f"report-{sha256(repr(report.results).encode('utf-8', 'replace')).hexdigest()[:8]}-"
    return _PAGES.get_template("fragment.html").render(_content(report, anchor))


def _content(report: Report, anchor: str) -> dict[str, Any]:
    """Variables of the templates; `anchor` is the prefix of all identifiers."""
    readings = wording.readings(report.adapter["readings"])
    blocks = failures.blocks(report) + [failures.Block(result) for result in failures.known_failures(report)]
    judged = [result for result in report.results if result.status is not Status.NOT_PROVIDED]
    return {
        "anchor": anchor,
        "title": f"{report.adapter['name']} {report.adapter['version']}",
        "conclusion": wording.conclusion(report),
        "conforms": not report.exit_status,
        "summary": wording.summary_lines(report),
        "facts": {"level": report.adapter["level"], "readings": readings or "the default ones", **report.environment},
        "blocks": blocks,
        "explained": {block.result.id for block in blocks},
        "undecided": wording.undecided(report),
        "addition": wording.addition_line(report),
        "filters": FILTERS,
        "counts": {label: sum(result.status in shown for result in judged) for label, shown in FILTERS.items()},
        "tables": {
            "Conformance": _judged(report.conformance),
            "Quality, apart from conformance": _judged(report.quality),
        },
        "absent": [result for result in report.results if result.status is Status.NOT_PROVIDED],
        "rerun_command": report.rerun_command,
        "laws": report.laws,
        "clauses": BY_ID,
        "paper_page": PAPER_PAGE,
        "reference_pages": REFERENCE_PAGES,
    }


def _judged(results: list[Result]) -> list[Result]:
    return [result for result in results if result.status is not Status.NOT_PROVIDED]
