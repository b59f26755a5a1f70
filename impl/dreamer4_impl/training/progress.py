"""What a person sees of a run: a bar with the loss and the time that is left; a line now and then where nobody watches."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Seconds between lines where the output is no terminal.
QUIET = 30.0


class Display:
    """Shows how far a run is.

    Args:
        title: what is done.
        done, steps: where it starts, and where it ends.
        console: of rich; None is standard error.
    """

    def __init__(self, title: str, done: int, steps: int, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.title, self.steps, self.start = title, steps, done
        self._began = self._spoke = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(
            *columns, TextColumn("{task.fields[values]}"), console=self.console, disable=not self.console.is_terminal
        )
        self._task = self._bar.add_task(title, total=steps, completed=done, values="")

    def update(self, step: int, loss: float, means: Mapping[str, float]) -> None:
        """Show a step."""
        now = time.monotonic()
        speed = (step - self.start) / max(now - self._began, 1e-9)
        values = " ".join(f"{name} {value:.3g}" for name, value in {"loss": loss, **means}.items())
        self._bar.update(self._task, completed=step, values=f"{speed:.2f} steps/s  {values}")
        if not self.console.is_terminal and (now - self._spoke > QUIET or step == self.steps):
            self._spoke = now
            left = timedelta(seconds=round((self.steps - step) / speed))
            self.say(f"{self.title} {step}/{self.steps}  {speed:.2f} steps/s  {left} left  {values}")

    def say(self, sentence: str) -> None:
        """Print a sentence, above the bar where there is one."""
        if self.console.is_terminal:
            self.console.print(sentence, markup=False, highlight=False)
        else:
            print(sentence, file=sys.stderr, flush=True)


@contextmanager
def display(title: str, done: int, steps: int, *, quiet: bool = False) -> Iterator[Display]:
    """A display that is taken down at the end; a quiet one, of a process that is not the first, shows nothing."""
    shown = Display(title, done, steps, Console(quiet=True) if quiet else None)
    with shown._bar:
        yield shown
