"""Sec. 3.4: batches of clips. Sample i of step s is a function of (seed, s, i) for any number of processes.

An episode shorter than a clip is padded after its last frame. All time layers are causal, so no frame sees the padding,
and a loss that leaves it out (`Batch.valid`) is that of the episode alone.
"""

import hashlib
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy.typing import ArrayLike
from torch import Tensor

from dreamer4_impl.data.dataset import Clip, Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.latents import LatentCache
from dreamer4_impl.layers.actions import LABELLED, Categorical

Relevance: TypeAlias = Callable[[Dataset], Bool[np.ndarray, " E"]]
"""Marks the relevant episodes of a dataset, those in which the task is accomplished."""


@dataclass(frozen=True)
class Batch:
    """B clips of T frames.

    Args:
        video: frames with values in [0, 255], uint8, (B, T, H, W, C); None if there are latents.
        latents: z of the frames in [−1, 1], from a `LatentCache`, floating, (B, T, S, D); None without one.
        actions: a_{t−1} by component, the action that led to frame t, (B, T, …); and the key `labelled`, bool (B, T),
            False where the action is unknown and its values are 0.
        taken: a_t by component, the action taken at frame t, (B, T, …), 0 after the last frame of an episode; empty if
            not requested.
        taken_labelled: True where a_t is known, which it is not after the last frame, bool, (B, T); None if not
            requested.
        rewards: r_t, received on arriving at frame t, floating, (B, T).
        continues: False where the episode terminated on arriving at frame t, bool, (B, T).
        task: index into the dataset's tasks, integer, (B,).
        relevant: True if the clip was drawn from the relevant episodes only, bool, (B,); always on the CPU, where it
            decides which sequences go through a network.
        valid: bool, (B, T), True for frames of an episode, False for the padding after the end of an episode shorter
            than T, whose contents are finite and have no meaning; None if the dataset has no such episode.
    """

    video: UInt8[Tensor, "B T H W C"] | None
    latents: Float[Tensor, "B T S D"] | None
    actions: Mapping[str, Shaped[Tensor, "B T ..."]]
    taken: Mapping[str, Shaped[Tensor, "B T ..."]]
    taken_labelled: Bool[Tensor, "B T"] | None
    rewards: Float[Tensor, "B T"]
    continues: Bool[Tensor, "B T"]
    task: Int[Tensor, " B"]
    relevant: Bool[Tensor, " B"]
    valid: Bool[Tensor, "B T"] | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Move all tensors but `relevant` to a device.

        Args:
            device: target device.
            non_blocking: copy asynchronously, which needs pinned memory.

        Returns:
            The batch on the device.
        """
        return replace(self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking)), relevant=self.relevant)

    def pin_memory(self) -> "Batch":
        """Copy all tensors to page-locked memory, from which a GPU copies asynchronously.

        Returns:
            The batch in pinned memory.
        """
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        def _changed(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: change(tensor) for name, tensor in value.items()}
            return None if value is None else change(value)

        return Batch(**{field.name: _changed(getattr(self, field.name)) for field in fields(self)})


class Positions:
    """All positions of a clip, numbered from 0: pairs of an episode and a first frame.

    A clip lies within its episode. An episode shorter than a clip has one position, at its first frame.

    Args:
        lengths: number of frames of every episode, (E,); 0 excludes an episode.
        rows: number of frames of a clip, 1 or more.

    >>> positions = Positions([3, 1, 0, 2], rows=2)
    >>> [positions[k] for k in range(len(positions))]
    [(0, 0), (0, 1), (1, 0), (3, 0)]
    """

    def __init__(self, lengths: ArrayLike, rows: int) -> None:
        frames = np.asarray(lengths, np.int64)
        self._ends = np.cumsum(np.where(frames > 0, np.maximum(frames - rows + 1, 1), 0))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, position: int) -> tuple[int, int]:
        episode = int(np.searchsorted(self._ends, position, side="right"))
        before = self._ends[episode - 1] if episode else 0
        return episode, int(position - before)


class RewardedPositions:
    """Positions of the clips in which a reward above 0 lies, numbered from 0, as for `Positions`.

    Args:
        rewards: rewards of every episode, E arrays.
        rows: number of frames of a clip, 1 or more.

    >>> positions = RewardedPositions([[0, 0, 0], [0, 1, 0, 0, 0]], rows=2)
    >>> [positions[k] for k in range(len(positions))]
    [(1, 0), (1, 1)]
    """

    def __init__(self, rewards: Sequence[ArrayLike], rows: int) -> None:
        pairs = [np.empty((0, 2), np.int64)]
        for episode, values in enumerate(rewards):
            count = np.concatenate([[0], np.cumsum(np.asarray(values) > 0)])
            ends = np.arange(min(rows, len(count) - 1), len(count))
            starts = np.flatnonzero(count[ends] > count[ends - ends[0]])
            pairs.append(np.stack([np.full_like(starts, episode), starts], axis=1))
        self._pairs = np.concatenate(pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, position: int) -> tuple[int, int]:
        episode, start = self._pairs[position]
        return int(episode), int(start)


class ClipSampler:
    """Draw clips uniformly over all positions (`Positions`), or over the relevant ones.

    Args:
        dataset: source of the clips.
        seed: determines all draws, 0 or more.
        relevant: marks the episodes whose clips are relevant; None is `upper_half`. "rewards" are clips in which a
            reward above 0 lies (`RewardedPositions`).
        latents: latents of the dataset's frames; batches then hold latents instead of frames.

    >>> sampler = ClipSampler(Dataset.open("recorded"), seed=0)                                    # doctest: +SKIP
    >>> sampler.batch(0, range(8), length=16, relevant=[False] * 4 + [True] * 4).video.shape       # doctest: +SKIP
    torch.Size([8, 16, 64, 64, 1])
    """

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        relevant: Relevance | Literal["rewards"] | None = None,
        latents: LatentCache | None = None,
    ) -> None:
        self.dataset, self.seed, self.latents = dataset, seed, latents
        lengths = np.array([episode.length for episode in dataset.episodes], np.int64)
        self._rewards = dataset.rewards() if relevant == "rewards" else None
        mask = (rewarded if relevant == "rewards" else relevant or upper_half)(dataset)
        # Length 0 excludes an episode and keeps the indices of the remaining ones.
        self._lengths = {False: lengths, True: np.where(mask, lengths, 0)}
        self._shortest = min(lengths, default=0)
        self._positions: dict[tuple[int, bool], Positions | RewardedPositions] = {}

    def batch(
        self, step: int, indices: Sequence[int], length: int, relevant: Sequence[bool], taken: bool = True
    ) -> Batch:
        """Draw some samples of a training step.

        Args:
            step: s, from 0.
            indices: indices of the samples in the global batch, from 0.
            length: T, 1 or more.
            relevant: for each of these samples, whether it is drawn from the relevant episodes only.
            taken: include the actions taken at the frames, which stand in the row after each frame.

        Returns:
            B clips in the order of `indices`, on the CPU; a pure function of the seed and the arguments. Whether they
            have `valid` depends on the dataset and the length alone.

        Raises:
            DatasetError: if there is no episode, or the cache lacks latents of the dataset.
            ValueError: if there is no sample, or `indices` and `relevant` differ in length.
        """
        if not len(indices):
            raise ValueError("indices must name at least one sample; got none")
        positions = [self._position(step, i, length, only) for i, only in zip(indices, relevant, strict=True)]
        clips = [self.dataset.clip(*position, self._rows(*position, length + taken)) for position in positions]
        latents = None
        if self.latents is not None:
            parts = [
                self.latents.clip(self.dataset, *position, self._rows(*position, length)) for position in positions
            ]
            latents = _stacked([_extended(rows, length) for rows in parts])
        valid = _valid(clips, length) if length > self._shortest else None
        return _batch(self.dataset, clips, length, latents, relevant, taken, valid)

    def relevant_episodes(self) -> Bool[np.ndarray, " E"]:
        """Mark the relevant episodes.

        Returns:
            Mask, bool (E,).
        """
        return self._lengths[True] > 0

    def require(self, relevant: bool) -> None:
        """Raise DatasetError unless there is a clip, of whatever length.

        Args:
            relevant: whether it must be of a relevant episode.

        Raises:
            DatasetError: if there is no such episode.
        """
        self._all_positions(1, relevant)

    def _rows(self, episode: int, start: int, rows: int) -> int:
        """Rows that the episode has from `start` on, at most `rows`."""
        return min(rows, self.dataset.episodes[episode].length - start)

    def _position(self, step: int, index: int, length: int, relevant: bool) -> tuple[int, int]:
        positions = self._all_positions(length, bool(relevant))
        return positions[_draw(self.seed, step, index) % len(positions)]

    def _all_positions(self, length: int, relevant: bool) -> Positions | RewardedPositions:
        key = (length, relevant)
        if key not in self._positions:
            self._positions[key] = (
                RewardedPositions(self._rewards, length)
                if relevant and self._rewards is not None
                else Positions(self._lengths[relevant], length)
            )
            if not len(self._positions[key]):
                raise DatasetError(
                    f"the dataset {self.dataset.name!r} must have {'relevant ' * relevant}episodes to draw clips from; "
                    f"none of its {len(self.dataset.episodes)} {'is relevant' if relevant else 'can be used'}"
                )
        return self._positions[key]


def upper_half(dataset: Dataset) -> Bool[np.ndarray, " E"]:
    """Mark the episodes whose return is above the median of their task, our reading of "the task is accomplished".

    If no return of a task is above its median, because all are equal, the episodes at the median are marked.

    Args:
        dataset: one or more episodes.

    Returns:
        Mask of the relevant episodes, bool (E,).
    """
    returns = dataset.returns()
    tasks = np.array([episode.task for episode in dataset.episodes])
    relevant = np.zeros(len(returns), bool)
    for task in np.unique(tasks):
        own = tasks == task
        median = np.median(returns[own])
        above = own & (returns > median)
        relevant |= above if above.any() else own & (returns == median)
    return relevant


def rewarded(dataset: Dataset) -> Bool[np.ndarray, " E"]:
    """Mark the episodes in which a reward above 0 lies.

    Args:
        dataset: any number of episodes.

    Returns:
        Mask, bool (E,).
    """
    return np.array([(rewards > 0).any() for rewards in dataset.rewards()], bool)


def as_video(frames: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert stored frames to what the tokenizer takes.

    Args:
        frames: values in [0, 255], any shape.

    Returns:
        Values in [0, 1], float32, shaped like frames.

    Example:
        >>> as_video(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
        [0.0, 1.0]
    """
    return frames.float() / 255


def _draw(seed: int, step: int, index: int) -> int:
    """An integer in [0, 2¹²⁸), so wide that its remainder is uniform up to 2⁻⁶⁴ for any dataset."""
    key = ("clip", *map(operator.index, (seed, step, index)))  # NumPy's and torch's integers have another repr
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def _batch(
    dataset: Dataset,
    clips: Sequence[Clip],
    length: int,
    latents: Tensor | None,
    relevant: Sequence[bool],
    taken: bool,
    valid: Tensor | None,
) -> Batch:
    rows = length + taken

    def _frames(arrays: Sequence[np.ndarray[Any, Any]]) -> Tensor:
        return _stacked([_extended(array[:length], length) for array in arrays])

    labelled = _stacked([_extended(clip.labelled, rows) for clip in clips])
    actions = {}
    for component in dataset.components:
        values = _stacked([_extended(clip.actions[component.name], rows) for clip in clips])
        actions[component.name] = values.long() if isinstance(component, Categorical) else values
    return Batch(
        video=None if latents is not None else _frames([clip.frames for clip in clips]),
        latents=latents,
        actions={name: values[:, :length] for name, values in actions.items()} | {LABELLED: labelled[:, :length]},
        taken={name: values[:, 1:] for name, values in actions.items()} if taken else {},
        taken_labelled=labelled[:, 1:] if taken else None,
        rewards=_frames([clip.rewards for clip in clips]),
        continues=~_frames([~clip.continues for clip in clips]),  # padding is no end
        task=torch.tensor([clip.task for clip in clips]),
        relevant=torch.tensor([bool(only) for only in relevant]),
        valid=valid,
    )


def _valid(clips: Sequence[Clip], length: int) -> Bool[Tensor, "B T"]:
    """Rows of the clips that are frames of an episode."""
    return torch.arange(length) < torch.tensor([len(clip.rewards) for clip in clips])[:, None]


def _extended(array: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    """Add rows of zeros: an unknown action, or padding."""
    missing = rows - len(array)
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) if missing else array


def _stacked(arrays: Sequence[np.ndarray[Any, Any]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
