"""Checks of Eq. (7) on the batch: every shape agrees with the reference, and every row and timestep is used once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dreamer4_conformance.instruments.inputs import (
    draw_inputs,
    fewest_rows,
    largest_scale,
    ordinary_shape,
    working_batch,
)
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.shapes import suite_shapes
from dreamer4_conformance.instruments.subject import LOSSES, Draw, Evaluation, Subject
from dreamer4_conformance.judging.check import FALSE_ALARM, Trial, check
from dreamer4_conformance.judging.loss_evaluations import certain_evaluations, compare_loss
from dreamer4_conformance.verdicts import Deviation, Inconclusive, OperationFailed

ATTEMPTS = 24


@check("eq07.batch-shapes", needs_one=LOSSES)
def check_batch_and_time_axes_are_not_confused(subject: Subject, trial: Trial) -> None:
    """The loss has the paper's value for B < T, B > T, B = T, T = 1 and B = 1, as `min_batch` and `min_time` allow.

    Within `K_LOSS` roundings. If an ordinary batch has another value too, only operations that raise fail.
    """
    for route in subject.loss_routes():
        as_in_the_paper = _ordinary_value_is_the_papers(subject, route)
        for batch, time in suite_shapes(subject).unequal:
            shape = (max(batch, fewest_rows(subject, route)), max(time, subject.adapter.min_time), 2, 3)
            for evaluation in _recognised(subject, trial, route, shape):
                if as_in_the_paper:
                    compare_loss(subject, trial, evaluation)
        if not as_in_the_paper:
            trial.inconclusive("an ordinary batch does not have the paper's value either, which eq07.absolute judges")


def _recognised(subject: Subject, trial: Trial, route: str, shape: tuple[int, int, int, int]) -> Iterator[Evaluation]:
    """Four evaluations at a shape, of data whose rows differ clearly."""
    scale = largest_scale(subject, route)
    inputs = (draw_inputs(subject, trial.seed + i, shape, scale=scale) for i in range(ATTEMPTS))
    return certain_evaluations(subject, route, AFFINE, inputs, 4)


def _ordinary_value_is_the_papers(subject: Subject, route: str) -> bool:
    """True if the loss has the paper's value, or raises, for a batch like those of the smoke calls."""
    trial = Trial()
    try:
        for evaluation in _recognised(subject, trial, route, ordinary_shape(subject, route)):
            compare_loss(subject, trial, evaluation)
    except (OperationFailed, Inconclusive):
        return True
    except Deviation:
        return False
    return True


ROWS = 8
"""Rows of the data, at least, among which a share that is left out can be seen."""
COUNTED = 8
"""Draws in which the student's rows are counted."""


@check("eq07.every-row", needs_one=LOSSES, decisions=2)
def check_every_row_and_timestep_of_the_data_is_used(subject: Subject, trial: Trial) -> None:
    """Each row and timestep of z1 changes the loss, and each row belongs to equally many rows of the student.

    z1 is changed in one timestep of one row at a time, with the same seed: the loss must change at d = d_min, where it
    is the target, and at τ > 0, where it is in z̃. Through `dynamics_loss_at` every timestep is at d_min. Through
    `dynamics_loss` a timestep above d_min at τ = 0 rightly has no influence; it is left out if it has none in so many
    draws that the probability is below `FALSE_ALARM`: about 19 at K_max = 64.
    """
    for route in subject.loss_routes():
        batch = working_batch(subject, route, ROWS, 3)
        share = _share_without_influence(subject) if route == "dynamics_loss" else 0.0
        count = 4 if share == 0 else math.ceil(math.log(FALSE_ALARM / math.prod(batch)) / math.log(share))
        inputs = [_distinct(subject, trial.seed + i, batch, route) for i in range(count)]
        _fail_unless_rows_are_used_equally(subject, trial, route, inputs[:COUNTED])
        _fail_unless_data_has_influence(subject, trial, route, inputs, share)


def _distinct(subject: Subject, seed: int, batch: tuple[int, int], route: str) -> Draw:
    """Data of recognisable rows; through `dynamics_loss_at` every timestep is at d_min."""
    scale = largest_scale(subject, route)
    if route == "dynamics_loss":
        return draw_inputs(subject, seed, (*batch, 2, 3), scale=scale)
    tau = np.random.default_rng(seed).integers(subject.k_max, size=batch) / subject.k_max
    return draw_inputs(subject, seed, (*batch, 2, 3), tau, np.full(batch, subject.d_min), scale=scale)


def _fail_unless_rows_are_used_equally(subject: Subject, trial: Trial, route: str, inputs: list[Draw]) -> None:
    """Count the student rows of each row of the data, where gradients tell the students and all are certain."""
    for draw in inputs:
        evaluation = subject.evaluate(route, AFFINE, draw)
        if not evaluation.has_gradients or not all(match.certain for match in evaluation.matches):
            continue
        counted = Counter(match.row for match in evaluation.matches)
        counts = [counted[row] for row in range(len(draw.z1))]
        sentence = "the rows of the data are not used equally often; got: student rows per row of the data"
        trial.fail_unless(len(set(counts)) == 1, sentence, call=evaluation.call, got=counts, expected="equal numbers")


def _fail_unless_data_has_influence(
    subject: Subject, trial: Trial, route: str, inputs: list[Draw], share: float
) -> None:
    """Look for a draw in which each timestep has influence; `share` is the probability that one rightly has none."""
    unused = {(row, time) for row in range(inputs[0].z1.shape[0]) for time in range(inputs[0].z1.shape[1])}
    total = len(unused)
    for draw in inputs:
        before = subject.evaluate(route, AFFINE, draw, differentiated=False)
        unused = {where for where in unused if not _has_influence(subject, before, where)}
        if not unused:
            break
    timesteps = ", ".join(f"z1[{row}, {time}]" for row, time in sorted(unused)[:6])
    sentence = f"{len(unused)} of {total} timesteps of the data never change the loss: {timesteps}"
    call = f"{route}(network, z1 of {inputs[0].z1.shape}, seed={inputs[0].seed}, …)"
    if route == "dynamics_loss_at":
        trial.fail_unless(not unused, sentence, call=call)
    else:
        p_value = min(1.0, total * share ** len(inputs)) if unused else 1.0
        trial.reject_law(p_value, sentence, call=call, got=len(unused), expected=0)


def _share_without_influence(subject: Subject) -> float:
    """Probability of τ = 0 above d_min under Eq. (4) and reading A2."""
    above = subject.k_max.bit_length() - 1
    if above == 0:
        return 0.0
    share = subject.adapter.d_min_share if subject.readings["A2"] == "split" else 1 / (above + 1)
    return (1 - (share or 0.0)) * sum(0.5**exponent for exponent in range(above)) / above


def _has_influence(subject: Subject, before: Evaluation, where: tuple[int, int]) -> bool:
    """True if the loss changes, beyond one rounding error, with the data at a timestep of a row."""
    z1 = before.draw.z1.copy()
    z1[where] = subject.round(z1[where] + largest_scale(subject, before.route) ** 2)
    after = subject.evaluate(before.route, AFFINE, replace(before.draw, z1=z1), differentiated=False)
    return bool(np.any(np.abs(after.loss - before.loss) > subject.eps * np.abs(before.loss)))
