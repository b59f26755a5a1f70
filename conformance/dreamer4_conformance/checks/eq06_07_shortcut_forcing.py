"""Checks of Eq. (6) and (7): the shortcut forcing loss, judged from its calls of the network.

Each check judges every provided route: `dynamics_loss_at`, which takes z0, τ and d as arguments, and `dynamics_loss`,
which draws them. Tolerances are relative to the sum of the absolute values of the terms of the x-space error, squared
where the loss is (`Expectation.terms`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from dreamer4_conformance.instruments.call_roles import CallRow, Match, call_rows
from dreamer4_conformance.instruments.expected_loss import Expectation, expect
from dreamer4_conformance.instruments.inputs import draw_inputs
from dreamer4_conformance.instruments.recorder import AFFINE, CONSTANT, AnalyticNetwork, perfect
from dreamer4_conformance.instruments.subject import LOSSES, Draw, Evaluation, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import draws, seeds
from dreamer4_conformance.verdicts import Deviation, NotProvided
from dreamer4_reference.eq01_corruption import corrupt
from dreamer4_reference.eq04_grid import signal_levels, step_sizes

NETWORKS = (AFFINE, CONSTANT)
K_LOSS = 16.0
"""Roundings of the loss: about ten operations on each element, then the reductions."""


def every_draw(
    subject: Subject,
    trial: Trial,
    judge: Callable[[str, Draw, Any], None],
    also: st.SearchStrategy[Any] = st.none(),  # noqa: B008 - strategies are immutable
    routes: Sequence[str] | None = None,
    **shape: int,
) -> None:
    """Call `judge(route, draw, extra)` on draws of random shape and content, for every provided route.

    Args:
        judge: raises Deviation if the loss of `route` on `draw` violates the clause.
        also: strategy for `extra`.
        routes: operations to judge; by default all that are provided.
        shape: bounds of B and T, arguments of `strategies.draws`.
    """
    for route in subject.loss_routes() if routes is None else routes:

        def holds(route: str, draw: Draw, extra: Any) -> None:
            judge(route, draw, extra)

        trial.for_all(st.just(route), draws(subject, route, **shape), also, body=holds)


def every_evaluation(
    subject: Subject, trial: Trial, judge: Callable[[Evaluation], None], routes: Sequence[str] | None = None
) -> None:
    """Call `judge` on evaluations of every provided route with each of `NETWORKS`."""
    every_draw(
        subject,
        trial,
        lambda route, draw, network: judge(subject.evaluate(route, network, draw)),
        st.sampled_from(NETWORKS),
        routes,
    )


def teachers(evaluation: Evaluation) -> Iterator[tuple[Match, CallRow, CallRow]]:
    """Yield student rows with a timestep above d_min and their two teacher calls. Deviation if one is missing."""
    for match in evaluation.students:
        if not match.bootstrap.any():
            continue
        if match.first is None or match.second is None:
            teacher = "first teacher call, at z̃," if match.first is None else "second teacher call, at z',"
            sentence = f"above d_min the {teacher} is missing; calls of the network:\n{evaluation.call_log}"
            raise Deviation(sentence, call=evaluation.call)
        yield match, match.first, match.second


def compare(
    trial: Trial, evaluation: Evaluation, name: str, got: Any, expected: Any, terms: Any, k: float = K_LOSS
) -> None:
    """`Trial.compare` with the rounding unit and the call of the evaluation."""
    trial.compare(name, got, expected, terms=terms, k=k, eps=evaluation.eps, call=evaluation.call)


@check("eq07.student-label", needs=("dynamics_loss_at",))
def check_student_is_called_with_the_given_labels(subject: Subject, trial: Trial) -> None:
    """The student is called on z̃ = (1 − τ) z0 + τ z1 with the labels τ and d that were passed.

    Labels are exact, z̃ within three roundings.
    """

    def judge(evaluation: Evaluation) -> None:
        draw = evaluation.draw
        assert draw.z0 is not None
        assert draw.tau is not None
        assert draw.d is not None
        z_tilde = corrupt(draw.z0, draw.z1, draw.tau)
        matches = evaluation.students
        for row in {match.row for match in matches}:
            labels = [[match.student.tau.tolist(), match.student.d.tolist()] for match in matches if match.row == row]
            expected = [draw.tau[row].tolist(), draw.d[row].tolist()]
            sentence = f"the student's labels of row {row} are not the τ and d passed to dynamics_loss_at"
            trial.fail_unless(expected in labels, sentence, call=evaluation.call, got=labels, expected=expected)
        for match in matches:
            terms = np.abs(draw.z0[match.row]) + np.abs(draw.z1[match.row])
            compare(trial, evaluation, "the student's input", match.student.z, z_tilde[match.row], terms, k=4)

    every_evaluation(subject, trial, judge, ["dynamics_loss_at"])


@check("eq07.teacher-labels", needs_one=LOSSES)
def check_teacher_is_called_at_half_steps(subject: Subject, trial: Trial) -> None:
    """The teacher calls are labelled (τ, d/2) and (τ + d/2, d/2) at every timestep above d_min. Exact."""

    def judge(evaluation: Evaluation) -> None:
        for match, first, second in teachers(evaluation):
            tau, d = match.student.tau[match.bootstrap], match.student.d[match.bootstrap]
            for teacher, level, name in ((first, tau, "first"), (second, tau + d / 2, "second")):
                got = np.stack([teacher.tau, teacher.d])[:, match.bootstrap]
                expected = np.stack([level, d / 2])
                trial.fail_unless(
                    np.array_equal(got, expected),
                    f"the {name} teacher call is not labelled ({'τ' if name == 'first' else 'τ + d/2'}, d/2)",
                    call=evaluation.call,
                    got=labelled(*got),
                    expected=labelled(*expected),
                )

    every_evaluation(subject, trial, judge)


def labelled(tau: np.ndarray, d: np.ndarray) -> list[str]:
    """Format the labels of timesteps with all digits.

    >>> labelled(np.array([0.5]), np.array([0.25]))
    ['τ = 0.5, d = 0.25']
    """
    return [f"τ = {level!r}, d = {step!r}" for level, step in zip(tau.tolist(), d.tolist(), strict=True)]


@check("eq07.teacher-state", needs_one=LOSSES)
def check_second_teacher_input_is_half_a_step_ahead(subject: Subject, trial: Trial) -> None:
    """The second teacher input is z' = z̃ + (ẑ − z̃) (d/2)/(1 − τ), with ẑ from the first teacher call.

    Terms: |z̃| + (|ẑ| + |z̃|) (d/2)/(1 − τ).
    """

    def judge(evaluation: Evaluation) -> None:
        for match, first, second in teachers(evaluation):
            where = match.bootstrap
            z, z1_hat = match.student.z[where], first.output[where]
            step = (match.student.d / 2 / np.maximum(1 - match.student.tau, match.student.d))[where][:, None, None]
            expected, terms = z + (z1_hat - z) * step, np.abs(z) + (np.abs(z1_hat) + np.abs(z)) * step
            compare(trial, evaluation, "z' (the second teacher input)", second.z[where], expected, terms, k=6)

    every_evaluation(subject, trial, judge)


def fail_unless_inputs_match_labels(subject: Subject, trial: Trial, route: str, draw: Draw) -> None:
    """Deviation unless a perfect predictor receives (1 − τ) z0 + τ z1 in every call, with τ the label of the input."""
    draw = same_data(draw)
    affine = subject.evaluate(route, AFFINE, draw)
    assume(all(np.all((match.student.tau >= 0) & (match.student.tau < 1)) for match in affine.students))
    noises = _noises(affine)
    evaluation = subject.evaluate(route, perfect(draw.z1[0]), draw)
    for row in call_rows(evaluation.calls):
        label = np.where(row.tau >= 1, 1 - subject.d_min, row.tau)[:, None, None]
        for time in range(len(label)):
            _fail_unless_input_matches_label(subject, trial, evaluation, row, time, label[time], noises)


def _noises(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """z0 (M, T, S, D) of every student row, recovered from its input, and the scale of its rounding error."""
    matches = evaluation.students
    tau = np.stack([match.student.tau for match in matches])[:, :, None, None]
    z, z1 = np.stack([match.student.z for match in matches]), evaluation.draw.z1[[match.row for match in matches]]
    return (z - tau * z1) / (1 - tau), (np.abs(z) + np.abs(tau * z1)) / (1 - tau)


def _fail_unless_input_matches_label(
    subject: Subject,
    trial: Trial,
    evaluation: Evaluation,
    call_row: CallRow,
    time: int,
    label: np.ndarray,
    noises: tuple[np.ndarray, np.ndarray],
) -> None:
    """Compare the input with (1 − label) z0 + label z1 of the nearest data row; at d_min within 1/K_max (A4, A10)."""
    z1, z = evaluation.draw.z1[0, time], call_row.z[time]
    noise, scale = (array[:, time] for array in noises)
    expected = (1 - label) * noise + label * z1
    terms = (1 - label) * scale + np.abs(label * z1) + np.abs(z)
    slack = np.where(call_row.d[time] <= subject.d_min, subject.d_min * np.abs(z1 - noise), 0.0)
    excess = np.abs(z - expected) - slack
    row = int(np.argmin((np.maximum(excess, 0) / terms).max((1, 2))))
    nearest = np.clip(z, expected[row] - slack[row], expected[row] + slack[row])
    name = f"the input labelled τ = {call_row.tau[time]:g}, d = {call_row.d[time]:g}"
    compare(trial, evaluation, name, z, nearest, terms[row], k=16)


@check("eq07.consistent-labels", needs_one=LOSSES)
def check_inputs_lie_at_their_labels(subject: Subject, trial: Trial) -> None:
    """With a perfect predictor every input of the network is (1 − τ) z0 + τ z1 at its label τ; sequences with T = 1.

    Within rounding; at d_min the level may differ from the label by 1/K_max (A4, A10).
    """
    judge = partial(fail_unless_inputs_match_labels, subject, trial)
    every_draw(subject, trial, lambda route, draw, _: judge(route, draw), max_time=1)


@check("eq07.mixed-steps", needs_one=LOSSES)
def check_mixed_sequences_stay_consistent(subject: Subject, trial: Trial) -> None:
    """As eq07.consistent-labels, in sequences whose timesteps have different step sizes, d_min among them (A4)."""
    if subject.readings["A3"] == "sequence":
        trial.inconclusive("does not apply: d is drawn per sequence (reading A3)")
    judge = partial(fail_unless_inputs_match_labels, subject, trial)
    every_draw(subject, trial, lambda route, draw, _: judge(route, draw), min_time=2)


def compare_where(subject: Subject, trial: Trial, evaluation: Evaluation, where_bootstrap: bool) -> None:
    """Compare the loss of the timesteps above d_min, or of those at d_min; its gradient if these are not all.

    A loss of shape (B, T) is compared timestep by timestep. A scalar loss of a mixed batch is judged by gradients only.
    """
    expected = expect(subject, evaluation)
    where = expected.bootstrap == where_bootstrap
    if not where.any():
        return
    if evaluation.loss.ndim == 2:
        got = evaluation.loss[expected.rows][where]
        compare(trial, evaluation, "the loss", got, expected.timesteps[where], expected.terms[where])
    elif where.all():
        compare(trial, evaluation, "the loss", evaluation.mean, expected.loss, expected.loss_terms)
    elif expected.observed_gradient is not None:
        compare_gradient(trial, evaluation, expected, where)


def compare_gradient(trial: Trial, evaluation: Evaluation, expected: Expectation, where: np.ndarray) -> None:
    """Compare d loss / d ẑ1 at the timesteps `where` (M, T)."""
    assert expected.observed_gradient is not None
    gradient, terms = (expected.gradient(x)[where] for x in (expected.error, expected.magnitude))
    name = "the gradient with respect to the student's output"
    compare(trial, evaluation, name, expected.observed_gradient[where], gradient, terms)


@check("eq07.flow-value", needs_one=LOSSES)
def check_flow_term_is_the_x_space_error(subject: Subject, trial: Trial) -> None:
    """At d_min a timestep contributes w(τ) ‖ẑ1 − z1‖².

    Judged by the loss or its gradient, within `K_LOSS` roundings.
    """
    every_evaluation(subject, trial, lambda evaluation: compare_where(subject, trial, evaluation, False))

    def at_d_min(route: str, draw: Draw, network: AnalyticNetwork) -> None:
        finest = replace(draw, d=np.full(draw.z1.shape[:2], subject.d_min))
        compare_where(subject, trial, subject.evaluate(route, network, finest), False)

    routes = [route for route in subject.loss_routes() if route == "dynamics_loss_at"]
    every_draw(subject, trial, at_d_min, st.sampled_from(NETWORKS), routes)


@check("eq07.bootstrap-value", needs_one=LOSSES)
def check_bootstrap_term_is_the_scaled_velocity_error(subject: Subject, trial: Trial) -> None:
    """Above d_min a timestep contributes w(τ) (1 − τ)² ‖(ẑ1 − z̃)/(1 − τ) − (b' + b'')/2‖².

    Judged by the loss or its gradient, within `K_LOSS` roundings.
    """
    if subject.k_max == 1:
        trial.inconclusive("does not apply: with K_max = 1 every timestep is at d_min")
    every_evaluation(subject, trial, lambda evaluation: compare_where(subject, trial, evaluation, True))


@check("eq07.flow-only-at-dmin", needs_one=LOSSES)
def check_data_enters_only_through_z_tilde(subject: Subject, trial: Trial) -> None:
    """Above d_min the loss has no flow term: its gradient in excess of the bootstrap term's is not along ẑ1 − z1.

    Through `dynamics_loss_at`, z0 and z1 are also changed such that z̃ stays the same: the loss must not change.
    """

    def judge(evaluation: Evaluation) -> None:
        expected = expect(subject, evaluation)
        if expected.observed_gradient is None or not expected.bootstrap.any():
            return
        where = expected.bootstrap
        z1_hat = np.stack([match.student.output for match in evaluation.students])
        along = (z1_hat - evaluation.draw.z1[expected.rows])[where].ravel()
        excess = (expected.observed_gradient - expected.gradient(expected.error))[where].ravel()
        assume(along.size >= 3)
        cosine = float(excess @ along / (np.linalg.norm(excess) * np.linalg.norm(along) + 1e-300))
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


def _change_data_at_equal_z_tilde(subject: Subject, trial: Trial) -> None:
    def holds(seed: int, step: Fraction, data: st.DataObject) -> None:
        d = float(step)
        tau = data.draw(st.integers(0, int(1 / d) - 1)) * d
        labels = np.full((1, 1), tau), np.full((1, 1), d)
        draw = draw_inputs(subject, seed, (1, 1, 2, 2), *labels)
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


def with_gradients(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation. NotProvided if its loss carries no gradients."""
    if not evaluation.has_gradients:
        raise NotProvided("needs a loss with gradients: not detached, from a TorchAdapter or a JaxAdapter")
    return evaluation


@check("eq07.stop-gradient", needs_one=LOSSES)
def check_no_gradient_reaches_the_teacher(subject: Subject, trial: Trial) -> None:
    """The gradient with respect to the outputs of both teacher calls is exactly zero."""

    def judge(evaluation: Evaluation) -> None:
        students = [match.student for match in with_gradients(evaluation).students]
        for match in evaluation.students:
            for teacher, name in ((match.first, "first"), (match.second, "second")):
                if teacher is not None and not any(teacher is student for student in students):
                    got = None if teacher.gradient is None else teacher.gradient.tolist()
                    sentence = f"the gradient with respect to the {name} teacher call is not zero"
                    stopped = not teacher.carries_gradient
                    trial.fail_unless(stopped, sentence, call=evaluation.call, got=got, expected=0.0)

    every_evaluation(subject, trial, judge)


@check("eq07.gradient", needs_one=LOSSES)
def check_gradient_of_the_student_is_the_papers(subject: Subject, trial: Trial) -> None:
    """d loss / d ẑ1 is that of the paper's loss at every timestep. Within `K_LOSS` roundings."""

    def judge(evaluation: Evaluation) -> None:
        expected = expect(subject, with_gradients(evaluation))
        compare_gradient(trial, evaluation, expected, np.ones_like(expected.bootstrap))

    every_evaluation(subject, trial, judge)


@check("eq07.same-network", needs_one=LOSSES)
def check_teacher_is_the_network_itself(subject: Subject, trial: Trial) -> None:
    """Both teacher calls use the network that was passed in, not a copy; A38 = "average" allows a copy."""

    def judge(evaluation: Evaluation) -> None:
        for _, first, second in teachers(evaluation):
            trial.fail_unless(
                not (first.copied or second.copied) or subject.readings["A38"] == "average",
                "the teacher is a copy of the network, not the network itself; if it is an average of the parameters, "
                'declare readings = {"A38": "average"}',
                call=evaluation.call,
            )

    every_evaluation(subject, trial, judge)


@check("eq07.actions", needs_one=LOSSES)
def check_actions_condition_all_three_calls(subject: Subject, trial: Trial) -> None:
    """Both teacher calls of a row receive the actions of its student call. Exact."""

    def judge(evaluation: Evaluation) -> None:
        if all(call.actions is None for call in evaluation.calls):
            trial.inconclusive("no call of the network receives actions")
        for match, *teacher_calls in teachers(evaluation):
            actions = match.student.actions
            for teacher, name in zip(teacher_calls, ("first", "second"), strict=True):
                same = actions is not None and teacher.actions is not None and np.array_equal(actions, teacher.actions)
                sentence = f"the {name} teacher call does not receive the student's actions"
                trial.fail_unless(same, sentence, call=evaluation.call)

    every_evaluation(subject, trial, judge)


def same_data(draw: Draw) -> Draw:
    """Copy the data of the first row to every row, so that one network predicts all rows perfectly."""
    return replace(draw, z1=np.broadcast_to(draw.z1[:1], draw.z1.shape).copy())


def fail_unless_zero_loss(subject: Subject, trial: Trial, evaluation: Evaluation) -> None:
    """Deviation unless the loss of a perfect predictor is zero up to the square of one rounding error."""
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
        for level, step in ((tau, d) for d in step_sizes(subject.k_max) for tau in signal_levels(d)):
            labels = np.full((1, 1), float(level)), np.full((1, 1), float(step))
            draw = draw_inputs(subject, trial.seed, (1, 1, 2, 3), *labels)
            fail_unless_zero_loss(subject, trial, subject.evaluate("dynamics_loss_at", perfect(draw.z1[0]), draw))
    _perfect_through_every_route(subject, trial)


def _perfect_through_every_route(subject: Subject, trial: Trial) -> None:
    def judge(route: str, draw: Draw, _: None) -> None:
        same = same_data(draw)
        fail_unless_zero_loss(subject, trial, subject.evaluate(route, perfect(same.z1[0]), same))

    every_draw(subject, trial, judge)


@check("eq06.x-prediction", needs_one=LOSSES)
def check_output_is_interpreted_as_clean_data(subject: Subject, trial: Trial) -> None:
    """At d_min the loss is zero if the network returns z1, and far from zero if it returns the velocity z1 − z0."""

    def holds(seed: int) -> None:
        shape = (1, 1, 2, 3)
        tau = np.random.default_rng(seed).integers(0, subject.k_max, (1, 1)) / subject.k_max
        draw = draw_inputs(subject, seed, shape, tau, np.full((1, 1), subject.d_min))
        assert draw.z0 is not None
        fail_unless_zero_loss(subject, trial, subject.evaluate("dynamics_loss_at", perfect(draw.z1[0]), draw))
        velocity = subject.evaluate("dynamics_loss_at", perfect((draw.z1 - draw.z0)[0]), draw)
        expected = float((draw.z0**2).mean())
        sentence = "the loss is zero if the network returns the velocity z1 − z0; it must be zero for z1"
        trial.fail_unless(
            velocity.mean > 1e-3 * expected, sentence, call=velocity.call, got=velocity.mean, expected=expected
        )

    if subject.provides("dynamics_loss_at"):
        trial.for_all(seeds(), body=holds)
    elif subject.adapter.min_batch == 1:
        _perfect_at_d_min(subject, trial)
    else:
        _perfect_through_every_route(subject, trial)


def _perfect_at_d_min(subject: Subject, trial: Trial) -> None:
    """Judge draws with d = d_min only: above d_min the loss depends on the teacher too, which eq07.perfect judges."""

    def holds(seed: int) -> None:
        draw = same_data(draw_inputs(subject, seed, (1, 1, 2, 3)))
        students = subject.evaluate("dynamics_loss", AFFINE, draw).students
        assume(all(np.all(match.student.d == subject.d_min) for match in students))
        fail_unless_zero_loss(subject, trial, subject.evaluate("dynamics_loss", perfect(draw.z1[0]), draw))

    trial.for_all(seeds(), body=holds)


@check("eq07.finite", needs_one=LOSSES)
def check_loss_is_finite_on_the_whole_grid(subject: Subject, trial: Trial) -> None:
    """The loss is finite at every (τ, d), τ = 1 − d included; `dynamics_loss` is judged on one large batch."""
    pairs = [(float(level), float(step)) for step in step_sizes(subject.k_max) for level in signal_levels(step)]
    tau, d = (np.array(column)[:, None] for column in zip(*pairs, strict=True))
    draw = draw_inputs(subject, trial.seed, (len(pairs), 1, 2, 2), tau, d)
    large = (max(64, subject.adapter.min_batch), 4, 2, 2)
    for route in subject.loss_routes():
        inputs = draw if route == "dynamics_loss_at" else draw_inputs(subject, trial.seed, large)
        call = f"{route}(network, z1 of {inputs.z1.shape}, all levels and step sizes)"
        for network in NETWORKS:
            evaluation = subject.evaluate(route, network, inputs)
            trial.fail_unless(np.isfinite(evaluation.loss).all(), "the loss is not finite", call=call)


def compare_loss(subject: Subject, trial: Trial, evaluation: Evaluation) -> None:
    """Compare the loss with the paper's, as a scalar or for every timestep."""
    expected = expect(subject, evaluation)
    if evaluation.loss.ndim == 2:
        compare(trial, evaluation, "the loss", evaluation.loss[expected.rows], expected.timesteps, expected.terms)
    else:
        compare(trial, evaluation, "the loss", evaluation.mean, expected.loss, expected.loss_terms)


@check("eq07.absolute", needs_one=LOSSES)
def check_loss_has_the_papers_absolute_value(subject: Subject, trial: Trial) -> None:
    """The loss has the paper's value under the declared norm (A8) and averaging (A27), also for large errors.

    Within `K_LOSS` roundings; a clipped or Huber-like loss fails at the large errors.
    """

    def judge(route: str, draw: Draw, scale: float) -> None:
        compare_loss(subject, trial, subject.evaluate(route, AnalyticNetwork(scale=scale), draw))

    every_draw(subject, trial, judge, st.sampled_from([1.0, 32.0]))


@check("eq07.batch-shapes", needs_one=LOSSES)
def check_batch_and_time_axes_are_not_confused(subject: Subject, trial: Trial) -> None:
    """The loss has the paper's value for B < T, B > T, B = T, T = 1 and B = 1, if `min_batch` allows them."""
    for route in subject.loss_routes():
        fewest = subject.adapter.min_batch if route == "dynamics_loss" else 1
        for batch, time in ((2, 3), (3, 2), (3, 3), (3, 1), (1, 3), (1, 1)):
            batch = batch + fewest - 1
            for seed in range(4):
                draw = draw_inputs(subject, trial.seed + seed, (batch, time, 2, 3))
                compare_loss(subject, trial, subject.evaluate(route, AFFINE, draw))
        square = draw_inputs(subject, trial.seed, (max(fewest, 2), max(fewest, 2), 2, 2))
        compare_loss(subject, trial, subject.evaluate(route, AFFINE, square))


@check("eq07.nan-visible", needs_one=LOSSES)
def check_nan_in_the_data_makes_the_loss_nan(subject: Subject, trial: Trial) -> None:
    """One NaN in z1 makes at least one element of the loss not finite."""

    def judge(route: str, draw: Draw, _: None) -> None:
        z1 = draw.z1.copy()
        z1.flat[draw.seed % z1.size] = np.nan
        evaluation = subject.evaluate(route, AFFINE, replace(draw, z1=z1))
        sentence, visible = "the loss is finite although z1 has a NaN", not np.isfinite(evaluation.loss).all()
        trial.fail_unless(visible, sentence, call=evaluation.call, got=evaluation.mean, expected="NaN")

    every_draw(subject, trial, judge)


PAIRS = ((0.0, 1.0), (0.0, 0.5), (0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.0, None), (0.5, None))
"""(τ, d) of the signature; None means d_min."""
TRACE = 13
"""Length of `trace`."""


def trace(evaluation: Evaluation) -> np.ndarray:
    """Summary (TRACE,) of an evaluation, independent of the order of rows and calls."""
    matches = evaluation.students
    slopes = [
        0.0 if m.student.gradient is None else float((m.student.gradient * m.student.output).sum()) for m in matches
    ]
    values = [evaluation.mean, float(np.mean(slopes)), float(np.mean([m.student.tau.mean() for m in matches]))]
    for teacher_calls in ([m.first for m in matches], [m.second for m in matches]):
        summaries = [_summary(teacher) for teacher in teacher_calls if teacher is not None]
        values.extend(np.mean(summaries, axis=0) if summaries else [-1.0] * 5)
    return np.array(values)


def _summary(teacher: CallRow) -> list[float]:
    """Mean level, step (plus 2 for a copied network) and input, size of the gradient, presence of actions."""
    gradient = 0.0 if teacher.gradient is None else float(np.abs(teacher.gradient).sum())
    step = float(teacher.d.mean()) + 2.0 * teacher.copied
    return [float(teacher.tau.mean()), step, float(teacher.z.mean()), gradient, float(teacher.actions is not None)]


def _trace_if_repeatable(subject: Subject, draw: Draw) -> np.ndarray:
    """The trace, with 9 in place of values that differ between two seeds."""
    first, second = (trace(subject.evaluate("dynamics_loss_at", AFFINE, replace(draw, seed=seed))) for seed in (0, 1))
    return np.where(first == second, first, 9.0)


@signature("dynamics_loss_at")
def signature_calls_and_values_on_the_grid(subject: Subject) -> np.ndarray:
    """Traces of single timesteps at `PAIRS` and of two mixed batches; whether NaN in z1 leaves the loss finite."""
    pairs = [(tau, subject.d_min if d is None else d) for tau, d in PAIRS]
    pairs = [(tau, d) for tau, d in pairs if d >= subject.d_min and tau + d <= 1]
    singles = [draw_inputs(subject, 5, (1, 1, 1, 2), np.full((1, 1), tau), np.full((1, 1), d)) for tau, d in pairs]
    mixed = [draw_inputs(subject, 7, (2, 3, 2, 2)), draw_inputs(subject, 8, (4, 4, 2, 2))]
    traces = [attempt(partial(_trace_if_repeatable, subject, draw), TRACE) for draw in (*singles, *mixed)]
    poisoned = replace(mixed[0], z1=np.full_like(mixed[0].z1, np.nan))
    hidden = attempt(lambda: np.isfinite(subject.evaluate("dynamics_loss_at", AFFINE, poisoned).loss).all(), 1)
    return np.concatenate([*traces, hidden])


def observe_draws(subject: Subject) -> tuple[list[Draw], np.ndarray]:
    """Four evaluations of the loss: their draws, recovered from their student calls, and their traces."""
    draws_made, traces = [], []
    for seed in range(4):
        inputs = draw_inputs(subject, seed, (max(2, subject.adapter.min_batch), 3, 2, 2))
        evaluation = subject.evaluate("dynamics_loss", AFFINE, inputs)
        matches = evaluation.students
        rows = [match.row for match in matches]
        noise, _ = _noises(evaluation)
        tau, d = (np.stack([getattr(match.student, name) for match in matches]) for name in ("tau", "d"))
        draws_made.append(Draw(inputs.z1[rows], inputs.actions[rows], seed, noise, tau, d))
        traces.append(trace(evaluation))
    return draws_made, np.concatenate(traces)


@signature("dynamics_loss", tolerance=1e-2, observe=observe_draws)
def signature_calls_and_values_on_recovered_draws(subject: Subject, draws_made: list[Draw]) -> np.ndarray:
    """The traces of a candidate on the draws of the implementation."""

    def traced(draw: Draw) -> np.ndarray:
        return trace(subject.evaluate("dynamics_loss_at", AFFINE, draw))

    return np.concatenate([attempt(partial(traced, draw), TRACE) for draw in draws_made])
