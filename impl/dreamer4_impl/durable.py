"""Files that survive a crash, and directories that one process writes at a time.

A file is complete under its name, or not there under this name: it is written under a unique name, synced and renamed.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shlex
import shutil
import socket
import sys
import time
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from tokenize import TokenError
from types import TracebackType
from typing import Any, Final
from zipfile import BadZipFile

LOCK: Final = ".lock"
"""File in a locked directory that names the holder of the lock."""


DAMAGED_ARRAY: Final = (
    OSError, ValueError, EOFError, MemoryError, OverflowError, RuntimeError, SyntaxError, TokenError, BadZipFile,
    zlib.error,
)  # fmt: skip
"""Errors of `numpy.load` for a damaged .npy or .npz file."""


class InUseError(OSError):
    """Another process writes to a directory; the message names it."""


class DirectoryLock:
    """Lock of a directory that a second process cannot take; a context manager.

    The operating system holds the lock (flock) and ends it with the process, also after SIGKILL, so there are no stale
    locks. DIR/.lock names the holder. Release removes this file, and the directory if the lock made it and it is empty.

    Args:
        directory: made if missing.
        patience: seconds to wait while another process holds the lock.

    Attributes:
        release: function without arguments that releases the lock; further calls have no effect. It is also called when
            the object is deleted.

    Raises:
        InUseError: if another process holds the lock; the message has its number, host, start and command.
        OSError: if the directory cannot be written, or its file system has no locks.
    """

    def __init__(self, directory: Path | str, patience: float = 0.0) -> None:
        path = Path(directory) / LOCK
        made = not path.parent.exists()
        descriptor = _acquire(path, patience)
        self.release = weakref.finalize(self, _release, path, descriptor, made, os.getpid())

    def __enter__(self) -> "DirectoryLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def sync(path: Path) -> None:
    """Wait until the disk holds a file's content, or the names in a directory.

    Args:
        path: an existing file or directory.

    Raises:
        OSError: if it cannot be opened or synced.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(file: Path) -> str:
    """BLAKE2b digest of a file's bytes.

    Args:
        file: an existing file of any size; it is read in blocks.

    Returns:
        128 hexadecimal digits.

    Raises:
        OSError: if it cannot be read.
    """
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def partial_name(path: Path) -> Path:
    """Choose a name for the incomplete content of a file or directory.

    Args:
        path: the complete file or directory.

    Returns:
        Hidden path in the same directory that no other process uses.

    Example:
        >>> partial_name(Path("run/settings.json")).match("run/.settings.json.*.partial")
        True
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")


def remove_partials(directory: Path) -> None:
    """Remove incomplete files and directories that a killed process has left; the caller holds the directory's lock.

    Args:
        directory: a directory, which may be missing.

    Raises:
        OSError: if something cannot be removed.
    """
    for partial in directory.glob(".*.partial"):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink()


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Replace a file atomically: a reader sees the old content or the new one, complete.

    Args:
        path: the file; its directory must exist.

    Returns:
        Context whose value is the path to write the new content to. At its end that file is synced and takes the place
        of the old one; after an exception it is removed.

    Raises:
        OSError: if the content cannot be written; the old content is then unchanged.
    """
    partial = partial_name(path)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a file's content atomically, as `replacement` does.

    Args:
        path: the file; its directory must exist.
        text: the new content, written as UTF-8.

    Raises:
        OSError: if it cannot be written; the old content is then unchanged.
    """
    with replacement(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file that may be damaged.

    Args:
        path: the file, UTF-8.

    Returns:
        Its content.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _acquire(path: Path, patience: float) -> int:
    """Descriptor of the lock file, which is locked and names this process."""
    end = time.monotonic() + patience
    while True:
        with _opened(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(file.fileno(), 4096, 0).decode(errors="replace")
            else:
                holder = ""
                if _is_named(path, file.fileno()):  # not removed meanwhile by the last holder
                    file.truncate(0)
                    file.write(_this_process().encode(errors="replace"))
                    return os.dup(file.fileno())
        # A new holder writes its name within milliseconds.
        if time.monotonic() > end + (0 if holder else 2):
            user = holder or "another process"
            raise InUseError(f"{path.parent} is in use by {user}: wait until it ends, or name another directory")
        time.sleep(0.01)


def _opened(path: Path) -> FileIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return open(path, "a+b", buffering=0)
    except FileNotFoundError:  # the last holder has just removed the directory
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+b", buffering=0)


def _is_named(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _this_process() -> str:
    program, *words = sys.argv or ["python"]
    since = datetime.now(UTC).isoformat(timespec="seconds")
    command = shlex.join([Path(program).name, *words])
    return f"process {os.getpid()} on {socket.gethostname()} since {since} ({command[:1000]})"


def _release(path: Path, descriptor: int, made: bool, process: int) -> None:
    if os.getpid() == process:  # not in a fork, which has a copy of the descriptor
        with suppress(OSError):
            path.unlink()
            if made:
                path.parent.rmdir()
    os.close(descriptor)
