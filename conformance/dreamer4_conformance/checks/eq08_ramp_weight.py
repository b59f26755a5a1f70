"""Checks of Eq. (8): the ramp weight as a function, and as the loss applies it."""

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
    """w is 0.9 τ + 0.1. Terms: 0.9 τ + 0.1, each rounded once; levels are multiples of 1/256, exact as 1 − τ too."""

    def holds(tau: np.ndarray) -> None:
        got, expected = subject.ramp_weight(tau), ramp_weight(tau)
        call = f"ramp_weight({subject.level(tau).tolist()})"
        trial.compare("w", got, expected, terms=np.ones_like(tau), k=4, eps=subject.eps, call=call)

    trial.for_all(levels(), body=holds)


@check("eq08.elementwise", needs=("ramp_weight",))
def check_weight_depends_only_on_the_level_of_its_timestep(subject: Subject, trial: Trial) -> None:
    """The weight of an element of a (B, T) batch equals the weight of that level as a scalar. Within rounding."""

    def holds(tau: np.ndarray, batch: int) -> None:
        grid = np.stack([np.roll(tau, shift) for shift in range(batch)])
        scalar = np.array([[subject.ramp_weight(level.reshape(())).item() for level in row] for row in grid])
        call = f"ramp_weight({subject.level(grid).tolist()})"
        got = subject.ramp_weight(grid)
        trial.compare("w within a batch", got, scalar, terms=np.ones_like(grid), k=4, eps=subject.eps, call=call)

    trial.for_all(levels(min_size=4, max_size=6), st.integers(1, 3), body=holds)


@check("eq08.applied", needs_one=LOSSES)
def check_loss_applies_the_weight_to_each_timestep(subject: Subject, trial: Trial) -> None:
    """The loss divided by the unweighted error is proportional to w, for every timestep and in both terms (A7).

    A common factor is allowed here; eq07.absolute judges it.
    """
    for route in subject.loss_routes():
        estimates = [_weights_of_singles(subject, trial)] if route == "dynamics_loss_at" else []
        for weights in [*estimates, *_weights_of_draws(subject, trial, route)]:
            if len(weights.observed) > 1:
                _judge_proportional(trial, weights, f"{route}(network, …)")
    if trial.cases == 0:
        trial.inconclusive("no weight can be estimated: no gradient is parallel to the paper's, or rounding hides it")


@dataclass(frozen=True)
class Weights:
    """Arrays (N,) for N timesteps: weight that the loss applies, w of Eq. (8), relative rounding error, τ and d."""

    observed: np.ndarray
    expected: np.ndarray
    slack: np.ndarray
    tau: np.ndarray
    d: np.ndarray


def _judge_proportional(trial: Trial, weights: Weights, call: str) -> None:
    expected = weights.expected
    factor = float((weights.observed * expected).sum() / (expected * expected).sum())
    got = weights.observed / factor if factor else weights.observed
    terms = expected * (weights.slack + weights.slack.max())
    distance = np.abs(got - expected) / terms
    worst = int(np.argmax(np.where(np.isfinite(distance), distance, np.inf)))
    labels = f"τ = {weights.tau[worst]:g}, d = {weights.d[worst]:g}"
    name = f"up to a common factor, the weight of the loss at {labels}"
    trial.compare(name, got, expected, terms=terms, k=1, eps=1, call=f"{call} at {labels}")


def _weights_of_draws(subject: Subject, trial: Trial, route: str) -> list[Weights]:
    """Estimates from six evaluations, or from up to thirty until one has two timesteps with an estimate."""
    estimates: list[Weights] = []
    shape = (max(3, subject.adapter.min_batch), 4, 2, 3)
    while len(estimates) < 6 or (len(estimates) < 30 and all(len(weights.observed) < 2 for weights in estimates)):
        evaluation = subject.evaluate(route, AFFINE, draw_inputs(subject, trial.seed + len(estimates), shape))
        estimates.append(_weights_within(expect(subject, evaluation), evaluation, subject.eps))
    return estimates


def _relative_rounding(expected: Expectation, eps: float) -> np.ndarray:
    return 32 * eps * np.sqrt(expected.terms / np.maximum(expected.timesteps, 1e-300)) + 4 * eps


def _weights_within(expected: Expectation, evaluation: Evaluation, eps: float) -> Weights:
    """Estimates from a (B, T) loss, else from the gradient at timesteps where it is parallel to the paper's."""
    slack = _relative_rounding(expected, eps)
    if evaluation.loss.ndim == 2:
        observed, parallel = evaluation.loss[expected.rows] / expected.unweighted, np.ones_like(slack, bool)
    elif expected.observed_gradient is not None:
        unweighted = expected.gradient(expected.error) / expected.weight[:, :, None, None]
        square = (unweighted**2).sum((2, 3))
        observed = (expected.observed_gradient * unweighted).sum((2, 3)) / square
        gap = ((expected.observed_gradient - observed[:, :, None, None] * unweighted) ** 2).sum((2, 3))
        parallel = gap <= (0.01 * observed) ** 2 * square
    else:
        return Weights(*np.empty((5, 0)))
    usable = parallel & (slack < 0.05)
    return Weights(*(array[usable] for array in (observed, expected.weight, slack, expected.tau, expected.d)))


def _weights_of_singles(subject: Subject, trial: Trial) -> Weights:
    """Estimates from batches of one timestep, at d_min and at 2 d_min; these need no gradient."""
    rows = []
    for numerator in range(0, subject.k_max, max(1, subject.k_max // 8)):
        tau = numerator / subject.k_max
        for d in {subject.d_min, min(1.0, 2 * subject.d_min)}:
            if tau % d == 0 and tau + d <= 1:
                draw = draw_inputs(subject, trial.seed, (1, 1, 2, 3), np.full((1, 1), tau), np.full((1, 1), d))
                evaluation = subject.evaluate("dynamics_loss_at", AFFINE, draw)
                expected = expect(subject, evaluation)
                observed, slack = (
                    evaluation.mean / expected.unweighted.item(),
                    _relative_rounding(expected, subject.eps),
                )
                rows.append((observed, expected.weight.item(), slack.item(), tau, d))
    return Weights(*np.array(rows).T)


@signature("ramp_weight")
def signature_weight_along_the_levels(subject: Subject) -> np.ndarray:
    """w at five levels in one batch, then at two of these levels in another."""
    return np.concatenate([subject.ramp_weight(tau) for tau in (np.linspace(0.0, 1.0, 5), np.array([0.25, 1.0]))])
