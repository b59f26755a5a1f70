"""Operations of training and of checkpoints: plans, gradients and losses by name, resumed runs, loaded checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed
from dreamer4_reference.algorithm1_training import Phase

Plan = Sequence[Mapping[str, Any]]


def training_plan(subject: Subject, seed: int, steps: int) -> Plan:
    """One mapping for each step. OperationFailed where it is anything else."""
    found = subject.call("training_plan", seed, steps, seeded=seed)
    if isinstance(found, Mapping | str) or not isinstance(found, Sequence):
        raise OperationFailed(f"training_plan returned {type(found).__name__}; it needs a list of dicts, one each step")
    if len(found) != steps or not all(isinstance(step, Mapping) for step in found):
        kinds = sorted({type(step).__name__ for step in found})
        raise OperationFailed(f"training_plan returned {len(found)} of {kinds}; it needs {steps} dicts, one each step")
    return found


def batch_lengths(subject: Subject, planned: Plan) -> np.ndarray:
    """Frames of every batch, int (steps,)."""
    if not all("length" in step for step in planned):
        raise Inconclusive("training_plan leaves 'length' out")
    found = np.array([subject.read("training_plan: length", step["length"], ()) for step in planned])
    if found.dtype.kind not in "iu" or (found < 1).any():
        raise OperationFailed(f"training_plan: 'length' is {found.min()} of {found.dtype}; it needs whole numbers ≥ 1")
    return found


def marked_sequences(subject: Subject, planned: Plan, key: str) -> list[np.ndarray]:
    """Which sequences of every batch are marked, bool (B,) each."""
    if not any(key in step for step in planned):
        raise Inconclusive(f"training_plan leaves {key!r} out")
    found = [subject.read(f"training_plan: {key}", np.asarray(step[key])) if key in step else None for step in planned]
    rows = [np.zeros(0, bool) if row is None else row for row in found]
    for row in rows:
        if row.ndim != 1 or row.dtype != bool:
            raise OperationFailed(f"training_plan: {key!r} is {row.dtype} of shape {row.shape}; it needs bool (B,)")
    return [row for row in rows if row.size]


RELEVANT = (False, True, False, True)
"""The batch that is judged: two uniform, two relevant sequences."""


def components_with_gradient(
    subject: Subject, phase: Phase, seed: int, terms: Sequence[str] | None = None
) -> tuple[dict[str, bool], str]:
    """Whether each part gets a gradient that is not zero, and the call. OperationFailed where the answer cannot be read."""
    given = () if terms is None else (list(terms),)
    call = f"training_gradients({', '.join(map(repr, (phase, seed, *given)))})"
    found = subject.call("training_gradients", phase, seed, *given, seeded=seed)
    if not isinstance(found, Mapping):
        raise OperationFailed(f"training_gradients returned {type(found).__name__}; it needs a dict by part", call=call)
    return {str(part): any(_nonzero(subject, x) for x in gradient_arrays(value)) for part, value in found.items()}, call


def gradient_arrays(value: Any) -> list[Any]:
    """The gradients of one part, those that are there."""
    return [x for x in (value if isinstance(value, list | tuple) else [value]) if x is not None]


def _nonzero(subject: Subject, gradient: Any) -> bool:
    return bool((subject.read("training_gradients", gradient) != 0).any())


def agent_losses(subject: Subject, seed: int, data: Sequence[int]) -> tuple[dict[str, float], str]:
    """The terms of agent finetuning on `RELEVANT`, those that are there, and the call."""
    call = f"agent_losses({seed}, {list(data)}, {list(RELEVANT)})"
    found = subject.call("agent_losses", seed, list(data), list(RELEVANT), seeded=seed)
    if not isinstance(found, Mapping):
        raise OperationFailed(f"agent_losses returned {type(found).__name__}; it needs a dict of terms", call=call)
    there = {name: value for name, value in found.items() if value is not None}
    return {name: float(subject.read(f"agent_losses: {name}", value, ())) for name, value in there.items()}, call


DATA = (11, 12, 13, 14)


def final_state(subject: Subject, steps: int, at: int | None) -> dict[str, np.ndarray]:
    """What a run ends with. OperationFailed where it holds no arrays."""
    found = subject.call("resume", 0, steps, at, seeded=0)
    if not isinstance(found, Mapping) or not found:
        raise OperationFailed(f"resume returned {type(found).__name__}; it needs a dict of arrays, one at least")
    return {str(name): subject.read(f"resume: {name}", x).astype(np.float64) for name, x in found.items()}


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What loading said, and what the model then holds."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    parameters: Mapping[str, np.ndarray]
    call: str


def load_checkpoint(subject: Subject, removed: str | None = None, added: str | None = None) -> LoadedCheckpoint:
    """One checkpoint loaded. OperationFailed where the report cannot be read."""
    call = f"load_checkpoint({removed!r}, {added!r})"
    found = subject.call("load_checkpoint", removed, added)
    if not isinstance(found, Mapping) or not {"missing", "unexpected", "parameters"} <= set(found):
        seen = sorted(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise OperationFailed(
            f"load_checkpoint returned {seen}; it needs missing, unexpected and parameters", call=call
        )
    parameters = found["parameters"]
    if not isinstance(parameters, Mapping) or not parameters:
        raise OperationFailed(f"load_checkpoint: parameters is {type(parameters).__name__}; it needs arrays by name")
    missing, unexpected = (tuple(map(str, found[key])) for key in ("missing", "unexpected"))
    read = {str(name): subject.read(f"load_checkpoint: {name}", x) for name, x in parameters.items()}
    return LoadedCheckpoint(missing, unexpected, read, call)
