"""Compare two outputs of a black-box model up to rounding.

The model's arithmetic is not known, so no sum of terms bounds its rounding errors. In each frame, the L2 norm and the
maximum of the difference are compared, relative to those of the expected output, with a budget for the dtype. If a
model amplifies rounding errors beyond the budget, its response to rounded inputs sets the budget; if that response is
as large as the output, nothing is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, OperationFailed

BUDGET = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 1e-1}
"""Relative error allowed for a complete model, by dtype."""
GROWTH = 8.0
"""Factor of the response to rounded inputs that is allowed beyond the budget."""
SAME = 8.0
"""Relative difference, in roundings, up to which an output is the same for two sequences."""
MANY_ROWS = 16
"""Number of sequences among which an output that depends on its input differs."""
TOO_FAR = 0.5
"""Allowed relative error above which nothing is decided."""


def fail_unless_close(
    trial: Trial,
    subject: Subject,
    name: str,
    got: np.ndarray,
    expected: np.ndarray,
    call: str = "",
    *,
    rounded: Callable[[], np.ndarray] | None = None,
) -> None:
    """Require that two outputs agree within the budget of the adapter's dtype.

    Args:
        trial: run of the check, which counts the case.
        subject: its dtype sets the budget.
        name: of the two outputs, for the message.
        got: output to judge, (B, T, …).
        expected: output to compare with, (B, T, …).
        call: the calls as Python, for the message.
        rounded: computes `expected` from inputs with a relative change of about one rounding error; called only if the
            budget is exceeded.

    Raises:
        Deviation: if the shapes differ, or a frame exceeds the budget.
        Inconclusive: if the model amplifies rounding errors to the size of its output.
    """
    if got.shape != expected.shape:
        raise OperationFailed(f"{name} differ in shape, {got.shape} and {expected.shape}", call=call)
    budget, errors = BUDGET[subject.adapter.dtype], relative_errors(got, expected)
    if rounded is not None and not (errors <= budget).all():
        grown = float(relative_errors(rounded(), expected).max(initial=0.0))
        budget = max(budget, GROWTH * grown)
        if not budget <= TOO_FAR:
            trial.inconclusive(f"a rounding of the inputs changes this model's output by {grown:.1g} of its size")
    exceeding = np.flatnonzero(~(errors <= budget))
    if exceeding.size:
        sentence = f"{name} differ in frame {exceeding[0]} by {errors[exceeding[0]]:.2g} of its size"
        raise Deviation(sentence, call=call, error=float(errors[exceeding[0]]), bound=budget)
    nothing = np.zeros_like(errors)
    trial.compare(name, errors, nothing, terms=1.0, k=budget / subject.eps, eps=subject.eps, call=call)


def constant_outputs(
    subject: Subject, outputs: Mapping[str, np.ndarray], more: Callable[[], Mapping[str, np.ndarray]] | None = None
) -> set[str]:
    """Names of the outputs that are the same for all sequences, up to `SAME` roundings.

    Args:
        subject: its dtype sets the size of a rounding.
        outputs: name → output for two sequences, (2, T, …).
        more: computes the outputs for `MANY_ROWS` sequences, since two may share what an output depends on, such as the
            task; called only if an output is the same for two. None if two are enough.

    Returns:
        The names. A comparison of these outputs shows nothing.
    """
    constant = {name for name, output in outputs.items() if not _varies(subject, output)}
    if constant and more is not None:
        with suppress(OperationFailed, NotProvided):
            many = more()
            return {name for name in constant if not _varies(subject, many[name])}
    return constant


def undecided_if_constant(constant: Collection[str]) -> None:
    """Raise Inconclusive if there are names of constant outputs."""
    if constant:
        raise Inconclusive(f"{min(constant)} is the same for all sequences: are all parameters random?")


def _varies(subject: Subject, output: np.ndarray) -> bool:
    return bool((relative_errors(output[1:], output[:1]) > SAME * subject.eps).any())


def relative_errors(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Relative error of each frame, (T,): the larger of both measures, the maximum over the batch; NaN propagates.

    >>> relative_errors(np.array([[3.0, 4.0]]), np.array([[3.0, 5.0]]))
    array([0. , 0.2])
    """
    difference, size = (x.reshape(*x.shape[:2], -1) for x in (np.abs(got - expected), np.abs(expected)))
    tiny = np.finfo(np.float64).tiny
    norms = (difference**2).sum(-1) ** 0.5 / np.maximum((size**2).sum(-1) ** 0.5, tiny)
    return np.asarray(np.maximum(norms, difference.max(-1) / np.maximum(size.max(-1), tiny)).max(0))
