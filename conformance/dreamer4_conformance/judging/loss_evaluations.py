"""Evaluations of the dynamics loss for the checks of Eq. (6)-(8): draws of every shape, and comparisons with the paper.

Every provided route is judged: `dynamics_loss_at`, which takes z0, τ and d as arguments, and `dynamics_loss`, which
draws them. Tolerances are relative to the sum of the absolute values of the terms of the x-space error, squared where
the loss is (`Expectation.terms`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable, UnsatisfiedAssumption

from dreamer4_conformance.instruments.call_roles import CallRow, Match
from dreamer4_conformance.instruments.expected_loss import Expectation, expect
from dreamer4_conformance.instruments.inputs import draw_inputs, works_at
from dreamer4_conformance.instruments.recorder import AFFINE, CONSTANT, AnalyticNetwork
from dreamer4_conformance.instruments.shared_results import same_bits, shared_result
from dreamer4_conformance.instruments.subject import Draw, Evaluation, Invocation, Subject
from dreamer4_conformance.judging.check import Trial
from dreamer4_conformance.judging.strategies import LONGEST, draws, seeds
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, OperationFailed
from dreamer4_reference.eq04_grid import step_sizes

NETWORKS = (AFFINE, CONSTANT)


K_LOSS = 16.0
"""Roundings of the loss: about ten operations on each element, then the reductions."""


LARGE = (64, 2, 3, 2)
"""(B, T, S, D) of evaluations with many rows of a loss that draws its labels."""
LARGE_BATCHES = 3
"""Number of these evaluations: labels that one row in twenty has are then missing in fewer than one run of 10,000."""


ORDINARY = 6.0
"""Largest absolute value of ordinary latents; a loss may refuse data beyond it, since a tanh bounds latents."""


def every_draw(
    subject: Subject,
    trial: Trial,
    judge: Callable[[str, Draw, Any], None],
    also: st.SearchStrategy[Any] = st.none(),  # noqa: B008 - strategies are immutable
    routes: Sequence[str] | None = None,
    *,
    large: bool = True,
    **bounds: int,
) -> None:
    """Call `judge(route, draw, extra)` on draws of random shape and content, for every provided route.

    Shapes at which the loss never works are left out: eq07.batch-shapes judges those. A loss that draws its labels is
    also evaluated with many rows, among which rare labels are likely, if gradients tell its rows apart.

    Args:
        judge: raises Deviation if the loss of `route` on `draw` violates the clause.
        also: strategy for `extra`.
        routes: operations to judge; by default all that are provided.
        large: whether to evaluate with many rows; False if almost every such batch has a row that `judge` rejects.
        bounds: of T, arguments of `strategies.draws`.
    """
    for route in subject.loss_routes() if routes is None else routes:

        def holds(route: str, draw: Draw, extra: Any) -> None:
            try:
                judge(route, draw, extra)
            except OperationFailed:
                if np.abs(draw.z1).max() > ORDINARY or not works_at(subject, route, draw.z1.shape):
                    raise UnsatisfiedAssumption from None
                raise

        trial.for_all(st.just(route), draws(subject, route, **bounds), also, body=holds)
        shape = _large_shape(subject, **bounds)
        if large and route == "dynamics_loss" and _recognises_all_rows(subject, route, shape):
            with suppress(Unsatisfiable):
                drawn = seeds().map(partial(draw_inputs, subject, shape=shape))
                trial.for_all(st.just(route), drawn, also, body=holds, examples=LARGE_BATCHES)


def _large_shape(subject: Subject, shortest: int = 1, longest: int = LONGEST) -> tuple[int, int, int, int]:
    """`LARGE` for the adapter; `shortest` and `longest` bound T."""
    batch, time, tokens, channels = LARGE
    time = max(min(max(time, shortest), longest), subject.adapter.min_time)
    return max(batch, subject.adapter.min_batch), time, tokens, channels


def _recognises_all_rows(subject: Subject, route: str, shape: tuple[int, int, int, int]) -> bool:
    """True if each row of the data has one certain student with a gradient; without gradients, rows are mistaken."""
    if subject.adapter.few_shapes:
        return False
    key = f"{route} recognised at {shape}"
    if key not in subject.working:
        subject.working[key] = False
        with suppress(OperationFailed, NotProvided, Inconclusive, UnsatisfiedAssumption):
            evaluation = subject.evaluate(route, AFFINE, draw_inputs(subject, 0, shape))
            certain = sorted(match.row for match in evaluation.students if match.certain)
            subject.working[key] = evaluation.has_gradients and certain == list(range(shape[0]))
    return subject.working[key]


def every_evaluation(
    subject: Subject, trial: Trial, judge: Callable[[Evaluation], None], routes: Sequence[str] | None = None
) -> None:
    """Call `judge` on evaluations of every provided route with each of `NETWORKS`, which the clauses share.

    An evaluation of an earlier clause that deviates is repeated, so that a deviation is always one of a new call.
    """

    def judge_evaluation(route: str, draw: Draw, network: AnalyticNetwork) -> None:
        evaluation, earlier = shared_evaluation(subject, route, network, draw)
        try:
            _judge_valid(subject, evaluation, judge)
        except Deviation:
            if not earlier:
                raise
            _judge_valid(subject, subject.evaluate(route, network, draw), judge)

    every_draw(subject, trial, judge_evaluation, st.sampled_from(NETWORKS), routes)


def _judge_valid(subject: Subject, evaluation: Evaluation, judge: Callable[[Evaluation], None]) -> None:
    assume_valid_labels(subject, evaluation)
    judge(evaluation)


def shared_evaluation(subject: Subject, route: str, network: AnalyticNetwork, draw: Draw) -> tuple[Evaluation, bool]:
    """`Subject.evaluate` by `shared_result`: the evaluation, and whether it is that of an earlier call."""
    if subject.factor is not None:
        return subject.evaluate(route, network, draw), False
    arrays = (draw.z1, draw.actions, draw.z0, draw.tau, draw.d)
    inputs = (network, draw.seed, *(None if x is None else (x.shape, x.tobytes()) for x in arrays))
    evaluation, earlier = shared_result(
        subject, route, inputs, lambda: subject.evaluate(route, network, draw), same_evaluation
    )
    subject.invocation = Invocation("evaluate", route, {"network": network, "draw": draw}, evaluation)
    return evaluation, earlier


def same_evaluation(first: Evaluation, second: Evaluation) -> bool:
    """Whether two evaluations have the same loss, calls of the network and gradients, bit for bit."""
    if len(first.calls) != len(second.calls) or first.has_gradients != second.has_gradients:
        return False
    return all(map(same_bits, _recorded(first), _recorded(second)))


def _recorded(evaluation: Evaluation) -> list[Any]:
    """The loss, and everything that is recorded of each call."""
    return [evaluation.loss, *(value for call in evaluation.calls for value in vars(call).values())]


def assume_valid_labels(subject: Subject, evaluation: Evaluation) -> None:
    """Skip an evaluation whose labels Eq. (4) excludes, if its draws are taken as they are (`Subject.recovered`)."""
    if "draws" in subject.recovered:
        for student in (match.student for match in evaluation.students):
            steps = [float(step) for step in step_sizes(subject.k_max)]
            in_range = np.all((student.tau >= 0) & (student.tau + student.d <= 1))
            if not (in_range and np.isin(student.d, steps).all() and np.all(student.tau % student.d == 0)):
                raise UnsatisfiedAssumption


def certain_evaluations(
    subject: Subject, route: str, network: AnalyticNetwork, inputs: Iterable[Draw], count: int
) -> Iterator[Evaluation]:
    """Yield up to `count` evaluations whose student rows are recognised, of the draws `inputs`."""
    for draw in inputs:
        evaluation = subject.evaluate(route, network, draw)
        with suppress(UnsatisfiedAssumption):
            assert evaluation.students
            yield evaluation
            count -= 1
        if count == 0:
            return


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


def compare_loss(subject: Subject, trial: Trial, evaluation: Evaluation) -> None:
    """Compare the loss with the paper's, as a scalar or for every timestep."""
    expected = expect(subject, evaluation)
    if evaluation.loss.ndim == 2:
        compare(trial, evaluation, "the loss", evaluation.loss[expected.rows], expected.timesteps, expected.terms)
    else:
        compare(trial, evaluation, "the loss", evaluation.mean, expected.loss, expected.loss_terms)


def compare_gradient(trial: Trial, evaluation: Evaluation, expected: Expectation, where: np.ndarray) -> None:
    """Compare d loss / d ẑ1 at the timesteps `where` (M, T)."""
    assert expected.observed_gradient is not None
    gradient, terms = (expected.gradient(x)[where] for x in (expected.error, expected.magnitude))
    name = "the gradient with respect to the student's output"
    compare(trial, evaluation, name, expected.observed_gradient[where], gradient, terms)


def with_gradients(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation. NotProvided if its loss carries no gradients."""
    if not evaluation.has_gradients:
        raise NotProvided("needs a loss with gradients: not detached, from a TorchAdapter or a JaxAdapter")
    return evaluation


def same_data(draw: Draw) -> Draw:
    """Copy the data of the first row to every row, so that one network predicts all rows perfectly."""
    return replace(draw, z1=np.broadcast_to(draw.z1[:1], draw.z1.shape).copy())


def is_unconditional(subject: Subject) -> bool:
    """True if a provided loss calls the network without actions."""
    for route in subject.loss_routes():
        batch, time = max(2, subject.adapter.min_batch), max(3, subject.adapter.min_time)
        draw = draw_inputs(subject, 0, (batch, time, 1, 1))
        try:
            evaluation = subject.evaluate(route, AFFINE, draw, differentiated=False)
        except (OperationFailed, Inconclusive, NotProvided):
            continue
        return bool(evaluation.calls) and all(call.actions is None for call in evaluation.calls)
    return False


def recover_noise(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """z0 (M, T, S, D) of every student row, recovered from its input, and the scale of its rounding error."""
    matches = evaluation.students
    tau = np.stack([match.student.tau for match in matches])[:, :, None, None]
    z, z1 = np.stack([match.student.z for match in matches]), evaluation.draw.z1[[match.row for match in matches]]
    return (z - tau * z1) / (1 - tau), (np.abs(z) + np.abs(tau * z1)) / (1 - tau)
