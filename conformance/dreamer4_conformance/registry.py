"""Registration by decorators: the key of the registries, and the import that runs the decorators."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable


def qualified_name(registered: Callable[..., object]) -> str:
    """Key of a class or function in the registries: module and qualified name.

    With names as keys, a module that is imported twice, as by pytest for doctests, registers nothing twice.

    Example:
        >>> qualified_name(import_submodules)
        'dreamer4_conformance.registry.import_submodules'
    """
    return f"{registered.__module__}.{registered.__qualname__}"


def import_submodules(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that its decorators run.

    Args:
        package: dotted name of the package.
        path: `__path__` of the package.
    """
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
