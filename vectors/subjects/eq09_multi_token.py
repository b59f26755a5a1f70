"""Vectors of Eq. (9): targets, loss, and both in one function, under every reading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamer4_conformance.checks.eq09_multi_token import FAR
from dreamer4_conformance.instruments.heads import Targets, distances
from dreamer4_conformance.readings import DISTANCES
from dreamer4_reference.eq09_multi_token import multi_token_loss, multi_token_targets
from dreamer4_reference.twohot import log_softmax
from vectors.vector import Vector, choose, draw, exact, float32, options, subject_under, within

K_LOSS, K_CLASSES = 8, 4
"""Those of the checks of eq09.sum for `mtp_loss` and for `mtp_loss_of`."""
CLASSES = 3
SPARE = 3


def _ahead(option: str, length: int, kind: Targets) -> tuple[int, ...]:
    return distances(subject_under({"A17": option}), length, kind)


def _readings(kind: Targets, option: str, **averaging: str | tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    if kind == "actions":
        return options(A17=option, **averaging)
    # Rewards have the distances of A17 unless A17.rewards is declared; a vector states the distances that result.
    return options(**{"A17.rewards": option}, **averaging)


def _targets(name: str, option: str, x: np.ndarray, length: int, *flags: str) -> Vector:
    kind: Targets = "rewards" if x.dtype.kind == "f" else "actions"
    targets, valid = multi_token_targets(x, _ahead(option, length, kind))
    outputs = {"targets": exact(targets, ~valid), "valid": exact(valid)}
    readings = _readings(kind, option, A29=("valid", "all", "pooled"))
    flags = (*flags, *(["past_end"] if not valid.all() else []))
    return Vector(
        f"{name}-{kind}-{option}", "mtp_targets", "eq09.offsets", {"x": x, "length": length}, outputs, flags, readings
    )


def _loss(name: str, option: str, length: int, shape: tuple[int, int], over: Any, positions: Any) -> Vector:
    ahead = _ahead(option, length, "actions")
    _, valid = multi_token_targets(np.zeros(shape), ahead)
    if positions == "complete":
        valid = np.broadcast_to(valid.all(2, keepdims=True), valid.shape)
    log_prob = np.where(valid, -np.abs(draw(1, *valid.shape, limit=6.0)), FAR)
    loss = multi_token_loss(log_prob, valid, over=over, positions=positions)
    flags = [*(["past_end"] if not valid.all() else []), *(["batch_one"] if shape[0] == 1 else [])]
    readings, inputs = options(A19=over, A29=positions), {"log_prob": log_prob, "valid": valid}
    name = f"{name}-{over}-{positions}"
    return Vector(name, "mtp_loss", "eq09.sum", inputs, {"result": within(loss, loss, K_LOSS)}, tuple(flags), readings)


def _loss_of(option: str, length: int, over: Any, positions: Any) -> Vector:
    ahead = _ahead(option, length, "actions")
    x = choose(1, CLASSES, 2, ahead[-1] + SPARE)
    targets, valid = multi_token_targets(x, ahead)
    log_prob = float32(log_softmax(draw(2, *targets.shape, CLASSES, step=1 / 4)))
    likelihood = np.take_along_axis(log_prob, targets[..., None], 3)[..., 0]
    loss = multi_token_loss(likelihood, valid, over=over, positions=positions)
    terms = len(ahead) * (1 + 2 * np.abs(log_prob).max())
    readings = _readings("actions", option, A19=over, A29=positions)
    inputs, outputs = {"x": x, "log_prob": log_prob}, {"result": within(loss, terms, K_CLASSES)}
    name = f"length-{length}-{option}-{over}-{positions}"
    return Vector(name, "mtp_loss_of", "eq09.sum", inputs, outputs, ("past_end",), readings, {"mtp_length": length})


READINGS = (("sum", "valid"), ("mean", "valid"), ("sum", "all"), ("sum", "complete"), ("sum", "pooled"))
"""Options of A19 and A29: the defaults and each other option."""


def vectors() -> Iterator[Vector]:
    """Sequences longer and shorter than L, and of one timestep; every set of distances and every average."""
    for option in DISTANCES:
        for x in (choose(1, 7, 2, 6), draw(2, 2, 6)):
            yield _targets("length-3", option, x, 3)
            yield _targets("one-timestep", option, x[:1, :1], 2, "batch_one", "time_one")
        yield _targets("length-8", option, np.arange(12)[None], 8, "batch_one")
    for over, positions in READINGS:
        yield _loss("length-3", "0..8", 3, (2, 6), over, positions)
        yield _loss("one-row", "1..8", 2, (1, 4), over, positions)
        yield from (_loss_of(option, 8, over, positions) for option in DISTANCES)
