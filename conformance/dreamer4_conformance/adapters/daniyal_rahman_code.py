"""The unmodified code of daniyal-rahman/ahriuwu at one commit."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from dreamer4_conformance.adapter import TorchAdapter
from dreamer4_conformance.adapters.peers import checkout, git_blob, visiting

PROJECT = "daniyal-rahman/ahriuwu"
SOURCE = "src/ahriuwu/models/diffusion.py"
"""The file whose blob hash identifies a state."""
STUBS: Mapping[str, Mapping[str, Any]] = {
    "torchvision": {"models": SimpleNamespace()},
    "PIL": {"Image": None},
    "ahriuwu.data": {"LatentSequenceDataset": None},
    "ahriuwu.data.dataset": {"VideoGroupedSampler": None},
    "ahriuwu.data.replay_dataset": {"STATE_TARGETS": ()},
}
"""Attributes that their imports need for a perceptual loss, pictures and data, which are not used here."""
MODULES = ("diffusion", "dynamics", "layers", "returns", "heads", "transformer_tokenizer", "losses")
SCRIPTS = ("eval_dynamics", "train_imagination", "train_agent_finetune")


@cache
def modules(commit: str) -> SimpleNamespace:
    """Those of `MODULES` and `SCRIPTS` that a state has and that are called here, as attributes."""
    root = checkout(f"{PROJECT}@{commit}")
    package = root / "src" / "ahriuwu" / "models"
    scripts = ["eval_dynamics"] if not (root / "scripts" / "train_imagination.py").is_file() else list(SCRIPTS)
    names = {name: f"ahriuwu.models.{name}" for name in MODULES if (package / f"{name}.py").is_file()}
    with visiting(root / "src", STUBS), visiting(root / "scripts"):
        loaded = {name: importlib.import_module(names.get(name, name)) for name in (*names, *scripts)}
    return SimpleNamespace(**loaded)


class State(TorchAdapter):
    """An adapter of one state.

    Attributes:
        commit: abbreviated.
        blob: Git's hash of `SOURCE` at that commit.
    """

    commit: str
    blob: str

    def __init__(self) -> None:
        """Raises FileNotFoundError if there is no checkout."""
        self.code = modules(self.commit)
        blob = git_blob(checkout(f"{PROJECT}@{self.commit}") / SOURCE)
        self.version = self.commit if blob == self.blob else f"with {SOURCE} {blob[:7]}"
