"""Graceful interruption: the first SIGINT or SIGTERM stops a run after the current step, a second one immediately."""

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
    """Catch SIGINT and SIGTERM while the context lasts; only the main thread can catch signals.

    Returns:
        Context whose value is the flag; after the first signal and at its end the previous handlers are restored.

    Example:
        >>> with interruptible() as interruption:
        ...     bool(interruption)
        False
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def _note(number: int, frame: FrameType | None) -> None:
        interruption.name = signal.Signals(number).name
        for caught, handler in before.items():
            signal.signal(caught, handler)

    for number in signals:
        signal.signal(number, _note)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
