"""Every provided operation is called once on an ordinary input: its answer must have the documented shape and type.

An operation is refused only where it works neither for B ≠ T nor for B = T; one that fails for certain shapes alone is
judged by the clauses.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, OperationFailed

TOKENS, CHANNELS, ACTIONS, CLASSES = 2, 3, 3, 4


@dataclass(frozen=True)
class Occasion:
    """The shapes of one round of calls, and the contents that they are filled with."""

    subject: Subject
    batch: int
    time: int

    def normal(self, *shape: int) -> np.ndarray:
        """Values of order one that the adapter's dtype represents."""
        return self.subject.round(np.random.default_rng(sum(shape)).standard_normal(shape))

    def frames(self) -> np.ndarray:
        """z (B, T, S, D)."""
        return self.normal(self.batch, self.time, TOKENS, CHANNELS)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """tau, d (B, T) on the grid of Eq. (4), clear of its end; d the same along a sequence."""
        finest = int(np.log2(self.subject.k_max))
        exponent = np.broadcast_to(1 + np.arange(self.batch)[:, None] % max(finest, 1), (self.batch, self.time))
        steps = 2 ** np.minimum(exponent, finest)
        return (steps - 1) // 2 / steps, 1.0 / steps


def first_contact(subject: Subject, operations: Collection[str] | None = None) -> Iterator[str]:
    """One sentence for every operation that cannot be used; of `operations`, None for all."""
    batch = max(3, subject.adapter.min_batch)
    time = 4 if batch != 4 else 5
    for name, contact in CONTACTS.items():
        if not subject.provides(name) or (operations is not None and name not in operations):
            continue
        problem = _problem(contact, Occasion(subject, batch, time))
        if problem is not None and _problem(contact, Occasion(subject, batch, batch)) is not None:
            yield problem


def _problem(contact: Callable[[Occasion], None], occasion: Occasion) -> str | None:
    try:
        with np.errstate(all="ignore"):
            contact(occasion)
    except Deviation as deviation:
        return deviation.message + (f" (called as {deviation.call})" if deviation.call else "")
    except (NotProvided, Inconclusive):
        return None
    return None


CONTACTS: dict[str, Callable[[Occasion], None]] = {}


def contact(function: Callable[[Occasion], None]) -> Callable[[Occasion], None]:
    """Registers the first call of the operation that the function is named after."""
    CONTACTS[function.__name__.removeprefix("_")] = function
    return function


def floats(name: str, x: np.ndarray, *, finite: bool = True) -> np.ndarray:
    """x, refused unless it holds floats, finite ones where `finite`."""
    if x.dtype.kind != "f":
        raise OperationFailed(f"{name} returned {x.dtype} values; it needs floating-point ones")
    if finite and not np.isfinite(x).all():
        raise OperationFailed(f"{name} returned NaN or infinite values on ordinary input; it needs finite ones")
    return x


def pair(name: str, returned: Any, needs: str) -> tuple[Any, Any]:
    """Both parts of what was returned, refused unless there are two."""
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise OperationFailed(f"{name} returned {type(returned).__name__}; it needs a pair ({needs})")
    return returned[0], returned[1]


def dimensions(name: str, x: np.ndarray, needs: tuple[int | None, ...]) -> np.ndarray:
    """x, refused unless it has the axes of `needs`; None leaves one free."""
    if x.ndim != len(needs) or any(n is not None and n != m for n, m in zip(needs, x.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in needs)
        raise OperationFailed(f"{name} returned shape {x.shape}; it needs ({wanted})")
    return x


def mapping(name: str, returned: Any) -> Mapping[str, Any]:
    """What was returned, refused unless it is a dict."""
    if not isinstance(returned, Mapping):
        raise OperationFailed(f"{name} returned {type(returned).__name__}; it needs a dict")
    return returned


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
