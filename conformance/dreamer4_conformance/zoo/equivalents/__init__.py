"""The equivalents: correct implementations done otherwise, one for each distinct way to be right. Each must pass
every clause that it provides.

Importing the package registers them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.registry import import_submodules, qualified_name


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
        if taken is not None and qualified_name(taken.adapter_factory) != qualified_name(factory):
            raise ValueError(f"equivalent {id!r}: the id is taken by {qualified_name(taken.adapter_factory)}")
        EQUIVALENTS[id] = Equivalent(id, factory)
        return factory

    return register


import_submodules(__name__, __path__)
