"""Choice of the counterexample that is reported: among the small ones, the one with the largest error.

Hypothesis shrinks towards small numbers, where the error of a wrong formula may almost vanish: a two-hot code in the
wrong space differs by 1e-7 at 0 and by 0.0045 at 0.5. Of the failing examples that it visited, those that are no larger
than its result (elements of all arrays) are compared by their error relative to its bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import wraps
from typing import Any

import numpy as np
from hypothesis.strategies import DataObject

from dreamer4_conformance.verdicts import Deviation


@dataclass
class Counterexamples:
    """Failing examples of one property in the order of their visits."""

    visited: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)

    def recorded(self, body: Callable[..., None]) -> Callable[..., None]:
        """The property, which records the examples for which it raises a deviation with an error."""

        @wraps(body)
        def run(**values: Any) -> None:
            try:
                body(**values)
            except Deviation as deviation:
                if deviation.error is not None and deviation.bound:
                    ratio = deviation.error / deviation.bound
                    self.visited.append((ratio, elements(list(values.values())), values))
                raise

        return run

    def largest(self) -> dict[str, Any] | None:
        """Arguments of the example with the largest error that is no larger than the last; None if it is the last."""
        if not self.visited or any(isinstance(value, DataObject) for value in self.visited[-1][2].values()):
            return None
        allowed = [entry for entry in self.visited if entry[1] <= self.visited[-1][1] and np.isfinite(entry[0])]
        best = max(allowed, key=lambda entry: entry[0], default=self.visited[-1])
        return None if best is self.visited[-1] else best[2]


def elements(value: Any) -> int:
    """Number of numbers in arguments, arrays, lists and dataclasses.

    >>> elements([np.zeros((2, 3)), 4, None])
    7
    """
    if isinstance(value, np.ndarray):
        return value.size
    if isinstance(value, list | tuple):
        return sum(map(elements, value))
    if is_dataclass(value):
        return sum(elements(getattr(value, entry.name)) for entry in fields(value))
    return int(isinstance(value, int | float))
