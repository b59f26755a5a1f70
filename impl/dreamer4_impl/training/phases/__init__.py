"""The phases of training by name, in the order of Algorithm 1."""

from collections.abc import Callable
from typing import Final

import torch

from dreamer4_impl.checkpoints.names import PhaseName
from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.training.phase import AnyPhase
from dreamer4_impl.training.phases import agent, dynamics, imagine, tokenizer

PHASES: Final[dict[PhaseName, Callable[[TrainingSettings, torch.device], AnyPhase]]] = {
    "tokenizer": tokenizer.make_phase,
    "dynamics": dynamics.make_phase,
    "agent": agent.make_phase,
    "imagine": imagine.make_phase,
}
"""Functions that create a phase from the settings of a run, its auxiliary networks on a device."""
