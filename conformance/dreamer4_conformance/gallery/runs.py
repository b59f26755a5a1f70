"""Runs of `dreamer4-conformance run` in processes of their own, several at a time. None of them can stop another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dreamer4_conformance.adapters.peers import CHECKOUTS, Peer
from dreamer4_conformance.report import Report
from dreamer4_conformance.report.document import read
from dreamer4_conformance.verdicts import printable

RUN: Sequence[str] = (sys.executable, "-m", "dreamer4_conformance", "run")
POLLING = 0.05
"""Seconds between two looks at the processes."""
PREFIX = "dreamer4-conformance: "
"""Of the command's messages."""


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes:
        peer: implementation that was judged.
        report: None if it could not be judged.
        markdown: text of the report.
        reason: why it could not be judged.
        seconds: duration of the run.
    """

    peer: Peer
    report: Report | None = None
    markdown: str = ""
    reason: str = ""
    seconds: float = 0.0


class Run:
    """One process of `dreamer4-conformance run`."""

    def __init__(self, peer: Peer, checkouts: Path, arguments: Sequence[str], directory: Path) -> None:
        """Start the process.

        Args:
            peer: implementation to judge.
            checkouts: directory of the checkouts.
            arguments: of the command, without the adapter and the files.
            directory: of the files that the process writes.
        """
        self.peer, self._started, self._late = peer, time.monotonic(), False
        self._json, self._markdown, self._errors = (directory / f"{peer.report}.{end}" for end in ("json", "md", "txt"))
        written = ("--json", str(self._json), "--markdown", str(self._markdown))
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*RUN, peer.adapter, *written, *arguments],
                env=os.environ | {CHECKOUTS: str(checkouts.resolve())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def is_over(self, limit: float) -> bool:
        """True if the process has ended; it is ended after `limit` seconds."""
        if self._process.poll() is None and time.monotonic() - self._started > limit:
            self._late = True
            self.end()
        return self._process.poll() is not None

    def end(self) -> None:
        """End the process. The worker that runs the adapter's code ends with it."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def outcome(self, limit: float) -> Outcome:
        """The report that an ended process has written, or the reason why there is none."""
        seconds = time.monotonic() - self._started
        if self._late:
            return Outcome(self.peer, reason=f"the run took longer than {limit:g} s (--limit)", seconds=seconds)
        with suppress(OSError, ValueError):
            report, markdown = read(self._json), self._markdown.read_text(encoding="utf-8")
            return Outcome(self.peer, report, markdown, seconds=seconds)
        return Outcome(self.peer, reason=self._reason(), seconds=seconds)

    def _reason(self) -> str:
        code = self._process.returncode
        if code < 0:
            return f"the run was ended by {signal.Signals(-code).name}"
        lines = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        start = next((number for number, line in enumerate(lines) if line.startswith(PREFIX)), len(lines) - 1)
        message = " ".join(" ".join(lines[max(start, 0) :]).removeprefix(PREFIX).split())
        return printable(message) or f"the run ended with exit status {code} and no report"


def run_all(
    peers: Iterable[Peer],
    arguments: Sequence[str],
    *,
    checkouts: Path,
    jobs: int,
    limit: float,
    before: Callable[[Peer], None] = lambda peer: None,
) -> Generator[Outcome, None, None]:
    """Judge implementations, at most `jobs` at a time.

    Args:
        peers: implementations to judge.
        arguments: of `dreamer4-conformance run`, without the adapter and the files.
        checkouts: directory of the checkouts.
        jobs: largest number of processes, at least 1.
        limit: seconds after which a run is ended.
        before: called with each implementation before its run starts.

    Yields:
        The outcome of each run as soon as it has ended. Runs that are going on end with the iterator.
    """
    waiting, running = deque(peers), list[Run]()
    with TemporaryDirectory() as directory:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    before(waiting[0])
                    running.append(Run(waiting.popleft(), checkouts, arguments, Path(directory)))
                for run in [run for run in running if run.is_over(limit)]:
                    running.remove(run)
                    yield run.outcome(limit)
                time.sleep(POLLING)
        finally:
            for run in running:
                run.end()
