"""The mistakes: plausible wrong implementations, most found in real code; the clause that each violates must reject it.

Each is the textbook with one step wrong. Importing the package registers all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.registry import import_submodules, qualified_name
from dreamer4_conformance.zoo.base import Book


@dataclass(frozen=True)
class Mistake:
    """One mistake. `operations` are those that are wrong; `levels` the conventions in which the mistake is possible."""

    id: str
    clause: str
    adapter: type[Book]
    operations: tuple[str, ...]
    levels: tuple[str, ...]

    @property
    def description(self) -> str:
        """What the wrong code does: first line of the adapter's docstring."""
        return (self.adapter.__doc__ or "").strip().splitlines()[0]


MISTAKES: dict[str, Mistake] = {}


def mistake(
    id: str, *, clause: str, operations: tuple[str, ...], levels: tuple[str, ...] = ("signal", "noise")
) -> Callable[[type[Book]], type[Book]]:
    """Registers a subclass of the textbook as the mistake `id`, which `clause` must reject.

    Raises ValueError if the clause does not exist or the id is already used.
    """
    if clause not in BY_ID:
        raise ValueError(f"mistake {id!r}: clause {clause!r} does not exist")

    def register(adapter: type[Book]) -> type[Book]:
        if id in MISTAKES and qualified_name(MISTAKES[id].adapter) != qualified_name(adapter):
            raise ValueError(f"mistake {id!r}: the id is taken by {qualified_name(MISTAKES[id].adapter)}")
        MISTAKES[id] = Mistake(id, clause, adapter, operations, levels)
        return adapter

    return register


import_submodules(__name__, __path__)
