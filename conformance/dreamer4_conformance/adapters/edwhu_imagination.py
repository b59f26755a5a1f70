"""Adapter of the heads and of the imagination training of edwhu/dreamer4-jax.

Their returns, advantages and losses are equations of one jitted step (train_policy.py:1326). It runs unchanged, with
given outputs in place of the models' and of the imagined rollout; `_twohot_symlog_targets` and `rearrange`, which it
calls with its returns and advantages, are recorded. Where an argument would pass through symlog and back,
`_symexp` is left out, so that it arrives unrounded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from dreamer4_conformance.adapter.operation import Array
from dreamer4_conformance.adapters.edwhu_model import LATENT_SHAPE, EdwhuModel

IMPOSSIBLE = -1e9
"""A logit of a bin without weight: its exponential is 0."""
TRAJECTORIES, HORIZON, CONTEXT = 64, 2, 2
"""Size of what `imagined_trajectory` imagines."""


class EdwhuImagination(EdwhuModel):
    """Operations that need `code`, their modules."""

    @property
    def jax(self) -> Any:
        """The module `jax` that they import."""
        return self.code.models.jax

    def key(self, seed: int) -> Array:
        return self.jax.random.PRNGKey(seed)

    @staticmethod
    def returning(*outputs: Any) -> SimpleNamespace:
        """A model that returns these outputs, whatever its inputs; a second output of None if there is one."""
        result = (*outputs, None) if len(outputs) == 1 else outputs
        return SimpleNamespace(apply=lambda *_, **__: result)

    def loss_of(self, step: Callable[..., Any], /, **options: Any) -> Array:
        """The loss that their training step differentiates."""
        from dreamer4_conformance.jax import closure_value

        return closure_value(step, **options)

    def certain(self, values: Array) -> tuple[Array, Array]:
        """Logits (B, T, K) over bins (K,), one bin for each of the values (B, T), that give it a probability of 1."""
        count = values.size
        logits = self.jnp.where(self.jnp.eye(count, dtype=bool), 0.0, IMPOSSIBLE)
        return logits.reshape(*values.shape, count), values.reshape(count)

    @cached_property
    def policy_step(self) -> Callable[..., tuple[Array, dict[str, Array]]]:
        """`_policy_step`, compiled: eagerly, every new shape would take seconds."""
        return self.jax.jit(self._policy_step, static_argnames="given_in_symlog")

    def _policy_step(
        self,
        reward: tuple[Array, Array],
        value: tuple[Array, Array],
        *,
        policy: Array | None = None,
        prior: Array | None = None,
        action: Array | None = None,
        given_in_symlog: bool = False,
        **options: Any,
    ) -> tuple[Array, dict[str, Array]]:
        """Their step with these outputs of the heads.

        Args:
            reward: logits (B, H, K) and bins (K,) of the reward head.
            value: logits (B, H + 1, K) and bins (K,) of the value head.
            policy: logits of the policy, (B, H, A); by default of a single action.
            prior: logits of the prior, (B, H, A).
            action: the imagined actions, int (B, H).
            given_in_symlog: whether the bins are symlog values, as in their code, or raw values.
            options: gamma, lambda_, alpha and beta; 0 by default.

        Returns:
            The loss, and what was recorded: "returns" (B, H) and "advantages" (B H,).
        """
        jnp, module, recorded = self.jnp, self.code.policy, dict[str, Array]()
        batch, horizon = reward[0].shape[:2]
        policy = jnp.zeros((batch, horizon, 1)) if policy is None else policy
        prior = jnp.zeros(policy.shape) if prior is None else prior
        action = jnp.zeros((batch, horizon), int) if action is None else action
        encode, rearrange = module._twohot_symlog_targets, module.rearrange

        def twohot(values: Array, bins: Array) -> Array:
            recorded["returns"] = values
            return encode(values, bins)

        def reshape(x: Array, pattern: str) -> Array:
            recorded["advantages"] = rearrange(x, pattern)  # the last of their calls
            return recorded["advantages"]

        hidden = jnp.zeros((batch, horizon + 1, 1))
        replaced: dict[str, Any] = {
            "imagine_rollouts_core": lambda **_: (None, action, hidden, policy),
            "_twohot_symlog_targets": twohot,
            "rearrange": reshape,
        }
        if not given_in_symlog:
            replaced["_symexp"] = lambda y: y
        heads = {
            "reward_head": self.returning(reward[0][:, :, None], reward[1]),
            "value_head": self.returning(*value),
            "policy_head_bc": SimpleNamespace(apply=lambda *_, **__: prior[:, :, None]),
        }
        with patch.multiple(module, **replaced):
            loss = self.loss_of(module.train_step, **heads, **self._surroundings(batch, horizon), **options)
        return loss, recorded

    def _surroundings(self, batch: int, horizon: int) -> dict[str, Any]:
        """Arguments of their step that the replaced parts do not read."""
        jnp = self.jnp
        variables = ("enc_vars", "dyn_vars", "task_vars", "rew_vars", "val_vars", "pi_vars", "pi_bc_vars")
        unread = ("dynamics", "task_embedder", "policy_head", "tx", "opt_state", "mae_eval_key", "schedule", "task_ids")
        zeros = jnp.zeros((batch, 1))
        return {
            **{name: {} for name in variables},
            **dict.fromkeys(unread),
            "encoder": self.returning(jnp.zeros((batch, 1, 1, 1))),
            "params": {"val": {}, "pi": {}},
            "videos": jnp.zeros((batch, 1, 1, 1, 1)),
            "actions_full": zeros,
            "rewards_full": zeros,
            "horizon": horizon,
            **{"context_length": 1, "patch": 1, "n_spatial": 1, "packing_factor": 1},
            "rng_key": self.key(0),
        }

    # Eq. (10), (11)

    def lambda_returns(self, reward: Array, value: Array, cont: Array, gamma: float, lam: float) -> Array:
        """Their returns, which have no continuation: their environment does not end."""
        return self._scored(reward, value, gamma, lam)["returns"]

    def advantages(self, reward: Array, value: Array, cont: Array, gamma: float, lam: float) -> Array:
        return self._scored(reward, value, gamma, lam)["advantages"].reshape(reward.shape)

    def _scored(self, reward: Array, value: Array, gamma: float, lam: float) -> dict[str, Array]:
        options = {"gamma": gamma, "lambda_": lam, "alpha": 0.0, "beta": 0.0}
        return self.policy_step(self.certain(reward), self.certain(value), **options)[1]

    def value_loss(self, logits: Array, returns: Array) -> Array:
        """Their loss for trajectories of one step at γ = 0, whose return is the reward; one action has no loss."""
        pairs = self.jnp.stack([logits, self.jnp.zeros_like(logits)], 1)
        options = dict.fromkeys(("gamma", "lambda_", "alpha", "beta"), 0.0)
        return self.policy_step(self.certain(returns[:, None]), (pairs, self.bins), **options)[0]

    def policy_loss(
        self, logits: Array, prior_logits: Array, action: Array, advantage: Array, alpha: float, beta: float
    ) -> Array:
        """Their loss for trajectories of one step at γ = 0 and values of 0, in one bin, which have no loss.

        Their step does not differentiate the prior's parameters; so its logits are constants here.
        """
        zero = (self.jnp.zeros((len(logits), 2, 1)), self.jnp.zeros(1))
        return self.policy_step(
            self.certain(advantage[:, None]),
            zero,
            policy=logits[:, None],
            prior=self.jax.lax.stop_gradient(prior_logits)[:, None],
            action=action[:, None],
            **{"gamma": 0.0, "lambda_": 0.0, "alpha": alpha, "beta": beta},
        )[0]

    def imagined_trajectory(self, seed: int) -> Mapping[str, Any]:
        """What their step imagines from contexts of two frames, with their K and small models of theirs."""
        _ = self.networks, self.bins  # created here, because values do not exist while `_imagine` is traced
        return self._imagined(self.key(seed))

    @cached_property
    def _imagined(self) -> Callable[[Array], dict[str, Array]]:
        return self.jax.jit(self._imagine)

    def _imagine(self, key: Array) -> dict[str, Array]:
        module, recorded = self.code.policy, dict[str, Array]()
        rollout, decode = module.imagine_rollouts_core, module._symexp

        def imagine(**options: Any) -> Any:
            imagined = rollout(**options)
            recorded.update(action=imagined[1], logits=imagined[3])
            return imagined

        def symexp(y: Array) -> Array:
            recorded["value"] = decode(y)  # the last of their calls
            return recorded["value"]

        with patch.multiple(module, imagine_rollouts_core=imagine, _symexp=symexp):
            self.loss_of(module.train_step, **self._surroundings(TRAJECTORIES, HORIZON) | self._imagining(key))
        return recorded

    def _imagining(self, key: Array) -> dict[str, Any]:
        """Arguments of their step for an imagination with `networks`."""
        names = {"dynamics": "dyn_vars", "tasks": "task_vars", "reward": "rew_vars", "value": "val_vars"}
        names |= {"policy": "pi_vars"}
        networks, sampler, steps = self.networks, self.code.sampler, self.constants()["num_steps"]
        variables = {variable: networks[name].variables for name, variable in names.items()}
        latents = self.jax.random.normal(key, (TRAJECTORIES, CONTEXT, *LATENT_SHAPE))
        config = sampler.ImaginationConfig(self.k_max, HORIZON, CONTEXT, LATENT_SHAPE[0], 1 / steps)
        heads = {f"{name}_head": networks[name].module for name in ("reward", "value", "policy")}
        return {
            **{**variables, "pi_bc_vars": variables["pi_vars"], "policy_head_bc": heads["policy_head"], **heads},
            "params": {"val": variables["val_vars"]["params"], "pi": variables["pi_vars"]["params"]},
            "dynamics": networks["dynamics"].module,
            "task_embedder": networks["tasks"].module,
            "task_ids": self.jnp.zeros(TRAJECTORIES, int),
            "encoder": self.returning(latents),
            "schedule": sampler._build_static_schedule(config),
            "videos": self.jnp.zeros((TRAJECTORIES, CONTEXT, 1, 1, 1)),
            **dict.fromkeys(("actions_full", "rewards_full"), self.jnp.zeros((TRAJECTORIES, CONTEXT), int)),
            **{"context_length": CONTEXT, "n_spatial": LATENT_SHAPE[0]},
            **{"gamma": 0.0, "lambda_": 0.0, "alpha": 0.0, "beta": 0.0, "rng_key": key},
        }

    # Two-hot values

    @cached_property
    def bins(self) -> Array:
        """Symlog values of the bins of their value head."""
        head = self.code.models.ValueHead(d_model=1)
        return head.init(self.key(0), self.jnp.zeros((1, 1, 1)))["constants"]["symexp_centers_log"]

    def twohot_bins(self) -> Array:
        return self.code.policy._symexp(self.bins)

    def twohot_encode(self, x: Array) -> Array:
        return self.code.policy._twohot_symlog_targets(x, self.bins)

    def twohot_decode(self, logits: Array) -> Array:
        """Returns of one step at γ = 0: the rewards that their step decodes."""
        value = (self.jnp.zeros((len(logits), 2, 1)), self.jnp.zeros(1))
        options = dict.fromkeys(("gamma", "lambda_", "alpha", "beta"), 0.0)
        step = self.policy_step((logits[:, None], self.bins), value, given_in_symlog=True, **options)
        return step[1]["returns"][:, 0]

    # Eq. (9)

    def mtp_targets(self, x: Array, length: int) -> tuple[Array, Array]:
        """Targets of actions and of rewards, before which their data has a frame without reward."""
        if self.jnp.issubdtype(x.dtype, self.jnp.integer):
            return self.code.heads._gather_future_actions(x, length)
        targets, valid = self.code.heads._gather_future_rewards(self.jnp.pad(x, ((0, 0), (1, 0))), length)
        return targets[:, 1:], valid[:, 1:]

    def mtp_loss_of(self, x: Array, log_prob: Array) -> Array:
        """The policy's term of their agent finetuning, with a weight of 0 for the other terms."""
        return self._finetuning_loss(x, log_prob)

    @cached_property
    def _finetuning_loss(self) -> Callable[[Array, Array], Array]:
        return self.jax.jit(self._policy_term)

    def _policy_term(self, x: Array, log_prob: Array) -> Array:
        jnp, (batch, time, length, _) = self.jnp, log_prob.shape
        z = jnp.zeros((batch, time, 1, 1))
        return self.loss_of(
            self.code.heads.train_step_efficient,
            encoder=self.returning(z),
            dynamics=self.returning(z, z),
            task_embedder=SimpleNamespace(apply=lambda *_, **__: z),
            policy_head=SimpleNamespace(apply=lambda *_, **__: log_prob),
            reward_head=self.returning(jnp.zeros((batch, time, length, 2)), jnp.arange(2.0)),
            params={"dyn": {}, "task": {}, "pi": {}, "rew": {}},
            **{name: {} for name in ("enc_vars", "dyn_vars", "task_vars", "pi_vars", "rew_vars")},
            **{"tx": None, "opt_state": None, "patch": 1, "n_spatial": 1, "packing_factor": 1},
            **{"frames": jnp.zeros((batch, time, 1, 1, 1)), "actions": x, "rewards": jnp.zeros((batch, time))},
            **{"B": batch, "T": time, "B_self": 0, "k_max": self.k_max, "L": length},
            **{"master_key": self.key(0), "step": 0, "bootstrap_start": 0},
            **{"loss_weight_shortcut": 0.0, "loss_weight_policy": 1.0, "loss_weight_reward": 0.0},
        )

    # Eq. (5)

    def tokenizer_loss(self, mse: Array, lpips: Array) -> Array:
        """The sum in their step, with these values of its two terms."""
        module, pixel = self.code.tokenizer, self.jnp.zeros((1, 1, 1, 1))
        terms: dict[str, Any] = {
            "recon_loss_from_mae": lambda *_, **__: mse,
            "lpips_on_mae_recon": lambda *_, **__: lpips,
        }
        with patch.multiple(module, **terms):
            return self.loss_of(
                module.train_step,
                encoder=self.returning(pixel, (None, None)),
                decoder=SimpleNamespace(apply=lambda *_, **__: pixel),
                params={"enc": {}, "dec": {}},
                **{"tx": None, "opt_state": None, "enc_vars": {}, "dec_vars": {}},
                batch=self.jnp.zeros((1, 1, 1, 1, 1)),
                **{"patch": 1, "H": 1, "W": 1, "C": 1, "master_key": self.key(0), "step": 0},
            )

    def constants(self) -> Mapping[str, float]:
        """Defaults of their script of imagination training, of the encoder and of the tokenizer's step."""
        defaults: Any = self.code.policy.RLConfig
        lpips = inspect.signature(self.code.tokenizer.train_step).parameters["lpips_weight"].default
        return {
            "num_steps": 1 / defaults.imagination_d,
            "gamma": defaults.gamma,
            "alpha": defaults.alpha,
            "beta": defaults.beta,
            "mtp_length": defaults.L,
            "mae_max": self.code.models.Encoder.mae_p_max,
            "lpips_weight": lpips,
        }
