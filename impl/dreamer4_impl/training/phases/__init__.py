"""The phases of training by name, in the order of Algorithm 1."""

from collections.abc import Callable
from typing import Final

import torch

from dreamer4_impl.checkpoints.names import PhaseName
from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.training.phase import AnyPhase
from dreamer4_impl.training.phases.agent import AgentPhase
from dreamer4_impl.training.phases.dynamics import DynamicsPhase
from dreamer4_impl.training.phases.imagine import ImaginePhase
from dreamer4_impl.training.phases.tokenizer import TokenizerPhase

PHASES: Final[dict[PhaseName, Callable[[TrainingSettings, torch.device], AnyPhase]]] = {
    "tokenizer": TokenizerPhase.create,
    "dynamics": DynamicsPhase.create,
    "agent": AgentPhase.create,
    "imagine": ImaginePhase.create,
}
"""Functions that create a phase from the settings of a run, its auxiliary networks on a device."""
