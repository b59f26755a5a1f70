"""Weights that a loss applies to its timesteps, estimated from its values or gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dreamer4_conformance.instruments.expected_loss import Expectation, expect
from dreamer4_conformance.instruments.inputs import draw_inputs, working_batch
from dreamer4_conformance.instruments.recorder import AnalyticNetwork
from dreamer4_conformance.instruments.shapes import suite_shapes
from dreamer4_conformance.instruments.subject import Evaluation, Subject
from dreamer4_conformance.judging.check import Trial
from dreamer4_conformance.judging.loss_evaluations import certain_evaluations, same_data

Weight = Callable[[np.ndarray], np.ndarray]
"""Weights of signal levels, element by element."""


@dataclass(frozen=True)
class Weights:
    """Arrays (N,) for N timesteps of one evaluation: weight that the loss applies, w of Eq. (8), relative rounding
    error, τ, d, and whether d > d_min. `hidden` is the number of timesteps above d_min whose weight cannot be read.
    """

    observed: np.ndarray
    expected: np.ndarray
    slack: np.ndarray
    tau: np.ndarray
    d: np.ndarray
    bootstrap: np.ndarray
    hidden: int = field(default=0, kw_only=True)


def relative_rounding(expected: Expectation, eps: float) -> np.ndarray:
    """Relative rounding error of an estimated weight, (M, T)."""
    return 32 * eps * np.sqrt(expected.terms / np.maximum(expected.timesteps, 1e-300)) + 4 * eps


def weights_within(expected: Expectation, evaluation: Evaluation) -> Weights:
    """Estimates from the gradient at timesteps where it is parallel to the paper's, else from a (B, T) loss.

    Of a (B, T) loss only if all its rows are identified, also those of equal data.

    Parallel means within rounding: a gradient that another fault turns only slightly would be read as a wrong weight.
    """
    slack = relative_rounding(expected, evaluation.eps)
    if expected.observed_gradient is not None:
        unweighted = expected.gradient(expected.error) / expected.weight[:, :, None, None]
        square = (unweighted**2).sum((2, 3))
        observed = (expected.observed_gradient * unweighted).sum((2, 3)) / square
        gap = ((expected.observed_gradient - observed[:, :, None, None] * unweighted) ** 2).sum((2, 3))
        parallel = (gap <= (slack * observed) ** 2 * square) | (expected.observed_gradient == 0).all((2, 3))
    elif evaluation.loss.ndim == 2 and all(match.identified for match in evaluation.students):
        observed, parallel = evaluation.loss[expected.rows] / expected.unweighted, np.ones_like(slack, bool)
    else:
        nothing = np.zeros(0)
        return Weights(nothing, nothing, nothing, nothing, nothing, np.zeros(0, bool))
    usable = parallel & (slack < 0.05)
    arrays = (observed, expected.weight, slack, expected.tau, expected.d, expected.bootstrap)
    hidden = int((expected.bootstrap & ~parallel & (slack < 0.05)).sum())
    return Weights(*(array[usable] for array in arrays), hidden=hidden)


def weights_of_draws(subject: Subject, route: str, seed: int) -> list[Weights]:
    """Estimates from evaluations in which few errors are large.

    The network returns about the data, so that the errors are as small as rounding allows: a clamp or another limit of
    large errors, which eq07.absolute judges, does not change the weights. The rows are enough for two sequences at
    d_min even if d is drawn per sequence.
    """
    count, batch = suite_shapes(subject).weighted
    shape = (*working_batch(subject, route, *batch), 2, 3)
    deviation = 0.05 if subject.eps < 1e-4 else 1.0
    estimates = []
    for index in range(count):
        draw = same_data(draw_inputs(subject, seed + index, shape))
        network = AnalyticNetwork(slope=deviation, scale=deviation, data=draw.z1[0])
        for evaluation in certain_evaluations(subject, route, network, [draw], 1):
            estimates.append(weights_within(expect(subject, evaluation), evaluation))
    return estimates


def other_weights(subject: Subject, trial: Trial, route: str, bootstrap: bool) -> list[Weight]:
    """Weights besides the paper's that explain a term: the adapter's `ramp_weight`, none, or another ramp up to 1.

    A ramp is fitted to the estimates of all timesteps of the term, so that an error that grows otherwise with τ, as one
    in velocity space, is not taken for a weight.
    """
    weights: list[Weight] = [np.ones_like]
    if subject.provides("ramp_weight"):
        weights.append(subject.ramp_weight)
    estimates = weights_of_draws(subject, route, trial.seed)
    for up in (True, False):
        slopes = [_slope(estimate, bootstrap, up) for estimate in estimates]
        above = np.concatenate([slope for slope in slopes if slope.size] or [np.zeros(0)])
        if above.size > 2 and np.ptp(above) < 0.05:
            weights.append(_ramp(round(float(np.median(above)), 3), up))
    return weights


def _slope(estimate: Weights, bootstrap: bool, up: bool) -> np.ndarray:
    """Slope m of the ramp 1 − m (1 − τ), or of 1 − m τ, through each estimate of a term."""
    distance = 1 - estimate.tau if up else estimate.tau
    usable = (estimate.bootstrap == bootstrap) & (distance > 0.05)
    return np.asarray((1 - estimate.observed[usable]) / distance[usable])


def _ramp(slope: float, up: bool) -> Weight:
    return lambda tau: 1 - slope * (1 - tau if up else tau)
