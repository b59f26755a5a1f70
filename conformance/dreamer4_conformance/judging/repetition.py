"""Repetition of a failing call by a candidate: whether it gives the value that the failure reports.

A candidate may fail the same check at other inputs: the textbook with a clamp fails at large errors, and does not
explain a failure at small ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Evaluation, Invocation, Subject
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, Result

DETERMINED = (
    "dynamics_loss_at",
    "tokenizer_loss",
    "mtp_loss",
    "lambda_returns",
    "advantages",
    "policy_loss",
    "policy_loss_factored",
)
"""Operations whose value the arguments determine: no random draw, no parameters or bins of the implementation."""
TOLERANCE = 2e-3
"""Relative difference between an implementation and a candidate with the same mistakes."""


def gives_reported_value(candidate: Subject, subject: Subject, result: Result) -> bool:
    """Whether a candidate gives the reported value at the failing call.

    Args:
        candidate: the textbook with mistakes or readings.
        subject: the implementation, with its failing call.
        result: the failure.

    Returns:
        True if it does, or if the call and the value cannot be compared: an operation that is not `DETERMINED`, or a
        failure whose values are none of the call's.
    """
    invocation = subject.failing
    if invocation is None or invocation.operation not in DETERMINED or invocation.result is None:
        return True
    reported, relative = _numbers(result.got), max(TOLERANCE, 8 * subject.eps)
    for position, values in enumerate(_values(invocation.result)):
        if _contained(reported, values, 0.0, 4 * subject.eps):
            repeated = _repeated(candidate, invocation)
            if repeated is None:
                return False
            return _contained(reported, list(_values(repeated))[position], result.bound or 0.0, relative)
    return True


def _repeated(candidate: Subject, invocation: Invocation) -> Any:
    """The candidate's result of a call; None if it fails."""
    try:
        if invocation.method == "evaluate":
            return candidate.evaluate(invocation.operation, **invocation.arguments)
        return candidate.compute(invocation.operation, *invocation.arguments.values())
    except (Deviation, Inconclusive, NotProvided):
        return None


def _values(result: Any) -> Iterator[np.ndarray]:
    """Values of a result that a failure may report: an array, or loss, gradients and inputs of an evaluation."""
    if not isinstance(result, Evaluation):
        yield np.asarray(result, np.float64).ravel()
        return
    yield np.append(result.loss.ravel(), result.mean)
    yield from (
        np.concatenate([np.zeros(0), *(np.ravel(array) for array in arrays if array is not None)])
        for arrays in ([call.gradient for call in result.calls], [call.z for call in result.calls])
    )


def _contained(reported: np.ndarray, values: np.ndarray, absolute: float, relative: float) -> bool:
    """True if every finite reported number is among the values up to a tolerance."""
    wanted = reported[np.isfinite(reported)]
    if not values.size or not wanted.size:
        return False
    distance = np.abs(wanted[:, None] - values[None, :]).min(1)
    return bool((distance <= absolute + relative * np.abs(wanted)).all())


def _numbers(value: Any) -> np.ndarray:
    """Numbers of a reported value; empty if it is no array."""
    try:
        return np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError):
        return np.zeros(0)
