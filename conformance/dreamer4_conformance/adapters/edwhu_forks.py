"""Adapters of two forks of edwhu/dreamer4-jax at 8144b94; no licence is stated. The adapter is that of their origin.

- kih00/dreamer4-jax at f1a4fdb: its models are those of the origin; the training steps read sizes and weights from one
  configuration, whose γ is 0.9.
- Irayshon/Dreamer4-jax at 49164b3: another environment, with tasks; the tokenizer's MSE gives foreground patches more
  weight; the policy's loss has a further term, the cross-entropy to the prior, whose weight is 0 by default.

Their samplers are those of the origin, apart from comments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from dreamer4_conformance.adapter.operation import Array
from dreamer4_conformance.adapters.edwhu import Edwhu


class Kih00(Edwhu):
    """The fork whose steps take a configuration."""

    name = "kih00/dreamer4-jax"
    commit, blobs = "f1a4fdb", {"scripts/train_dynamics.py": "fa744414a395f2e4a53735ff6f5e6f6361e9a9e3"}

    def loss_of(self, step: Callable[..., Any], /, **options: Any) -> Array:
        """The loss of a step whose configuration holds the options that are not its arguments."""
        options["rng"] = options.pop("rng_key", None)
        options |= {"lpips_fn": None, "lpips_batch_size": 1, "lpips_weight": self.constants()["lpips_weight"]}
        arguments = inspect.signature(step).parameters
        cfg = SimpleNamespace(**{name: value for name, value in options.items() if name not in arguments})
        for section in ("env", "tokenizer", "dynamics", "mtp"):
            setattr(cfg, section, cfg)
        return super().loss_of(step, cfg=cfg, **{name: options[name] for name in arguments if name in options})

    def constants(self) -> Mapping[str, float]:
        """Defaults of their configurations."""
        agent, tokenizer = self.code.policy.RLConfig(), self.code.tokenizer.TokenizerConfig()
        return {
            "num_steps": 1 / agent.imagination_d,
            "gamma": agent.gamma,
            "alpha": agent.alpha,
            "beta": agent.beta,
            "mtp_length": agent.mtp.L,
            "mae_max": self.code.models.Encoder.mae_p_max,
            "lpips_weight": tokenizer.lpips_weight,
        }


class Irayshon(Edwhu):
    """The fork with tasks and a further term of the policy's loss."""

    name = "Irayshon/Dreamer4-jax"
    commit, blobs = "49164b3", {"scripts/train_dynamics.py": "94a181ddeefba81a3da243ad93ae239ccc9cc09a"}

    def loss_of(self, step: Callable[..., Any], /, **options: Any) -> Array:
        """The loss of a step with its default weight of the further term, and without tasks."""
        further = {"task_ids": None, "bc_anchor_weight": self.code.policy.RLConfig.bc_anchor_weight}
        added = {name: further[name] for name in further.keys() & inspect.signature(step).parameters.keys()}
        return super().loss_of(step, **added | options)
