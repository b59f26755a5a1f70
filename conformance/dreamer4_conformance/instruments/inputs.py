"""Inputs of the operations, drawn from a seed without Hypothesis: data, actions, and levels on the grid."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.recorder import CONSTANT
from dreamer4_conformance.instruments.shapes import suite_shapes
from dreamer4_conformance.instruments.subject import Draw, Subject
from dreamer4_conformance.verdicts import Inconclusive, NotProvided, OperationFailed

ACTION_WIDTH = 3
"""Width of the action vectors that the suite passes."""


def input_rng(seed: int) -> np.random.Generator:
    """Generator of data and actions.

    Its stream is separate, so that an adapter that seeds NumPy with the same seed does not draw z1 as its noise.
    """
    return np.random.default_rng([seed, 2509, 24527])


def draw_grid_pairs(
    rng: np.random.Generator, k_max: int, shape: tuple[int, int], per: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draw tau and d of Eq. (4), both (B, T); d per "timestep" or per "sequence"."""
    finest = int(np.log2(k_max))
    rows, columns = shape
    exponent = rng.integers(0, finest + 1, (rows, columns if per == "timestep" else 1))
    steps = np.broadcast_to(2**exponent, shape)
    return rng.integers(0, steps) / steps, 1.0 / steps


def draw_inputs(
    subject: Subject,
    seed: int,
    shape: tuple[int, int, int, int],
    tau: np.ndarray | None = None,
    d: np.ndarray | None = None,
    *,
    scale: float = 1.0,
) -> Draw:
    """Draw data, noise and actions of shape (B, T, S, D) from `seed`.

    Without tau and d, (B, T), they are drawn by Eq. (4) under the adapter's reading A3. The data has the standard
    deviation `scale`, the noise 1.
    """
    rng = input_rng(seed)
    if tau is None or d is None:
        tau, d = draw_grid_pairs(rng, subject.k_max, shape[:2], subject.readings["A3"])
    z1, z0 = (subject.round(factor * rng.standard_normal(shape)) for factor in (scale, 1.0))
    actions = subject.round(rng.standard_normal((*shape[:2], ACTION_WIDTH)))
    return Draw(z1=z1, actions=actions, seed=seed, z0=z0, tau=tau, d=d)


SMALL = ((1, 1), (1, 2), (2, 2), (3, 4), (3, 3))
"""Batches (B, T) to which `smallest_batch` turns; one of the last two works for every adapter that is valid."""


def fewest_rows(subject: Subject, route: str) -> int:
    """Smallest B of a route: only the loss that draws its levels depends on `min_batch`."""
    return subject.adapter.min_batch if route == "dynamics_loss" else 1


def works_at(subject: Subject, route: str, shape: tuple[int, ...]) -> bool:
    """False if a loss raises on ordinary data of shape (B, T, S, D) with any seed; eq07.batch-shapes judges that."""
    batch, time, tokens, channels = shape
    key = f"{route} at {shape}"
    if key not in subject.working:
        inputs = [draw_inputs(subject, seed, (batch, time, tokens, channels)) for seed in range(3)]
        subject.working[key] = any(_returns(subject, route, draw) for draw in inputs)
    return subject.working[key]


def _returns(subject: Subject, route: str, draw: Draw) -> bool:
    try:
        subject.evaluate(route, CONSTANT, draw)
    except (OperationFailed, NotProvided, Inconclusive):
        return False
    return True


RECOGNISABLE = 8.0
"""Standard deviation of data whose rows differ by more than the noise."""


def ordinary_shape(subject: Subject, route: str) -> tuple[int, int, int, int]:
    """(B, T, S, D) of an ordinary batch of a loss."""
    batch, time = suite_shapes(subject).ordinary
    return max(batch, fewest_rows(subject, route)), max(time, subject.adapter.min_time), 2, 3


def largest_scale(subject: Subject, route: str) -> float:
    """`RECOGNISABLE`, or 1 if the loss refuses such data: a tanh bounds latents."""
    shape = ordinary_shape(subject, route)
    key = f"{route} at scale {RECOGNISABLE}"
    if key not in subject.working:
        subject.working[key] = _returns(subject, route, draw_inputs(subject, 0, shape, scale=RECOGNISABLE))
    return RECOGNISABLE if subject.working[key] else 1.0


def smallest_batch(subject: Subject, route: str) -> tuple[int, int]:
    """Smallest (B, T) that `min_batch` and `min_time` allow and at which the loss works."""
    rows, frames = fewest_rows(subject, route), subject.adapter.min_time
    allowed = [(max(batch, rows), max(time, frames)) for batch, time in SMALL]
    return next((pair for pair in allowed if works_at(subject, route, (*pair, 2, 3))), allowed[0])


def working_batch(subject: Subject, route: str, batch: int, time: int) -> tuple[int, int]:
    """(B, T) at which a loss works: the one passed in, as large as `min_batch` and `min_time`, or a similar one."""
    batch, time = max(batch, fewest_rows(subject, route)), max(time, subject.adapter.min_time)
    similar = [(batch, time), (batch, time + 1), (max(batch, time), max(batch, time))]
    return next((pair for pair in similar if works_at(subject, route, (*pair, 2, 3))), similar[0])


def moved_by_rounding(subject: Subject, x: np.ndarray) -> np.ndarray:
    """x with a relative change of about one rounding error."""
    return subject.round(x * (1 + 2 * subject.eps))


def fixed_values(*shape: int) -> np.ndarray:
    """Multiples of 1/8 in [−1, 1], unordered: exact in every dtype."""
    return np.asarray((np.arange(np.prod(shape)) * 7 % 17 - 8).reshape(shape) / 8)
