"""Vectors of Sec. 3.1: the running root mean square, judged after it has settled, because A24 leaves its details open.

A phase repeats its values `periods` times. The result is the square of the divisor of a term, the mean of (value /
output)² over the last period, as in the checks of rms.*: within 5 %, of the mean square of the values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from dreamer4_conformance.checks.loss_normalisation import MEAN_SQUARE, PERIOD, SMALL, SPIKE, TOLERANCE
from vectors.vector import Vector, interval

PERIODS = 512
"""Of two values each: as many values as a running average with decay 0.99 needs to settle from a scale of 1."""


def _phase(periods: int = PERIODS, **scales: float) -> dict[str, Any]:
    values = [[name, scale * value] for value in PERIOD for name, scale in scales.items()]
    return {"periods": periods, "values": values}


def _square(scale: float) -> Any:
    square = MEAN_SQUARE * scale**2
    return interval((1 - TOLERANCE) * square, (1 + TOLERANCE) * square)


def _settled(name: str, clause: str, phases: list[dict[str, Any]], *flags: str, **scales: float) -> Vector:
    outputs = {f"divisor_square.{term}": _square(scale) for term, scale in scales.items()}
    return Vector(name, "loss_normalizer", clause, {"phases": phases}, outputs, ("settles", *flags))


def vectors() -> Iterator[Vector]:
    """A small term, a term whose scale changes, two terms, a spike, and values that are not finite."""
    yield _settled("small-term", "rms.normalise", [_phase(mse=SMALL)], mse=SMALL)
    yield _settled("falling-scale", "rms.scale-free", [_phase(mse=1.0), _phase(mse=0.25)], mse=0.25)
    yield _settled("rising-scale", "rms.scale-free", [_phase(mse=1.0), _phase(mse=4.0)], mse=4.0)
    yield _settled("two-terms", "rms.separate", [_phase(mse=1.0, lpips=1 / 64)], mse=1.0, lpips=1 / 64)
    spike = {"periods": 1, "values": [["mse", 500.0]]}
    output = {"last_output": interval(SPIKE, 500.0 / 5)}
    yield Vector("spike", "loss_normalizer", "rms.not-self", {"phases": [_phase(mse=1.0), spike]}, output, ("settles",))
    for name, poison in (("nan", math.nan), ("infinity", math.inf)):
        phases = [{"periods": 1, "values": [["mse", poison]]}, _phase(mse=1.0)]
        yield _settled(f"{name}-first", "rms.poison", phases, "not_finite", mse=1.0)
