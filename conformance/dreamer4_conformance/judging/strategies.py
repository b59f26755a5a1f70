"""Inputs that the checks draw: levels and steps on the grid, shapes small enough to read, contents from a seed."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.subject import Draw, Subject

ACTIONS = 3
"""Width of the action vectors that the suite passes."""


def levels(min_size: int = 1, max_size: int = 6) -> st.SearchStrategy[np.ndarray]:
    """Signal levels that are multiples of 1/256: exact in every dtype and in either convention."""
    numerators = st.lists(st.integers(0, 256), min_size=min_size, max_size=max_size)
    return numerators.map(lambda values: np.array(values, np.float64) / 256)


def contents(seed: int) -> np.random.Generator:
    """The generator of data and actions.

    Its stream is the suite's own: an adapter that seeds NumPy from the same seed must not draw z1 as its noise.
    """
    return np.random.default_rng([seed, 2509, 24527])


def seeds() -> st.SearchStrategy[int]:
    """Seeds for contents and for the operations that take one."""
    return st.integers(0, 2**31 - 1)


def grid_pairs(rng: np.random.Generator, k_max: int, shape: tuple[int, int], per: str) -> tuple[np.ndarray, np.ndarray]:
    """tau and d of Eq. (4), both (B, T); d per "timestep" or per "sequence"."""
    finest = int(np.log2(k_max))
    rows, columns = shape
    exponent = rng.integers(0, finest + 1, (rows, columns if per == "timestep" else 1))
    steps = np.broadcast_to(2**exponent, shape)
    return rng.integers(0, steps) / steps, 1.0 / steps


def draw_contents(
    subject: Subject,
    seed: int,
    shape: tuple[int, int, int, int],
    tau: np.ndarray | None = None,
    d: np.ndarray | None = None,
) -> Draw:
    """Data, noise and actions from `seed`; tau and d as given, else drawn by Eq. (4) as the adapter's reading A3 has it."""
    rng = contents(seed)
    if tau is None or d is None:
        tau, d = grid_pairs(rng, subject.k_max, shape[:2], subject.readings["A3"])
    z1, z0 = (subject.round(rng.standard_normal(shape)) for _ in range(2))
    actions = subject.round(rng.standard_normal((*shape[:2], ACTIONS)))
    return Draw(z1=z1, actions=actions, seed=seed, z0=z0, tau=tau, d=d)


@st.composite
def draws(
    draw: st.DrawFn, subject: Subject, route: str, *, max_batch: int = 3, min_time: int = 1, max_time: int = 4
) -> Draw:
    """One loss evaluation through `route`, of random shape."""
    fewest = subject.adapter.min_batch if route == "dynamics_loss" else 1
    batch = draw(st.integers(fewest, max(fewest, max_batch)))
    shape = (batch, draw(st.integers(min_time, max_time)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    return draw_contents(subject, draw(seeds()), shape)
