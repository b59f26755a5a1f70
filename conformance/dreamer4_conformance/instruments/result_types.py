"""Types and shapes of what an operation returned: OperationFailed with what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamer4_conformance.verdicts import OperationFailed


def as_floats(name: str, x: np.ndarray, *, finite: bool = True) -> np.ndarray:
    """x, refused unless it holds floats, finite ones where `finite`."""
    if x.dtype.kind != "f":
        raise OperationFailed(f"{name} returned {x.dtype} values; it needs floating-point ones")
    if finite and not np.isfinite(x).all():
        raise OperationFailed(f"{name} returned NaN or infinite values on ordinary input; it needs finite ones")
    return x


def as_pair(name: str, returned: Any, needs: str) -> tuple[Any, Any]:
    """Both parts of what was returned, refused unless there are two."""
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise OperationFailed(f"{name} returned {type(returned).__name__}; it needs a pair ({needs})")
    return returned[0], returned[1]


def as_shape(name: str, x: np.ndarray, needs: tuple[int | None, ...]) -> np.ndarray:
    """x, refused unless it has the axes of `needs`; None leaves one free."""
    if x.ndim != len(needs) or any(n is not None and n != m for n, m in zip(needs, x.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in needs)
        raise OperationFailed(f"{name} returned shape {x.shape}; it needs ({wanted})")
    return x


def as_mapping(name: str, returned: Any) -> Mapping[str, Any]:
    """What was returned, refused unless it is a dict."""
    if not isinstance(returned, Mapping):
        raise OperationFailed(f"{name} returned {type(returned).__name__}; it needs a dict")
    return returned
