"""Text of the commands `list` and `explain`: clauses, readings and mistakes.

Clauses and readings are explained without PyTorch: descriptions of mistakes come from the zoo's catalogue. Only the
code of a mistake needs it, and is left out without it.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib import import_module

import dreamer4_conformance.checks  # noqa: F401 - importing the package registers its checks
from dreamer4_conformance.clauses import BY_ID, Clause
from dreamer4_conformance.judging.check import CHECKS
from dreamer4_conformance.readings import BY_ID as READINGS_BY_ID
from dreamer4_conformance.readings import READINGS, Reading
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


def listing_of_readings(clauses: Iterable[Clause] | None = None) -> Iterator[str]:
    """Yield lines for each reading: id and options, the question, and the clauses that are judged under it.

    Args:
        clauses: only readings that concern one of these; None for all readings.
    """
    selected = None if clauses is None else {clause.id for clause in clauses}
    for reading in READINGS:
        if selected is None or not selected.isdisjoint(reading.clauses):
            yield f"{reading.id}: {_options(reading)}"
            judged = f"judged by {', '.join(reading.clauses)}" if reading.clauses else "every choice passes"
            for text in (reading.question, judged):
                yield from textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def _options(reading: Reading) -> str:
    if not reading.options:
        return "nothing to declare"
    return ", ".join([f"{reading.default} (default)", *reading.options[1:]])


def explanation(name: str) -> Iterator[str]:
    """Lines that explain a clause, a reading or a mistake.

    Args:
        name: id of a clause or of a mistake; or a reading as in "A13" or "reading A13 = v_same", as reports print it.

    Returns:
        The lines.

    Raises:
        ValueError: if there is none of this name; the message suggests the closest names.
    """
    identifier = name.strip().removeprefix("reading ").partition(" =")[0]
    reading_name = identifier[:1].upper() + identifier[1:]
    if identifier in BY_ID:
        return explanation_of_clause(BY_ID[identifier])
    if reading_name in READINGS_BY_ID:
        return explanation_of_reading(READINGS_BY_ID[reading_name])
    if identifier in catalogue():
        return explanation_of_mistake(identifier)
    raise ValueError(_unknown(identifier))


def _unknown(name: str) -> str:
    kind = "reading" if name[1:].isdecimal() else "clause" if "." in name else "mistake"
    close = get_close_matches(name, [*BY_ID, *READINGS_BY_ID, *catalogue()], n=3)
    advice = (
        f"did you mean {', '.join(close)}?" if close else "`list` prints the clauses, `list --readings` the readings"
    )
    return f"no {kind} {name!r}; {advice}"


def explanation_of_reading(reading: Reading) -> Iterator[str]:
    """Yield lines that explain one reading."""
    yield f"{reading.id} (reading): a choice that the paper leaves open"
    yield ""
    yield from textwrap.wrap(reading.question, WIDTH)
    yield ""
    if reading.options:
        yield f"Options: {_options(reading)}"
    if reading.note:
        yield from textwrap.wrap(reading.note, WIDTH)
    if len(reading.options) > 1 and not reading.free:
        yield f'In the adapter: readings = {{"{reading.id}": "{reading.options[1]}"}}'
    yield from _section("Clauses that are judged under it", _requirements(reading.clauses), "none; every choice passes")


def explanation_of_mistake(name: str) -> Iterator[str]:
    """Yield lines that explain one mistake of the zoo."""
    clause, description = catalogue()[name]
    yield f"{name} (mistake)"
    yield ""
    yield from textwrap.wrap(description, WIDTH)
    yield from _section("Clause that rejects it", _requirements((clause,)), "none")
    code = _code(name)
    if code:
        yield "\nCode, a change of the textbook in dreamer4_conformance.zoo.base:"
        yield textwrap.indent(code, "    ").rstrip()
    yield f"\nMore: dreamer4-conformance explain {clause}"


def _requirements(clauses: Iterable[str]) -> Iterator[str]:
    for clause in clauses:
        yield f"{clause}: {BY_ID[clause].requirement}"


def _code(mistake: str) -> str:
    """Source of a mistake; empty without PyTorch."""
    try:
        from dreamer4_conformance.zoo.mistakes import MISTAKES
    except ImportError:
        return ""
    return inspect.getsource(MISTAKES[mistake].adapter)


def explanation_of_clause(clause: Clause) -> Iterator[str]:
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
