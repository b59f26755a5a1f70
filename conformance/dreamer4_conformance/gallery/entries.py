"""What the gallery shows of one implementation: its report, the derivations and the curves next to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from dreamer4_conformance.adapters.peers import PEERS, Peer
from dreamer4_conformance.gallery.curves import Curve, read_curves
from dreamer4_conformance.gallery.derivations import Derivations, disagreements, read_derivations
from dreamer4_conformance.report import Report
from dreamer4_conformance.report.document import read
from dreamer4_conformance.verdicts import Result


class Verdict(StrEnum):
    """State of one cell of the matrix: the statuses, and the reasons why there is none."""

    PASS = "pass"
    FAIL = "fail"
    KNOWN_FAILURE = "known-failure"
    UNEXPECTED_PASS = "unexpected-pass"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTABLE = "not-testable"
    NOT_PROVIDED = "not-provided"
    NOT_JUDGED = "not-judged"


@dataclass(frozen=True)
class Entry:
    """One implementation at one commit.

    Attributes:
        peer: row of the table of implementations.
        report: its committed report.
        derivations: causes of its failures.
        curves: recorded curves by name.
    """

    peer: Peer
    report: Report
    derivations: Derivations
    curves: Mapping[str, Curve]

    def result(self, clause: str) -> Result | None:
        """Result of a clause; None if the report does not have it."""
        return self._results.get(clause)

    def verdict(self, clause: str) -> Verdict:
        """State of a clause, with "not testable" apart from "not provided"."""
        result = self.result(clause)
        if result is None:
            return Verdict.NOT_JUDGED
        return Verdict.NOT_TESTABLE if clause in self._not_testable else Verdict(result.status.value)

    @cached_property
    def _results(self) -> dict[str, Result]:
        return {result.id: result for result in self.report.results}

    @cached_property
    def _not_testable(self) -> set[str]:
        return {result.id for result in self.report.not_testable}


def read_entries(directory: Path) -> list[Entry]:
    """Read the reports of all known implementations, with their derivations and curves.

    Args:
        directory: of `<report>.json`, `derivations/<report>.toml` and `curves/<report>.json`.

    Returns:
        Entries in the order of the table of implementations, forks after their origin. Implementations without a report
        are left out.

    Raises:
        ValueError: if there is no report, a file cannot be read, a report is about another commit, or a failure and
            the derivations disagree. The message has a line for each.
    """
    peers = [peer for peer in PEERS if (directory / f"{peer.report}.json").exists()]
    if not peers:
        raise ValueError(f"{directory} has no report of a known implementation, such as {PEERS[0].report}.json")
    entries = [_entry(peer, directory) for peer in peers]
    faults = [f"{entry.peer.report}: {fault}" for entry in entries for fault in _faults(entry)]
    if faults:
        raise ValueError("\n".join(["reports and derivations disagree:", *faults]))
    names = list(dict.fromkeys(peer.origin or peer.project for peer in peers))
    return sorted(entries, key=lambda entry: (names.index(entry.peer.origin or entry.peer.project), entry.peer.origin))


def _entry(peer: Peer, directory: Path) -> Entry:
    return Entry(
        peer,
        read(directory / f"{peer.report}.json"),
        read_derivations(directory / "derivations" / f"{peer.report}.toml"),
        read_curves(directory / "curves" / f"{peer.report}.json"),
    )


def _faults(entry: Entry) -> list[str]:
    adapter, peer = entry.report.adapter, entry.peer
    if (adapter["name"], adapter["version"]) != (peer.project, peer.commit):
        return [f"the report is about {adapter['name']} {adapter['version']}, not {peer.project} {peer.commit}"]
    return disagreements(entry.report, entry.derivations)
