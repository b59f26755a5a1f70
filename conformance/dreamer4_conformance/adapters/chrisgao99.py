"""Adapter of chrisgao99/dreamer4 at 1d244d5 (MIT), a checkout at `$DREAMER4_PEERS/chrisgao99/dreamer4@1d244d5`.

A fork of nicklashansen/dreamer4 for traffic scenes. `waymo/training/world_model/train_waymo_world_model.py` has a loss
and a sampler of its own, which are judged here with its defaults; the networks are those of the fork's `model.py`.
Readings as of the origin (A2, A9, A25), with another share of rows at d_min: 1/7, that of one step size of seven. The
world model has no agent tokens. Its tokenizer of traffic scenes takes no video, so the one judged is the origin's.
`tf_onestep_loss` is another objective and not judged.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from types import ModuleType

from torch import Tensor

from dreamer4_conformance.adapter import Network
from dreamer4_conformance.adapters.nicklashansen import NicklasHansen
from dreamer4_conformance.adapters.peers import checkout, git_blob, visiting

PROJECT, COMMIT = "chrisgao99/dreamer4", "1d244d5"
TRAINING, ITS_LOSS = "waymo/training/world_model", "05dc09ee4b1b484aa5947a486d081bad9904a6cd"
"""The folder of its training script, and the script's blob hash at that commit."""
SELF_FRACTION = 0.857142857
"""Their default share of rows above d_min."""
STUBS = {
    "focus_agent_tokenizer": dict.fromkeys(("FocusAgentTokenizer", "FocusTokenizerOutput", "focus_tokenizer_loss")),
    "vector_tokenizer_encoder": dict.fromkeys(("VectorBlockCausalEncoder", "VectorStaticMapQueryEncoder", "_collate")),
    "vector_tokenizer_decoder": dict.fromkeys(
        ("VectorBlockCausalTokenizerDecoder", "VectorDecoderOutput", "vector_tokenizer_reconstruction_loss")
    ),
    "waymo_vector_dataset": {"WaymoVectorDataset": None},
}
"""Names that their import needs for the tokenizer of traffic scenes and its data, which are not used here."""


@cache
def modules() -> tuple[ModuleType, ModuleType]:
    """Their training script and the module of their networks."""
    root = checkout(f"{PROJECT}@{COMMIT}")
    with visiting(root / "dreamer4"), visiting(root / TRAINING, STUBS):
        return importlib.import_module("train_waymo_world_model"), importlib.import_module("model")


class ChrisGao99(NicklasHansen):
    """Eq. (2), (4), (6)-(8) and the dynamics, with the defaults of its command line."""

    name = PROJECT
    k_max = 64
    not_testable: Mapping[str, str] = {
        "corrupt": "inline in dynamics_pretrain_loss (train_waymo_world_model.py:600)",
        "ramp_weight": "inline in dynamics_pretrain_loss (train_waymo_world_model.py:603)",
        "dynamics_loss_at": "dynamics_pretrain_loss draws levels and noise itself (train_waymo_world_model.py:590)",
    }
    d_min_share = 1 - SELF_FRACTION
    min_batch = 7  # smaller batches have another share of rows at d_min, by rounding
    time_every = 4
    agents = 0

    def __init__(self) -> None:
        """Raises FileNotFoundError if there is no checkout."""
        self.code, self.model = modules()
        blob = git_blob(checkout(f"{PROJECT}@{COMMIT}") / TRAINING / "train_waymo_world_model.py")
        self.version = COMMIT if blob == ITS_LOSS else f"with train_waymo_world_model.py {blob[:7]}"

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor | None, seed: int) -> Tensor:
        """Their loss."""
        loss: Tensor = self.code.dynamics_pretrain_loss(
            self._model(network),
            z1=z1,
            actions=actions,
            act_mask=None,
            k_max=self.k_max,
            b_self=round(len(z1) * SELF_FRACTION),  # as their training loop computes it
            step=0,
            bootstrap_start=0,
        )[0]
        return loss

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        """One frame, without the cropping to a window."""
        frame: Tensor = self.code.sample_one_timestep_packed(
            self._model(network),
            past_packed=context,
            actions_seq=actions,
            act_mask_seq=None,
            map_tokens=None,
            map_mask=None,
            k_max=self.k_max,
            sched=self.code.make_tau_schedule(k_max=self.k_max, schedule="shortcut", d=1 / num_steps),
            max_rollout_window=0,
        )
        return frame
