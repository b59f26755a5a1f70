"""Checks of generation frame by frame: with a cache it is what it is without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from dreamer4_conformance.instruments.black_box import (
    INFLUENCE_EXAMPLES,
    Tree,
    example_inputs,
    leaves,
    map_leaves,
    run_black_box,
    varies,
)
from dreamer4_conformance.instruments.inputs import moved_by_rounding
from dreamer4_conformance.instruments.stepwise import rollout_frames, undecided_unless_window_is_exceeded, unroll
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_influence
from dreamer4_conformance.judging.output_comparison import BUDGET, fail_unless_close, relative_errors
from dreamer4_conformance.verdicts import Deviation, OperationFailed

STEP = ("dynamics", "dynamics_init", "dynamics_step", "example")
ROLLOUT = ("rollout", "example")
LONGEST = {"dev": 64, "ci": 64, "nightly": 1024}
"""Frames that are generated at most, where a long context would take more to be left behind."""
SAME = 4.0
"""Budgets of `output_comparison` within which signatures take frames for the same."""


def _window(subject: Subject) -> int:
    """3 where a time layer sees all."""
    return subject.window or 3


@check("net.incremental", needs=STEP)
def check_one_frame_at_a_time_is_all_at_once(subject: Subject, trial: Trial) -> None:
    """Beyond three windows, or as far as `LONGEST` goes; with the task, and without it where that is possible."""
    time = min(3 * _window(subject) + 2, LONGEST[trial.profile])
    given = example_inputs(subject, "dynamics", trial.seed, 2, time)
    missing = _judge_unrolled(subject, trial, given)
    if _goes_without_task(subject, given):
        missing |= _judge_unrolled(subject, trial, {**given, "task": None})
    if missing:
        trial.inconclusive(f"the cached step returns no {' and no '.join(sorted(missing))} output, which dynamics does")
    undecided_unless_window_is_exceeded(subject, time)


def _goes_without_task(subject: Subject, given: Mapping[str, Tree]) -> bool:
    if given["task"] is None:
        return False
    try:
        run_black_box(subject, "dynamics", {**given, "task": None})
    except OperationFailed:  # this model always has a task
        return False
    return True


def _judge_unrolled(subject: Subject, trial: Trial, given: Mapping[str, Tree]) -> set[str]:
    """Judges what the step returns; the outputs of dynamics, but for z_hat, that it does not."""
    batch, time = given["z"].shape[:2]
    expected, got = run_black_box(subject, "dynamics", given), unroll(subject, given, time)
    told = "" if given["task"] is not None else ", without a task"
    call = f"dynamics_step, {time} times, and dynamics of example({trial.seed}, {batch}, {time}){told}"
    if "z_hat" not in got:
        raise Deviation("dynamics_step returns None for z_hat, dynamics does not", call=call)
    for name in (name for name in expected if name in got):

        def again(name: str = name) -> np.ndarray:
            return run_black_box(subject, "dynamics", {**given, "z": moved_by_rounding(subject, given["z"])})[name]

        what = f"{name} one frame at a time and all at once"
        fail_unless_close(trial, subject, what, got[name], expected[name], call, rounded=again)
    return expected.keys() - got.keys()


@check("ctx.cache", needs=ROLLOUT)
def check_rollout_with_a_cache_is_the_rollout_without(subject: Subject, trial: Trial) -> None:
    """Over the end of the window. Where context noise is drawn anew for each frame or evaluation (A28) it need not be the same."""
    generate, context, given = _rollouts(subject, trial.seed, trial.profile, 3)
    without = generate(given, cache=False)
    call = f"rollout(z of example, frames={without.shape[1]}, cache=True) and cache=False, after {context} frames"

    def again() -> np.ndarray:
        return generate({**given, "z": moved_by_rounding(subject, given["z"])}, cache=False)

    try:
        what = "frames generated with a cache and without"
        fail_unless_close(trial, subject, what, generate(given, cache=True), without, call, rounded=again)
    except Deviation as deviation:
        if subject.readings["A28"] == "frame":
            raise
        trial.inconclusive(f"{deviation.message}; under A28 = {subject.readings['A28']} their noise may be another")
    undecided_unless_window_is_exceeded(subject, context + without.shape[1])


def _rollouts(
    subject: Subject, seed: int, profile: str, frames: int
) -> tuple[Callable[..., np.ndarray], int, dict[str, Tree]]:
    """What generates, from how many frames, and the example: the window is full, so that the frames leave it behind."""
    context = min(_window(subject), LONGEST[profile])
    given = example_inputs(subject, "rollout", seed, 2, context + frames)
    generate = partial(rollout_frames, subject, context=context, seed=seed, num_steps=min(2, subject.k_max))
    return generate, context, given


@check("ctx.cache", needs=ROLLOUT)
def check_rollout_depends_on_context_and_actions(subject: Subject, trial: Trial) -> None:
    """Every generated frame, with the cache and without: a cache that nobody reads would agree with anything."""
    generate, _, given = _rollouts(subject, trial.seed, trial.profile, 2)
    for cache in (False, True):
        frames = generate(given, cache=cache)
        for name, said in (("z", "contexts"), ("actions", "sequences of actions")):
            if not varies(subject, "rollout", name, *given["z"].shape[:2]):
                continue
            still = np.flatnonzero(~_moved_frames(subject, partial(generate, cache=cache), frames, given, name))
            sentence = f"generated frame {still[0] if still.size else ''} is the same after different {said}"
            call = f"rollout(…, cache={cache}) with the {said} of two examples"
            fail_unless_influence(trial, subject, not still.size, sentence, call=call)


def _moved_frames(
    subject: Subject, generate: Callable[..., np.ndarray], frames: np.ndarray, given: Mapping[str, Tree], name: str
) -> np.ndarray:
    """bool (frames,): the generated frames that move with an input, in one example or in as many as it takes to move all."""
    moved = np.zeros(frames.shape[1], bool)
    for seed in range(1, INFLUENCE_EXAMPLES + 1):
        other = example_inputs(subject, "rollout", 1009 * seed, *given["z"].shape[:2])
        moved |= (generate({**given, name: other[name]}) != frames).any((0, 2, 3))
        if moved.all():
            break
    return moved


def _same(subject: Subject, got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """bool (T,): frames that are what they have to be, within `SAME` budgets."""
    return relative_errors(got, expected) <= SAME * BUDGET[subject.adapter.dtype]


@signature("dynamics_step")
def signature_frames_at_which_the_cache_departs(subject: Subject) -> np.ndarray:
    """Whether the first, the second, the rest of the window and what follows it are what they are at once."""

    def probe() -> np.ndarray:
        window = _window(subject)
        time = min(3 * window, LONGEST["ci"])
        given = example_inputs(subject, "dynamics", 7, 2, time)
        same = _same(subject, unroll(subject, given, time)["z_hat"], run_black_box(subject, "dynamics", given)["z_hat"])
        spans = (same[:1], same[1:2], same[2:window], same[window : window + 1], same[window + 1 :])
        return np.array([span.all() for span in spans], float)

    return attempt(probe, 5)


@signature("rollout")
def signature_what_generated_frames_depend_on(subject: Subject) -> np.ndarray:
    """Whether cache and no cache agree on the first and the second frame; whether the context and the actions move any."""
    return attempt(lambda: _two_frames(subject), 6)


def _two_frames(subject: Subject) -> np.ndarray:
    """One sequence is then given another context, and one other actions."""
    generate, _, given = _rollouts(subject, 8, "ci", 2)
    other = {**given, **{name: _with_row(subject, given, name, row) for row, name in enumerate(("z", "actions"))}}
    without, cached = (generate(given, cache=cache) for cache in (False, True))
    moved = [generate(other, cache=cache) != usual for cache, usual in ((False, without), (True, cached))]
    return np.array([*_same(subject, cached, without), *(each[row].any() for row in range(2) for each in moved)], float)


def _with_row(subject: Subject, given: Mapping[str, Tree], name: str, row: int) -> Tree:
    """An input with one sequence of another example."""
    others = leaves(example_inputs(subject, "rollout", 1009, *given["z"].shape[:2])[name])

    def replaced(x: np.ndarray) -> np.ndarray:
        _, other = next(others)
        return np.concatenate([x[:row], other[row : row + 1], x[row + 1 :]])

    return map_leaves(replaced, given[name])
