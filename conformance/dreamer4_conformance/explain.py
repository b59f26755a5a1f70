"""What `list` and `explain` print: a clause with its equation, its readings, its checks, and the mistakes it rejects.

Equations and mistakes are read from the sources without importing them, since the mistakes would bring PyTorch along.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

import dreamer4_conformance.checks  # noqa: F401 - importing the package registers its checks
from dreamer4_conformance.clauses import Clause
from dreamer4_conformance.judging.check import CHECKS
from dreamer4_conformance.readings import READINGS

WIDTH = 80


def listing(clauses: Iterable[Clause]) -> Iterator[str]:
    """One line for each clause, with its kind and the number of its checks."""
    for clause in clauses:
        checks = sum(check.clause == clause.id for check in CHECKS.values())
        checked = f"{checks} check{'s' if checks > 1 else ''}" if checks else "no check yet"
        yield f"{clause.id:<24}{clause.kind:<9}{checked:<14}{clause.where}"
        yield from textwrap.wrap(clause.requirement, WIDTH, initial_indent="    ", subsequent_indent="    ")


def explanation(clause: Clause) -> Iterator[str]:
    """Everything about one clause."""
    yield f"{clause.id} ({clause.kind}), {clause.where}"
    yield ""
    yield from textwrap.wrap(clause.requirement, WIDTH)
    if clause.kind == "quality":
        yield "Quality: not in the paper, reported apart, never part of conforming."
    if clause.module is not None:
        yield f"\nReference: dreamer4_reference.{clause.module}"
        yield textwrap.indent(equation(clause.module), "    ")
    yield from _section("Readings", _readings(clause), "none is open")
    yield from _section("Checks", _checks(clause), "no check yet")
    yield from _section("Mistakes that it rejects", _mistakes(clause), "none in the zoo yet")
    yield f"\nRun it: dreamer4-conformance run ADAPTER --clause {clause.id}"


def _section(title: str, lines: Iterator[str], otherwise: str) -> Iterator[str]:
    found = list(lines)
    yield f"\n{title}:" if found else f"\n{title}: {otherwise}"
    for line in found:
        yield from textwrap.wrap(line, WIDTH, initial_indent="    ", subsequent_indent="        ")


def _readings(clause: Clause) -> Iterator[str]:
    for reading in READINGS:
        if reading.clause == clause.id:
            others = ", ".join(reading.options[1:])
            yield f"{reading.id}: {reading.question}. Default {reading.default}; or {others}"


def _checks(clause: Clause) -> Iterator[str]:
    for check in CHECKS.values():
        if check.clause == clause.id:
            needs = ", ".join([*check.needs, *([" or ".join(check.needs_one)] if check.needs_one else [])])
            first = (inspect.getdoc(check.function) or "").split("\n")[0]
            place = f"{check.function.__module__}.{check.name}"
            yield f"{place} (needs {needs or 'nothing'})" + (f": {first}" if first else "")


def _mistakes(clause: Clause) -> Iterator[str]:
    for name, (rejecting, description) in mistakes().items():
        if rejecting == clause.id:
            yield f"{name}: {description}"


def equation(module: str) -> str:
    """The docstring of a reference module: the equation, how it is read, its symbols."""
    return ast.get_docstring(_parse(_folder("dreamer4_reference") / f"{module}.py")) or ""


def mistakes() -> dict[str, tuple[str, str]]:
    """Every mistake of the zoo with the clause that rejects it and what is wrong."""
    return {
        name: found
        for path in sorted((_folder("dreamer4_conformance") / "zoo" / "mistakes").glob("*.py"))
        for node in ast.walk(_parse(path))
        if isinstance(node, ast.ClassDef)
        for name, found in _registered(node)
    }


def _registered(node: ast.ClassDef) -> Iterator[tuple[str, tuple[str, str]]]:
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="mistake"), args=[ast.Constant(value=str(name))], keywords=keywords):
                clause = next((k.value for k in keywords if k.arg == "clause"), None)
                if isinstance(clause, ast.Constant):
                    description = (ast.get_docstring(node) or "").split("\n")[0]
                    yield name, (str(clause.value), description)


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))
