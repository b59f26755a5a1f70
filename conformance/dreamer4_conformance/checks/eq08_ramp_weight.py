"""Checks of Eq. (8): the ramp weight, by itself and where the loss applies it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.expected_loss import Expectation, expect
from dreamer4_conformance.instruments.inputs import draw_inputs
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.subject import LOSSES, Evaluation, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import signature
from dreamer4_conformance.judging.strategies import levels
from dreamer4_reference.eq08_ramp_weight import ramp_weight


@check("eq08.value", needs=("ramp_weight",))
def check_weight_is_the_ramp(subject: Subject, trial: Trial) -> None:
    """Terms: 0.9 τ + 0.1, each rounded once; in noise levels 1 − τ is exact on multiples of 1/256."""

    def holds(tau: np.ndarray) -> None:
        got, expected = subject.ramp_weight(tau), ramp_weight(tau)
        call = f"ramp_weight({subject.level(tau).tolist()})"
        trial.compare("w", got, expected, terms=np.ones_like(tau), k=4, eps=subject.eps, call=call)

    trial.for_all(levels(), body=holds)


@check("eq08.elementwise", needs=("ramp_weight",))
def check_weight_of_one_timestep_is_its_own(subject: Subject, trial: Trial) -> None:
    """The weight of an element within a (B, T) batch is its weight alone, for every shape, a scalar included."""

    def holds(tau: np.ndarray, batch: int) -> None:
        grid = np.stack([np.roll(tau, shift) for shift in range(batch)])
        alone = np.array([[subject.ramp_weight(level.reshape(())).item() for level in row] for row in grid])
        call = f"ramp_weight({subject.level(grid).tolist()})"
        got = subject.ramp_weight(grid)
        trial.compare("w within a batch", got, alone, terms=np.ones_like(grid), k=4, eps=subject.eps, call=call)

    trial.for_all(levels(min_size=4, max_size=6), st.integers(1, 3), body=holds)


@check("eq08.applied", needs_one=LOSSES)
def check_loss_applies_the_weight_to_each_timestep(subject: Subject, trial: Trial) -> None:
    """The loss over the unweighted error is proportional to w, timestep by timestep and in both terms (A7).

    Only proportional: a hidden factor is a matter of eq07.absolute.
    """
    for route in subject.loss_routes():
        weighed = [_weights_of_singles(subject, trial)] if route == "dynamics_loss_at" else []
        for weights in [*weighed, *_weights_of_draws(subject, trial, route)]:
            if len(weights.seen) > 1:
                _judge_proportional(trial, weights, f"{route}(network, …)")
    if trial.cases == 0:
        trial.inconclusive("no timestep can be weighed: gradients do not point along the paper's, or rounding hides it")


@dataclass(frozen=True)
class Weights:
    """Of N timesteps: effective weights, the weights that are due, the relative rounding error of the former, τ and d."""

    seen: np.ndarray
    due: np.ndarray
    slack: np.ndarray
    tau: np.ndarray
    d: np.ndarray


def _judge_proportional(trial: Trial, weights: Weights, call: str) -> None:
    due = weights.due
    factor = float((weights.seen * due).sum() / (due * due).sum())
    seen, terms = weights.seen / factor if factor else weights.seen, due * (weights.slack + weights.slack.max())
    distance = np.abs(seen - due) / terms
    worst = int(np.argmax(np.where(np.isfinite(distance), distance, np.inf)))
    place = f"τ = {weights.tau[worst]:g}, d = {weights.d[worst]:g}"
    what = f"up to a common factor, the weight of the loss at {place}"
    trial.compare(what, seen, due, terms=terms, k=1, eps=1, call=f"{call} at {place}")


def _weights_of_draws(subject: Subject, trial: Trial, route: str) -> list[Weights]:
    """Of six evaluations, or as many more as it takes to find timesteps that can be weighed: up to thirty."""
    weighed: list[Weights] = []
    while len(weighed) < 6 or (len(weighed) < 30 and not any(len(one.seen) > 1 for one in weighed)):
        shape = (max(3, subject.adapter.min_batch), 4, 2, 3)
        evaluation = subject.evaluate(route, AFFINE, draw_inputs(subject, trial.seed + len(weighed), shape))
        weighed.append(_weights_within(expect(subject, evaluation), evaluation, subject.eps))
    return weighed


def _relative_rounding(expected: Expectation, eps: float) -> np.ndarray:
    return 32 * eps * np.sqrt(expected.terms / np.maximum(expected.timesteps, 1e-300)) + 4 * eps


def _weights_within(expected: Expectation, evaluation: Evaluation, eps: float) -> Weights:
    """Of the timesteps of one evaluation: from a (B, T) loss, else from the gradient where it points along the paper's."""
    slack = _relative_rounding(expected, eps)
    if evaluation.loss.ndim == 2:
        seen, along = evaluation.loss[expected.rows] / expected.unweighted, slack < 0.05
    elif expected.observed_gradient is not None:
        due = expected.gradient(expected.error) / expected.weight[:, :, None, None]
        square = (due**2).sum((2, 3))
        seen = (expected.observed_gradient * due).sum((2, 3)) / square
        gap = ((expected.observed_gradient - seen[:, :, None, None] * due) ** 2).sum((2, 3))
        along = (gap <= (0.01 * seen) ** 2 * square) & (slack < 0.05)
    else:
        return Weights(*np.empty((5, 0)))
    return Weights(*(array[along] for array in (seen, expected.weight, slack, expected.tau, expected.d)))


def _weights_of_singles(subject: Subject, trial: Trial) -> Weights:
    """Of single timesteps at d_min and above it, each in a batch of its own: needs no gradient."""
    found = []
    for numerator in range(0, subject.k_max, max(1, subject.k_max // 8)):
        tau = numerator / subject.k_max
        for d in {subject.d_min, min(1.0, 2 * subject.d_min)}:
            if tau % d == 0 and tau + d <= 1:
                draw = draw_inputs(subject, trial.seed, (1, 1, 2, 3), np.full((1, 1), tau), np.full((1, 1), d))
                evaluation = subject.evaluate("dynamics_loss_at", AFFINE, draw)
                expected = expect(subject, evaluation)
                seen, due = evaluation.mean / expected.unweighted.item(), expected.weight.item()
                found.append((seen, due, _relative_rounding(expected, subject.eps).item(), tau, d))
    return Weights(*np.array(found).T)


@signature("ramp_weight")
def signature_weight_along_the_levels(subject: Subject) -> np.ndarray:
    """w at five levels, then at two of them within one batch."""
    apart = subject.ramp_weight(np.linspace(0.0, 1.0, 5))
    return np.concatenate([apart, subject.ramp_weight(np.array([0.25, 1.0]))])
