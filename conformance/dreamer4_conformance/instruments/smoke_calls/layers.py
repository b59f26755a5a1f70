"""First calls of the layers."""

from __future__ import annotations

from dreamer4_conformance.instruments.black_box import arguments
from dreamer4_conformance.instruments.smoke_calls import Occasion, contact, floats
from dreamer4_conformance.verdicts import OperationFailed

KINDS = {"space", "time", "both"}


@contact
def _space_layer(at: Occasion) -> None:
    _layer("space_layer", at)


@contact
def _time_layer(at: Occasion) -> None:
    _layer("time_layer", at)


@contact
def _block_zeroed(at: Occasion) -> None:
    _layer("block_zeroed", at)


def _layer(operation: str, at: Occasion) -> None:
    x = arguments(at.subject, "space_layer", 0, at.batch, at.time)["x"]
    if x.ndim != 4 or x.shape[:2] != (at.batch, at.time):
        raise OperationFailed(f"example returned x of shape {x.shape}; it needs ({at.batch}, {at.time}, S, D)")
    floats("example: x", x)
    floats(operation, at.subject.compute(operation, x, shape=x.shape))


@contact
def _layer_kinds(at: Occasion) -> None:
    kinds = at.subject.call("layer_kinds")
    if not isinstance(kinds, list | tuple):
        raise OperationFailed(
            f"layer_kinds returned {type(kinds).__name__}; it needs a list of 'space', 'time' or 'both'"
        )
    if not kinds or not all(isinstance(kind, str) and kind in KINDS for kind in kinds):
        raise OperationFailed(f"layer_kinds returned {kinds!r}; it needs 'space', 'time' or 'both' for each layer")
