"""The phases of training, in the order in which they run."""

from collections.abc import Callable
from typing import Final

import torch

from dreamer4_impl.checkpoints.settings import PhaseName, Settings
from dreamer4_impl.training.phase import Phase
from dreamer4_impl.training.phases import agent, dynamics, imagine, tokenizer

PHASES: Final[dict[PhaseName, Callable[[Settings, torch.device], Phase]]] = {
    "tokenizer": tokenizer.make_phase,
    "dynamics": dynamics.make_phase,
    "agent": agent.make_phase,
    "imagine": imagine.make_phase,
}
