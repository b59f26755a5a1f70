"""Checks of Eq. (7) on the shape of the batch."""

from __future__ import annotations

from dreamer4_conformance.instruments.inputs import draw_inputs
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.subject import LOSSES, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.loss_evaluations import compare_loss


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
