"""Sec. 3.4: samples of a batch in two groups, videos and samples whose frames are separate images (A37).

An image is a sequence of one frame. It keeps its representation, its rewards and the action taken at it; the action
that led to it is not part of it and becomes unlabelled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from dreamer4_impl.layers.actions import LABELLED
from dreamer4_impl.training.phase import PartialMean
from dreamer4_impl.transfer import to_device


@dataclass(frozen=True)
class SampleGroup:
    """Samples that go through the network together.

    Args:
        rows: their rows in the batch.
        images: True if each frame is a sequence of its own.
        counted: False if the samples are placeholders that no loss counts.
    """

    rows: tuple[int, ...]
    images: bool
    counted: bool = True

    def take(self, x: Shaped[Tensor, "B T *rest"]) -> Shaped[Tensor, "N t *rest"]:
        """Select values that belong to frames.

        Args:
            x: one value for each frame of the batch.

        Returns:
            Sequences (N, T, …); of images (N · T, 1, …).

        Example:
            >>> SampleGroup((1,), images=True).take(torch.tensor([[1, 2], [3, 4]])).tolist()
            [[3], [4]]
        """
        x = self._selected(x)
        return x.flatten(0, 1)[:, None] if self.images else x

    def take_per_sample(self, x: Shaped[Tensor, "B *rest"], time: int) -> Shaped[Tensor, "N *rest"]:
        """Select values that belong to samples, for every sequence of the group.

        Args:
            x: one value for each sample of the batch.
            time: T, frames of a sample, 1 or more.

        Returns:
            Values (N, …); of images repeated for each frame, (N · T, …).

        Example:
            >>> SampleGroup((1,), images=True).take_per_sample(torch.tensor([5, 6]), time=2).tolist()
            [6, 6]
        """
        x = self._selected(x)
        return x.repeat_interleave(time, dim=0) if self.images else x

    def actions(self, actions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Select the actions that led to the frames; those of images become unlabelled.

        Args:
            actions: by component, (B, T, …) each, with the key `labelled`.

        Returns:
            Actions by component, (N, t, …) each.

        Example:
            >>> SampleGroup((0,), images=True).actions({"labelled": torch.tensor([[True]])})
            {'labelled': tensor([[False]])}
        """
        selected = {name: self.take(values) for name, values in actions.items()}
        if self.images:
            selected[LABELLED] = torch.zeros_like(selected[LABELLED])
        return selected

    def weight(self, like: Shaped[Tensor, "N t"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "N t"]:
        """Weights of frames in a mean.

        Args:
            like: gives shape and device.
            valid: False for padding, for each frame of the batch, bool, (B, T); None if there is none.

        Returns:
            float32, 1 for frames that count, 0 for padding and for placeholders.

        Example:
            >>> SampleGroup((0,), images=False, counted=False).weight(torch.ones(1, 2)).tolist()
            [[0.0, 0.0]]
            >>> SampleGroup((0,), images=False).weight(torch.ones(1, 2), torch.tensor([[True, False]])).tolist()
            [[1.0, 0.0]]
        """
        weight = torch.full(like.shape, float(self.counted), device=like.device)
        return weight if valid is None else weight * self.take(valid)

    def _selected(self, x: Tensor) -> Tensor:
        return x[to_device(torch.tensor(self.rows), x.device)]


def sample_groups(image: Sequence[bool], indices: Sequence[int]) -> list[SampleGroup]:
    """Divide samples into videos and images.

    Every group of the whole step is returned: if none of these samples belongs to it, the first sample is its
    placeholder. So every process calls the network equally often, as processes that shard its parameters require.

    Args:
        image: marks of all samples of the step.
        indices: indices of these samples in the global batch, at least one.

    Returns:
        One group or two, videos first.

    Example:
        >>> sample_groups([False, True, False], indices=[0, 1])[1]
        SampleGroup(rows=(1,), images=True, counted=True)
        >>> sample_groups([False, True, False], indices=[0, 2])[1]
        SampleGroup(rows=(0,), images=True, counted=False)
    """
    groups = []
    for kind in sorted(set(image)):
        rows = tuple(row for row, index in enumerate(indices) if image[index] == kind)
        groups.append(SampleGroup(rows, kind) if rows else SampleGroup((0,), kind, counted=False))
    return groups


def add_means(means: Iterable[Mapping[str, PartialMean]]) -> dict[str, PartialMean]:
    """Add the partial means of several groups.

    Args:
        means: at least one mapping; all have the same names.

    Returns:
        Sums by name, in the order of the first mapping.

    Example:
        >>> mean = PartialMean.from_values(torch.ones(2))
        >>> add_means([{"mse": mean}, {"mse": mean}])
        {'mse': PartialMean(total=tensor(4.), count=tensor(4.))}
    """
    first, *rest = means
    return {
        name: PartialMean(
            mean.total + sum(group[name].total for group in rest), mean.count + sum(group[name].count for group in rest)
        )
        for name, mean in first.items()
    }
