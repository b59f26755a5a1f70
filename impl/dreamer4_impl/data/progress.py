"""Progress of long work on a terminal, told apart from where it is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Told how many frames there are so far.
Told: TypeAlias = Callable[[int], None]


def nobody(frames: int) -> None:
    """Tell nobody."""


def after(done: int, told: Told) -> Told:
    """Count on from `done`.

    >>> after(10, print)(2)
    12
    """
    return lambda frames: told(done + frames)


@contextmanager
def shown(what: str, total: int | None) -> Iterator[Told]:
    """A progress bar on standard error, as long as the context lasts; of unknown length where `total` is None."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda frames: bar.update(task, completed=frames)
