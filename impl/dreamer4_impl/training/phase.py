"""Algorithm 1: what a phase of training is, to the loop that runs it.

A step takes the global batch of samples 0, …, B − 1. Sample i goes to process i mod world, and each process goes through its
samples in micro-batches. So a phase is asked for parts of means, `PartialMean`, and the loop puts them together:

    mean_k = Σ total_k / Σ count_k        over micro-batches and processes
    term_j = terms(mean)_j                linear in the means
    loss   = combine(term_j / RMS_j)      linear in the terms

Neither the number of processes nor accumulation changes what is computed, as long as everything random is drawn by
(phase, step, sample) and no sample depends on which others are at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dreamer4_impl.data.clips import Batch
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.precision import compute_dtype


class PartialMean(NamedTuple):
    """A part of a mean over the global batch: the sum of some values, and how many there are.

    Args:
        total: scalar, float32 or wider; with a gradient where it belongs to a loss.
        count: scalar of the same dtype; 0 where nothing was there to count. It carries no gradient.

    >>> PartialMean.of(torch.tensor([1.0, 2.0]))
    PartialMean(total=tensor(3.), count=tensor(2.))
    """

    total: Float[Tensor, ""]
    count: Float[Tensor, ""]  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs

    @classmethod
    def of(cls, values: Shaped[Tensor, "*shape"], weight: Shaped[Tensor, "*shape"] | None = None) -> "PartialMean":
        """All values count as one each, or as `weight` says, of the same shape; empty values are nothing.

        >>> PartialMean.of(torch.tensor([1.0, 2.0]), weight=torch.tensor([True, False]))
        PartialMean(total=tensor(1.), count=tensor(1.))
        """
        values = values.to(compute_dtype(values))
        if weight is None:
            return cls(values.sum(), torch.tensor(float(values.numel()), dtype=values.dtype, device=values.device))
        # Where the weight is 0 the value may be anything, NaN included.
        total = torch.where(weight != 0, values * weight, 0).sum()
        return cls(total, weight.detach().sum().to(values.dtype))


@dataclass(frozen=True)
class Plan:
    """What the samples of one step are, the same in every process.

    Args:
        length: T, frames of a clip.
        image: for each sample of the global batch, whether its frames are treated as separate images (A37).
        relevant: for each sample, whether it comes from the relevant sequences.

    >>> Plan(length=4, image=(True, False), relevant=(False, True)).samples
    2
    """

    length: int
    image: tuple[bool, ...]
    relevant: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Refuse marks that are not those of the same samples."""
        if not len(self.image) == len(self.relevant) > 0 or self.length < 1:
            raise ValueError(
                f"image and relevant must mark the same samples, at least one, and length be 1 or more; "
                f"got {len(self.image)}, {len(self.relevant)} and {self.length}"
            )

    @property
    def samples(self) -> int:
        """B, samples of the global batch."""
        return len(self.image)


class Phase(Protocol):
    """One phase of training. `make_phase(settings, device)` of its module makes it.

    Attributes:
        name: "tokenizer", "dynamics", "agent" or "imagine".
        term_names: what `terms` returns, in order; each has a running RMS of its own.
        one_mean: whether there is one term and it is the mean of the same name, alone. Accumulation is cheaper then.
        notes: sentences that whoever trains should know, such as what the loss lacks.
    """

    name: str
    term_names: tuple[str, ...]
    one_mean: bool
    notes: tuple[str, ...]

    def prepare(self, model: Dreamer4, dataset: Dataset) -> None:
        """Give the model what it needs of the data, such as their mean frame; once, before the first step of a run."""
        ...

    def trained(self, model: Dreamer4) -> Sequence[tuple[str, nn.Parameter]]:
        """Parameters for the optimiser, by their names in the model; the loop freezes everything else.

        Asked more than once: sharding replaces the parameters of a model.
        """
        ...

    def companions(self, model: Dreamer4) -> Mapping[str, nn.Module]:
        """Frozen modules beside the model, made from it as the phase starts: the prior of imagination.

        Called once, before the first step, and after the weights of an earlier phase are loaded. The phase keeps them
        and uses the same objects; a checkpoint holds them, and resuming loads them in place.
        """
        ...

    def plan(self, step: int) -> Plan:
        """The samples of a step, from 0; a pure function of settings and step."""
        ...

    def means(self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]) -> dict[str, PartialMean]:
        """Losses, and whatever else is worth a curve, over some samples of a step.

        Args:
            model: in training mode, what is not trained frozen; under autocast where the settings say so.
            batch: the samples' clips, of length plan(step).length, on the device.
            indices: the samples' numbers in the global batch, in the order of the clips.

        The same names in every call, in the same order. What is no part of a loss is logged, and carries no gradient.
        """
        ...

    def terms(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss terms that are normalised, linear in the means; often a selection of them.

        Called twice in a step: on the means over all samples, and on this process's part with its gradient.
        """
        ...

    def combine(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The loss, linear in the normalised terms."""
        ...
