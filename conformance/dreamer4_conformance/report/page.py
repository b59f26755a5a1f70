"""The report as a self-contained HTML page, in the light or dark colours of the reader."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from dreamer4_conformance.report import Report, failures, wording

_PAGES = Environment(
    loader=PackageLoader("dreamer4_conformance.report", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PAGES.filters |= {
    "by_equation": wording.groups,
    "failure_fields": failures.failure_fields,
    "failure_title": failures.failure_title,
    "remark": wording.remark,
    "share_of_bound": wording.share_of_bound,
}


def to_html(report: Report) -> str:
    """HTML document that loads nothing from other addresses; all texts are escaped."""
    readings = ", ".join(f"{name} = {option}" for name, option in report.adapter["readings"].items())
    return _PAGES.get_template("page.html").render(
        title=f"{report.adapter['name']} {report.adapter['version']}",
        conclusion=wording.conclusion(report),
        summary=wording.summary_lines(report),
        facts={"level": report.adapter["level"], "readings": readings or "the default ones", **report.environment},
        tables={"Conformance": report.conformance, "Quality, apart from conformance": report.quality},
        failures=[block.result for block in failures.blocks(report)] + failures.known_failures(report),
        rerun_command=report.rerun_command,
        laws=report.laws,
    )
