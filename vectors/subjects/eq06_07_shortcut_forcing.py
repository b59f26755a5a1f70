"""Vectors of Eq. (6)-(8): the shortcut forcing loss of a network that is a table, and its bootstrap target.

"gradient.theta" is the derivative of the loss with respect to a number θ = 0 that is added to every output of the
network: it differs if a gradient flows through a teacher call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.expected_loss import Expectation, expect
from dreamer4_conformance.instruments.subject import Draw, Subject
from dreamer4_conformance.judging.loss_evaluations import K_LOSS
from dreamer4_reference.eq06_07_shortcut_forcing import average, bootstrap_target, shortcut_forcing_loss
from vectors.network import TableNetwork
from vectors.vector import EPS32, TINY32, Output, Vector, draw, options, within

DEFAULTS = {"A7": "both", "A8": "mean", "A27": "joint"}
K_STATE = 6
"""That of the check of eq07.teacher-state."""
K_ZERO = 64
"""That of the check of eq07.perfect, whose terms are squares of rounding errors."""


class ReferenceLoss(Adapter):
    """The reference as an adapter, from whose calls `expect` computes the terms of the loss."""

    dtype = "float64"

    def dynamics_loss_at(self, network: Any, z1: Any, z0: Any, tau: Any, d: Any, actions: Any) -> np.ndarray:
        """The loss of every timestep, averaged as the readings say."""
        loss = shortcut_forcing_loss(network, z0, z1, tau, d, actions, k_max=self.k_max, **self._options)
        return np.asarray(average(loss, d, k_max=self.k_max, averaging=self._averaging))

    @property
    def _options(self) -> Any:
        return {"norm": self.readings["A8"], "weighted": self.readings["A7"]}

    @property
    def _averaging(self) -> Any:
        return self.readings["A27"]


def _network(tau: np.ndarray, d: np.ndarray, k_max: int, scale: float, action_gain: float) -> TableNetwork:
    """Rows for all labels of student and teacher, with gains and offsets that differ."""
    halves = d * k_max > 1
    half = d[halves] / 2
    pairs = [(tau, d), (tau[halves], half), (tau[halves] + half, half)]
    labels = sorted({label for x, y in pairs for label in zip(x.ravel().tolist(), y.ravel().tolist(), strict=True)})
    gains, offsets = draw(11, len(labels), limit=0.875), scale * draw(12, len(labels), 2, 2)
    rows = dict(zip(labels, zip(gains.tolist(), offsets, strict=True), strict=True))
    return TableNetwork(action_gain=action_gain, rows=rows)


def _flags(tau: np.ndarray, d: np.ndarray, k_max: int) -> tuple[str, ...]:
    batch, time = tau.shape
    tests = {
        "d_min": (d * k_max == 1).any(),
        "above_d_min": (d * k_max > 1).any(),
        "mixed_steps": (d != d[:, :1]).any(),
        "tau_zero": (tau == 0).any(),
        "tau_last": (tau + d == 1).any(),
        "batch_one": batch == 1,
        "time_one": time == 1,
        "square_batch": batch == time,
    }
    return tuple(name for name, holds in tests.items() if holds)


def _expectation(
    network: TableNetwork, arguments: Draw, k_max: int, readings: dict[str, str]
) -> tuple[float, Expectation]:
    adapter = ReferenceLoss()
    adapter.k_max, adapter.readings = k_max, DEFAULTS | readings
    subject = Subject(adapter)
    evaluation = subject.evaluate("dynamics_loss_at", network, arguments)
    return evaluation.mean, expect(subject, evaluation)


def _loss(
    name: str,
    clause: str,
    tau: list[list[float]],
    d: list[list[float]],
    k_max: int = 64,
    *,
    scale: float = 1.0,
    action_gain: float = 0.0,
    network: TableNetwork | None = None,
    z1: np.ndarray | None = None,
    readings: dict[str, str] | None = None,
) -> Vector:
    readings = readings or {}
    labels = np.array(tau), np.array(d)
    shape = (*labels[0].shape, 2, 2)
    network = _network(*labels, k_max, scale, action_gain) if network is None else network
    z1 = scale * draw(1, *shape) if z1 is None else z1
    arguments = Draw(z1=z1, actions=draw(3, *shape[:2], 3), z0=draw(2, *shape), tau=labels[0], d=labels[1])
    inputs = {"network": network.encoded, "z1": z1, "z0": arguments.z0, "tau": labels[0], "d": labels[1]}
    outputs = _outputs(network, arguments, k_max, readings)
    flags = (*_flags(*labels, k_max), *(["actions"] if action_gain else []), *(["large_values"] if scale > 1 else []))
    chosen = options(**DEFAULTS | readings) | (options(A3="timestep") if "mixed_steps" in flags else {})
    inputs["actions"] = arguments.actions
    return Vector(name, "dynamics_loss_at", clause, inputs, outputs, flags, chosen, {"k_max": k_max})


def _outputs(network: TableNetwork, arguments: Draw, k_max: int, readings: dict[str, str]) -> dict[str, Output]:
    loss, expected = _expectation(network, arguments, k_max, readings)
    theta, theta_terms = (float(expected.gradient(x).sum()) for x in (expected.error, expected.magnitude))
    outputs = {"loss": within(loss, expected.loss_terms, K_LOSS), "gradient.theta": within(theta, theta_terms, K_LOSS)}
    if "A27" not in readings:
        order = np.argsort(expected.rows)
        outputs["timesteps"] = within(expected.timesteps[order], expected.terms[order], K_LOSS)
    return outputs


def _perfect() -> Vector:
    """A network that returns the data: the loss is 0 up to the square of a rounding error."""
    tau, d = [[0.0, 0.5, 0.75], [0.0, 0.25, 63 / 64]], [[1.0, 0.5, 0.25], [0.5, 1 / 32, 1 / 64]]
    data = draw(5, 2, 2)
    rows = dict.fromkeys(_network(np.array(tau), np.array(d), 64, 1.0, 0.0).rows, (0.0, data))
    vector = _loss(
        "perfect-predictor",
        "eq07.perfect",
        tau,
        d,
        network=TableNetwork(action_gain=0.0, rows=rows),
        z1=np.broadcast_to(data, (2, 3, 2, 2)).copy(),
    )
    square = EPS32 * (4 * (np.abs(vector.inputs["z1"]) + np.abs(vector.inputs["z0"]))) ** 2
    bounds = {"loss": square.mean(), "timesteps": square.mean((2, 3))}
    outputs = {name: within(np.zeros(np.shape(terms)), terms, K_ZERO) for name, terms in bounds.items()}
    return replace(vector, outputs=outputs)


def _not_a_number() -> Vector:
    """Data with a NaN at d_min: the loss must not be finite."""
    vector = _loss("nan", "eq07.nan-visible", [[0.25, 0.5], [0.75, 0.0]], [[1 / 64] * 2] * 2)
    z1 = vector.inputs["z1"].copy()
    z1[1, 0, 0, 1] = np.nan
    outputs = {"loss": Output(np.array(np.nan), np.array(TINY32))}
    return replace(
        vector, inputs={**vector.inputs, "z1": z1}, outputs=outputs, flags=(*vector.flags, "not_finite"), readings={}
    )


def _target(name: str, tau: list[float], d: list[float], *flags: str) -> Vector:
    labels = np.array([tau]), np.array([d])
    z, first, second = (draw(seed, 1, len(tau), 2, 2) for seed in (1, 2, 3))
    answers = iter((first, second))
    b_prime, z_prime, b_double_prime = bootstrap_target(lambda *arguments: next(answers), z, *labels)
    remaining, half = (x[:, :, None, None] for x in (1 - labels[0], labels[1] / 2))
    state = np.abs(z) + (np.abs(first) + np.abs(z)) * half / remaining
    second_terms = (np.abs(second) + state) * remaining / (remaining - half)
    terms = np.abs(z) + (np.abs(first) + np.abs(z) + second_terms) / 2
    outputs = {
        "z_prime": within(z_prime, state, K_STATE),
        "target": within(z + remaining * (b_prime + b_double_prime) / 2, terms, K_LOSS),
    }
    inputs = {"z_tilde": z, "tau": labels[0], "d": labels[1], "first": first, "second": second}
    return Vector(name, "bootstrap_target", "eq07.teacher-state", inputs, outputs, ("batch_one", "above_d_min", *flags))


MIXED = [[0.5, 0.0, 0.25], [0.75, 63 / 64, 0.875]], [[0.5, 1.0, 1 / 64], [0.25, 1 / 64, 1 / 16]]


def vectors() -> Iterator[Vector]:
    """Flow and bootstrap terms alone and mixed, all shapes, large errors, other readings, and the target alone."""
    yield _target("inside", [0.0, 0.25, 0.5], [0.5, 0.25, 1 / 32], "tau_zero")
    yield _target("last-levels", [0.0, 0.5, 0.75, 31 / 32], [1.0, 0.5, 0.25, 1 / 32], "tau_zero", "tau_last")
    finest = [[0.0, 0.5, 1 / 64], [0.25, 0.75, 63 / 64]], [[1 / 64] * 3] * 2
    yield _loss("flow", "eq07.flow-value", *finest)
    halves = [[0.0, 0.5, 0.0], [0.25, 0.875, 0.5]], [[0.5] * 3, [0.125] * 3]
    yield _loss("bootstrap", "eq07.bootstrap-value", *halves)
    yield _loss("one-frame", "eq07.batch-shapes", [[0.5]], [[0.25]])
    yield _loss("one-video", "eq07.batch-shapes", [[0.0, 0.5, 0.25]], [[0.25] * 3])
    yield _loss("square", "eq07.batch-shapes", [[0.5, 0.75], [0.0, 0.5]], [[0.25] * 2, [1 / 64] * 2])
    yield _loss("images", "eq07.batch-shapes", [[0.5], [0.0], [0.75]], [[0.5], [1.0], [1 / 64]])
    yield _loss("full-step", "eq07.teacher-labels", [[0.0, 0.0]], [[1.0] * 2])
    yield _loss("last-levels", "eq07.teacher-labels", [[0.5, 0.5], [0.75, 0.75]], [[0.5] * 2, [0.25] * 2])
    yield _loss("mixed", "eq07.mixed-steps", *MIXED)
    yield _loss(
        "k-max-8", "eq07.flow-only-at-dmin", [[0.5, 0.125, 0.75], [0.25, 0.5, 0.75]], [[0.125] * 3, [0.25] * 3], 8
    )
    yield _loss(
        "large-errors", "eq07.absolute", [[0.25, 0.5, 0.0], [0.5, 0.25, 0.75]], [[1 / 64] * 3, [0.25] * 3], scale=128.0
    )
    conditioned = [[0.0, 0.5], [0.25, 0.75], [0.5, 0.0]], [[0.5] * 2, [0.25] * 2, [1 / 64] * 2]
    yield _loss("actions", "eq07.actions", *conditioned, action_gain=0.25)
    for reading, option in (("A8", "sum"), ("A7", "flow"), ("A27", "per_term")):
        name, clause = f"mixed-{reading}-{option}", "eq08.applied" if reading == "A7" else "eq07.absolute"
        yield _loss(name, clause, *MIXED, readings={reading: option})
    yield _perfect()
    yield _not_a_number()
