"""Adapter of the networks of machines-in-motion/dreamer-v4: small, with random parameters.

Norms of queries and keys are off, as in their configurations. There is no soft cap, no agent token and no task; latents
are not regrouped. Their caches are part of the model: a state is a copy of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dreamer4_conformance.adapter import AttentionOptions, TorchAdapter
from dreamer4_conformance.adapters.randomisation import randomised
from dreamer4_conformance.verdicts import NotProvided

WIDTH, HEADS, KEY_HEADS, CHANNELS, PATCH, SIDE, CONTEXT, LONGEST = 32, 4, 2, 3, 4, 8, 3, 256
LATENTS, LATENT_WIDTH, REGISTERS, ACTIONS, BLOCKS = 3, 4, 2, 3, 2
PATCHES = (SIDE // PATCH) ** 2
TOKENS = LATENTS + REGISTERS + 2


class Returning(nn.Module):
    """A module that returns one tensor, whatever its input."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: object) -> Tensor:
        return self.output


@contextmanager
def outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Outputs of every call of the module."""
    calls: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, __, output: calls.append(output))
    try:
        yield calls
    finally:
        hook.remove()


class MachinesInMotionModel(TorchAdapter):
    """Networks of `code`, their modules."""

    code: SimpleNamespace
    k_max: int
    context_frames = CONTEXT
    registers = REGISTERS

    @cached_property
    def networks(self) -> Any:
        """Their denoiser and the parts of their tokenizer."""
        shared: dict[str, Any] = {"num_latent_tokens": LATENTS, "latent_dim": LATENT_WIDTH, "model_dim": WIDTH}
        shared |= {"max_sequence_length": LONGEST, "context_length": CONTEXT, "n_heads": HEADS, "n_kv_heads": KEY_HEADS}
        shared |= {"qk_norm": False}
        tokenizer, dynamics = self.code.tokenizer, self.code.dynamics
        sizes = tokenizer.CausalTokenizerConfig(
            num_modality_tokens=PATCHES, enc_num_layers=BLOCKS, dec_num_layers=BLOCKS, patch_size=PATCH, **shared
        )
        settings = dynamics.DreamerV4DenoiserCfg(
            num_action_tokens=1,
            num_register_tokens=REGISTERS,
            n_layers=BLOCKS,
            num_noise_levels=self.k_max,
            n_actions=ACTIONS,
            **shared,
        )
        with self.seeded(0):
            wrapper = tokenizer.TokenizerWrapper.__new__(
                tokenizer.TokenizerWrapper
            )  # whose constructor needs omegaconf
            nn.Module.__init__(wrapper)
            wrapper.encoder = tokenizer.CausalTokenizerEncoder(sizes)
            wrapper.decoder = tokenizer.CausalTokenizerDecoder(sizes)
            wrapper.patchifier = tokenizer.ImagePatchifier(PATCH, WIDTH)
            wrapper.image_head = tokenizer.TokensToImageHead(WIDTH, (SIDE, SIDE), PATCH)
            wrapper.masker = tokenizer.TokenMasker(WIDTH, activate_masking=False)
            denoiser = dynamics.DreamerV4Denoiser(settings)
        networks = nn.ModuleDict({"tokenizer": wrapper, "denoiser": denoiser})
        return randomised(networks).requires_grad_(False).to(self.device)

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Labels on their grid, actions in [−1, 1], videos in [0, 1]."""
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(self.device)

        d = 0.5 ** torch.randint(self.k_max.bit_length(), (batch, time), generator=generator).to(self.device)
        return {
            "z": 2 * uniform(batch, time, LATENTS, LATENT_WIDTH) - 1,
            "tau": (uniform(batch, time) / d).floor() * d,
            "d": d,
            "actions": 2 * uniform(batch, time, ACTIONS) - 1,
            "task": None,
            "labelled": torch.ones(batch, dtype=torch.bool, device=self.device),
            "video": uniform(batch, time, CHANNELS, SIDE, SIDE),
            "x": 4 * uniform(batch, time, TOKENS, WIDTH) - 2,
            "x_encoder": 4 * uniform(batch, time, LATENTS + PATCHES, WIDTH) - 2,
            "x_decoder": 4 * uniform(batch, time, LATENTS + PATCHES, WIDTH) - 2,
        }

    # Attention and layers

    def attention(self, q: Tensor, k: Tensor, v: Tensor, **options: Unpack[AttentionOptions]) -> Tensor:
        """Their attention with fixed queries, keys and values, and their mask of a window."""
        scale, length, window = options.get("scale"), q.shape[1], options["window"]
        if options["softcap"] is not None or (scale is not None and scale != q.shape[-1] ** -0.5):
            raise NotImplementedError("their attention has no cap and the scale 1/√D")
        module = self.code.blocks.Attention(q.shape[2] * q.shape[3], q.shape[2], k.shape[2], qk_norm=False)
        module.W_q, module.W_k, module.W_v = (Returning(x.flatten(2)) for x in (q, k, v))
        module.W_o = nn.Identity()
        mask = None if window is None else self.code.blocks.create_temporal_window_mask(length, window, q.device)
        x = q.flatten(2)
        out: Tensor = module(x, x, x, mask=mask, causal=options["causal"] and mask is None)
        return out.view(q.shape)

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        rotary = self.code.blocks.RopeEmbedding(x.shape[-1], int(positions.max()) + 1).to(x.device)
        rotated: Tensor = rotary(x.transpose(1, 2), positions)
        return rotated.transpose(1, 2)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """PyTorch's RMSNorm, which they use."""
        norm = type(self._layer("dynamics.space").norm1)(x.shape[-1], eps=eps)
        normalised: Tensor = functional_call(norm, {"weight": weight}, x)
        return normalised

    def swiglu(self, x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        """Their MLP, in which the gate is called `up`."""
        mlp = self.code.blocks.FeedForwardSwiGLU(x.shape[-1], w_up.shape[1])
        for linear, weight in ((mlp.up, w_gate), (mlp.gate, w_up), (mlp.down, w_down)):
            linear.weight = nn.Parameter(weight.T)
        out: Tensor = mlp(x)
        return out

    def layer_kinds(self) -> list[str]:
        layers = [layer for block in self.networks["denoiser"].layers for layer in block.layers]
        return ["time" if layer.layer_type.value == "temporal" else "space" for layer in layers]

    def space_layer(self, x: Tensor) -> Tensor:
        return self.transformer_layer(x, "dynamics.space")

    def time_layer(self, x: Tensor) -> Tensor:
        return self.transformer_layer(x, "dynamics.time")

    def transformer_layer(self, x: Tensor, kind: str) -> Tensor:
        return self._layer(kind)(x, spatial_mask=self._mask(kind))

    def block_zeroed(self, x: Tensor, kind: str) -> Tensor:
        """One of their layers with its two output projections at zero."""
        layer = copy.deepcopy(self._layer(kind))
        nn.init.zeros_(layer.attn.attn.W_o.weight)
        nn.init.zeros_(layer.ffn.down.weight)
        return layer(x, spatial_mask=self._mask(kind))

    def _stack(self, component: str) -> Any:
        return self.networks["denoiser"] if component == "dynamics" else getattr(self.networks["tokenizer"], component)

    def _layer(self, kind: str) -> Any:
        component, axis = kind.split(".")
        name = {"space": "spatial", "time": "temporal"}[axis]
        return next(layer for layer in self._stack(component).layers[0].layers if layer.layer_type.value == name)

    def _mask(self, kind: str) -> Tensor | None:
        return getattr(self._stack(kind.partition(".")[0]), "spatial_mask", None)

    # The dynamics

    def _labels(self, tau: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Indices; a level off the grid is rounded down, as in their sampler."""
        return (tau * self.k_max).long().clamp(max=self.k_max - 1), torch.log2(d * self.k_max).round().long()

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None, task: None, labelled: Tensor
    ) -> tuple[Tensor, None]:
        """Unlabelled rows in a separate call, because their model takes actions for the whole batch or for none."""
        labels = self._labels(tau, d)
        with_actions, without = (self.networks["denoiser"](inputs, z, *labels) for inputs in (actions, None))
        return torch.where(labelled[:, None, None, None], with_actions, without), None

    def dynamics_init(self, batch: int) -> Any:
        denoiser = copy.deepcopy(self.networks["denoiser"])
        denoiser.init_cache(batch, self.device, CONTEXT, getattr(torch, self.dtype))
        return denoiser, 0

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None, task: None
    ) -> tuple[Tensor, None, Any]:
        denoiser, position = copy.deepcopy(state)
        return denoiser.forward_step(actions, z, *self._labels(tau, d), position), None, (denoiser, position + 1)

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        """Output of their projection of both embeddings."""
        denoiser = self.networks["denoiser"]
        with outputs(denoiser.diff_control_proj) as tokens:
            denoiser(None, tau.new_zeros(*tau.shape, LATENTS, LATENT_WIDTH), *self._labels(tau, d))
        return tokens[0][:, :, 0]

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Tensor:
        """Their masks of the tokenizer, in which patches come first; there is none in the dynamics."""
        if kind == "dynamics":
            raise NotProvided("there is no agent token, and no mask")
        if unknown := set(counts) - {"image", "latent"}:
            raise ValueError(f"their {kind} has no {', '.join(sorted(unknown))}")
        patches, latents = counts.get("image", 0), counts.get("latent", 0)
        theirs = getattr(self.code.blocks, f"create_{kind}_spatial_mask")(patches, latents, self.device)
        first = latents if next(iter(counts)) == "latent" else 0
        order = torch.arange(len(theirs), device=self.device).roll(first)
        allow: Tensor = theirs[order[:, None], order]
        return allow

    # The tokenizer

    def encode(self, video: Tensor) -> Tensor:
        return self.networks["tokenizer"].encode(video)

    def decode(self, z: Tensor) -> Tensor:
        return self.networks["tokenizer"].decode(z)

    def reconstruct(self, video: Tensor) -> Tensor:
        """Their model without dropped patches."""
        return self.networks["tokenizer"](video)

    def decode_init(self, batch: int) -> Any:
        decoder = copy.deepcopy(self.networks["tokenizer"])
        decoder.init_cache(batch, CONTEXT, self.device, getattr(torch, self.dtype))
        return decoder, 0

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        decoder, position = copy.deepcopy(state)
        return decoder.decode_step(z, position), (decoder, position + 1)

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        """Positions of a mask token of ones among patches of zeros."""
        tokens = torch.zeros(batch, time, patches, 1, device=self.device)
        return self._masked(tokens, None, torch.ones(1, device=self.device))[..., 0] == 1

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        return self._masked(tokens, mask, embedding)

    def _masked(self, tokens: Tensor, mask: Tensor | None, embedding: Tensor) -> Tensor:
        state = torch.random.get_rng_state()
        masker = self.code.tokenizer.TokenMasker(tokens.shape[-1]).to(tokens.device)
        torch.random.set_rng_state(state)
        masked: Tensor = functional_call(masker, {"mask_token": embedding.view(1, 1, 1, -1)}, (tokens, mask))
        return masked
