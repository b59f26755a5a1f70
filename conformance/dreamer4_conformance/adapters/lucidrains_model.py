"""Adapter of the networks of lucidrains' `dreamer4`: small, with random parameters, otherwise with their defaults.

Their decoder is used without flow steps, and their queries in groups. Their attention has no window and their decoder
no cache. Frames are not padded and latents not regrouped: learned queries pool them into spatial tokens. There is one d
per sequence, below 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dreamer4_conformance.adapter import AttentionOptions, TorchAdapter
from dreamer4_conformance.verdicts import NotProvided

WIDTH, HEADS, KEY_HEADS, HEAD_WIDTH, DEPTH = 32, 4, 2, 8, 8
CHANNELS, PATCH, SIDE, LATENTS, LATENT_WIDTH, REGISTERS, TASKS = 3, 4, 8, 3, 4, 2, 5
KEYS, CONTINUOUS = {"key": 5, "button": 2}, ("pitch", "yaw")


@contextmanager
def received(module: nn.Module) -> Iterator[list[Tensor]]:
    """First argument of every call of the module."""
    calls: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0]))
    try:
        yield calls
    finally:
        hook.remove()


class Nothing(nn.Module):
    """Replaces a transformer and returns its tokens unchanged."""

    def __init__(self, intermediates: Any) -> None:
        super().__init__()
        self.intermediates = intermediates

    def forward(self, x: Tensor, **_: object) -> tuple[Tensor, Any]:
        return x, self.intermediates


class LucidrainsModel(TorchAdapter):
    """Networks of `library`, their module."""

    library: ModuleType
    query_norm = False
    """Their default: only keys are normalised."""

    def randomised(self, module: nn.Module) -> Any:
        """The module in inference mode with random weights and biases, including those initialised to zero."""
        generator = torch.Generator().manual_seed(0)
        for parameter in module.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.5
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
        for embedding in (submodule for submodule in module.modules() if isinstance(submodule, nn.Embedding)):
            embedding.weight.data *= embedding.embedding_dim**0.5
        return module.eval().requires_grad_(False).to(self.device)

    @property
    def options(self) -> dict[str, Any]:
        """Options of every attention."""
        return {"query_heads": HEADS, "rmsnorm_query": self.query_norm}

    @cached_property
    def networks(self) -> Any:
        """Their dynamics and their tokenizer."""
        shared: dict[str, Any] = {"dim": WIDTH, "dim_latent": LATENT_WIDTH, "num_latent_tokens": LATENTS}
        shared |= {"attn_heads": KEY_HEADS, "attn_dim_head": HEAD_WIDTH, "attn_kwargs": self.options}
        with self.seeded(0):
            dynamics = self.library.DynamicsWorldModel(
                **shared,
                depth=DEPTH,
                max_steps=self.k_max,
                num_spatial_tokens=LATENTS,
                num_register_tokens=REGISTERS,
                num_tasks=TASKS,
                num_discrete_actions=tuple(KEYS.values()),
                num_continuous_actions=len(CONTINUOUS),
            )
            depths = {"encoder_depth": DEPTH, "decoder_depth": DEPTH}
            losses = {"lpips_loss_weight": 0.0, "use_loss_normalization": False}
            tokenizer = self.library.VideoTokenizer(
                **shared, **depths, **losses, channels=CHANNELS, patch_size=PATCH, image_size=SIDE, decoder_flow_steps=0
            )
        return self.randomised(nn.ModuleDict({"dynamics": dynamics, "tokenizer": tokenizer}))

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Labels on their grid, one d below 1 per sequence; two categorical and two continuous actions."""
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(self.device)

        def integers(below: int, *shape: int) -> Tensor:
            return torch.randint(below, shape, generator=generator).to(self.device)

        d = 0.5 ** (1 + integers(self.k_max.bit_length() - 1, batch, 1)).expand(batch, time)
        keys = {name: integers(choices, batch, time) for name, choices in KEYS.items()}
        return {
            "z": 2 * uniform(batch, time, LATENTS, LATENT_WIDTH) - 1,
            "tau": (uniform(batch, time) / d).floor() * d,
            "d": d,
            "actions": keys | {name: 2 * uniform(batch, time) - 1 for name in CONTINUOUS},
            "task": integers(TASKS, batch),
            "labelled": torch.ones(batch, dtype=torch.bool, device=self.device),
            "video": uniform(batch, time, CHANNELS, SIDE, SIDE),
            "x": 4 * uniform(batch, time, LATENTS + REGISTERS, WIDTH) - 2,
        }

    # Attention and layers

    @property
    def backends(self) -> tuple[str, ...]:  # type: ignore[override]
        """Backends that their factory selects from."""
        return ("naive", "flex")

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, *, backend: str = "naive", **options: Unpack[AttentionOptions]
    ) -> Tensor:
        """Attention function that their factory returns for these lengths."""
        if options["window"] is not None:
            raise NotImplementedError("their attention has no window")
        attend = self.library.get_attend_fn(
            use_flex=backend == "flex",
            seq_len=q.shape[1],
            k_seq_len=k.shape[1],
            causal=options["causal"],
            softclamp_value=options["softcap"],
            device=q.device,
        )
        out: Tensor = attend(*(x.transpose(1, 2) for x in (q, k, v)), scale=options.get("scale"))
        return out.transpose(1, 2)

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        capped: Tensor = self.library.softclamp(logits, cap)
        return capped

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """The norms of one of their attentions, whose gains start at 1."""
        options = {"heads": k.shape[2], "query_heads": q.shape[2], "rmsnorm_query": self.query_norm}
        attention = self.library.Attention(4, dim_head=q.shape[-1], **options)
        q, k = attention.q_heads_rmsnorm(q.transpose(1, 2)), attention.k_heads_rmsnorm(k.transpose(1, 2))
        return q.transpose(1, 2), k.transpose(1, 2)

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        """Their rotations, computed for each position separately."""
        rotary = self.library.Rotary1D(x.shape[-1]).to(x.device)
        angles = torch.cat([rotary(1, offset=position) for position in positions.tolist()])
        rotated: Tensor = self.library.apply_rotations(angles, x.transpose(1, 2))
        return rotated.transpose(1, 2)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """PyTorch's RMSNorm, which they use."""
        normalised: Tensor = functional_call(self.library.RMSNorm(x.shape[-1], eps=eps), {"weight": weight}, x)
        return normalised

    def swiglu(self, x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        """Their MLP without its norm and biases."""
        mlp = self.library.FeedForward(x.shape[-1], pre_rmsnorm=False)
        for linear, weight in ((mlp.proj_in, torch.cat([w_up, w_gate], 1)), (mlp.proj_out, w_down)):
            linear.weight, linear.bias = nn.Parameter(weight.T), None
        out: Tensor = mlp(x)
        return out

    def layer(self, *, time_every: int) -> Any:
        """One layer in which all tokens of a frame attend to each other."""
        with self.seeded(0):
            layer = self.library.AxialSpaceTimeTransformer(
                WIDTH,
                1,
                attn_heads=KEY_HEADS,
                attn_dim_head=HEAD_WIDTH,
                attn_kwargs=self.options,
                time_block_every=time_every,
                num_special_tokens=0,
                final_norm=False,
                use_attn_pool=False,
            )
        return self.randomised(layer)

    def space_layer(self, x: Tensor) -> Tensor:
        """One of their layers without time attention."""
        out: Tensor = self.layer(time_every=4)(x)
        return out

    def time_layer(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(time_every=1)(x)
        return out

    def layer_kinds(self) -> list[str]:
        return ["time" if time else "space" for time in self.networks["dynamics"].transformer.is_time]

    def block_zeroed(self, x: Tensor, kind: str) -> Tensor:
        """One of their layers with its two output projections at zero."""
        if not kind.startswith("dynamics"):
            raise NotProvided("one class of layers serves dynamics and tokenizer")
        layer = self.layer(time_every=1 if kind == "dynamics.time" else 4)
        _, _, attention, feed_forward, _ = layer.layers[0]
        for output in (attention.fn.to_out.weight, feed_forward.fn.proj_out.weight, feed_forward.fn.proj_out.bias):
            nn.init.zeros_(output)
        out: Tensor = layer(x)
        return out

    # The dynamics

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Tensor | None, labelled: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Unlabelled rows in a separate call, because their model takes actions for the whole batch or for none."""
        (z_hat, agent, _), (z_hat_unlabelled, agent_unlabelled, _) = (
            self._predicted(self.networks["dynamics"], z, tau, d, self._actions(inputs), task)
            for inputs in (actions, None)
        )
        chosen = labelled[:, None, None, None]
        return torch.where(chosen, z_hat, z_hat_unlabelled), torch.where(chosen, agent, agent_unlabelled)

    def dynamics_init(self, batch: int) -> None:
        """Their cache is initially None."""

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Tensor | None
    ) -> tuple[Tensor, Tensor, Any]:
        return self._predicted(self.networks["dynamics"], z, tau, d, self._actions(actions), task, state)

    def _predicted(
        self,
        model: Any,
        z: Tensor,
        tau: Tensor,
        d: Tensor,
        actions: Mapping[str, Tensor],
        task: Tensor | None = None,
        state: Any = None,
    ) -> tuple[Tensor, Tensor, Any]:
        """Prediction with clean frames labelled as the last level, as in their sampler."""
        predicted, (embeds, cache) = model(
            latents=z,
            signal_levels=(tau * self.k_max).round().long().clamp(max=self.k_max - 1),
            step_sizes=(d[:, 0] * self.k_max).round().long(),
            tasks=task,
            **actions,
            shift_action_tokens=False,
            time_cache=state,
            latent_is_noised=True,
            return_intermediates=True,
        )
        return predicted.flow.squeeze(2), embeds.agent, cache

    def _actions(self, actions: Any) -> dict[str, Tensor]:
        if actions is None:
            return {}
        kinds = {"discrete_actions": KEYS, "continuous_actions": CONTINUOUS}
        return {kind: torch.stack([actions[name] for name in names], -1) for kind, names in kinds.items()}

    def rollout(self, context: Tensor, actions: Any, frames: int, num_steps: int, seed: int, *, cache: bool) -> Tensor:
        """Their sampler, whose interface lacks the action that leads to the first frame."""
        model, inputs = self.networks["dynamics"], self._actions(actions)
        generated: Tensor = model.generate(
            context.shape[1] + frames,
            num_steps=num_steps,
            batch_size=len(context),
            prompt_latents=context,
            use_time_cache=cache,
            **{f"prompt_{kind}": x[:, 1:] for kind, x in inputs.items()},
        )
        return generated[:, context.shape[1] :]

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        """First token of each frame, one call per frame, because their model has one d per sequence."""
        model, latents = (
            self.networks["dynamics"],
            torch.zeros(tau.numel(), 1, LATENTS, LATENT_WIDTH, device=tau.device),
        )
        with received(model.transformer) as tokens:
            self._predicted(model, latents, tau.reshape(-1, 1), d.reshape(-1, 1), {})
        return tokens[0][:, 0, 0].reshape(*tau.shape, -1)

    def action_tokens(self, components: list[Tensor], embedding: Tensor, labelled: Tensor) -> Tensor:
        """The second-last token; every number is a continuous action with a one-hot embedding.

        Their model has one action token; S_a tokens are represented by one that is S_a times as wide.
        """
        numbers = torch.cat([component.flatten(2) for component in components], -1)
        batch, time, count = numbers.shape
        width, counts = embedding.numel(), {"num_latent_tokens": 1, "num_spatial_tokens": 1}
        with self.seeded(0):
            model = self.library.DynamicsWorldModel(
                width, LATENT_WIDTH, **counts, num_continuous_actions=count, depth=1
            )
        places = torch.eye(width).repeat(count // width, 1)
        model.action_embedder.continuous_action_embed.weight = nn.Parameter(places)
        model.action_learned_embed = nn.Parameter(embedding.reshape(1, width))
        z, tau = torch.zeros(batch, time, 1, LATENT_WIDTH), torch.zeros(batch, time)
        with received(model.to(self.device).transformer) as tokens:
            for actions in ({"continuous_actions": numbers}, {}):
                self._predicted(model, z.to(self.device), tau, tau + 1 / self.k_max, actions)
        with_actions, without = (x[:, :, -2].reshape(batch, time, *embedding.shape) for x in tokens)
        return torch.where(labelled[:, None, None, None], with_actions, without)

    def mtp_heads(self, agent: Tensor) -> Tensor:
        """Logits of their policy."""
        model = self.networks["dynamics"]
        logits, _ = model.action_embedder.unembed(model.policy_head(agent[:, :, 0]))
        return logits.movedim(0, 2)

    # The tokenizer

    def encode(self, video: Tensor) -> Tensor:
        z: Tensor = self.networks["tokenizer"].tokenize(video.transpose(1, 2))
        return z

    def decode(self, z: Tensor) -> Tensor:
        return self.networks["tokenizer"].decode(z).transpose(1, 2)

    def reconstruct(self, video: Tensor) -> Tensor:
        _, made = self.networks["tokenizer"](video.transpose(1, 2), return_intermediates=True)
        return made.recon.transpose(1, 2)

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        """Their mask separates special tokens, which come last, from all others. Time layers handle other frames."""
        if kind != "dynamics" and set(modality) - {"latent", "image"}:
            raise NotImplementedError("their tokenizers have one modality each")
        special = ["agent" if kind == "dynamics" else "latent"] * len(modality)
        order = torch.tensor(sorted(range(len(modality)), key=lambda i: modality[i] == special[i]))
        attend = self.library.get_attend_fn(
            use_flex=False,
            seq_len=len(modality),
            k_seq_len=len(modality),
            num_special_tokens=sum(map(str.__eq__, modality, special)),
            special_attend_only_itself=kind == "decoder",
        )
        allow = torch.ones(len(modality), len(modality), dtype=torch.bool)
        if attend.keywords["mask"] is not None:
            allow[order[:, None], order] = attend.keywords["mask"]
        return allow.to(frame.device) & (frame[:, None] == frame)

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        """Positions of a mask token of ones among patches of zeros."""
        tokens = torch.zeros(batch, time, patches, 2, device=self.device)
        return self._masked(tokens, torch.ones(2, device=self.device), mask_patches=True)[..., 0] == 1

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        """Patches at the input of their encoder's transformer."""
        return self._masked(tokens, embedding, patch_mask=mask[:, :, None])

    def _masked(self, tokens: Tensor, embedding: Tensor, **masking: Any) -> Tensor:
        """Their encoder up to its transformer, with `tokens` in place of the patches."""
        batch, time, patches, width = tokens.shape
        state = torch.random.get_rng_state()
        encoder = self.library.VideoTokenizer(width, 2, 1, num_latent_tokens=1, lpips_loss_weight=0.0, channels=1)
        torch.random.set_rng_state(state)
        encoder.encoder_transformer = Nothing(self.library.TransformerIntermediates(None))
        encoder.patch_to_tokens.register_forward_hook(lambda *_: tokens[:, :, None])
        video = torch.zeros(batch, 1, time, 1, patches, device=self.device)
        with received(encoder.to(self.device).encoder_transformer) as tokens_in:
            functional_call(encoder, {"mask_token": embedding}, video, {"return_latents": True, **masking})
        return tokens_in[0][:, :, :patches]
