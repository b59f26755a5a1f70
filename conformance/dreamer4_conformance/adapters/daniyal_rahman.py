"""Adapter of daniyal-rahman/ahriuwu at three commits, checkouts at `$DREAMER4_PEERS/daniyal-rahman/ahriuwu@<commit>`.

The repository has no licence file. Its loss and its samplers take any callable as the model, so they are called
unchanged; `dynamics_loss` draws step sizes and levels with the functions that `scripts/train_dynamics.py` calls before
the loss, in that order. Latents (B, T, S, D) are passed as (B, T, S, D, 1), for their (B, T, C, H, W).

Readings: one step size per sequence (A3). At a4764f4 the bootstrap term has no weight (A7). In the rollouts of the
first two states past frames carry the current step size (A11).

The sampler of the newest state is the rollout with a cache that training and evaluation call, a method of its model;
`CachedNetwork` stands for the model, and evaluates the suite's network on the frames in the cache and the current one.
The sampler of the others is `rollout_predictions` of `scripts/eval_dynamics.py`, which passes no actions.

Not judged: `DiffusionSchedule.sample`, which passes no step size and, at a4764f4 and 5f33095, an argument `context`
that their model ignores or does not accept; the curriculum of step sizes of the newest state, which ends with the law
judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from dreamer4_conformance.adapter import Network
from dreamer4_conformance.adapters.daniyal_rahman_agent import ImaginationStep, Returns
from dreamer4_conformance.adapters.daniyal_rahman_code import PROJECT, State
from dreamer4_conformance.adapters.daniyal_rahman_model import Networks, Tokenizer


class Noise:
    """Their schedule with fixed noise, for the loss, which draws it through the schedule."""

    def __init__(self, schedule: Any, noise: Tensor) -> None:
        self.schedule, self.noise = schedule, noise

    def add_noise(self, data: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Their corruption of clean data, which they call z_0."""
        corrupted: tuple[Tensor, Tensor] = self.schedule.add_noise(data, tau, self.noise)
        return corrupted


class CachedNetwork:
    """Stands for their model in its rollout: tokens of a frame are its latents and labels, the cache is a list."""

    training, blocks = False, ()

    def __init__(self, model: Callable[..., Tensor]) -> None:
        self.model, self.past = model, list[tuple[Tensor, ...]]()

    def eval(self) -> None:
        """Nothing to switch."""

    def _build_tokens(self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, _: object) -> tuple[Tensor, ...]:
        vectors = () if actions is None else (actions["movement"],)
        return z, tau, d[:, None].expand(z.shape[:2]), *vectors

    def _run_blocks(self, tokens: tuple[Tensor, ...], caches: object, append: bool) -> tuple[Tensor, ...]:
        if append:
            self.past.append(tokens)
        return tokens

    def _project_out(self, tokens: tuple[Tensor, ...], *_: int) -> Tensor:
        z, tau, d, *vectors = (torch.cat(parts, 1) for parts in zip(*self.past, tokens, strict=True))
        return self.model(z, tau, d, {"movement": vectors[0]} if vectors else None)[:, -1:]


class Equations(State):
    """Eq. (1), (4) and (6)-(8)."""

    name = PROJECT
    level: Literal["signal", "noise"] = "signal"
    k_max = 64
    readings: Mapping[str, str] = {"A3": "sequence", "A11": "current"}

    def __init__(self) -> None:
        """Raises FileNotFoundError if there is no checkout."""
        super().__init__()
        self.schedule = self.code.diffusion.DiffusionSchedule(device=self.device)
        self.shortcut = self.code.diffusion.ShortcutForcing(k_max=self.k_max)

    def step_size(self, number: Tensor) -> Tensor:
        """The step size d of their integer multiple of 1 / k_max."""
        return number / self.k_max

    def model(self, network: Network) -> Callable[..., Tensor]:
        """Wraps the network as their code expects a model: labels per sequence, actions by name."""

        def model(z: Tensor, tau: Tensor, step_size: Tensor, actions: Mapping[str, Tensor] | None = None) -> Tensor:
            frames = z.shape[:2]
            tau, d = (x if x.dim() == 2 else x[:, None].expand(frames) for x in (tau, self.step_size(step_size)))
            vectors = None if actions is None else actions["movement"]
            return network(z.squeeze(-1), tau, d, vectors).unsqueeze(-1)

        return model

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return Noise(self.schedule, z0).add_noise(z1, tau)[0]

    def ramp_weight(self, tau: Tensor) -> Tensor:
        return self.code.diffusion.ramp_weight(tau)

    def labels(self, batch: int, time: int) -> tuple[Tensor, Tensor]:
        """Levels (B, T) and integer step sizes (B,), as their training loop draws them."""
        number = self.shortcut.sample_step_size(batch, self.device)
        return self.shortcut.sample_tau_for_step_size_2d(number, time, self.device), number

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        tau, number = self.labels(batch, time)
        return tau, number / self.k_max

    def loss(
        self, network: Network, z1: Tensor, tau: Tensor, number: Tensor, actions: Tensor | None, schedule: Any
    ) -> Tensor:
        """Their loss at these levels and integer step sizes."""
        named = () if actions is None else ({"movement": actions},)
        loss: Tensor = self.shortcut.compute_loss(self.model(network), schedule, z1.unsqueeze(-1), tau, number, *named)[
            0
        ]
        return loss

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor | None, seed: int) -> Tensor:
        """Eq. (4), (6)-(8)."""
        return self.loss(network, z1, *self.labels(*z1.shape[:2]), actions, self.schedule)

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None
    ) -> Tensor:
        """Eq. (6)-(8) with the noise that is passed in."""
        number = (d[:, 0].double() * self.k_max).round().long()
        return self.loss(network, z1, tau, number, actions, Noise(self.schedule, z0.unsqueeze(-1)))


class EvaluationRollout(Equations):
    """Eq. (2) by the rollout of their evaluation, which passes no actions."""

    def sample_frame(self, network: Network, context: Tensor, num_steps: int, seed: int) -> Tensor:  # type: ignore[override]
        """One frame."""
        frames: Tensor = self.code.eval_dynamics.rollout_predictions(
            self.model(network),
            self.schedule,
            context.unsqueeze(-1),
            num_predict=1,
            num_steps=num_steps,
            device=self.device,
            use_shortcut=True,
            k_max=self.k_max,
        )
        return frames[:, 0, ..., 0]


class DaniyalRahmanDecember(EvaluationRollout):
    """a4764f4, 2025-12-27: τ is the noise level, and the model has no actions and no agent."""

    level = "noise"
    commit, blob = "a4764f4", "8bfd0b64b98193d17f3b07bbf62c47d67bee1e4a"
    min_time = 2  # their horizon is drawn from [1, T)
    readings: Mapping[str, str] = {"A3": "sequence", "A7": "flow", "A11": "current"}

    def step_size(self, number: Tensor) -> Tensor:
        """The step size d, which is passed as it is."""
        return number

    def labels(self, batch: int, time: int) -> tuple[Tensor, Tensor]:
        """Levels (B, T), drawn first, and integer step sizes (B,), as their training loop draws them."""
        tau = self.schedule.sample_diffusion_forcing_timesteps(batch, time, self.device)
        return tau, self.shortcut.sample_step_size(batch, self.device)

    def loss(
        self, network: Network, z1: Tensor, tau: Tensor, number: Tensor, actions: Tensor | None, schedule: Any
    ) -> Tensor:
        """Their loss, which has no actions."""
        return super().loss(network, z1, tau, number, None, schedule)


class DaniyalRahmanMarch(Tokenizer, Returns, EvaluationRollout):
    """5f33095, 2026-03-20."""

    commit, blob = "5f33095", "0af151b9aff1b59c187f9308fd7b7acb87af1a5a"
    not_testable: Mapping[str, str] = {
        "patch_dropout": "the share of patches is drawn in the training loop (train_transformer_tokenizer.py:228)",
        "tokenizer_loss": "inline in the training loop (train_transformer_tokenizer.py:250)",
        "dynamics": "its attention calls flex_attention alone, compiled for each shape (dynamics.py:173)",
        "attention": "inline in the layers that project queries, keys and values (dynamics.py:173)",
    }
    readings: Mapping[str, str] = {
        "A3": "sequence",
        "A11": "current",
        "A14": "reward",
        "A17": "0..7",
        "A19": "mean",
        "A23": "symlog",
    }


class DaniyalRahman(Networks, ImaginationStep, Equations):
    """b36d0de, 2026-08-20, the newest state."""

    commit, blob = "b36d0de", "8a7f1e509c54c50cca7d70bf13492f0e1727d040"
    not_testable: Mapping[str, str] = {
        "patch_dropout": "the share of patches is drawn in the training loop (train_transformer_tokenizer.py:507)",
        "tokenizer_loss": "inline in the training loop (train_transformer_tokenizer.py:542)",
        "advantages": "inline in run_step (train_imagination.py:381)",
        "action_tokens": "embed_actions sums embeddings of named keys that it holds itself (dynamics.py:551)",
    }
    readings: Mapping[str, str] = {
        "A3": "sequence",
        "A9": "none",
        "A14": "reward",
        "A17": "1..8",
        "A17.rewards": "0..8",
        "A19": "mean",
        "A23": "symlog",
    }

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        """Eq. (2): one frame of the rollout with a cache."""
        time = context.shape[1]
        past, current = (
            None if actions is None else {"movement": actions[:, where]} for where in (slice(time), slice(time, None))
        )
        frames: Tensor = self.code.dynamics.DynamicsTransformer.rollout(
            CachedNetwork(self.model(network)),
            context.unsqueeze(-1),
            1,
            num_steps,
            self.k_max,
            actions_context=past,
            actions_future=current,
        )
        return frames[:, 0, ..., 0]


class UnweightedBootstrap(DaniyalRahman):
    """With `--bootstrap-weight 1`; the default is 10."""

    def __init__(self) -> None:
        """Raises FileNotFoundError if there is no checkout."""
        super().__init__()
        self.shortcut.bootstrap_weight = 1.0
