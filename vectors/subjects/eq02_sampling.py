"""Vectors of Eq. (2): one Euler step, and a frame sampled from start noise.

A sampler that draws its noise can be judged too: the frame is affine in the noise, and the input `slope` is its
derivative.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.checks.eq02_sampling import K_STEP
from dreamer4_reference.eq02_sampling import euler_step, sample
from vectors.network import TableNetwork
from vectors.vector import Output, Vector, draw, exact, within

LARGEST_NOISE = 8.0
"""Bounds hold for start noise up to this size."""
LABEL = 1 / 128
"""Largest difference of a label: between two levels of a grid it counts as the level that it is embedded as (A10)."""


def _euler(name: str, tau: list[float], d: list[float], *flags: str) -> Vector:
    labels = np.array([tau]), np.array([d])
    z, z1_hat = (draw(seed, 1, len(tau), 2, 2) for seed in (1, 2))
    outputs = {"result": within(euler_step(z, z1_hat, *labels), np.abs(z) + np.abs(z1_hat), K_STEP)}
    inputs = {"z": z, "z1_hat": z1_hat, "tau": labels[0], "d": labels[1]}
    return Vector(name, "euler_step", "eq02.step", inputs, outputs, ("batch_one", *flags))


def _network(num_steps: int, width: int, keep: float, action_gain: float) -> TableNetwork:
    """Predictions inside (−1, 1), where a sampler that clamps to a tanh's range equals others."""
    labels = [(step / num_steps, 1 / num_steps) for step in range(num_steps)]
    gains = keep * (1 + draw(3, num_steps, limit=0.5))
    offsets = draw(4, num_steps, width, width, limit=0.25)
    rows = dict(zip(labels, zip(gains.tolist(), offsets, strict=True), strict=True))
    return TableNetwork(action_gain=action_gain, rows=rows, tolerance=LABEL)


def _frame(
    name: str,
    clause: str,
    num_steps: int,
    batch: int,
    *flags: str,
    keep: float = 1 / 16,
    action_gain: float = 0.0,
    width: int = 2,
) -> Vector:
    network = _network(num_steps, width, keep, action_gain)
    context, start = draw(5, batch, 2, width, width, limit=1.0), draw(6, batch, width, width, limit=6.0)
    actions = draw(7, batch, 3, 3, limit=1.0)

    def predict(z: np.ndarray, tau: np.ndarray, d: np.ndarray) -> np.ndarray:
        return network(z, tau, d, actions[:, -1:])

    frame = sample(predict, start[:, None], num_steps)[:, 0]
    slope = float(np.prod([1 + (gain - 1) / (num_steps - k) for k, (gain, _) in enumerate(network.rows.values())]))
    outputs = {"frame": within(frame, num_steps * (2 * LARGEST_NOISE), K_STEP)}
    if keep:  # otherwise no evaluation but the last changes the frame, and a recorder cannot tell which they are
        outputs["tau"] = Output(np.arange(num_steps) / num_steps, np.array(LABEL))
        outputs["d"] = exact(np.full(num_steps, 1 / num_steps))
    inputs = {
        "network": network.encoded,
        "context": context,
        "actions": actions,
        "num_steps": num_steps,
        "start": start,
        "slope": slope,
    }
    return Vector(name, "sample_frame", clause, inputs, outputs, flags)


def vectors() -> Iterator[Vector]:
    """Steps inside and at the end of the path; frames with K from 1 to 16, some of their start noise large."""
    yield _euler("inside", [0.0, 0.25, 0.5], [0.25, 0.125, 0.25], "tau_zero")
    yield _euler("last", [0.0, 0.5, 0.75, 63 / 64], [1.0, 0.5, 0.25, 1 / 64], "tau_zero", "tau_last")
    yield _frame("one-step", "eq02.endpoint", 1, 2, "one_step")
    yield _frame("two-steps", "eq02.step", 2, 1, "batch_one")
    yield _frame("four-steps", "eq02.calls", 4, 2)
    yield _frame("eight-steps", "eq02.step", 8, 1, "batch_one")
    yield _frame("sixteen-steps", "eq02.calls", 16, 1, "batch_one")
    yield _frame("wide", "eq02.step", 2, 2, width=8)
    yield _frame("actions", "eq02.actions", 2, 2, "actions", action_gain=1 / 32)
    yield _frame("constant-predictor", "eq02.endpoint", 4, 2, keep=0.0)
