"""Operations of training and checkpoints: plans, gradients and losses by name, resumed runs, loaded checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.result_types import as_floats
from dreamer4_conformance.instruments.shared_results import same_bits, shared_result
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed
from dreamer4_reference.algorithm1_training import Phase

Plan = Sequence[Mapping[str, Any]]
"""One mapping per training step, as `Adapter.training_plan` returns it."""
RELEVANT = (True, False, False, True, False)
"""Kinds of the sequences of the batch that is judged, without a period: three uniform, two relevant."""
DATA = (11, 12, 13, 14, 15)
"""Contents of the sequences of that batch."""


def training_plan(subject: Subject, seed: int, steps: int) -> Plan:
    """The adapter's training plan.

    Raises:
        OperationFailed: if the result is not a sequence of `steps` mappings.
    """
    plan = subject.call("training_plan", seed, steps, seeded=seed)
    if isinstance(plan, Mapping | str) or not isinstance(plan, Sequence):
        raise OperationFailed(f"training_plan returned {type(plan).__name__}; it needs a list of dicts, one each step")
    if len(plan) != steps or not all(isinstance(step, Mapping) for step in plan):
        kinds = sorted({type(step).__name__ for step in plan})
        raise OperationFailed(f"training_plan returned {len(plan)} of {kinds}; it needs {steps} dicts, one each step")
    return plan


def batch_lengths(subject: Subject, plan: Plan) -> np.ndarray:
    """Frames of each batch, int (steps,).

    Raises:
        Inconclusive: if the plan omits them.
        OperationFailed: if they are not positive integers.
    """
    if not all("length" in step for step in plan):
        raise Inconclusive("training_plan leaves 'length' out")
    frames = np.array([subject.read("training_plan: length", step["length"], ()) for step in plan])
    if frames.dtype.kind not in "iu" or (frames < 1).any():
        raise OperationFailed(
            f"training_plan: 'length' is {frames.min()} of {frames.dtype}; it needs whole numbers ≥ 1"
        )
    return frames


def marked_sequences(subject: Subject, plan: Plan, key: str) -> list[np.ndarray]:
    """Flags "image" or "relevant" of the sequences of each batch that has them, bool (B,).

    Raises:
        Inconclusive: if the plan omits them.
        OperationFailed: if they are not boolean vectors.
    """
    present = [step[key] for step in plan if key in step]
    if not present:
        raise Inconclusive(f"training_plan leaves {key!r} out")
    rows = [subject.read(f"training_plan: {key}", np.asarray(flags)) for flags in present]
    for row in rows:
        if row.ndim != 1 or row.dtype != bool:
            raise OperationFailed(f"training_plan: {key!r} is {row.dtype} of shape {row.shape}; it needs bool (B,)")
    return [row for row in rows if row.size]


def components_with_gradient(
    subject: Subject, phase: Phase, seed: int, terms: Sequence[str] | None = None
) -> tuple[dict[str, bool], str]:
    """Determine which components of the model have a gradient that is not zero.

    Returns:
        Component → whether it has one, and the call as Python.

    Raises:
        OperationFailed: if the result is not a mapping of arrays.
    """
    gradients, call = component_gradients(subject, phase, seed, terms)
    return {name: any(_nonzero(subject, x) for x in gradient_arrays(value)) for name, value in gradients.items()}, call


def component_gradients(
    subject: Subject, phase: Phase, seed: int, terms: Sequence[str] | None = None
) -> tuple[dict[str, Any], str]:
    """Gradients of the components as the adapter returns them, shared by equal calls, and the call as Python.

    Raises:
        OperationFailed: if the result is not a mapping.
    """
    arguments = (phase, seed) if terms is None else (phase, seed, list(terms))
    call = f"training_gradients({', '.join(map(repr, arguments))})"

    def evaluate() -> dict[str, Any]:
        gradients = subject.call("training_gradients", *arguments, seeded=seed)
        if not isinstance(gradients, Mapping):
            raise OperationFailed(
                f"training_gradients returned {type(gradients).__name__}; it needs a dict by component", call=call
            )
        return {str(name): value for name, value in gradients.items()}

    def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
        return first.keys() == second.keys() and all(
            same_bits(_read_gradients(subject, first[name]), _read_gradients(subject, second[name])) for name in first
        )

    return shared_result(subject, "training_gradients", call, evaluate, same)[0], call


def gradient_arrays(value: Any) -> list[Any]:
    """Gradients of one component as a list, without those that are None."""
    return [x for x in (value if isinstance(value, list | tuple) else [value]) if x is not None]


def _read_gradients(subject: Subject, value: Any) -> np.ndarray:
    """All gradients of one component in one vector."""
    arrays = [subject.read("training_gradients", x).ravel() for x in gradient_arrays(value)]
    return np.concatenate(arrays) if arrays else np.zeros(0)


def _nonzero(subject: Subject, gradient: Any) -> bool:
    return bool((as_floats("training_gradients", subject.read("training_gradients", gradient)) != 0).any())


def agent_losses(subject: Subject, seed: int, data: Sequence[int]) -> tuple[dict[str, float], str]:
    """Loss terms of agent finetuning on `RELEVANT` without those that are None, shared by equal calls, and the call.

    Raises:
        OperationFailed: if the result is not a mapping of scalars.
    """
    call = f"agent_losses({seed}, {list(data)}, {list(RELEVANT)})"

    def evaluate() -> dict[str, float]:
        terms = subject.call("agent_losses", seed, list(data), list(RELEVANT), seeded=seed)
        if not isinstance(terms, Mapping):
            raise OperationFailed(f"agent_losses returned {type(terms).__name__}; it needs a dict of terms", call=call)
        present = {name: value for name, value in terms.items() if value is not None}
        losses = {name: subject.read(f"agent_losses: {name}", value, ()) for name, value in present.items()}
        return {name: float(as_floats(f"agent_losses: {name}", value)) for name, value in losses.items()}

    return shared_result(subject, "agent_losses", call, evaluate, dict.__eq__)[0], call


def final_state(subject: Subject, steps: int, interruption: int | None) -> dict[str, np.ndarray]:
    """Final state of a run, float64 arrays by name; `interruption` is the argument `at` of `Adapter.resume`.

    Raises:
        OperationFailed: if the result is not a non-empty mapping of arrays.
    """
    state = subject.call("resume", 0, steps, interruption, seeded=0)
    if not isinstance(state, Mapping) or not state:
        raise OperationFailed(f"resume returned {type(state).__name__}; it needs a dict of arrays, one at least")
    return {str(name): subject.read(f"resume: {name}", x).astype(np.float64) for name, x in state.items()}


@dataclass(frozen=True)
class LoadedCheckpoint:
    """Keys that loading reported, the model's parameters afterwards, and the call as Python."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    parameters: Mapping[str, np.ndarray]
    call: str


def load_checkpoint(subject: Subject, removed: str | None = None, added: str | None = None) -> LoadedCheckpoint:
    """Load a checkpoint through `Adapter.load_checkpoint`.

    Raises:
        OperationFailed: if the result lacks a key or has no parameters.
    """
    call = f"load_checkpoint({removed!r}, {added!r})"
    loaded = subject.call("load_checkpoint", removed, added)
    if not isinstance(loaded, Mapping) or not {"missing", "unexpected", "parameters"} <= set(loaded):
        kind = sorted(map(str, loaded)) if isinstance(loaded, Mapping) else type(loaded).__name__
        raise OperationFailed(
            f"load_checkpoint returned {kind}; it needs missing, unexpected and parameters", call=call
        )
    parameters = loaded["parameters"]
    if not isinstance(parameters, Mapping) or not parameters:
        raise OperationFailed(f"load_checkpoint: parameters is {type(parameters).__name__}; it needs arrays by name")
    missing, unexpected = (tuple(map(str, loaded[key])) for key in ("missing", "unexpected"))
    arrays = {str(name): subject.read(f"load_checkpoint: {name}", x) for name, x in parameters.items()}
    return LoadedCheckpoint(missing, unexpected, arrays, call)
