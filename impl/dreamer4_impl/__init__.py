"""Dreamer 4 (Hafner, Yan, Lillicrap 2025, arXiv:2509.24527) in PyTorch: one equation, one module.

τ is the signal level everywhere: 0 is pure noise, 1 is clean data. Shapes: B batch, T time, S spatial tokens,
D channels. Half-precision inputs are computed in float32. No function reads the values of a tensor unless its docstring
says so, so the host never waits for the device.

The names in `__all__` are the public interface. Importing the package imports no PyTorch: a name is loaded when it is
first used. `load_model` needs the extra `train`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dreamer4_impl.checkpoints.checkpoint import load_model
    from dreamer4_impl.equations.eq02_sampling import sample_frame
    from dreamer4_impl.equations.eq05_tokenizer_loss import tokenizer_loss
    from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss
    from dreamer4_impl.equations.eq09_multi_token import multi_token_loss
    from dreamer4_impl.equations.eq10_lambda_return import advantages, lambda_returns, value_loss
    from dreamer4_impl.equations.eq11_pmpo import frozen_prior, policy_loss
    from dreamer4_impl.equations.loss_normalisation import RunningRMS
    from dreamer4_impl.equations.twohot import TwoHot
    from dreamer4_impl.generation.decoder import FrameDecoder
    from dreamer4_impl.generation.imagination import imagine
    from dreamer4_impl.generation.rollout import rollout
    from dreamer4_impl.models.dreamer4 import Dreamer4
    from dreamer4_impl.models.dynamics import Dynamics
    from dreamer4_impl.models.presets import paper, small, tiny
    from dreamer4_impl.models.reconstruction import ReconstructionLoss
    from dreamer4_impl.models.tokenizer import Tokenizer

__all__ = [
    "Dreamer4",
    "Dynamics",
    "FrameDecoder",
    "ReconstructionLoss",
    "RunningRMS",
    "Tokenizer",
    "TwoHot",
    "advantages",
    "frozen_prior",
    "imagine",
    "lambda_returns",
    "load_model",
    "multi_token_loss",
    "paper",
    "policy_loss",
    "rollout",
    "sample_frame",
    "shortcut_forcing_loss",
    "small",
    "tiny",
    "tokenizer_loss",
    "value_loss",
]

_MODULES = {
    "checkpoints.checkpoint": ["load_model"],
    "equations.eq02_sampling": ["sample_frame"],
    "equations.eq05_tokenizer_loss": ["tokenizer_loss"],
    "equations.eq06_07_shortcut_forcing": ["shortcut_forcing_loss"],
    "equations.eq09_multi_token": ["multi_token_loss"],
    "equations.eq10_lambda_return": ["advantages", "lambda_returns", "value_loss"],
    "equations.eq11_pmpo": ["frozen_prior", "policy_loss"],
    "equations.loss_normalisation": ["RunningRMS"],
    "equations.twohot": ["TwoHot"],
    "generation.decoder": ["FrameDecoder"],
    "generation.imagination": ["imagine"],
    "generation.rollout": ["rollout"],
    "models.dreamer4": ["Dreamer4"],
    "models.dynamics": ["Dynamics"],
    "models.presets": ["paper", "small", "tiny"],
    "models.reconstruction": ["ReconstructionLoss"],
    "models.tokenizer": ["Tokenizer"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
