"""Adapter of lucidrains' `dreamer4` from PyPI: their code, with some modules of an instance replaced.

Their world model embeds labels, latents and actions as tokens, passes these to `transformer`, and reads the prediction
from its output. With embeddings that store each label's value in its token, and the suite's network in place of the
transformer, their training loss and their sampler run unchanged. Their policy and value losses run on heads with fixed
logits. Their networks are used unchanged: see `lucidrains_model`.

Options are chosen to match the paper where the library has them: `objective="pmpo"`, no delight gating, no
magnitude-weighted global mean, no entropy bonus, two-hot rewards. Operations that cannot be called separately are not
provided: corruption, the loss at given labels, advantages, the tokenizer's loss, and the prior, which is the policy of
the rollout.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dreamer4_conformance.adapter import Network
from dreamer4_conformance.adapters.lucidrains_model import LucidrainsModel
from dreamer4_conformance.adapters.peers import visiting

TORCHVISION: Mapping[str, Mapping[str, Any]] = {
    "torchvision": {},
    "torchvision.models": {"VGG16_Weights": SimpleNamespace(DEFAULT=None)},
    "torchvision.transforms": {},
}
"""Attributes of torchvision that their import needs, for a perceptual loss that is not used here."""


@cache
def library() -> ModuleType:
    """Their module. Raises ModuleNotFoundError, with the command to install it, if it is missing."""
    if importlib.util.find_spec("dreamer4") is None:
        raise ModuleNotFoundError(
            "dreamer4 is not installed; `nox -s peers` installs it from peers.txt", name="dreamer4"
        )
    with visiting(stubs=TORCHVISION):
        return importlib.import_module("dreamer4.dreamer4")


class Pad(nn.Module):
    """Pads latents with zeros to tokens of `width` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, width)."""
        return pad(x, (0, self.width - x.shape[-1]))


class Crop(nn.Module):
    """Crops tokens to latents: the first `channels` channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) → (…, D)."""
        return x[..., : self.channels]


class Seam(nn.Module):
    """Replaces their transformer: reads its tokens and returns those of the network.

    Tokens of a frame are one for the labels, S latents, one register, one for the actions, then others.
    """

    def __init__(self, tokens: int, channels: int, actions: int) -> None:
        super().__init__()
        self.network: Network | None = None
        self.tokens, self.channels, self.actions = tokens, channels, actions

    def forward(self, x: Tensor, cache: object = None, return_intermediates: bool = False) -> tuple[Tensor, Any]:
        """(B, T, tokens, width) → the same with predicted latents, and empty intermediates."""
        assert self.network is not None
        first, after = 1, 1 + self.tokens
        labels, width = x[:, :, 0], x.shape[-1]
        actions = x[:, :, after + 1, : self.actions] if self.actions else None
        z = x[:, :, first:after, : self.channels]
        z_hat = self.network(z, labels[..., 0], labels[..., width // 2], actions)
        replaced = torch.cat([x[:, :, :first], pad(z_hat, (0, width - self.channels)), x[:, :, after:]], dim=2)
        return replaced, library().TransformerIntermediates(None)


SMALL = {"num_spatial_tokens": 1, "num_latent_tokens": 1, "depth": 1, "attn_heads": 1, "attn_dim_head": 8}


@cache
def world_model(tokens: int, channels: int, actions: int, k_max: int, device: str) -> Any:
    """Their world model with `Seam`: embeddings of labels and actions are their values."""
    width = 2 * max(1, (max(channels, actions) + 1) // 2)
    shape = {"num_latent_tokens": tokens, "num_spatial_tokens": tokens, "num_register_tokens": 1}
    model = library().DynamicsWorldModel(
        **SMALL | shape, dim=width, dim_latent=channels, max_steps=k_max, num_continuous_actions=actions
    )
    model.latents_to_spatial_tokens, model.to_latent_pred = Pad(width), Crop(channels)
    model.transformer = Seam(tokens, channels, actions)
    with torch.no_grad():
        steps = model.step_size_embed.weight
        model.signal_levels_embed.weight.zero_()[:, 0] = torch.arange(k_max) / k_max
        steps.zero_()[:, 0] = 2.0 ** torch.arange(len(steps)) / k_max
        model.action_learned_embed.zero_()
        if actions:
            model.action_embedder.continuous_action_embed.weight.copy_(torch.eye(actions, width))
    return model.requires_grad_(False).to(device)


class FixedLogits(nn.Module):
    """A head that returns the logits assigned to it."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor | None:
        return self.logits


@cache
def agent(sizes: tuple[int, ...], reverse_kl: bool, device: str) -> Any:
    """Their world model with `FixedLogits` as heads; `sizes` are the numbers of classes of the action components."""
    total = sum(sizes)
    width = 2 * ((max(2, -(-total // 4)) + 1) // 2)  # logits are as wide as four tokens
    model = library().DynamicsWorldModel(
        **SMALL,
        dim=width,
        dim_latent=2,
        num_discrete_actions=sizes,
        multi_token_pred_len=1,
        reward_encoder_type="symexp_two_hot",
        policy_entropy_weight=0.0,
        use_delight_gating=False,
        pmpo_use_magnitude_weighted_global_mean=False,
        pmpo_reverse_kl=reverse_kl,
    )
    model.policy_head, model.value_head = FixedLogits(), FixedLogits()
    with torch.no_grad():
        unembed = model.action_embedder.discrete_action_unembed
        unembed.zero_()[:, 0, :total] = torch.eye(total)
    return model.requires_grad_(False).to(device)


def experience(model: Any, advantage: Tensor, action: Tensor, prior_logits: Tensor) -> Any:
    """N imagined trajectories of one step with returns `advantage` and values 0."""
    lib, count, device = library(), len(advantage), advantage.device
    return lib.Experience(
        latents=torch.zeros(count, 1, 1, 1, 2, device=device),
        rewards=advantage[:, None],
        values=torch.zeros(count, 1, device=device),
        actions=lib.Actions(action[:, None], None),
        log_probs=lib.Actions(torch.zeros(action[:, None].shape, device=device), None),
        old_action_unembeds=lib.Actions(prior_logits[:, None], None),
        agent_embed=torch.zeros(count, 1, model.dim, device=device),
        step_size=16,
        is_truncated=torch.zeros(count, dtype=torch.bool, device=device),
    )


def default(function: Callable[..., Any], argument: str) -> Any:
    """The default value of an argument."""
    return inspect.signature(function).parameters[argument].default


class Lucidrains(LucidrainsModel):
    """Eq. (2), (4), (6)-(11), with the library's defaults except for the options named in the module's docstring."""

    name = "lucidrains/dreamer4"
    level = "signal"
    k_max = 64
    # One random decision per batch between d_min and larger steps; d per sequence; w multiplies the flow term only.
    readings: Mapping[str, str] = {
        "A3": "sequence",
        "A7": "flow",
        "A9": "none",  # for input frames; generated frames become context at 10 % noise
        "A11": "current",
        "A17": "0..7",
        "A27": "per_term",
        "A29": "all",
        "A35": "time",
    }
    rms_warmup = (
        600  # the first mean square is 1, from which a decay of 0.95 takes as long to fall to that of a small term
    )
    dtypes = ("float32",)  # latents of another dtype are refused
    reverse_kl = True  # their default

    def __init__(self) -> None:
        """Raises ModuleNotFoundError if the package is not installed."""
        self.library = library()
        self.version = version("dreamer4")

    def _world_model(self, network: Network, shape: tuple[int, ...], actions: Tensor | None) -> Any:
        """Their model for latents (B, T, S, D), built without changing the random state of the operation."""
        width = 0 if actions is None else actions.shape[-1]
        with self.seeded(0):
            model = world_model(shape[2], shape[3], width, self.k_max, self.device)
        model.transformer.network = network
        return model

    def ramp_weight(self, tau: Tensor) -> Tensor:
        return library().ramp_weight(tau)

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor | None, seed: int) -> Tensor:
        """Their training loss without the terms of the agent."""
        loss: Tensor = self._world_model(network, tuple(z1.shape), actions)(
            latents=z1, continuous_actions=actions, shift_action_tokens=False, add_autoregressive_action_loss=False
        )
        return loss

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        """Labels of the first call of their loss."""
        labels: list[tuple[Tensor, Tensor]] = []

        def network(z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None) -> Tensor:
            labels.append((tau, d[:, 0]))
            return z

        self.dynamics_loss(network, torch.zeros(batch, time, 1, 1, device=self.device), None, seed)
        return labels[0]

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        """One frame without their cache. Their interface lacks the action that leads to the first frame."""
        frames: Tensor = self._world_model(network, tuple(context.shape), actions).generate(
            context.shape[1] + 1,
            num_steps=num_steps,
            batch_size=len(context),
            prompt_latents=context if context.shape[1] else None,
            prompt_continuous_actions=None if actions is None else actions[:, 1:],
            use_time_cache=False,
            store_agent_embed=False,
        )
        return frames[:, -1]

    def loss_normalizer(self) -> Callable[[str, Tensor], Tensor]:
        """One of their normalisers per term."""
        normalisers: dict[str, Any] = defaultdict(lambda: library().LossNormalizer().to(self.device))
        return lambda name, value: normalisers[name](value)[0]

    def mtp_targets(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        targets, valid = library().create_multi_token_prediction_targets(x, length)
        return targets, valid

    def mtp_loss(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        """Eq. (9) by their training loss, whose actions get these log-probabilities; it computes `valid` itself."""
        batch, time, distances = log_prob.shape
        with self.seeded(0):
            model = library().DynamicsWorldModel(
                **SMALL, dim=4, dim_latent=2, num_discrete_actions=2, multi_token_pred_len=distances
            )
        model.to(self.device).action_embedder.log_probs = lambda *_, **__: (log_prob.permute(2, 0, 1)[..., None], None)
        actions = torch.zeros(batch, time, 1, dtype=torch.long, device=self.device)
        latents = torch.zeros(batch, time, 1, 2, device=self.device)
        _, losses = model(latents=latents, discrete_actions=actions, return_all_losses=True)
        return losses.discrete_actions.sum()

    def twohot_bins(self) -> Tensor:
        return self._twohot().bin_values

    def twohot_encode(self, x: Tensor) -> Tensor:
        """Symexp two-hot; the library's default is a histogram of a normal distribution."""
        return self._twohot()(x)

    def twohot_decode(self, logits: Tensor) -> Tensor:
        return self._twohot().bins_to_scalar_value(logits)

    def _twohot(self) -> Any:
        return library().SymExpTwoHot().to(self.device)

    def lambda_returns(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        """Eq. (10). Their function has a last node with the bootstrap value and without a reward."""
        learned = pad(torch.ones_like(reward), (0, 1)).bool()
        masks = pad(cont, (0, 1))
        returns: Tensor = library().calc_gae(
            pad(reward, (0, 1)), value, masks=masks, learn_masks=learned, gamma=gamma, lam=lam, use_accelerated=False
        )
        return returns[:, :-1]

    def value_loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        zeros = torch.zeros(len(logits), 2, device=self.device)
        _, loss = self._learn([zeros], [zeros], zeros[:, :1].long(), returns, logits)
        return loss

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
        """Eq. (11). The prior is detached here, because they record it without gradients."""
        bins = torch.zeros(len(advantage), len(self.twohot_bins()), device=self.device)
        prior = [component.detach() for component in prior_logits]
        loss, _ = self._learn(logits, prior, action, advantage, bins, alpha, beta)
        return loss

    def _learn(
        self,
        logits: list[Tensor],
        prior: list[Tensor],
        action: Tensor,
        returns: Tensor,
        value_logits: Tensor,
        alpha: float = 0.5,
        beta: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Their policy and value losses. Values are 0, so that returns are advantages too."""
        with self.seeded(0):
            model = agent(tuple(component.shape[1] for component in logits), self.reverse_kl, self.device)
        model.pmpo_pos_to_neg_weight, model.pmpo_kl_div_loss_weight = alpha, beta
        together = torch.cat(logits, dim=1)
        unused = model.action_embedder.discrete_action_unembed.shape[-1] - together.shape[1]
        model.policy_head.logits, model.value_head.logits = pad(together, (0, unused))[:, None], value_logits[:, None]
        collected = experience(model, returns, action, torch.cat(prior, dim=1))
        policy_loss, value_loss = model.learn_from_experience(collected, objective="pmpo")
        return policy_loss, value_loss

    def constants(self) -> Mapping[str, float]:
        """Their default arguments, which do not include the share of images."""
        model, tokenizer = library().DynamicsWorldModel, library().VideoTokenizer
        return {
            "num_steps": default(model.generate, "num_steps"),
            "gamma": default(model, "gae_discount_factor"),
            "alpha": default(model, "pmpo_pos_to_neg_weight"),
            "beta": default(model, "pmpo_kl_div_loss_weight"),
            "mtp_length": default(model, "multi_token_pred_len"),
            "mae_max": default(tokenizer, "per_image_patch_mask_prob")[1],
            "lpips_weight": default(tokenizer, "lpips_loss_weight"),
        }


class ForwardKL(Lucidrains):
    """With the library's option for the divergence of Eq. (11), KL[π ‖ π_prior]; its default is the reverse."""

    reverse_kl = False


class NormalisedQueries(Lucidrains):
    """With the library's option to normalise queries too, as in the paper; by default only keys are normalised."""

    query_norm = True
