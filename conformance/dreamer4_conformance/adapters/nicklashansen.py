"""Adapter of nicklashansen/dreamer4, a checkout at `$DREAMER4_PEERS/nicklashansen/dreamer4`.

Its training loss and its sampler take any callable as the model, so both are called unchanged. `not_testable` lists
what cannot be called separately. There are no rewards, no policy and no value.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from dreamer4_conformance.adapter import Network
from dreamer4_conformance.adapters.nicklashansen_model import NicklasHansenModel
from dreamer4_conformance.adapters.peers import checkout, git_blob, visiting

PROJECT = "nicklashansen/dreamer4"
COMMIT, ITS_LOSS = "bdeddfe2058c1025344424d1dbcdb743d9228fc9", "639ab62ef499811fa5d0e57964378a5b9d58b53f"
"""The commit that this adapter was written for, and the blob hash of its train_dynamics.py."""
SELF_FRACTION = 0.25
"""Their default share of rows above d_min."""


@cache
def train_dynamics() -> ModuleType:
    """Their module. It switches TF32 on when imported, and imports wandb, which is not used here."""
    with visiting(checkout(PROJECT) / "dreamer4", stubs={"wandb": {}}):
        return importlib.import_module("train_dynamics")


@cache
def model() -> ModuleType:
    """The module of their networks."""
    with visiting(checkout(PROJECT) / "dreamer4"):
        return importlib.import_module("model")


class NicklasHansen(NicklasHansenModel):
    """Eq. (2), (4), (6)-(8) and the networks, with the defaults of their command line."""

    name = PROJECT
    level = "signal"
    k_max = 8
    # Rows at d_min come first and rows above it last; context frames are clean; time attention is part of space layers.
    readings: Mapping[str, str] = {"A2": "split", "A9": "none", "A25": "adds"}
    not_testable: Mapping[str, str] = {
        "corrupt": "inline in dynamics_pretrain_loss (train_dynamics.py:219)",
        "ramp_weight": "inline in dynamics_pretrain_loss (train_dynamics.py:223)",
        "dynamics_loss_at": "dynamics_pretrain_loss draws levels and noise itself (train_dynamics.py:179)",
        "tokenizer_loss": "inline in the training loop (train_tokenizer.py:299)",
    }
    d_min_share = 1 - SELF_FRACTION
    min_batch = 3  # smaller batches have no row above d_min, by rounding
    dtypes = ("float32", "bfloat16")  # the loss is computed in float32, whatever the input

    def __init__(self) -> None:
        """Raises FileNotFoundError if there is no checkout."""
        self.code, self.model = train_dynamics(), model()
        blob = git_blob(checkout(PROJECT) / "dreamer4" / "train_dynamics.py")
        self.version = COMMIT[:7] if blob == ITS_LOSS else f"with train_dynamics.py {blob[:7]}"

    def _model(self, network: Network) -> Callable[..., tuple[Tensor, None]]:
        """Wraps the network as their code expects a model: labels as indices, and a second output for agent tokens."""

        def model(
            actions: Tensor | None, step_index: Tensor, signal_index: Tensor, z: Tensor, **_: object
        ) -> tuple[Tensor, None]:
            return network(z, signal_index / self.k_max, 1 / (1 << step_index), actions), None

        return model

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor | None, seed: int) -> Tensor:
        """Their loss after its warm-up, during which rows above d_min have no weight."""
        rows = len(z1)
        bootstrap = max(0, min(rows - 1, round(SELF_FRACTION * rows)))  # as their training loop computes it
        loss: Tensor = self.code.dynamics_pretrain_loss(
            self._model(network),
            z1=z1,
            actions=actions,
            act_mask=None,
            k_max=self.k_max,
            B_self=bootstrap,
            step=0,
            bootstrap_start=0,
        )[0]
        return loss

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        """Labels of the first call of their loss."""
        labels: list[tuple[Tensor, Tensor]] = []

        def network(z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None) -> Tensor:
            labels.append((tau, d))
            return z

        self.dynamics_loss(network, torch.zeros(batch, time, 1, 1, device=self.device), None, seed)
        return labels[0]

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        """One frame, without the cropping to a window that their interactive player adds."""
        schedule = self.code.make_tau_schedule(k_max=self.k_max, schedule="shortcut", d=1 / num_steps)
        frame: Tensor = self.code.sample_one_timestep_packed(
            self._model(network), past_packed=context, k_max=self.k_max, sched=schedule, actions=actions
        )
        return frame
