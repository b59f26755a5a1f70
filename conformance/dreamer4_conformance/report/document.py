"""The report as a JSON document (schema in `schema.json`), the same for the command and for pytest.

JSON has no NaN and no infinity: they are written as the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from dreamer4_conformance.report import DISTRIBUTION, PAPER, Report, counts, installed
from dreamer4_conformance.verdicts import Result, Status, printable

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
    """The result from a row of `to_row`; errors and bounds become floats, got and expected stay as written.

    Raises:
        ValueError: if a value has another type than in `Result`.
    """
    numbers = {name: None if row[name] is None else float(row[name]) for name in ("worst_error", "bound")}
    # Reports of earlier versions lack the fields that were added since.
    values = {name: row[name] for name in _RESULT if name in row} | numbers | {"status": Status(row["status"])}
    for name, value in values.items():
        _require(_RESULT[name], value, name)
    return Result(**values)


_RESULT = get_type_hints(Result)
_SECTIONS: dict[str, dict[str, Any]] = {
    "adapter": {"name": str, "version": str, "level": Literal["signal", "noise"], "readings": dict[str, str]},
    "environment": {"k_max": int, "device": str, "dtype": str, "profile": str, "seed": int},
    "summary": {"required": list[int], "unchecked": int, "false_alarm": float, "laws": dict[str, str]},
}


def _require(kind: Any, value: Any, name: str) -> None:
    """Require that a value of a document has an annotated type."""
    if not _is(kind, value):
        raise ValueError(f"{name} is {str(value)[:60]!r}; it needs {getattr(kind, '__name__', kind)}")


def _is(kind: Any, value: Any) -> bool:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or value is None:
        return kind is Any or type(None) in arguments
    if origin is UnionType:
        return any(_is(option, value) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_is(arguments[0], item) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(arguments[1], item) for item in value.values())
    if kind in (int, float) and isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, kind)


def plain(value: Any) -> Any:
    """Converts a value to JSON types, with printable texts.

    >>> plain({"error": float("inf"), "got": np.array([1.0, np.nan])})
    {'error': 'Infinity', 'got': [1.0, 'NaN']}
    """
    if isinstance(value, dict):
        return {_text(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, bool | int | float) else _text(value)


def _text(value: Any) -> str:
    """The value as printable text; a class of the adapter's that cannot be printed by its type."""
    if isinstance(value, str):
        return printable(value)
    try:
        return printable(str(value))
    except Exception:
        return printable(f"<{type(value).__name__}>")


def to_json(report: Report, *, seconds: bool = True) -> str:
    """The document as JSON text.

    Args:
        report: of a run.
        seconds: whether each clause has its duration; without, runs of the same code and seed give the same bytes.

    Returns:
        JSON that ends with a newline.
    """
    document = to_document(report)
    if not seconds:
        for row in document["clauses"]:
            del row["seconds"]
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Report:
    """The report from the text of `to_json`, with printable texts.

    Raises:
        ValueError: if the text is no report of this schema.
    """
    try:
        return _from_document(plain(json.loads(text)))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"it does not follow the report's schema: {type(error).__name__}: {error}") from error


def _from_document(document: Any) -> Report:
    if not isinstance(document, dict) or "schema" not in document:
        raise ValueError("it is no report of dreamer4-conformance: it has no 'schema'")
    if document["schema"] != SCHEMA:
        raise ValueError(f"its schema is {str(document['schema'])[:20]}; this version reads {SCHEMA}")
    for section, kinds in _SECTIONS.items():
        for name, kind in kinds.items():
            _require(kind, document[section][name], f"{section}: {name}")
    _require(dict[str, str], document["adapter"].get("not_testable", {}), "adapter: not_testable")
    _require(list[dict[str, Any]], document["clauses"], "clauses")
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


def read(path: Path) -> Report:
    """Reads a report from a file. Raises ValueError if it cannot be read or is no report."""
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
