"""Standard output and error of a command, which lose messages but never end the command.

A terminal may be closed, the reader of a pipe may end, and a file may be on a full disk. A descriptor that is closed
from the start is worse: the next file that the program opens takes its number, and receives every message of a library.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


class SafeStream:
    """Text stream whose writes do not fail; all other operations are those of the stream.

    Args:
        stream: text stream to write to. After an error its descriptor is replaced by that of the null device.

    Example:
        >>> import io
        >>> closed = io.StringIO()
        >>> closed.close()
        >>> SafeStream(closed).write("lost")
        4
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or discard it after an error.

        Args:
            text: any text.

        Returns:
            Number of its characters.
        """
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._discard()
        return len(text)

    def flush(self) -> None:
        """Write buffered text, or discard it after an error."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._discard()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _discard(self) -> None:
        """Send the rest to the null device, buffered text included: it would fail again when the program ends."""
        with suppress(OSError, ValueError):
            descriptor = os.open(os.devnull, os.O_WRONLY)
            os.dup2(descriptor, self._stream.fileno())
            os.close(descriptor)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Make standard output and error safe while the context lasts.

    Returns:
        Context in which `sys.stdout` and `sys.stderr` discard what cannot be written; descriptors 0 to 2 are open, and
        stay open.
    """
    _open_descriptors()
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as null:
        streams = [SafeStream(stream or null) for stream in before]
        sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
        try:
            yield
        finally:
            for stream in streams:
                stream.flush()
            sys.stdout, sys.stderr = before


def _open_descriptors() -> None:
    """Open the null device under every closed number up to 2."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
