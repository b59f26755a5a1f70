"""Checks of Eq. (6) and (7): the shortcut forcing loss, read from the calls that it makes of the network.

Each check judges every provided route, `dynamics_loss_at` with everything given and `dynamics_loss` with everything drawn inside.
Tolerances are relative to the sum of the absolute values of the terms of the x-space error, squared where the loss is (`Expectation.terms`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
from dreamer4_conformance.verdicts import NotProvided
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
    """Runs `judge(route, draw, also)` on draws of random shape and content through every provided route."""
    for route in subject.loss_routes() if routes is None else routes:

        def holds(route: str, draw: Draw, extra: Any) -> None:
            judge(route, draw, extra)

        trial.for_all(st.just(route), draws(subject, route, **shape), also, body=holds)


def every_evaluation(
    subject: Subject, trial: Trial, judge: Callable[[Evaluation], None], routes: Sequence[str] | None = None
) -> None:
    """Runs `judge` on evaluations with either network through every provided route."""
    every_draw(
        subject,
        trial,
        lambda route, draw, network: judge(subject.evaluate(route, network, draw)),
        st.sampled_from(NETWORKS),
        routes,
    )


def teachers(evaluation: Evaluation) -> Iterator[tuple[Match, CallRow, CallRow]]:
    """Student rows with a timestep above d_min and both of their teacher calls. Deviation where one is missing."""
    from dreamer4_conformance.verdicts import Deviation

    for match in evaluation.students:
        if not match.bootstrap.any():
            continue
        if match.first is None or match.second is None:
            which = "at z̃" if match.first is None else "at z'"
            raise Deviation(
                f"above d_min the network is not called as the teacher {which}; seen:\n{evaluation.call_log}",
                call=evaluation.call,
            )
        yield match, match.first, match.second


@check("eq07.student-label", needs=("dynamics_loss_at",))
def check_student_is_called_with_the_given_labels(subject: Subject, trial: Trial) -> None:
    """Labels are exact; z̃ within three roundings of (1 − τ) z0 + τ z1."""

    def judge(evaluation: Evaluation) -> None:
        draw = evaluation.draw
        assert draw.z0 is not None
        assert draw.tau is not None
        assert draw.d is not None
        z_tilde = corrupt(draw.z0, draw.z1, draw.tau)
        matches = evaluation.students
        for row in {match.row for match in matches}:
            labels = [(m.student.tau, m.student.d) for m in matches if m.row == row]
            trial.fail_unless(
                any(np.array_equal(tau, draw.tau[row]) and np.array_equal(d, draw.d[row]) for tau, d in labels),
                f"the student's labels of row {row} are not the (τ, d) given",
                call=evaluation.call,
                got=[[tau.tolist(), d.tolist()] for tau, d in labels],
                expected=[draw.tau[row].tolist(), draw.d[row].tolist()],
            )
        for match in matches:
            terms = np.abs(draw.z0[match.row]) + np.abs(draw.z1[match.row])
            trial.compare(
                "the student's input",
                match.student.z,
                z_tilde[match.row],
                terms=terms,
                k=4,
                eps=subject.eps,
                call=evaluation.call,
            )

    every_evaluation(subject, trial, judge, ["dynamics_loss_at"])


@check("eq07.teacher-labels", needs_one=LOSSES)
def check_teacher_is_called_at_half_steps(subject: Subject, trial: Trial) -> None:
    """Exact: (τ, d/2) and (τ + d/2, d/2) at every timestep above d_min."""

    def judge(evaluation: Evaluation) -> None:
        for match, first, second in teachers(evaluation):
            tau, d = match.student.tau[match.bootstrap], match.student.d[match.bootstrap]
            for entry, level, name in ((first, tau, "first"), (second, tau + d / 2, "second")):
                got, due = (entry.tau[match.bootstrap], entry.d[match.bootstrap]), (level, d / 2)
                trial.fail_unless(
                    all(np.array_equal(*pair) for pair in zip(got, due, strict=True)),
                    f"the {name} teacher call is not labelled ({'τ' if name == 'first' else 'τ + d/2'}, d/2)",
                    call=evaluation.call,
                    got=labelled(*got),
                    expected=labelled(*due),
                )

    every_evaluation(subject, trial, judge)


def labelled(tau: np.ndarray, d: np.ndarray) -> list[str]:
    """The labels of timesteps, with all their digits.

    >>> labelled(np.array([0.5]), np.array([0.25]))
    ['τ = 0.5, d = 0.25']
    """
    return [f"τ = {level!r}, d = {step!r}" for level, step in zip(tau.tolist(), d.tolist(), strict=True)]


@check("eq07.teacher-state", needs_one=LOSSES)
def check_second_teacher_call_sees_the_half_step(subject: Subject, trial: Trial) -> None:
    """Terms: |z̃| + (|ẑ| + |z̃|) (d/2)/(1 − τ), with ẑ as the first teacher call returned it."""

    def judge(evaluation: Evaluation) -> None:
        for match, first, second in teachers(evaluation):
            where = match.bootstrap
            z, f = match.student.z[where], first.output[where]
            step = (match.student.d / 2 / np.maximum(1 - match.student.tau, match.student.d))[where][:, None, None]
            expected, terms = z + (f - z) * step, np.abs(z) + (np.abs(f) + np.abs(z)) * step
            trial.compare(
                "z' (the second teacher input)",
                second.z[where],
                expected,
                terms=terms,
                k=6,
                eps=subject.eps,
                call=evaluation.call,
            )

    every_evaluation(subject, trial, judge)


def consistent(subject: Subject, trial: Trial, route: str, draw: Draw) -> None:
    """Every input that the network sees under a perfect predictor is (1 − label) z0 + label z1 at its own label."""
    draw = same_data(draw)
    students = subject.evaluate(route, AFFINE, draw)
    assume(all(np.all((match.student.tau >= 0) & (match.student.tau < 1)) for match in students.students))
    noises = _noises(students)
    evaluation = subject.evaluate(route, perfect(draw.z1[0]), draw)
    for entry in call_rows(evaluation.calls):
        label = np.where(entry.tau >= 1, 1 - subject.d_min, entry.tau)[:, None, None]
        for time in range(len(label)):
            _lies_at_its_label(subject, trial, evaluation, entry, time, label[time], noises)


def _noises(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """z0 of every student row, recovered from its input, with the scale of its rounding error."""
    matches = evaluation.students
    tau = np.stack([match.student.tau for match in matches])[:, :, None, None]
    z, z1 = np.stack([match.student.z for match in matches]), evaluation.draw.z1[[match.row for match in matches]]
    return (z - tau * z1) / (1 - tau), (np.abs(z) + np.abs(tau * z1)) / (1 - tau)


def _lies_at_its_label(
    subject: Subject,
    trial: Trial,
    evaluation: Evaluation,
    entry: CallRow,
    time: int,
    label: np.ndarray,
    noises: tuple[np.ndarray, np.ndarray],
) -> None:
    """The nearest row's line from z0 to z1 passes through the input at the label; at d_min within 1/K_max of it (A4, A10)."""
    z1, z = evaluation.draw.z1[0, time], entry.z[time]
    noise, scale = (array[:, time] for array in noises)
    expected = (1 - label) * noise + label * z1
    terms = (1 - label) * scale + np.abs(label * z1) + np.abs(z)
    slack = np.where(entry.d[time] <= subject.d_min, subject.d_min * np.abs(z1 - noise), 0.0)
    excess = np.abs(z - expected) - slack
    row = int(np.argmin((np.maximum(excess, 0) / terms).max((1, 2))))
    clipped = np.clip(z, expected[row] - slack[row], expected[row] + slack[row])
    trial.compare(
        f"the input labelled τ = {entry.tau[time]:g}, d = {entry.d[time]:g}",
        z,
        clipped,
        terms=terms[row],
        k=16,
        eps=subject.eps,
        call=evaluation.call,
    )


@check("eq07.consistent-labels", needs_one=LOSSES)
def check_inputs_lie_at_their_labels(subject: Subject, trial: Trial) -> None:
    """A perfect predictor keeps every input on the line from z0 to z1. One step size in a sequence."""
    every_draw(subject, trial, lambda route, draw, _: consistent(subject, trial, route, draw), max_time=1)


@check("eq07.mixed-steps", needs_one=LOSSES)
def check_mixed_sequences_stay_consistent(subject: Subject, trial: Trial) -> None:
    """The same in sequences whose timesteps have different step sizes, d_min among them (A4)."""
    if subject.readings["A3"] == "sequence":
        trial.inconclusive("does not apply: d is drawn per sequence (reading A3)")
    every_draw(subject, trial, lambda route, draw, _: consistent(subject, trial, route, draw), min_time=2)


def compare_where(subject: Subject, trial: Trial, evaluation: Evaluation, where_bootstrap: bool) -> None:
    """The loss of the timesteps above d_min, or at it: by itself where it can be isolated, else by its gradient."""
    expected = expect(subject, evaluation)
    where = expected.bootstrap == where_bootstrap
    if not where.any():
        return
    options: dict[str, Any] = {"k": K_LOSS, "eps": subject.eps, "call": evaluation.call}
    if evaluation.loss.ndim == 2:
        got = evaluation.loss[expected.rows]
        trial.compare("the loss", got[where], expected.timesteps[where], terms=expected.terms[where], **options)
    elif where.all():
        trial.compare("the loss", evaluation.mean, expected.loss, terms=expected.loss_terms, **options)
    elif expected.observed_gradient is not None:
        compare_gradient(trial, expected, where, **options)


def compare_gradient(
    trial: Trial, expected: Expectation, where: np.ndarray, *, k: float, eps: float, call: str
) -> None:
    """d loss / d ẑ1 at the timesteps `where`."""
    assert expected.observed_gradient is not None
    trial.compare(
        "the gradient with respect to the student's output",
        expected.observed_gradient[where],
        expected.gradient(expected.error)[where],
        terms=expected.gradient(expected.magnitude)[where],
        k=k,
        eps=eps,
        call=call,
    )


@check("eq07.flow-value", needs_one=LOSSES)
def check_flow_term_is_the_x_space_error(subject: Subject, trial: Trial) -> None:
    """Timesteps at d_min, w included."""
    every_evaluation(subject, trial, lambda evaluation: compare_where(subject, trial, evaluation, False))

    def at_d_min(route: str, draw: Draw, network: AnalyticNetwork) -> None:
        everywhere = replace(draw, d=np.full(draw.z1.shape[:2], subject.d_min))
        compare_where(subject, trial, subject.evaluate(route, network, everywhere), False)

    given_labels = [route for route in subject.loss_routes() if route == "dynamics_loss_at"]
    every_draw(subject, trial, at_d_min, st.sampled_from(NETWORKS), given_labels)


@check("eq07.bootstrap-value", needs_one=LOSSES)
def check_bootstrap_term_is_the_scaled_velocity_error(subject: Subject, trial: Trial) -> None:
    """Timesteps above d_min, w included."""
    if subject.k_max == 1:
        trial.inconclusive("does not apply: with K_max = 1 every timestep is at d_min")
    every_evaluation(subject, trial, lambda evaluation: compare_where(subject, trial, evaluation, True))


@check("eq07.flow-only-at-dmin", needs_one=LOSSES)
def check_data_enters_through_z_tilde_alone(subject: Subject, trial: Trial) -> None:
    """Above d_min the gradient has no part along ẑ1 − z1 beyond the paper's; with everything given, other data behind the same z̃ changes nothing."""

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
            "above d_min the loss holds a flow term: its gradient points along ẑ1 − z1",
            call=evaluation.call,
            got=cosine,
            expected="below 0.99, or no gradient beyond the bootstrap term's",
        )

    every_evaluation(subject, trial, judge)
    if subject.provides("dynamics_loss_at") and subject.k_max > 1:
        _other_data_behind_the_same_input(subject, trial)


def _other_data_behind_the_same_input(subject: Subject, trial: Trial) -> None:
    def holds(seed: int, step: object, data: st.DataObject) -> None:
        d = float(step)  # type: ignore[arg-type]
        tau = data.draw(st.integers(0, int(1 / d) - 1)) * d
        labels = np.full((1, 1), tau), np.full((1, 1), d)
        draw = draw_inputs(subject, seed, (1, 1, 2, 2), *labels)
        assert draw.z0 is not None
        # Small whole numbers over 256 keep z̃ exactly the same in every dtype: z1 moves by (1 − τ) n/4, z0 by −τ n/4.
        move = np.random.default_rng(seed).integers(-2, 3, draw.z1.shape) / 4
        z1, z0 = np.round(draw.z1 * 2) / 2, np.round(draw.z0 * 2) / 2
        still = replace(draw, z1=z1, z0=z0)
        moved = replace(draw, z1=z1 + (1 - tau) * move, z0=z0 - tau * move)
        before, after = (subject.evaluate("dynamics_loss_at", AFFINE, one) for one in (still, moved))
        terms = expect(subject, before).loss_terms * (1 + np.abs(move).max())
        trial.compare(
            "the loss with other data behind the same z̃",
            after.mean,
            before.mean,
            terms=terms,
            k=K_LOSS,
            eps=subject.eps,
            call=after.call,
        )

    trial.for_all(
        seeds(),
        st.sampled_from([step for step in step_sizes(subject.k_max) if subject.k_max * step > 1]),
        st.data(),
        body=holds,
    )


def with_gradients(evaluation: Evaluation) -> Evaluation:
    """The evaluation itself; NotProvided where its loss carries no gradients."""
    if not evaluation.has_gradients:
        raise NotProvided("needs a loss with gradients: not detached, through a TorchAdapter or a JaxAdapter")
    return evaluation


@check("eq07.stop-gradient", needs_one=LOSSES)
def check_no_gradient_reaches_the_teacher(subject: Subject, trial: Trial) -> None:
    """Exactly zero with respect to every output but the student's."""

    def judge(evaluation: Evaluation) -> None:
        students = [match.student for match in with_gradients(evaluation).students]
        for match in evaluation.students:
            for entry, name in ((match.first, "first"), (match.second, "second")):
                if entry is not None and not any(entry is student for student in students):
                    trial.fail_unless(
                        not entry.carries_gradient,
                        f"gradient flows through the {name} teacher call",
                        call=evaluation.call,
                        got=None if entry.gradient is None else entry.gradient.tolist(),
                        expected=0.0,
                    )

    every_evaluation(subject, trial, judge)


@check("eq07.gradient", needs_one=LOSSES)
def check_gradient_of_the_student_is_the_papers(subject: Subject, trial: Trial) -> None:
    """d loss / d ẑ1 at every timestep."""

    def judge(evaluation: Evaluation) -> None:
        expected = expect(subject, with_gradients(evaluation))
        everywhere = np.ones_like(expected.bootstrap)
        compare_gradient(trial, expected, everywhere, k=K_LOSS, eps=subject.eps, call=evaluation.call)

    every_evaluation(subject, trial, judge)


@check("eq07.same-network", needs_one=LOSSES)
def check_teacher_is_the_network_itself(subject: Subject, trial: Trial) -> None:
    """Both teacher calls are made on the network that was handed in; under A38 "average" they may be made on a copy of it."""

    def judge(evaluation: Evaluation) -> None:
        for _, first, second in teachers(evaluation):
            trial.fail_unless(
                not (first.copied or second.copied) or subject.readings["A38"] == "average",
                "the teacher is a copy of the network, not the network itself; where an averaged copy is meant, "
                'declare it: readings = {"A38": "average"}',
                call=evaluation.call,
            )

    every_evaluation(subject, trial, judge)


@check("eq07.actions", needs_one=LOSSES)
def check_actions_condition_all_three_calls(subject: Subject, trial: Trial) -> None:
    """Exact: what the student's row receives, its teacher rows receive."""

    def judge(evaluation: Evaluation) -> None:
        if all(call.actions is None for call in evaluation.calls):
            trial.inconclusive("the network is never given actions")
        for match, first, second in teachers(evaluation):
            for entry, name in ((first, "first"), (second, "second")):
                same = (
                    match.student.actions is not None
                    and entry.actions is not None
                    and np.array_equal(match.student.actions, entry.actions)
                )
                trial.fail_unless(
                    same, f"the {name} teacher call does not receive the student's actions", call=evaluation.call
                )

    every_evaluation(subject, trial, judge)


def same_data(draw: Draw) -> Draw:
    """The draw with the data of its first row in every row, so that one network is perfect for all."""
    return replace(draw, z1=np.broadcast_to(draw.z1[:1], draw.z1.shape).copy())


def zero_loss(subject: Subject, trial: Trial, evaluation: Evaluation) -> None:
    """The loss of a perfect predictor is zero up to the square of one rounding error."""
    z1, noise = np.abs(evaluation.draw.z1), np.abs(evaluation.draw.z0) if evaluation.draw.z0 is not None else 6.0
    square = (4 * (z1 + noise)) ** 2
    terms = float(square.mean() if subject.readings["A8"] == "mean" else square.sum((2, 3)).mean())
    terms *= 2 if subject.readings["A27"] == "per_term" else 1
    trial.compare(
        "the loss of a perfect predictor",
        evaluation.mean,
        0.0,
        terms=terms * subject.eps,
        k=64,
        eps=subject.eps,
        call=evaluation.call,
    )


@check("eq07.perfect", needs_one=LOSSES)
def check_perfect_predictor_has_zero_loss(subject: Subject, trial: Trial) -> None:
    """At every (τ, d) of the grid through `dynamics_loss_at`, at drawn ones through `dynamics_loss`."""
    if subject.provides("dynamics_loss_at"):
        for level, step in ((tau, d) for d in step_sizes(subject.k_max) for tau in signal_levels(d)):
            labels = np.full((1, 1), float(level)), np.full((1, 1), float(step))
            draw = draw_inputs(subject, trial.seed, (1, 1, 2, 3), *labels)
            zero_loss(subject, trial, subject.evaluate("dynamics_loss_at", perfect(draw.z1[0]), draw))
    _perfect_through_every_route(subject, trial)


def _perfect_through_every_route(subject: Subject, trial: Trial) -> None:
    def judge(route: str, draw: Draw, _: None) -> None:
        same = same_data(draw)
        zero_loss(subject, trial, subject.evaluate(route, perfect(same.z1[0]), same))

    every_draw(subject, trial, judge)


@check("eq06.x-prediction", needs_one=LOSSES)
def check_output_is_read_as_clean_data(subject: Subject, trial: Trial) -> None:
    """At d_min the loss vanishes where the output is z1, and nowhere near where it is the velocity z1 − z0."""

    def holds(seed: int) -> None:
        shape = (1, 1, 2, 3)
        tau = np.random.default_rng(seed).integers(0, subject.k_max, (1, 1)) / subject.k_max
        draw = draw_inputs(subject, seed, shape, tau, np.full((1, 1), subject.d_min))
        assert draw.z0 is not None
        zero_loss(subject, trial, subject.evaluate("dynamics_loss_at", perfect(draw.z1[0]), draw))
        velocity = subject.evaluate("dynamics_loss_at", perfect((draw.z1 - draw.z0)[0]), draw)
        trial.fail_unless(
            velocity.mean > 1e-3 * float((draw.z0**2).mean()),
            "the loss vanishes where the network returns the velocity z1 − z0",
            call=velocity.call,
            got=velocity.mean,
            expected=float((draw.z0**2).mean()),
        )

    if subject.provides("dynamics_loss_at"):
        trial.for_all(seeds(), body=holds)
    elif subject.adapter.min_batch == 1:
        _perfect_where_all_is_at_d_min(subject, trial)
    else:
        _perfect_through_every_route(subject, trial)


def _perfect_where_all_is_at_d_min(subject: Subject, trial: Trial) -> None:
    """Above d_min a perfect predictor's loss is a matter of eq07.perfect: it hangs on the teacher as well."""

    def holds(seed: int) -> None:
        draw = same_data(draw_inputs(subject, seed, (1, 1, 2, 3)))
        seen = subject.evaluate("dynamics_loss", AFFINE, draw).students
        assume(all(np.all(match.student.d == subject.d_min) for match in seen))
        zero_loss(subject, trial, subject.evaluate("dynamics_loss", perfect(draw.z1[0]), draw))

    trial.for_all(seeds(), body=holds)


@check("eq07.finite", needs_one=LOSSES)
def check_loss_is_finite_on_the_whole_grid(subject: Subject, trial: Trial) -> None:
    """Every (τ, d), τ = 1 − d included; through `dynamics_loss` a large batch of drawn ones."""
    pairs = [(float(level), float(step)) for step in step_sizes(subject.k_max) for level in signal_levels(step)]
    tau, d = (np.array(column)[:, None] for column in zip(*pairs, strict=True))
    draw = draw_inputs(subject, trial.seed, (len(pairs), 1, 2, 2), tau, d)
    for route in subject.loss_routes():
        wide = (
            draw
            if route == "dynamics_loss_at"
            else draw_inputs(subject, trial.seed, (max(64, subject.adapter.min_batch), 4, 2, 2))
        )
        for network in NETWORKS:
            evaluation = subject.evaluate(route, network, wide)
            finite = np.isfinite(evaluation.loss).all()
            trial.fail_unless(
                bool(finite), "the loss is not finite", call=f"{route}(network, z1 of {wide.z1.shape}, the whole grid)"
            )


def compare_loss(subject: Subject, trial: Trial, evaluation: Evaluation) -> None:
    """The whole loss, as one number or timestep by timestep."""
    expected = expect(subject, evaluation)
    options: dict[str, Any] = {"k": K_LOSS, "eps": subject.eps, "call": evaluation.call}
    if evaluation.loss.ndim == 2:
        got, terms = evaluation.loss[expected.rows], expected.terms
        trial.compare("the loss", got, expected.timesteps, terms=terms, **options)
    else:
        trial.compare("the loss", evaluation.mean, expected.loss, terms=expected.loss_terms, **options)


@check("eq07.absolute", needs_one=LOSSES)
def check_loss_has_the_papers_absolute_value(subject: Subject, trial: Trial) -> None:
    """Under the declared norm (A8) and averaging (A27), also where errors are large: nothing is clipped."""

    def judge(route: str, draw: Draw, scale: float) -> None:
        compare_loss(subject, trial, subject.evaluate(route, AnalyticNetwork(scale=scale), draw))

    every_draw(subject, trial, judge, st.sampled_from([1.0, 32.0]))


@check("eq07.batch-shapes", needs_one=LOSSES)
def check_no_shape_broadcasts_by_luck(subject: Subject, trial: Trial) -> None:
    """B ≠ T both ways, B = T, T = 1, B = 1, as far as the declared minimum batch admits them."""
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
def check_nan_in_the_data_shows_in_the_loss(subject: Subject, trial: Trial) -> None:
    """One NaN in z1 makes the loss NaN."""

    def judge(route: str, draw: Draw, _: None) -> None:
        z1 = draw.z1.copy()
        z1.flat[draw.seed % z1.size] = np.nan
        evaluation = subject.evaluate(route, AFFINE, replace(draw, z1=z1))
        seen = not np.isfinite(evaluation.loss).all()
        trial.fail_unless(
            seen, "a NaN in z1 leaves the loss finite", call=evaluation.call, got=evaluation.mean, expected="NaN"
        )

    every_draw(subject, trial, judge)


PAIRS = ((0.0, 1.0), (0.0, 0.5), (0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.0, None), (0.5, None))
"""(τ, d) of the signature; None stands for d_min."""
TRACE = 13


def trace(evaluation: Evaluation) -> np.ndarray:
    """One evaluation in `TRACE` numbers that do not depend on the order of rows and calls."""
    matches = evaluation.students
    slopes = [
        0.0 if m.student.gradient is None else float((m.student.gradient * m.student.output).sum()) for m in matches
    ]
    values = [evaluation.mean, float(np.mean(slopes)), float(np.mean([m.student.tau.mean() for m in matches]))]
    for entries_of in ([m.first for m in matches], [m.second for m in matches]):
        made = [entry for entry in entries_of if entry is not None]
        for read in (_mean_level, _mean_step, _mean_input, _leaked, _conditioned):
            values.append(float(np.mean([read(entry) for entry in made])) if made else -1.0)
    return np.array(values)


def _mean_level(entry: CallRow) -> float:
    return float(entry.tau.mean())


def _mean_step(entry: CallRow) -> float:
    return float(entry.d.mean()) + 2.0 * entry.copied


def _mean_input(entry: CallRow) -> float:
    return float(entry.z.mean())


def _leaked(entry: CallRow) -> float:
    return 0.0 if entry.gradient is None else float(np.abs(entry.gradient).sum())


def _conditioned(entry: CallRow) -> float:
    return float(entry.actions is not None)


def _reproducible(subject: Subject, draw: Draw) -> np.ndarray:
    """The trace; 9 where it differs between two seeds, so that what is drawn at random is known as such."""
    one, other = (trace(subject.evaluate("dynamics_loss_at", AFFINE, replace(draw, seed=seed))) for seed in (0, 1))
    return np.where(one == other, one, 9.0)


@signature("dynamics_loss_at")
def signature_calls_and_values_on_the_grid(subject: Subject) -> np.ndarray:
    """The trace at single (τ, d) and of two mixed batches, and whether a NaN shows."""
    pairs = [(tau, subject.d_min if d is None else d) for tau, d in PAIRS]
    pairs = [(tau, d) for tau, d in pairs if d >= subject.d_min and tau + d <= 1]
    singles = [draw_inputs(subject, 5, (1, 1, 1, 2), np.full((1, 1), tau), np.full((1, 1), d)) for tau, d in pairs]
    mixed = [draw_inputs(subject, 7, (2, 3, 2, 2)), draw_inputs(subject, 8, (4, 4, 2, 2))]
    traces = [attempt(partial(_reproducible, subject, draw), TRACE) for draw in (*singles, *mixed)]
    poisoned = replace(mixed[0], z1=np.full_like(mixed[0].z1, np.nan))
    hidden = attempt(lambda: np.isfinite(subject.evaluate("dynamics_loss_at", AFFINE, poisoned).loss).all(), 1)
    return np.concatenate([*traces, hidden])


def observe_draws(subject: Subject) -> tuple[list[Draw], np.ndarray]:
    """Four evaluations of the loss with what they drew, recovered from their student calls, and their traces."""
    draws_seen, traces = [], []
    for seed in range(4):
        given = draw_inputs(subject, seed, (max(2, subject.adapter.min_batch), 3, 2, 2))
        evaluation = subject.evaluate("dynamics_loss", AFFINE, given)
        matches = evaluation.students
        rows = [match.row for match in matches]
        noise, _ = _noises(evaluation)
        tau, d = (np.stack([getattr(match.student, name) for match in matches]) for name in ("tau", "d"))
        draws_seen.append(Draw(given.z1[rows], given.actions[rows], seed, noise, tau, d))
        traces.append(trace(evaluation))
    return draws_seen, np.concatenate(traces)


@signature("dynamics_loss", tolerance=1e-2, observe=observe_draws)
def signature_calls_and_values_on_what_was_drawn(subject: Subject, draws_seen: list[Draw]) -> np.ndarray:
    """The traces of a candidate that is given what the implementation drew."""

    def traced(draw: Draw) -> np.ndarray:
        return trace(subject.evaluate("dynamics_loss_at", AFFINE, draw))

    return np.concatenate([attempt(partial(traced, draw), TRACE) for draw in draws_seen])
