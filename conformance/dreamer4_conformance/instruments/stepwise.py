"""The dynamics model frame by frame: `dynamics_step`, and `rollout` with and without a cache."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dreamer4_conformance.instruments.black_box import (
    Tree,
    example_inputs,
    leaves,
    map_leaves,
    native_tree,
    read_outputs,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed

OUTPUTS = ("z_hat", "agent")


def unroll(subject: Subject, inputs: Mapping[str, Tree], frames: int) -> dict[str, np.ndarray]:
    """Outputs of `dynamics_step` over the first `frames` frames, (B, frames, …), without those that are None.

    Raises:
        OperationFailed: if a step returns anything but a triple (z_hat, agent, state).
    """
    batch, by_frame = len(inputs["z"]), _task_by_frame(subject, inputs)
    state = subject.call("dynamics_init", batch)
    steps: list[dict[str, np.ndarray]] = []
    for t in range(frames):
        frame = {name: _frame(inputs[name], t) for name in ("z", "tau", "d", "actions")}
        frame["task"] = _frame(inputs["task"], t) if by_frame else inputs["task"]
        returned = subject.call("dynamics_step", state, *(native_tree(subject, x) for x in frame.values()), seeded=0)
        if not isinstance(returned, tuple | list) or len(returned) != 3:
            raise OperationFailed(
                f"dynamics_step returned {type(returned).__name__}; it needs a tuple (z_hat, agent, state)"
            )
        *outputs, state = returned
        steps.append(read_outputs(subject, "dynamics_step", dict(zip(OUTPUTS, outputs, strict=True)), batch))
    return {name: np.concatenate([step[name] for step in steps], 1) for name in steps[0]}


def _frame(tree: Tree, t: int) -> Tree:
    return map_leaves(lambda x: x[:, t : t + 1], tree)


def _task_by_frame(subject: Subject, inputs: Mapping[str, Tree]) -> bool:
    """True if the task has a time axis: its shape depends on the number of frames."""
    batch, time = inputs["z"].shape[:2]
    longer = example_inputs(subject, "dynamics", 0, batch, time + 1)["task"]
    shapes = [[leaf.shape for _, leaf in leaves(tree)] for tree in (inputs["task"], longer)]
    return inputs["task"] is not None and shapes[0] != shapes[1]


def undecided_unless_window_is_exceeded(subject: Subject, time: int) -> None:
    """Require more frames than the window, so that a cache must drop some.

    Raises:
        Inconclusive: if `time` frames fit into the window.
    """
    if time <= (subject.window or 0):
        raise Inconclusive(
            f"only {time} frames of a window of {subject.window} were run; a smaller context_frames decides the clause"
        )


def rollout_frames(
    subject: Subject, inputs: Mapping[str, Tree], context: int, *, seed: int, cache: bool, num_steps: int
) -> np.ndarray:
    """Frames (B, T − context, S, D) that `rollout` generates after the first `context` of T frames."""
    z, frames = inputs["z"], inputs["z"].shape[1] - context
    actions = native_tree(subject, inputs["actions"])
    returned = subject.call(
        "rollout", subject.native(z[:, :context]), actions, frames, num_steps, seed, cache=cache, seeded=seed
    )
    shape = (len(z), frames, *z.shape[2:])
    return subject.read(f"rollout, cache={cache},", returned, shape)
