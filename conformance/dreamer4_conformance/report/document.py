"""The report as a JSON document (schema in `schema.json`), the same for the command and for pytest.

JSON has no NaN and no infinity: they are written as the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from dreamer4_conformance.report import DISTRIBUTION, PAPER, Report, counts, installed
from dreamer4_conformance.verdicts import Result, Status

SCHEMA = 1


def to_document(report: Report) -> dict[str, Any]:
    """The report as a document of JSON types, as `schema.json` describes it."""
    return {
        "schema": SCHEMA,
        "suite": installed(DISTRIBUTION) or "unknown",
        "paper": PAPER,
        "adapter": plain(report.adapter),
        "environment": plain(report.environment),
        "clauses": [to_row(result) for result in report.results],
        "summary": _summary(report),
    }


def _summary(report: Report) -> dict[str, Any]:
    return {
        **counts(report.conformance),
        "quality": counts(report.quality),
        "unchecked": report.unchecked,
        "required": list(report.required),
        "missing": [result.id for result in report.missing],
        "false_alarm": report.false_alarm,
        "laws": plain(report.laws),
        "exit_status": report.exit_status,
    }


def to_row(result: Result) -> dict[str, Any]:
    """One result as JSON types."""
    row: dict[str, Any] = plain(asdict(result))
    return row


def from_row(row: dict[str, Any]) -> Result:
    """The result from a row of `to_row`; errors and bounds become floats, got and expected stay as written."""
    numbers = {name: None if row[name] is None else float(row[name]) for name in ("worst_error", "bound")}
    # Reports of earlier versions lack the fields that were added since.
    values = {field.name: row[field.name] for field in fields(Result) if field.name in row}
    return Result(**{**values, **numbers, "status": Status(row["status"])})


def plain(value: Any) -> Any:
    """Converts a value to JSON types.

    >>> plain({"error": float("inf"), "got": np.array([1.0, np.nan])})
    {'error': 'Infinity', 'got': [1.0, 'NaN']}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def to_json(report: Report) -> str:
    """The document as JSON text."""
    return json.dumps(to_document(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Report:
    """The report from the text of `to_json`. Raises ValueError if the text is no report of this schema."""
    document = json.loads(text)
    if not isinstance(document, dict) or "schema" not in document:
        raise ValueError("it is no report of dreamer4-conformance: it has no 'schema'")
    if document["schema"] != SCHEMA:
        raise ValueError(f"its schema is {document['schema']!r}; this version reads {SCHEMA}")
    try:
        summary = document["summary"]
        return Report(
            document["adapter"],
            document["environment"],
            [from_row(row) for row in document["clauses"]],
            tuple(summary["required"]),
            summary["unchecked"],
            summary["false_alarm"],
            summary["laws"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it does not follow the report's schema: {type(error).__name__}: {error}") from error


def read(path: Path) -> Report:
    """Reads a report from a file. Raises ValueError if it cannot be read or is no report."""
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
