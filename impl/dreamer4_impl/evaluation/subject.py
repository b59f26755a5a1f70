"""What is evaluated: the model of a run or checkpoint, however old, and what of it is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, CheckpointError, load_model, load_weights, locate, read
from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.checkpoints.settings import Data
from dreamer4_impl.equations.eq11_pmpo import frozen_prior
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead

#: Parts of the model that a checkpoint of each phase has trained.
_TRAINED: Final[Mapping[str, tuple[str, ...]]] = {
    "tokenizer": ("tokenizer",),
    "dynamics": ("tokenizer", "dynamics"),
    "agent": ("tokenizer", "dynamics", "agent"),
    "imagine": ("tokenizer", "dynamics", "agent"),
}


@dataclass(frozen=True)
class Subject:
    """A model and what is known of it.

    Args:
        model: on its device, in evaluation mode.
        prior: the behaviour-cloned policy head, where the checkpoint holds it beside the policy.
        absent: parts that are not trained, each with a sentence; `evaluate` leaves out what needs them.
        data: what it was trained on, or the defaults.
        imagine: how the agent imagined in training, or the defaults.
        facts: about the checkpoint, for evaluation.json.
    """

    model: Dreamer4
    prior: PolicyHead | None
    absent: dict[str, str]
    data: Data
    imagine: ImagineOptions
    facts: dict[str, Any]


def load_subject(path: Path | str, device: torch.device | str) -> Subject:
    """The newest good checkpoint of a run, or this one.

    Parameters that it lacks stay at their start; `facts` names them, and a part without a single one is absent.
    """
    place = locate(Path(path))
    model, report = load_model(place)
    try:
        checkpoint = read(place)
    except CheckpointError:  # of a configuration that this program no longer reads; the weights speak for themselves
        checkpoint = None
    phase = checkpoint.settings.phase if checkpoint else "unknown"
    facts = {
        "path": str(place),
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
    found = {}
    for part in ("tokenizer", "dynamics", "agent"):
        names = [name for name in model.state_dict() if name.startswith(f"{part}.")]
        if not names:
            found[part] = f"the model has no {part}"
        elif set(names) <= set(missing):
            found[part] = f"the checkpoint holds nothing of the {part}"
        elif part not in _TRAINED.get(phase, (part,)):
            found[part] = f"the checkpoint is of the phase {phase}, before the {part} is trained"
    return found


def _prior(model: Dreamer4, checkpoint: Checkpoint | None) -> PolicyHead | None:
    """The companion of the phase imagine."""
    weights = checkpoint.state.get("companions", {}).get("prior") if checkpoint else None
    if weights is None or model.agent is None:
        return None
    prior = frozen_prior(model.agent.policy)
    assert isinstance(prior, PolicyHead)
    load_weights(prior, weights, where="the prior of the checkpoint")
    return prior
