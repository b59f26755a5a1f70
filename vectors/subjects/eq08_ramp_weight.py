"""Vectors of Eq. (8): the ramp weight at both ends and inside."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_reference.eq08_ramp_weight import ramp_weight
from vectors.vector import Vector, within

K = 4
"""That of the checks of eq08.value, with terms 1."""


def _ramp(name: str, clause: str, tau: np.ndarray, *flags: str) -> Vector:
    outputs = {"result": within(ramp_weight(tau), np.ones_like(tau), K)}
    return Vector(name, "ramp_weight", clause, {"tau": tau}, outputs, flags)


def vectors() -> Iterator[Vector]:
    """Levels of the grid of K_max = 64."""
    yield _ramp("grid-levels", "eq08.value", np.array([0.0, 1 / 64, 0.25, 0.5, 63 / 64]), "tau_zero")
    yield _ramp("data", "eq08.value", np.array([1.0, 1.0]), "tau_one")
    yield _ramp("one-level", "eq08.value", np.array([0.75]), "batch_one")
    yield _ramp("batch", "eq08.elementwise", np.array([[0.0, 0.5, 0.125], [0.875, 0.25, 0.0]]), "tau_zero")
