"""Checks of Eq. (7) on the calls of the network: inputs, labels and actions of student and teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import assume

from dreamer4_conformance.instruments.call_roles import CallRow, call_rows
from dreamer4_conformance.instruments.inputs import smallest_batch
from dreamer4_conformance.instruments.recorder import AFFINE, perfect
from dreamer4_conformance.instruments.subject import LOSSES, Draw, Evaluation, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.loss_evaluations import (
    assume_valid_labels,
    compare,
    every_draw,
    every_evaluation,
    recover_noise,
    same_data,
    teachers,
)
from dreamer4_conformance.judging.strategies import LONGEST
from dreamer4_reference.eq01_corruption import corrupt


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
    """The teacher calls are labelled (τ, d/2) and (τ + d/2, d/2) at every timestep above d_min.

    Exact for levels on the grid of Eq. (4). Off the grid, which `eq04.grid` judges, τ + d/2 has two roundings.
    """

    def judge(evaluation: Evaluation) -> None:
        for match, first, second in teachers(evaluation):
            tau, d = match.student.tau[match.bootstrap], match.student.d[match.bootstrap]
            for teacher, level, name in ((first, tau, "first"), (second, tau + d / 2, "second")):
                got = np.stack([teacher.tau, teacher.d])[:, match.bootstrap]
                expected = np.stack([level, d / 2])
                slack = np.where(tau % d == 0, 0.0, 2 * subject.eps)
                trial.fail_unless(
                    bool(np.all(np.abs(got - expected) <= np.stack([slack, np.zeros_like(d)]))),
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


@check("eq07.consistent-labels", needs_one=LOSSES)
def check_inputs_lie_at_their_labels(subject: Subject, trial: Trial) -> None:
    """With a perfect predictor every input of the network is (1 − τ) z0 + τ z1 at its label τ; one d per sequence.

    Within rounding; at d_min the level may differ from the label by 1/K_max (A4, A10), and an input labelled 1 may be
    clean or at the last level of the grid (A12). Sequences have one timestep if the loss allows that.
    """

    def judge(route: str, draw: Draw, _: None) -> None:
        fail_unless_inputs_match_labels(subject, trial, route, one_step(draw), mixed=False)

    for route in subject.loss_routes():
        time = min(smallest_batch(subject, route)[1], LONGEST)
        one_step_per_row = time == 1 or subject.readings["A3"] == "sequence"
        every_draw(subject, trial, judge, routes=[route], large=one_step_per_row, shortest=time, longest=time)


def one_step(draw: Draw) -> Draw:
    """Give every sequence of a draw the step size of its first timestep, and levels on its grid."""
    assert draw.tau is not None
    assert draw.d is not None
    d = np.broadcast_to(draw.d[:, :1], draw.d.shape)
    return replace(draw, d=d, tau=np.floor(draw.tau / d) * d)


@check("eq07.mixed-steps", needs_one=LOSSES)
def check_mixed_sequences_stay_consistent(subject: Subject, trial: Trial) -> None:
    """As eq07.consistent-labels, in sequences whose timesteps have different step sizes, d_min among them (A4)."""
    if subject.readings["A3"] == "sequence":
        trial.inconclusive("does not apply: d is drawn per sequence (reading A3)")

    def judge(route: str, draw: Draw, _: None) -> None:
        fail_unless_inputs_match_labels(subject, trial, route, draw, mixed=True)

    every_draw(subject, trial, judge, shortest=2)


def fail_unless_inputs_match_labels(subject: Subject, trial: Trial, route: str, draw: Draw, *, mixed: bool) -> None:
    """Deviation unless a perfect predictor receives (1 − τ) z0 + τ z1 in every call, with τ the label of the input.

    Unless `mixed`, draws are left out in which a sequence has timesteps at d_min and above it.
    """
    draw = same_data(draw)
    affine = subject.evaluate(route, AFFINE, draw)
    assume(mixed or all(match.bootstrap.all() or not match.bootstrap.any() for match in affine.students))
    assume(all(np.all((match.student.tau >= 0) & (match.student.tau < 1)) for match in affine.students))
    assume_valid_labels(subject, affine)
    noises = recover_noise(affine)
    evaluation = subject.evaluate(route, perfect(draw.z1[0]), draw)
    students = [match.student for match in evaluation.students] if "teacher" in subject.recovered else None
    for row in call_rows(evaluation.calls) if students is None else students:
        for time in range(len(row.tau)):
            _fail_unless_input_matches_label(subject, trial, evaluation, row, time, noises)


def _fail_unless_input_matches_label(
    subject: Subject,
    trial: Trial,
    evaluation: Evaluation,
    call_row: CallRow,
    time: int,
    noises: tuple[np.ndarray, np.ndarray],
) -> None:
    """Compare the input with (1 − label) z0 + label z1 of the nearest data row; at d_min within 1/K_max (A4, A10)."""
    z1, z = evaluation.draw.z1[0, time], call_row.z[time]
    label = call_row.tau[time]
    if label >= 1 and not np.allclose(z, z1, rtol=16 * subject.eps, atol=0):
        label = 1 - subject.d_min
    noise, scale = (array[:, time] for array in noises)
    expected = (1 - label) * noise + label * z1
    terms = (1 - label) * scale + np.abs(label * z1) + np.abs(z)
    slack = np.where(call_row.d[time] <= subject.d_min, subject.d_min * np.abs(z1 - noise), 0.0)
    excess = np.abs(z - expected) - slack
    row = int(np.argmin((np.maximum(excess, 0) / terms).max((1, 2))))
    nearest = np.clip(z, expected[row] - slack[row], expected[row] + slack[row])
    name = f"the input labelled τ = {call_row.tau[time]:g}, d = {call_row.d[time]:g}"
    compare(trial, evaluation, name, z, nearest, terms[row], k=16)
