"""Symptoms: how the mistakes of the zoo show in training and in samples."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from dreamer4_conformance.zoo.catalogue import catalogue

MISTAKES = catalogue()
"""Every mistake of the zoo: id → (clause that rejects it, description)."""


@dataclass(frozen=True)
class Symptom:
    """What a user observes.

    Attributes:
        id: key in `symptoms.toml`.
        title: the observation in one line.
        text: why the mistakes of this group cause it.
        mistakes: ids that belong to it whatever their clause.
        clauses: patterns of the clauses whose mistakes belong to it.
        measured: page of the study that measured it; empty if the sentence follows from the equations alone.
    """

    id: str
    title: str
    text: str
    mistakes: tuple[str, ...]
    clauses: tuple[str, ...]
    measured: str = ""


@cache
def symptoms() -> tuple[Symptom, ...]:
    """All symptoms, in the order of the file."""
    rows = tomllib.loads(Path(__file__).with_name("symptoms.toml").read_text(encoding="utf-8"))
    return tuple(
        Symptom(
            name,
            row["title"],
            row["text"],
            tuple(row.get("mistakes", ())),
            tuple(row["clauses"]),
            row.get("measured", ""),
        )
        for name, row in rows.items()
    )


@cache
def symptom_of(mistake: str) -> Symptom:
    """Symptom of a mistake.

    Args:
        mistake: its id in the zoo.

    Raises:
        KeyError: if there is no such mistake.
        LookupError: if no symptom lists the mistake or its clause.

    Example:
        >>> symptom_of("steps-no-one").id
        'few-steps'
    """
    clause, _ = MISTAKES[mistake]
    for symptom in symptoms():
        if mistake in symptom.mistakes:
            return symptom
    for symptom in symptoms():
        if any(fnmatchcase(clause, pattern) for pattern in symptom.clauses):
            return symptom
    raise LookupError(f"symptoms.toml has no symptom for the mistake {mistake!r} of clause {clause}")
