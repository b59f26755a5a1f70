"""AdamW and Muon, their learning-rate schedule, gradient clipping, and a running average of the weights."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import Optimiser
from dreamer4_impl.models.transformer import Layer
from dreamer4_impl.training.distributed import gathered, shard_like


def adamw(parameters: Iterable[nn.Parameter], settings: Optimiser, device: torch.device) -> torch.optim.AdamW:
    """Create AdamW with weight decay on matrices and none on gains and biases.

    Args:
        parameters: parameters to train.
        settings: learning rate, weight decay and betas.
        device: device of the parameters; the fused implementation is used on CUDA.

    Returns:
        The optimiser, with at most two parameter groups.

    Example:
        >>> adamw(nn.Linear(2, 2).parameters(), Optimiser(), torch.device("cpu")).param_groups[1]["weight_decay"]
        0.0
    """
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = device.type == "cuda"
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=fused)


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for some matrices and AdamW for all other parameters, as one optimiser with one state.

    Args:
        muon: optimiser of the matrices, before its first step.
        rest: optimiser of the other parameters, before its first step.
    """

    def __init__(self, muon: torch.optim.Muon, rest: torch.optim.AdamW) -> None:
        super().__init__([*muon.param_groups, *rest.param_groups], {})
        self.members = ((muon, slice(len(muon.param_groups))), (rest, slice(len(muon.param_groups), None)))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters.

        Args:
            closure: computes loss and gradients; None takes the gradients as they are.

        Returns:
            Result of the closure, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for member, groups in self.members:
            # A loaded state replaces these objects, so they are shared in each step.
            member.state, member.param_groups = self.state, self.param_groups[groups]
            member.step()  # type: ignore[no-untyped-call]
        return loss


def create(model: nn.Module, settings: Optimiser, device: torch.device) -> torch.optim.Optimizer:
    """Create the optimiser of the parameters that are trained, those with `requires_grad`.

    Args:
        model: model with frozen and trained parameters.
        settings: optimiser and its numbers.
        device: device of the parameters.

    Returns:
        AdamW, or Muon for the matrices of the transformers' layers with AdamW for the other parameters.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    layers = [module for module in model.modules() if isinstance(module, Layer)]
    matrices = [p for layer in layers for p in layer.parameters() if p.requires_grad and p.ndim == 2]
    if settings.layers == "adamw" or not matrices:
        return adamw(trained, settings, device)
    chosen = {id(parameter) for parameter in matrices}
    muon = torch.optim.Muon(
        matrices, lr=settings.learning_rate, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return MuonWithAdamW(muon, adamw([p for p in trained if id(p) not in chosen], settings, device))


def learning_rate(settings: Optimiser, step: int, steps: int) -> float:
    """Learning rate of a step: a linear rise over the warm-up, then constant, at the end half a cosine down to a tenth.

    Args:
        settings: peak, warm-up, decay and its share of the steps.
        step: step of the run, in [0, steps).
        steps: number of steps of the run, 1 or more.

    Returns:
        Learning rate above 0.

    Example:
        >>> [learning_rate(Optimiser(learning_rate=1.0, warmup=4), step, steps=10) for step in (0, 3, 9)]
        [0.25, 1.0, 1.0]
        >>> late = Optimiser(learning_rate=1.0, warmup=0, decay="cosine", decay_share=0.4)
        >>> [round(learning_rate(late, step, steps=11), 2) for step in (0, 6, 8, 10)]
        [1.0, 1.0, 0.55, 0.1]
    """
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    if settings.decay == "none":
        return settings.learning_rate
    start = max(settings.warmup, (1 - settings.decay_share) * (steps - 1))
    done = min(1.0, max(0.0, (step - start) / max(1, steps - 1 - start)))
    return settings.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def clip(parameters: Iterable[nn.Parameter], norm: float) -> Tensor:
    """Scale the gradients so that their joint norm is at most `norm`; all processes must call it.

    Args:
        parameters: parameters with gradients.
        norm: upper bound, above 0.

    Returns:
        The norm before, over all processes, scalar.
    """
    return gathered(nn.utils.clip_grad_norm_(parameters, norm))


class RunningAverage:
    """avg ← decay · avg + (1 − decay) · weights, from the weights at the start.

    Args:
        weights: trained parameters by name, which may be sharded.
        decay: weight of the old average in each update, in [0, 1).

    >>> weight = nn.Parameter(torch.zeros(1))
    >>> average = RunningAverage({"w": weight}, decay=0.75)
    >>> weight.data += 4
    >>> average.update()
    >>> average.full()
    {'w': tensor([1.])}
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self.weights, self.decay = dict(weights), decay
        self.values = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights."""
        torch._foreach_lerp_(list(self.values.values()), list(self.weights.values()), 1 - self.decay)

    def full(self) -> dict[str, Tensor]:
        """Average of all weights; all processes must call it.

        Returns:
            Complete tensors by name in every process.
        """
        return {name: gathered(value) for name, value in self.values.items()}

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Restore the average.

        Args:
            values: result of `full`; the average of an absent name starts at its weight.
        """
        for name, own in self.values.items():
            if name in values:
                own.copy_(shard_like(values[name].to(own.device), own))
