"""Run the registered checks against an adapter; one result per clause."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from hypothesis.errors import Flaky, Unsatisfiable, UnsatisfiedAssumption

import dreamer4_conformance.checks  # noqa: F401 - importing the package registers its checks
from dreamer4_conformance.clauses import CLAUSES, Clause
from dreamer4_conformance.instruments.black_box import BLACK_BOXES
from dreamer4_conformance.instruments.faults import describe_error, is_raised_by_adapter
from dreamer4_conformance.instruments.smoke_calls import smoke_failure
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import CHECKS, Check, Profile, Trial
from dreamer4_conformance.judging.evidence import Retrial, gather
from dreamer4_conformance.judging.repeatability import undecided_by_repeatability
from dreamer4_conformance.judging.reproduction import described_call, reproduction
from dreamer4_conformance.readings import BY_ID as READINGS
from dreamer4_conformance.verdicts import OWN_FAULT, Deviation, Inconclusive, NotProvided, Result, Status

FORBID_RANDOMNESS = ("net.repeatable", "tok.bottleneck", "tok.mae-law", "tok.mae-embedding")
"""Clauses whose requirement excludes random outputs at inference; the others are undecided where equal calls differ."""
SEVERITY = (Status.FAIL, Status.INCONCLUSIVE, Status.PASS, Status.NOT_PROVIDED)


def checks_of(clause: Clause) -> list[Check]:
    """Registered checks of a clause.

    Args:
        clause: requirement whose checks are listed.

    Returns:
        Its checks in the order of registration; empty if it has none.
    """
    return [check for check in CHECKS.values() if check.clause == clause.id]


def checkable(clauses: Iterable[Clause] = CLAUSES) -> list[Clause]:
    """Clauses that have a check.

    Args:
        clauses: clauses to filter.

    Returns:
        Those with at least one check, in the same order.
    """
    return [clause for clause in clauses if checks_of(clause)]


def judge(subject: Subject, clause: Clause, *, profile: Profile = "ci", seed: int = 0, minimal: bool = True) -> Result:
    """Judge one clause: the worst verdict of its checks, compared with the adapter's expected failures.

    Args:
        subject: the adapter, validated by `adapters.validation.examine`.
        clause: a clause that has a check.
        profile: as in `run_report.run`.
        seed: of everything random, in [0, 2³¹).
        minimal: whether Hypothesis shrinks a counterexample; without, the first one is reported.

    Returns:
        The result.
    """
    start = time.perf_counter()
    worst, judged_by = _worst(subject, checks_of(clause), clause, Trial(profile, seed, minimal))
    result = replace(
        worst,
        seconds=time.perf_counter() - start,
        reading={
            name: option for name, option in subject.adapter.readings.items() if clause.id in READINGS[name].clauses
        },
    )
    if result.status is Status.FAIL:

        def rejudge(variant: Subject, checks: Sequence[Check] = checks_of(clause)) -> Result:
            return _worst(variant, checks, clause, Trial(profile, seed, minimal=False))[0]

        gather(subject, result, Retrial(clause, judged_by, profile, seed, rejudge))
    return against_expectation(subject.adapter.expected_failures, result)


def verdict(subject: Subject, clause: Clause, *, profile: Profile = "ci", seed: int = 0) -> Result:
    """The result of `judge` without what explains a failure: nothing is shrunk, and no mistake is looked for.

    Args:
        subject: the adapter, validated by `adapters.validation.examine`.
        clause: a clause that has a check.
        profile: as in `run_report.run`.
        seed: of everything random, in [0, 2³¹).

    Returns:
        The result.
    """
    result, _ = _worst(subject, checks_of(clause), clause, Trial(profile, seed, minimal=False))
    return against_expectation(subject.adapter.expected_failures, result)


def _worst(subject: Subject, checks: Sequence[Check], clause: Clause, trial: Trial) -> tuple[Result, Check]:
    """The worst verdict of checks, each run with a copy of the trial, the cases of all, and the check that gave it.

    `subject.failing` is then the failing call of this check.
    """
    outcomes = []
    for check in checks:
        outcomes.append((_judged(subject, clause, check, replace(trial)), check, subject.failing))
    worst, check, subject.failing = min(outcomes, key=lambda outcome: SEVERITY.index(outcome[0].status))
    return replace(worst, cases=sum(result.cases for result, _, _ in outcomes)), check


def _judged(subject: Subject, clause: Clause, check: Check, trial: Trial) -> Result:
    """Run a check with the operations that work on ordinary input; a failure if it needs one that does not.

    Of alternatives, one that fails is left out if a clause that needs it says so.
    """
    used = () if check.missing(subject) else (*check.needs, *check.needs_one)
    failures = {name: failure for name in used if (failure := smoke_failure(subject, name)) is not None}
    if not failures:
        return _run(subject, clause, check, trial)
    hidden = failures.keys() & set(check.needs_one) & _judged_alone()
    usable = copy.copy(subject)
    usable.hidden = subject.hidden | hidden
    if failures.keys() - hidden or check.missing(usable):
        result = Result(clause.id, clause.equation, clause.kind, Status.FAIL)
        return _failed(result, next(iter(failures.values())))
    result = _run(usable, clause, check, trial)
    subject.failing = usable.failing
    return result


@cache
def _judged_alone() -> frozenset[str]:
    """Operations that a check needs without alternatives."""
    return frozenset(name for check in CHECKS.values() for name in check.needs)


def _run(subject: Subject, clause: Clause, check: Check, trial: Trial) -> Result:
    result = Result(clause.id, clause.equation, clause.kind, Status.PASS)
    missing = check.missing(subject)
    if missing:
        message = _absence(missing, subject.adapter.not_testable)
        return replace(result, status=Status.NOT_PROVIDED, message=message, needs=missing)
    subject.invocation = None
    try:
        check.function(subject, trial)
    except Deviation as deviation:
        result = _failed(result, deviation)
        subject.failing = subject.invocation
        result.call = described_call(subject, result)
        result.reproduce = reproduction(subject, result, trial.profile, trial.seed)
    except Flaky as flaky:
        result = _not_reproduced(result, check, flaky)
    except NotProvided as reason:
        result = replace(result, status=Status.NOT_PROVIDED, message=str(reason))
    except (Unsatisfiable, UnsatisfiedAssumption):
        result = replace(result, status=Status.INCONCLUSIVE, message="no valid input for this clause was found")
    except Inconclusive as reason:
        result = replace(result, status=Status.INCONCLUSIVE, message=str(reason))
    except Exception as error:
        if is_raised_by_adapter(error, check.function.__code__.co_filename):
            message = f"a result of an operation raised {describe_error(error)}"
            result = replace(result, status=Status.FAIL, message=message)
        else:
            message = f"{OWN_FAULT} {check.name} raised {describe_error(error)}"
            result = replace(result, status=Status.INCONCLUSIVE, message=message)
    if result.status is Status.FAIL and clause.id not in FORBID_RANDOMNESS:
        follows = undecided_by_repeatability(subject, (*check.needs, *check.needs_one))
        result = result if follows is None else replace(result, status=Status.INCONCLUSIVE, message=follows)
    if result.status is Status.PASS and trial.cases == 0:
        result = replace(result, status=Status.INCONCLUSIVE, message="the check ran no case")
    bounds = {} if result.status is Status.FAIL else {"worst_error": trial.worst_error, "bound": trial.worst_bound}
    return replace(result, cases=trial.cases, **bounds)  # type: ignore[arg-type]


def _absence(missing: list[str], not_testable: Mapping[str, str]) -> str:
    """Why a check cannot run: operations that cannot be called from outside, with the reason, else those it needs."""
    sealed = [name for need in missing for name in need.split(" or ") if name in not_testable]
    if not sealed:
        return "needs " + ", ".join(missing)
    return "not testable from outside: " + "; ".join(f"{name}: {not_testable[name]}" for name in sealed)


def _not_reproduced(result: Result, check: Check, flaky: Flaky) -> Result:
    """Fail for a deviation that did not recur; inconclusive if the deviation presupposes repeatable outputs."""
    verdicts = [error for error in _inner(flaky) if isinstance(error, Deviation | Inconclusive)]
    undecided = [error for error in verdicts if isinstance(error, Inconclusive) or _is_bitwise(check, error)]
    if undecided or not verdicts:
        reason = f"not the same on every run: {undecided[0] if undecided else flaky}"
        return replace(result, status=Status.INCONCLUSIVE, message=reason)
    result = _failed(result, verdicts[0])  # type: ignore[arg-type]
    result.message += " (not the same on every run: the operation does not follow its seed)"
    return result


def _is_bitwise(check: Check, deviation: Deviation) -> bool:
    """True for a bitwise comparison of a black box's outputs, which has no error and no bound."""
    return deviation.error is None and type(deviation) is Deviation and not BLACK_BOXES.keys().isdisjoint(check.needs)


def _inner(error: BaseException) -> Iterable[BaseException]:
    yield from getattr(error, "exceptions", ())
    if error.__cause__ is not None:
        yield error.__cause__


def _failed(result: Result, deviation: Deviation) -> Result:
    return replace(
        result,
        status=Status.FAIL,
        message=deviation.message,
        call=deviation.call,
        got=deviation.got,
        expected=deviation.expected,
        worst_error=deviation.error,
        bound=deviation.bound,
    )


def against_expectation(expected_failures: Mapping[str, str], result: Result) -> Result:
    """Compare a verdict with the adapter's expected failures.

    Args:
        expected_failures: clause → reason, as in `Adapter`.
        result: the result before the comparison.

    Returns:
        A failure that is expected as a known failure, a pass that is not as an unexpected pass; else the result.
    """
    reason = expected_failures.get(result.id)
    if reason is None:
        return result
    if result.status is Status.FAIL:
        return replace(result, status=Status.KNOWN_FAILURE, message=f"expected: {reason}. {result.message}")
    if result.status is Status.PASS:
        return replace(
            result, status=Status.UNEXPECTED_PASS, message=f"expected to fail: {reason}; remove the expectation"
        )
    return result
