"""Results of equal calls of an operation, shared by the clauses of a run once the operation has repeated one."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.subject import Subject

Result = TypeVar("Result")
_RESULTS: WeakKeyDictionary[Adapter, dict[Hashable, Any]] = WeakKeyDictionary()
_REPEATED: WeakKeyDictionary[Adapter, dict[Hashable, bool]] = WeakKeyDictionary()


def shared_result(
    subject: Subject,
    operation: str,
    inputs: Hashable,
    call: Callable[[], Result],
    same: Callable[[Result, Result], bool],
) -> tuple[Result, bool]:
    """Call an operation, or return what an earlier call with equal inputs returned.

    When inputs recur for the first time, the operation is called again. Only if both results are the same are later
    ones shared, so that an operation that does not repeat its results is called every time. An exception is not shared.

    Args:
        subject: the adapter.
        operation: name of the operation.
        inputs: everything that the result depends on, except declarations of the adapter.
        call: calls the operation.
        same: whether two results are equal, bit for bit.

    Returns:
        The result, which callers must not change, and whether it is that of an earlier call.
    """
    adapter = subject.adapter
    conditions = (operation, adapter.level, adapter.k_max, adapter.dtype, adapter.device)
    results, repeated = _RESULTS.setdefault(adapter, {}), _REPEATED.setdefault(adapter, {})
    earlier: Result | None = results.get((conditions, inputs))
    if earlier is not None and repeated.get(conditions):
        return earlier, True
    result = call()
    if earlier is None:
        results[conditions, inputs] = result
    elif conditions not in repeated:
        repeated[conditions] = same(earlier, result)
    return result, False


def same_bits(first: Any, second: Any) -> bool:
    """Whether two arrays are equal, NaN included; None equals None alone."""
    if first is None or second is None:
        return first is second
    first, second = np.asarray(first), np.asarray(second)
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
