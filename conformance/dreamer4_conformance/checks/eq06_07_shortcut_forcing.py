"""Checks of Eq. (6) and (7) on the value of the shortcut forcing loss."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from dreamer4_conformance.instruments.expected_loss import OUTSIDE_DOMAIN, Expectation, expect
from dreamer4_conformance.instruments.inputs import draw_inputs, smallest_batch, working_batch
from dreamer4_conformance.instruments.recorder import AFFINE, AnalyticNetwork, perfect
from dreamer4_conformance.instruments.shapes import suite_shapes
from dreamer4_conformance.instruments.subject import LOSSES, Draw, Evaluation, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.loss_evaluations import (
    NETWORKS,
    assume_valid_labels,
    compare,
    compare_gradient,
    compare_loss,
    every_draw,
    every_evaluation,
    same_data,
)
from dreamer4_conformance.judging.loss_weights import other_weights
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import Deviation, OperationFailed
from dreamer4_reference.eq04_grid import signal_levels, step_sizes


def compare_where(trial: Trial, evaluation: Evaluation, expected: Expectation, where: np.ndarray) -> None:
    """Compare the loss of the timesteps `where` (M, T); its gradient if these are not all.

    A loss of shape (B, T) is compared timestep by timestep. A scalar loss of a mixed batch is judged by gradients only.
    """
    if evaluation.loss.ndim == 2:
        got = evaluation.loss[expected.rows][where]
        compare(trial, evaluation, "the loss", got, expected.timesteps[where], expected.terms[where])
    elif where.all():
        compare(trial, evaluation, "the loss", evaluation.mean, expected.loss, expected.loss_terms)
    elif expected.observed_gradient is not None:
        compare_gradient(trial, evaluation, expected, where)


def compare_term(subject: Subject, trial: Trial, evaluation: Evaluation, *, bootstrap: bool) -> None:
    """Compare the bootstrap or the flow term of an evaluation, before w: with the paper's weight or with their own.

    eq08.applied judges the weight.
    """
    expected = expect(subject, evaluation)
    where = expected.bootstrap == bootstrap
    if not where.any():
        return
    compared = subject.invocation
    try:
        compare_where(trial, evaluation, expected, where)
    except Deviation:
        for weight in other_weights(subject, trial, evaluation.route, bootstrap):
            weighted = replace(expected, weight=np.where(where, weight(expected.tau), expected.weight))
            with suppress(Deviation):
                compare_where(trial, evaluation, weighted, where)
                return
        subject.invocation = compared  # not those that found the other weights
        raise


@check("eq07.flow-value", needs_one=LOSSES)
def check_flow_term_is_the_x_space_error(subject: Subject, trial: Trial) -> None:
    """At d_min a timestep contributes ‖ẑ1 − z1‖², times w(τ) or another weight that a ramp or `ramp_weight` explains.

    Judged by the loss or its gradient, within `K_LOSS` roundings.
    """
    every_evaluation(subject, trial, lambda evaluation: compare_term(subject, trial, evaluation, bootstrap=False))

    def at_d_min(route: str, draw: Draw, network: AnalyticNetwork) -> None:
        finest = replace(draw, d=np.full(draw.z1.shape[:2], subject.d_min))
        compare_term(subject, trial, subject.evaluate(route, network, finest), bootstrap=False)

    routes = [route for route in subject.loss_routes() if route == "dynamics_loss_at"]
    every_draw(subject, trial, at_d_min, st.sampled_from(NETWORKS), routes)


@check("eq07.bootstrap-value", needs_one=LOSSES)
def check_bootstrap_term_is_the_scaled_velocity_error(subject: Subject, trial: Trial) -> None:
    """Above d_min a timestep contributes (1 − τ)² ‖(ẑ1 − z̃)/(1 − τ) − (b' + b'')/2‖², times a weight as at d_min.

    Judged by the loss or its gradient, within `K_LOSS` roundings.
    """
    if subject.k_max == 1:
        trial.inconclusive("does not apply: with K_max = 1 every timestep is at d_min")
    every_evaluation(subject, trial, lambda evaluation: compare_term(subject, trial, evaluation, bootstrap=True))


@check("eq07.flow-only-at-dmin", needs_one=LOSSES)
def check_data_enters_only_through_z_tilde(subject: Subject, trial: Trial) -> None:
    """Above d_min the loss has no flow term: its gradient in excess of the bootstrap term's is not along ẑ1 − z1.

    Each timestep is compared separately if it has three entries or more, because a flow term may be weighted by τ. One
    whose bootstrap term has a gradient along ẑ1 − z1 tells nothing and is left out.

    Through `dynamics_loss_at`, z0 and z1 are also changed such that z̃ stays the same: the loss must not change.
    """

    def judge(evaluation: Evaluation) -> None:
        expected = expect(subject, evaluation)
        if expected.observed_gradient is None or not expected.bootstrap.any():
            return
        where = expected.bootstrap
        z1_hat = np.stack([match.student.output for match in evaluation.students])
        along = (z1_hat - evaluation.draw.z1[expected.rows])[where]
        bootstrap = expected.gradient(expected.error)[where]
        excess = expected.observed_gradient[where] - bootstrap
        assume(along.size >= 3)
        cosines = _cosines(excess, along)[np.abs(_cosines(bootstrap, along)) < 0.9]
        assume(cosines.size)
        cosine = float(cosines.min())
        rounding = 32 * subject.eps * np.linalg.norm(expected.gradient(expected.magnitude)[where])
        trial.fail_unless(
            np.linalg.norm(excess) <= rounding or cosine < 0.99,
            "above d_min the loss contains a flow term: the cosine of its gradient with ẑ1 − z1 is too large",
            call=evaluation.call,
            got=cosine,
            expected="below 0.99, or no gradient beyond the bootstrap term's",
        )

    every_evaluation(subject, trial, judge)
    if subject.provides("dynamics_loss_at") and subject.k_max > 1:
        _change_data_at_equal_z_tilde(subject, trial)


def _cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cosines (N,) between the vectors x[n] and y[n]; (1,) of all entries if a vector has fewer than 3."""
    count = len(x) if x[0].size >= 3 else 1
    x, y = x.reshape(count, -1), y.reshape(count, -1)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray((x * y).sum(1) / (norms + 1e-300))


def _change_data_at_equal_z_tilde(subject: Subject, trial: Trial) -> None:
    def holds(seed: int, step: Fraction, data: st.DataObject) -> None:
        d = float(step)
        tau = data.draw(st.integers(0, int(1 / d) - 1)) * d
        batch = smallest_batch(subject, "dynamics_loss_at")
        draw = draw_inputs(subject, seed, (*batch, 2, 3), np.full(batch, tau), np.full(batch, d))
        assert draw.z0 is not None
        # Multiples of 1/256 keep z̃ exactly the same in every dtype: z1 moves by (1 − τ) n/4, z0 by −τ n/4.
        move = np.random.default_rng(seed).integers(-2, 3, draw.z1.shape) / 4
        z1, z0 = np.round(draw.z1 * 2) / 2, np.round(draw.z0 * 2) / 2
        before = subject.evaluate("dynamics_loss_at", AFFINE, replace(draw, z1=z1, z0=z0))
        moved = replace(draw, z1=z1 + (1 - tau) * move, z0=z0 - tau * move)
        after = subject.evaluate("dynamics_loss_at", AFFINE, moved)
        terms = expect(subject, before).loss_terms * (1 + np.abs(move).max())
        compare(trial, after, "the loss of other z0 and z1 with the same z̃", after.mean, before.mean, terms)

    steps = [step for step in step_sizes(subject.k_max) if subject.k_max * step > 1]
    trial.for_all(seeds(), st.sampled_from(steps), st.data(), body=holds)


def fail_unless_zero_loss(subject: Subject, trial: Trial, evaluation: Evaluation) -> None:
    """Deviation unless the loss of a perfect predictor is zero up to the square of one rounding error."""
    assume_valid_labels(subject, evaluation)
    if any((call.tau > 1 - subject.d_min / 2).any() for call in evaluation.calls):
        # Errors are divided by 1 − τ, which is at least d_min on the grid, and d_min/2 where A4 moves a timestep.
        trial.inconclusive(OUTSIDE_DOMAIN)
    if subject.recovered - {"draws"}:
        if len(evaluation.draw.z1) == 1:  # rows of equal data make the second teacher calls ambiguous
            compare_loss(subject, trial, evaluation)
        return
    z1, noise = np.abs(evaluation.draw.z1), np.abs(evaluation.draw.z0) if evaluation.draw.z0 is not None else 6.0
    square = (4 * (z1 + noise)) ** 2
    terms = float(square.mean() if subject.readings["A8"] == "mean" else square.sum((2, 3)).mean())
    terms *= 2 if subject.readings["A27"] == "per_term" else 1
    compare(trial, evaluation, "the loss of a perfect predictor", evaluation.mean, 0.0, terms * subject.eps, k=64)


@check("eq07.perfect", needs_one=LOSSES)
def check_perfect_predictor_has_zero_loss(subject: Subject, trial: Trial) -> None:
    """The loss of a network that predicts z1 is zero, up to the square of a rounding error.

    `dynamics_loss_at` is judged at every (τ, d) of the grid, `dynamics_loss` at those that it draws.
    """
    if subject.provides("dynamics_loss_at"):
        batch = smallest_batch(subject, "dynamics_loss_at")
        for level, step in ((tau, d) for d in step_sizes(subject.k_max) for tau in signal_levels(d)):
            labels = np.full(batch, float(level)), np.full(batch, float(step))
            draw = same_data(draw_inputs(subject, trial.seed, (*batch, 2, 3), *labels))
            fail_unless_zero_loss(subject, trial, subject.evaluate("dynamics_loss_at", perfect(draw.z1[0]), draw))
    _perfect_through_every_route(subject, trial)


def _perfect_through_every_route(subject: Subject, trial: Trial) -> None:
    def judge(route: str, draw: Draw, _: None) -> None:
        same = same_data(draw)
        fail_unless_zero_loss(subject, trial, subject.evaluate(route, perfect(same.z1[0]), same))

    every_draw(subject, trial, judge)


@check("eq06.x-prediction", needs_one=LOSSES)
def check_output_is_interpreted_as_clean_data(subject: Subject, trial: Trial) -> None:
    """At d_min the loss is zero if the network returns z1, and far from zero if it returns the velocity z1 − z0.

    A loss that draws its steps is judged at d_min by its gradient, which is zero if the network returns z1.
    """
    if subject.provides("dynamics_loss_at"):
        trial.for_all(seeds(), body=lambda seed: _fail_unless_zero_at_data(subject, trial, seed))
    else:
        every_draw(subject, trial, lambda route, draw, _: _fail_unless_flat_at_data(subject, trial, route, draw))


def _fail_unless_zero_at_data(subject: Subject, trial: Trial, seed: int) -> None:
    batch = smallest_batch(subject, "dynamics_loss_at")
    tau = np.random.default_rng(seed).integers(0, subject.k_max, batch) / subject.k_max
    draw = draw_inputs(subject, seed, (*batch, 2, 3), tau, np.full(batch, subject.d_min))
    assert draw.z0 is not None
    draw = replace(same_data(draw), z0=np.broadcast_to(draw.z0[:1], draw.z0.shape))
    assert draw.z0 is not None
    fail_unless_zero_loss(subject, trial, subject.evaluate("dynamics_loss_at", perfect(draw.z1[0]), draw))
    velocity = subject.evaluate("dynamics_loss_at", perfect((draw.z1 - draw.z0)[0]), draw)
    expected = float((draw.z0**2).mean())
    sentence = "the loss is zero if the network returns the velocity z1 − z0; it must be zero for z1"
    trial.fail_unless(
        velocity.mean > 1e-3 * expected, sentence, call=velocity.call, got=velocity.mean, expected=expected
    )


def _fail_unless_flat_at_data(subject: Subject, trial: Trial, route: str, draw: Draw) -> None:
    """At d_min the gradient of a perfect predictor is zero; without gradients, its loss where all is at d_min."""
    draw = same_data(draw)
    steps = [match.bootstrap for match in subject.evaluate(route, AFFINE, draw).matches]
    evaluation = subject.evaluate(route, perfect(draw.z1[0]), draw)
    if not np.any(steps):
        fail_unless_zero_loss(subject, trial, evaluation)
    elif evaluation.has_gradients:
        expected = expect(subject, evaluation)
        assume(not expected.bootstrap.all())
        compare_gradient(trial, evaluation, expected, ~expected.bootstrap)
    else:
        assume(False)


@check("eq07.finite", needs_one=LOSSES)
def check_loss_is_finite_on_the_whole_grid(subject: Subject, trial: Trial) -> None:
    """The loss is finite at every (τ, d), τ = 1 − d included; `dynamics_loss` is judged on one large batch."""
    pairs = [(float(level), float(step)) for step in step_sizes(subject.k_max) for level in signal_levels(step)]
    for route in subject.loss_routes():
        if route == "dynamics_loss":
            batch = working_batch(subject, route, *suite_shapes(subject).finite)
            inputs = draw_inputs(subject, trial.seed, (*batch, 2, 3))
        else:
            batch = working_batch(subject, route, len(pairs), 1)
            tau, d = (np.resize(column, batch[::-1]).T for column in zip(*pairs, strict=True))
            inputs = draw_inputs(subject, trial.seed, (*batch, 2, 3), tau, d)
        call = f"{route}(network, z1 of {inputs.z1.shape}, all levels and step sizes)"
        for network in NETWORKS:
            evaluation = subject.evaluate(route, network, inputs)
            trial.fail_unless(np.isfinite(evaluation.loss).all(), "the loss is not finite", call=call)


@check("eq07.absolute", needs_one=LOSSES)
def check_loss_has_the_papers_absolute_value(subject: Subject, trial: Trial) -> None:
    """The loss has the paper's value under the declared norm (A8) and averaging (A27), also for large errors.

    Within `K_LOSS` roundings; a clipped or Huber-like loss fails at the large errors.
    """

    def judge(route: str, draw: Draw, scale: float) -> None:
        compare_loss(subject, trial, subject.evaluate(route, AnalyticNetwork(scale=scale), draw))

    every_draw(subject, trial, judge, st.sampled_from([1.0, 32.0]))


@check("eq07.nan-visible", needs_one=LOSSES)
def check_nan_in_the_data_makes_the_loss_nan(subject: Subject, trial: Trial) -> None:
    """One NaN in z1 makes at least one element of the loss not finite, or the loss raises."""

    def judge(route: str, draw: Draw, _: None) -> None:
        z1 = draw.z1.copy()
        z1.flat[draw.seed % z1.size] = np.nan
        subject.evaluate(route, AFFINE, draw, differentiated=False)
        try:
            evaluation = subject.evaluate(route, AFFINE, replace(draw, z1=z1), differentiated=False)
        except OperationFailed:
            trial.fail_unless(True, "a NaN is refused")
            return
        sentence, visible = "the loss is finite although z1 has a NaN", not np.isfinite(evaluation.loss).all()
        trial.fail_unless(visible, sentence, call=evaluation.call, got=evaluation.mean, expected="NaN")

    every_draw(subject, trial, judge)
