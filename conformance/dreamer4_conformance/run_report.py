"""One run: selection of clauses, default seed, and the report; `check_implementation` is a run without pytest."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.clauses import BY_ID, CLAUSES, Clause, select
from dreamer4_conformance.isolation import Judge, start
from dreamer4_conformance.isolation.contained import Conditions, Declared
from dreamer4_conformance.judging.causes import assign_causes
from dreamer4_conformance.judging.check import FALSE_ALARM, Check, Profile
from dreamer4_conformance.report import Report
from dreamer4_conformance.runner import checkable, checks_of
from dreamer4_conformance.verdicts import TIME_LIMIT, Result, printable


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
    adapter: Adapter | type[Adapter] | str,
    clauses: Iterable[Clause] | None = None,
    *,
    profile: Profile = "ci",
    seed: int = 0,
    time_limit: float = TIME_LIMIT,
    on_result: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Judge an implementation by the paper, without pytest.

    The adapter's code runs in a worker process, which may exit, crash or hang. An adapter that is passed as an object
    needs a fork for that: where this process has several threads, or has used a GPU, its code runs here, and the report
    says so. On a CPU, torch runs in one thread, unless `OMP_NUM_THREADS` or the caller sets another number.

    Args:
        adapter: an instance or a subclass of `Adapter`, or its location as `module:attr` or `file.py:attr`.
        clauses: clauses of `CLAUSES` to judge; None for all. Clauses without a check are skipped.
        profile: "ci" for the same inputs in every run, "dev" for inputs from `seed`, "nightly" for ten times as many.
        seed: of everything random, in [0, 2³¹).
        time_limit: seconds that one call of an operation may take in a worker.
        on_result: called with each result as soon as its clause is judged, before `follows_from` is set.

    Returns:
        The report, a sequence of one result per clause that has a check.

    Raises:
        AdapterError: if the adapter is unusable; the message says what to change.
        Interrupted: on a KeyboardInterrupt; it has the report on the clauses that were judged.

    Example:
        >>> from dreamer4_conformance import Adapter
        >>> class Mine(Adapter):
        ...     def ramp_weight(self, tau):
        ...         return 0.9 * tau + 0.1
        >>> report = check_implementation(Mine, [BY_ID["eq08.value"]])
        >>> [str(result.status) for result in report], report.exit_status
        (['pass'], 0)
    """
    judge = start(adapter, Conditions(profile, seed, time_limit=time_limit))
    with closing(judge):
        return run(judge, list(CLAUSES if clauses is None else clauses), on_result=on_result)


class Interrupted(KeyboardInterrupt):
    """A run was interrupted; `report` has the results of the clauses that were judged."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


def run(
    judge: Judge,
    clauses: list[Clause],
    *,
    require: Sequence[int] = (),
    rerun_command: str = "",
    before: Callable[[Clause], None] = lambda clause: None,
    on_result: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Judge every clause that has a check.

    Args:
        judge: the adapter, loaded and validated by `isolation.start`.
        clauses: clauses to judge; those without a check are counted in the report.
        require: equation numbers that must be provided and decided.
        rerun_command: command that runs one clause again, with `{clause}` for its id.
        before: called with each clause before it is judged.
        on_result: called with each result as soon as its clause is judged, before `follows_from` is set.

    Returns:
        The report.

    Raises:
        Interrupted: on a KeyboardInterrupt.
    """
    results: list[Result] = []
    judged = checkable(clauses)
    try:
        for clause in judged:
            before(clause)
            results.append(judge.judge(clause))
            on_result(results[-1])
    except KeyboardInterrupt:
        unjudged = len(judged) - len(results)
        raise Interrupted(_report(judge, results, require, len(clauses) - len(judged), "", unjudged)) from None
    return _report(judge, results, require, len(clauses) - len(judged), rerun_command)


def _report(
    judge: Judge, results: list[Result], require: Sequence[int], unchecked: int, rerun_command: str, unjudged: int = 0
) -> Report:
    assign_causes(results)
    deciding = _deciding(judge.declared, results)
    return Report(
        judge.declared.adapter,
        judge.declared.environment,
        results,
        tuple(require),
        unchecked,
        FALSE_ALARM * sum(check.decisions for check in deciding),
        {check.clause: _documentation(check) for check in deciding},
        printable(rerun_command),
        unjudged,
        _locations(judge.declared, results),
    )


def _locations(declared: Declared, results: list[Result]) -> dict[str, str]:
    """Where the adapter defines the operation that each clause judges; the first, if it judges several."""
    located = {
        result.id: declared.locations[name]
        for result in results
        for check in reversed(checks_of(BY_ID[result.id]))
        for name in reversed((*check.needs, *check.needs_one))
        if name in declared.locations
    }
    return {clause: printable(location) for clause, location in located.items()}


def _deciding(declared: Declared, results: list[Result]) -> list[Check]:
    """The checks of these results that can run and take statistical decisions."""
    checks = [check for result in results for check in checks_of(BY_ID[result.id])]
    return [check for check in checks if check.decisions and not check.missing(declared)]


def _documentation(check: Check) -> str:
    return " ".join((check.function.__doc__ or "").split())
