"""Sec. 3.4: the samples of a batch in two parts, videos and those whose frames are separate images (A37).

An image is a sequence of one frame. It keeps its representation, its rewards and the action taken at it; the action that led
to it is not part of it, so that it is unlabelled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dreamer4_impl.layers.actions import LABELLED
from dreamer4_impl.training.phase import PartialMean


@dataclass(frozen=True)
class Part:
    """Samples that go through the network together.

    Args:
        rows: their places in the batch.
        images: whether each frame is a sequence of its own.
        counted: False where the samples only stand in, and no loss counts them.
    """

    rows: tuple[int, ...]
    images: bool
    counted: bool = True

    def take(self, x: Shaped[Tensor, "B T *rest"]) -> Shaped[Tensor, "N t *rest"]:
        """Sequences (N, T, …) of what belongs to each frame; of images, (N · T, 1, …).

        >>> Part((1,), images=True).take(torch.tensor([[1, 2], [3, 4]])).tolist()
        [[3], [4]]
        """
        x = x[list(self.rows)]
        return x.flatten(0, 1)[:, None] if self.images else x

    def of_sample(self, x: Shaped[Tensor, "B *rest"], time: int) -> Shaped[Tensor, "N *rest"]:
        """What belongs to each sample of T frames, for every sequence.

        >>> Part((1,), images=True).of_sample(torch.tensor([5, 6]), time=2).tolist()
        [6, 6]
        """
        x = x[list(self.rows)]
        return x.repeat_interleave(time, dim=0) if self.images else x

    def actions(self, actions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The actions that led to the frames, (N, t, …) each; no action led to an image.

        >>> Part((0,), images=True).actions({"labelled": torch.tensor([[True]])})
        {'labelled': tensor([[False]])}
        """
        taken = {name: self.take(values) for name, values in actions.items()}
        if self.images:
            taken[LABELLED] = torch.zeros_like(taken[LABELLED])
        return taken

    def weight(self, like: Shaped[Tensor, "N *rest"]) -> Float[Tensor, "N *rest"]:
        """1 for each value that counts, 0 where samples only stand in.

        >>> Part((0,), images=False, counted=False).weight(torch.ones(1, 2)).tolist()
        [[0.0, 0.0]]
        """
        return torch.full(like.shape, float(self.counted), device=like.device)


def parts(image: Sequence[bool], indices: Sequence[int]) -> list[Part]:
    """The parts that samples `indices` of a step form; `image` marks those of the whole step.

    A part that the step has is never left out: where none of these samples belongs to it, the first stands in. So every
    process calls the network equally often, which is what processes that share its parameters wait for.

    >>> parts([False, True, False], indices=[0, 1])
    [Part(rows=(0,), images=False, counted=True), Part(rows=(1,), images=True, counted=True)]
    >>> parts([False, True, False], indices=[0, 2])[1]
    Part(rows=(0,), images=True, counted=False)
    """
    found = []
    for kind in sorted(set(image)):
        rows = tuple(row for row, index in enumerate(indices) if image[index] == kind)
        found.append(Part(rows, kind) if rows else Part((0,), kind, counted=False))
    return found


def add_means(means: Iterable[Mapping[str, PartialMean]]) -> dict[str, PartialMean]:
    """The means over all parts, from those over each; every one has the same names.

    >>> one = PartialMean.of(torch.ones(2))
    >>> add_means([{"mse": one}, {"mse": one}])
    {'mse': PartialMean(total=tensor(4.), count=tensor(4.))}
    """
    first, *others = means
    return {
        name: PartialMean(
            mean.total + sum(other[name].total for other in others),
            mean.count + sum(other[name].count for other in others),
        )
        for name, mean in first.items()
    }
