"""Entries of clauses: requirement, readings, checks with their code, and the mistakes that they reject."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import dreamer4_conformance.checks  # noqa: F401 - importing the package registers its checks
from docs.generator.markdown import dropdown, escaped, label, preformatted, prose, reading_label
from docs.generator.repository import code, link_to
from docs.generator.symptoms import MISTAKES, symptom_of
from dreamer4_conformance.clauses import CLAUSES, Clause
from dreamer4_conformance.judging.check import CHECKS, Check
from dreamer4_conformance.readings import READINGS

KINDS = {
    "must": "an equation or plain statement of the paper",
    "reading": "the paper leaves a choice, which the adapter declares",
    "quality": "not in the paper; reported apart, never part of conformance",
}
"""Kind of a clause → what it means."""


def checks_of(clause: Clause) -> list[Check]:
    """Registered checks of a clause, in the order of registration."""
    return [check for check in CHECKS.values() if check.clause == clause.id]


def mistakes_of(clause: Clause) -> dict[str, str]:
    """Mistakes that the clause rejects: id → description."""
    return {name: text for name, (rejecting, text) in MISTAKES.items() if rejecting == clause.id}


def entry(clause: Clause, level: int) -> Iterator[str]:
    """Yield the blocks of one clause.

    Args:
        clause: the clause.
        level: of its heading, 3 for `###`.
    """
    yield label(clause.id)
    yield f"{'#' * level} {clause.id}"
    yield f"**{escaped(clause.requirement)}**"
    yield f"{clause.where}. Kind: *{clause.kind}*, {KINDS[clause.kind]}. Address: <{clause.address}>"
    if readings := [reading for reading in READINGS if clause.id in reading.clauses]:
        listed = "; ".join(
            f"[{reading.id}](#{reading_label(reading.id)}), {escaped(reading.question)}" for reading in readings
        )
        yield f"Judged under the declared readings: {listed}."
    yield preformatted(f"dreamer4-conformance run my_adapter.py:Mine --clause {clause.id}", "sh")
    if checks := checks_of(clause):
        yield "Checks:\n\n" + "\n".join(_check_item(check) for check in checks)
        blocks = "\n\n".join(preformatted(code(check.function), "python") for check in checks)
        yield dropdown(f"Code of the checks of {clause.id}", blocks)
    if mistakes := mistakes_of(clause):
        yield "Mistakes that it rejects:\n\n" + "\n".join(mistake_item(name, text) for name, text in mistakes.items())


def _check_item(check: Check) -> str:
    needs = ", ".join([*check.needs, *([" or ".join(check.needs_one)] if check.needs_one else [])])
    text = "\n\n".join(prose(check.function.__doc__ or ""))
    calls = f" It calls `{needs}`." if needs else ""
    body = inspect.cleandoc(f"[`{check.name}`]({link_to(check.function)}): {text}{calls}")
    return "- " + body.replace("\n", "\n  ")


def mistake_item(name: str, description: str) -> str:
    """One mistake as a list item: what the code does, and how it shows.

    Args:
        name: id in the zoo.
        description: what the wrong code does.
    """
    symptom = symptom_of(name)
    return f"- [`{name}`](#mistake-{name}): {escaped(description)} *{symptom.title}.*"


def clauses_of(stem: str | None) -> list[Clause]:
    """Clauses whose checks compare with a reference module.

    Args:
        stem: of the module; None for clauses without a module.
    """
    return [clause for clause in CLAUSES if clause.module == stem]
