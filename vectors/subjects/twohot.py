"""Vectors of symexp two-hot: encoding and decoding over 255 bins of symexp(−20 … 20) and over few round bins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamer4_conformance.checks.eq10_lambda_return import ValueHead
from dreamer4_conformance.checks.twohot import K_MEAN, LOG_ZERO, mean_terms
from dreamer4_conformance.judging.check import Trial
from dreamer4_reference.twohot import Space, log_softmax, symexp, symexp_bins, symlog, twohot_decode, twohot_encode
from vectors.vector import EPS32, Output, Vector, draw, float32, options, subject_under, within

K = 4
"""That of the checks of twohot.round-trip and of eq10.loss, in which a weight is rounded."""
BINS = {"255": float32(symexp_bins()), "7": np.array([-8.0, -2.0, -0.5, 0.0, 0.5, 2.0, 8.0])}


def value_head(bins: np.ndarray, logits: np.ndarray, returns: np.ndarray, space: Space) -> ValueHead:
    """A value head whose two-hot target is the reference's; for the terms of its rounding errors."""
    target = twohot_encode(returns, bins, space=space)
    return ValueHead(subject_under({"A23": space}), Trial(), bins, logits, returns, target)


def _encode(name: str, clause: str, bins: str, space: Space, x: list[float], *flags: str) -> Vector:
    points, values = BINS[bins], np.array(x)
    head = value_head(points, np.zeros((len(x), len(points))), values, space)
    # Outside the bins' range the weight is exact; everywhere twohot.encode allows what evenly spaced symlogs lose.
    slack = 2 * len(points) * EPS32
    bound = K * EPS32 * (1 + head.weight_error[:, None]) * head.adjacent + slack
    outputs = {"result": Output(head.target, bound)}
    inputs, readings = {"x": values, "bins": points}, options(A23=space)
    return Vector(f"{name}-{bins}-{space}", "twohot_encode", clause, inputs, outputs, flags, readings)


def _decode(name: str, clause: str, bins: str, space: Space, logits: np.ndarray, *flags: str) -> Vector:
    points, log_p = BINS[bins], log_softmax(logits)
    mean = twohot_decode(np.exp(log_p), points, space=space)
    outputs = {"result": within(mean, mean_terms(log_p, points, space, mean), K_MEAN)}
    inputs, readings = {"logits": logits, "bins": points}, options(A23=space)
    return Vector(f"{name}-{bins}-{space}", "twohot_decode", clause, inputs, outputs, flags, readings)


def _mixtures(bins: int) -> np.ndarray:
    """Log-weights of one, two and three bins, all others without weight."""
    logits = np.full((3, bins), LOG_ZERO)
    centre = bins // 2
    logits[0, centre + 2] = 0.5
    logits[1, [centre - 1, centre + bins // 5]] = (0.0, -1.25)
    logits[2, [centre - 2, centre, centre + 1]] = (-0.5, 0.25, 1.5)
    return logits


def _step(operation: str, function: Any, x: list[float], slope: Any) -> Vector:
    values = np.array(x)
    result = function(values)
    outputs = {"result": within(result, np.abs(result) + slope(values) * np.abs(values), K)}
    return Vector("values", operation, "twohot.mean", {"x": values}, outputs)


def vectors() -> Iterator[Vector]:
    """Bins, values between bins, and values out of range; mixtures, uniform logits, and dense logits."""
    yield _step("symlog", symlog, [-300.0, -1.0, -0.0078125, 0.0, 0.25, 7.0, 1048576.0], lambda x: 1 / (1 + np.abs(x)))
    yield _step("symexp", symexp, [-8.0, -1.0, -0.0078125, 0.0, 0.25, 2.5, 20.0], lambda x: np.exp(np.abs(x)))
    spaces: tuple[Space, Space] = ("raw", "symlog")
    for space in spaces:
        inside = [0.0, 0.4375, -3.0, 7.0, 200.0, -1048576.0, float(BINS["255"][140])]
        yield _encode("inside", "twohot.round-trip", "255", space, inside)
        yield _encode("inside", "twohot.round-trip", "7", space, [0.0, 0.375, -1.0, 7.0, -2.0, 1.25])
        yield _encode(
            "edges",
            "twohot.encode",
            "255",
            space,
            [*BINS["255"][[0, -1]].tolist(), 2.0**30, -(2.0**40)],
            "out_of_range",
        )
        yield _encode("edges", "twohot.encode", "7", space, [8.0, -8.0, 9.0, -1024.0], "out_of_range")
        for bins, points in BINS.items():
            yield _decode("mixtures", "twohot.mean", bins, space, _mixtures(len(points)))
            yield _decode("uniform", "twohot.centre", bins, space, np.zeros((1, len(points))), "batch_one")
        yield _decode("dense", "twohot.mean", "7", space, draw(1, 3, 7))
