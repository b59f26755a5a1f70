"""State of a run that changes from step to step, saved and restored for any number of processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dreamer4_impl.checkpoints.checkpoint import Checkpoint
from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.training.optimiser import RunningAverage
from dreamer4_impl.training.randomness import random_state, restore_random_state


@dataclass
class TrainingState:
    """State that training changes.

    Args:
        model: the whole model, which may be sharded.
        optimiser: optimiser of its trained parameters.
        normalise: running RMS of the loss terms.
        companions: companions of the phase by name.
        scaler: scaler of the loss for float16.
        average: running average of the trained weights; None for none.
        step: number of completed steps, 0 or more.
    """

    model: Dreamer4
    optimiser: torch.optim.Optimizer
    normalise: RunningRMS
    companions: Mapping[str, nn.Module]
    scaler: torch.amp.GradScaler
    average: RunningAverage | None
    step: int = 0

    def capture(self, settings: TrainingSettings) -> Checkpoint:
        """Put the state into a checkpoint; all processes must call it.

        Args:
            settings: settings of the run.

        Returns:
            A copy on the CPU, complete on rank 0; of a sharded model, the tensors of the state itself.
        """
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        sharded = any(hasattr(parameter, "full_tensor") for parameter in self.model.parameters())
        options = StateDictOptions(full_state_dict=not sharded, cpu_offload=not sharded)
        state_dict, optimiser = get_state_dict(self.model, self.optimiser, options=options)
        weights = {name: value for name, value in state_dict.items() if isinstance(value, torch.Tensor)}
        state = {
            "optimiser": optimiser,
            "normalise": self.normalise.state_dict(),
            "companions": {name: module.state_dict() for name, module in self.companions.items()},
            "scaler": self.scaler.state_dict(),
            "random": random_state(),
        }
        average = {} if self.average is None else self.average.values if sharded else self.average.full()
        return Checkpoint(settings, self.step, weights, average, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore everything but the weights, which the model must already have; all processes must call it.

        Args:
            checkpoint: checkpoint of the same phase.
        """
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        state = checkpoint.state
        options = StateDictOptions(full_state_dict=True, strict=False)
        names = {"betas", "weight_decay"}
        settings = [{name: group[name] for name in names & group.keys()} for group in self.optimiser.param_groups]
        set_optimizer_state_dict(self.model, self.optimiser, _copied(state["optimiser"]), options=options)
        for group, own in zip(self.optimiser.param_groups, settings, strict=True):
            group.update(own)  # the settings may have changed since the checkpoint
        self.normalise.load_state_dict(state["normalise"])
        for name, module in self.companions.items():
            module.load_state_dict(state["companions"][name])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load(checkpoint.average)
        restore_random_state(state["random"])
        self.step = checkpoint.step


def _copied(value: Any) -> Any:
    """Copy all tensors: the optimiser keeps references, and those of a checkpoint are mapped from its file."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
