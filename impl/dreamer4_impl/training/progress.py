"""Progress of a run: a bar on a terminal, else a line every 30 seconds.

Both show six numbers at most: steps, all steps, steps per second, remaining time, loss, and the mean that tells most
about the phase.
"""

import math
import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dreamer4_impl.training.log import Log

LINE_INTERVAL = 30.0
"""Seconds between lines if the output is not a terminal."""
LONGEST = 10**10
"""Largest remaining time that is shown, in seconds; longer ones do not fit in a timedelta."""
TELLING: Final = {"tokenizer": "mse", "dynamics": "flow", "agent": "reward/0", "imagine": "return"}
"""By phase, the mean that tells most: loss terms are normalised, so that the loss itself hardly changes."""


class Display:
    """Progress display of a run; a context manager.

    Args:
        title: name of the phase.
        done: number of completed steps at the start, 0 or more.
        steps: number of steps at the end, 1 or more.
        log: receives the lines; the bar is on its console.
    """

    def __init__(self, title: str, done: int, steps: int, log: Log) -> None:
        self.title, self.steps, self.start, self.log = title, steps, done, log
        self._began = self._written = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._terminal = log.console.is_terminal
        self._bar = Progress(
            *columns, TextColumn("{task.fields[values]}"), console=log.console, disable=not self._terminal
        )
        self._task = self._bar.add_task(title, total=steps, completed=done, values="")

    def update(self, step: int, loss: float, means: Mapping[str, float]) -> None:
        """Show a completed step.

        Args:
            step: number of completed steps, 1 or more.
            loss: loss of the step.
            means: further values of the step by name, of which the most telling is shown, unless it is NaN, where there
                is nothing to count.
        """
        now = time.monotonic()
        speed = (step - self.start) / max(now - self._began, 1e-9)
        name = TELLING.get(self.title, "")
        shown = {"loss": loss, name: means.get(name, math.nan)}
        shown = {name: value for name, value in shown.items() if not math.isnan(value)}  # a mean over nothing is NaN
        values = " ".join(f"{name} {value:.3g}" for name, value in shown.items())
        self._bar.update(self._task, completed=step, values=f"{speed:.2f} steps/s  {values}")
        if not self._terminal and (now - self._written > LINE_INTERVAL or step == self.steps):
            self._written = now
            remaining = timedelta(seconds=min(round((self.steps - step) / speed), LONGEST))
            self.log.write(f"{self.title} {step}/{self.steps}  {speed:.2f} steps/s  {remaining} remaining  {values}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
