"""Adapter of klee972/dreamer4-nnx at 40cc2d2, a checkout at `$DREAMER4_PEERS/klee972/dreamer4-nnx`; without a licence.

Based on edwhu/dreamer4-jax and written again in flax.nnx, for CoinRun, Minecraft and CALVIN, with another loss, sampler
and transformer. The world model is judged with the defaults of its Minecraft scripts, heads and returns with those of
its CALVIN scripts, which alone train them. `not_testable` lists what cannot be called separately. Its policy is
continuous and trained by backpropagation through imagined returns: there is no advantage and no PMPO. Needs flax,
einops and treescope; what else their modules import is not needed and stubbed.

Readings: rows at d_min come first, half of the rows is above it (A2); context frames have the current d (A11) and, in
the pass without cache, noise that is drawn for each generated frame (A28); time attention is part of every fourth
layer, which mixes space too (A25); targets are 0 … L − 1 ahead (A17); two-hot weights are linear in symlog values
(A23).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from dreamer4_conformance.adapter import Network
from dreamer4_conformance.adapter.operation import Array
from dreamer4_conformance.adapters.klee972_model import Klee972Model
from dreamer4_conformance.adapters.peers import checkout, git_blob, visiting

PROJECT = "klee972/dreamer4-nnx"
COMMIT, ITS_LOSS = "40cc2d2", "7cbaff19a347b4f7188159b19e752b315f52a6ef"
"""The commit that this adapter was written for, and the blob hash of its train_dynamics_minecraft.py."""
MODULES = {
    "models": "jasmine.models.dreamer4_models",
    "utils": "jasmine.utils.dreamer4_utils",
    "sampler": "jasmine.dreamer4.sampler",
    "dynamics": "jasmine.dreamer4.train_dynamics_minecraft",
    "tokenizer": "jasmine.dreamer4.train_tokenizer_minecraft",
    "heads": "jasmine.dreamer4.train_bc_rew_heads_calvin",
    "policy": "jasmine.dreamer4.train_imagination_policy_calvin",
}
FLAX_STUBS: dict[str, dict[str, Any]] = {
    "optax": dict.fromkeys(("GradientTransformation", "GradientTransformationExtraArgs", "OptState", "Schedule")),
    "orbax": {},
    "orbax.checkpoint": {"CheckpointManager": object},
}
STUBS: dict[str, dict[str, Any]] = {
    **FLAX_STUBS,
    **{name: {} for name in ("dm_pix", "tyro", "wandb")},
    "grain": {"DataLoaderIterator": object},
    "jaxlpips": {"LPIPS": None},
    "jasmine.utils.dataloader": dict.fromkeys(("get_dataloader", "get_video_dataloader")),
    "jasmine.utils.calvin_dataloader": {"get_calvin_lang_dataloader": None},
    "jasmine.dreamer4.calvin_bc_validation": {
        "CalvinEnvValidationState": object,
        **dict.fromkeys(("close_calvin_env_validation", "init_calvin_env_validation", "run_calvin_env_validation")),
    },
}


@cache
def modules() -> SimpleNamespace:
    """Their modules, by the names in `MODULES`.

    They were written for flax 0.11, where a module may keep layers in a list; flax has this flag for such code.
    """
    with visiting(stubs=FLAX_STUBS):
        config = importlib.import_module("flax").config
        with config.temp_flip_flag("pytree_module", False):
            importlib.import_module("flax.nnx")
    with visiting(checkout(PROJECT), stubs=STUBS):
        return SimpleNamespace(**{name: importlib.import_module(module) for name, module in MODULES.items()})


class Klee972(Klee972Model):
    """Eq. (2), (4), (6)-(10) and the networks, with the defaults of their scripts."""

    name = PROJECT
    level = "signal"
    k_max = 64
    readings: Mapping[str, str] = {
        "A2": "split",
        "A11": "current",
        "A17": "0..7",
        "A23": "symlog",
        "A25": "adds",
        "A28": "generated",
    }
    not_testable: Mapping[str, str] = {
        "corrupt": "inline in _compute_branch_inputs (train_dynamics_minecraft.py:516)",
        "ramp_weight": "inline in _compute_branch_inputs (train_dynamics_minecraft.py:519)",
        "dynamics_loss_at": "_compute_branch_inputs draws levels and noise itself (train_dynamics_minecraft.py:507)",
        "tokenizer_loss": "nested in main (train_tokenizer_minecraft.py:409)",
        "mae_replace": "mask_and_encode draws the mask itself (dreamer4_models.py:1007)",
        "mtp_loss": "nested in main (train_bc_rew_heads_calvin.py:656)",
        "value_loss": "nested in main (train_imagination_policy_calvin.py:679)",
        "prior_start": "the policy is copied while checkpoints are restored (train_imagination_policy_calvin.py:509)",
    }
    d_min_share = 0.5
    min_batch = 2  # one row has d_min

    def __init__(self) -> None:
        """Raises FileNotFoundError without a checkout, ModuleNotFoundError without jax, flax, einops or treescope."""
        self.code = modules()
        self.jnp = self.code.models.jnp
        blob = git_blob(checkout(PROJECT) / "jasmine" / "dreamer4" / "train_dynamics_minecraft.py")
        self.version = COMMIT if blob == ITS_LOSS else f"with train_dynamics_minecraft.py {blob[:7]}"

    # Eq. (4), (6)-(8)

    def dynamics_loss(self, network: Network, z1: Array, actions: Array | None, seed: int) -> Array:
        """Their loss after its warm-up, during which rows above d_min have no weight."""
        branch, rows = self._branch(z1, actions, seed), len(z1)
        return self.code.dynamics._make_branch_loss_fn(branch, rows, rows // 2, 0, 0)(self._model(network))[0]

    def _branch(self, z1: Array, actions: Array | None, seed: int) -> dict[str, Array]:
        """What their step draws and computes before its loss, for these latents; half of the rows is above d_min."""
        batch, time, tokens, _ = z1.shape
        return self.code.dynamics._compute_branch_inputs(
            SimpleNamespace(mask_and_encode=lambda *_, **__: {"z": z1}),
            {"videos": self.jnp.zeros((batch, time, 1, 1, 1)), "actions": actions},
            batch,
            time,
            batch // 2,
            *self.jax.random.split(self.jax.random.PRNGKey(seed), 3),
            self.k_max,
            self.dtype,
            n_spatial=tokens,
            packing_factor=1,
        )

    def _model(self, network: Network) -> Callable[..., Any]:
        """The network as their code calls a model: labels as indices, and a second output for agent tokens.

        The NaN that marks an absent action becomes 0.
        """

        def model(actions: Array | None, step_index: Array, signal_index: Array, z: Array, **_: Any) -> Any:
            received = None if actions is None else self.jnp.nan_to_num(actions)
            output = network(z, signal_index / self.k_max, 1 / (1 << step_index), received)
            return output, self.jnp.zeros((*z.shape[:2], 1, 1))

        return model

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Array, Array]:
        branch = self._branch(self.jnp.zeros((batch, time, 1, 1), self.dtype), None, seed)
        return branch["tau_idx_full"] / self.k_max, 1 / (1 << branch["step_idx_full"])

    # Eq. (2)

    def sample_frame(
        self, network: Network, context: Array, num_steps: int, seed: int, actions: Array | None = None
    ) -> Array:
        """The first frame of `sample_video`, without cache, with their defaults for the context.

        Its actions are those that follow each frame: the first of `actions` has no place among them.
        """
        jnp, (batch, time, tokens, _) = self.jnp, context.shape
        latents = jnp.concatenate([context, jnp.zeros_like(context, shape=(batch, 1, *context.shape[2:]))], 1)
        following = jnp.zeros((batch, time + 1, 1)) if actions is None else jnp.roll(actions, -1, 1)
        model = self._model(network if actions is not None else lambda z, tau, d, _: network(z, tau, d))
        config = self.code.sampler.SamplerConfig(
            dyna_k_max=self.k_max,
            schedule="shortcut",
            d=1 / num_steps,
            ctx_length=time,
            rng_key=self.jax.random.PRNGKey(seed),
            dyna_n_spatial=tokens,
            dyna_packing_factor=1,
        )
        with self.jax.disable_jit(), patch.object(self.jax, "checkpoint", lambda function: function):
            frames = self.code.sampler.sample_video(
                SimpleNamespace(mask_and_encode=lambda *_, **__: {"z": latents}, decode=lambda z, _: z),
                _Callable(model),
                jnp.zeros((batch, time + 1, 1, 1, 1)),
                following,
                config,
            )[0]
        return frames[:, time]

    # Eq. (9), (10)

    def mtp_targets(self, x: Array, length: int) -> tuple[Array, Array]:
        """Targets of actions, which have one component here, and of rewards."""
        valid = self.jnp.ones(x.shape, bool)
        if self.jnp.issubdtype(x.dtype, self.jnp.integer):
            targets, valid = self.code.heads._gather_action_targets(x[..., None], valid, length)
            return targets[..., 0], valid
        return self.code.heads._gather_reward_targets(x, valid, length)

    @cached_property
    def bins(self) -> Array:
        """Symlog values of the bins of their value head."""
        head = self.code.models.ValueHead(1, rngs=self.nnx.Rngs(0))
        return head(self.jnp.zeros((1, 1, 1)))[1]

    def twohot_bins(self) -> Array:
        return self.code.policy._symexp(self.bins)

    def twohot_encode(self, x: Array) -> Array:
        return self.code.policy._twohot_symlog_targets(x, self.bins)

    def twohot_decode(self, logits: Array) -> Array:
        return self.code.policy._expected_symlog_value(logits[None], self.bins)[0]

    def lambda_returns(self, reward: Array, value: Array, cont: Array, gamma: float, lam: float) -> Array:
        """Their returns, which have no continuation."""
        return self.code.policy._compute_lambda_returns(reward, value, gamma, lam)

    # Sec. 4 and defaults

    def mouse_class(self, movement: Array) -> np.ndarray:
        """Class of the camera by the mapping of their Minecraft script, in the unit of its quantiser."""
        camera = self._mapping.camera_quantizer.discretize(np.asarray(movement, np.float32))
        buttons = np.zeros((len(camera), len(self.code.models.MinecraftButtons.ALL)), int)
        return self._mapping.from_factored({"buttons": buttons, "camera": camera})["camera"][:, 0]

    @cached_property
    def _mapping(self) -> Any:
        args = self.code.dynamics.Args
        return self.code.models.CameraHierarchicalActionMapping(
            args.n_camera_bins, args.camera_maxval, args.camera_binsize
        )

    def constants(self) -> Mapping[str, float]:
        """Defaults of their scripts."""
        agent, tokenizer = self.code.policy.Args, self.code.tokenizer.Args
        return {
            "num_steps": 1 / agent.imagination_d,
            "gamma": agent.gamma,
            "mtp_length": agent.L,
            "mae_max": tokenizer.max_mask_ratio,
            "lpips_weight": tokenizer.lpips_weight,
            "mouse_classes": self._mapping.n_camera,
        }


class _Callable:
    """A model as their sampler takes it, without cache and with one agent token of one channel."""

    decode, n_agent, d_model = False, 1, 1

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **options)
