"""Adapter of machines-in-motion/dreamer-v4, a checkout at `$DREAMER4_PEERS/machines-in-motion/dreamer-v4`.

Commit c319a28, GPL-3.0. World model only: there are no rewards, no policy and no value. Their loss takes any callable
as the denoiser. Levels and noise are drawn inside `ForwardDiffusionWithShortcut`; for `dynamics_loss_at` its random
draws return what leads to the levels passed in. Both terms are added, as in scripts/train_dynamics.py:297.

Readings: context frames carry the current d (A11), a mean per term (A27). `not_testable` lists what is sealed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from dreamer4_conformance.adapter import Network
from dreamer4_conformance.adapters.machines_in_motion_model import MachinesInMotionModel
from dreamer4_conformance.adapters.peers import checkout, git_blob, visiting

PROJECT = "machines-in-motion/dreamer-v4"
COMMIT, ITS_LOSS = "c319a283f7290a2d11c9740c92b2ae63e090af26", "ddffca0c2f77369900e6910ea80d4f311bf059c6"
"""The commit that this adapter was written for, and the blob hash of its dreamerv4/loss.py."""
STUBS: Mapping[str, Mapping[str, Any]] = {"omegaconf": {"DictConfig": dict, "OmegaConf": None}}


@cache
def modules() -> SimpleNamespace:
    """Their modules by name."""
    names = ("loss", "sampling", "models.blocks", "models.dynamics", "models.tokenizer")
    with visiting(checkout(PROJECT), stubs=STUBS):
        loaded = {name.rpartition(".")[2]: importlib.import_module(f"dreamerv4.{name}") for name in names}
    return SimpleNamespace(**loaded)


class Draws:
    """Stands for torch in their module: some functions return what was chosen, all others are torch's."""

    def __init__(self, **functions: Callable[..., Tensor]) -> None:
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class Denoiser:
    """The network as their code calls a denoiser: levels and steps are indices on the finest grid."""

    def __init__(self, network: Network, k_max: int) -> None:
        self.network, self.k_max = network, k_max
        self.cfg = SimpleNamespace(denoiser=SimpleNamespace(num_noise_levels=k_max))

    def __call__(self, noisy_z: Tensor, sigma_idx: Tensor, step_idx: Tensor, action: Tensor | None) -> Tensor:
        """Predict the clean frames."""
        prediction: Tensor = self.network(noisy_z, sigma_idx / self.k_max, 2.0**step_idx / self.k_max, action)
        return prediction

    def train(self) -> None:
        """The network has no mode."""

    eval = train


class MachinesInMotion(MachinesInMotionModel):
    """Eq. (1), (2), (4), (6)-(8), layers and networks, with the number of levels of their configurations."""

    name = PROJECT
    level = "signal"
    k_max = 128
    readings: Mapping[str, str] = {"A11": "current", "A27": "per_term"}
    not_testable: Mapping[str, str] = {
        "tokenizer_loss": "inline in the training loop (scripts/train_tokenizer.py:575)",
        "qk_norm": "inline in Attention.forward (dreamerv4/models/blocks.py:208)",
    }
    dtypes = ("float32",)  # levels are drawn in float32, whatever the latents

    def __init__(self) -> None:
        """Raises FileNotFoundError if there is no checkout."""
        self.code = modules()
        blob = git_blob(checkout(PROJECT) / "dreamerv4" / "loss.py")
        self.version = COMMIT[:7] if blob == ITS_LOSS else f"with loss.py {blob[:7]}"

    def _diffusion(self) -> Any:
        return self.code.loss.ForwardDiffusionWithShortcut(self.k_max)

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        """Their forward diffusion at these levels, whose noise is z0."""
        diffusion, unused = self._diffusion(), tau.new_zeros(tau.shape)
        names = ("step", "tau_index", "step_index", "half_step_index", "tau_plus_half_index")
        diffusion.sample_step_noise = lambda *_: {"tau": tau} | dict.fromkeys(names, unused)
        with patch.object(self.code.loss, "torch", Draws(randn_like=lambda _: z0)):
            mixed: Tensor = diffusion(z1)["x_tau"]
        return mixed

    def ramp_weight(self, tau: Tensor) -> Tensor:
        weight: Tensor = self.code.loss.ramp_weight(tau)
        return weight

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        labels = self._diffusion().sample_step_noise(batch, time, self.device)
        return labels["tau"], labels["step"]

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor | None, seed: int) -> Tensor:
        """Sum of their two terms, without running RMS."""
        denoiser = Denoiser(network, self.k_max)
        loss: Tensor = sum(self.code.loss.compute_bootstrap_diffusion_loss(self._diffusion()(z1), denoiser, actions))
        return loss

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None
    ) -> Tensor:
        """The same with draws that lead to these levels and this noise."""
        drawn = Draws(
            randint=lambda **_: -torch.log2(d).round().long(),
            rand=lambda *_, **__: tau + d / 2,  # the middle of the interval that is rounded down to tau / d
            randn_like=lambda _: z0,
        )
        with patch.object(self.code.loss, "torch", drawn):
            return self.dynamics_loss(network, z1, actions, 0)

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        """One frame of their rollout without cache."""
        generate = self.code.sampling.forward_dynamics_no_cache
        frames: Tensor = generate(Denoiser(network, self.k_max), context, actions, 1, num_steps)
        return frames[:, 0]

    def loss_normalizer(self) -> Callable[[str, Tensor], Tensor]:
        normalise: Callable[[str, Tensor], Tensor] = self.code.loss.RMSLossScaler()
        return normalise
