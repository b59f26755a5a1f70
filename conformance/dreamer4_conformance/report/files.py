"""Reports reach their files whole or not at all: written beside, then renamed; it is known beforehand if they can."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO


class CannotWriteError(ValueError):
    """A path that cannot be written; the message is a sentence."""


@contextmanager
def reserved(paths: list[Path]) -> Iterator[list[TextIO]]:
    """A writable file for every path, which takes its place when the block ends, and vanishes where the block raises.

    Raises CannotWriteError.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_reserved(path)) for path in paths]


@contextmanager
def _reserved(path: Path) -> Iterator[TextIO]:
    # A pipe or a device such as /dev/stdout has no beside.
    beside = path if path.exists() and not path.is_file() else path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        file = beside.open("w" if beside is path else "x", encoding="utf-8")
    except OSError as error:
        raise CannotWriteError(f"cannot write {path}: {error.strerror}") from error
    try:
        with file:
            yield file
        if beside is not path:
            os.replace(beside, path)
    finally:
        if beside is not path:
            beside.unlink(missing_ok=True)
