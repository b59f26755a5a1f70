"""The equivalents: correct implementations that compute the same in another way; no clause may reject one.

Importing the package registers all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.registry import import_submodules, qualified_name


@dataclass(frozen=True)
class Equivalent:
    """One equivalent; `adapter_factory()` creates a new adapter."""

    id: str
    adapter_factory: Callable[[], Adapter]

    @property
    def description(self) -> str:
        """How it differs from the textbook."""
        return (self.adapter_factory.__doc__ or "").strip().splitlines()[0]


EQUIVALENTS: dict[str, Equivalent] = {}
Factory = TypeVar("Factory", bound=Callable[[], Adapter])


def equivalent(id: str) -> Callable[[Factory], Factory]:
    """Registers an adapter class, or a function that creates an adapter, as the equivalent `id`.

    Raises ValueError if the id is already used.
    """

    def register(factory: Factory) -> Factory:
        taken = EQUIVALENTS.get(id)
        if taken is not None and qualified_name(taken.adapter_factory) != qualified_name(factory):
            raise ValueError(f"equivalent {id!r}: the id is taken by {qualified_name(taken.adapter_factory)}")
        EQUIVALENTS[id] = Equivalent(id, factory)
        return factory

    return register


import_submodules(__name__, __path__)
