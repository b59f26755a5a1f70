"""Gradients of one step, the same for any number of processes and micro-batches.

    mean_k = Σ total_k / Σ count_k,   term_j = terms(mean)_j,   loss = combine(term_j / RMS_j)

The counts follow from the inputs, and the running RMS is the estimate from before the step (A24). Both are known before
the first loss, so each micro-batch goes through the network once, and its share of the gradient is final. Only a term
without an estimate, in the first step, is computed beforehand, in a pass without gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from dreamer4_impl.data.clips import Batch
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.training.distributed import Processes, delayed_gradient_exchange
from dreamer4_impl.training.phase import AnyPhase, PartialMean

MicroBatch: TypeAlias = tuple[Batch, Sequence[int]]
"""Clips of some samples, and the indices of these samples in the global batch."""

PartialMeans: TypeAlias = dict[str, PartialMean]
"""Partial means of some samples by name."""


@dataclass(frozen=True)
class StepValues:
    """Results of a step over all processes; scalars on the device, without gradient.

    Args:
        means: means of the phase; NaN where there is nothing to count.
        terms: loss terms before normalisation; 0 where there is nothing to count.
        loss: loss of the normalised terms, scalar.
    """

    means: Mapping[str, Tensor]
    terms: Mapping[str, Tensor]
    loss: Tensor


class Gradients:
    """Computes the gradient of a step's loss and leaves it in the parameters.

    Args:
        phase: phase whose loss it is.
        engine: `TrainedModel`, as it is or wrapped by DistributedDataParallel or FSDP2.
        normalise: running RMS of the phase's terms, on the device.
        processes: processes that train together.
        autocast: creates the context in which losses are computed.
        scaler: scaler of the loss for float16; None for none.
    """

    def __init__(
        self,
        phase: AnyPhase,
        engine: nn.Module,
        normalise: RunningRMS,
        processes: Processes,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.phase, self.engine, self.normalise, self.processes = phase, engine, normalise, processes
        self.autocast = autocast
        self.scaler = scaler or torch.amp.GradScaler(enabled=False)
        self._estimated = False

    def __call__(self, step: int, micro_batches: Sequence[MicroBatch]) -> StepValues:
        """Compute the gradient of a step, and update the running RMS.

        Args:
            step: from 0.
            micro_batches: micro-batches of this process, at least one, on the device.

        Returns:
            Values of the step before the optimiser changes the weights.
        """
        with self.autocast(), torch.no_grad():
            prepared = [self.engine(self.phase.inputs, batch, step, indices)[0] for batch, indices in micro_batches]
        counts = self._sum([counts for _, counts in prepared])
        # The engines average gradients over the processes; multiplied by their number, the average is the sum.
        factors = {name: (self.processes.world / torch.where(n > 0, n, 1)).float() for name, n in counts.items()}
        divisors = self._divisors([inputs for inputs, _ in prepared])
        totals = []
        for number, (inputs, _) in enumerate(prepared, start=1):
            with nullcontext() if number == len(prepared) else delayed_gradient_exchange(self.engine):
                totals.append(self._backward(inputs, factors, divisors))
        return self._values(totals, divisors)

    def _divisors(self, inputs: Sequence[Any]) -> dict[str, Tensor]:
        # The flag saves a host synchronisation in every step after the first with all terms.
        self._estimated = self._estimated or bool(self.normalise.weight.all())
        first: Mapping[str, Tensor] = {}
        if not self._estimated:
            with torch.no_grad():
                first = self.phase.terms(self._means([self._forward(x)[0] for x in inputs])[0])
        return {name: self.normalise.divisor(name, first.get(name)) for name in self.phase.term_names}

    def _forward(self, inputs: Any) -> tuple[PartialMeans, Tensor]:
        with self.autocast():
            means, zero = self.engine(self.phase.means, inputs)
        return means, zero

    def _backward(self, inputs: Any, factors: Mapping[str, Tensor], divisors: Mapping[str, Tensor]) -> PartialMeans:
        """Add the gradient of a micro-batch's share of the loss."""
        means, zero = self._forward(inputs)
        shares = {name: means[name].total * factor for name, factor in factors.items()}
        loss = self._loss(self.phase.terms(shares), divisors) + zero
        torch.autograd.backward(self.scaler.scale(loss))
        return {name: PartialMean(*(value.detach() for value in mean)) for name, mean in means.items()}

    def _loss(self, terms: Mapping[str, Tensor], divisors: Mapping[str, Tensor]) -> Tensor:
        return self.phase.combine({name: terms[name].float() / divisor for name, divisor in divisors.items()})

    def _sum(self, values: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Sum over micro-batches and processes, in float64."""
        names = list(values[0])
        rows = [torch.stack([micro_batch[name].double() for name in names]) for micro_batch in values]
        return dict(zip(names, self.processes.sum(torch.stack(rows).sum(0)), strict=True))

    def _means(self, partial: Sequence[PartialMeans]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Means over micro-batches and processes, NaN where there is nothing to count; and the same with 0 for NaN."""
        sums = self._sum([{name: torch.stack(mean) for name, mean in means.items()} for means in partial])
        means = {name: total / count for name, (total, count) in sums.items()}
        return means, {name: torch.where(sums[name][1] > 0, mean, 0) for name, mean in means.items()}

    def _values(self, partial: Sequence[PartialMeans], divisors: Mapping[str, Tensor]) -> StepValues:
        means, present = self._means(partial)
        for name, term in self.phase.terms(means).items():
            self.normalise.update(name, term)  # NaN leaves the estimate unchanged
        terms = self.phase.terms(present)
        return StepValues(means, terms, self._loss(terms, divisors))
