"""Checks of frame-by-frame generation: a cache does not change the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import numpy as np

from dreamer4_conformance.instruments.black_box import (
    INFLUENCE_EXAMPLES,
    Tree,
    example_inputs,
    leaves,
    map_leaves,
    run_black_box,
    selected_rows,
    varies,
)
from dreamer4_conformance.instruments.dynamics import first_action_block
from dreamer4_conformance.instruments.inputs import moved_by_rounding
from dreamer4_conformance.instruments.stepwise import (
    SHORTEST,
    rollout_frames,
    run_longest,
    undecided_unless_window_is_exceeded,
    unroll,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_influence
from dreamer4_conformance.judging.output_comparison import (
    BUDGET,
    constant_outputs,
    fail_unless_close,
    relative_errors,
    undecided_if_constant,
)
from dreamer4_conformance.verdicts import Deviation, NotProvided, OperationFailed

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

    With the task, and without it if the model accepts that; fewer frames if a table of positions ends. An output that
    steps do not return is not compared. Budgets: `output_comparison`.
    """
    time = min(3 * _window(subject) + 2, LONGEST[trial.profile])
    inputs, outputs = run_longest(subject, "dynamics", trial.seed, 2, time)
    undecided_if_constant(constant_outputs(subject, {"z_hat": outputs["z_hat"]}))
    compared = _compare_steps(subject, trial, inputs, outputs)
    if inputs["task"] is not None:
        without = {**inputs, "task": None}
        with suppress(OperationFailed, NotProvided):
            outputs = run_black_box(subject, "dynamics", without)
            _compare_steps(subject, trial, without, outputs)
    undecided_unless_window_is_exceeded(subject, compared)


@check("net.incremental", needs=STEP)
def check_dynamics_step_equals_dynamics_for_one_sequence(subject: Subject, trial: Trial) -> None:
    """`dynamics_step` gives the outputs of `dynamics` for one sequence alone, as a player has. Budgets as for several.

    Inconclusive if `dynamics` rejects one sequence, which dyn.conditioning judges.
    """
    inputs = selected_rows(example_inputs(subject, "dynamics", trial.seed + 1, 2, SHORTEST), np.zeros(1, int))
    try:
        outputs = run_black_box(subject, "dynamics", inputs)
    except OperationFailed as failed:
        trial.inconclusive(f"follows from dyn.conditioning: {failed.message}")
    _compare_steps(subject, trial, inputs, outputs)


def _compare_steps(
    subject: Subject, trial: Trial, inputs: Mapping[str, Tree], outputs: Mapping[str, np.ndarray]
) -> int:
    """Compare what `dynamics_step` returns with the outputs of `dynamics`. Returns the number of frames.

    If no action leads to frame 0 (A32), whatever stands in its block is right: zeros there may decide, too.
    """
    try:
        return _compare_frames(subject, trial, inputs, outputs)
    except Deviation as deviation:
        if type(deviation) is not Deviation or not first_action_block(subject) or inputs["actions"] is None:
            raise
        with suppress(OperationFailed, NotProvided, Deviation):
            without = {**inputs, "actions": map_leaves(_without_first_frame, inputs["actions"])}
            return _compare_frames(subject, trial, without, run_black_box(subject, "dynamics", without))
        raise


def _without_first_frame(x: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(x[:, :1]), x[:, 1:]], 1)


def _compare_frames(
    subject: Subject, trial: Trial, inputs: Mapping[str, Tree], outputs: Mapping[str, np.ndarray]
) -> int:
    batch, time = inputs["z"].shape[:2]
    got = unroll(subject, inputs, time)
    task = "" if inputs["task"] is not None else ", without a task"
    call = f"dynamics_step, {time} times, and dynamics of example({trial.seed}, {batch}, {time}){task}"
    if "z_hat" not in got:
        raise Deviation("dynamics_step returns None for z_hat, dynamics does not", call=call)
    frames = got["z_hat"].shape[1]
    for output in (output for output in outputs if output in got):
        name = f"{output} one frame at a time and all at once"
        rounded = partial(_rounded, subject, inputs, output, frames)
        fail_unless_close(trial, subject, name, got[output], outputs[output][:, :frames], call, rounded=rounded)
    return frames


def _rounded(subject: Subject, inputs: Mapping[str, Tree], output: str, frames: int) -> np.ndarray:
    """An output of `dynamics` for z changed by about one rounding."""
    moved = {**inputs, "z": moved_by_rounding(subject, inputs["z"])}
    return run_black_box(subject, "dynamics", moved)[output][:, :frames]


@check("ctx.cache", needs=ROLLOUT)
def check_rollout_with_a_cache_equals_rollout_without(subject: Subject, trial: Trial) -> None:
    """A rollout beyond the window gives the same frames with and without a cache. Budgets: `output_comparison`.

    The cache has been used for other inputs before. A difference is inconclusive if context noise is drawn for each
    generated frame or evaluation (A28).
    """
    generate, context, inputs = _rollouts(subject, trial.seed, trial.profile, 3)
    uncached = generate(inputs, cache=False)
    generate(example_inputs(subject, "rollout", trial.seed + 1, *inputs["z"].shape[:2]), cache=True)
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

    The context fills the window, so that the generated frames exceed it; half of it, and so on, if a table of positions
    ends before.
    """
    context = min(_window(subject), LONGEST[profile])
    while True:
        inputs = example_inputs(subject, "rollout", seed, 2, context + frames)
        generate = partial(rollout_frames, subject, context=context, seed=seed, num_steps=min(2, subject.k_max))
        try:
            generate(inputs, cache=False)
        except OperationFailed as failed:
            if failed.__cause__ is None or context + frames <= 2 * SHORTEST:
                raise
            context //= 2
        else:
            return generate, context, inputs


@check("ctx.cache", needs=ROLLOUT)
def check_rollout_depends_on_context_and_actions(subject: Subject, trial: Trial) -> None:
    """The context or the actions are replaced: every generated frame must change, with and without a cache.

    Otherwise a cache that has no effect would agree with a rollout that ignores its inputs.
    """
    generate, _, inputs = _rollouts(subject, trial.seed, trial.profile, 2)
    varied = {
        name: values
        for name, values in (("z", "contexts"), ("actions", "sequences of actions"))
        if varies(subject, "rollout", name, *inputs["z"].shape[:2])
    }
    for cache in (False, True):
        frames = generate(inputs, cache=cache)
        moved = {name: _moved_frames(subject, partial(generate, cache=cache), frames, inputs, name) for name in varied}
        if not any(frames_moved.any() for frames_moved in moved.values()):
            trial.inconclusive("generated frames depend on no input: are all parameters random?")
        for name, values in varied.items():
            unchanged = np.flatnonzero(~moved[name])
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
    """Whether the first frame, the second, the rest of the window, the next and all later ones equal `dynamics`.

    Then whether all do for one sequence alone.
    """

    def equal(batch: int) -> np.ndarray:
        time = min(3 * _window(subject), LONGEST["ci"])
        inputs = selected_rows(example_inputs(subject, "dynamics", 7, 2, time), np.arange(batch))
        got, expected = unroll(subject, inputs, time)["z_hat"], run_black_box(subject, "dynamics", inputs)["z_hat"]
        return _equal_frames(subject, got, expected)

    def spans() -> np.ndarray:
        window = _window(subject)
        return np.array([span.all() for span in np.split(equal(2), (1, 2, window, window + 1))], float)

    return np.concatenate([attempt(spans, 5), attempt(lambda: equal(1).all(), 1)])


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
