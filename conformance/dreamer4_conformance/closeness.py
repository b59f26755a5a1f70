"""When two outputs of one black box are the same: its arithmetic is not known, so no sum of terms bounds its rounding.

Every frame is compared by the L2 norm of its error, every number by the largest one, both as shares of what is expected. Where a model lets rounding
grow beyond these budgets, its own response to a rounding of its inputs says how far; where that is as large as the output, nothing is decided.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dreamer4_conformance.check import Trial
from dreamer4_conformance.subject import Subject

BUDGET = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 1e-1}
"""Relative errors that a whole model is given, by dtype."""
GROWTH = 8.0
"""Where rounding grows beyond that: how many times its response to a rounding of its inputs a model is given."""
TOO_FAR = 0.5
"""A relative error of which nothing can be told any more."""


def close(
    trial: Trial,
    subject: Subject,
    what: str,
    got: np.ndarray,
    expected: np.ndarray,
    call: str = "",
    *,
    rounded: Callable[[], np.ndarray] | None = None,
) -> None:
    """Deviation unless both, of shape (B, T, …), are the same within the budget of the adapter's dtype.

    Args:
        trial: whose case this is.
        subject: whose dtype sets the budget.
        what: the output, as the message names it.
        got: the output in question.
        expected: what it has to be.
        call: what a reader would type.
        rounded: gives `expected` again, from inputs moved by about a rounding; called only where the budget is exceeded.
    """
    budget = BUDGET[subject.adapter.dtype]
    if rounded is not None and got.shape == expected.shape and not _relative_error(got, expected) <= budget:
        budget = max(budget, GROWTH * _relative_error(rounded(), expected))
        if budget > TOO_FAR:
            trial.inconclusive(f"a rounding of the inputs already changes {what} by {budget / GROWTH:.1g} of its size")
    k, size = budget / subject.eps, np.abs(expected).max(initial=0.0)
    trial.compare(what, got, expected, terms=size, k=k, eps=subject.eps, call=call)
    error, norm = (_norms(x) for x in (got - expected, expected))
    of_frame = f"the L2 norm of the error of {what}, frame by frame,"
    trial.compare(of_frame, error, np.zeros_like(error), terms=norm, k=k, eps=subject.eps, call=call)


def _norms(x: np.ndarray) -> np.ndarray:
    """Over all axes but (B, T)."""
    return np.asarray((x.reshape(*x.shape[:2], -1) ** 2).sum(-1) ** 0.5)


def _relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The larger of both measures; NaN where there is one."""
    largest = np.abs(got - expected).max(initial=0.0) / max(np.abs(expected).max(initial=0.0), np.finfo(float).tiny)
    norms = _norms(got - expected) / np.maximum(_norms(expected), np.finfo(float).tiny)
    return float(np.maximum(largest, norms.max(initial=0.0)))
