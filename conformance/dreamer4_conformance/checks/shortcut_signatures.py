"""Signatures of the dynamics loss: calls, values and gradients, by which a failure is named."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from dreamer4_conformance.instruments.call_roles import CallRow, Match
from dreamer4_conformance.instruments.inputs import draw_inputs, largest_scale
from dreamer4_conformance.instruments.recorder import AFFINE, CONSTANT, AnalyticNetwork
from dreamer4_conformance.instruments.subject import Draw, Evaluation, Subject
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.loss_evaluations import recover_noise
from dreamer4_conformance.judging.strategies import SCALES

PAIRS = ((0.0, 1.0), (0.0, 0.5), (0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.0, None), (0.5, None))
"""(τ, d) of the signature; None means d_min."""


TRACE = 13
"""Length of `trace`."""
TOKEN = 8
"""Channels of the single tokens that are compared in full."""


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
    """Traces of single timesteps at `PAIRS` and of three mixed batches of ordinary size."""
    pairs = [(tau, subject.d_min if d is None else d) for tau, d in PAIRS]
    pairs = [(tau, d) for tau, d in pairs if d >= subject.d_min and tau + d <= 1]
    singles = [draw_inputs(subject, 5, (1, 1, 1, 2), np.full((1, 1), tau), np.full((1, 1), d)) for tau, d in pairs]
    mixed = [draw_inputs(subject, 7 + i, shape) for i, shape in enumerate(((2, 3, 2, 2), (4, 4, 2, 2), (1, 4, 2, 2)))]
    traces = [attempt(partial(_trace_if_repeatable, subject, draw), TRACE) for draw in (*singles, *mixed)]
    return np.concatenate(traces)


@signature("dynamics_loss_at")
def signature_calls_and_values_at_large_errors(subject: Subject) -> np.ndarray:
    """Trace of a mixed batch whose errors reach clamps, and of single timesteps at τ = 0 and d = 1 and d_min."""
    draw = draw_inputs(subject, 9, (4, 4, 2, 2), scale=SCALES[-1])
    ends = [
        draw_inputs(subject, 5, (1, 1, 1, 2), np.zeros((1, 1)), np.full((1, 1), d), scale=SCALES[-1])
        for d in (1.0, subject.d_min)
    ]
    return np.concatenate([attempt(partial(_trace_if_repeatable, subject, x), TRACE) for x in (draw, *ends)])


@signature("dynamics_loss_at")
def signature_nan_in_the_data(subject: Subject) -> np.ndarray:
    """Whether NaN in all of z1 leaves the loss finite."""
    draw = draw_inputs(subject, 7, (2, 3, 2, 2))
    poisoned = replace(draw, z1=np.full_like(draw.z1, np.nan))
    return attempt(lambda: np.isfinite(subject.evaluate("dynamics_loss_at", AFFINE, poisoned).loss).all(), 1)


@signature("dynamics_loss_at")
def signature_second_teacher_input(subject: Subject) -> np.ndarray:
    """z' at single timesteps above d_min, whatever is done with the teacher's predictions."""

    def second_input(tau: float, d: float) -> np.ndarray:
        [match] = _single_timestep(subject, AFFINE, tau, d)
        return np.full(TOKEN, -9.0) if match.second is None else match.second.z

    pairs = _bootstrapped(subject)
    return np.concatenate([attempt(partial(second_input, tau, d), TOKEN) for tau, d in pairs] or [np.zeros(0)])


@signature("dynamics_loss_at")
def signature_target_of_the_bootstrap(subject: Subject) -> np.ndarray:
    """Directions of the gradient at single timesteps above d_min, which no factor and no weight of the term changes.

    The predictions of `CONSTANT` do not depend on z', so that a target made of predictions alone has its direction
    with any z'. Steps to τ = 1 are left out: there the paper's target is the second prediction too.
    """

    def direction(tau: float, d: float) -> np.ndarray:
        [match] = _single_timestep(subject, CONSTANT, tau, d)
        gradient = np.zeros(TOKEN) if match.student.gradient is None else match.student.gradient.ravel()
        return np.asarray(gradient / max(float(np.linalg.norm(gradient)), 1e-30))

    pairs = [(tau, d) for tau, d in _bootstrapped(subject) if tau + d < 1]
    return np.concatenate([attempt(partial(direction, tau, d), TOKEN) for tau, d in pairs] or [np.zeros(0)])


def _bootstrapped(subject: Subject) -> list[tuple[float, float]]:
    """Those of `PAIRS` that are above d_min."""
    return [(tau, d) for tau, d in PAIRS if d is not None and d > subject.d_min]


def _single_timestep(subject: Subject, network: AnalyticNetwork, tau: float, d: float) -> list[Match]:
    """Students of one timestep with one token of `TOKEN` channels."""
    draw = draw_inputs(subject, 5, (1, 1, 1, TOKEN), np.full((1, 1), tau), np.full((1, 1), d))
    return subject.evaluate("dynamics_loss_at", network, draw).students


def observe_draws(subject: Subject) -> tuple[list[Draw], np.ndarray]:
    """Four evaluations of the loss: their draws, recovered from their student calls, and their traces."""
    draws_made, traces = [], []
    time, fewest = max(3, subject.adapter.min_time), subject.adapter.min_batch
    large, largest = SCALES[1:] if largest_scale(subject, "dynamics_loss") > 1 else (1.0, 1.0)
    for seed, (batch, scale) in enumerate(((2, large), (1, 1.0), (2, largest), (2, largest))):
        inputs = draw_inputs(subject, seed, (max(batch, fewest), time, 2, 2), scale=scale)
        evaluation = subject.evaluate("dynamics_loss", AFFINE, inputs)
        matches = evaluation.students
        rows = [match.row for match in matches]
        noise, _ = recover_noise(evaluation)
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


@signature("dynamics_loss", tolerance=1e-6, drawn=True)
def signature_use_of_the_rows(subject: Subject) -> np.ndarray:
    """Shares of the rows of the data with 0, 1 and more student rows, in two batches."""

    def probe(seed: int) -> np.ndarray:
        inputs = draw_inputs(subject, seed, (16, max(3, subject.adapter.min_time), 2, 3), scale=SCALES[-1])
        matches = subject.evaluate("dynamics_loss", AFFINE, inputs).matches
        used = np.bincount([match.row for match in matches], minlength=len(inputs.z1))
        return np.bincount(np.minimum(used, 2), minlength=3) / len(used)

    return np.concatenate([attempt(partial(probe, seed), 3) for seed in range(2)])
