"""The dynamics model frame by frame: `dynamics_step`, and `rollout` with and without a cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from dreamer4_conformance.instruments.black_box import (
    Tree,
    example_inputs,
    leaves,
    map_leaves,
    native_tree,
    read_outputs,
    run_black_box,
)
from dreamer4_conformance.instruments.result_types import as_pair
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed

OUTPUTS = ("z_hat", "agent")
SHORTEST = 4
"""Frames that a model must accept; a longer sequence may exceed its table of positions."""


class Session(ABC):
    """One session of a cached model, frame by frame, on the inputs of an example."""

    operation: ClassVar[str]

    @abstractmethod
    def __init__(self, subject: Subject, inputs: Mapping[str, Tree], random_state: int = 0) -> None:
        """Start a session before the first frame; `random_state` seeds the global random states."""

    @abstractmethod
    def step(self) -> dict[str, np.ndarray]:
        """Outputs (B, 1, …) of the next frame, without those that are None."""


class DynamicsSession(Session):
    """`dynamics_init` and `dynamics_step`; `random_state` seeds the global random states in each step."""

    operation = "dynamics_step"

    def __init__(self, subject: Subject, inputs: Mapping[str, Tree], random_state: int = 0) -> None:
        self.subject, self.inputs, self.random_state, self.frame = subject, inputs, random_state, 0
        self.task_by_frame = _task_by_frame(subject, inputs)
        self.state = subject.call("dynamics_init", len(inputs["z"]))

    def step(self) -> dict[str, np.ndarray]:
        """z_hat and agent of the next frame, (B, 1, …), without those that are None."""
        frame = {name: _frame(self.inputs[name], self.frame) for name in ("z", "tau", "d", "actions")}
        frame["task"] = _frame(self.inputs["task"], self.frame) if self.task_by_frame else self.inputs["task"]
        arguments = (native_tree(self.subject, x) for x in frame.values())
        returned = self.subject.call("dynamics_step", self.state, *arguments, seeded=self.random_state)
        if not isinstance(returned, tuple | list) or len(returned) != 3:
            raise OperationFailed(
                f"dynamics_step returned {type(returned).__name__}; it needs a tuple (z_hat, agent, state)"
            )
        *outputs, self.state = returned
        self.frame += 1
        named = dict(zip(OUTPUTS, outputs, strict=True))
        return read_outputs(self.subject, "dynamics_step", named, len(self.inputs["z"]))


class DecoderSession(Session):
    """`decode_init` and `decode_step`; `random_state` seeds the global random states in each step."""

    operation = "decode_step"

    def __init__(self, subject: Subject, inputs: Mapping[str, Tree], random_state: int = 0) -> None:
        self.subject, self.z, self.random_state, self.frame = subject, inputs["z"], random_state, 0
        self.state = subject.call("decode_init", len(self.z))

    def step(self) -> dict[str, np.ndarray]:
        """The video of the next frame, (B, 1, …)."""
        z = self.subject.native(self.z[:, self.frame : self.frame + 1])
        returned = self.subject.call("decode_step", self.state, z, seeded=self.random_state)
        video, self.state = as_pair("decode_step", returned, "video, state")
        self.frame += 1
        return read_outputs(self.subject, "decode_step", {"video": video}, len(self.z))


def next_frames(session: Session, frames: int) -> dict[str, np.ndarray]:
    """Outputs of the next frames of a session, (B, frames, …), without those that are None."""
    return joined([session.step() for _ in range(frames)])


def joined(steps: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Outputs of consecutive steps along the time axis."""
    return {name: np.concatenate([step[name] for step in steps], 1) for name in steps[0]}


def unroll(subject: Subject, inputs: Mapping[str, Tree], frames: int) -> dict[str, np.ndarray]:
    """Outputs of `dynamics_step` over the first `frames` frames, (B, frames, …), without those that are None.

    Fewer frames if a step after `SHORTEST` of them raises: a cache or a table of positions may end there.

    Raises:
        OperationFailed: if an earlier step raises, or returns anything but a triple (z_hat, agent, state).
    """
    session = DynamicsSession(subject, inputs)
    steps: list[dict[str, np.ndarray]] = []
    try:
        while len(steps) < frames:
            steps.append(session.step())
    except OperationFailed as failed:
        if failed.__cause__ is None or len(steps) < SHORTEST:
            raise
    return joined(steps)


def run_longest(
    subject: Subject, operation: str, seed: int, batch: int, time: int
) -> tuple[dict[str, Tree], dict[str, np.ndarray]]:
    """Inputs and outputs of a black box for `time` frames, or half as many until it does not raise.

    Raises:
        OperationFailed: if it raises for fewer than `SHORTEST` frames too, where no table of positions ends.
    """
    while True:
        try:
            inputs = example_inputs(subject, operation, seed, batch, time)
            return inputs, run_black_box(subject, operation, inputs)
        except OperationFailed as failed:
            if failed.__cause__ is None or time // 2 < SHORTEST:
                raise
            time //= 2


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
