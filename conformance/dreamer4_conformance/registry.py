"""Registration by decorator: the key of the registries, and the import that fills them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable


def qualified_name(registered: Callable[..., object]) -> str:
    """Module and qualified name of a class or function: the key of the registries.

    A module that is imported twice, as pytest does for doctests, then registers nothing twice.

    >>> qualified_name(import_submodules)
    'dreamer4_conformance.registry.import_submodules'
    """
    return f"{registered.__module__}.{registered.__qualname__}"


def import_submodules(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, so that its decorators run.

    Args:
        package: dotted name of the package.
        path: `__path__` of the package.
    """
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
