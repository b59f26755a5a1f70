"""Smoke calls of training plans, gradients, checkpoints and constants."""

from __future__ import annotations

from dreamer4_conformance.instruments.black_box import run_black_box
from dreamer4_conformance.instruments.result_types import as_floats, as_mapping
from dreamer4_conformance.instruments.smoke_calls.case import SmokeCall, SmokeCase
from dreamer4_conformance.instruments.training import (
    DATA,
    agent_losses,
    batch_lengths,
    component_gradients,
    final_state,
    gradient_arrays,
    load_checkpoint,
    marked_sequences,
    training_plan,
)
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed


def _training_plan(case: SmokeCase) -> None:
    planned = training_plan(case.subject, 0, 8)
    for key in ("length", "image", "relevant"):
        try:
            batch_lengths(case.subject, planned) if key == "length" else marked_sequences(case.subject, planned, key)
        except Inconclusive:
            continue


def _image_dynamics(case: SmokeCase) -> None:
    inputs = case.example("image_dynamics")
    z_hat = as_floats("image_dynamics", run_black_box(case.subject, "image_dynamics", inputs)["z_hat"])
    if z_hat.shape != inputs["z"].shape:
        raise OperationFailed(f"image_dynamics returned shape {z_hat.shape}; it needs {inputs['z'].shape}")


def _training_gradients(case: SmokeCase) -> None:
    returned, _ = component_gradients(case.subject, "dynamics", 0)
    for component, value in returned.items():
        for gradient in gradient_arrays(value):
            as_floats(f"training_gradients: {component}", case.subject.read("training_gradients", gradient))


def _agent_losses(case: SmokeCase) -> None:
    agent_losses(case.subject, 0, DATA)


def _resume(case: SmokeCase) -> None:
    for name, x in final_state(case.subject, 1, None).items():
        as_floats(f"resume: {name}", x)


def _load_checkpoint(case: SmokeCase) -> None:
    for name, x in load_checkpoint(case.subject).parameters.items():
        as_floats(f"load_checkpoint: {name}", x)


def _constants(case: SmokeCase) -> None:
    for key, value in as_mapping("constants", case.subject.call("constants")).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OperationFailed(f"constants: {key!r} is {value!r}; it needs a number")


CALLS: dict[str, SmokeCall] = {
    "training_plan": _training_plan,
    "image_dynamics": _image_dynamics,
    "training_gradients": _training_gradients,
    "agent_losses": _agent_losses,
    "resume": _resume,
    "load_checkpoint": _load_checkpoint,
    "constants": _constants,
}
