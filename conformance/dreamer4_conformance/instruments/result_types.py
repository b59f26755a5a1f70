"""Types and shapes of results: each function returns the result or raises OperationFailed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamer4_conformance.verdicts import OperationFailed


def as_floats(name: str, x: np.ndarray, *, finite: bool = True) -> np.ndarray:
    """Require floating-point values, and finite ones if `finite`.

    Raises:
        OperationFailed: if x holds others; `name` is the operation in its message.
    """
    if x.dtype.kind != "f":
        raise OperationFailed(f"{name} returned {x.dtype} values; it needs floating-point ones")
    if finite and not np.isfinite(x).all():
        raise OperationFailed(f"{name} returned NaN or infinite values on ordinary input; it needs finite ones")
    return x


def as_pair(name: str, returned: Any, needs: str) -> tuple[Any, Any]:
    """Require a pair; `needs` describes it in the message.

    Raises:
        OperationFailed: if the result is not a tuple or list of two.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise OperationFailed(f"{name} returned {type(returned).__name__}; it needs a pair ({needs})")
    return returned[0], returned[1]


def as_shape(name: str, x: np.ndarray, needs: tuple[int | None, ...]) -> np.ndarray:
    """Require a shape; None in `needs` allows any size of that axis.

    Raises:
        OperationFailed: if x has another shape.
    """
    if x.ndim != len(needs) or any(n is not None and n != m for n, m in zip(needs, x.shape, strict=True)):
        sizes = ", ".join("any" if n is None else str(n) for n in needs)
        raise OperationFailed(f"{name} returned shape {x.shape}; it needs ({sizes})")
    return x


def as_mapping(name: str, returned: Any) -> Mapping[str, Any]:
    """Require a mapping.

    Raises:
        OperationFailed: if the result is anything else.
    """
    if not isinstance(returned, Mapping):
        raise OperationFailed(f"{name} returned {type(returned).__name__}; it needs a dict")
    return returned
