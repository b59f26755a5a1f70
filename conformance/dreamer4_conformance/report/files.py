"""Atomic report files: written under a temporary name, opened before the run, renamed at its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO


class CannotWriteError(ValueError):
    """A path that cannot be written."""


@contextmanager
def reserved(paths: list[Path]) -> Iterator[list[TextIO]]:
    """Opens a temporary file for every path; they replace the paths when the block ends and are deleted if it raises.

    Raises CannotWriteError if a path cannot be written.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_reserved(path)) for path in paths]


@contextmanager
def _reserved(path: Path) -> Iterator[TextIO]:
    # Pipes and devices such as /dev/stdout cannot be replaced by renaming.
    temporary = path if path.exists() and not path.is_file() else path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        file = temporary.open("w" if temporary is path else "x", encoding="utf-8")
    except OSError as error:
        raise CannotWriteError(f"cannot write {path}: {error.strerror}") from error
    try:
        with file:
            yield file
        if temporary is not path:
            os.replace(temporary, path)
    finally:
        if temporary is not path:
            temporary.unlink(missing_ok=True)


def make_directory(path: Path) -> None:
    """Makes a directory with its parents. Raises CannotWriteError if that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(f"cannot write into {path}: {error.strerror}") from error
