"""Checks of Eq. (8): the ramp weight as a function, and as the loss applies it."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.expected_loss import expect
from dreamer4_conformance.instruments.inputs import draw_inputs, smallest_batch
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.shapes import suite_shapes
from dreamer4_conformance.instruments.subject import LOSSES, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import signature
from dreamer4_conformance.judging.loss_weights import Weights, relative_rounding, weights_of_draws
from dreamer4_conformance.judging.strategies import lengths
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed
from dreamer4_reference.eq08_ramp_weight import ramp_weight


def grid_levels(subject: Subject, min_size: int = 1, max_size: int = 6) -> st.SearchStrategy[np.ndarray]:
    """Signal levels (N,) that training draws, multiples of 1/K_max below 1: their weights may stand in a table."""
    fewest = suite_shapes(subject).shortest(min_size, max_size)
    numerators = st.lists(st.integers(0, subject.k_max - 1), min_size=fewest, max_size=max_size)
    return numerators.map(lambda values: np.array(values, np.float64) / subject.k_max)


@check("eq08.value", needs=("ramp_weight",))
def check_weight_is_the_ramp(subject: Subject, trial: Trial) -> None:
    """w is 0.9 τ + 0.1 at every level of the grid, and at clean data if `ramp_weight` takes it.

    Terms: 0.9 τ + 0.1, each rounded once; the levels are exact, as 1 − τ too.
    """

    def holds(tau: np.ndarray) -> None:
        got, expected = subject.ramp_weight(tau), ramp_weight(tau)
        call = f"ramp_weight({subject.level(tau).tolist()})"
        trial.compare("w", got, expected, terms=np.ones_like(tau), k=4, eps=subject.eps, call=call)

    trial.for_all(grid_levels(subject), body=holds)
    clean = np.ones(2)
    with suppress(OperationFailed):
        subject.ramp_weight(clean)
        holds(clean)


@check("eq08.elementwise", needs=("ramp_weight",))
def check_weight_depends_only_on_the_level_of_its_timestep(subject: Subject, trial: Trial) -> None:
    """The weight of an element of a (B, T) batch equals the weight of that level as a scalar. Within rounding."""

    def holds(tau: np.ndarray, batch: int) -> None:
        grid = np.stack([np.roll(tau, shift) for shift in range(batch)])
        scalar = np.array([[subject.ramp_weight(level.reshape(())).item() for level in row] for row in grid])
        call = f"ramp_weight({subject.level(grid).tolist()})"
        got = subject.ramp_weight(grid)
        trial.compare(
            "w within a batch",
            got,
            scalar,
            terms=np.ones_like(grid),
            k=4,
            eps=subject.eps,
            call=call,
            required_by="adapter",
        )

    trial.for_all(grid_levels(subject, min_size=4), lengths(subject, 1, 3), body=holds)


@check("eq08.applied", needs_one=LOSSES)
def check_loss_applies_the_weight_to_each_timestep(subject: Subject, trial: Trial) -> None:
    """The loss divided by the unweighted error is proportional to w, for every timestep and in both terms (A7).

    Timesteps of one evaluation are compared, so a common factor is allowed here; eq07.absolute judges it. They must
    have different weights w, and some must be above d_min, otherwise the clause is not decided. With K_max = 1 there is
    one weight, 0.1, which is compared as it is.
    """
    for route in subject.loss_routes():
        estimates = weights_of_draws(subject, route, trial.seed)
        if route == "dynamics_loss_at" and not any(len(weights.observed) for weights in estimates):
            estimates = [_weights_of_singles(subject, trial)]
        for weights in estimates:
            if subject.k_max == 1 and weights.expected.size:
                _judge_proportional(trial, weights, f"{route}(network, …)", factor=1.0)
            elif weights.expected.size and np.ptp(weights.expected) > 0.1:
                _judge_proportional(trial, weights, f"{route}(network, …)")
        if any(weights.hidden for weights in estimates) and not any(weights.bootstrap.any() for weights in estimates):
            trial.inconclusive("the weight above d_min cannot be read: the error there is not the paper's")
    if trial.cases == 0:
        trial.inconclusive("no weight can be estimated: no gradient is parallel to the paper's, or rounding hides it")


def _judge_proportional(trial: Trial, weights: Weights, call: str, factor: float | None = None) -> None:
    expected = weights.expected
    name = "the weight" if factor else "up to a common factor, the weight"
    factor = factor or float((weights.observed * expected).sum() / (expected * expected).sum())
    got = weights.observed / factor if factor else weights.observed
    terms = expected * (weights.slack + weights.slack.max())
    distance = np.abs(got - expected) / terms
    worst = int(np.argmax(np.where(np.isfinite(distance), distance, np.inf)))
    labels = f"τ = {weights.tau[worst]:g}, d = {weights.d[worst]:g}"
    trial.compare(f"{name} of the loss at {labels}", got, expected, terms=terms, k=1, eps=1, call=f"{call} at {labels}")


def _weights_of_singles(subject: Subject, trial: Trial) -> Weights:
    """Estimates from batches with one pair (τ, d), at d_min and at 2 d_min; these need no gradient."""
    rows = []
    batch = smallest_batch(subject, "dynamics_loss_at")
    for numerator in range(0, subject.k_max, max(1, subject.k_max // 8)):
        tau = numerator / subject.k_max
        for d in {subject.d_min, min(1.0, 2 * subject.d_min)}:
            if tau % d == 0 and tau + d <= 1:
                draw = draw_inputs(subject, trial.seed, (*batch, 2, 3), np.full(batch, tau), np.full(batch, d))
                evaluation = subject.evaluate("dynamics_loss_at", AFFINE, draw)
                expected = expect(subject, evaluation)
                observed, weight = evaluation.mean / expected.unweighted.mean(), expected.weight.flat[0]
                slack = relative_rounding(expected, subject.eps).max()
                rows.append((observed, weight, slack, tau, d, expected.bootstrap.flat[0]))
    return Weights(*np.array(rows).T)


@signature("ramp_weight")
def signature_weight_along_the_levels(subject: Subject) -> np.ndarray:
    """w at five levels in one batch, then at two of these levels in another."""
    return np.concatenate([subject.ramp_weight(tau) for tau in (np.linspace(0.0, 1.0, 5), np.array([0.25, 1.0]))])


@signature("dynamics_loss_at", tolerance=1e-2)
def signature_weights_at_given_levels(subject: Subject) -> np.ndarray:
    """Weights of the flow term of `dynamics_loss_at`, whatever the bootstrap term is."""
    return _fitted_ramp(subject, "dynamics_loss_at")


@signature("dynamics_loss", tolerance=1e-2)
def signature_weights_at_drawn_levels(subject: Subject) -> np.ndarray:
    """Weights of the flow term of `dynamics_loss`, whatever the bootstrap term is."""
    return _fitted_ramp(subject, "dynamics_loss")


def _fitted_ramp(subject: Subject, route: str) -> np.ndarray:
    """(a, b, root mean square distance) / (a/2 + b) of the line a τ + b through the weights at d_min.

    Raises:
        Inconclusive: if the levels of the weights span less than 0.1.
    """
    estimates = weights_of_draws(subject, route, seed=0)
    tau, observed = (
        np.concatenate([np.zeros(0), *(getattr(weights, name)[~weights.bootstrap] for weights in estimates)])
        for name in ("tau", "observed")
    )
    if not tau.size or np.ptp(tau) < 0.1:
        raise Inconclusive("the weight is estimated at one level or none")
    line = np.polyfit(tau, observed, 1)
    distance = np.sqrt(((np.polyval(line, tau) - observed) ** 2).mean())
    return np.array([*line, distance]) / np.polyval(line, 0.5)
