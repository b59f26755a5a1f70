"""Code that users bring: modules and objects by import path, and failures of such code as one sentence."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from dreamer4_impl.data.format import DatasetError

#: Extras of this package that install a module.
EXTRAS: Final = {"ale_py": "atari", "gymnasium": "atari", "minigrid": "minigrid"}


def imported_object(path: str) -> Any:
    """Import an object.

    Args:
        path: MODULE:NAME, where the module may lie in the current directory, or FILE.py:NAME.

    Returns:
        The object.

    Raises:
        DatasetError: if the path has another form, the import fails, or the module lacks the name.

    Example:
        >>> imported_object("math:pi")
        3.141592653589793
    """
    module, _, name = path.rpartition(":")
    if not module or not name:
        raise DatasetError(f"an import path must have the form MODULE:NAME or FILE.py:NAME; got {path!r}")
    attributes = vars(imported_module(module))
    if name not in attributes:
        near = get_close_matches(name, attributes, n=1)
        raise DatasetError(f"{module} does not define {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return attributes[name]


def imported_module(name: str) -> ModuleType:
    """Import a module, each file once.

    Args:
        name: name of a module, which may lie in the current directory, or path of a file that ends with .py.

    Returns:
        The module.

    Raises:
        DatasetError: if it does not exist, needs a package that is not installed, or raises an exception.
    """
    if name.endswith(".py") and not Path(name).is_file():
        raise DatasetError(f"there is no file {name}")
    directory = str(Path(name).resolve().parent if name.endswith(".py") else Path.cwd())
    if directory not in sys.path:
        sys.path.append(directory)  # last, so that no installed package is replaced
    try:
        return _from_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DatasetError(_not_installed(name, error.name)) from error
    except (Exception, SystemExit) as error:
        raise DatasetError(f"{name} cannot be imported: {describe_error(error)}") from error


@contextmanager
def failures(action: str) -> Iterator[None]:
    """Turn exceptions of users' code into errors of one sentence while the context lasts.

    Args:
        action: what the code was called for, as in "a step of Maze-v0".

    Returns:
        Context without a value.

    Raises:
        DatasetError: if the code raises an exception, which is its cause.
    """
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(f"{action} failed: {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """Describe an exception in one line.

    Args:
        error: exception that was raised.

    Returns:
        Its type and message, and the file and line that raised it.
    """
    message = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return type(error).__name__ + (f": {message}" if message else "") + where


def _from_file(path: Path) -> ModuleType:
    name = str(path.resolve())
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _not_installed(name: str, missing: str | None) -> str:
    package = (missing or "").partition(".")[0]
    if package in EXTRAS:
        return f"{name} needs {package}: pip install 'dreamer4-conformance[{EXTRAS[package]}]'"
    if missing is not None and (name == missing or name.startswith(f"{missing}.")):
        return f"there is no module {missing!r} in the current directory or among the installed packages"
    return f"{name} needs the module {missing!r}, which is not installed"
