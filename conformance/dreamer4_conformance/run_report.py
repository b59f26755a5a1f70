"""One run: selection of clauses, default seed, and the report; `check_implementation` is a run without pytest."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.clauses import BY_ID, CLAUSES, Clause, select
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.causes import assign_causes
from dreamer4_conformance.judging.check import FALSE_ALARM, Check, Profile
from dreamer4_conformance.report import Report, describe_adapter, describe_environment
from dreamer4_conformance.runner import checkable, checks_of, judge
from dreamer4_conformance.threads import single_thread
from dreamer4_conformance.verdicts import Result


def selection(eq: list[int] | None, clause: list[str] | None, require: Iterable[int] = ()) -> list[Clause]:
    """Select clauses.

    Args:
        eq: equation numbers; None for all.
        clause: glob patterns of clause ids; None for all.
        require: equation numbers that the selection must contain.

    Returns:
        The selected clauses in the order of `CLAUSES`.

    Raises:
        ValueError: if a pattern or an equation selects nothing, or a required equation is not selected.
    """
    clauses = select(clause, eq)
    for equation in require:
        select(None, [equation])
        if not any(selected.equation == equation for selected in clauses):
            raise ValueError(f"equation {equation} is required, but the selection leaves it out")
    return clauses


def default_seed(profile: Profile) -> int:
    """Seed 0 in the profile "ci", whose runs are equal; else a random seed in [0, 2³¹), which the report shows."""
    return 0 if profile == "ci" else secrets.randbelow(2**31)


def check_implementation(
    adapter: Adapter | type[Adapter],
    clauses: Iterable[Clause] | None = None,
    *,
    profile: Profile = "ci",
    seed: int = 0,
    on_result: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Judge an implementation by the paper, without pytest.

    On a CPU, torch runs in one thread meanwhile, unless `OMP_NUM_THREADS` or the caller sets another number.

    Args:
        adapter: an instance or a subclass of `Adapter`.
        clauses: clauses of `CLAUSES` to judge; None for all. Clauses without a check are skipped.
        profile: "ci" for the same inputs in every run, "dev" for inputs from `seed`, "nightly" for ten times as many.
        seed: of everything random, in [0, 2³¹).
        on_result: called with each result as soon as its clause is judged, before `follows_from` is set.

    Returns:
        The report, a sequence of one result per clause that has a check.

    Raises:
        AdapterError: if the adapter is unusable; the message says what to change.

    Example:
        >>> from dreamer4_conformance import Adapter
        >>> class Mine(Adapter):
        ...     def ramp_weight(self, tau):
        ...         return 0.9 * tau + 0.1
        >>> report = check_implementation(Mine, [BY_ID["eq08.value"]])
        >>> [str(result.status) for result in report], report.exit_status
        (['pass'], 0)
    """
    with single_thread(getattr(adapter, "device", "cpu")):
        subject = examine(adapter)
        return run(
            subject, list(CLAUSES if clauses is None else clauses), profile=profile, seed=seed, on_result=on_result
        )


def run(
    subject: Subject,
    clauses: list[Clause],
    *,
    profile: Profile,
    seed: int,
    require: Sequence[int] = (),
    rerun_command: str = "",
    before: Callable[[Clause], None] = lambda clause: None,
    on_result: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Judge every clause that has a check.

    Args:
        subject: the adapter, validated.
        clauses: clauses to judge; those without a check are counted in the report.
        profile: "ci" for the same inputs in every run, "dev" for inputs from `seed`, "nightly" for ten times as many.
        seed: of everything random, in [0, 2³¹).
        require: equation numbers that must be provided and decided.
        rerun_command: command that runs one clause again, with `{clause}` for its id.
        before: called with each clause before it is judged.
        on_result: called with each result as soon as its clause is judged, before `follows_from` is set.

    Returns:
        The report.
    """
    results = []
    for clause in checkable(clauses):
        before(clause)
        result = judge(subject, clause, profile=profile, seed=seed)
        on_result(result)
        results.append(result)
    assign_causes(results)
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
    """The checks of these results that can run and take statistical decisions."""
    checks = [check for result in results for check in checks_of(BY_ID[result.id])]
    return [check for check in checks if check.decisions and not check.missing(subject)]


def _documentation(check: Check) -> str:
    return " ".join((check.function.__doc__ or "").split())
