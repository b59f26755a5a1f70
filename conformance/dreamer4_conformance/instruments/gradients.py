"""Gradients of operations for the checks; exceptions during differentiation become deviations of the operation."""

from __future__ import annotations

from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import NotProvided


def operation_gradients(subject: Subject, operation: str, wrt: tuple[int, ...], *args: Any) -> list[np.ndarray]:
    """Differentiate a scalar operation with respect to some of its positional arguments.

    Args:
        subject: the adapter whose operation is differentiated.
        operation: its name.
        wrt: indices in `args` of the floating-point arguments to differentiate with respect to.
        args: arguments as NumPy arrays and numbers.

    Returns:
        One float64 gradient per index of `wrt`, zeros if the operation does not depend on that argument.

    Raises:
        NotProvided: if the framework has no gradients or the operation returns a plain number.
        OperationFailed: if the operation or its differentiation raises.
    """
    native = [subject.native(x) for x in args]

    def loss(*leaves: Any) -> Any:
        arguments = list(native)
        for position, leaf in zip(wrt, leaves, strict=True):
            arguments[position] = leaf
        value = subject.call(operation, *arguments)
        if isinstance(value, int | float | np.generic | np.ndarray):
            raise NotProvided(f"{operation} returns {type(value).__name__}, which carries no gradient")
        return value

    with subject.blaming(f"{operation}: the gradient"):
        return subject.adapter.gradients(loss, *(native[position] for position in wrt))
