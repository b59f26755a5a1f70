"""Sec. 3.4: batches of clips. Sample i of step s is a function of (seed, s, i) alone, on however many processes."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy.typing import ArrayLike
from torch import Tensor

from dreamer4_impl.data.dataset import Clip, Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.latents import LatentCache
from dreamer4_impl.layers.actions import LABELLED, Categorical

#: Which episodes of a dataset are relevant, bool (E,): those in which the task is accomplished.
Relevant: TypeAlias = Callable[[Dataset], Bool[np.ndarray, " E"]]


@dataclass(frozen=True)
class Batch:
    """B clips of T frames each; row t holds what arrives together with frame t.

    Args:
        video: frames; None where there are latents.
        latents: z of the frames, from a `LatentCache`; None without one.
        actions: a_{t−1}, which led to frame t, (B, T, …) by component; `labelled`, bool (B, T), beside them: False where
            nobody knows the action, whose values are then 0.
        taken: a_t, taken at frame t, by component; empty where it was not asked for.
        taken_labelled: where a_t is known; None where it was not asked for.
        rewards: r_t, received on arriving at frame t.
        continues: False where the episode terminated on arriving at frame t.
        task: index into the dataset's tasks.
        relevant: whether the clip was drawn from the relevant episodes alone.
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

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The batch on a device; `non_blocking` copies beside the computation, from pinned memory."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The batch in memory that a GPU copies from by itself."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        def changed(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: change(tensor) for name, tensor in value.items()}
            return None if value is None else change(value)

        return Batch(**{field.name: changed(getattr(self, field.name)) for field in fields(self)})


class Positions:
    """Every place where a clip fits: pairs of an episode and a first frame, numbered from 0.

    Args:
        lengths: frames of every episode.
        rows: of a clip, 1 or more.

    >>> positions = Positions([3, 1, 2], rows=2)
    >>> [positions[k] for k in range(len(positions))]
    [(0, 0), (0, 1), (2, 0)]
    """

    def __init__(self, lengths: ArrayLike, rows: int) -> None:
        self._ends = np.cumsum(np.maximum(np.asarray(lengths, np.int64) - rows + 1, 0))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, position: int) -> tuple[int, int]:
        episode = int(np.searchsorted(self._ends, position, side="right"))
        before = self._ends[episode - 1] if episode else 0
        return episode, int(position - before)


class ClipSampler:
    """Draws clips, uniformly over all places where one fits, in any episode or in the relevant ones.

    Args:
        dataset: what is drawn from.
        seed: of all draws.
        relevant: which episodes accomplish their task; None is `upper_half`.
        latents: latents of the dataset's frames, which then take the place of the frames.

    >>> sampler = ClipSampler(Dataset.open("recorded"), seed=0)                                    # doctest: +SKIP
    >>> sampler.batch(0, range(8), length=16, relevant=[False] * 4 + [True] * 4).video.shape       # doctest: +SKIP
    torch.Size([8, 16, 64, 64, 1])
    """

    def __init__(
        self, dataset: Dataset, seed: int, relevant: Relevant | None = None, latents: LatentCache | None = None
    ) -> None:
        self.dataset, self.seed, self.latents = dataset, seed, latents
        lengths = np.array([episode.length for episode in dataset.episodes])
        chosen = (relevant or upper_half)(dataset)
        # An episode of no frames has no place: the numbers of the others stay what they are.
        self._lengths = {False: lengths, True: np.where(chosen, lengths, 0)}
        self._positions: dict[tuple[int, bool], Positions] = {}

    def batch(
        self, step: int, indices: Sequence[int], length: int, relevant: Sequence[bool], taken: bool = True
    ) -> Batch:
        """Samples `indices` of a step.

        Args:
            step: s.
            indices: numbers of the samples in the global batch; a process asks for its own alone.
            length: T.
            relevant: for each of them, whether it is drawn from the relevant episodes.
            taken: whether the actions taken at the frames are needed, for which a clip takes T + 1 rows of its episode.
        """
        rows = length + taken
        places = [self._place(step, i, rows, only) for i, only in zip(indices, relevant, strict=True)]
        clips = [self.dataset.clip(episode, start, rows) for episode, start in places]
        latents = None
        if self.latents is not None:
            latents = _stacked([self.latents.clip(self.dataset, *place, length) for place in places])
        return _batch(self.dataset, clips, length, latents, relevant, taken)

    def _place(self, step: int, index: int, rows: int, relevant: bool) -> tuple[int, int]:
        positions = self._all_positions(rows, bool(relevant))
        return positions[_draw(self.seed, step, index) % len(positions)]

    def _all_positions(self, rows: int, relevant: bool) -> Positions:
        key = (rows, relevant)
        if key not in self._positions:
            lengths = self._lengths[relevant]
            self._positions[key] = Positions(lengths, rows)
            if not len(self._positions[key]):
                raise DatasetError(
                    f"a clip of {rows} frames fits in none of the {np.count_nonzero(lengths)} "
                    f"{'relevant ' * relevant}episodes of the dataset {self.dataset.name!r}, the longest of which has "
                    f"{max(lengths, default=0)}: train on shorter clips, or record longer episodes"
                )
        return self._positions[key]


def upper_half(dataset: Dataset) -> Bool[np.ndarray, " E"]:
    """The episodes whose return is above the median of their task's, our reading of "the task is accomplished".

    Where none is above it, as when all returns are equal, those at the median.
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


def _draw(seed: int, step: int, index: int) -> int:
    """A whole number in [0, 2¹²⁸): what its remainder favours is beyond any count of draws."""
    digest = hashlib.blake2b(repr(("clip", seed, step, index)).encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def _batch(
    dataset: Dataset,
    clips: Sequence[Clip],
    length: int,
    latents: Tensor | None,
    relevant: Sequence[bool],
    taken: bool,
) -> Batch:
    labelled = _stacked([clip.labelled for clip in clips])
    actions = {part.name: _stacked([clip.actions[part.name] for clip in clips]) for part in dataset.components}
    for part in dataset.components:
        if isinstance(part, Categorical):
            actions[part.name] = actions[part.name].long()
    return Batch(
        video=None if latents is not None else _stacked([clip.frames[:length] for clip in clips]),
        latents=latents,
        actions={name: values[:, :length] for name, values in actions.items()} | {LABELLED: labelled[:, :length]},
        taken={name: values[:, 1:] for name, values in actions.items()} if taken else {},
        taken_labelled=labelled[:, 1:] if taken else None,
        rewards=_stacked([clip.rewards[:length] for clip in clips]),
        continues=_stacked([clip.continues[:length] for clip in clips]),
        task=torch.tensor([clip.task for clip in clips]),
        relevant=torch.tensor([bool(only) for only in relevant]),
    )


def _stacked(arrays: Sequence[np.ndarray[Any, Any]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
