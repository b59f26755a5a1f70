"""Checks of frame-by-frame generation: a cache does not change the result."""

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
"""Largest number of frames that are generated, even if a longer context is then not exceeded."""
EQUAL = 4.0
"""Budgets of `output_comparison` within which signatures take frames as equal."""


def _window(subject: Subject) -> int:
    """Frames of the window; 3 without one."""
    return subject.window or 3


@check("net.incremental", needs=STEP)
def check_dynamics_step_equals_dynamics(subject: Subject, trial: Trial) -> None:
    """`dynamics_step`, frame by frame, gives the outputs of `dynamics` beyond three windows, up to `LONGEST` frames.

    With the task, and without it if the model accepts that. Budgets: `output_comparison`.
    """
    time = min(3 * _window(subject) + 2, LONGEST[trial.profile])
    inputs = example_inputs(subject, "dynamics", trial.seed, 2, time)
    missing = _compare_steps(subject, trial, inputs)
    if _accepts_no_task(subject, inputs):
        missing |= _compare_steps(subject, trial, {**inputs, "task": None})
    if missing:
        trial.inconclusive(f"the cached step returns no {' and no '.join(sorted(missing))} output, which dynamics does")
    undecided_unless_window_is_exceeded(subject, time)


def _accepts_no_task(subject: Subject, inputs: Mapping[str, Tree]) -> bool:
    """Whether the example has a task and `dynamics` also runs without it."""
    if inputs["task"] is None:
        return False
    try:
        run_black_box(subject, "dynamics", {**inputs, "task": None})
    except OperationFailed:
        return False
    return True


def _compare_steps(subject: Subject, trial: Trial, inputs: Mapping[str, Tree]) -> set[str]:
    """Compare what `dynamics_step` returns with `dynamics`. Returns the outputs, other than z_hat, that it lacks."""
    batch, time = inputs["z"].shape[:2]
    expected, got = run_black_box(subject, "dynamics", inputs), unroll(subject, inputs, time)
    task = "" if inputs["task"] is not None else ", without a task"
    call = f"dynamics_step, {time} times, and dynamics of example({trial.seed}, {batch}, {time}){task}"
    if "z_hat" not in got:
        raise Deviation("dynamics_step returns None for z_hat, dynamics does not", call=call)
    for output in (output for output in expected if output in got):
        name, rounded = f"{output} one frame at a time and all at once", partial(_rounded, subject, inputs, output)
        fail_unless_close(trial, subject, name, got[output], expected[output], call, rounded=rounded)
    return expected.keys() - got.keys()


def _rounded(subject: Subject, inputs: Mapping[str, Tree], output: str) -> np.ndarray:
    """An output of `dynamics` for z changed by about one rounding."""
    return run_black_box(subject, "dynamics", {**inputs, "z": moved_by_rounding(subject, inputs["z"])})[output]


@check("ctx.cache", needs=ROLLOUT)
def check_rollout_with_a_cache_equals_rollout_without(subject: Subject, trial: Trial) -> None:
    """A rollout beyond the window gives the same frames with and without a cache. Budgets: `output_comparison`.

    A difference is inconclusive if context noise is drawn for each generated frame or evaluation (A28).
    """
    generate, context, inputs = _rollouts(subject, trial.seed, trial.profile, 3)
    uncached = generate(inputs, cache=False)
    call = f"rollout(z of example, frames={uncached.shape[1]}, cache=True) and cache=False, after {context} frames"

    def rounded() -> np.ndarray:
        return generate({**inputs, "z": moved_by_rounding(subject, inputs["z"])}, cache=False)

    try:
        name = "frames generated with a cache and without"
        fail_unless_close(trial, subject, name, generate(inputs, cache=True), uncached, call, rounded=rounded)
    except Deviation as deviation:
        if subject.readings["A28"] == "frame":
            raise
        trial.inconclusive(f"{deviation.message}; under A28 = {subject.readings['A28']} their noise may differ")
    undecided_unless_window_is_exceeded(subject, context + uncached.shape[1])


def _rollouts(
    subject: Subject, seed: int, profile: str, frames: int
) -> tuple[Callable[..., np.ndarray], int, dict[str, Tree]]:
    """A function of inputs and `cache` that generates `frames` frames, the number of context frames, and inputs.

    The context fills the window, so that the generated frames exceed it.
    """
    context = min(_window(subject), LONGEST[profile])
    inputs = example_inputs(subject, "rollout", seed, 2, context + frames)
    generate = partial(rollout_frames, subject, context=context, seed=seed, num_steps=min(2, subject.k_max))
    return generate, context, inputs


@check("ctx.cache", needs=ROLLOUT)
def check_rollout_depends_on_context_and_actions(subject: Subject, trial: Trial) -> None:
    """The context or the actions are replaced: every generated frame must change, with and without a cache.

    Otherwise a cache that has no effect would agree with a rollout that ignores its inputs.
    """
    generate, _, inputs = _rollouts(subject, trial.seed, trial.profile, 2)
    for cache in (False, True):
        frames = generate(inputs, cache=cache)
        for name, values in (("z", "contexts"), ("actions", "sequences of actions")):
            if not varies(subject, "rollout", name, *inputs["z"].shape[:2]):
                continue
            moved = _moved_frames(subject, partial(generate, cache=cache), frames, inputs, name)
            unchanged = np.flatnonzero(~moved)
            sentence = f"generated frame {unchanged[:1].sum()} is the same after different {values}"
            call = f"rollout(…, cache={cache}) with the {values} of two examples"
            fail_unless_influence(trial, subject, not unchanged.size, sentence, call=call)


def _moved_frames(
    subject: Subject, generate: Callable[..., np.ndarray], frames: np.ndarray, inputs: Mapping[str, Tree], name: str
) -> np.ndarray:
    """bool (frames,): generated frames that change with an input, in one of at most `INFLUENCE_EXAMPLES` examples."""
    moved = np.zeros(frames.shape[1], bool)
    for seed in range(1, INFLUENCE_EXAMPLES + 1):
        donor = example_inputs(subject, "rollout", 1009 * seed, *inputs["z"].shape[:2])
        moved |= (generate({**inputs, name: donor[name]}) != frames).any((0, 2, 3))
        if moved.all():
            break
    return moved


def _equal_frames(subject: Subject, got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """bool (T,): frames that are as expected, within `EQUAL` budgets."""
    return relative_errors(got, expected) <= EQUAL * BUDGET[subject.adapter.dtype]


@signature("dynamics_step")
def signature_frames_in_which_the_cached_step_differs(subject: Subject) -> np.ndarray:
    """Whether the first frame, the second, the rest of the window, the next and all later ones equal `dynamics`."""

    def probe() -> np.ndarray:
        window = _window(subject)
        time = min(3 * window, LONGEST["ci"])
        inputs = example_inputs(subject, "dynamics", 7, 2, time)
        got, expected = unroll(subject, inputs, time)["z_hat"], run_black_box(subject, "dynamics", inputs)["z_hat"]
        equal = _equal_frames(subject, got, expected)
        spans = np.split(equal, (1, 2, window, window + 1))
        return np.array([span.all() for span in spans], float)

    return attempt(probe, 5)


@signature("rollout")
def signature_dependence_of_generated_frames(subject: Subject) -> np.ndarray:
    """Whether two frames are the same with a cache; whether either changes with the context and with the actions."""
    return attempt(lambda: _two_frames(subject), 6)


def _two_frames(subject: Subject) -> np.ndarray:
    """The signature's flags: the context is replaced in one sequence, the actions in another."""
    generate, _, inputs = _rollouts(subject, 8, "ci", 2)
    replaced = {name: _with_row(subject, inputs, name, row) for row, name in enumerate(("z", "actions"))}
    uncached, cached = (generate(inputs, cache=cache) for cache in (False, True))
    before = {False: uncached, True: cached}
    moved = [generate({**inputs, **replaced}, cache=cache) != frames for cache, frames in before.items()]
    changes = (array[row].any() for row in range(2) for array in moved)
    return np.array([*_equal_frames(subject, cached, uncached), *changes], float)


def _with_row(subject: Subject, inputs: Mapping[str, Tree], name: str, row: int) -> Tree:
    """An input in which one sequence is replaced by that of another example."""
    donors = leaves(example_inputs(subject, "rollout", 1009, *inputs["z"].shape[:2])[name])

    def replaced(x: np.ndarray) -> np.ndarray:
        _, donor = next(donors)
        return np.concatenate([x[:row], donor[row : row + 1], x[row + 1 :]])

    return map_leaves(replaced, inputs[name])
