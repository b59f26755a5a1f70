"""Vectors of Eq. (1) and (6): corruption at every kind of signal level, each timestep with its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.checks.eq01_corruption import K
from dreamer4_reference.eq01_corruption import corrupt
from vectors.vector import Vector, draw, within


def _corrupt(name: str, clause: str, tau: np.ndarray, *flags: str) -> Vector:
    z0, z1 = (draw(seed, *tau.shape, 2, 2) for seed in (1, 2))
    outputs = {"result": within(corrupt(z0, z1, tau), np.abs(z0) + np.abs(z1), K)}
    return Vector(name, "corrupt", clause, {"z0": z0, "z1": z1, "tau": tau}, outputs, flags)


def vectors() -> Iterator[Vector]:
    """Levels of the grid of K_max = 64 and its ends."""
    yield _corrupt("grid-levels", "eq01.interpolate", np.array([[0.25, 0.5, 0.75], [1 / 64, 0.125, 63 / 64]]))
    yield _corrupt("noise", "eq01.endpoints", np.zeros((1, 2)), "tau_zero", "batch_one")
    yield _corrupt("data", "eq01.endpoints", np.ones((2, 1)), "tau_one", "time_one")
    yield _corrupt("exchanged-level", "eq01.swap", np.array([[0.125, 0.375], [0.625, 0.875]]), "square_batch")
    yield _corrupt(
        "level-per-timestep", "eq06.per-timestep", np.array([[0.0, 0.75, 0.25, 0.5]]), "tau_zero", "batch_one"
    )
    yield _corrupt("single-timestep", "eq01.interpolate", np.array([[0.5]]), "batch_one", "time_one", "square_batch")
