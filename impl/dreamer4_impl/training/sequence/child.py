"""Entry point of the processes of `dreamer4-train all`: one command, which ends when the process that began it ends."""

import os
import signal
import sys
import threading
from importlib import import_module
from typing import Final

PROGRAMS: Final = {
    "dreamer4-record": "dreamer4_impl.data.command",
    "dreamer4-train": "dreamer4_impl.training.command",
    "dreamer4-eval": "dreamer4_impl.evaluation.command",
}
"""Module of each command, whose function `main` runs it."""


def main() -> int:
    """Run the command that the arguments of the process name.

    Returns:
        Exit status of the command.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]  # the lock of a directory shows them
    try:
        status: int = import_module(PROGRAMS[sys.argv[0]]).main(sys.argv[1:])
    except KeyboardInterrupt:  # while modules are imported
        return 128 + signal.SIGINT
    return status


def _end_with_parent() -> None:
    """Wait for the end of standard input, a pipe that the system closes when the parent ends, also after SIGKILL."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
