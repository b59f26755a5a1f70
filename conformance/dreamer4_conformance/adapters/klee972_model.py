"""Adapter of the networks of klee972/dreamer4-nnx: small, with random parameters, otherwise with their defaults.

`space_mode` is "wm_agent", that of the scripts that train the agent; actions are those of their Minecraft scripts, a
class of buttons and one of the camera, where −1 stands for no action. There is no QK-norm, soft cap, grouped query or
window, and τ and d are two tokens. Attention runs without cuDNN, which needs a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple, Unpack

import numpy as np

from dreamer4_conformance.adapter import AttentionOptions, JaxAdapter
from dreamer4_conformance.adapter.operation import Array
from dreamer4_conformance.verdicts import NotProvided

WIDTH, HEADS, DEPTH, TIME_EVERY, CHANNELS, PATCH, SIDE = 32, 4, 4, 4, 3, 4, 8
LATENTS, BOTTLENECK, PACKING, REGISTERS, BUTTONS, CAMERA, POLICY, TASKS, AGENTS = 8, 4, 2, 4, 6, 5, 5, 5, 1
PATCHES = (SIDE // PATCH) ** 2
LATENT_SHAPE = (LATENTS // PACKING, BOTTLENECK * PACKING)
CACHED = 96
"""Frames for which their cache is allocated."""
MODES = {"encoder": "encoder", "decoder": "decoder", "dynamics": "wm_agent"}
OUTPUTS = {"out", "linear"}
"""Names of the last layers of their attention and MLP."""


class Split(NamedTuple):
    """A module of theirs as flax.nnx splits it.

    `call` takes a function, `parameters`, `rest` and inputs, and returns what the function returns for the module and
    the inputs, and the `rest` after that. It is compiled once for each function and shape.
    """

    call: Callable[..., Any]
    parameters: Any
    rest: Any


class Klee972Model(JaxAdapter):
    """Operations that need `code`, their modules."""

    code: SimpleNamespace
    jnp: Any
    backends = ("space", "time")

    @property
    def jax(self) -> Any:
        """The module `jax` that they import."""
        return self.code.models.jax

    @property
    def nnx(self) -> Any:
        """The module `flax.nnx` that they import."""
        return self.code.models.nnx

    @property
    def _types(self) -> dict[str, Any]:
        return {"dtype": getattr(self.jnp, self.dtype), "param_dtype": self.jnp.float32}

    def randomised(self, module: Any) -> Any:
        """The module, with random parameters."""
        from dreamer4_conformance.jax import randomised_parameters

        parameters = self.nnx.state(module, self.nnx.Param)
        self.nnx.replace_by_pure_dict(parameters, randomised_parameters(self.nnx.to_pure_dict(parameters)))
        self.nnx.update(module, parameters)
        return module

    def split(self, module: Any) -> Split:
        """A module as jitted functions take it."""
        nnx = self.nnx
        definition, parameters, rest = nnx.split(module, nnx.Param, ...)

        def call(function: Callable[..., Any], parameters: Any, rest: Any, *inputs: Any) -> tuple[Any, Any]:
            module = nnx.merge(definition, parameters, rest)
            return function(module, *inputs), nnx.split(module, nnx.Param, ...)[2]

        return Split(self.jax.jit(call, static_argnums=0), parameters, rest)

    @cached_property
    def networks(self) -> dict[str, Split]:
        """Their networks by name."""
        models, rngs, length = self.code.models, self.nnx.Rngs(0), int(self.constants()["mtp_length"])
        sizes = {"model_dim": WIDTH, "mlp_ratio": 4, "time_every": TIME_EVERY, "num_blocks": DEPTH, "num_heads": HEADS}
        tokenizer: dict[str, Any] = {
            **{f"{coder}_{name}": size for coder in ("enc", "dec") for name, size in sizes.items()},
            **{"in_dim": CHANNELS, "image_height": SIDE, "image_width": SIDE, "patch_size": PATCH},
            **{"latent_dim": BOTTLENECK, "num_latent_tokens": LATENTS, "max_mask_ratio": 0.0, "dropout": 0.0},
        }
        modules = {
            "dynamics": self._create_dynamics(decode=False),
            "tasks": models.TaskEmbedder(WIDTH, AGENTS, n_tasks=TASKS, **self._types, rngs=rngs),
            "tokenizer": models.TokenizerDreamer4(**tokenizer, **self._types, use_flash_attention=False, rngs=rngs),
            "policy": models.PolicyHeadMTP(WIDTH, POLICY, L=length, **self._types, rngs=rngs),
        }
        return {name: self.split(self.randomised(module)) for name, module in modules.items()}

    def _create_dynamics(self, *, decode: bool) -> Any:
        """Their dynamics, with a cache if `decode` is set."""
        return self.code.models.DynamicsDreamer4(
            **{"d_model": WIDTH, "d_spatial": LATENT_SHAPE[1], "n_spatial": LATENT_SHAPE[0], "n_register": REGISTERS},
            **{"n_agent": AGENTS, "n_heads": HEADS, "n_actions": BUTTONS, "n_camera": CAMERA, "depth": DEPTH},
            **{"k_max": self.k_max, "space_mode": MODES["dynamics"], "pos_emb_type": "rope", "decode": decode},
            **self._types,
            use_flash_attention=False,
            rngs=self.nnx.Rngs(0),
        )

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Classes of actions, videos in [0, 1], labels on their grid."""
        random, jnp = self.jax.random, self.jnp
        keys = iter(random.split(random.PRNGKey(seed), 9))

        def uniform(*shape: int) -> Array:
            return random.uniform(next(keys), (batch, time, *shape)).astype(self.dtype)

        def classes(*shape: int, stop: int) -> Array:
            return random.randint(next(keys), shape, 0, stop)

        steps = 1 << classes(batch, time, stop=self.k_max.bit_length())
        return {
            "z": 2 * uniform(*LATENT_SHAPE) - 1,
            "tau": jnp.floor(uniform() * steps) / steps,
            "d": 1 / steps,
            "actions": jnp.stack([classes(batch, time, stop=count) for count in (BUTTONS, CAMERA)], -1),
            "task": classes(batch, stop=TASKS),
            "labelled": jnp.ones(batch, bool),
            "video": uniform(SIDE, SIDE, CHANNELS),
            "x": 4 * uniform(LATENTS, WIDTH) - 2,
            **dict.fromkeys(("x_encoder", "x_decoder"), 4 * uniform(LATENTS + PATCHES, WIDTH) - 2),
        }

    # The dynamics

    def _inputs(self, z: Array, tau: Array, d: Array, actions: Array, task: Array | None) -> tuple[Any, ...]:
        """Arguments of their model."""
        signal, step = (self.jnp.round(x).astype(int) for x in (tau * self.k_max, -self.jnp.log2(d)))
        agent = None if task is None else evaluate(_embed_task, self.networks["tasks"], task, z[..., 0, 0])
        return actions, step, signal, z, agent

    def dynamics(
        self, z: Array, tau: Array, d: Array, actions: Array, task: Array | None, labelled: Array
    ) -> tuple[Array, Array | None]:
        """Their model; clips without actions have the class −1 in every frame."""
        classes = self.jnp.where(labelled[:, None, None], actions, -1)
        z_hat, output = evaluate(_predict, self.networks["dynamics"], *self._inputs(z, tau, d, classes, task))
        return z_hat, None if task is None else output

    def dynamics_init(self, batch: int) -> Split:
        return self.cached(batch)

    @cached_property
    def cached(self) -> Callable[[int], Split]:
        """Their model with an empty cache for a number of sequences."""
        return cache(self._create_cached)

    def _create_cached(self, batch: int) -> Split:
        model = self.randomised(self._create_dynamics(decode=True))
        model.init_cache(batch, CACHED)
        return self.split(model)

    def dynamics_step(
        self, state: Split, z: Array, tau: Array, d: Array, actions: Array, task: Array | None
    ) -> tuple[Array, Array | None, Split]:
        inputs = self._inputs(z, tau, d, actions, task)
        (z_hat, output), rest = state.call(_predict_and_advance, state.parameters, state.rest, *inputs)
        return z_hat, None if task is None else output, state._replace(rest=rest)

    def action_tokens(self, components: list[Array], embedding: Array, labelled: Array) -> Array:
        """Their encoder of one token from two components; a missing second one is 0."""
        if len(components) > 2 or len(embedding) != 1:
            raise NotProvided("their encoder has two components and one token (dreamer4_models.py:1759)")
        first, second = (component[:, :, 0] for component in [*components, 0 * components[0]][:2])
        encoder = SimpleNamespace(
            base_action_emb=SimpleNamespace(value=embedding[0]),
            emb_buttons=lambda _: first,
            emb_camera=lambda _: second,
        )
        classes = self.jnp.where(labelled[:, None, None], 0, self.jnp.full((*first.shape[:2], 2), -1))
        return self.code.models.HierarchicalActionEncoder.__call__(encoder, classes)

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Array:
        """Their mask within a frame."""
        theirs = self.code.models.Modality
        numbers = {"latent": theirs.SPATIAL, "register": theirs.REGISTER, "label": theirs.SHORTCUT_SIGNAL}
        numbers |= {"action": theirs.ACTION, "agent": theirs.AGENT}
        if kind != "dynamics":  # masks of the tokenizer only compare modalities
            numbers = {"latent": theirs.LATENT} | {name: 100 + i for i, name in enumerate(counts) if name != "latent"}
        if set(counts) - set(numbers):
            raise ValueError(f"{kind} has the modalities {', '.join(numbers)}; got {', '.join(counts)}")
        identity = [int(numbers[name]) for name, count in counts.items() for _ in range(count)]
        return self.jnp.asarray(self._create_block(kind, "space", identity).mask)

    def mtp_heads(self, agent: Array) -> Array:
        """Logits of their policy head for the only agent token."""
        return evaluate(_apply, self.networks["policy"], agent[:, :, 0])

    # Attention

    def attention(
        self, q: Array, k: Array, v: Array, *, backend: str = "time", **options: Unpack[AttentionOptions]
    ) -> Array:
        """Their function for space layers, and the method of their class for time layers."""
        if options["window"] or options["softcap"] or options.get("scale") or q.shape != k.shape:
            raise NotProvided("attention has no window, cap, scale or grouped queries (dreamer4_models.py:193, 385)")
        if backend == "time":
            settings = SimpleNamespace(use_flash_attention=False)
            return self.code.models.RotaryCacheMHA._attn(settings, q, k, v, options["causal"])
        return self.code.models._create_flash_attention_fn(False, options["causal"])(q, k, v)

    def rope(self, x: Array, positions: Array) -> Array:
        """Their rotation, with a table that is long enough: behind its end JAX repeats the last row."""
        length, dtype = int(positions.max()) + 1, getattr(self.jnp, self.dtype)
        return self.code.models._get_rotary_positional_encoding(x.shape[-1], length, dtype=dtype)(x, x, positions)[0]

    # Layers

    def _create_block(self, component: str, axis: str, identity: Sequence[int]) -> Any:
        """One of their layers for tokens of these modalities."""
        return self.code.models.ModalityAxialBlock(
            **{"dim": WIDTH, "mlp_ratio": 4, "num_heads": HEADS, "time_every": TIME_EVERY, "pos_emb_type": "rope"},
            **{"sow_weights": False, "sow_activations": False, "decode": False, "dropout": 0.0},
            **{"spatial_causal": False, "temporal_causal": True, "mode": MODES[component]},
            modality_ids=np.array(identity),
            layer_index=0 if axis == "space" else TIME_EVERY - 1,
            **self._types,
            use_flash_attention=False,
            rngs=self.nnx.Rngs(0),
        )

    @cached_property
    def layer(self) -> Callable[[str, int], Split]:
        """A layer of a kind for a number of tokens, of which all attend to each other in the dynamics."""
        return cache(self._create_layer)

    def _create_layer(self, kind: str, tokens: int) -> Split:
        component, axis = kind.split(".")
        modality, latents = self.code.models.Modality, 0 if component == "dynamics" else LATENTS
        rest = modality.SPATIAL if component == "dynamics" else modality.IMAGE
        identity = (int(modality.LATENT),) * latents + (int(rest),) * (tokens - latents)
        return self.split(self.randomised(self._create_block(component, axis, identity)))

    def transformer_layer(self, x: Array, kind: str) -> Array:
        return evaluate(_apply, self.layer(kind, x.shape[2]), x)

    def space_layer(self, x: Array) -> Array:
        """One of their layers without time attention."""
        return self.transformer_layer(x, "dynamics.space")

    def time_layer(self, x: Array) -> Array:
        """The part of one of their layers that mixes time."""
        return evaluate(_mix_time, self.layer("dynamics.time", x.shape[2]), x)

    def block_zeroed(self, x: Array, kind: str) -> Array:
        """One of their layers with its output projections at zero."""
        layer = self.layer(kind, x.shape[2])

        def zeroed(path: tuple[Any, ...], parameter: Array) -> Array:
            return parameter * (not OUTPUTS & {getattr(key, "key", None) for key in path})

        parameters = self.jax.tree_util.tree_map_with_path(zeroed, layer.parameters)
        return evaluate(_apply, layer._replace(parameters=parameters), x)

    def layer_kinds(self) -> list[str]:
        """Time attention is part of a layer that mixes space too."""
        blocks = self._create_dynamics(decode=False).transformer.blocks
        return ["both" if hasattr(block, "temporal_attention") else "space" for block in blocks]

    def rms_norm(self, x: Array, weight: Array, eps: float) -> Array:
        """Flax's RMSNorm, which they use."""
        norm = self.nnx.RMSNorm(len(weight), epsilon=eps, rngs=self.nnx.Rngs(0))
        norm.scale.value = weight
        return norm(x)

    def swiglu(self, x: Array, w_gate: Array, w_up: Array, w_down: Array) -> Array:
        """Their MLP with biases of zero."""
        jnp, (width, hidden) = self.jnp, w_up.shape
        ratio = (hidden + 0.5) / width * 3 / 2  # they round the hidden width down
        mlp = self.code.models.MLP(width, ratio, **self._types, rngs=self.nnx.Rngs(0))
        mlp.pre.kernel.value, mlp.linear.kernel.value = jnp.concatenate([w_up, w_gate], 1), w_down
        mlp.pre.bias.value, mlp.linear.bias.value = jnp.zeros(2 * hidden), jnp.zeros(width)
        return mlp(x)

    # The tokenizer

    def encode(self, video: Array) -> Array:
        """Latents packed as their dynamics takes them."""
        return self.regroup(evaluate(_encode, self.networks["tokenizer"], video))

    def decode(self, z: Array) -> Array:
        latents = self.code.utils.unpack_spatial_to_bottleneck(z, n_spatial=z.shape[2], k=PACKING)
        return evaluate(_decode, self.networks["tokenizer"], latents)

    def reconstruct(self, video: Array) -> Array:
        return evaluate(_reconstruct, self.networks["tokenizer"], video)

    def regroup(self, z: Array) -> Array:
        return self.code.utils.pack_bottleneck_to_spatial(z, n_spatial=z.shape[2] // PACKING, k=PACKING)

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Array:
        """Positions of a mask token of ones among patches of zeros that reach their encoder."""
        jnp, received = self.jnp, list[Array]()

        def encoder(tokens: Array) -> Array:
            received.append(tokens)
            return tokens

        tokenizer = SimpleNamespace(
            patch_size=1,
            patch_proj=jnp.zeros_like,
            max_mask_ratio=self.constants()["mae_max"],
            mask_patch=SimpleNamespace(value=jnp.ones((1, 1, 1, 1))),
            latent_tokens=SimpleNamespace(value=jnp.zeros((1, 1))),
            num_latent_tokens=1,
            encoder=encoder,
            encoder_proj=lambda latents: latents,
        )
        encode = self.code.models.TokenizerDreamer4.mask_and_encode
        encode(tokenizer, jnp.zeros((batch, time, 1, patches, 1)), self.jax.random.PRNGKey(seed), training=True)
        return received[0][:, :, 1:, 0] == 1


def evaluate(function: Callable[..., Any], module: Split, *inputs: Any) -> Any:
    """What a function returns for a module and inputs."""
    return module.call(function, module.parameters, module.rest, *inputs)[0]


# What `evaluate` calls


def _apply(module: Any, *inputs: Any) -> Any:
    return module(*inputs)


def _embed_task(module: Any, task: Array, frames: Array) -> Array:
    tokens: Array = module(task, *frames.shape)
    return tokens


def _predict(module: Any, actions: Array, step: Array, signal: Array, z: Array, agent: Array | None) -> Any:
    return module(actions, step, signal, z, agent_tokens=agent)


def _predict_and_advance(module: Any, *inputs: Any) -> Any:
    outputs = _predict(module, *inputs)
    module.advance_cache()
    return outputs


def _mix_time(layer: Any, x: Array) -> Array:
    across = x.swapaxes(1, 2)
    mixed: Array = across + layer.temporal_attention(layer.temporal_norm(across))
    return mixed.swapaxes(1, 2)


def _encode(tokenizer: Any, video: Array) -> Array:
    latents: Array = tokenizer.mask_and_encode(video, None, training=False)["z"]
    return latents


def _decode(tokenizer: Any, latents: Array) -> Array:
    video: Array = tokenizer.decode(latents, (SIDE, SIDE))
    return video


def _reconstruct(tokenizer: Any, video: Array) -> Array:
    frames: Array = tokenizer({"videos": video, "rng": None}, training=False)["recon"]
    return frames
