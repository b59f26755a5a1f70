"""Smoke calls of norms, MLP and complete layers."""

from __future__ import annotations

from functools import partial

import numpy as np

from dreamer4_conformance.instruments.layers import layer_input, layer_output, named_layer, provided_kinds
from dreamer4_conformance.instruments.result_types import as_floats
from dreamer4_conformance.instruments.smoke_calls.case import CHANNELS, SmokeCall, SmokeCase, computes
from dreamer4_conformance.verdicts import OperationFailed

KINDS = {"space", "time", "both"}


def _swiglu_inputs(case: SmokeCase) -> tuple[np.ndarray, ...]:
    width, hidden = CHANNELS, 5
    weights = case.normal(width, hidden), case.normal(hidden, width).T.copy(), case.normal(hidden, width)
    return case.frames(), *weights


def _layer(operation: str, case: SmokeCase) -> None:
    x = case.example("space_layer")["x"]
    if x.ndim != 4 or x.shape[:2] != (case.batch, case.time):
        raise OperationFailed(f"example returned x of shape {x.shape}; it needs ({case.batch}, {case.time}, S, D)")
    as_floats("example: x", x)
    as_floats(operation, case.subject.compute(operation, x, shape=x.shape))


def _layer_of_each_kind(operation: str, case: SmokeCase) -> None:
    for kind in provided_kinds(case.subject, operation):
        x = layer_input(case.subject, 0, case.batch, case.time, kind)
        as_floats(named_layer(operation, kind), layer_output(case.subject, operation, x, kind))


def _layer_kinds(case: SmokeCase) -> None:
    kinds = case.subject.call("layer_kinds")
    if not isinstance(kinds, list | tuple):
        raise OperationFailed(
            f"layer_kinds returned {type(kinds).__name__}; it needs a list of 'space', 'time' or 'both'"
        )
    if not kinds or not all(isinstance(kind, str) and kind in KINDS for kind in kinds):
        raise OperationFailed(f"layer_kinds returned {kinds!r}; it needs 'space', 'time' or 'both' for each layer")


CALLS: dict[str, SmokeCall] = {
    "rms_norm": computes("rms_norm", lambda case: (case.frames(), case.normal(CHANNELS), 1e-5)),
    "swiglu": computes("swiglu", _swiglu_inputs),
    "space_layer": partial(_layer, "space_layer"),
    "time_layer": partial(_layer, "time_layer"),
    "layer_kinds": _layer_kinds,
    "block_zeroed": partial(_layer_of_each_kind, "block_zeroed"),
    "transformer_layer": partial(_layer_of_each_kind, "transformer_layer"),
}
