"""Graceful interruption: a signal stops a run after the current step, a second SIGINT or SIGTERM immediately.

SIGHUP, which a closed terminal sends, often several times, never stops it immediately. Where it was ignored at the
start, as under nohup, it remains ignored.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Flag of a caught signal; true once a signal has arrived.

    Attributes:
        name: name of the signal, such as "SIGINT"; None before one has arrived.
    """

    def __init__(self) -> None:
        self.name: str | None = None

    def __bool__(self) -> bool:
        return self.name is not None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Catch SIGINT, SIGTERM and SIGHUP while the context lasts; only the main thread can catch signals.

    Returns:
        Context whose value is the flag. The previous handlers are restored at its end, and those of SIGINT and SIGTERM
        already after the first signal.

    Example:
        >>> with interruptible() as interruption:
        ...     bool(interruption)
        False
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]

    def _note(number: int, frame: FrameType | None) -> None:
        interruption.name = interruption.name or signal.Signals(number).name
        for caught in before.keys() - {signal.SIGHUP}:
            signal.signal(caught, before[caught])

    for number in before:
        signal.signal(number, _note)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
