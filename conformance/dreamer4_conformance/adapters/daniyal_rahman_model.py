"""Adapter of the networks of daniyal-rahman/ahriuwu at 5f33095 and later: small, with random parameters.

The agent is a second stack of layers that reads the tokens of the world model. A clip is with or without actions as a
whole, so unlabelled sequences are computed in a separate call. The dynamics of 5f33095 is not provided: its attention
calls flex_attention alone, which is compiled for each shape; the newest state has a fallback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dreamer4_conformance.adapters.daniyal_rahman_code import State
from dreamer4_conformance.adapters.randomisation import randomised
from dreamer4_conformance.verdicts import NotProvided

WIDTH, HEADS, DEPTH, GRID, CHANNELS, REGISTERS, TASKS = 32, 4, 4, 2, 6, 2, 5
PATCH, LATENTS, BOTTLENECK = 4, 4, 6


class Tokenizer(State):
    """Their tokenizer, and functions of layers."""

    def built(self, module: nn.Module) -> Any:
        """The module with random parameters, for inference."""
        return randomised(module).requires_grad_(False).to(self.device, getattr(torch, self.dtype))

    @cached_property
    def tokenizer(self) -> Any:
        """Their tokenizer."""
        return self.built(
            self.code.transformer_tokenizer.TransformerTokenizer(
                img_size=GRID * PATCH,
                patch_size=PATCH,
                embed_dim=WIDTH,
                latent_dim=BOTTLENECK,
                num_heads=HEADS,
                num_encoder_layers=DEPTH,
                num_decoder_layers=DEPTH,
                num_latents=LATENTS,
            )
        )

    # The tokenizer

    def encode(self, video: Tensor) -> Tensor:
        latents: Tensor = self.tokenizer.encode(video)["latent"]
        return latents.reshape(*video.shape[:2], LATENTS, BOTTLENECK)

    def decode(self, z: Tensor) -> Tensor:
        video: Tensor = self.tokenizer.decode(z.flatten(1, 2), z.shape[1])
        return video

    def reconstruct(self, video: Tensor) -> Tensor:
        """Their forward pass without masked patches."""
        output: Tensor = self.tokenizer(video)["reconstruction"]
        return output

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Tensor:
        """Their buffer, in the order of `counts`."""
        if not set(counts) <= {"image", "latent"}:
            raise ValueError(f"modalities {', '.join(counts)}; the model has image and latent")
        patches, latents = (counts.get(name, 1) for name in ("image", "latent"))
        if kind == "dynamics":
            raise NotProvided("the dynamics has no mask within a frame")
        theirs = self.code.transformer_tokenizer
        network = {"encoder": theirs.TransformerEncoder, "decoder": theirs.TransformerDecoder}[kind]
        mask: Tensor = network(
            embed_dim=8, num_heads=1, num_layers=0, num_patches=patches, num_latents=latents
        ).space_mask
        starts = {"image": 0, "latent": patches}
        order = [starts[name] + i for name, count in counts.items() for i in range(count)]
        return mask[order][:, order].to(self.device)

    # Layers

    def block(self, kind: str) -> tuple[Any, Callable[[Tensor], Tensor]]:
        """The first layer of this kind, and a function of x (B, T, S, D) that applies it."""
        component, axis = kind.split(".")
        attention = {"space": "spatial", "time": "temporal"}[axis]
        if component == "dynamics":
            raise NotProvided("the attention of the dynamics needs a compiler")
        network = getattr(self.tokenizer, component)
        block = next(block for block in network.blocks if block.attn_type == attention)
        return block, lambda x: block(x, x.shape[1], space_mask=network.space_mask)

    def transformer_layer(self, x: Tensor, kind: str) -> Tensor:
        output: Tensor = self.block(kind)[1](x)
        return output

    def block_zeroed(self, x: Tensor, kind: str) -> Tensor:
        block, layer = self.block(kind)
        outputs = block.attn.out_proj, block.ffn.w3
        weights = [output.weight for output in outputs]
        try:
            for output, weight in zip(outputs, weights, strict=True):
                output.weight = nn.Parameter(torch.zeros_like(weight))
            zeroed: Tensor = layer(x)
        finally:
            for output, weight in zip(outputs, weights, strict=True):
                output.weight = weight
        return zeroed

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = self.code.layers.RMSNorm(x.shape[-1], eps)
        norm.weight = nn.Parameter(weight)
        normalised: Tensor = norm(x)
        return normalised

    def swiglu(self, x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        """Their MLP, whose hidden width is set by its weights."""
        mlp = self.code.layers.SwiGLU(x.shape[-1])
        for linear, weight in ((mlp.w1, w_gate), (mlp.w2, w_up), (mlp.w3, w_down)):
            linear.weight = nn.Parameter(weight.T)
        output: Tensor = mlp(x)
        return output

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        capped: Tensor = self.code.layers.soft_cap_attention(logits, cap)
        return capped

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        normalised: tuple[Tensor, Tensor] = self.code.layers.QKNorm(q.shape[-1]).to(q)(q, k)
        return normalised

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        """Their rotation over time."""
        rotation = self.code.layers.RotaryEmbedding1D(x.shape[-1])
        cos, sin = (table[positions] for table in rotation.get_rotary_emb(int(positions.max()) + 1, x.device))
        rotated: Tensor = self.code.layers.apply_rotary_emb(x.transpose(1, 2), cos, sin)
        return rotated.transpose(1, 2)


class Networks(Tokenizer):
    """Their dynamics in addition."""

    registers = REGISTERS

    @cached_property
    def world_model(self) -> Any:
        """Their dynamics with actions, agent and tasks, and with their fallback for flex_attention."""
        self.code.dynamics._FLEX_AVAILABLE = False
        return self.built(
            self.code.dynamics.DynamicsTransformer(
                latent_dim=CHANNELS,
                spatial_size=GRID,
                model_dim=WIDTH,
                num_layers=DEPTH,
                num_heads=HEADS,
                num_register_tokens=REGISTERS,
                use_agent_tokens=True,
                num_tasks=TASKS,
                agent_layers=2,
                use_actions=True,
            )
        )

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Movements and videos in [0, 1], keys as 0 or 1, labels on their grid."""
        generator, dtype = torch.Generator().manual_seed(seed), getattr(torch, self.dtype)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(self.device, dtype)

        d = 0.5 ** torch.randint(self.k_max.bit_length(), (batch, time), generator=generator)
        tau = (torch.rand(batch, time, generator=generator) / d).floor() * d
        keys = {name: uniform(batch, time).round().long() for name in self.code.dynamics.ABILITY_KEYS}
        tokens = self.world_model.total_spatial_tokens
        return {
            "z": 2 * uniform(batch, time, GRID**2, CHANNELS) - 1,
            "tau": tau.to(self.device, dtype),
            "d": d.to(self.device, dtype),
            "actions": {"movement": uniform(batch, time, 2), **keys},
            "task": torch.randint(TASKS, (batch,), generator=generator).to(self.device),
            "labelled": torch.ones(batch, dtype=torch.bool, device=self.device),
            "video": uniform(batch, time, 3, GRID * PATCH, GRID * PATCH),
            "x": 4 * uniform(batch, time, tokens, WIDTH) - 2,
            "x_encoder": 4 * uniform(batch, time, GRID**2 + LATENTS, WIDTH) - 2,
            "x_decoder": 4 * uniform(batch, time, GRID**2 + LATENTS, WIDTH) - 2,
        }

    # The dynamics

    def frames(self, z: Tensor) -> Tensor:
        """(B, T, S, D) → their (B, T, D, H, W)."""
        return z.transpose(2, 3).reshape(*z.shape[:2], CHANNELS, GRID, GRID)

    def numbers(self, d: Tensor) -> Tensor:
        """Step sizes as their integer multiples of 1 / k_max."""
        return (d.double() * self.k_max).round().long()

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Tensor | None, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Unlabelled rows in a separate call, because their model takes actions for the whole batch or for none."""
        with_actions, without = (
            self.world_model(self.frames(z), tau, self.numbers(d), task_id=task, actions=keys)
            for keys in (actions, None)
        )
        z_hat, agent = (
            torch.where(labelled.view(-1, *[1] * (pair[0].dim() - 1)), *pair)
            for pair in zip(with_actions, without, strict=True)
        )
        return z_hat.flatten(3).transpose(2, 3), agent

    def image_dynamics(self, z: Tensor, tau: Tensor, d: Tensor) -> Tensor:
        """With their mask of time attention for separate images."""
        z_hat: Tensor = self.world_model(self.frames(z), tau, self.numbers(d), independent_frames=True)[0]
        return z_hat.flatten(3).transpose(2, 3)

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        token: Tensor = self.world_model._build_condition_token(tau, self.numbers(d), *tau.shape)
        return token

    # Layers

    def layer_kinds(self) -> list[str]:
        return ["time" if block.attn_type == "temporal" else "space" for block in self.world_model.blocks]

    def block(self, kind: str) -> tuple[Any, Callable[[Tensor], Tensor]]:
        component, axis = kind.split(".")
        if component != "dynamics":
            return super().block(kind)
        block = self.world_model.blocks[self.layer_kinds().index(axis)]
        return block, block

    def space_layer(self, x: Tensor) -> Tensor:
        return self.transformer_layer(x, "dynamics.space")

    def time_layer(self, x: Tensor) -> Tensor:
        return self.transformer_layer(x, "dynamics.time")
