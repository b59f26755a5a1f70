"""Progress of long work, reported by callbacks that are independent of the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

OnFrames: TypeAlias = Callable[[int], None]
"""Callback with the number of frames done so far."""


def ignore(frames: int) -> None:
    """Report no progress.

    Args:
        frames: number of frames done so far.
    """


def counted_from(start: int, report: OnFrames) -> OnFrames:
    """Shift a callback by work that is already done.

    Args:
        start: frames done before, 0 or more.
        report: callback with the number of all frames done.

    Returns:
        Callback with the number of frames done since `start`.

    Example:
        >>> counted_from(10, print)(2)
        12
    """
    return lambda frames: report(start + frames)


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[OnFrames]:
    """Show a progress bar on standard error while the context lasts.

    Args:
        label: text in front of the bar.
        total: frames at the end; None if unknown.

    Returns:
        Context whose value is the callback that moves the bar.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda frames: bar.update(task, completed=frames)
