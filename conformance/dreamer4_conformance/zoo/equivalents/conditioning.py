"""Equivalent dynamics that lack something: an action before frame 0, tasks, clips without actions, positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import Book
from dreamer4_conformance.zoo.base.sec31_tokenizer import Tokenizer
from dreamer4_conformance.zoo.base.sec32_dynamics import EMPTY, State
from dreamer4_conformance.zoo.equivalents import equivalent
from dreamer4_conformance.zoo.equivalents.sec32_dynamics import World


@equivalent("no-action-before-frame-0")
class NoActionBeforeFrameZero(World):
    """Block 0 holds a constant, whatever action is passed in: no action leads to frame 0."""

    def in_blocks(self, components: list[Tensor], before: list[Tensor] | None) -> list[Tensor]:
        if before is not None:
            return components
        return [torch.cat([torch.ones_like(x[:, :1]), x[:, 1:]], 1) for x in components]


@equivalent("action-before-frame-0-in-steps")
class ActionBeforeFrameZeroInSteps(World):
    """Whole sequences have a constant in block 0; the first step of a session uses the action that is passed in."""

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        first = {name: torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], 1) for name, x in actions.items()}
        return super().dynamics(z, tau, d, first, task, labelled)


@equivalent("world-with-one-task")
class OneTask(World):
    """There is an agent token and a single task, which is no input."""

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        return {**super().example(seed, batch, time), "task": None}

    def predicted(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor, state: State = EMPTY
    ) -> tuple[Tensor, Tensor | None, State]:
        only = torch.zeros(len(z), dtype=torch.long, device=z.device)
        return super().predicted(z, tau, d, actions, only, labelled, state)


@equivalent("clips-all-labelled")
class ClipsAllLabelled(World):
    """Clips without actions are not supported."""

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        if not labelled.all():
            raise NotImplementedError("every clip needs actions")
        return total


@equivalent("clips-labelled-alike")
class ClipsLabelledAlike(World):
    """A batch of clips with and without actions is not supported."""

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        if labelled.any() and not labelled.all():
            raise NotImplementedError("sort the clips into batches with and without actions")
        return super().masked_by_label(total, labelled)


@equivalent("labels-on-the-grid-only")
class LabelsOnTheGridOnly(World):
    """A label off the grid of Eq. (4) is an error; context is labelled with the grid's level below its own."""

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        multiple = self.signal(tau.double()) / d.double()
        if not torch.equal(multiple, multiple.round()):
            raise ValueError("tau is no multiple of d")
        return super().label_token(tau, d)

    def context_labels(self, z: Tensor) -> tuple[Tensor, Tensor]:
        tau, d = super().context_labels(z)
        return (tau.double() * self.k_max).floor().to(tau) / self.k_max, d


@equivalent("actions-one-hot")
class ActionsOneHot(World):
    """Keys are one-hot vectors, of which the model takes the index."""

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        example = super().example(seed, batch, time)
        keys = torch.nn.functional.one_hot(example["actions"]["keys"], self.keys)
        return {**example, "actions": {**example["actions"], "keys": keys}}

    def encoded_keys(self, keys: Tensor) -> Tensor:
        return super().encoded_keys(keys.argmax(-1))


@equivalent("steps-without-agent")
class StepsWithoutAgent(World):
    """The cached step predicts frames only."""

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, Any]:
        z_hat, _, state = super().dynamics_step(state, z, tau, d, actions, None)
        return z_hat, None, state


@equivalent("positions-from-a-table")
class PositionsFromATable(World):
    """Each frame has a learned embedding of its position; the table ends after eight frames."""

    def predicted(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor, state: State = EMPTY
    ) -> tuple[Tensor, Tensor | None, State]:
        table, start = self.parameter("frame.index", 8, self.channels), state[1]
        if start + z.shape[1] > len(table):
            raise IndexError("index out of range in self")
        return super().predicted(
            z + table[start : start + z.shape[1], None].to(z), tau, d, actions, task, labelled, state
        )


@equivalent("mouse-within-its-range")
class MouseWithinItsRange(Tokenizer, Book):
    """Movements beyond the range of the mouse are an error instead of being clipped."""

    def mouse_class(self, movement: Tensor) -> Tensor:
        if (movement.abs() > self.mouse_limit).any():
            raise ValueError(f"a movement exceeds {self.mouse_limit}")
        return super().mouse_class(movement)
