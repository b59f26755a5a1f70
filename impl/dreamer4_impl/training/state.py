"""Everything of a run that changes from step to step, to a checkpoint and back, for any number of processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dreamer4_impl.checkpoints.checkpoint import Checkpoint
from dreamer4_impl.checkpoints.settings import Settings
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.training.optimiser import RunningAverage
from dreamer4_impl.training.randomness import random_state, restore_random_state


@dataclass
class TrainingState:
    """What training changes.

    Args:
        model: as it is, or sharded.
        optimiser: of its trained parameters.
        normalise: running RMS of the terms.
        companions: of the phase, by name.
        scaler: of the loss.
        average: of the trained weights, or None.
        step: steps done.
    """

    model: Dreamer4
    optimiser: torch.optim.Optimizer
    normalise: RunningRMS
    companions: Mapping[str, nn.Module]
    scaler: torch.amp.GradScaler
    average: RunningAverage | None
    step: int = 0

    def capture(self, settings: Settings) -> Checkpoint:
        """A checkpoint, whole in the first process; all processes call it."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        found, optimiser = get_state_dict(self.model, self.optimiser, options=options)
        weights = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
        state = {
            "optimiser": optimiser,
            "normalise": self.normalise.state_dict(),
            "companions": {name: module.state_dict() for name, module in self.companions.items()},
            "scaler": self.scaler.state_dict(),
            "random": random_state(),
        }
        return Checkpoint(settings, self.step, weights, self.average.full() if self.average else {}, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint whose weights the model already has."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        state = checkpoint.state
        options = StateDictOptions(full_state_dict=True, strict=False)
        settings = [{name: group[name] for name in ("betas", "weight_decay")} for group in self.optimiser.param_groups]
        set_optimizer_state_dict(self.model, self.optimiser, _copied(state["optimiser"]), options=options)
        for group, own in zip(self.optimiser.param_groups, settings, strict=True):
            group.update(own)  # whoever resumes may have changed them
        self.normalise.load_state_dict(state["normalise"])
        for name, module in self.companions.items():
            module.load_state_dict(state["companions"][name])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load(checkpoint.average)
        restore_random_state(state["random"])
        self.step = checkpoint.step


def _copied(value: Any) -> Any:
    """The optimiser keeps the tensors that it is given, and those of a checkpoint are mapped from its file."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value
