"""Adapter of the bundled implementation, `dreamer4_impl`, which only this folder of the suite imports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dreamer4_conformance.adapter import Network
from dreamer4_conformance.adapters.bundled_training import BundledTraining
from dreamer4_impl import constants
from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.equations.eq01_corruption import corrupt
from dreamer4_impl.equations.eq02_sampling import sample_frame
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss_at
from dreamer4_impl.equations.eq08_ramp_weight import ramp_weight
from dreamer4_impl.equations.eq09_multi_token import multi_token_loss, multi_token_targets
from dreamer4_impl.equations.eq10_lambda_return import advantages, lambda_returns, value_loss
from dreamer4_impl.equations.eq11_pmpo import frozen_prior, policy_loss
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.equations.twohot import TwoHot
from dreamer4_impl.generation.draws import Key, ShortcutDraws, shortcut_draws
from dreamer4_impl.layers.actions import Categorical
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.policy import Policy
from dreamer4_impl.models.transformer import TransformerConfig
from dreamer4_impl.training.phase import PartialMean
from dreamer4_impl.training.phases import dynamics, imagine
from dreamer4_impl.training.phases.tokenizer import TokenizerPhase


class Bundled(BundledTraining):
    """Every equation and every model of `dreamer4_impl`, with its defaults.

    >>> Bundled().ramp_weight(torch.tensor([1.0]))
    tensor([1.])
    """

    name = "dreamer4-conformance/impl"
    version = "0.1.0"
    rms_warmup = 700  # four time constants of the decay, 0.99, and three more for a change of scale
    twohot = TwoHot()

    def generator(self, seed: int) -> torch.Generator:
        """Random generator for one call."""
        return torch.Generator(self.device).manual_seed(seed)

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return corrupt(z0, z1, tau)

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        """Eq. (4), drawn sample by sample as in training."""
        tau, d, _ = shortcut_draws(seed, samples(batch), (time, 1, 1), k_max=self.k_max)
        return tau.to(self.device), d.to(self.device)

    def ramp_weight(self, tau: Tensor) -> Tensor:
        return ramp_weight(tau)

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        """Eq. (4), (6)-(8), as computed in the phase "dynamics"."""
        drawn = shortcut_draws(seed, samples(len(z1)), z1.shape[1:], k_max=self.k_max)  # type: ignore[arg-type]
        draws = ShortcutDraws(*(draw.to(z1) for draw in drawn))
        rows = (draws.d > 1 / self.k_max).any(1).nonzero()[:, 0].tolist() or [0]
        weight = torch.ones_like(draws.tau)
        means = dynamics.forcing_means(network, z1, actions, draws, k_max=self.k_max, teacher_rows=rows, weight=weight)
        return mean(means["dynamics"])

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        """Eq. (6)-(8), (B, T)."""
        return shortcut_forcing_loss_at(network, z1, z0, tau, d, actions, k_max=self.k_max, reduction="none")

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        generator = self.generator(seed)
        return sample_frame(network, context, num_steps, actions=actions, generator=generator, k_max=self.k_max)

    def tokenizer_loss(self, mse: Tensor, lpips: Tensor) -> Tensor:
        """Eq. (5), as the phase "tokenizer" combines its terms."""
        phase = TokenizerPhase.create(TrainingSettings("tokenizer", self.config), torch.device(self.device))
        return phase.combine({"mse": mse, "lpips": lpips})

    def loss_normalizer(self) -> RunningRMS:
        """Sec. 3.1, for the terms of Eq. (5)."""
        return RunningRMS(["mse", "lpips"]).to(self.device)

    def mtp_targets(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        return multi_token_targets(x, length)

    def mtp_loss(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        return multi_token_loss(log_prob, valid)

    def mtp_loss_of(self, x: Tensor, log_prob: Tensor) -> Tensor:
        """Eq. (9) from targets to loss."""
        targets, valid = multi_token_targets(x, log_prob.shape[2] - 1)
        return multi_token_loss(log_prob.gather(3, targets[..., None])[..., 0], valid)

    def twohot_bins(self) -> Tensor:
        return self.twohot.bins(torch.device(self.device), torch.float64)

    def twohot_encode(self, x: Tensor) -> Tensor:
        return self.twohot.encode(x)

    def twohot_decode(self, logits: Tensor) -> Tensor:
        return self.twohot.decode(logits)

    def lambda_returns(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        return lambda_returns(reward, value, cont, gamma, lam)

    def advantages(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        return advantages(reward, value, cont, gamma, lam)

    def value_loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        return value_loss(logits, returns, self.twohot)

    def policy_loss(
        self, logits: Tensor, prior_logits: Tensor, action: Tensor, advantage: Tensor, alpha: float, beta: float
    ) -> Tensor:
        return self.policy_loss_factored([logits], [prior_logits], action[:, None], advantage, alpha, beta)

    def policy_loss_factored(
        self,
        logits: list[Tensor],
        prior_logits: list[Tensor],
        action: Tensor,
        advantage: Tensor,
        alpha: float,
        beta: float,
    ) -> Tensor:
        """Eq. (11) over several action components, as computed in the phase "imagine"."""
        components = tuple(Categorical(f"action_{f}", values.shape[1]) for f, values in enumerate(logits))
        names = [component.name for component in components]
        policy, prior = (Policy(components, dict(zip(names, x, strict=True))) for x in (logits, prior_logits))
        means = imagine.policy_means(policy, prior, dict(zip(names, action.unbind(1), strict=True)), advantage)
        return imagine.policy_term({name: mean(partial) for name, partial in means.items()}, alpha, beta)

    def prior_start(self, seed: int) -> Mapping[str, Tensor]:
        """Logits of a linear head and its frozen copy before and after one gradient step of Eq. (11)."""
        states = torch.randn(6, 4, device=self.device)
        head = nn.Linear(4, 5, device=self.device)
        prior = frozen_prior(head)
        before = {"policy": head(states), "prior": prior(states)}
        action, advantage = torch.arange(6, device=self.device) % 5, torch.ones(6, device=self.device)
        loss = policy_loss(before["policy"], before["prior"], action, advantage)
        trained = [parameter for parameter in (*head.parameters(), *prior.parameters()) if parameter.requires_grad]
        with torch.no_grad():
            for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                parameter.sub_(gradient)
        return before | {"policy_after": head(states), "prior_after": prior(states)}

    def constants(self) -> Mapping[str, Any]:
        return {
            "num_steps": constants.SAMPLING_STEPS,
            "gamma": constants.GAMMA,
            "alpha": constants.ALPHA,
            "beta": constants.BETA,
            "mtp_length": constants.MTP_LENGTH,
            "mae_max": constants.MAE_MAX_DROP,
            "lpips_weight": constants.LPIPS_WEIGHT,
            "image_fraction": constants.IMAGE_SHARE,
            "binary_actions": constants.MINECRAFT_BINARIES,
            "mouse_classes": constants.MOUSE_BINS**2,
        }


def samples(batch: int) -> list[Key]:
    """Keys of the random draws of each sample in a batch."""
    return [("dynamics", 0, sample) for sample in range(batch)]


def mean(partial: PartialMean) -> Tensor:
    """Mean over all values, 0 without any, as in the training loop."""
    return partial.total / torch.where(partial.count > 0, partial.count, 1)


class BundledCompiled(Bundled):
    """Bundled with a backend of attention that is compiled for each of the suite's shapes."""

    def attention(self, *args: Tensor, **options: Any) -> Tensor:
        """Attention without torch's limit on recompilations, which the suite's many shapes exceed."""
        from torch._dynamo import config  # a second of imports, for this adapter alone

        with config.patch(recompile_limit=2**30, accumulated_recompile_limit=2**30):
            return super().attention(*args, **options)


class BundledFlex(BundledCompiled):
    """Bundled with the backend of FlexAttention."""

    backends: Sequence[str] = ("flex",)
    dtypes: Sequence[str] = ("float32", "bfloat16")


class BundledChunked(BundledCompiled):
    """Bundled with the attention in chunks for a CPU."""

    backends: Sequence[str] = ("chunked",)


class BundledTriton(Bundled):
    """Bundled with the Triton kernels in attention and in every layer, with head widths that they support."""

    backends: Sequence[str] = ("triton",)
    dtypes: Sequence[str] = ("float32", "bfloat16")

    @cached_property
    def config(self) -> ModelConfig:
        """Configuration of `Bundled` with the backend "triton"."""
        config = super().config
        tokenizer, dynamics = config.tokenizer, config.dynamics
        tokenizer = replace(tokenizer, encoder=_in_triton(tokenizer.encoder), decoder=_in_triton(tokenizer.decoder))
        return replace(
            config, tokenizer=tokenizer, dynamics=replace(dynamics, transformer=_in_triton(dynamics.transformer))
        )


def _in_triton(transformer: TransformerConfig) -> TransformerConfig:
    return replace(transformer, head_width=32, backend="triton")
