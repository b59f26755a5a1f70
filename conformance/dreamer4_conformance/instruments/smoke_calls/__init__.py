"""Smoke calls: each provided operation runs once on ordinary input and must return the documented shape and dtype.

An operation that fails for B ≠ T and for B = T fails its clauses; clauses judge failures at particular shapes.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from dreamer4_conformance.instruments.shapes import suite_shapes
from dreamer4_conformance.instruments.smoke_calls import (
    attention,
    dynamics,
    heads,
    imagination,
    layers,
    shortcut_forcing,
    tokenizer,
    training,
)
from dreamer4_conformance.instruments.smoke_calls.case import SmokeCall, SmokeCase
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided

SMOKE_CALLS: dict[str, SmokeCall] = {
    **shortcut_forcing.CALLS,
    **tokenizer.CALLS,
    **dynamics.CALLS,
    **heads.CALLS,
    **imagination.CALLS,
    **attention.CALLS,
    **layers.CALLS,
    **training.CALLS,
}
"""Operation → smoke call, in modules named like those of `adapter/`."""


def smoke_failure(subject: Subject, operation: str) -> Deviation | None:
    """Call an operation once on ordinary input; later calls of this function return the same result.

    Args:
        subject: the adapter to call.
        operation: name of the operation.

    Returns:
        Why it cannot be used; None if it can, or if the adapter does not provide it.
    """
    if operation not in subject.smoke_failures:
        subject.smoke_failures[operation] = _failure(subject, operation)
    return subject.smoke_failures[operation]


def _failure(subject: Subject, operation: str) -> Deviation | None:
    if operation not in SMOKE_CALLS or not subject.provides(operation):
        return None
    rows, frames = suite_shapes(subject).ordinary
    batch = max(rows, subject.adapter.min_batch)
    time = max(frames + (batch == frames), subject.adapter.min_time)
    square = max(batch, subject.adapter.min_time)
    failure = _deviation(SMOKE_CALLS[operation], SmokeCase(subject, batch, time))
    if failure is None or _deviation(SMOKE_CALLS[operation], SmokeCase(subject, square, square)) is None:
        return None
    return failure


def _deviation(call: SmokeCall, case: SmokeCase) -> Deviation | None:
    try:
        with np.errstate(all="ignore"), suppress(NotProvided, Inconclusive):
            call(case)
    except Deviation as deviation:
        return deviation
    return None
