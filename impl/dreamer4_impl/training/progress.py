"""What a person sees of a run: a bar with the loss and the time that is left; a line now and then where nobody watches."""

import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dreamer4_impl.training.log import Log

#: Seconds between lines where the output is no terminal.
QUIET = 30.0


class Display:
    """Shows how far a run is.

    Args:
        title: what is done.
        done, steps: where it starts, and where it ends.
        log: says the lines; the bar is on its console.
    """

    def __init__(self, title: str, done: int, steps: int, log: Log) -> None:
        self.title, self.steps, self.start, self.log = title, steps, done, log
        self._began = self._spoke = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._watched = log.console.is_terminal
        self._bar = Progress(
            *columns, TextColumn("{task.fields[values]}"), console=log.console, disable=not self._watched
        )
        self._task = self._bar.add_task(title, total=steps, completed=done, values="")

    def update(self, step: int, loss: float, means: Mapping[str, float]) -> None:
        """Show a step."""
        now = time.monotonic()
        speed = (step - self.start) / max(now - self._began, 1e-9)
        values = " ".join(f"{name} {value:.3g}" for name, value in {"loss": loss, **means}.items())
        self._bar.update(self._task, completed=step, values=f"{speed:.2f} steps/s  {values}")
        if not self._watched and (now - self._spoke > QUIET or step == self.steps):
            self._spoke = now
            left = timedelta(seconds=round((self.steps - step) / speed))
            self.log.say(f"{self.title} {step}/{self.steps}  {speed:.2f} steps/s  {left} left  {values}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
