"""Held-out clips for evaluation, and training frames for the baselines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from dreamer4_impl.checkpoints.settings import Data
from dreamer4_impl.data.clips import as_video
from dreamer4_impl.data.dataset import Dataset, concatenate
from dreamer4_impl.equations.network_types import index_actions
from dreamer4_impl.evaluation.baselines import mean_frame
from dreamer4_impl.layers.actions import LABELLED

#: Number of evenly spaced training frames for mean frame, mean reward and PCA.
TRAINING_FRAMES: Final = 4096


@dataclass(frozen=True)
class Clips:
    """N clips of T frames, on the CPU.

    Args:
        video: frames, uint8, (N, T, H, W, C).
        actions: the action that led to each frame, by component, (N, T, …) each, and `labelled`, bool, (N, T).
        rewards: r_t on arriving at frame t, (N, T).
        task: index of the task of each clip, (N,).
    """

    video: UInt8[Tensor, "N T H W C"]
    actions: dict[str, Tensor]
    rewards: Float[Tensor, "N T"]
    task: Int[Tensor, "N"]

    def __len__(self) -> int:
        return len(self.video)

    @property
    def labelled(self) -> Bool[Tensor, "N T"]:
        """True where the action is known.

        Returns:
            Mask, bool, (N, T).
        """
        return self.actions[LABELLED]

    def pixels(self, device: torch.device) -> Float[Tensor, "N T H W C"]:
        """Frames as the tokenizer takes them.

        Args:
            device: device of the result.

        Returns:
            Values in [0, 1], float32, (N, T, H, W, C).
        """
        return as_video(self.video.to(device))

    def actions_on(self, device: torch.device) -> dict[str, Tensor]:
        """Copy the actions to a device.

        Args:
            device: device of the result.

        Returns:
            Components and `labelled`, (N, T, …) each.
        """
        return {name: values.to(device) for name, values in self.actions.items()}

    def select(self, rows: slice | Sequence[int]) -> "Clips":
        """Select clips.

        Args:
            rows: a slice or indices in [0, N); indices may repeat.

        Returns:
            The selected clips, in this order.
        """
        return Clips(self.video[rows], index_actions(self.actions, rows), self.rewards[rows], self.task[rows])

    def batches(self, size: int) -> "Iterator[Clips]":
        """Split into batches, in order.

        Args:
            size: clips per batch, 1 or more; the last batch may be smaller.

        Returns:
            The batches.
        """
        return (self.select(slice(first, first + size)) for first in range(0, len(self), size))

    def with_actions_of(self, order: Int[Tensor, "N"], start: int) -> "Clips":
        """Replace the actions from a frame on by those of other clips.

        Args:
            order: clip i gets the actions of clip order[i], (N,).
            start: first frame whose action is replaced, in [0, T].

        Returns:
            Clips with the same frames, rewards and tasks.
        """
        mixed = {
            name: torch.cat([values[:, :start], values[order, start:]], dim=1) for name, values in self.actions.items()
        }
        return replace(self, actions=mixed)


@dataclass(frozen=True)
class HeldOut:
    """Data of an evaluation.

    Args:
        clips: held-out clips.
        training_frames: evenly spaced frames of the training data, uint8, (M, H, W, C).
        training_rewards: rewards on arriving at these frames, (M,).
    """

    clips: Clips
    training_frames: UInt8[Tensor, "M H W C"]
    training_rewards: Float[Tensor, "M"]

    @cached_property
    def mean_frame(self) -> Float[Tensor, "H W C"]:
        """Mean of the training frames.

        Returns:
            Values in [0, 1], float32, (H, W, C).
        """
        return mean_frame(self.training_frames)


def split_episodes(
    paths: Sequence[Path], training_paths: Sequence[Path] | None, trained_on: Data
) -> tuple[Dataset, Dataset]:
    """Open the episodes that a model was trained on, and episodes that it was not trained on.

    Args:
        paths: directories of datasets, which are joined, as in training.
        training_paths: directories of the training data; all episodes of `paths` are held out then. None holds out the
            episodes of `paths` that were held out in training.
        trained_on: data options of training.

    Returns:
        Training episodes and held-out episodes, whose tasks have the numbers of the model.

    Raises:
        DatasetError: if a dataset cannot be used.
        ValueError: if which episodes were held out does not follow from the paths.
    """
    if training_paths is not None:
        return open_joined(training_paths, trained_on.tasks), open_joined(paths, trained_on.tasks)
    if trained_on.held_out is None:
        raise ValueError(
            "the checkpoint was trained on all episodes of its data (data.held_out is none): "
            "name those datasets with --training-data, and datasets with other episodes with --data"
        )
    if len(trained_on.paths) > 1 and len(paths) != len(trained_on.paths):
        raise ValueError(
            "which episodes were held out depends on all the datasets of training in their order, "
            f"{', '.join(trained_on.paths)}; got {len(paths)} in --data. "
            "Name all of them, or name datasets with other episodes and add --training-data"
        )
    return open_joined(paths, trained_on.tasks).split(trained_on.held_out)


def open_joined(paths: Sequence[Path], tasks: Sequence[str]) -> Dataset:
    """Join datasets, with the numbers that their tasks have in the model.

    Args:
        paths: directories of datasets.
        tasks: names of the tasks of the model, in the order of their numbers.

    Returns:
        All episodes.

    Raises:
        DatasetError: if a dataset cannot be used, or they differ in frames or actions.
    """
    return concatenate([Dataset.open(path) for path in paths], tasks)


def load_held_out(dataset: Dataset, training: Dataset, clips: int, length: int) -> HeldOut:
    """Load evenly spaced clips of held-out data, and evenly spaced frames of training data.

    Args:
        dataset: held-out episodes.
        training: episodes that the model was trained on.
        clips: number of clips, 1 or more; fewer if there are fewer starts.
        length: frames per clip, 1 or more.

    Returns:
        Clips, training frames and training rewards.

    Raises:
        ValueError: if no held-out episode has `length` frames.
    """
    rows = [(number, t) for number, episode in enumerate(training.episodes) for t in range(episode.length)]
    frames = [training.clip(*rows[i], 1) for i in evenly(len(rows), TRAINING_FRAMES)]
    return HeldOut(
        load_clips(dataset, clips, length),
        torch.from_numpy(np.concatenate([frame.frames for frame in frames])),
        torch.from_numpy(np.concatenate([frame.rewards for frame in frames])),
    )


@dataclass(frozen=True)
class Windows:
    """Clips of whole episodes, in which every frame after an episode's first is scored once.

    Args:
        clips: the clips; after the end of an episode its last frame is repeated.
        scored: True for the frames to score, whose context stands before them in the clip, bool, (N, T).
    """

    clips: Clips
    scored: Bool[Tensor, "N T"]


def load_windows(dataset: Dataset, count: int, length: int, context: int) -> Windows:
    """Cut episodes into clips that overlap by the context, so that terminal frames and short episodes are included.

    Args:
        dataset: episodes to load from.
        count: number of clips, 1 or more, evenly spaced over all of them; fewer if there are fewer.
        length: frames per clip, above the context.
        context: frames at the beginning of a clip that its predecessor scores, 1 or more.

    Returns:
        The clips, and which frames to score.

    Raises:
        ValueError: if no episode has two frames.
    """
    starts = [
        (number, start)
        for number, episode in enumerate(dataset.episodes)
        for start in range(0, max(episode.length - context, min(episode.length - 1, 1)), length - context)
    ]
    if not starts:
        raise ValueError(f"no held-out episode has two frames: {len(dataset.episodes)} episodes; hold out more")
    chosen = [starts[i] for i in evenly(len(starts), count)]
    ends = torch.tensor([dataset.episodes[number].length - start for number, start in chosen])
    begins = torch.tensor([context if start else 1 for _, start in chosen])
    frame = torch.arange(length)
    return Windows(stack_clips(dataset, chosen, length), (frame >= begins[:, None]) & (frame < ends[:, None]))


def load_clips(dataset: Dataset, count: int, length: int, *, ended: bool = True) -> Clips:
    """Load clips at evenly spaced starts, each within one episode. Clips overlap if the data are short.

    Args:
        dataset: episodes to load from.
        count: number of clips, 1 or more; fewer if there are fewer starts.
        length: frames per clip, 1 or more.
        ended: include clips after whose last frame nothing follows, because the episode has terminated.

    Returns:
        The clips.

    Raises:
        ValueError: if no episode has `length` frames.
    """
    starts = _starts(dataset, length, ended)
    return stack_clips(dataset, [starts[i] for i in evenly(len(starts), count)], length)


def _starts(dataset: Dataset, length: int, ended: bool) -> list[tuple[int, int]]:
    episodes = dataset.episodes
    last = [ended or bool(dataset.clip(n, episode.length - 1, 1).continues[0]) for n, episode in enumerate(episodes)]
    starts = [(n, t) for n, episode in enumerate(episodes) for t in range(episode.length - length + last[n])]
    if not starts:
        longest = max((episode.length for episode in episodes), default=0)
        raise ValueError(
            f"no held-out episode has the {length} frames of a clip (context and longest horizon): the longest of "
            f"{len(episodes)} has {longest}. Choose a shorter context or shorter horizons, or hold out more"
        )
    return starts


def evenly(count: int, at_most: int) -> list[int]:
    """Choose evenly spaced indices: the centres of equal intervals.

    Args:
        count: number of items, 1 or more.
        at_most: largest number of indices, 1 or more.

    Returns:
        Indices in [0, count), ascending, all of them if there are fewer than `at_most`.

    Example:
        >>> evenly(10, 2), evenly(2, 10)
        ([2, 7], [0, 1])
    """
    number = min(count, at_most)
    return [(2 * i + 1) * count // (2 * number) for i in range(number)]


def stack_clips(dataset: Dataset, starts: Sequence[tuple[int, int]], length: int) -> Clips:
    """Load clips at chosen starts.

    Args:
        dataset: episodes to load from.
        starts: index of an episode and of a frame in it, for each clip, at least one.
        length: frames per clip, 1 or more; a clip that exceeds its episode repeats the last frame.

    Returns:
        The clips, in this order.
    """
    rows = [min(length, dataset.episodes[episode].length - start) for episode, start in starts]
    clips = [dataset.clip(episode, start, own) for (episode, start), own in zip(starts, rows, strict=True)]

    def _stack(arrays: Sequence[Any]) -> Tensor:
        """Stack after repeating each array's last row up to the length."""
        return torch.from_numpy(np.stack([array[np.minimum(np.arange(length), len(array) - 1)] for array in arrays]))

    actions = {c.name: _stack([clip.actions[c.name] for clip in clips]) for c in dataset.components}
    return Clips(
        video=_stack([clip.frames for clip in clips]),
        actions=actions | {LABELLED: _stack([clip.labelled for clip in clips])},
        rewards=_stack([clip.rewards for clip in clips]),
        task=torch.tensor([dataset.episodes[episode].task for episode, _ in starts]),
    )
