"""Checks as pytest items, one per clause; the plugin `dreamer4_conformance_plugin` has the options and hooks.

    from dreamer4_conformance import parametrize_with_checks

    @parametrize_with_checks(Mine())
    def test_conforms(check):  # any name
        check()

A test passes if its clause passes and fails for a deviation. A known failure is xfailed; an expected failure that
passes fails. A clause that is not provided or inconclusive is skipped with the reason, and fails if its equation is
required. A quality clause that fails is xfailed, so that it never affects the exit status, as in the command.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.clauses import BY_ID, Clause
from dreamer4_conformance.isolation import Judge, start
from dreamer4_conformance.isolation.contained import Conditions
from dreamer4_conformance.judging.causes import assign_causes
from dreamer4_conformance.judging.check import Profile
from dreamer4_conformance.report import UNDECIDED, Report
from dreamer4_conformance.report.document import from_row, plain
from dreamer4_conformance.report.failures import failure_text
from dreamer4_conformance.run_report import run, selection
from dreamer4_conformance.runner import checkable
from dreamer4_conformance.verdicts import OWN_FAULT, TIME_LIMIT, AdapterError, Result, Status, printable

Judged = dict[str, Any]
"""Report of one clause in JSON types, sent from a worker to the process that reports."""


@dataclass(frozen=True, eq=False)
class Case:
    """One clause of one adapter: the parameter of a test, for which the plugin passes a function that judges it.

    Attributes:
        source: an adapter or its class, or the value of `--dreamer4`.
        clause: requirement that the test judges.
        is_dreamer4_case: how the plugin recognises a case without importing this module.
    """

    is_dreamer4_case: ClassVar = True
    source: Adapter | type[Adapter] | str
    clause: Clause


@dataclass(frozen=True)
class Options:
    """Options of the plugin, as in `run_report.run` and `isolation.contained.Conditions`."""

    profile: Profile
    seed: int
    require: list[int]
    device: str | None = None
    dtype: str | None = None
    time_limit: float = TIME_LIMIT
    traceback: bool = False

    @property
    def conditions(self) -> Conditions:
        """Conditions of the run."""
        return Conditions(self.profile, self.seed, self.device, self.dtype, self.time_limit, self.traceback)


def parametrize_with_checks(
    adapters: Adapter | type[Adapter] | str | Iterable[Adapter | type[Adapter] | str],
) -> pytest.MarkDecorator:
    """Parametrise a test with one case for each clause that has a check.

    Args:
        adapters: an adapter, its class, its location as `module:attr` or `file.py:attr`, or an iterable of them. A
            location is imported by a worker process alone, which may exit, crash or hang.

    Returns:
        A mark for a test, a class or a module. Each test calls its first argument, which may have any name, without
        arguments; further arguments are fixtures as usual.

    Example:
        >>> from dreamer4_conformance import Adapter
        >>> @parametrize_with_checks(Adapter)
        ... def test_conforms(check):
        ...     check()
    """
    adapter_list = [adapters] if isinstance(adapters, Adapter | type | str) else list(adapters)
    return pytest.mark.dreamer4_checks.with_args(*adapter_list)


def parametrize(metafunc: pytest.Metafunc, adapters: Sequence[Adapter | type[Adapter] | str]) -> None:
    """Parametrise the first argument of a test, without `self`, with the cases of some adapters.

    Args:
        metafunc: the test.
        adapters: as in `cases`.

    Raises:
        pytest.Collector.CollectError: if the test has no argument.
    """
    arguments = list(inspect.signature(metafunc.function).parameters)[metafunc.cls is not None :]
    if not arguments:
        raise pytest.Collector.CollectError(
            f"{metafunc.function.__name__} is decorated with parametrize_with_checks, but has no argument; it needs "
            "one, which it calls: `def test_conforms(check): check()`"
        )
    metafunc.parametrize(arguments[0], cases(adapters))


def cases(adapters: Sequence[Adapter | type[Adapter] | str]) -> list[Any]:
    """Parameters of a test, as in `parametrize_with_checks`.

    Args:
        adapters: the adapters, or the location of one as typed.

    Returns:
        One `pytest.param` per adapter and clause; its id is the clause's, after the adapter's name if several.
    """
    several = len(adapters) > 1
    return [
        pytest.param(Case(adapter, clause), id=f"{_name(adapter)}-{clause.id}" if several else clause.id)
        for adapter in adapters
        for clause in checkable()
    ]


def _name(adapter: Adapter | type[Adapter] | str) -> str:
    return adapter if isinstance(adapter, str) else printable(adapter.name)


def selected(case: Case, eq: list[int] | None, patterns: list[str] | None, require: list[int]) -> bool:
    """Check whether the options select a case.

    Args:
        case: clause and adapter of the test.
        eq: equation numbers; None for all.
        patterns: glob patterns of clause ids; None for all.
        require: equation numbers that must be selected.

    Returns:
        True if the case's clause is selected.

    Raises:
        ValueError: if the options select nothing, or leave a required equation out.
    """
    return case.clause in selection(eq, patterns, require)


_judges: dict[tuple[int | str, Conditions], Judge | AdapterError] = {}


def loaded(source: Adapter | type[Adapter] | str, options: Options) -> Judge:
    """The judge of an adapter; one for all clauses of a session.

    Args:
        source: the adapter, its class, or where to import it from.
        options: of the plugin, the same in the whole session.

    Returns:
        The judge, which ends with the process.

    Raises:
        AdapterError: if the adapter is unusable.
    """
    # Cases keep their adapter alive, so an id is not reused.
    key = source if isinstance(source, str) else id(source), options.conditions
    if key not in _judges:
        try:
            _judges[key] = start(source, options.conditions)
        except AdapterError as error:
            _judges[key] = error
    judge = _judges[key]
    if isinstance(judge, AdapterError):
        raise AdapterError(str(judge))
    return judge


def judgement(case: Case, options: Options, nodeid: str, note: Callable[[Judged], None]) -> Callable[[], None]:
    """Create the function that a test calls.

    Args:
        case: clause and adapter.
        options: of the plugin.
        nodeid: of the test, for the command that runs it again.
        note: called with the report of the clause.

    Returns:
        A function that judges the clause, then passes, fails, xfails or skips the test.
    """

    def judge() -> None:
        try:
            loaded_judge = loaded(case.source, options)
            rerun_command = _rerun_command(case, options, nodeid)
            report = run(loaded_judge, [case.clause], require=options.require, rerun_command=rerun_command)
        except AdapterError as error:
            pytest.fail(str(error), pytrace=False)
        note({"test": nodeid.partition("[")[0], **_judged(report)})
        _conclude(report.results[0], report)

    return judge


def _rerun_command(case: Case, options: Options, nodeid: str) -> str:
    words = ["pytest", shlex.quote(nodeid)]
    if isinstance(case.source, str):
        suite = "--pyargs dreamer4_conformance.suite"
        words = ["pytest", suite, f"--dreamer4={shlex.quote(case.source)}", "--dreamer4-clause {clause}"]
    if (options.profile, options.seed) != ("ci", 0):
        words += [f"--dreamer4-profile {options.profile} --dreamer4-seed {options.seed}"]
    for name in ("device", "dtype"):
        words += [f"--dreamer4-{name} {getattr(options, name)}"] if getattr(options, name) else []
    return " ".join(words)


def _conclude(result: Result, report: Report) -> None:
    text = failure_text(result, report.rerun_command)
    if result.status in UNDECIDED and report.missing:
        pytest.fail(f"{result.id} is required, but {result.status}: {result.message}", pytrace=False)
    if result.message.startswith(OWN_FAULT):
        pytest.fail(f"{result.id}: {result.message}", pytrace=False)
    if result.status in UNDECIDED:
        pytest.skip(f"{result.status}: {result.message}")
    if result.status is Status.KNOWN_FAILURE or (result.kind == "quality" and result.status is Status.FAIL):
        pytest.xfail(text)
    if result.status is not Status.PASS:
        pytest.fail(text, pytrace=False)


def _judged(report: Report) -> Judged:
    result = report.results[0]
    return {
        "adapter": plain(report.adapter),
        "environment": plain(report.environment),
        "row": plain(vars(result)),
        "required": list(report.required),
        "false_alarm": report.false_alarm,
        "laws": report.laws,
        "rerun_command": report.rerun_command,
    }


def properties(judged: Judged) -> list[tuple[str, str]]:
    """List the properties of a test in a JUnit file.

    Args:
        judged: report of the clause.

    Returns:
        Pairs (name, value): clause, equation, kind, status and reading.
    """
    row = judged["row"]
    reading = ", ".join(f"{name} = {option}" for name, option in row["reading"].items()) or "default"
    return [
        ("clause", row["id"]),
        *((key, str(row[key])) for key in ("equation", "kind", "status")),
        ("reading", reading),
    ]


def reports(judged: list[Judged], eq: list[int] | None, patterns: list[str] | None) -> list[Report]:
    """Combine the reports of clauses.

    Args:
        judged: reports of clauses, from any workers in any order.
        eq: equation numbers that the options select; None for all.
        patterns: glob patterns of clause ids that the options select; None for all.

    Returns:
        One report per test function and adapter, with the clauses in the order of `CLAUSES`.
    """
    clauses = selection(eq, patterns)
    unchecked = len(clauses) - len(checkable(clauses))
    grouped: dict[str, list[Judged]] = {}
    for item in judged:
        grouped.setdefault(repr((item["test"], item["adapter"], item["environment"])), []).append(item)
    return [_combined(group, unchecked) for group in grouped.values()]


def _combined(group: list[Judged], unchecked: int) -> Report:
    order = list(BY_ID)
    results = sorted((from_row(item["row"]) for item in group), key=lambda result: order.index(result.id))
    assign_causes(results)
    return Report(
        group[0]["adapter"],
        group[0]["environment"],
        results,
        tuple(group[0]["required"]),
        unchecked,
        sum(item["false_alarm"] for item in group),
        {clause: finds for item in group for clause, finds in item["laws"].items()},
        group[0]["rerun_command"],
    )
