"""Adapter of skr3178/DreamerV4, a checkout at `$DREAMER4_PEERS/skr3178/DreamerV4`.

Commit 3ee81d8, without a licence file. Their training step of the dynamics runs unchanged on their model, whose
transformer is replaced by the suite's network; so does the generation of a frame in imagination. The entropy bonus of
their policy loss, an option, is off. Networks are not called as black boxes here.

Readings: one τ and one d per sequence (A3), past frames at τ = 0.1 (A9 "literal").
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor, nn

from dreamer4_conformance.adapter import Network, TorchAdapter
from dreamer4_conformance.adapters.peers import checkout, git_blob, visiting

PROJECT = "skr3178/DreamerV4"
COMMIT, ITS_LOSS = "3ee81d8c2ab66caa16a391af41328ab33f00f45f", "e5988333b0bd7a538e8eba768b23b604dacdbedb"
"""The commit that this adapter was written for, and the blob hash of its dreamer/losses/shortcut_loss.py."""
STUBS: Mapping[str, Mapping[str, Any]] = {
    "dreamer.data": {"MineRLDataset": None, "create_dataloader": None},  # theirs; it reads data sets
    "torch.utils.tensorboard": {"SummaryWriter": None},
    "tqdm": {"tqdm": None},
}
MODULES = (
    *("train_phase1", "dreamer.models.dynamics", "dreamer.models.heads", "dreamer.models.transformer"),
    *("dreamer.losses.shortcut_loss", "dreamer.losses.pmpo_loss", "dreamer.losses.value_loss"),
    *("dreamer.models.tokenizer", "dreamer.imagination.rollout"),
)


@cache
def modules() -> SimpleNamespace:
    """Their modules by the last part of their name."""
    with visiting(checkout(PROJECT), stubs=STUBS):
        loaded = {name.rpartition(".")[2]: importlib.import_module(name) for name in MODULES}
    return SimpleNamespace(**loaded)


class Tokens(nn.Module):
    """Replaces a transformer: returns its tokens."""

    def forward(self, x: Tensor, **_: object) -> Tensor:
        return x


class Skr3178(TorchAdapter):
    """Eq. (1), (2), (4), (6)-(8), (10) and (11), two-hot values and parts of layers, with their defaults."""

    name = PROJECT
    level = "signal"
    k_max = 64
    readings: Mapping[str, str] = {"A3": "sequence", "A9": "literal", "A33": "count"}
    not_testable: Mapping[str, str] = {
        "dynamics_loss_at": "levels and noise are drawn in DynamicsModel.forward (dreamer/models/dynamics.py:414)",
        "tokenizer_loss": "one function computes, normalises and adds the terms (dreamer/losses/tokenizer_loss.py:128)",
    }
    dtypes = ("float32",)  # levels are drawn in float32, whatever the latents

    def __init__(self) -> None:
        """Raises FileNotFoundError if there is no checkout."""
        self.code = modules()
        blob = git_blob(checkout(PROJECT) / "dreamer" / "losses" / "shortcut_loss.py")
        self.version = COMMIT[:7] if blob == ITS_LOSS else f"with shortcut_loss.py {blob[:7]}"

    # Eq. (1), (2), (4), (6)-(8)

    def _model(self, network: Network, frames: Tensor, actions: int) -> Any:
        """Their dynamics for latents (…, S, D), with the network in place of embeddings and transformer."""
        tokens, channels = frames.shape[-2:]
        with self.seeded(0):
            model = self.code.dynamics.DynamicsModel(
                channels, tokens, embed_dim=8, depth=1, num_heads=1, continuous_action_dim=actions
            )
        inputs: list[tuple[Tensor, ...]] = []

        def prepare(latents: Tensor, actions: Tensor, tau: Tensor, d: Tensor, _: bool) -> Tensor:
            inputs.append((latents, tau, d, actions))
            return latents.new_zeros(len(latents), latents.shape[1] * model.tokens_per_step, 1)

        model.prepare_sequence, model.transformer = prepare, Tokens()
        model.extract_latent_predictions = lambda output, time: network(*inputs.pop())
        return model.to(self.device)

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        """Their function, whose noise is z0."""
        with patch.object(self.code.dynamics, "torch", SimpleNamespace(randn_like=lambda _: z0)):
            mixed: Tensor = self.code.dynamics.DynamicsModel.add_noise(None, z1, tau)
        return mixed

    def ramp_weight(self, tau: Tensor) -> Tensor:
        weight: Tensor = self.code.shortcut_loss.ShortcutForcingLoss().ramp_weight(tau)
        return weight

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        """One pair per sequence."""
        settings = SimpleNamespace(max_shortcut_steps=self.k_max.bit_length() - 1)
        tau, d, _ = self.code.dynamics.DynamicsModel.sample_shortcut_params(settings, batch, self.device)
        return tau[:, None].expand(batch, time), d

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor | None, seed: int) -> Tensor:
        """The loss of their training step of phase 1."""
        actions = z1.new_zeros(*z1.shape[:2], 2) if actions is None else actions
        model, losses = self._model(network, z1, actions.shape[-1]), []
        criterion = self.code.shortcut_loss.ShortcutForcingLoss()

        def loss(**arguments: Tensor) -> dict[str, Any]:
            losses.append(criterion(**arguments)["loss"])
            return {"loss": MagicMock()}  # without a backward pass

        tokenizer = MagicMock(in_channels=1)
        tokenizer.encode.return_value = {"latents": z1}
        batch = {"frames": z1, "actions": actions}
        self.code.train_phase1.train_dynamics_step(
            tokenizer, model, batch, loss, MagicMock(), self.device, max_grad_norm=0.0
        )
        return losses[0]

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        """One step of imagination, which starts from the last frame and takes the last action."""
        count = 2 if actions is None else actions.shape[-1]
        rollout = SimpleNamespace(
            num_denoising_steps=num_steps,
            discrete_actions=False,
            dynamics_model=self._model(network, context, count),
        )
        action = context.new_zeros(len(context), count) if actions is None else actions[:, -1]
        start = context[:, -1] if context.shape[1] else context.new_zeros(len(context), *context.shape[2:])
        frame: Tensor = self.code.rollout.ImaginationRollout.generate_step(rollout, start, action)
        return frame

    # Two-hot values, Eq. (10) and (11)

    def _value_head(self) -> Any:
        with self.seeded(0):
            head = self.code.heads.ValueHead(1, hidden_dim=1, num_layers=1)
        head.input_dim, head.mlp, head.value_head = head.num_bins, nn.Identity(), nn.Identity()
        return head.to(self.device)

    def twohot_bins(self) -> Tensor:
        return self._value_head().bin_centers

    def twohot_encode(self, x: Tensor) -> Tensor:
        return self._value_head().target_to_bins(x)

    def twohot_decode(self, logits: Tensor) -> Tensor:
        return self._value_head()(logits)["value"]

    def lambda_returns(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        loss = self.code.value_loss.TDLambdaLoss(discount=gamma, lambda_=lam)
        returns: Tensor = loss.compute_lambda_returns(reward, value[:, :-1], 1 - cont, value[:, -1])
        return returns

    def advantages(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        """Their rollout's, with the normalisation that their training of phase 3 requests (train_phase3.py:337)."""
        batch, horizon = reward.shape
        rollout = SimpleNamespace(
            discount=gamma, flatten_latents=lambda latents: latents, value_head=lambda _: {"value": value[:, -1]}
        )
        trajectory = self.code.rollout.ImagineTrajectory(
            latents=reward.new_zeros(batch, horizon, 1, 1),
            actions=reward,
            log_probs=reward,
            rewards=reward,
            values=value[:, :-1],
            dones=1 - cont,
        )
        compute = self.code.rollout.ImaginationRollout.compute_returns_and_advantages
        advantages: Tensor = compute(rollout, trajectory, lam, normalize_advantages=True)[1]
        return advantages

    def value_loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        """Their loss without its scale of 0.5, on episodes that end, whose rewards are the returns."""
        loss = self.code.value_loss.TDLambdaLoss()
        rewards = returns.detach()[:, None]
        value: Tensor = loss(self._value_head(), logits[:, None], rewards, torch.ones_like(rewards))["value_loss"]
        return value

    def policy_loss(
        self, logits: Tensor, prior_logits: Tensor, action: Tensor, advantage: Tensor, alpha: float, beta: float
    ) -> Tensor:
        """Their loss with the prior that it accepts; their training of phase 3 passes none (train_phase3.py:353)."""
        loss = self.code.pmpo_loss.PMPOLoss(alpha=alpha, beta_kl=beta, entropy_coef=0.0)
        heads = [MagicMock(return_value={"logits": x}) for x in (logits, prior_logits.detach())]
        latents = logits.new_zeros(len(logits), 1, 1)
        value: Tensor = loss(heads[0], latents, action[:, None], advantage[:, None], heads[1])["loss"]
        return value

    # Layers and the tokenizer

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = self.code.transformer.RMSNorm(x.shape[-1], eps)
        norm.weight = nn.Parameter(weight)
        normalised: Tensor = norm(x)
        return normalised

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        q, k = self.code.transformer.QKNorm(q.shape[-1]).to(q.device)(q, k)
        return q, k

    def swiglu(self, x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        mlp = self.code.transformer.SwiGLU(x.shape[-1])
        for linear, weight in ((mlp.w1, w_gate), (mlp.w3, w_up), (mlp.w2, w_down)):
            linear.weight = nn.Parameter(weight.T)
        out: Tensor = mlp(x)
        return out

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        """Their rotation, with the rows of its table at the positions."""
        length = int(positions.max()) + 1
        cos, sin = self.code.transformer.RotaryPositionEmbedding(x.shape[-1], length).to(x.device)(x, length)
        heads = x.transpose(1, 2)
        rotated: Tensor = self.code.transformer.apply_rotary_pos_emb(heads, heads, cos[positions], sin[positions])[0]
        return rotated.transpose(1, 2)

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        """Mask of their function, which their encoder calls for each frame."""
        tokenizer = SimpleNamespace(mask_token=torch.zeros(1, 1, 1, device=self.device))
        tokens = torch.zeros(batch, patches, 1, device=self.device)
        draw = self.code.tokenizer.CausalTokenizer.random_masking
        return torch.stack([draw(tokenizer, tokens)[1] for _ in range(time)], 1)
