"""Child processes of `dreamer4-train all`, to which signals are passed on."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

CHILD: Final = "dreamer4_impl.training.sequence.child"
"""Module that a child process runs."""


class Processes:
    """Child processes, one at a time.

    Attributes:
        caught: number of the first signal that has arrived; None before.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str]) -> int:
        """Run a command to its end.

        A child is a process group of its own: the signals of a terminal reach it through this process alone, once.

        Args:
            command: name of a program of `child.PROGRAMS`, and its arguments.

        Returns:
            Exit status; 128 + n if signal n ended the process.

        Raises:
            OSError: if no process can be started.
        """
        # -P: as for an installed command, no file of the current directory takes the place of a package.
        words = [sys.executable, "-P", "-m", CHILD, *command]
        with subprocess.Popen(words, stdin=subprocess.PIPE, process_group=0) as child:
            self._child = child
            if self.caught is not None:  # before the child existed
                child.send_signal(self.caught)
            try:
                status = child.wait()
            finally:
                self._child = None
        return status if status >= 0 else 128 - status

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: note it, and pass it on.

        Args:
            number: number of the signal.
            frame: frame that was interrupted.
        """
        self.caught = self.caught or number
        if self._child is not None:
            self._child.send_signal(number)


@contextmanager
def signals_passed_on() -> Iterator[Processes]:
    """Catch SIGINT, SIGTERM and SIGHUP while the context lasts, unless SIGHUP is ignored, as under nohup.

    Returns:
        Context whose value runs child processes that receive the signals.
    """
    processes = Processes()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, processes.receive)
    try:
        yield processes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
