"""Adapter of the models of `dreamer4_impl`: the smallest preset with random parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from dreamer4_conformance.adapter import AttentionOptions, TorchAdapter
from dreamer4_impl import constants
from dreamer4_impl.attention import Cache, Preparation, attention, prepare, soft_cap
from dreamer4_impl.equations.eq04_grid import sample_tau_d
from dreamer4_impl.equations.sec31_patch_dropout import replace_dropped
from dreamer4_impl.generation.draws import dropout_draws
from dreamer4_impl.generation.rollout import rollout
from dreamer4_impl.layers.actions import Categorical, sum_action_tokens
from dreamer4_impl.layers.masks import space_mask
from dreamer4_impl.layers.mouse import mouse_class
from dreamer4_impl.layers.patches import patch_grid
from dreamer4_impl.layers.rms_norm import rms_norm
from dreamer4_impl.layers.rope import rope, rotation
from dreamer4_impl.layers.swiglu import swiglu
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.heads import MultiTokenHead
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.models.tokenizer import Tokenizer, regroup
from dreamer4_impl.models.transformer import Layer


def randomised(module: nn.Module) -> nn.Module:
    """The module in inference mode with random parameters of order one, including those initialised to zero."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        values, last = torch.randn(parameter.shape, generator=generator), name.rpartition(".")[2]
        if last.endswith("gain") or "norm" in name:
            values = 1 + values / 4
        elif last == "weight":
            values = values / parameter.shape[1] ** 0.5
        elif last.startswith("w"):
            values = values / parameter.shape[0] ** 0.5
        parameter.data = values
    return module.eval().requires_grad_(False)


class BundledModel(TorchAdapter):
    """Attention, layers, tokenizer, dynamics and heads, with sizes of the preset `tiny`."""

    k_max = constants.K_MAX
    backends: Sequence[str] = ("eager", "sdpa")

    @property
    def context_frames(self) -> int:  # type: ignore[override]
        """Context length of the dynamics in frames."""
        return self.config.dynamics.transformer.context

    @property
    def registers(self) -> int:  # type: ignore[override]
        """Register tokens per frame of the dynamics."""
        return self.config.dynamics.registers

    @cached_property
    def config(self) -> ModelConfig:
        """Preset `tiny` with the adapter's K_max."""
        return replace(tiny(), dynamics=replace(tiny().dynamics, k_max=self.k_max))

    def placed(self, module: nn.Module) -> Any:
        """The module with random parameters, in the adapter's dtype and on its device."""
        return randomised(module).to(self.device, getattr(torch, self.dtype))

    @cached_property
    def world(self) -> Dynamics:
        """The dynamics, with an agent token."""
        return self.placed(Dynamics(self.config.dynamics))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return self.placed(Tokenizer(self.config.tokenizer))

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Normal latents, labels by Eq. (4), actions of every component, a task for each row."""
        generator, frame, config = torch.Generator().manual_seed(seed), self.config.tokenizer, self.config.dynamics

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(self.device, getattr(torch, self.dtype))

        def integers(below: int, *shape: int) -> Tensor:
            return torch.randint(below, shape, generator=generator).to(self.device)

        tau, d = sample_tau_d(batch, time, k_max=self.k_max, generator=generator)
        actions = {
            x.name: integers(x.size if isinstance(x, Categorical) else 2, *x.shape(batch, time)) for x in config.actions
        }
        return {
            "z": normal(batch, time, config.spatial_tokens, config.spatial_channels),
            "tau": tau.to(self.device, getattr(torch, self.dtype)),
            "d": d.to(self.device, getattr(torch, self.dtype)),
            "actions": actions,
            "task": integers(config.tasks, batch),
            "labelled": torch.ones(batch, dtype=torch.bool, device=self.device),
            "video": normal(batch, time, frame.height, frame.width, frame.channels).sigmoid(),
            "x": normal(batch, time, config.tokens, config.transformer.width),
            "x_encoder": normal(batch, time, frame.patches + frame.latents, frame.encoder.width),
            "x_decoder": normal(batch, time, frame.latents + frame.patches, frame.decoder.width),
        }

    # Sec. 3.4

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, *, backend: str = "eager", **options: Unpack[AttentionOptions]
    ) -> Tensor:
        """Attention over the time axis at one token position."""
        q, k, v = (x[:, :, None] for x in (q, k, v))
        return attention(q, k, v, axis="time", backend=backend, **options)[:, :, 0]

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        return soft_cap(logits, cap)

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """QK preparation with gains of 1 at position 0, where the rotation is the identity."""
        return self._prepared(q), self._prepared(k)

    def _prepared(self, x: Tensor) -> Tensor:
        identity = rotation(torch.zeros(x.shape[1], dtype=torch.int64, device=x.device), x.shape[-1])
        return prepare(x[:, :, None], Preparation(None, 1e-6, identity), "time")[:, :, 0]

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        return rope(x, positions)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return rms_norm(x, weight, eps)

    def swiglu(self, x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        return swiglu(x, w_gate, w_up, w_down)

    def space_layer(self, x: Tensor) -> Tensor:
        """The first layer of the dynamics, without its mask."""
        return self.world.transformer.layers[0](x)

    def time_layer(self, x: Tensor) -> Tensor:
        """Fourth layer of the dynamics."""
        return self.world.transformer.layers[3](x)

    def layer_kinds(self) -> list[str]:
        return list(self.config.dynamics.transformer.layer_kinds())

    def block_zeroed(self, x: Tensor, kind: str) -> Tensor:
        """A layer with both output projections at zero."""
        transformer, axis = self.transformer_and_axis(kind)
        layer = self.placed(Layer(transformer.config, axis))
        for weight in (layer.attention.wo, layer.mlp.w_down):
            nn.init.zeros_(weight)
        return layer(x)

    def transformer_layer(self, x: Tensor, kind: str) -> Tensor:
        """The first or the fourth layer of a transformer, without its mask."""
        transformer, axis = self.transformer_and_axis(kind)
        return transformer.layers[0 if axis == "space" else 3](x)

    def transformer_and_axis(self, kind: str) -> tuple[Any, Any]:
        """The transformer of a kind of layer, and "space" or "time"."""
        component, axis = kind.split(".")
        return (self.world if component == "dynamics" else getattr(self.tokenizer, component)).transformer, axis

    # Sec. 3.2 and 3.3

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return self.world(z, tau, d, actions, task, labelled)

    def dynamics_init(self, batch: int) -> Cache:
        return self.world.empty_cache(batch)

    def dynamics_step(
        self, state: Cache, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, Cache]:
        return *self.world(z, tau, d, actions, task, cache=state), state

    def rollout(self, context: Tensor, actions: Any, frames: int, num_steps: int, seed: int, *, cache: bool) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        return rollout(self.world, context, actions, frames, num_steps, generator, cache=cache)

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        return self.world.label(tau, d)

    def action_tokens(self, components: list[Tensor], embedding: Tensor, labelled: Tensor) -> Tensor:
        batch, time = components[0].shape[:2]
        return sum_action_tokens(components, embedding.expand(batch, time, -1, -1), labelled)

    def mtp_heads(self, agent: Tensor) -> Tensor:
        """One head of the agent, with the paper's number of distances."""
        return self.placed(MultiTokenHead(agent.shape[-1], 16, 5, constants.MTP_LENGTH))(agent)

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        """Mask of the space layers within a frame; only time layers attend to other frames."""
        return space_mask(kind, modality, self.device) & (frame[:, None] == frame)  # type: ignore[arg-type]

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Tensor:
        return space_mask(kind, [name for name, count in counts.items() for _ in range(count)], self.device)  # type: ignore[arg-type]

    # Sec. 3.1 and 4

    def encode(self, video: Tensor) -> Tensor:
        return self.tokenizer.encode(video)

    def decode(self, z: Tensor) -> Tensor:
        return self.tokenizer.decode(z)

    def reconstruct(self, video: Tensor) -> Tensor:
        return self.tokenizer(video)

    def decode_init(self, batch: int) -> Cache:
        return self.tokenizer.decoder_cache(batch)

    def decode_step(self, state: Cache, z: Tensor) -> tuple[Tensor, Cache]:
        return self.tokenizer.decode(z, cache=state), state

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        """Masks drawn sample by sample as in training."""
        keys = [("tokenizer", 0, sample) for sample in range(batch)]
        return dropout_draws(seed, keys, time, patches).to(self.device)

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        return replace_dropped(tokens, mask, embedding)

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        return patch_grid(height, width)

    def regroup(self, z: Tensor) -> Tensor:
        return regroup(z)

    def mouse_class(self, movement: Tensor) -> Tensor:
        return mouse_class(movement)
