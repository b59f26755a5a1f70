"""When two outputs of one black box are the same: its arithmetic is not known, so no sum of terms bounds its rounding.

Frame by frame both are compared by the L2 norm of their difference and by the largest one, each as a share of what is expected. Where a model
lets rounding grow beyond these budgets, its own response to a rounding of its inputs says how far; where that is as large as the output, nothing is
decided.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial
from dreamer4_conformance.verdicts import Deviation, OperationFailed

BUDGET = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 1e-1}
"""Relative errors that a whole model is given, by dtype."""
GROWTH = 8.0
"""Where rounding grows beyond that: how many times its response to a rounding of its inputs a model is given."""
TOO_FAR = 0.5
"""A relative error of which nothing can be told any more."""


def fail_unless_close(
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
        what: which two outputs these are, as the message names them.
        got: the output in question.
        expected: what it has to be.
        call: what a reader would type.
        rounded: gives `expected` again, from inputs moved by about a rounding; called only where the budget is exceeded.
    """
    if got.shape != expected.shape:
        raise OperationFailed(f"{what} differ in shape, {got.shape} and {expected.shape}", call=call)
    budget, errors = BUDGET[subject.adapter.dtype], relative_errors(got, expected)
    if rounded is not None and not (errors <= budget).all():
        grown = float(relative_errors(rounded(), expected).max(initial=0.0))
        budget = max(budget, GROWTH * grown)
        if not budget <= TOO_FAR:
            trial.inconclusive(f"a rounding of the inputs changes this model's output by {grown:.1g} of its size")
    far = np.flatnonzero(~(errors <= budget))
    if far.size:
        sentence = f"{what} differ in frame {far[0]} by {errors[far[0]]:.2g} of its size"
        raise Deviation(sentence, call=call, error=float(errors[far[0]]), bound=budget)
    nothing = np.zeros_like(errors)
    trial.compare(what, errors, nothing, terms=1.0, k=budget / subject.eps, eps=subject.eps, call=call)


def relative_errors(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """(T,): the larger of both measures in each frame, the worst sequence of the batch; NaN where there is one.

    >>> relative_errors(np.array([[3.0, 4.0]]), np.array([[3.0, 5.0]]))
    array([0. , 0.2])
    """
    apart, size = (x.reshape(*x.shape[:2], -1) for x in (np.abs(got - expected), np.abs(expected)))
    tiny = np.finfo(np.float64).tiny
    norms = (apart**2).sum(-1) ** 0.5 / np.maximum((size**2).sum(-1) ** 0.5, tiny)
    return np.asarray(np.maximum(norms, apart.max(-1) / np.maximum(size.max(-1), tiny)).max(0))
