"""Adapter of the networks of edwhu/dreamer4-jax: small, with random parameters, otherwise with their defaults.

`space_mode` is "wm_agent", the default of the scripts that train the agent. Attention is Flax's and is called inside
layers only; there is no RoPE, QK-norm, soft cap, window or cache. τ and d are two tokens. The model takes actions for
the whole batch and raises without them, although its encoder of actions has a token for clips without actions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

from dreamer4_conformance.adapter import JaxAdapter
from dreamer4_conformance.adapter.operation import Array
from dreamer4_conformance.verdicts import NotProvided

WIDTH, HEADS, DEPTH, CHANNELS, PATCH, SIDE = 32, 4, 4, 3, 4, 8
LATENTS, BOTTLENECK, PACKING, REGISTERS, ACTIONS, TASKS, TASK_TOKENS = 8, 4, 2, 4, 5, 5, 1
PATCHES = (SIDE // PATCH) ** 2
TIME_EVERY = 4
"""Their default: every fourth layer mixes time."""
SIZES: dict[str, Any] = {"d_model": WIDTH, "n_heads": HEADS, "depth": DEPTH, "time_every": TIME_EVERY}
FRAMES, LATENT_SHAPE = (1, 2), (LATENTS // PACKING, BOTTLENECK * PACKING)
MODES = {"encoder": "encoder", "decoder": "decoder", "dynamics": "wm_agent"}


class Compiled(NamedTuple):
    """A module of theirs: its compiled function, its variables, and itself."""

    apply: Callable[..., Any]
    variables: dict[str, Any]
    module: Any


class EdwhuModel(JaxAdapter):
    """Operations that need `code`, their modules."""

    code: SimpleNamespace
    jnp: Any

    @cached_property
    def networks(self) -> dict[str, Compiled]:
        """Their networks by name."""
        return self._tokenizer() | self._world_model() | self._heads()

    def _tokenizer(self) -> dict[str, Compiled]:
        models, jnp, size = self.code.models, self.jnp, CHANNELS * PATCH**2
        shared: dict[str, Any] = {**SIZES, "n_latents": LATENTS, "n_patches": PATCHES}
        encoder = models.Encoder(d_bottleneck=BOTTLENECK, mae_p_min=0.0, mae_p_max=0.0, **shared)
        decoder = models.Decoder(d_patch=size, **shared)
        return {
            "encoder": self._random(encoder, jnp.zeros((*FRAMES, PATCHES, size))),
            "decoder": self._random(decoder, jnp.zeros((*FRAMES, LATENTS, BOTTLENECK))),
        }

    def _world_model(self) -> dict[str, Compiled]:
        models, labels = self.code.models, self.jnp.zeros(FRAMES, int)
        dynamics = models.Dynamics(
            d_bottleneck=BOTTLENECK,
            d_spatial=LATENT_SHAPE[1],
            n_spatial=LATENT_SHAPE[0],
            n_register=REGISTERS,
            n_agent=TASK_TOKENS,
            space_mode=MODES["dynamics"],
            k_max=self.k_max,
            **SIZES,
        )
        tasks = models.TaskEmbedder(WIDTH, TASK_TOKENS, n_tasks=TASKS)
        return {
            "dynamics": self._random(dynamics, labels, labels, labels, self.jnp.zeros((*FRAMES, *LATENT_SHAPE))),
            "tasks": self._random(tasks, self.jnp.zeros(1, int), *FRAMES, static=(2, 3)),
        }

    def _heads(self) -> dict[str, Compiled]:
        models, length = self.code.models, int(self.constants()["mtp_length"])
        heads = {
            "policy": models.PolicyHeadMTP(d_model=WIDTH, action_dim=ACTIONS, L=length),
            "reward": models.RewardHeadMTP(d_model=WIDTH, L=length),
            "value": models.ValueHead(d_model=WIDTH),
        }
        return {name: self._random(head, self.jnp.zeros((*FRAMES, WIDTH))) for name, head in heads.items()}

    def _random(self, module: Any, *inputs: Any, static: tuple[int, ...] = (), **options: Any) -> Compiled:
        """A module with random parameters, for inputs of these shapes."""
        from dreamer4_conformance.jax import randomised_parameters

        jax = self.code.models.jax
        keys = dict.fromkeys(("params", "mae"), jax.random.PRNGKey(0))
        variables = jax.jit(lambda: module.init(keys, *inputs, **options))()
        apply = jax.jit(partial(module.apply, **options), static_argnums=static)
        return Compiled(apply, {**variables, "params": randomised_parameters(variables["params"])}, module)

    def _apply(self, name: str, *inputs: Any, **options: Any) -> Any:
        """The output of one of their networks."""
        network = self.networks[name]
        return network.apply(network.variables, *inputs, **options)

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Classes of actions, videos in [0, 1], labels on their grid."""
        random, jnp = self.code.models.jax.random, self.jnp
        keys = iter(random.split(random.PRNGKey(seed), 9))

        def uniform(*shape: int) -> Array:
            return random.uniform(next(keys), (batch, time, *shape))

        def classes(*shape: int, stop: int) -> Array:
            return random.randint(next(keys), shape, 0, stop)

        d = 1 / (1 << classes(batch, time, stop=self.k_max.bit_length()))
        return {
            "z": 2 * uniform(*LATENT_SHAPE) - 1,
            "tau": jnp.floor(uniform() / d) * d,
            "d": d,
            "actions": classes(batch, time, stop=ACTIONS),
            "task": classes(batch, stop=TASKS),
            "labelled": jnp.ones(batch, bool),
            "video": uniform(SIDE, SIDE, CHANNELS),
            "x": 4 * uniform(LATENTS, WIDTH) - 2,
            **dict.fromkeys(("x_encoder", "x_decoder"), 4 * uniform(LATENTS + PATCHES, WIDTH) - 2),
        }

    # The dynamics

    def dynamics(
        self, z: Array, tau: Array, d: Array, actions: Array, task: Array | None, labelled: Array
    ) -> tuple[Array, Array | None]:
        """Their model, which has no call for clips without actions."""
        if not bool(labelled.all()):
            raise NotProvided("Dynamics raises AssertionError without actions (models.py:553, 663)")
        jnp, (batch, time) = self.jnp, z.shape[:2]
        signal, step = (jnp.round(x).astype(int) for x in (tau * self.k_max, -jnp.log2(d)))
        agent = None if task is None else self._apply("tasks", task, batch, time)
        z_hat, output = self._apply("dynamics", actions, step, signal, z, agent_tokens=agent)
        return z_hat, None if task is None else output

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Array:
        """Their mask within a frame, in which latents of the tokenizer come first."""
        names = [name for name, count in counts.items() for _ in range(count)]
        order = sorted(range(len(names)), key=lambda i: kind != "dynamics" and names[i] != "latent")
        numbers = self._modalities(kind, list(counts))
        latents = 0 if kind == "dynamics" else counts.get("latent", 0)
        identity = self.jnp.array([numbers[names[i]] for i in order])
        attention = self.code.models.SpaceSelfAttentionModality(HEADS, 1, identity, latents, MODES[kind])
        mask = attention.bind({}, mutable=["constants"]).modality_mask.value[0, 0]
        inverse = self.jnp.argsort(self.jnp.array(order))
        return mask[inverse[:, None], inverse]

    def _modalities(self, kind: str, names: list[str]) -> dict[str, int]:
        """Their number for each name, and new numbers for names of the tokenizer: its masks only compare them."""
        theirs = self.code.models.Modality
        if kind != "dynamics":
            return {"latent": int(theirs.LATENT)} | {name: 100 + i for i, name in enumerate(names) if name != "latent"}
        numbers = {"latent": theirs.SPATIAL, "register": theirs.REGISTER, "label": theirs.SHORTCUT_SIGNAL}
        numbers |= {"action": theirs.ACTION, "agent": theirs.AGENT}
        if set(names) - set(numbers):
            raise ValueError(f"{kind} has the modalities {', '.join(numbers)}; got {', '.join(names)}")
        return {name: int(numbers[name]) for name in names}

    def mtp_heads(self, agent: Array) -> Array:
        """Logits of their policy head for the only agent token."""
        return self._apply("policy", agent[:, :, 0])

    # Layers

    @cached_property
    def layer(self) -> Callable[[str, int], Compiled]:
        """A layer of a kind, for a number of tokens. It is compiled once."""
        return cache(self._create_layer)

    def _create_layer(self, kind: str, tokens: int) -> Compiled:
        """In a layer of the dynamics all tokens attend to each other."""
        component, axis = kind.split(".")
        models, latents = self.code.models, 0 if component == "dynamics" else LATENTS
        first = models.TokenLayout(latents, ((models.Modality.SPATIAL, tokens - latents),))
        layer = models.BlockCausalLayer(
            d_model=WIDTH,
            n_heads=HEADS,
            n_latents=latents,
            modality_ids=first.modality_ids(),
            space_mode=MODES[component],
            layer_index=0 if axis == "space" else TIME_EVERY - 1,
            time_every=TIME_EVERY,
            latents_only_time=component != "dynamics",
        )
        return self._random(layer, self.jnp.zeros((1, 2, tokens, WIDTH)), deterministic=True)

    def transformer_layer(self, x: Array, kind: str) -> Array:
        layer = self.layer(kind, x.shape[2])
        return layer.apply(layer.variables, x)

    def space_layer(self, x: Array) -> Array:
        """One of their layers without time attention."""
        return self.transformer_layer(x, "dynamics.space")

    def time_layer(self, x: Array) -> Array:
        """The part of one of their layers that mixes time."""
        models, parameters = self.code.models, self.layer("dynamics.time", x.shape[2]).variables["params"]
        normalised = models.RMSNorm().apply({"params": parameters["RMSNorm_1"]}, x)
        attention = models.TimeSelfAttention(WIDTH, HEADS, latents_only=False)
        return x + attention.apply({"params": parameters["TimeSelfAttention_0"]}, normalised, deterministic=True)

    def block_zeroed(self, x: Array, kind: str) -> Array:
        """One of their layers with its output projections at zero."""
        layer = self.layer(kind, x.shape[2])

        def zeroed(path: tuple[Any, ...], parameter: Array) -> Array:
            return parameter * (path[-2].key not in {"out", "fc_out"})

        parameters = self.code.models.jax.tree_util.tree_map_with_path(zeroed, layer.variables["params"])
        return layer.apply({**layer.variables, "params": parameters}, x)

    def layer_kinds(self) -> list[str]:
        """Time attention is part of a layer that mixes space too."""
        layers = self.networks["dynamics"].variables["params"]["transformer"]
        present = ["TimeSelfAttention_0" in layers[f"BlockCausalLayer_{i}"] for i in range(DEPTH)]
        return ["both" if time else "space" for time in present]

    def rms_norm(self, x: Array, weight: Array, eps: float) -> Array:
        return self.code.models.RMSNorm(eps).apply({"params": {"scale": weight}}, x)

    def swiglu(self, x: Array, w_gate: Array, w_up: Array, w_down: Array) -> Array:
        """Their MLP with biases of zero."""
        jnp, (width, hidden) = self.jnp, w_up.shape
        mlp = self.code.models.MLP(width, mlp_ratio=hidden / width)
        first = {"kernel": jnp.concatenate([w_up, w_gate], 1), "bias": jnp.zeros(2 * hidden)}
        second = {"kernel": w_down, "bias": jnp.zeros(width)}
        return mlp.apply({"params": {"fc_in": first, "fc_out": second}}, x, deterministic=True)

    # The tokenizer

    def encode(self, video: Array) -> Array:
        """Latents packed as their dynamics takes them."""
        return self.regroup(self._latents(video))

    def decode(self, z: Array) -> Array:
        latents = self.code.utils.unpack_spatial_to_bottleneck(z, n_spatial=z.shape[2], k=PACKING)
        return self._frames(self._apply("decoder", latents))

    def reconstruct(self, video: Array) -> Array:
        return self._frames(self._apply("decoder", self._latents(video)))

    def _latents(self, video: Array) -> Array:
        key = self.code.models.jax.random.PRNGKey(0)
        return self._apply("encoder", self.code.utils.temporal_patchify(video, PATCH), rngs={"mae": key})[0]

    def _frames(self, patches: Array) -> Array:
        return self.code.utils.temporal_unpatchify(patches, SIDE, SIDE, CHANNELS, PATCH)

    def regroup(self, z: Array) -> Array:
        return self.code.utils.pack_bottleneck_to_spatial(z, n_spatial=z.shape[2] // PACKING, k=PACKING)

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Array:
        """Mask that their replacement returns, with their defaults."""
        replacer, key = self.code.models.MAEReplacer(), self.code.models.jax.random.PRNGKey(seed)
        tokens = {"params": {"mask_token": self.jnp.zeros(1)}}
        return replacer.apply(tokens, self.jnp.zeros((batch, time, patches, 1)), rngs={"mae": key})[1][..., 0]
