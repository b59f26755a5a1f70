"""The dynamics frame by frame: by `dynamics_step`, and as a whole rollout with and without a cache."""

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


def unroll(subject: Subject, given: Mapping[str, Tree], frames: int) -> dict[str, np.ndarray]:
    """The outputs of `dynamics_step` over the first frames of `given`, along time; those that it leaves None are left out."""
    batch, by_frame = len(given["z"]), _task_by_frame(subject, given)
    state = subject.call("dynamics_init", batch)
    found: list[dict[str, np.ndarray]] = []
    for t in range(frames):
        now = {name: _frame(given[name], t) for name in ("z", "tau", "d", "actions")}
        now["task"] = _frame(given["task"], t) if by_frame else given["task"]
        returned = subject.call("dynamics_step", state, *(native_tree(subject, x) for x in now.values()), seeded=0)
        if not isinstance(returned, tuple | list) or len(returned) != 3:
            raise OperationFailed(
                f"dynamics_step returned {type(returned).__name__}; it needs a tuple (z_hat, agent, state)"
            )
        *outputs, state = returned
        found.append(read_outputs(subject, "dynamics_step", dict(zip(OUTPUTS, outputs, strict=True)), batch))
    return {name: np.concatenate([each[name] for each in found], 1) for name in found[0]}


def _frame(tree: Tree, t: int) -> Tree:
    return map_leaves(lambda x: x[:, t : t + 1], tree)


def _task_by_frame(subject: Subject, given: Mapping[str, Tree]) -> bool:
    """Whether the task has a time axis: its shape follows the number of frames."""
    batch, time = given["z"].shape[:2]
    other = example_inputs(subject, "dynamics", 0, batch, time + 1)["task"]
    shapes = [[leaf.shape for _, leaf in leaves(tree)] for tree in (given["task"], other)]
    return given["task"] is not None and shapes[0] != shapes[1]


def undecided_unless_window_is_exceeded(subject: Subject, time: int) -> None:
    """Inconclusive where no frame has left the window: whether a cache lets any go is open."""
    if time <= (subject.window or 0):
        raise Inconclusive(
            f"only {time} frames of a window of {subject.window} were run; a smaller context_frames decides what follows"
        )


def rollout_frames(
    subject: Subject, given: Mapping[str, Tree], context: int, *, seed: int, cache: bool, num_steps: int
) -> np.ndarray:
    """The frames (B, T − context, S, D) that `rollout` generates after the first `context` of the T frames of `given`."""
    z, frames = given["z"], given["z"].shape[1] - context
    actions = native_tree(subject, given["actions"])
    returned = subject.call(
        "rollout", subject.native(z[:, :context]), actions, frames, num_steps, seed, cache=cache, seeded=seed
    )
    shape = (len(z), frames, *z.shape[2:])
    return subject.read(f"rollout, cache={cache},", returned, shape)
