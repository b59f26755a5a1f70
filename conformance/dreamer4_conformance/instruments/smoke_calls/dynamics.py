"""Smoke calls of the dynamics model, its tokens, its masks and its cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dreamer4_conformance.instruments.black_box import example_inputs, run_black_box
from dreamer4_conformance.instruments.dynamics import adapter_mask, frame_mask, mouse_classes
from dreamer4_conformance.instruments.result_types import as_floats, as_mapping, as_shape
from dreamer4_conformance.instruments.smoke_calls.case import CHANNELS, TOKENS, SmokeCall, SmokeCase
from dreamer4_conformance.instruments.stepwise import rollout_frames, unroll
from dreamer4_conformance.verdicts import NotProvided, OperationFailed


def _example(case: SmokeCase) -> None:
    example = as_mapping("example", case.subject.call("example", 0, case.batch, case.time, seeded=0))
    for name in ("tau", "d"):
        if example.get(name) is not None:
            x = case.subject.read(f"example: {name}", example[name], (case.batch, case.time))
            as_floats(f"example: {name}", x)
            if not ((x >= 0) & (x <= 1)).all():
                raise OperationFailed(f"example: {name} lies in {x.min():g} … {x.max():g}; it needs numbers in [0, 1]")


def _dynamics(case: SmokeCase) -> None:
    # A clause judges the number of tokens of z_hat.
    inputs = case.example("dynamics")
    z_hat = _outputs("dynamics", case, run_black_box(case.subject, "dynamics", inputs), case.time)
    as_shape("dynamics: z_hat", z_hat, (case.batch, case.time, None, inputs["z"].shape[-1]))


def _dynamics_step(case: SmokeCase) -> None:
    _outputs("dynamics_step", case, unroll(case.subject, case.example("dynamics"), 1), 1)


def _outputs(name: str, case: SmokeCase, outputs: dict[str, np.ndarray], time: int) -> np.ndarray:
    if "z_hat" not in outputs:
        raise OperationFailed(f"{name} returned None for z_hat; it needs ({case.batch}, {time}, S, D)")
    for output, x in outputs.items():
        as_floats(f"{name}: {output}", x)
        if x.shape[1] != time:
            raise OperationFailed(f"{name}: {output} has shape {x.shape}; it needs ({case.batch}, {time}, …)")
    return outputs["z_hat"]


def _rollout(case: SmokeCase) -> None:
    inputs = example_inputs(case.subject, "rollout", 0, case.batch, case.time + 1)
    for cache in (False, True):
        z = rollout_frames(case.subject, inputs, case.time, seed=0, cache=cache, num_steps=min(4, case.subject.k_max))
        as_floats("rollout", as_shape("rollout", z, (case.batch, 1, *inputs["z"].shape[2:])))


def _label_token(case: SmokeCase) -> None:
    tau, d = case.grid()
    token = case.subject.compute("label_token", case.subject.level(tau), d)
    as_floats("label_token", as_shape("label_token", token, (case.batch, case.time, None)))


def _action_tokens(case: SmokeCase) -> None:
    components = [case.frames(), -case.frames()]
    labelled = np.arange(case.batch) % 2 == 0
    tokens = case.subject.compute("action_tokens", components, case.normal(TOKENS, CHANNELS), labelled)
    as_floats("action_tokens", as_shape("action_tokens", tokens, (case.batch, case.time, TOKENS, CHANNELS)))


def _modality_mask(case: SmokeCase) -> None:
    modality, frame = ["latent", "image", "latent", "image"], np.array([0, 0, 1, 1])
    _masks(lambda kind: adapter_mask(case.subject, kind, modality, frame))


def _space_mask(case: SmokeCase) -> None:
    _masks(lambda kind: frame_mask(case.subject, kind, ["latent", "image", "image"]))


def _masks(mask: Callable[[str], np.ndarray]) -> None:
    """Call the mask of encoder and decoder; a kind that the model does not have may raise ValueError."""
    for kind in ("encoder", "decoder"):
        try:
            mask(kind)
        except NotProvided:
            continue
        except OperationFailed as failed:
            if not isinstance(failed.__cause__, ValueError):
                raise


CALLS: dict[str, SmokeCall] = {
    "example": _example,
    "dynamics": _dynamics,
    "dynamics_step": _dynamics_step,
    "rollout": _rollout,
    "label_token": _label_token,
    "action_tokens": _action_tokens,
    "mouse_class": lambda case: mouse_classes(case.subject, case.normal(case.batch, 2)),
    "modality_mask": _modality_mask,
    "space_mask": _space_mask,
}
