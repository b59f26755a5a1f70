"""Registration of the operations, and the types of their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Array = Any
Network = Callable[..., Array]
"""`network(z, tau, d, actions=None) -> z_hat`, the argument of a loss or a sampler.

z and z_hat are (N, T, S, D), tau and d broadcast to (N, T), actions are (N, T, A). It predicts the clean data z1.
"""

OPERATIONS: list[str] = []
F = TypeVar("F", bound=Callable[..., Any])


def operation(method: F) -> F:
    """Register a method of `Adapter` as an operation that adapters may override.

    Args:
        method: function whose name is added to `OPERATIONS`.

    Returns:
        The same function.
    """
    OPERATIONS.append(method.__name__)
    return method
