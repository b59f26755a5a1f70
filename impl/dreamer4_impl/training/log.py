"""Messages of a run: on the terminal, and with the time in RUN/log.txt."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console


class Log:
    """Log of a run.

    Args:
        run: directory of the run, made with the first message; None writes no file.
        quiet: discard all messages, as in all processes except rank 0.

    Attributes:
        console: console on standard error.

    >>> Log(None, quiet=True).write("discarded")
    """

    def __init__(self, run: Path | None, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, soft_wrap=True)
        self._path = None if quiet or run is None else run / "log.txt"

    def write(self, message: str) -> None:
        """Write a message, above the progress bar if there is one; a file that cannot be written is no error.

        Args:
            message: text without markup.
        """
        self.console.print(message, markup=False, highlight=False)
        if self._path is None:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}  {message}\n")
