"""Checks of Eq. (7) on gradients: none through the teacher, the paper's through the student."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.expected_loss import expect
from dreamer4_conformance.instruments.subject import LOSSES, Evaluation, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.loss_evaluations import compare_gradient, every_evaluation, with_gradients


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
