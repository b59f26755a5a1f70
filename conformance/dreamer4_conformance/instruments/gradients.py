"""The gradient of an operation, for the checks: whatever goes wrong in it is the operation's doing, in a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import NotProvided, OperationFailed


def operation_gradients(subject: Subject, operation: str, wrt: tuple[int, ...], *args: Any) -> list[np.ndarray]:
    """Gradient of a scalar operation with respect to its positional arguments `wrt`, in float64.

    Zeros where it does not depend on one. NotProvided where the framework has no gradients or the operation returns a
    plain number, OperationFailed where it raises.
    """
    native = [subject.native(x) for x in args]

    def loss(*leaves: Any) -> Any:
        given = list(native)
        for position, leaf in zip(wrt, leaves, strict=True):
            given[position] = leaf
        value = subject.call(operation, *given)
        if isinstance(value, int | float | np.generic | np.ndarray):
            raise NotProvided(f"{operation} returns {type(value).__name__}, which carries no gradient")
        return value

    try:
        return subject.adapter.gradients(loss, *(native[position] for position in wrt))
    except RuntimeError as error:
        raise OperationFailed(f"{operation}: its gradient raised {type(error).__name__}: {error}") from error
