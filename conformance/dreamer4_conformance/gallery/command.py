"""The command `peers`: options, progress, and the table of verdicts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer4_conformance.clauses import select
from dreamer4_conformance.options import add_conditions, add_selection, positive, seconds

if TYPE_CHECKING:
    from rich.table import Table

    from dreamer4_conformance.adapters.peers import Peer
    from dreamer4_conformance.gallery.runs import Outcome
    from dreamer4_conformance.report import Report

LIMIT = 7200.0
"""Seconds that one implementation may take by default."""

PEERS = """\
Judges public implementations of Dreamer 4 by the adapters that the suite ships,
each in a process of its own, and prints a table of their verdicts. Their code
is not part of the suite: clone it, unmodified, to OWNER/NAME below a directory,
or to OWNER/NAME@COMMIT for one of several states.

  git clone https://github.com/edwhu/dreamer4-jax code/edwhu/dreamer4-jax
  dreamer4-conformance peers --checkout code --out reports
  dreamer4-conformance peers --checkout code 'nicklashansen/*' --clause 'eq07.*'

An implementation without a checkout is left out. Implementations from PyPI are
judged if they are installed: peers.txt of the repository lists what they need.
Every other one has a row in the table; a line below it says what could not be
judged and why, for example that a package is missing. With --out, each report
is written when it is complete, as <owner>-<name>-<commit>.json and .md. The
same call continues where it was stopped: a report of the same code, the same
suite and the same options is kept.

The table counts clauses. "Not provided" means that the code has no function for
it, "not testable" that the equation is inside a larger function and cannot be
called from outside. Quality clauses, which are not in the paper, do not count.
"""

EXIT = """\
exit status:
  0  every implementation that is there was judged, whatever the verdicts
  1  at least one could not be judged; its line below the table says why
  2  invalid arguments, or no implementation is there
"""


def add_peers_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `peers`.

    Args:
        parser: of the command.
    """
    parser.add_argument("projects", metavar="OWNER/NAME", nargs="*", help="only these; 'owner/*' works too")
    directory = "directory with the checkouts OWNER/NAME"
    parser.add_argument("--checkout", metavar="DIR", type=Path, required=True, help=directory)
    parser.add_argument("--out", metavar="DIR", type=Path, help="write the reports into this directory")
    jobs = "largest number of implementations judged at a time (default: the number of cores)"
    parser.add_argument("--jobs", metavar="N", type=positive, default=cores(), help=jobs)
    parser.add_argument("--force", action="store_true", help="also judge what has a report in --out")
    limit = f"end a run that takes longer (default: {LIMIT:g}); its row says so"
    parser.add_argument("--limit", metavar="SECONDS", type=seconds, default=LIMIT, help=limit)
    add_selection(parser)
    add_conditions(parser, "0")


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_arguments(options: argparse.Namespace) -> list[str]:
    """Arguments of `dreamer4-conformance run` for one implementation, without the adapter and the files.

    Args:
        options: parsed by `add_peers_arguments`.

    Returns:
        The conditions with the seed, 0 by default, and the selection.
    """
    arguments = ["--profile", options.profile, "--seed", str(options.seed or 0)]
    arguments += ["--time-limit", f"{options.time_limit:g}"]
    arguments += ["--clause", ",".join(options.clause)] if options.clause else []
    return arguments + (["--eq", ",".join(map(str, options.eq))] if options.eq else [])


def peers(options: argparse.Namespace) -> int:
    """Judge the implementations that are there, and print the table.

    Args:
        options: parsed by `add_peers_arguments`.

    Returns:
        The exit status.

    Raises:
        ValueError: if a directory does not exist, a name or a clause matches nothing, or no implementation is there.
        CannotWriteError: if a report cannot be written.
    """
    from rich.console import Console

    from dreamer4_conformance.report.files import make_directory

    select(options.clause, options.eq)
    available = _available(options)
    if options.out is not None:
        make_directory(options.out)
    outcomes = {outcome.peer: outcome for outcome in _outcomes(available, options)}
    Console().print(_table([outcomes[peer] for peer in available]))
    for outcome in outcomes.values():
        if outcome.report is None:
            print(f"not judged: {_line(outcome)}")
    return int(any(outcome.report is None for outcome in outcomes.values()))


def _available(options: argparse.Namespace) -> list[Peer]:
    from dreamer4_conformance.adapters import peers
    from dreamer4_conformance.gallery.records import is_available

    if not options.checkout.is_dir():
        raise ValueError(f"--checkout is {str(options.checkout)!r}, which is no directory")
    for pattern in options.projects:
        if not any(fnmatch(peer.project, pattern) for peer in peers.PEERS):
            raise ValueError(f"{pattern!r} matches none of {', '.join(dict.fromkeys(p.project for p in peers.PEERS))}")
    chosen = [peer for peer in peers.PEERS if any(fnmatch(peer.project, name) for name in options.projects or ["*"])]
    available = [peer for peer in chosen if is_available(peer, options.checkout)]
    for peer in chosen:
        if peer not in available:
            _say(f"left out: {peer.project} {peer.commit}: {_absence(peer, options.checkout)}")
    if not available:
        raise ValueError(f"no implementation is there; --checkout is {str(options.checkout)!r}")
    return available


def _absence(peer: Peer, checkouts: Path) -> str:
    return f"{peer.package} is not installed" if peer.package else f"there is no directory {checkouts / peer.project}"


def _outcomes(available: list[Peer], options: argparse.Namespace) -> Iterator[Outcome]:
    """Outcomes of kept reports, then of runs in the order in which they end, each with a line of progress."""
    from dreamer4_conformance.gallery.records import fingerprint, record
    from dreamer4_conformance.gallery.runs import run_all

    arguments = run_arguments(options)
    prints = {peer: fingerprint(peer, options.checkout, arguments) for peer in available}
    reused = [outcome for peer in available if (outcome := _reused(peer, options, prints[peer])) is not None]
    yield from reused
    done, runs = len(reused), [peer for peer in available if peer not in {outcome.peer for outcome in reused}]
    conditions = {"checkouts": options.checkout, "jobs": options.jobs, "limit": options.limit}
    started = lambda peer: _say(f"{peer.project} {peer.commit}: started")  # noqa: E731
    with closing(run_all(runs, arguments, before=started, **conditions)) as outcomes:
        for outcome in outcomes:
            if outcome.report is not None and options.out is not None:
                record(outcome.peer, options.out, outcome.report, prints[outcome.peer], outcome.markdown)
            done += 1
            _say(f"[{done}/{len(available)}] {_line(outcome)} ({outcome.seconds:.0f} s)")
            yield outcome


def _reused(peer: Peer, options: argparse.Namespace, expected: str) -> Outcome | None:
    from dreamer4_conformance.gallery.records import recorded
    from dreamer4_conformance.gallery.runs import Outcome

    report = None if options.force or options.out is None else recorded(peer, options.out, expected)
    if report is None:
        return None
    _say(f"{peer.project} {peer.commit}: kept {options.out / peer.report}.json")
    return Outcome(peer, report)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# The table

COLUMNS = ("pass", "fail", "inconclusive", "not provided", "not testable")


def tally(report: Report) -> tuple[int, ...]:
    """Numbers of clauses, in the order of `COLUMNS`; quality clauses are left out.

    Args:
        report: on one implementation.

    Returns:
        Clauses that pass, that fail (expected failures and unexpected passes included), that are inconclusive, that
        are not provided, and that are not testable from outside.
    """
    from dreamer4_conformance.report import counts

    count = counts(report.conformance)
    sealed = sum(result.kind != "quality" for result in report.not_testable)
    failed = count["failed"] + count["known_failures"] + count["unexpected_passes"]
    return count["conforming"], failed, count["inconclusive"], count["not_provided"] - sealed, sealed


def _line(outcome: Outcome) -> str:
    verdicts = outcome.reason
    if outcome.report is not None:
        pairs = zip(COLUMNS, tally(outcome.report), strict=True)
        verdicts = ", ".join(f"{count} {column}" for column, count in pairs)
    return f"{outcome.peer.project} {outcome.peer.commit}: {verdicts}"


def _table(outcomes: list[Outcome]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="")
    for column in ("implementation", "commit"):
        table.add_column(column, no_wrap=True)
    for column in COLUMNS:
        *_, last = column.split()
        table.add_column(column.replace(" ", "\n"), justify="right", min_width=len(last))
    for outcome in outcomes:
        cells = ["-"] * len(COLUMNS) if outcome.report is None else map(str, tally(outcome.report))
        table.add_row(outcome.peer.project, outcome.peer.commit, *cells)
    return table
