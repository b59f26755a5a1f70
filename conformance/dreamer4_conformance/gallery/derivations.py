"""Derivations by hand: for every deviation of a report its cause, what the authors wanted, and code that repeats it.

They are the files `derivations/<report>.toml` next to the reports, written by people. Every failing clause has exactly
one derivation, so that no deviation is published that nobody has recomputed.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dreamer4_conformance.report import Report
from dreamer4_conformance.verdicts import Status

LISTS = ("clauses", "source", "remarks", "deviations")
"""Keys with several values."""
FAILING = (Status.FAIL, Status.KNOWN_FAILURE, Status.UNEXPECTED_PASS)


@dataclass(frozen=True)
class Derivation:
    """One cause of failures.

    Attributes:
        title: what deviates, as a sentence without a full stop.
        clauses: ids of the clauses that fail for this cause.
        source: places in the code of the project, "path:line".
        text: what the code computes and what the paper has; backticks mark code.
        intent: what the authors probably wanted.
        snippet: Python that shows the deviation by the project's code, run in the directory of its checkout, without
            the suite.
        output: what the snippet prints.
    """

    title: str
    clauses: tuple[str, ...]
    source: tuple[str, ...]
    text: str
    intent: str
    snippet: str
    output: str


@dataclass(frozen=True)
class Derivations:
    """The file on one report.

    Attributes:
        date: of the commit, as YYYY-MM-DD; empty if it is not recorded.
        remarks: what was read in the source and is decided by no clause, among them.
        deviations: one derivation for each cause.
    """

    date: str = ""
    remarks: tuple[str, ...] = ()
    deviations: tuple[Derivation, ...] = ()


def read_derivations(path: Path) -> Derivations:
    """Read a file of derivations.

    Args:
        path: of the TOML file.

    Returns:
        Its content; nothing at all if there is no file.

    Raises:
        ValueError: if it cannot be read, or a key is missing, unknown or of another type; the message names the file.
    """
    if not path.exists():
        return Derivations()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        deviations = tuple(_made(Derivation, entry) for entry in document.pop("deviation", []))
        return _made(Derivations, document | {"deviations": deviations}, optional=("date", "remarks"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _made(kind: type[Any], entry: Mapping[str, Any], optional: tuple[str, ...] = ()) -> Any:
    """An instance of a dataclass from a table of TOML; texts lose the lines that are empty at their ends."""
    names = {field.name for field in fields(kind)}
    if unknown := entry.keys() - names:
        raise ValueError(f"the key {min(unknown)!r} is unknown; keys are {', '.join(sorted(names))}")
    if missing := names - entry.keys() - {*optional}:
        raise ValueError(f"{entry.get('title', 'a deviation')}: the key {min(missing)!r} is missing")
    return kind(**{name: _value(name, value) for name, value in entry.items()})


def _value(name: str, value: Any) -> Any:
    if isinstance(value, str) and name not in LISTS and value.strip():
        return value.strip()
    if isinstance(value, list | tuple) and name in LISTS and not any(isinstance(item, list) for item in value):
        return tuple(value)
    raise ValueError(f"{name} is {value!r}; it needs {'a list of texts' if name in LISTS else 'a text'}")


def disagreements(report: Report, derivations: Derivations) -> list[str]:
    """Sentences on failures without a derivation, and on derivations without a failure; empty if they agree.

    Example:
        >>> disagreements(Report({}, {}, []), Derivations())
        []
    """
    failing = [result.id for result in report.results if result.status in FAILING]
    derived = Counter(clause for derivation in derivations.deviations for clause in derivation.clauses)
    return [
        *(f"{clause} fails without a derivation" for clause in failing if clause not in derived),
        *(f"{clause} has a derivation and does not fail" for clause in derived if clause not in failing),
        *(f"{clause} has {count} derivations" for clause, count in derived.items() if count > 1),
    ]
