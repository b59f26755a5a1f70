"""Vectors of Eq. (4): every pair (τ, d) that may be drawn, and its probability."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_reference.eq04_grid import level_law, step_law
from vectors.vector import Output, Vector, exact, options, within


def _pairs(k_max: int) -> Vector:
    law = [(tau, d, p * share) for d, p in step_law(k_max).items() for tau, share in level_law(d).items()]
    tau, d, probability = (np.array([float(x) for x in column]) for column in zip(*law, strict=True))
    # A label between two levels counts as the level that it is embedded as (A10).
    outputs = {
        "tau": Output(tau, np.array(1 / (2 * k_max))),
        "d": exact(d),
        "probability": within(probability, probability, 1),
    }
    flags = ("d_min", "above_d_min", "tau_zero", "tau_last") if k_max > 1 else ("d_min", "tau_zero", "tau_last")
    # With A2 "split" the pairs are the same and their probabilities depend on a declared share.
    return Vector(
        f"pairs-{k_max}", "sample_tau_d", "eq04.grid", {}, outputs, flags, options(A2="uniform"), {"k_max": k_max}
    )


def vectors() -> Iterator[Vector]:
    """The grids of four K_max."""
    yield from map(_pairs, (1, 2, 8, 64))
