"""One step's gradients, the same for any number of processes and micro-batches.

    mean_k = Σ total_k / Σ count_k,   term_j = terms(mean)_j,   loss = combine(term_j / RMS_j)

The running RMS takes the step's own values in before it divides (A24), so the divisors are known only when all micro-batches
are through. With one micro-batch that is before its gradient. With several, a phase whose only term is one of its means
gets its gradient scaled at the end; any other first goes through the micro-batches without gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreamer4_impl.data.clips import Batch
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.training.distributed import Processes, gradients_stay_here
from dreamer4_impl.training.phase import PartialMean, Phase

#: Clips of some samples, and the samples' numbers.
Part = tuple[Batch, Sequence[int]]


@dataclass(frozen=True)
class Values:
    """What a step came to, over all processes; scalars on the device.

    Args:
        means: those of the phase; NaN where nothing was there to count.
        terms: loss terms before they were normalised; 0 where nothing was there.
        loss: of the normalised terms.
    """

    means: Mapping[str, Tensor]
    terms: Mapping[str, Tensor]
    loss: Tensor


class Gradients:
    """Leaves the gradients of a step's loss in the parameters.

    Args:
        phase: whose loss it is.
        engine: `Losses`, wrapped or not.
        normalise: the running RMS of the phase's terms, on the device.
        processes: that train together.
        autocast: makes the context in which losses are computed.
        scaler: of the loss, where it is float16.
    """

    def __init__(
        self,
        phase: Phase,
        engine: nn.Module,
        normalise: RunningRMS,
        processes: Processes,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.phase, self.engine, self.normalise, self.processes = phase, engine, normalise, processes
        self.autocast = autocast
        self.scaler = scaler or torch.amp.GradScaler(enabled=False)

    def __call__(self, step: int, parts: Sequence[Part]) -> Values:
        """Go through this process's micro-batches of a step."""
        if len(parts) == 1:
            return self._at_once(step, parts[0])
        return self._scaled_at_the_end(step, parts) if self.phase.one_mean else self._in_two_passes(step, parts)

    def _at_once(self, step: int, part: Part) -> Values:
        found, zero = self._forward(step, part)
        whole = self._sum([found])
        values, scales = self._values(whole)
        self._backward(self._loss(found, whole, scales) + zero)
        return values

    def _in_two_passes(self, step: int, parts: Sequence[Part]) -> Values:
        with torch.no_grad():
            whole = self._sum([self._forward(step, part)[0] for part in parts])
        values, scales = self._values(whole)
        for number, part in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else gradients_stay_here(self.engine):
                found, zero = self._forward(step, part)
                self._backward(self._loss(found, whole, scales) + zero)
        return values

    def _scaled_at_the_end(self, step: int, parts: Sequence[Part]) -> Values:
        """The gradient of the sum, then divided by what it turns out to be divided by."""
        (name,), found = self.phase.term_names, []
        for number, part in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else gradients_stay_here(self.engine):
                means, zero = self._forward(step, part)
                self._backward(means[name].total + zero)
                found.append({key: PartialMean(*(value.detach() for value in mean)) for key, mean in means.items()})
        whole = self._sum(found)
        values, scales = self._values(whole)
        one = PartialMean(torch.ones_like(scales[name]), torch.ones_like(scales[name]))
        factor = self._loss(dict.fromkeys(whole, one), whole, scales)
        torch._foreach_mul_([p.grad for p in self.engine.parameters() if p.grad is not None], factor.item())
        return values

    def _forward(self, step: int, part: Part) -> tuple[dict[str, PartialMean], Tensor]:
        batch, indices = part
        with self.autocast():
            found: tuple[dict[str, PartialMean], Tensor] = self.engine(batch, step, indices)
        return found

    def _backward(self, loss: Tensor) -> None:
        torch.autograd.backward(self.scaler.scale(loss))

    def _sum(self, found: Sequence[Mapping[str, PartialMean]]) -> dict[str, PartialMean]:
        """Totals and counts over all micro-batches and processes, in float64."""
        names = list(found[0])
        rows = [torch.stack([torch.stack(means[name]).detach().double() for name in names]) for means in found]
        whole = self.processes.sum(torch.stack(rows).sum(0))
        return {name: PartialMean(*row.unbind()) for name, row in zip(names, whole, strict=True)}

    def _values(self, whole: Mapping[str, PartialMean]) -> tuple[Values, dict[str, Tensor]]:
        """What the step came to, and by what each of its terms is multiplied."""
        means = {name: total / count for name, (total, count) in whole.items()}
        present = {name: torch.where(count > 0, means[name], 0) for name, (_, count) in whole.items()}
        terms, observed = self.phase.terms(present), self.phase.terms(means)
        scales = {name: 1 / self.normalise.divisor(name) for name in self.phase.term_names}
        for name in self.phase.term_names:
            self.normalise.update(name, observed[name])  # NaN, a mean over nothing, leaves the estimate unchanged
        loss = self.phase.combine({name: terms[name].float() * scales[name] for name in self.phase.term_names})
        return Values(means, terms, loss), scales

    def _loss(
        self, found: Mapping[str, PartialMean], whole: Mapping[str, PartialMean], scales: Mapping[str, Tensor]
    ) -> Tensor:
        """This process's part of the loss; averaged over the processes, as the engines do, it is the whole."""
        parts = {
            name: mean.total * (self.processes.world / torch.where(whole[name].count > 0, whole[name].count, 1)).float()
            for name, mean in found.items()
        }
        terms = self.phase.terms(parts)
        return self.phase.combine({name: terms[name] * scales[name] for name in self.phase.term_names})
