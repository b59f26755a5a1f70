"""The checks as pytest items, one for each clause; the plugin `dreamer4_conformance_plugin` holds options and hooks.

    from dreamer4_conformance import parametrize_with_checks

    @parametrize_with_checks(Mine())
    def test_conforms(dreamer4_clause):
        dreamer4_clause()

A clause that passes is a passed test, a deviation a failed one; a known failure is xfailed, an expected failure that
passes fails. What is not provided or not decided is skipped with the reason, and fails where its equation is required.
A quality clause that fails is xfailed, so that it never decides the exit status, as in the command.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.clauses import BY_ID, Clause
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Profile
from dreamer4_conformance.report import UNDECIDED, Report
from dreamer4_conformance.report.document import from_row, plain
from dreamer4_conformance.report.wording import failure_text
from dreamer4_conformance.run_report import run, selection
from dreamer4_conformance.runner import checkable
from dreamer4_conformance.threads import single_thread
from dreamer4_conformance.verdicts import OWN_FAULT, AdapterError, Result, Status

Judged = dict[str, Any]
"""What a worker hands to the process that reports: the report of one clause, of JSON types alone."""


@dataclass(frozen=True, eq=False)
class Case:
    """One clause against one adapter; `target` is the adapter as it was typed, None where it came from a test file."""

    adapter: Adapter | type[Adapter]
    clause: Clause
    target: str | None = None


@dataclass(frozen=True)
class Options:
    """The options of the plugin."""

    profile: Profile
    seed: int
    require: list[int]
    device: str | None = None
    dtype: str | None = None


def parametrize_with_checks(
    adapters: Adapter | type[Adapter] | Iterable[Adapter | type[Adapter]],
) -> pytest.MarkDecorator:
    """Turns a test that takes `dreamer4_clause`, and calls it, into one test for each clause that has a check.

    Args:
        adapters: an adapter, its class, or several of them.
    """
    several = [adapters] if isinstance(adapters, Adapter | type) else list(adapters)
    return pytest.mark.parametrize("dreamer4_clause", cases(several), indirect=True)


def cases(adapters: list[Adapter | type[Adapter]], target: str | None = None) -> list[Any]:
    """The parameters: the id is the clause, after the adapter's name where there are several."""
    return [
        pytest.param(
            Case(adapter, clause, target), id=f"{adapter.name}-{clause.id}" if len(adapters) > 1 else clause.id
        )
        for adapter in adapters
        for clause in checkable()
    ]


def selected(case: Case, eq: list[int] | None, patterns: list[str] | None, require: list[int]) -> bool:
    """Whether the options choose the case. ValueError, in a sentence, where they choose nothing at all."""
    return case.clause in selection(eq, patterns, require)


_subjects: dict[tuple[int, str | None, str | None], Subject | AdapterError] = {}


def _subject(case: Case, options: Options) -> Subject:
    # Cases keep their adapter alive, so that its identity stays its own.
    key = (id(case.adapter), options.device, options.dtype)
    if key not in _subjects:
        try:
            _subjects[key] = examine(case.adapter, device=options.device, dtype=options.dtype)
        except AdapterError as error:
            _subjects[key] = error
    found = _subjects[key]
    if isinstance(found, AdapterError):
        pytest.fail(str(found), pytrace=False)
    return found


def judgement(case: Case, options: Options, nodeid: str, note: Callable[[Judged], None]) -> Callable[[], None]:
    """What a test calls: judges the clause, notes the verdict, and passes, fails, xfails or skips accordingly."""

    def judge() -> None:
        rerun_command = _rerun_command(case, options, nodeid)
        given = {
            "profile": options.profile,
            "seed": options.seed,
            "require": options.require,
            "rerun_command": rerun_command,
        }
        with single_thread(options.device or case.adapter.device):
            report = run(_subject(case, options), [case.clause], **given)  # type: ignore[arg-type]
        note({"test": nodeid.partition("[")[0], **_judged(report)})
        _conclude(report.results[0], report)

    return judge


def _rerun_command(case: Case, options: Options, nodeid: str) -> str:
    words = ["pytest", shlex.quote(nodeid)]
    if case.target is not None:
        suite = "--pyargs dreamer4_conformance.suite"
        words = ["pytest", suite, f"--dreamer4={shlex.quote(case.target)}", "--dreamer4-clause {clause}"]
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
    }


def properties(judged: Judged) -> list[tuple[str, str]]:
    """What JUnit shows beside a test."""
    row = judged["row"]
    found = {"clause": row["id"], "equation": row["equation"], "kind": row["kind"], "status": row["status"]}
    return [(name, str(value)) for name, value in {**found, "reading": _reading(row)}.items()]


def _reading(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {option}" for name, option in row["reading"].items()) or "default"


def reports(judged: list[Judged], eq: list[int] | None, patterns: list[str] | None) -> list[Report]:
    """One report for each test function and adapter, its clauses in their usual order."""
    chosen = selection(eq, patterns)
    unchecked = len(chosen) - len(checkable(chosen))
    grouped: dict[str, list[Judged]] = {}
    for one in judged:
        grouped.setdefault(repr((one["test"], one["adapter"], one["environment"])), []).append(one)
    order = list(BY_ID)
    return [
        Report(
            group[0]["adapter"],
            group[0]["environment"],
            sorted((from_row(one["row"]) for one in group), key=lambda result: order.index(result.id)),
            tuple(group[0]["required"]),
            unchecked,
            sum(one["false_alarm"] for one in group),
            {clause: finds for one in group for clause, finds in one["laws"].items()},
        )
        for group in grouped.values()
    ]
