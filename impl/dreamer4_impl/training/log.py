"""Sentences about a run: on the terminal, and in RUN/log.txt with the time."""

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console


class Log:
    """Tells whoever watches, and whoever reads it later.

    Args:
        run: the run's directory, made with the first sentence; None keeps nothing.
        quiet: says nothing at all, as in all processes but the first.

    Attributes:
        console: standard error.

    >>> Log(None, quiet=True).say("nothing")
    """

    def __init__(self, run: Path | None, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, soft_wrap=True)
        self._path = None if quiet or run is None else run / "log.txt"

    def say(self, sentence: str) -> None:
        """One sentence, above the progress bar where there is one."""
        self.console.print(sentence, markup=False, highlight=False)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}  {sentence}\n")
