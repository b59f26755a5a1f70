"""Adapter of the networks of nicklashansen/dreamer4: small, with random parameters, otherwise with their defaults.

Attention cannot be called separately; there is no RoPE, QK-norm, soft cap, window or cache. τ and d are two tokens. The
mask of dropped patches is drawn and applied in one call.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from dreamer4_conformance.adapter import TorchAdapter
from dreamer4_conformance.verdicts import NotProvided

WIDTH, HEADS, DEPTH, CHANNELS, PATCH, SIDE = 32, 4, 4, 3, 4, 8
LATENTS, BOTTLENECK, PACKING, REGISTERS, ACTIONS, TASKS = 8, 4, 2, 4, 16, 5


class NicklasHansenModel(TorchAdapter):
    """Networks of `model`, their module.

    Attributes:
        time_every: every n-th layer of the dynamics mixes time; by their default each one does, as in the tokenizer.
        agents: number of agent tokens.
    """

    model: ModuleType
    time_every = 1
    agents = 1

    def randomised(self, module: nn.Module) -> Any:
        """The module without dropout and with random weights and biases, including those initialised to zero."""
        generator = torch.Generator().manual_seed(0)
        for name, parameter in module.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 and "embed" not in name else 0.5
            parameter.data = scale * values + (1.0 if name.endswith("scale") else 0.0)
        return module.eval().requires_grad_(False).to(self.device, getattr(torch, self.dtype))

    @cached_property
    def networks(self) -> Any:
        """Their dynamics, task embedding and tokenizer."""
        patches, latent = (SIDE // PATCH) ** 2, {"n_latents": LATENTS, "d_bottleneck": BOTTLENECK}
        shared: dict[str, Any] = {"d_model": WIDTH, "n_heads": HEADS, "depth": DEPTH}
        size = CHANNELS * PATCH**2
        encoder = self.model.Encoder(
            patch_dim=size, n_patches=patches, mae_p_min=0.0, mae_p_max=0.0, time_every=1, **latent, **shared
        )
        decoder = self.model.Decoder(d_patch=size, n_patches=patches, time_every=1, **latent, **shared)
        dynamics = self.model.Dynamics(
            d_bottleneck=BOTTLENECK,
            d_spatial=BOTTLENECK * PACKING,
            n_spatial=LATENTS // PACKING,
            n_register=REGISTERS,
            n_agent=self.agents,
            k_max=self.k_max,
            time_every=self.time_every,
            **shared,
        )
        tasks = self.model.TaskEmbedder(WIDTH, n_tasks=TASKS)
        return self.randomised(
            nn.ModuleDict({"dynamics": dynamics, "tasks": tasks, "tokenizer": self.model.Tokenizer(encoder, decoder)})
        )

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Actions in [−1, 1], videos in [0, 1], labels on their grid."""
        generator, dtype = torch.Generator().manual_seed(seed), getattr(torch, self.dtype)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(self.device, dtype)

        d = 0.5 ** torch.randint(self.k_max.bit_length(), (batch, time), generator=generator)
        tau = (torch.rand(batch, time, generator=generator) / d).floor() * d
        return {
            "z": 2 * uniform(batch, time, LATENTS // PACKING, BOTTLENECK * PACKING) - 1,
            "tau": tau.to(self.device, dtype),
            "d": d.to(self.device, dtype),
            "actions": 2 * uniform(batch, time, ACTIONS) - 1,
            "task": torch.randint(TASKS, (batch,), generator=generator).to(self.device) if self.agents else None,
            "labelled": torch.ones(batch, dtype=torch.bool, device=self.device),
            "video": uniform(batch, time, CHANNELS, SIDE, SIDE),
            "x": 4 * uniform(batch, time, LATENTS // PACKING + REGISTERS + 3 + self.agents, WIDTH) - 2,
            "x_encoder": 4 * uniform(batch, time, LATENTS + (SIDE // PATCH) ** 2, WIDTH) - 2,
            "x_decoder": 4 * uniform(batch, time, LATENTS + (SIDE // PATCH) ** 2, WIDTH) - 2,
        }

    # The dynamics

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None, task: Tensor | None, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Unlabelled rows in a separate call, because their model takes actions for the whole batch or for none."""
        signal = (tau.double() * self.k_max).round().long()
        step = -torch.log2(d.double()).round().long()
        batch, time = z.shape[:2]
        agent = None if task is None else self.networks["tasks"](task, B=batch, T=time)
        with_actions, without = (
            self.networks["dynamics"](inputs, step, signal, z, agent_tokens=agent) for inputs in (actions, None)
        )
        count = 1 if task is None else 2
        pairs = zip(with_actions[:count], without[:count], strict=True)
        chosen = [torch.where(labelled[:, None, None, None], *pair) for pair in pairs]
        return chosen[0], None if task is None else chosen[1]

    def layer(self, *, time_every: int) -> Any:
        """One layer of the dynamics in which all tokens attend to each other."""
        tokens = LATENTS // PACKING + REGISTERS + 3 + self.agents
        layer = self.model.BlockCausalLayer(
            d_model=WIDTH,
            n_heads=HEADS,
            n_latents=0,
            modality_ids=torch.zeros(tokens, dtype=torch.int32),
            space_mode="wm_agent",
            dropout=0.0,
            mlp_ratio=4.0,
            layer_index=0,
            time_every=time_every,
            latents_only_time=False,
        )
        return self.randomised(layer)

    def space_layer(self, x: Tensor) -> Tensor:
        """One of their layers without time attention."""
        return self.layer(time_every=4)(x)

    def time_layer(self, x: Tensor) -> Tensor:
        """The part of one of their layers that mixes time."""
        layer = self.layer(time_every=1)
        return x + layer.time(layer.norm2(x))

    def layer_kinds(self) -> list[str]:
        """Time attention is part of a layer that mixes space too."""
        layers = self.networks["dynamics"].transformer.layers
        return ["both" if layer.do_time else "space" for layer in layers]

    def block_zeroed(self, x: Tensor, kind: str) -> Tensor:
        """One of their layers with its output projections at zero."""
        layer = copy.deepcopy(self.layer_of_kind(kind))
        attentions = [layer.space, layer.time] if layer.do_time else [layer.space]
        for output in (*(attention.attn.out for attention in attentions), layer.mlp.fc_out):
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)
        return layer(x)

    def transformer_layer(self, x: Tensor, kind: str) -> Tensor:
        return self.layer_of_kind(kind)(x)

    def layer_of_kind(self, kind: str) -> Any:
        """The first of their layers of this kind in this part of the model; those of "time" mix space too."""
        component, axis = kind.split(".")
        networks = self.networks
        network = networks["dynamics"] if component == "dynamics" else getattr(networks["tokenizer"], component)
        layers = [layer for layer in network.transformer.layers if layer.do_time == (axis == "time")]
        if not layers:
            raise NotProvided("every layer mixes space and time")
        return layers[0]

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = self.model.RMSNorm(x.shape[-1], eps)
        norm.scale = nn.Parameter(weight)
        return norm(x)

    def swiglu(self, x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        """Their MLP without its biases."""
        mlp = self.model.MLP(x.shape[-1], mlp_ratio=w_up.shape[1] / x.shape[-1])
        for linear, weight in ((mlp.fc_in, torch.cat([w_up, w_gate], 1)), (mlp.fc_out, w_down)):
            linear.weight, linear.bias = nn.Parameter(weight.T), None
        return mlp(x)

    # The tokenizer

    def encode(self, video: Tensor) -> Tensor:
        """Latents packed as their dynamics takes them."""
        latents, _ = self.networks["tokenizer"].encoder(self.model.temporal_patchify(video, PATCH))
        return self.regroup(latents)

    def decode(self, z: Tensor) -> Tensor:
        latents = self.model.unpack_spatial_to_bottleneck(z, k=PACKING)
        return self._frames(self.networks["tokenizer"].decoder(latents))

    def reconstruct(self, video: Tensor) -> Tensor:
        return self._frames(self.networks["tokenizer"](self.model.temporal_patchify(video, PATCH))[0])

    def _frames(self, patches: Tensor) -> Tensor:
        return self.model.temporal_unpatchify(patches, SIDE, SIDE, CHANNELS, PATCH)

    def regroup(self, z: Tensor) -> Tensor:
        return self.model.pack_bottleneck_to_spatial(z, n_spatial=z.shape[2] // PACKING, k=PACKING)

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        """Mask that their replacement returns, with their defaults."""
        replacer = self.model.MAEReplacer(1, p_min=0.0, p_max=0.9).to(self.device)
        return replacer(torch.zeros(batch, time, patches, 1, device=self.device))[1][..., 0]

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        """Their mask within a frame, which needs latents first. Time attention handles other frames."""
        if kind == "dynamics" and "agent" in modality and not self.agents:
            raise ValueError("the dynamics has no agent tokens")
        order = sorted(range(len(modality)), key=lambda i: modality[i] != "latent") if kind != "dynamics" else None
        order_index = torch.tensor(order if order is not None else range(len(modality)), device=frame.device)
        ids = self._modalities(kind, modality)
        identity = torch.tensor([int(ids[modality[i]]) for i in order_index.tolist()])
        latents = sum(name == "latent" for name in modality) if kind != "dynamics" else 0
        mode = kind if kind != "dynamics" else "wm_agent_isolated"
        attention = self.model.SpaceSelfAttentionModality(HEADS, 1, identity, latents, mode, 0.0)
        allow = torch.empty(len(modality), len(modality), dtype=torch.bool, device=frame.device)
        allow[order_index[:, None], order_index] = attention.attn_mask[0, 0].to(frame.device)
        return allow & (frame[:, None] == frame)

    def _modalities(self, kind: str, modality: list[str]) -> dict[str, int]:
        """Their number for each name, and new numbers for names that they lack: their mask only compares them."""
        theirs = self.model.Modality
        numbers = {"image": theirs.IMAGE, "register": theirs.REGISTER, "label": theirs.SHORTCUT_SIGNAL}
        numbers |= {"action": theirs.ACTION, "agent": theirs.AGENT}
        numbers["latent"] = theirs.SPATIAL if kind == "dynamics" else theirs.LATENT
        unknown = [name for name in dict.fromkeys(modality) if name not in numbers]
        return numbers | {name: max(theirs) + n for n, name in enumerate(unknown, 1)}
