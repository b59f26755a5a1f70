"""The report of a run: results, counts and exit status. The modules of this package write it in several formats."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, overload

from dreamer4_conformance.verdicts import Result, Status

PAPER = "arXiv:2509.24527v1"
DISTRIBUTION = "dreamer4-conformance"
DEVIATING = (Status.FAIL, Status.UNEXPECTED_PASS)
UNDECIDED = (Status.NOT_PROVIDED, Status.INCONCLUSIVE)


@dataclass(eq=False, repr=False)
class Report(Sequence[Result]):
    """One run against one adapter: a sequence of results, which notebooks show as a page.

    Equal to a list of the same results, and to a report of the same results about the same adapter and environment.

    Attributes:
        adapter: name, version, level, readings.
        environment: versions, device, dtype, profile, seed.
        results: one per clause that has a check, in the order of `CLAUSES`.
        required: numbers of the equations whose clauses must be provided and decided.
        unchecked: clauses of the selection that no check verifies yet.
        false_alarm: upper bound on the probability that the run rejects a correct implementation by chance.
        laws: clause id → the smallest effect that its decision on random draws detects with certainty.
        rerun_command: command that runs one clause again, with the placeholder `{clause}`.
        unjudged: clauses that an interrupted run has not judged.
        locations: clause id → "file:line" of the operation that it judges, where the adapter defines it.
    """

    adapter: dict[str, Any]
    environment: dict[str, Any]
    results: list[Result]
    required: tuple[int, ...] = ()
    unchecked: int = 0
    false_alarm: float = 0.0
    laws: dict[str, str] = field(default_factory=dict)
    rerun_command: str = ""
    unjudged: int = 0
    locations: dict[str, str] = field(default_factory=dict)

    @overload
    def __getitem__(self, index: int) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> list[Result]: ...

    def __getitem__(self, index: int | slice) -> Result | list[Result]:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Report):
            return vars(self) == vars(other)
        return self.results == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        count = counts(self.conformance)
        passing = f"{count['conforming']} of {count['provided']} provided clauses pass"
        return f"<Report on {self.adapter['name']} {self.adapter['version']}: {passing}>"

    def __str__(self) -> str:
        from dreamer4_conformance.report.terminal import to_text

        return to_text(self)

    def _repr_html_(self) -> str:
        from dreamer4_conformance.report.page import to_fragment

        return to_fragment(self)

    def to_html(self) -> str:
        """The report as an HTML document that loads nothing from other addresses."""
        from dreamer4_conformance.report.page import to_html

        return to_html(self)

    def to_json(self) -> str:
        """The report as JSON text, as `schema.json` of this package describes it."""
        from dreamer4_conformance.report.document import to_json

        return to_json(self)

    def to_markdown(self) -> str:
        """The report as Markdown."""
        from dreamer4_conformance.report.markdown import to_markdown

        return to_markdown(self)

    @property
    def conformance(self) -> list[Result]:
        """Results of the clauses of kind "must" and "reading", which decide conformance."""
        return [result for result in self.results if result.kind != "quality"]

    @property
    def quality(self) -> list[Result]:
        """Results of the clauses of kind "quality", which are reported separately."""
        return [result for result in self.results if result.kind == "quality"]

    @property
    def missing(self) -> list[Result]:
        """Results that are required but not provided or not decided."""
        return [r for r in self.conformance if r.equation in self.required and r.status in UNDECIDED]

    @property
    def not_testable(self) -> list[Result]:
        """Results that are not provided because an operation cannot be called from outside, as the adapter declares."""
        sealed = set(self.adapter.get("not_testable", ()))
        return [
            result
            for result in self.results
            if result.status is Status.NOT_PROVIDED and sealed.intersection(" or ".join(result.needs).split(" or "))
        ]

    @property
    def exit_status(self) -> int:
        """1 if a must or a reading fails, an expected failure passes, or a required clause is missing; else 0.

        130 if the run was interrupted.

        A failing quality clause does not count. An expected failure that passes counts for every kind, because the
        adapter's list is out of date.
        """
        if self.unjudged:
            return 130
        failed = any(result.status is Status.FAIL for result in self.conformance)
        outdated = any(result.status is Status.UNEXPECTED_PASS for result in self.results)
        return int(failed or outdated or bool(self.missing))


def counts(results: Iterable[Result]) -> dict[str, int]:
    """Number of clauses by status.

    >>> counts([Result("eq08.value", 8, "must", Status.PASS)])["conforming"]
    1
    """
    statuses = Counter(result.status for result in results)
    return {
        "provided": statuses.total() - statuses[Status.NOT_PROVIDED],
        "conforming": statuses[Status.PASS],
        "failed": statuses[Status.FAIL],
        "known_failures": statuses[Status.KNOWN_FAILURE],
        "unexpected_passes": statuses[Status.UNEXPECTED_PASS],
        "inconclusive": statuses[Status.INCONCLUSIVE],
        "not_provided": statuses[Status.NOT_PROVIDED],
    }


def describe_adapter(adapter: Any) -> dict[str, Any]:
    """The `adapter` entry of a report."""
    sealed = {"not_testable": dict(adapter.not_testable)} if adapter.not_testable else {}
    return {
        "name": adapter.name,
        "version": adapter.version,
        "level": adapter.level,
        "readings": dict(adapter.readings),
        **sealed,
    }


def describe_environment(adapter: Any, profile: str, seed: int) -> dict[str, Any]:
    """The `environment` entry of a report, without names of users or machines."""
    versions = {name: installed(name) for name in ("numpy", "torch", "jax", "hypothesis")}
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: release for name, release in versions.items() if release is not None},
        "k_max": adapter.k_max,
        "device": adapter.device,
        "dtype": adapter.dtype,
        "profile": profile,
        "seed": seed,
    }


def installed(distribution: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
