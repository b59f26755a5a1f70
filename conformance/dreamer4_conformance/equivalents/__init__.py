"""The equivalents: correct implementations done otherwise, one for each distinct way to be right. Each must pass
every clause that it provides.

Importing the package registers them all.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from dreamer4_conformance.adapter import Adapter


@dataclass(frozen=True)
class Equivalent:
    """One equivalent; `adapter_factory()` makes a fresh adapter."""

    id: str
    adapter_factory: Callable[[], Adapter]

    @property
    def description(self) -> str:
        """What is done otherwise, in a sentence."""
        return (self.adapter_factory.__doc__ or "").strip().splitlines()[0]


EQUIVALENTS: dict[str, Equivalent] = {}
Factory = TypeVar("Factory", bound=Callable[[], Adapter])


def equivalent(id: str) -> Callable[[Factory], Factory]:
    """Registers an adapter class, or a function that makes an adapter, as the equivalent `id`.

    ValueError for a second use of the id.
    """

    def register(factory: Factory) -> Factory:
        taken = EQUIVALENTS.get(id)
        # A module that is loaded a second time, as pytest does for doctests, registers what it registered before.
        if taken is not None and _place(taken.adapter_factory) != _place(factory):
            raise ValueError(f"equivalent {id!r}: the id is taken by {_place(taken.adapter_factory)}")
        EQUIVALENTS[id] = Equivalent(id, factory)
        return factory

    return register


def _place(factory: Callable[[], Adapter]) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
