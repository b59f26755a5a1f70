"""Files that survive a crash: each is complete under its name, or not there under this name."""

import hashlib
import os
from pathlib import Path


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


def write_text(path: Path, text: str) -> None:
    """Replace a file's content atomically: a reader sees the old content or the new one, complete.

    Args:
        path: the file; its directory must exist. A hidden file of this process next to it is used meanwhile.
        text: the new content, written as UTF-8.

    Raises:
        OSError: if it cannot be written; the old content is then unchanged.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    sync(partial)
    partial.replace(path)
    sync(path.parent)
