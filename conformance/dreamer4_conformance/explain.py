"""Text of the commands `list` and `explain`: a clause with its equation, readings, checks and rejected mistakes.

Nothing here imports PyTorch: mistakes come from the zoo's catalogue.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator
from importlib import import_module

import dreamer4_conformance.checks  # noqa: F401 - importing the package registers its checks
from dreamer4_conformance.clauses import Clause
from dreamer4_conformance.judging.check import CHECKS
from dreamer4_conformance.readings import READINGS
from dreamer4_conformance.registry import qualified_name
from dreamer4_conformance.zoo.catalogue import catalogue

WIDTH = 80
WRAPPER = textwrap.TextWrapper(
    WIDTH, initial_indent="    ", subsequent_indent="        ", break_long_words=False, break_on_hyphens=False
)
"""Names of checks may exceed a line; they are not broken, so that they can be copied."""


def listing(clauses: Iterable[Clause]) -> Iterator[str]:
    """Yield lines for each clause: id, kind, number of checks, location in the paper, and the requirement."""
    for clause in clauses:
        checks = sum(check.clause == clause.id for check in CHECKS.values())
        checked = f"{checks} check{'s' if checks > 1 else ''}" if checks else "no check yet"
        yield f"{clause.id:<24}{clause.kind:<9}{checked:<14}{clause.where}"
        yield from textwrap.wrap(clause.requirement, WIDTH, initial_indent="    ", subsequent_indent="    ")


def explanation(clause: Clause) -> Iterator[str]:
    """Yield lines that explain one clause."""
    yield f"{clause.id} ({clause.kind}), {clause.where}"
    yield ""
    yield from textwrap.wrap(clause.requirement, WIDTH)
    if clause.kind == "quality":
        yield "Quality: not in the paper, reported separately, never part of conformance."
    if clause.module is not None:
        yield f"\nReference: dreamer4_reference.{clause.module}"
        yield textwrap.indent(equation(clause.module), "    ")
    yield from _section("Readings", _readings(clause), "none to declare")
    yield from _section("Checks", _checks(clause), "no check yet")
    yield from _section("Mistakes that it rejects", _mistakes(clause), "none in the zoo yet")
    yield f"\nRun it: dreamer4-conformance run ADAPTER --clause {clause.id}"


def _section(title: str, lines: Iterator[str], placeholder: str) -> Iterator[str]:
    wrapped = [row for line in lines for row in WRAPPER.wrap(line)]
    yield f"\n{title}:" if wrapped else f"\n{title}: {placeholder}"
    yield from wrapped


def _readings(clause: Clause) -> Iterator[str]:
    for reading in READINGS:
        if clause.id in reading.clauses:
            alternatives = ", ".join(reading.options[1:])
            yield f"{reading.id}: {reading.question}. Default {reading.default}; or {alternatives}"


def _checks(clause: Clause) -> Iterator[str]:
    for check in CHECKS.values():
        if check.clause == clause.id:
            needs = ", ".join([*check.needs, *([" or ".join(check.needs_one)] if check.needs_one else [])])
            summary = (inspect.getdoc(check.function) or "").partition("\n\n")[0].replace("\n", " ")
            yield f"{qualified_name(check.function)} (needs {needs or 'nothing'})" + (f": {summary}" if summary else "")


def _mistakes(clause: Clause) -> Iterator[str]:
    for name, (rejecting, description) in catalogue().items():
        if rejecting == clause.id:
            yield f"{name}: {description}"


def equation(module: str) -> str:
    """Docstring of a reference module: the equation, its reading and its symbols."""
    return inspect.getdoc(import_module(f"dreamer4_reference.{module}")) or ""
