"""Import of the adapter named on the command line, `module:attr` or `file.py:attr`, with clear messages."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from difflib import get_close_matches
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.faults import describe_error
from dreamer4_conformance.verdicts import AdapterError

BUNDLED = "dreamer4_conformance.adapters.bundled:Bundled"


TARGETS: dict[type, str] = {}
"""Class of a loaded adapter → the text by which it was loaded."""


def target_of(adapter: Adapter) -> str | None:
    """Text by which `load` finds the adapter's class; None for a class that cannot be imported."""
    base = type(adapter)
    for ancestor in base.__mro__:  # a class that overrides device or dtype has the name of the loaded class
        if ancestor in TARGETS and (ancestor.__module__, ancestor.__name__) == (base.__module__, base.__name__):
            return TARGETS[ancestor]
    module = sys.modules.get(base.__module__)
    importable = base.__module__ != "__main__" and hasattr(module, base.__qualname__)
    return f"{base.__module__}:{base.__qualname__}" if importable else None


def load(target: str) -> Adapter | type[Adapter]:
    """Imports the adapter.

    Args:
        target: `module:attr` or `file.py:attr`; attr is an instance or a subclass of `Adapter`, or a callable without
            arguments that returns one.

    Returns:
        The instance or the class.

    Raises:
        AdapterError: if the import fails or the attribute is no adapter.

    >>> load("dreamer4_conformance:TorchAdapter").__name__
    'TorchAdapter'
    """
    module_name, colon, name = target.rpartition(":")
    if not (colon and module_name and name):
        raise AdapterError(f"ADAPTER is {target!r}; it needs the form module:attr or file.py:attr")
    module = _from_file(Path(module_name)) if module_name.endswith(".py") else _from_name(module_name)
    if not hasattr(module, name):
        close = get_close_matches(name, vars(module), n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise AdapterError(f"{module_name} has no attribute {name!r}{hint}")
    adapter = _resolve(target, getattr(module, name))
    TARGETS[adapter if isinstance(adapter, type) else type(adapter)] = target
    return adapter


def _resolve(target: str, value: Any) -> Adapter | type[Adapter]:
    if _is_adapter(value):
        return value
    if isinstance(value, type) or not callable(value):
        raise AdapterError(f"{target} is {describe(value)}; it needs {NEEDED}")
    try:
        made = value()
    except (Exception, SystemExit, GeneratorExit) as error:
        raise AdapterError(f"{target}() raised {describe_error(error)}") from error
    if not _is_adapter(made):
        raise AdapterError(f"{target} returned {describe(made)}; it needs to return {NEEDED}")
    return made


def definition(adapter: Adapter, operation: str) -> str | None:
    """File and line where an adapter defines an operation, as "file:line"; None for what is no Python function."""
    function = vars(adapter).get(operation, getattr(type(adapter), operation))
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if isinstance(code, CodeType) else None


NEEDED = "an instance or a subclass of Adapter, TorchAdapter or JaxAdapter"


def _is_adapter(value: Any) -> bool:
    return isinstance(value, Adapter) or (isinstance(value, type) and issubclass(value, Adapter))


def describe(thing: object) -> str:
    """Kind of an object, for messages.

    >>> describe(int), describe(3)
    ('the class int', 'of type int')
    """
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"of type {type(thing).__name__}"


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise AdapterError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"dreamer4_adapter_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _search_first(path.resolve().parent)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit, GeneratorExit) as error:
        del sys.modules[spec.name]
        raise _import_failed(str(path), error) from error
    return module


def _from_name(name: str) -> ModuleType:
    _search_first(Path.cwd())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit, GeneratorExit) as error:
        raise _import_failed(name, error) from error


def _search_first(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _import_failed(name: str, error: BaseException) -> AdapterError:
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        if name == error.name or name.startswith(f"{error.name}."):
            return AdapterError(f"there is no module {error.name!r} here or among the installed packages")
        extra = "; pip install 'dreamer4-conformance[torch]' brings it" if error.name == "torch" else ""
        return AdapterError(f"{name} imports the module {error.name!r}, which is not installed{extra}")
    return AdapterError(f"importing {name} raised {describe_error(error)}")
