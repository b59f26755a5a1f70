"""The report of a run: what was judged, what it comes to, and the exit status; its modules write it down."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dreamer4_conformance.verdicts import Result, Status

PAPER = "arXiv:2509.24527v1"
DISTRIBUTION = "dreamer4-conformance"
DEVIATING = (Status.FAIL, Status.UNEXPECTED_PASS)
UNDECIDED = (Status.NOT_PROVIDED, Status.INCONCLUSIVE)


@dataclass
class Report:
    """One run against one adapter.

    Attributes:
        adapter: name, version, level, readings.
        environment: versions, device, dtype, profile, seed.
        required: numbers of the equations whose clauses have to be provided and decided.
        unchecked: clauses of the selection that no check verifies yet.
        false_alarm: bound on the probability that some statistical decision of the run rejects what is correct.
        laws: clause id → what its decision on a random draw finds with certainty.
        rerun_command: the command that runs one clause again, with `{clause}` in its place.
    """

    adapter: dict[str, Any]
    environment: dict[str, Any]
    results: list[Result]
    required: tuple[int, ...] = ()
    unchecked: int = 0
    false_alarm: float = 0.0
    laws: dict[str, str] = field(default_factory=dict)
    rerun_command: str = field(default="", compare=False)

    @property
    def conformance(self) -> list[Result]:
        """What conforming is made of: the clauses of kind "must" and "reading"."""
        return [result for result in self.results if result.kind != "quality"]

    @property
    def quality(self) -> list[Result]:
        """What is reported apart."""
        return [result for result in self.results if result.kind == "quality"]

    @property
    def missing(self) -> list[Result]:
        """Required and not provided, or not decided."""
        return [r for r in self.conformance if r.equation in self.required and r.status in UNDECIDED]

    @property
    def exit_status(self) -> int:
        """1 where a must or a reading fails, an expected failure passes, or something required is missing; else 0.

        A failing quality clause does not count. An expected failure that passes counts for every kind: it says nothing
        about the paper, but the adapter's own list is out of date.
        """
        failed = any(result.status is Status.FAIL for result in self.conformance)
        outdated = any(result.status is Status.UNEXPECTED_PASS for result in self.results)
        return int(failed or outdated or bool(self.missing))


def counts(results: Iterable[Result]) -> dict[str, int]:
    """How many clauses came out how.

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
    """The `adapter` part of a report."""
    return {
        "name": adapter.name,
        "version": adapter.version,
        "level": adapter.level,
        "readings": dict(adapter.readings),
    }


def describe_environment(adapter: Any, profile: str, seed: int) -> dict[str, Any]:
    """The `environment` part of a report: nothing in it names a person or a machine."""
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
    """The installed version, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
