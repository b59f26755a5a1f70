"""Vectors of Eq. (10): λ-returns and advantages under every reading, and the loss of the value head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.heads import Trajectory, expected_returns, returns_magnitude
from dreamer4_reference.eq10_lambda_return import value_loss, value_loss_gradient
from dreamer4_reference.twohot import Space
from vectors.subjects.twohot import BINS, value_head
from vectors.vector import Vector, draw, exact, options, subject_under, within

K = 4
"""That of the checks of eq10.* and eq11.advantage."""
GAMMA, LAMBDA = 255 / 256, 243 / 256
"""Exact in float32, close to the paper's γ = 0.997 and to λ = 0.95."""
READINGS: tuple[dict[str, str], ...] = ({}, {"A13": "v_same"}, {"A14": "reward"}, {"A15": "next"})
DEFAULTS = {"A13": "v_next", "A14": "v", "A15": "t"}


def _trajectory(readings: dict[str, str], horizon: int, batch: int = 2, **changed: Any) -> Trajectory:
    reward, value = draw(1, batch, horizon), draw(2, batch, horizon + (readings.get("A14") != "reward"))
    cont = np.abs(draw(3, batch, horizon, limit=1.0, step=1 / 8))
    cont = np.where(cont < 0.5, 1.0, cont)
    if readings.get("A15") == "next":
        cont[:, -1] = 1.0  # the paper leaves the step past the end open
    return replace(Trajectory(reward, value, cont, GAMMA, LAMBDA), **changed)


def _returns(name: str, clause: str, readings: dict[str, str], case: Trajectory) -> Iterator[Vector]:
    """The returns, and the advantages of the same trajectory."""
    subject = subject_under(readings)
    returns, endless = expected_returns(subject, case), replace(case, cont=np.ones_like(case.cont))
    inputs = dict(zip(("reward", "value", "cont", "gamma", "lam"), case.arguments, strict=True))
    flags = [name for name, holds in _tests(case).items() if holds]
    name = "-".join([name, *(f"{reading}-{option}" for reading, option in readings.items())])
    shared: Any = (inputs, tuple(flags), options(**DEFAULTS | readings))
    of_returns = within(returns, returns_magnitude(subject, case), K)
    yield _vector(name, "lambda_returns", clause, of_returns, *shared)
    terms = returns_magnitude(subject, endless) + np.abs(case.baseline)
    yield _vector(name, "advantages", "eq11.advantage", within(returns - case.baseline, terms, K), *shared)


def _vector(name: str, operation: str, clause: str, result: Any, inputs: Any, flags: Any, readings: Any) -> Vector:
    return Vector(name, operation, clause, inputs, {"result": result}, flags, readings)


def _tests(case: Trajectory) -> dict[str, bool]:
    batch, horizon = case.reward.shape
    return {"horizon_one": horizon == 1, "batch_one": batch == 1, "terminal": bool((case.cont == 0).any())}


def _ended(readings: dict[str, str], step: int) -> Trajectory:
    """A trajectory whose episode ends after `step`, with large rewards and values after it."""
    case = _trajectory(readings, 5)
    cont, reward, value = case.cont.copy(), case.reward.copy(), case.value.copy()
    cont[0, step if readings.get("A15") != "next" else step + 1] = 0.0
    reward[0, step + 1 :] *= 64
    value[0, step + 1 :] *= 64
    return replace(case, cont=cont, reward=reward, value=value)


def _loss(name: str, bins: str, space: Space, returns: list[float], *flags: str) -> Vector:
    points, values = BINS[bins], np.array(returns)
    logits = draw(1, len(returns), len(points), step=1 / 4)
    head = value_head(points, logits, values, space)
    outputs = {
        "result": within(value_loss(logits, values, points, space=space), head.value_terms, K),
        "gradient.logits": within(value_loss_gradient(logits, values, points, space=space), head.gradient_terms, K),
        "gradient.returns": exact(np.zeros_like(values)),
    }
    inputs = {"logits": logits, "returns": values, "bins": points}
    return Vector(f"{name}-{bins}-{space}", "value_loss", "eq10.loss", inputs, outputs, flags, options(A23=space))


def vectors() -> Iterator[Vector]:
    """Long and short horizons, both ends of λ, ends of episodes, and sizes far from 1."""
    for readings in READINGS:
        yield from _returns("five-steps", "eq10.value", readings, _trajectory(readings, 5))
        yield from _returns("one-step", "eq10.value", readings, _trajectory(readings, 1))
        yield from _returns("ended", "eq10.terminal", readings, _ended(readings, 2))
    for name, lam in (("lambda-one", 1.0), ("lambda-zero", 0.0)):
        case = _trajectory({}, 4, batch=1, lam=lam, cont=np.ones((1, 4)))
        yield from _returns(name, "eq10.limits", {}, case)
    first = _trajectory({}, 3, batch=1)
    for name, scale in (("large", 2.0**20), ("small", 2.0**-10)):
        case = replace(first, reward=scale * first.reward, value=scale * first.value)
        yield from _returns(name, "eq10.linear", {}, case)
    for space in ("raw", "symlog"):
        yield _loss("returns", "255", space, [-3.0, 0.4375])
        yield _loss("returns", "7", space, [-3.0, 0.375, 7.5])
        yield _loss("one-return", "7", space, [1.0], "batch_one")
