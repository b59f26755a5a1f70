"""Exceptions raised by an adapter's code as text: type, message, file and line."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import traceback
from pathlib import Path

import numpy as np

from dreamer4_conformance.verdicts import printable

LENGTH = 2000
"""Number of characters of a message that are reported."""

_SUITE = str(Path(__file__).parents[1]) + os.sep
_INSTALLED = str(Path(np.__file__).parents[1])  # Hypothesis stands next to NumPy
_STANDARD = sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")
_LIBRARIES = (*_STANDARD, *site.getsitepackages(), _INSTALLED)


def describe_error(error: BaseException, *, full: bool = False) -> str:
    """Describe an exception, whatever its class does when it is printed.

    Args:
        error: the exception.
        full: whether the traceback follows, without the frames of this suite.

    Returns:
        Type, message, and in parentheses the line of the adapter's code that raised it.

    Example:
        >>> describe_error(ZeroDivisionError("division by zero"))
        'ZeroDivisionError: division by zero'
    """
    try:
        message = printable(str(error))
    except BaseException as failure:
        message = f"(its message cannot be read: {type(failure).__name__})"
    if len(message) > LENGTH:
        message = f"{message[:LENGTH]} … {len(message) - LENGTH} more characters"
    text = type(error).__name__ + (f": {message}" if message else "")
    frames = _frames(error)
    own = [frame for frame in frames if not frame[0].startswith(_LIBRARIES)] or frames
    if own:
        text += f" ({_short(own[-1][0])}:{own[-1][1]})"
    if full and frames:
        text += "\n" + "\n".join(f'  File "{_short(file)}", line {line}, in {name}' for file, line, name in frames)
    return printable(text)


def is_raised_by_adapter(error: BaseException, check_file: str) -> bool:
    """True if an exception passed through code that belongs neither to the suite nor to an installed library.

    Results of an operation are objects of the adapter, whose methods may raise long after the call.

    Args:
        error: the exception.
        check_file: file of the check that was running.
    """
    return any(file != check_file and not file.startswith(_LIBRARIES) for file, _, _ in _frames(error))


def is_out_of_memory(error: BaseException) -> bool:
    """True for the exceptions by which Python, NumPy, PyTorch and JAX report that memory is exhausted."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if not isinstance(error, RuntimeError):
        return False
    return any(sign in describe_error(error) for sign in ("can't allocate memory", "RESOURCE_EXHAUSTED"))


def _frames(error: BaseException) -> list[tuple[str, int, str]]:
    """File, line and function of each frame outside the suite, outermost first."""
    walked = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    frames = [(code.co_filename, line, code.co_name) for code, line in walked]
    return [frame for frame in frames if not frame[0].startswith(_SUITE)]


def _short(file: str) -> str:
    """A path below an entry of `sys.path` or the working directory without that prefix."""
    prefixes = [prefix + os.sep for prefix in (os.environ.get("PWD", ""), *sys.path) if prefix]
    return min((file.removeprefix(prefix) for prefix in prefixes), key=len, default=file)
