"""A run for whoever reads it: which clauses, what is required of them, and the report that comes of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence

from dreamer4_conformance.clauses import Clause, select
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import FALSE_ALARM, Check, Profile
from dreamer4_conformance.report import Report, describe_adapter, describe_environment
from dreamer4_conformance.runner import checkable, checks_of, judge
from dreamer4_conformance.verdicts import Result


def selection(eq: list[int] | None, clause: list[str] | None, require: Iterable[int] = ()) -> list[Clause]:
    """The clauses that match. ValueError where a pattern or an equation has none or a required equation is left out."""
    clauses = select(clause, eq)
    for equation in require:
        select(None, [equation])
        if not any(chosen.equation == equation for chosen in clauses):
            raise ValueError(f"equation {equation} is required, but the selection leaves it out")
    return clauses


def default_seed(profile: Profile) -> int:
    """0 where runs are to be the same, else a new one, which the report names."""
    return 0 if profile == "ci" else secrets.randbelow(2**31)


def run(
    subject: Subject,
    clauses: list[Clause],
    *,
    profile: Profile,
    seed: int,
    require: Sequence[int] = (),
    rerun_command: str = "",
    before: Callable[[Clause], None] = lambda clause: None,
) -> Report:
    """Judges every clause that has a check; `before` is called with each one."""
    results = []
    for clause in checkable(clauses):
        before(clause)
        results.append(judge(subject, clause, profile=profile, seed=seed))
    deciding = _deciding(subject, results)
    return Report(
        describe_adapter(subject.adapter),
        describe_environment(subject.adapter, profile, seed),
        results,
        tuple(require),
        len(clauses) - len(results),
        FALSE_ALARM * sum(check.decisions for check in deciding),
        {check.clause: _documentation(check) for check in deciding},
        rerun_command,
    )


def _deciding(subject: Subject, results: list[Result]) -> list[Check]:
    """The checks that could run and take statistical decisions."""
    judged = {result.id for result in results}
    checks = [check for clause in checkable() if clause.id in judged for check in checks_of(clause)]
    return [check for check in checks if check.decisions and check.missing(subject) is None]


def _documentation(check: Check) -> str:
    return " ".join((check.function.__doc__ or "").split())
