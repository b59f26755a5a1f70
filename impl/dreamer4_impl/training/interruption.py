"""SIGINT and SIGTERM ask a run to stop after its step; a second one stops it where it is."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether somebody asked to stop, and how."""

    def __init__(self) -> None:
        self.name: str | None = None

    def __bool__(self) -> bool:
        """Whether somebody asked."""
        return self.name is not None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Catch the signals while the context lasts; in another thread than the main one, none can be caught.

    >>> with interruptible() as asked:
    ...     bool(asked)
    False
    """
    asked = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def note(number: int, frame: FrameType | None) -> None:
        asked.name = signal.Signals(number).name
        for caught, handler in before.items():
            signal.signal(caught, handler)

    for number in signals:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
