"""Failures as workflow commands of GitHub Actions, which it shows at the lines of a pull request."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dreamer4_conformance.report import Report
from dreamer4_conformance.report.failures import blocks, failure_fields, failure_title, known_failures
from dreamer4_conformance.verdicts import Result

SHOWN = ("requires", "found", "behaves like", "what to do", "run again")
"""Fields of a failure that an annotation has; the report has all."""
_RAISED = re.compile(r"\(([^\s()]+\.py):(\d+)\)")


def to_annotations(report: Report, root: Path) -> Iterator[str]:
    """Yield one workflow command for each cause of failures, each known failure, and each missing clause.

    Args:
        report: the report.
        root: of the repository; files outside it are not named, because GitHub cannot show them.

    Returns:
        Lines such as `::error title=…,file=my_adapter.py,line=12::…`. A known failure is a notice, a quality clause a
        warning.
    """
    for block in blocks(report):
        kind = "warning" if block.result.kind == "quality" else "error"
        fields = failure_fields(block.result, report.rerun_command, block.followers)
        yield _failure(kind, block.result, fields, report.locations, root)
    for result in known_failures(report):
        yield _failure("notice", result, failure_fields(result, report.rerun_command), report.locations, root)
    for result in report.missing:
        reason = f"{result.id} is required and {result.status}: {result.message}"
        yield _command("error", {"title": result.id}, reason)


def _failure(kind: str, result: Result, fields: list[tuple[str, str]], locations: Mapping[str, str], root: Path) -> str:
    text = "\n".join(f"{label}: {value}" for label, value in fields if label in SHOWN)
    return _command(kind, {"title": failure_title(result), **_location(result, locations, root)}, text)


def _location(result: Result, locations: Mapping[str, str], root: Path) -> dict[str, str]:
    """Where the code raised, else where the adapter defines the operation; empty for a file outside the root."""
    defined, _, line = locations.get(result.id, "").rpartition(":")
    raised = _RAISED.search(result.message)
    bases = [Path.cwd(), *([Path(defined).parent] if defined else [])]
    files = [(base / raised[1], raised[2]) for base in bases] if raised else []
    for file, number in [*files, (Path(defined), line)]:
        if file.is_file() and file.resolve().is_relative_to(root.resolve()):
            return {"file": file.resolve().relative_to(root.resolve()).as_posix(), "line": number}
    return {}


def repository_root() -> Path:
    """The workspace of a workflow, to which annotations are relative; elsewhere the working directory."""
    return Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())


def _command(kind: str, properties: Mapping[str, str], text: str) -> str:
    listed = ",".join(f"{name}={_escape(value, ':,')}" for name, value in properties.items())
    return f"::{kind} {listed}::{_escape(text)}"


def _escape(text: str, separators: str = "") -> str:
    """Encode the characters that end a workflow command or one of its properties.

    >>> _escape("50 %: a,\\nb", ":,")
    '50 %25%3A a%2C%0Ab'
    """
    return "".join(f"%{ord(letter):02X}" if letter in "%\r\n" + separators else letter for letter in text)
