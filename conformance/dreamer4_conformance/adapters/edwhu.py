"""Adapter of edwhu/dreamer4-jax at 8144b94, a checkout at `$DREAMER4_PEERS/edwhu/dreamer4-jax`; no licence is stated.

Its losses are defined inside jitted training steps, which take the models as arguments: `closure_value` runs a step up
to its loss, with the suite's network in place of `dynamics`. The imagination is called unchanged, for one frame.
`not_testable` lists what cannot be called separately. Needs flax and einops; what else their modules import is not
needed and stubbed.

Readings: rows at d_min come first, a quarter of the rows is above it (A2); context frames are clean (A9) and have the
current d (A11); time attention is part of every fourth layer, which mixes space too (A25); action targets are 1 … L
ahead, reward targets 0 … L − 1 (A17), where block t holds a_t (A32); two-hot weights are linear in symlog values (A23).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from dreamer4_conformance.adapter import Network
from dreamer4_conformance.adapter.operation import Array
from dreamer4_conformance.adapters.edwhu_imagination import EdwhuImagination
from dreamer4_conformance.adapters.peers import checkout, git_blob, visiting
from dreamer4_conformance.verdicts import NotProvided

MODULES = {
    "models": "dreamer.models",
    "utils": "dreamer.utils",
    "sampler": "dreamer.imagination",
    "dynamics": "scripts.train_dynamics",
    "heads": "scripts.train_bc_rew_heads",
    "policy": "scripts.train_policy",
    "tokenizer": "scripts.train_tokenizer",
}
STUBS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("imageio", "imageio.v2", "matplotlib", "matplotlib.pyplot", "orbax", "wandb")},
    "optax": dict.fromkeys(("transforms", "OptState")),
    "pyrallis": {"wrap": lambda: lambda function: function},
    "orbax.checkpoint": {"CheckpointManager": object},
    "jaxlpips": {"LPIPS": None},
}
SELF_FRACTION = 0.25
"""Their default share of rows above d_min."""


@cache
def modules(project: str) -> SimpleNamespace:
    """Their modules, by the names in `MODULES`."""
    importlib.import_module("flax.linen")  # before the stubs of packages that flax may use
    with visiting(checkout(project), stubs=STUBS):
        return SimpleNamespace(**{name: importlib.import_module(module) for name, module in MODULES.items()})


class Edwhu(EdwhuImagination):
    """Eq. (2), (4), (6)-(11) and the networks, with the defaults of their training scripts."""

    name = "edwhu/dreamer4-jax"
    commit, blobs = "8144b94", {"scripts/train_dynamics.py": "72a17f8ff5430e69f632d8fe6efdb7f40505ad36"}
    level = "signal"
    k_max = 8
    readings: Mapping[str, str] = {
        "A2": "split",
        "A9": "none",
        "A11": "current",
        "A17": "1..8",
        "A17.rewards": "0..7",
        "A19": "mean",
        "A23": "symlog",
        "A25": "adds",
        "A29": "pooled",
        "A32": "current",
    }
    not_testable: Mapping[str, str] = {
        "corrupt": "inline in train_step_efficient (train_dynamics.py:256)",
        "ramp_weight": "inline in train_step_efficient (train_dynamics.py:260)",
        "dynamics_loss_at": "train_step_efficient draws levels, steps and noise itself (train_dynamics.py:243)",
        "mae_replace": "MAEReplacer draws the mask itself (models.py:94)",
        "mtp_loss": "targets and loss are computed in the same step (train_bc_rew_heads.py:435); see mtp_loss_of",
        "prior_start": "both policies are loaded from a checkpoint (train_policy.py:711)",
    }
    d_min_share = 1 - SELF_FRACTION
    min_batch = 3  # smaller batches have no row above d_min, by rounding
    dtypes = ("float32",)

    def __init__(self) -> None:
        """Raises FileNotFoundError if there is no checkout, ModuleNotFoundError without jax, flax or einops."""
        self.code = modules(self.name)
        self.jnp = self.code.models.jnp
        blobs = {file: git_blob(checkout(self.name) / file) for file in self.blobs}
        changed = [f"{file} {blob[:7]}" for file, blob in blobs.items() if blob != self.blobs[file]]
        self.version = f"with {', '.join(changed)}" if changed else self.commit

    def dynamics_loss(self, network: Network, z1: Array, actions: Array | None, seed: int) -> Array:
        """Their loss after its warm-up, during which rows above d_min have no weight."""
        batch, time, tokens, _ = z1.shape
        return self.loss_of(
            self.code.dynamics.train_step_efficient,
            encoder=self.returning(z1),
            dynamics=self._model(network),
            tx=None,
            params={},
            opt_state=None,
            enc_vars={},
            dyn_vars={},
            frames=self.jnp.zeros((batch, time, 1, 1, 1)),
            actions=actions,
            patch=1,
            B=batch,
            T=time,
            B_self=max(0, round(SELF_FRACTION * batch)),  # as their training loop computes it
            n_spatial=tokens,
            k_max=self.k_max,
            packing_factor=1,
            master_key=self.key(seed),
            step=0,
            bootstrap_start=0,
        )

    def _model(self, network: Network) -> SimpleNamespace:
        """The network as their code calls a model: labels as indices, and a second output for agent tokens."""

        def apply(_: Any, actions: Array, step_index: Array, signal_index: Array, z: Array, **__: Any) -> Any:
            output = network(z, signal_index / self.k_max, 1 / (1 << step_index), actions)
            return output, self.jnp.zeros((*z.shape[:2], 1, 1))

        return SimpleNamespace(apply=apply)

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Array, Array]:
        """Labels of the first call of their loss."""
        labels: list[tuple[Array, Array]] = []

        def network(z: Array, tau: Array, d: Array, actions: Array | None) -> Array:
            labels.append((tau, d))
            return z

        self.dynamics_loss(network, self.jnp.zeros((batch, time, 1, 1)), self.jnp.zeros((batch, time)), seed)
        return labels[0]

    def sample_frame(
        self, network: Network, context: Array, num_steps: int, seed: int, actions: Array | None = None
    ) -> Array:
        """The first frame that their imagination generates, with this action in place of the policy's.

        Their actions are classes, so that the classes here number the vectors that the network gets.
        """
        jnp, (batch, time, tokens, _) = self.jnp, context.shape
        if not time:
            raise NotProvided("imagination starts from the last frame of a context (imagination.py:365)")
        numbers = jnp.arange(batch * (time + 1)).reshape(batch, time + 1)
        sampler = self.code.sampler
        schedule = sampler._build_static_schedule(sampler.ImaginationConfig(self.k_max, 1, time, tokens, 1 / num_steps))
        with self.jax.disable_jit():
            frames = sampler.imagine_rollouts_core(
                dynamics=self._sampling(network, time, actions),
                task_embedder=SimpleNamespace(apply=lambda *_: jnp.zeros((batch, time + 1, 1, 1))),
                dyn_vars={},
                task_vars={},
                schedule=schedule,
                z_context=context,
                context_actions=numbers[:, :-1],
                task_ids=None,
                horizon=1,
                policy_fn=lambda _hidden, _key, state: (numbers[:, -1], jnp.zeros((batch, 1)), state),
                policy_state=None,
                rng_key=self.key(seed),
            )[0]
        return frames[:, 1]

    def _sampling(self, network: Network, time: int, actions: Array | None) -> SimpleNamespace:
        """`_model` without the call on the context alone, whose only purpose is the policy's hidden state."""

        def evaluate(z: Array, tau: Array, d: Array, numbers: Array) -> Array:
            if z.shape[1] == time:
                return z
            vectors = None if actions is None else actions.reshape(-1, *actions.shape[2:])[numbers]
            return network(z, tau, d, vectors)

        return self._model(evaluate)
