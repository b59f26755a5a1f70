"""Algorithm 1: interface between a phase of training and the loop that runs it.

A step takes the global batch of samples 0, …, B − 1. Sample i goes to process i mod world, and each process goes
through its samples in micro-batches. A phase returns partial means of each micro-batch, and the loop combines them:

    mean_k = Σ total_k / Σ count_k        over micro-batches and processes
    term_j = terms(mean)_j                linear in the means
    loss   = combine(term_j / RMS_j)      linear in the terms

The counts follow from inputs that carry no gradient and are computed first, so that the share of a micro-batch in the
loss is known in its only forward pass with gradient. Neither the number of processes nor accumulation changes the
result, as long as everything random is keyed by (phase, step, sample) and no sample depends on the other samples of its
micro-batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.precision import compute_dtype
from dreamer4_impl.training.step_plan import StepPlan, clip_lengths, plan_step

Inputs = TypeVar("Inputs")


class PartialMean(NamedTuple):
    """Share of some samples in a mean over the global batch: a weighted sum of values, and the sum of the weights.

    Args:
        total: scalar, float32 or wider; with a gradient if it belongs to a loss.
        count: scalar of the same dtype without gradient; 0 if there is nothing to count.

    >>> PartialMean.from_values(torch.tensor([1.0, 2.0]))
    PartialMean(total=tensor(3.), count=tensor(2.))
    """

    total: Float[Tensor, ""]
    count: Float[Tensor, ""]  # type: ignore[assignment]  # hides tuple.count, which is not used

    @classmethod
    def from_values(
        cls, values: Shaped[Tensor, "*shape"], weight: Shaped[Tensor, "*shape"] | None = None
    ) -> "PartialMean":
        """Sum values and weights.

        Args:
            values: any shape; half precision is summed in float32. Empty values contribute nothing.
            weight: weight of every value, bool or number, any shape; where it is 0 the value may be NaN. None is 1.

        Returns:
            Scalars in float32 (float64 for float64).

        Example:
            >>> PartialMean.from_values(torch.tensor([1.0, 2.0]), weight=torch.tensor([True, False]))
            PartialMean(total=tensor(1.), count=tensor(1.))
        """
        values = values.to(compute_dtype(values))
        if weight is None:
            return cls(values.sum(), values.new_full((), values.numel()))
        total = torch.where(weight != 0, values * weight, 0).sum()
        return cls(total, weight.detach().sum().to(values.dtype))


class Phase(ABC, Generic[Inputs]):
    """One phase of training.

    Args:
        settings: settings of the run.

    Attributes:
        name: "tokenizer", "dynamics", "agent" or "imagine".
        term_names: names of the loss terms that `terms` returns, in order; each has its own running RMS.
        notes: messages for the user about the phase, such as a term that the loss lacks.
        relevant_share: share of the samples that come from the relevant episodes, in [0, 1].
        clones: True if the phase learns the actions of the relevant episodes.
        length: frames of every clip; None alternates short and long clips, some of them separate images.
    """

    name: str
    term_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    relevant_share: float = 0.0
    clones: bool = False
    length: int | None = None

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings

    @classmethod
    def create(cls, settings: TrainingSettings, device: torch.device) -> "AnyPhase":
        """Create the phase with its auxiliary networks.

        Args:
            settings: settings of the run.
            device: device of auxiliary networks that are not part of the model.

        Returns:
            The phase.
        """
        return cls(settings)

    def prepare(self, model: Dreamer4, dataset: Dataset) -> None:
        """Set what the model needs from the data, such as the mean frame; called before the first step of a new run.

        Args:
            model: changed in place.
            dataset: data to train on.
        """

    def companions(self, model: Dreamer4) -> Mapping[str, nn.Module]:
        """Create frozen modules that accompany the model, such as the prior of imagination.

        Called once, before the first step, with the weights that the phase starts from. The phase keeps the modules; a
        checkpoint holds them, and resuming loads them in place.

        Args:
            model: model with the weights that the phase starts from.

        Returns:
            Modules by name.
        """
        return {}

    def plan(self, step: int) -> StepPlan:
        """Length and samples of a step, a pure function of settings and step.

        Args:
            step: from 0.

        Returns:
            The plan, the same in every process.
        """
        return plan_step(self.settings, step, length=self.length, relevant_share=self.relevant_share)

    def lengths(self) -> tuple[int, ...]:
        """Lengths of the clips of a run.

        Returns:
            All T that `plan` returns, in ascending order.
        """
        return clip_lengths(self.settings) if self.length is None else (self.length,)

    @abstractmethod
    def trained(self, model: Dreamer4) -> Sequence[tuple[str, nn.Parameter]]:
        """List the parameters that this phase trains; the loop freezes all others.

        Args:
            model: the whole model. Sharding replaces its parameters, so this is called again after it.

        Returns:
            Parameters with their names in the model.
        """

    @abstractmethod
    def inputs(
        self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]
    ) -> tuple[Inputs, Mapping[str, Tensor]]:
        """Compute everything without gradient that the losses of some samples need: draws, latents, rollouts.

        Args:
            model: in training mode, frozen where it is not trained; under autocast if the settings say so.
            batch: clips of length plan(step).length, on the device.
            step: from 0.
            indices: indices of the samples in the global batch, in the order of the clips.

        Returns:
            Argument of `means`, and the count of every mean that `terms` takes, by name; a count equals that of
            `means`.
        """

    @abstractmethod
    def means(self, model: Dreamer4, inputs: Inputs) -> dict[str, PartialMean]:
        """Compute the losses of some samples, and further means that are logged.

        Args:
            model: as for `inputs`.
            inputs: result of `inputs`.

        Returns:
            Partial means with the same names in the same order in every call. Means that are only logged have no
            gradient.
        """

    @abstractmethod
    def terms(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss terms before normalisation, linear in the means.

        Args:
            means: scalars by name; those of all samples for logging, or shares with gradient.

        Returns:
            Scalars by name, in the order of `term_names`.
        """

    @abstractmethod
    def combine(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Loss, linear in the normalised terms.

        Args:
            terms: normalised terms by name, scalars.

        Returns:
            Scalar loss.
        """


AnyPhase = Phase[Any]
