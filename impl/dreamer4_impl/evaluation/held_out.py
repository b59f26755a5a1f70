"""Clips that a model is judged on, and frames of the data that it was trained on, for the baselines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.equations.network_types import index_actions
from dreamer4_impl.evaluation.baselines import mean_frame
from dreamer4_impl.layers.actions import LABELLED
from dreamer4_impl.training.phases.tokenizer import as_video

#: Training frames for mean frame, mean reward and PCA, evenly spaced.
TRAINING_FRAMES: Final = 4096


@dataclass(frozen=True)
class Clips:
    """N clips of T frames, on the CPU.

    Args:
        video: the frames.
        actions: by component, (N, T, …), the action that led to each frame; `labelled`, bool (N, T), beside them.
        rewards: r_t, on arriving at frame t.
        task: of each clip.
    """

    video: UInt8[Tensor, "N T H W C"]
    actions: dict[str, Tensor]
    rewards: Float[Tensor, "N T"]
    task: Int[Tensor, "N"]

    def __len__(self) -> int:
        return len(self.video)

    @property
    def labelled(self) -> Bool[Tensor, "N T"]:
        """Where the action is known."""
        return self.actions[LABELLED]

    def pixels(self, device: torch.device) -> Float[Tensor, "N T H W C"]:
        """The frames with values in [0, 1]."""
        return as_video(self.video.to(device))

    def actions_on(self, device: torch.device) -> dict[str, Tensor]:
        """The actions, where the model is."""
        return {name: values.to(device) for name, values in self.actions.items()}

    def take(self, rows: Any) -> "Clips":
        """Some of the clips."""
        return Clips(self.video[rows], index_actions(self.actions, rows), self.rewards[rows], self.task[rows])

    def split(self, batch: int) -> "Iterator[Clips]":
        """`batch` clips at a time."""
        return (self.take(slice(first, first + batch)) for first in range(0, len(self), batch))

    def with_actions_of(self, order: Int[Tensor, "N"], start: int) -> "Clips":
        """Clip i with the actions of clip order[i] from frame `start` on."""
        mixed = {
            name: torch.cat([values[:, :start], values[order, start:]], dim=1) for name, values in self.actions.items()
        }
        return replace(self, actions=mixed)


@dataclass(frozen=True)
class HeldOut:
    """What an evaluation needs of the data: clips that the model has not seen, and frames like those that it has."""

    clips: Clips
    training_frames: UInt8[Tensor, "M H W C"]
    training_rewards: Float[Tensor, "M"]

    @cached_property
    def mean_frame(self) -> Float[Tensor, "H W C"]:
        """Mean of the training frames, in [0, 1]."""
        return mean_frame(self.training_frames)


def held_out(dataset: Dataset, training: Dataset, clips: int, length: int) -> HeldOut:
    """Clips that the model has not seen, and evenly spaced frames of those that it has.

    Args:
        dataset: what it has not seen.
        training: what it was trained on.
        clips, length: as for `clips_of`.
    """
    rows = [(number, t) for number, episode in enumerate(training.episodes) for t in range(episode.length)]
    frames = [training.clip(*rows[i], 1) for i in _evenly(len(rows), TRAINING_FRAMES)]
    return HeldOut(
        clips_of(dataset, clips, length),
        torch.from_numpy(np.concatenate([frame.frames for frame in frames])),
        torch.from_numpy(np.concatenate([frame.rewards for frame in frames])),
    )


def clips_of(dataset: Dataset, count: int, length: int) -> Clips:
    """Clips of one episode each, at evenly spaced starts.

    Args:
        dataset: where they come from.
        count: how many; fewer where there are fewer places to start. They overlap where the data are short.
        length: frames of a clip.
    """
    starts = _starts(dataset, length)
    return _clips(dataset, [starts[i] for i in _evenly(len(starts), count)], length)


def _starts(dataset: Dataset, length: int) -> list[tuple[int, int]]:
    episodes = dataset.episodes
    starts = [(number, t) for number, episode in enumerate(episodes) for t in range(episode.length - length + 1)]
    if not starts:
        longest = max((episode.length for episode in episodes), default=0)
        raise ValueError(
            f"no held-out episode has the {length} frames of a clip (context and longest horizon): the longest of "
            f"{len(episodes)} has {longest}. Choose a shorter context or shorter horizons, or hold out more"
        )
    return starts


def _evenly(count: int, at_most: int) -> list[int]:
    """At most `at_most` of 0, …, count − 1, evenly spaced: the middles of equal parts."""
    number = min(count, at_most)
    return [(2 * i + 1) * count // (2 * number) for i in range(number)]


def _clips(dataset: Dataset, starts: Sequence[tuple[int, int]], length: int) -> Clips:
    parts = [dataset.clip(episode, start, length) for episode, start in starts]

    def stack(arrays: Sequence[Any]) -> Tensor:
        return torch.from_numpy(np.stack(arrays))

    actions = {part.name: stack([clip.actions[part.name] for clip in parts]) for part in dataset.components}
    return Clips(
        video=stack([clip.frames for clip in parts]),
        actions=actions | {LABELLED: stack([clip.labelled for clip in parts])},
        rewards=stack([clip.rewards for clip in parts]),
        task=torch.tensor([dataset.episodes[episode].task for episode, _ in starts]),
    )
