"""Adapter of the networks of vijayabhaskar-ev/dreamer_v4: small, with random parameters, otherwise with their defaults.

There is no cache, no padding of frames and no regrouping of latents. Their model has one task: its agent token is the
same in every sequence. Attention is called as the time attention of a layer, with fixed queries, keys and values.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any, Unpack
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dreamer4_conformance.adapter import AttentionOptions, TorchAdapter
from dreamer4_conformance.adapters.randomisation import randomised
from dreamer4_conformance.verdicts import NotProvided

WIDTH, HEADS, KEY_HEADS, CHANNELS, PATCH, SIDE, CONTEXT = 32, 4, 2, 3, 4, 8, 3
LATENTS, LATENT_WIDTH, REGISTERS, ACTIONS, DEPTH, BINS, DISTANCES = 3, 4, 2, 3, 4, 5, 9
PATCHES = (SIDE // PATCH) ** 2
SOFT_CAP = 30.0


class Returning(nn.Module):
    """A module that returns one tensor, whatever its input."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: object) -> Tensor:
        return self.output


class Zero(nn.Module):
    """A module that returns zeros like its first input."""

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        return torch.zeros_like(x)


class Unchanged(nn.Module):
    """A module that returns its inputs."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return inputs


class VijayabhaskarEvModel(TorchAdapter):
    """Networks of `code`, their modules."""

    code: SimpleNamespace
    context_frames = CONTEXT
    registers = REGISTERS

    @cached_property
    def networks(self) -> Any:
        """Their tokenizer, dynamics and heads."""
        shared: dict[str, Any] = {"embed_dim": WIDTH, "num_heads": HEADS, "num_kv_heads": KEY_HEADS, "depth": DEPTH}
        shared |= {"num_latent_tokens": LATENTS}
        with self.seeded(0):
            tokenizer = self.code.tokenizer.MaskedAutoencoderTokenizer(
                self.code.tokenizer_config.TokenizerConfig(
                    image_size=(SIDE, SIDE), patch_size=(PATCH, PATCH), latent_dim=LATENT_WIDTH, **shared
                )
            )
            settings = self.code.trainer.DynamicsConfig(
                latent_input_dim=LATENT_WIDTH,
                num_register_tokens=REGISTERS,
                action_dim=ACTIONS,
                context_length=CONTEXT,
                **shared,
            )
            dynamics = self.code.dynamic_model.DynamicsModel(settings, tokenizer)
            dynamics.enable_agent_tokens()
            heads = self.code.heads
            policy = heads.CategoricalPolicyHead(WIDTH, ACTIONS, WIDTH, 2, mtp_length=DISTANCES - 1, num_bins=BINS)
            rewards = {name: heads.RewardHead(WIDTH, WIDTH, num_layers=2) for name in ("reward", "value")}
            ends = heads.ContinueHead(WIDTH, WIDTH, 2)
        networks = {"dynamics": dynamics, "policy": policy, "continue": ends, **rewards}  # the tokenizer is part of it
        return randomised(nn.ModuleDict(networks)).requires_grad_(False).to(self.device)

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Labels on their grid, actions in [−1, 1], videos in [0, 1]."""
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(self.device)

        k_max: int = self.networks["dynamics"].config.K_max
        d = 0.5 ** torch.randint(k_max.bit_length(), (batch, time), generator=generator).to(self.device)
        return {
            "z": 2 * uniform(batch, time, LATENTS, LATENT_WIDTH) - 1,
            "tau": (uniform(batch, time) / d).floor() * d,
            "d": d,
            "actions": 2 * uniform(batch, time, ACTIONS) - 1,
            "task": None,
            "labelled": torch.ones(batch, dtype=torch.bool, device=self.device),
            "video": uniform(batch, time, CHANNELS, SIDE, SIDE),
            "x": 4 * uniform(batch, time, LATENTS + REGISTERS + 2, WIDTH) - 2,
            "x_encoder": 4 * uniform(batch, time, LATENTS + PATCHES, WIDTH) - 2,
            "x_decoder": 4 * uniform(batch, time, LATENTS + PATCHES, WIDTH) - 2,
        }

    # Attention and layers

    def attention(self, q: Tensor, k: Tensor, v: Tensor, **options: Unpack[AttentionOptions]) -> Tensor:
        """Their time attention without norms and projections; their cap is off by default."""
        softcap, scale = options["softcap"], options.get("scale")
        if scale is not None and scale != q.shape[-1] ** -0.5:
            raise NotImplementedError("their scale is 1/√D")
        module = self.code.layers.TemporalAttention(q.shape[2] * q.shape[3], q.shape[2], k.shape[2])
        module.q_proj, module.k_proj, module.v_proj = (Returning(x.flatten(2)) for x in (q, k, v))
        module.qk_norm, module.out_proj = Unchanged(), nn.Identity()
        capped = partial(self.code.layers._attention_with_soft_cap, cap=softcap or SOFT_CAP)
        # Their compiled backend is left out: its cap is the constant of the module.
        with patch.multiple(
            self.code.layers,
            _SOFT_CAP_ENABLED=softcap is not None,
            _USE_FLEX_ATTN=False,
            _attention_with_soft_cap=capped,
        ):
            mask = self._window(q, options["window"]) if options["causal"] else None
            out: Tensor = module(q.flatten(2), q.shape[1], mask)
        return out.view(q.shape)

    def _window(self, q: Tensor, window: int | None) -> Any:
        """Their causal mask with a window; C counts past frames."""
        past = q.shape[1] if window is None else window - 1
        model = SimpleNamespace(_context_length=past, _temporal_mask_cache={})
        return self.code.dynamic_model.DynamicsModel._get_sliding_window_causal_mask(model, q.shape[1], q.device)

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        with patch.object(self.code.layers, "_SOFT_CAP", cap):
            capped: Tensor = self.code.layers._soft_cap_mod(logits, None, None, None, None)
        return capped

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        q, k = self.code.layers.QKNorm(q.shape[-1]).to(q.device)(q, k)
        return q, k

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        rotary = self.code.layers.RotaryPositionEmbedding(x.shape[-1]).to(x.device)
        cos, sin = rotary(int(positions.max()) + 1, x.device, x.dtype)
        rotate = self.code.layers.apply_rotary_pos_emb_with_indices
        rotated: Tensor = rotate(x.transpose(1, 2), cos, sin, positions)
        return rotated.transpose(1, 2)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """PyTorch's RMSNorm, which they use."""
        norm = type(self.networks["dynamics"].norm)(x.shape[-1], eps=eps)
        normalised: Tensor = functional_call(norm, {"weight": weight}, x)
        return normalised

    def swiglu(self, x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        """Their MLP without its biases."""
        mlp = self.code.layers.FeedForward(x.shape[-1], w_up.shape[1] / x.shape[-1], 0.0)
        for linear, weight in ((mlp.fc1, torch.cat([w_gate, w_up], 1)), (mlp.fc2, w_down)):
            linear.weight, linear.bias = nn.Parameter(weight.T), None
        out: Tensor = mlp(x)
        return out

    def layer_kinds(self) -> list[str]:
        return ["both" if block.use_temporal else "space" for block in self.networks["dynamics"].blocks]

    def space_layer(self, x: Tensor) -> Tensor:
        """One of their layers without time attention."""
        return self.transformer_layer(x, "dynamics.space")

    def time_layer(self, x: Tensor) -> Tensor:
        """One of their layers whose space attention and MLP return zeros."""
        layer = copy.copy(self._layer("dynamics.time"))
        layer._modules = layer._modules | {"spatial_attn": Zero(), "ff": Zero()}
        return self._through(layer, x, "dynamics")

    def transformer_layer(self, x: Tensor, kind: str) -> Tensor:
        return self._through(self._layer(kind), x, kind.partition(".")[0])

    def block_zeroed(self, x: Tensor, kind: str) -> Tensor:
        """One of their layers with all output projections at zero."""
        layer = copy.deepcopy(self._layer(kind))
        for module in layer.modules():
            for output in (getattr(module, "out_proj", None), getattr(module, "fc2", None)):
                if output is not None:
                    nn.init.zeros_(output.weight)
                    nn.init.zeros_(output.bias)
        return self._through(layer, x, kind.partition(".")[0])

    def _layer(self, kind: str) -> Any:
        component, axis = kind.split(".")
        dynamics = self.networks["dynamics"]
        layers = {
            "dynamics": dynamics.blocks,
            "encoder": dynamics.tokenizer.blocks,
            "decoder": dynamics.tokenizer.decoder_blocks,
        }
        return next(layer for layer in layers[component] if layer.use_temporal == (axis == "time"))

    def _through(self, layer: Any, x: Tensor, component: str) -> Tensor:
        """A layer applied to (B, T, S, D). Their tokenizer has the latents of all frames first."""
        time = x.shape[1]
        if component == "dynamics":
            mask = self.networks["dynamics"]._get_sliding_window_causal_mask(time, x.device)
            return layer(x.flatten(1, 2), time, temporal_mask=mask).view(x.shape)
        tokens = torch.cat([x[:, :, :LATENTS].flatten(1, 2), x[:, :, LATENTS:].flatten(1, 2)], 1)
        tokenizer = self.networks["dynamics"].tokenizer
        temporal, cross, modality = tokenizer._get_cached_masks(time, time * PATCHES, x.device)
        out = layer(tokens, time, temporal, cross, time * LATENTS, modality if component == "encoder" else None)
        latents, patches = out.split([time * LATENTS, time * PATCHES], 1)
        return torch.cat([tokens.unflatten(1, (time, -1)) for tokens in (latents, patches)], 2)

    # The dynamics

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None, task: None, labelled: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Unlabelled rows in a separate call, because their model takes actions for the whole batch or for none."""
        with_actions, without = (
            self.networks["dynamics"](z, inputs, tau, d, use_agent_tokens=True)
            for inputs in (None if actions is None else actions[:, 1:], None)
        )
        chosen = labelled[:, None, None]
        z_hat = torch.where(chosen[..., None], with_actions.z_hat, without.z_hat)
        return z_hat, torch.where(chosen, with_actions.agent_out, without.agent_out)

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Tensor:
        """Their masks within a frame, of encoder and dynamics."""
        order = {"encoder": ("latent", "image"), "dynamics": ("action", "label", "latent", "register", "agent")}
        if kind not in order:
            raise NotProvided("their decoder has no mask: its blocks attend to patches, then to latents")
        if unknown := set(counts) - set(order[kind]):
            raise ValueError(f"their {kind} has no {', '.join(sorted(unknown))}")
        modalities = [name for name, count in counts.items() for _ in range(count)]
        theirs = sorted(range(len(modalities)), key=lambda i: order[kind].index(modalities[i]))
        index, device = torch.tensor(theirs, device=self.device), torch.device(self.device)
        if kind == "encoder":
            build = self.networks["dynamics"].tokenizer._build_encoder_modality_mask
            scores = build(counts.get("latent", 0), counts.get("image", 0), device)
        else:
            settings = SimpleNamespace(num_agent_tokens=counts.get("agent", 0))
            model = SimpleNamespace(config=settings, _spatial_mask_cache={})
            scores = self.code.dynamic_model.DynamicsModel._get_spatial_agent_mask(model, len(modalities), device)
        allow = torch.empty(len(modalities), len(modalities), dtype=torch.bool, device=device)
        allow[index[:, None], index] = scores == 0
        return allow

    def mtp_heads(self, agent: Tensor) -> Tensor:
        """Logits of their policy at each distance, those of all components side by side."""
        policy = self.networks["policy"]
        return torch.stack([policy(agent, n).flatten(-2) for n in range(DISTANCES)], 2)

    def imagined_trajectory(self, seed: int) -> Mapping[str, Any]:
        """Their rollout in the model above."""
        rows, frames, horizon, networks = 64, 2, 3, self.networks
        inputs = self.example(seed, rows, frames)
        trajectory = self.code.rollout.imagine_rollout(
            *(networks[name] for name in ("dynamics", "policy", "reward", "continue", "value")),
            z_context=inputs["z"],
            actions_context=inputs["actions"][:, 1:],
            horizon=horizon,
            K=4,
            tau_ctx=networks["dynamics"].config.tau_ctx,
            K_max=networks["dynamics"].config.K_max,
            context_window=CONTEXT,
        )
        logits = networks["policy"](trajectory["states"])
        return {
            "value": trajectory["values"],
            "action": networks["policy"]._nearest_bin(trajectory["actions"]),
            "logits": list(logits.unbind(2)),
        }

    # The tokenizer

    def encode(self, video: Tensor) -> Tensor:
        return self.networks["dynamics"].encode_frames(video)

    def decode(self, z: Tensor) -> Tensor:
        """The function of their evaluation."""
        frames: Tensor = self.code.evaluate_dynamics.decode_latents_to_frames(self.networks["dynamics"].tokenizer, z)
        return frames

    def reconstruct(self, video: Tensor) -> Tensor:
        """Their tokenizer without dropped patches."""
        dropped = torch.zeros(len(video), video.shape[1] * PATCHES, dtype=torch.bool, device=video.device)
        return self.networks["dynamics"].tokenizer(video, dropped).reconstructed

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        settings = self.code.tokenizer_config.TokenizerConfig
        probabilities, device = (settings.mask_prob_min, settings.mask_prob_max), torch.device(self.device)
        mask: Tensor = self.code.masking.sample_random_mask(batch, time * patches, *probabilities, device, time)
        return mask.view(batch, time, patches)

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        replaced: Tensor = self.code.masking.apply_mask(tokens.flatten(1, 2), mask.flatten(1, 2), embedding)
        return replaced.view(tokens.shape)
