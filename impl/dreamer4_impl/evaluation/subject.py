"""The evaluated model: loaded from a run or a checkpoint of any age, with the list of its untrained components."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, load_model, load_weights, locate, read
from dreamer4_impl.checkpoints.header import CheckpointError
from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.checkpoints.settings import Data
from dreamer4_impl.equations.eq11_pmpo import frozen_prior
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead

#: Trained components of the model, by phase of the checkpoint.
_TRAINED: Final[Mapping[str, tuple[str, ...]]] = {
    "tokenizer": ("tokenizer",),
    "dynamics": ("tokenizer", "dynamics"),
    "agent": ("tokenizer", "dynamics", "agent"),
    "imagine": ("tokenizer", "dynamics", "agent"),
}


@dataclass(frozen=True)
class Subject:
    """Model with the metadata of its checkpoint.

    Args:
        model: model on its device.
        prior: behaviour-cloned policy head, if the checkpoint of the phase `imagine` has one.
        absent: untrained components ("tokenizer", "dynamics", "agent"), each with a reason; see `evaluate`.
        data: data options of training, or the defaults.
        imagine: imagination options of training, or the defaults.
        facts: entry "checkpoint" of evaluation.json.
    """

    model: Dreamer4
    prior: PolicyHead | None
    absent: dict[str, str]
    data: Data
    imagine: ImagineOptions
    facts: dict[str, Any]


def load_subject(path: Path | str, device: torch.device | str) -> Subject:
    """Load the newest intact checkpoint of a run, or a given checkpoint.

    Parameters that the checkpoint lacks keep their initial values; `facts` lists them, and a component without any
    parameter is absent.

    Args:
        path: directory of a run or of a checkpoint.
        device: device of the model.

    Returns:
        The model and its metadata.

    Raises:
        CheckpointError: if there is no checkpoint that can be read.
    """
    directory = locate(Path(path))
    model, report = load_model(directory)
    try:
        checkpoint = read(directory)
    except CheckpointError:  # a configuration that is no longer supported; the weights alone suffice
        checkpoint = None
    phase = checkpoint.settings.phase if checkpoint else "unknown"
    facts = {
        "path": str(directory),
        "phase": phase,
        "step": checkpoint.step if checkpoint else None,
        "missing": list(report.missing),
        "unexpected": list(report.unexpected),
    }
    prior = _prior(model, checkpoint)
    return Subject(
        model.to(device),
        None if prior is None else prior.to(device),
        _absent(model, phase, report.missing),
        checkpoint.settings.data if checkpoint else Data(),
        checkpoint.settings.imagine if checkpoint else ImagineOptions(),
        {"checkpoint": facts},
    )


def _absent(model: Dreamer4, phase: str, missing: tuple[str, ...]) -> dict[str, str]:
    absent = {}
    for component in ("tokenizer", "dynamics", "agent"):
        names = [name for name in model.state_dict() if name.startswith(f"{component}.")]
        if not names:
            absent[component] = f"the model has no {component}"
        elif set(names) <= set(missing):
            absent[component] = f"the checkpoint has no weights of the {component}"
        elif component == "agent" and set(names) & set(missing):
            absent[component] = "the checkpoint lacks weights of the agent, like a small export for play"
        elif component not in _TRAINED.get(phase, (component,)):
            absent[component] = f"the checkpoint is of the phase {phase}, before the {component} is trained"
    return absent


def _prior(model: Dreamer4, checkpoint: Checkpoint | None) -> PolicyHead | None:
    """Load the frozen prior that the phase `imagine` stores with its state."""
    weights = checkpoint.state.get("companions", {}).get("prior") if checkpoint else None
    if weights is None or model.agent is None:
        return None
    prior = frozen_prior(model.agent.policy)
    assert isinstance(prior, PolicyHead)
    load_weights(prior, weights, where="the prior of the checkpoint")
    return prior
