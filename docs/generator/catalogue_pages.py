"""Pages that list what the specification consists of: clauses, readings, mistakes."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator

from docs.generator.clause_entries import checks_of, clauses_of, entry, mistakes_of
from docs.generator.markdown import escaped, label, preformatted, reading_label
from docs.generator.repository import ROOT, link_to, read
from docs.generator.subjects import TITLES
from docs.generator.symptoms import MISTAKES, Symptom, symptom_of, symptoms
from docs.generator.witnesses import WITNESSES
from dreamer4_conformance.clauses import CLAUSES, Clause
from dreamer4_conformance.readings import READINGS, Reading
from dreamer4_conformance.zoo import mistakes as zoo

CONSEQUENCES: dict[str, str] = tomllib.loads(read("docs/generator/consequences.toml"))
"""Reading → what follows from the choice."""


def clauses_page() -> str:
    """Markdown of the index of clauses, with the entries of those that have no module of the reference."""
    rows = "\n".join(map(_clause_row, CLAUSES))
    blocks = [
        "# Clauses",
        f"The {len(CLAUSES)} requirements that the suite judges, one line each in a report. A clause's link "
        "leads to its entry on the page of its equation: the requirement, the checks with their code, the mistakes "
        "that it rejects and how they show. Failures in reports print that address; it does not change.",
        "`must` is a statement of the paper; under `reading` the paper leaves a choice that the adapter declares; "
        "`quality` is not in the paper and never part of conformance.",
        "| clause | kind | requires | reference | checks | mistakes |\n|---|---|---|---|---|---|\n" + rows,
        "## Clauses without an equation",
    ]
    blocks += [block for clause in clauses_of(None) for block in entry(clause, 3)]
    return "\n\n".join(blocks) + "\n"


def _clause_row(clause: Clause) -> str:
    reference = f"[{TITLES[clause.module]}](/spec/{clause.module}.md)" if clause.module else "none"
    checks = ", ".join(f"[{number}]({link_to(check.function)})" for number, check in enumerate(checks_of(clause), 1))
    mistakes = ", ".join(f"[{name}](#mistake-{name})" for name in mistakes_of(clause))
    requirement = escaped(clause.requirement)
    cells = [f"[{clause.id}](#{clause.id})", clause.kind, requirement, reference, checks or "none", mistakes or "none"]
    return f"| {' | '.join(cells)} |"


def readings_page() -> str:
    """Markdown of the readings: what the paper leaves open, with options, witness, clauses and who reads it how."""
    blocks = [
        "# Readings",
        "Choices that the paper leaves open. An adapter declares one only where its code differs from the default: "
        '`readings = {"A13": "v_same"}`. The clauses that depend on it are then judged under the declared option. A '
        "reading is no excuse: a mistake that is also a reading is rejected where it is not declared.",
        "The numbers below are computed by the reference when this page is built. Compute the same quantity with your "
        "code: if it prints the number of an option, declare that option. Where all options give the same number, the "
        "entry says why, and there is nothing to declare.",
    ]
    blocks += [block for reading in READINGS for block in _reading(reading)]
    return "\n\n".join(blocks) + "\n"


def _reading(reading: Reading) -> Iterator[str]:
    yield label(reading_label(reading.id))
    yield f"## {reading.id}: {_title(reading)}"
    yield escaped(reading.question[0].upper() + reading.question[1:]) + "."
    if reading.note:
        yield escaped(reading.note)
    if reading.options:
        alternatives = "".join(f", `{name}`" for name in reading.options[1:])
        yield f"Options: `{reading.default}` (default){alternatives}."
    yield f"Consequence: {escaped(CONSEQUENCES[reading.id])}"
    yield from _witness(reading)
    if reading.clauses:
        yield f"Judged by {', '.join(f'[{clause}](#{clause})' for clause in reading.clauses)}."
    elif reading.options:
        yield "No clause distinguishes the options: every choice passes, declared or not."
    if reading.options:
        yield _who_reads(reading)


def _title(reading: Reading) -> str:
    return escaped(re.split(r":|,(?![^(]*\))", reading.question)[0])


def _witness(reading: Reading) -> Iterator[str]:
    witness = WITNESSES[reading.id]
    rows = "\n".join(f"| `{option}` | `{result}` |" for option, result in witness.results().items())
    if witness.equal_because:
        yield f"No number distinguishes the options. {escaped(witness.equal_because)}"
    title = "Results that are equal" if witness.equal_because else "Witness"
    yield f"{title}, {escaped(witness.meaning)}:\n\n| option | result |\n|---|---|\n{rows}"
    yield preformatted(witness.session(), "pycon")


def _who_reads(reading: Reading) -> str:
    declared: dict[str, list[str]] = {}
    for path in sorted((ROOT / "conformance/reports").glob("*.json")):
        adapter = json.loads(path.read_text(encoding="utf-8"))["adapter"]
        if option := adapter.get("readings", {}).get(reading.id):
            declared.setdefault(option, []).append(f"{adapter['name']} at {adapter['version']}")
    if not declared and reading.free:
        return "The reports in the [gallery](/project/gallery.md) do not show which option an implementation follows."
    if not declared:
        return "Of the implementations in the [gallery](/project/gallery.md), none declares another option."
    listed = "; ".join(f"`{option}`: {', '.join(names)}" for option, names in declared.items())
    return f"Declared by implementations in the [gallery](/project/gallery.md): {listed}."


def mistakes_page() -> str:
    """Markdown of the catalogue of mistakes, by symptom."""
    groups = [(symptom, [name for name in MISTAKES if symptom_of(name) == symptom]) for symptom in symptoms()]
    overview = "\n".join(f"- [{symptom.title}](#symptom-{symptom.id}) ({len(names)})" for symptom, names in groups)
    blocks = [
        "# Mistakes, by symptom",
        f"The zoo has {len(MISTAKES)} wrong implementations, most of them from real code, each rejected by the clause "
        "next to it. They are grouped by what you observe. The symptoms follow from the equations; they are not "
        "measurements, except where a study is linked. A report's *behaves like* names an entry of this page.",
        overview,
    ]
    for symptom, names in groups:
        blocks += _symptom(symptom, names)
    return "\n\n".join(blocks) + "\n"


def _symptom(symptom: Symptom, names: list[str]) -> Iterator[str]:
    yield label(f"symptom-{symptom.id}")
    yield f"## {symptom.title}"
    measured = f" Measured in [the study](/project/{symptom.measured}.md)." if symptom.measured else ""
    yield f"{symptom.text}{measured}"
    for name in names:
        clause, description = MISTAKES[name]
        yield label(f"mistake-{name}")
        code = f"[code]({link_to(zoo.MISTAKES[name].adapter)})"
        yield f"**`{name}`**: {escaped(description)} Rejected by [{clause}](#{clause}); {code}."
