"""Smoke calls: each provided operation runs once on ordinary input and must return the documented shape and dtype.

An operation that fails for B ≠ T and for B = T fails its clauses; clauses judge failures at particular shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.attention_case import AttentionCase, outputs_by_backend
from dreamer4_conformance.instruments.black_box import Tree, example_inputs, run_black_box
from dreamer4_conformance.instruments.dynamics import adapter_mask, frame_mask, mouse_classes
from dreamer4_conformance.instruments.heads import declared_length, distances, prior_components
from dreamer4_conformance.instruments.imagination import imagined_trajectory
from dreamer4_conformance.instruments.inputs import ordinary_batch
from dreamer4_conformance.instruments.layers import layer_input, layer_output, named_layer, provided_kinds
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.result_types import as_floats, as_mapping, as_pair, as_shape
from dreamer4_conformance.instruments.stepwise import rollout_frames, unroll
from dreamer4_conformance.instruments.subject import Draw, Subject
from dreamer4_conformance.instruments.tokenizer import (
    DYNAMICS_SHAPE,
    dropout_masks,
    frame_grid,
    labelled_latents,
)
from dreamer4_conformance.instruments.training import (
    DATA,
    RELEVANT,
    agent_losses,
    batch_lengths,
    components_with_gradient,
    final_state,
    gradient_arrays,
    load_checkpoint,
    marked_sequences,
    training_plan,
)
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, OperationFailed

TOKENS, CHANNELS, ACTIONS, CLASSES = 2, 3, 3, 4


@dataclass(frozen=True)
class SmokeCase:
    """Shapes and inputs of one round of smoke calls."""

    subject: Subject
    batch: int
    time: int

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal values, rounded to the adapter's dtype."""
        return self.subject.round(np.random.default_rng(sum(shape)).standard_normal(shape))

    def frames(self) -> np.ndarray:
        """Standard normal z (B, T, S, D)."""
        return self.normal(self.batch, self.time, TOKENS, CHANNELS)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """tau and d (B, T) on the grid of Eq. (4), in the middle of its range; d is constant along a sequence."""
        finest = int(np.log2(self.subject.k_max))
        exponent = np.broadcast_to(1 + np.arange(self.batch)[:, None] % max(finest, 1), (self.batch, self.time))
        steps = 2 ** np.minimum(exponent, finest)
        return (steps - 1) // 2 / steps, 1.0 / steps


def smoke_failure(subject: Subject, operation: str) -> Deviation | None:
    """Call an operation once on ordinary input; later calls of this function return the same result.

    Args:
        subject: the adapter to call.
        operation: name of the operation.

    Returns:
        Why it cannot be used; None if it can, or if the adapter does not provide it.
    """
    if operation not in subject.smoke_failures:
        subject.smoke_failures[operation] = _failure(subject, operation)
    return subject.smoke_failures[operation]


def _failure(subject: Subject, operation: str) -> Deviation | None:
    if operation not in SMOKE_CALLS or not subject.provides(operation):
        return None
    rows, frames = ordinary_batch(subject)
    batch = max(rows, subject.adapter.min_batch)
    time = max(frames + (batch == frames), subject.adapter.min_time)
    square = max(batch, subject.adapter.min_time)
    failure = _deviation(SMOKE_CALLS[operation], SmokeCase(subject, batch, time))
    if failure is None or _deviation(SMOKE_CALLS[operation], SmokeCase(subject, square, square)) is None:
        return None
    return failure


def _deviation(call: Callable[[SmokeCase], None], case: SmokeCase) -> Deviation | None:
    try:
        with np.errstate(all="ignore"), suppress(NotProvided, Inconclusive):
            call(case)
    except Deviation as deviation:
        return deviation
    return None


def _computes(
    operation: str, inputs: Callable[[SmokeCase], tuple[Any, ...]], *, scalar: bool = False
) -> Callable[[SmokeCase], None]:
    """Smoke call of an operation whose result is a scalar or has the shape of the first input."""

    def call(case: SmokeCase) -> None:
        values = inputs(case)
        as_floats(operation, case.subject.compute(operation, *values, shape=() if scalar else values[0].shape))

    return call


# Attention, its norms and its rotation

HEADS, WIDTH = 2, 8


def _queries_and_keys(case: SmokeCase) -> tuple[np.ndarray, np.ndarray]:
    q = case.normal(case.batch, case.time, HEADS, WIDTH)
    return q, q[::-1].copy()


def _attention(case: SmokeCase) -> None:
    q, k = _queries_and_keys(case)
    for backend, out in outputs_by_backend(case.subject, AttentionCase(q, k, q, causal=True)):
        as_floats("attention" if backend is None else f"attention with backend={backend!r}", out)


def _qk_norm(case: SmokeCase) -> None:
    q_and_k = _queries_and_keys(case)
    returned = as_pair("qk_norm", case.subject.call("qk_norm", *map(case.subject.native, q_and_k)), "q, k")
    for name, x, normalised in zip("qk", q_and_k, returned, strict=True):
        as_floats(f"qk_norm: {name}", case.subject.read(f"qk_norm: {name}", normalised, x.shape))


def _swiglu_inputs(case: SmokeCase) -> tuple[np.ndarray, ...]:
    width, hidden = CHANNELS, 5
    weights = case.normal(width, hidden), case.normal(hidden, width).T.copy(), case.normal(hidden, width)
    return case.frames(), *weights


# The dynamics


def _dynamics_inputs(case: SmokeCase) -> dict[str, Tree]:
    return example_inputs(case.subject, "dynamics", 0, case.batch, case.time)


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
    inputs = _dynamics_inputs(case)
    z_hat = _outputs("dynamics", case, run_black_box(case.subject, "dynamics", inputs), case.time)
    as_shape("dynamics: z_hat", z_hat, (case.batch, case.time, None, inputs["z"].shape[-1]))


def _dynamics_step(case: SmokeCase) -> None:
    _outputs("dynamics_step", case, unroll(case.subject, _dynamics_inputs(case), 1), 1)


def _outputs(name: str, case: SmokeCase, outputs: dict[str, np.ndarray], time: int) -> np.ndarray:
    if "z_hat" not in outputs:
        raise OperationFailed(f"{name} returned None for z_hat; it needs ({case.batch}, {time}, S, D)")
    for output, x in outputs.items():
        as_floats(f"{name}: {output}", x)
        if x.shape[1] != time:
            raise OperationFailed(f"{name}: {output} has shape {x.shape}; it needs ({case.batch}, {time}, …)")
    return outputs["z_hat"]


def _label_token(case: SmokeCase) -> None:
    tau, d = case.grid()
    token = case.subject.compute("label_token", case.subject.level(tau), d)
    as_floats("label_token", as_shape("label_token", token, (case.batch, case.time, None)))


def _action_tokens(case: SmokeCase) -> None:
    components = [case.frames(), -case.frames()]
    labelled = np.arange(case.batch) % 2 == 0
    tokens = case.subject.compute("action_tokens", components, case.normal(TOKENS, CHANNELS), labelled)
    as_floats("action_tokens", as_shape("action_tokens", tokens, (case.batch, case.time, TOKENS, CHANNELS)))


def _mtp_heads(case: SmokeCase) -> None:
    if not case.subject.provides("dynamics"):
        return
    agent = run_black_box(case.subject, "dynamics", _dynamics_inputs(case)).get("agent")
    if agent is not None:
        heads = case.subject.compute("mtp_heads", agent)
        as_floats("mtp_heads", as_shape("mtp_heads", heads, (case.batch, case.time, None, None)))


def _rollout(case: SmokeCase) -> None:
    inputs = example_inputs(case.subject, "rollout", 0, case.batch, case.time + 1)
    for cache in (False, True):
        z = rollout_frames(case.subject, inputs, case.time, seed=0, cache=cache, num_steps=min(4, case.subject.k_max))
        as_floats("rollout", as_shape("rollout", z, (case.batch, 1, *inputs["z"].shape[2:])))


# The equations


def _corrupt(case: SmokeCase) -> None:
    z0, z1 = case.frames(), case.frames()[::-1].copy()
    as_floats("corrupt", case.subject.corrupt(z0, z1, case.grid()[0]))


def _sample_tau_d(case: SmokeCase) -> None:
    drawn = case.subject.call("sample_tau_d", 0, case.batch, case.time, seeded=0)
    for name, x in zip(("tau", "d"), as_pair("sample_tau_d", drawn, "tau, d"), strict=True):
        as_floats(f"sample_tau_d: {name}", case.subject.read("sample_tau_d", x))
    _, d = case.subject.sample_tau_d(0, case.batch, case.time)
    if not ((d > 0) & (d <= 1)).all():
        raise OperationFailed(f"sample_tau_d returned d from {d.min():g} to {d.max():g}; it needs step sizes in (0, 1]")


def _ramp_weight(case: SmokeCase) -> None:
    as_floats("ramp_weight", case.subject.ramp_weight(case.grid()[0]))


def _loss(route: str, case: SmokeCase, *, finite: bool) -> None:
    tau, d = case.grid()
    z1 = case.frames()
    draw = Draw(z1, case.normal(case.batch, case.time, ACTIONS), 0, z1[::-1].copy(), tau, d)
    evaluation = case.subject.evaluate(route, AFFINE, draw)
    as_floats(route, evaluation.loss, finite=finite)
    if not evaluation.calls:
        raise OperationFailed(f"{route} never called the network; it needs to call `network` as its model")


def _sample_frame(case: SmokeCase) -> None:
    actions = case.normal(case.batch, case.time + 1, ACTIONS)
    sampled = case.subject.sample_frame(AFFINE, case.frames(), min(4, case.subject.k_max), 0, actions)
    as_floats("sample_frame", sampled.frame)
    if not sampled.calls:
        raise OperationFailed("sample_frame never called the network; it needs to call `network` as its model")


def _loss_normalizer(case: SmokeCase) -> None:
    normalizer = case.subject.call("loss_normalizer")
    if not callable(normalizer):
        raise OperationFailed(f"loss_normalizer returned {type(normalizer).__name__}; it needs n(name, value)")
    for value in (1.0, 0.5):
        native = case.subject.native(np.array(value))
        divided = case.subject.call_returned("loss_normalizer", normalizer, "mse", native)
        # Until the declared warm-up is over, the estimate may have any value.
        as_floats("loss_normalizer()", case.subject.read("loss_normalizer()", divided, ()), finite=False)


def _mtp_targets(case: SmokeCase) -> None:
    time = case.time + 12
    returned = case.subject.call("mtp_targets", case.subject.native(case.normal(case.batch, time)), 8)
    targets, valid = (case.subject.read("mtp_targets", x) for x in as_pair("mtp_targets", returned, "targets, valid"))
    as_shape("mtp_targets: targets", targets, (case.batch, time, None))
    as_shape("mtp_targets: valid", valid, targets.shape)
    if valid.dtype != bool:
        raise OperationFailed(f"mtp_targets: valid holds {valid.dtype} values; it needs booleans")


def _mtp_loss_inputs(case: SmokeCase) -> tuple[np.ndarray, np.ndarray]:
    time, ahead = case.time + 12, distances(case.subject, 8, "actions")
    valid = np.arange(time)[:, None] + np.array(ahead) < time
    log_prob = -np.abs(case.normal(case.batch, time, len(ahead)))
    return log_prob, np.broadcast_to(valid, log_prob.shape).copy()


def _mtp_loss_of_inputs(case: SmokeCase) -> tuple[np.ndarray, np.ndarray]:
    ahead = distances(case.subject, declared_length(case.subject) or 8, "actions")
    x = np.arange(case.batch * (case.time + 12)).reshape(case.batch, -1) % CLASSES
    return x, np.full((*x.shape, len(ahead), CLASSES), -np.log(CLASSES))


def _bins(case: SmokeCase) -> np.ndarray:
    return as_shape("twohot_bins", case.subject.compute("twohot_bins"), (None,))


def _number_of_bins(case: SmokeCase) -> int:
    if case.subject.provides("twohot_bins"):
        return len(_bins(case))
    if case.subject.provides("twohot_encode"):
        return int(case.subject.compute("twohot_encode", np.zeros(1)).shape[-1])
    raise NotProvided


def _twohot_bins(case: SmokeCase) -> None:
    bins = as_floats("twohot_bins", _bins(case))
    if len(bins) < 2 or not (np.diff(bins) > 0).all():
        raise OperationFailed(f"twohot_bins returned {len(bins)} values; it needs at least two, in ascending order")


def _twohot_encode(case: SmokeCase) -> None:
    bins = len(_bins(case)) if case.subject.provides("twohot_bins") else None
    encoded = case.subject.compute("twohot_encode", np.array([-0.5, 0.25, 0.5]))
    as_floats("twohot_encode", as_shape("twohot_encode", encoded, (3, bins)))


def _twohot_decode(case: SmokeCase) -> None:
    logits = case.normal(3, _number_of_bins(case))
    as_floats("twohot_decode", case.subject.compute("twohot_decode", logits, shape=(3,)))


def _imagined(case: SmokeCase) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    shape = (case.batch, case.time)
    values = case.time + (case.subject.readings["A14"] == "v")
    return case.normal(*shape), case.normal(case.batch, values), np.ones(shape), 0.997, 0.95


ADVANTAGE = np.array([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])


def _policy_inputs(case: SmokeCase) -> tuple[Any, ...]:
    logits, prior = case.normal(6, CLASSES), case.normal(CLASSES, 6).T.copy()
    return logits, prior, np.arange(6) % CLASSES, ADVANTAGE, 0.5, 0.3


def _factored_policy_inputs(case: SmokeCase) -> tuple[Any, ...]:
    logits, prior = ([case.normal(6, width) + shift for width in (3, 2)] for shift in (0.0, 0.5))
    return logits, prior, np.arange(12).reshape(6, 2) % 2, ADVANTAGE, 0.5, 0.3


def _prior_start(case: SmokeCase) -> None:
    prior_components(case.subject, 0)


def _constants(case: SmokeCase) -> None:
    for key, value in as_mapping("constants", case.subject.call("constants")).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OperationFailed(f"constants: {key!r} is {value!r}; it needs a number")


# Layers

KINDS = {"space", "time", "both"}


def _layer(operation: str, case: SmokeCase) -> None:
    x = example_inputs(case.subject, "space_layer", 0, case.batch, case.time)["x"]
    if x.ndim != 4 or x.shape[:2] != (case.batch, case.time):
        raise OperationFailed(f"example returned x of shape {x.shape}; it needs ({case.batch}, {case.time}, S, D)")
    as_floats("example: x", x)
    as_floats(operation, case.subject.compute(operation, x, shape=x.shape))


def _layer_of_each_kind(operation: str, case: SmokeCase) -> None:
    for kind in provided_kinds(case.subject, operation):
        x = layer_input(case.subject, 0, case.batch, case.time, kind)
        as_floats(named_layer(operation, kind), layer_output(case.subject, operation, x, kind))


def _layer_kinds(case: SmokeCase) -> None:
    kinds = case.subject.call("layer_kinds")
    if not isinstance(kinds, list | tuple):
        raise OperationFailed(
            f"layer_kinds returned {type(kinds).__name__}; it needs a list of 'space', 'time' or 'both'"
        )
    if not kinds or not all(isinstance(kind, str) and kind in KINDS for kind in kinds):
        raise OperationFailed(f"layer_kinds returned {kinds!r}; it needs 'space', 'time' or 'both' for each layer")


# The tokenizer


def _encode(case: SmokeCase) -> None:
    z = run_black_box(case.subject, "encode", example_inputs(case.subject, "encode", 0, case.batch, case.time))["z"]
    as_floats("encode", as_shape("encode", z, (case.batch, case.time, None, None)))


def _video(operation: str, case: SmokeCase) -> None:
    video = run_black_box(case.subject, operation, example_inputs(case.subject, operation, 0, case.batch, case.time))[
        "video"
    ]
    as_floats(operation, video)
    if video.shape[:2] != (case.batch, case.time):
        raise OperationFailed(f"{operation} returned shape {video.shape}; it needs ({case.batch}, {case.time}, …)")


def _decode_step(case: SmokeCase) -> None:
    if not case.subject.provides("decode_init"):
        raise NotProvided
    z = example_inputs(case.subject, "decode", 0, case.batch, case.time)["z"]
    state = case.subject.call("decode_init", case.batch)
    video, _ = as_pair(
        "decode_step", case.subject.call("decode_step", state, case.subject.native(z[:, :1])), "video, state"
    )
    frame = as_floats("decode_step", case.subject.read("decode_step", video))
    if frame.shape[:2] != (case.batch, 1):
        raise OperationFailed(f"decode_step returned shape {frame.shape}; it needs ({case.batch}, 1, …)")


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


def _patch_dropout(case: SmokeCase) -> None:
    dropout_masks(case.subject, 0, case.batch, case.time, 6)


def _mae_inputs(case: SmokeCase) -> tuple[np.ndarray, ...]:
    tokens, embedding = case.normal(case.batch, case.time, 5, CHANNELS), case.normal(CHANNELS)
    return tokens, np.arange(tokens[..., 0].size).reshape(tokens.shape[:3]) % 3 == 0, embedding


def _patch_grid(case: SmokeCase) -> None:
    frame_grid(case.subject, 256, 256)


def _regroup(case: SmokeCase) -> None:
    z = labelled_latents()
    as_floats("regroup", case.subject.compute("regroup", z, shape=(*z.shape[:2], *DYNAMICS_SHAPE)))


def _mouse_class(case: SmokeCase) -> None:
    mouse_classes(case.subject, case.normal(case.batch, 2))


# Training and checkpoints


def _training_plan(case: SmokeCase) -> None:
    planned = training_plan(case.subject, 0, 8)
    for key in ("length", "image", "relevant"):
        try:
            batch_lengths(case.subject, planned) if key == "length" else marked_sequences(case.subject, planned, key)
        except Inconclusive:
            continue


def _image_dynamics(case: SmokeCase) -> None:
    inputs = example_inputs(case.subject, "image_dynamics", 0, case.batch, case.time)
    z_hat = as_floats("image_dynamics", run_black_box(case.subject, "image_dynamics", inputs)["z_hat"])
    if z_hat.shape != inputs["z"].shape:
        raise OperationFailed(f"image_dynamics returned shape {z_hat.shape}; it needs {inputs['z'].shape}")


def _training_gradients(case: SmokeCase) -> None:
    components_with_gradient(case.subject, "dynamics", 0)
    returned = case.subject.call("training_gradients", "dynamics", 0, seeded=0)
    for component, value in as_mapping("training_gradients", returned).items():
        for gradient in gradient_arrays(value):
            as_floats(f"training_gradients: {component}", case.subject.read("training_gradients", gradient))


def _agent_losses(case: SmokeCase) -> None:
    agent_losses(case.subject, 0, DATA)
    returned = case.subject.call("agent_losses", 0, list(DATA), list(RELEVANT), seeded=0)
    for name, value in as_mapping("agent_losses", returned).items():
        if value is not None:
            as_floats(f"agent_losses: {name}", case.subject.read("agent_losses", value, ()))


def _imagined_trajectory(case: SmokeCase) -> None:
    imagined_trajectory(case.subject, 0)


def _resume(case: SmokeCase) -> None:
    for name, x in final_state(case.subject, 1, None).items():
        as_floats(f"resume: {name}", x)


def _load_checkpoint(case: SmokeCase) -> None:
    for name, x in load_checkpoint(case.subject).parameters.items():
        as_floats(f"load_checkpoint: {name}", x)


SMOKE_CALLS: dict[str, Callable[[SmokeCase], None]] = {
    "attention": _attention,
    "soft_cap": _computes("soft_cap", lambda case: (4 * case.normal(case.batch, case.time), 2.0)),
    "qk_norm": _qk_norm,
    "rope": _computes("rope", lambda case: (_queries_and_keys(case)[0], np.arange(case.time))),
    "rms_norm": _computes("rms_norm", lambda case: (case.frames(), case.normal(CHANNELS), 1e-5)),
    "swiglu": _computes("swiglu", _swiglu_inputs),
    "example": _example,
    "dynamics": _dynamics,
    "dynamics_step": _dynamics_step,
    "label_token": _label_token,
    "action_tokens": _action_tokens,
    "mtp_heads": _mtp_heads,
    "rollout": _rollout,
    "corrupt": _corrupt,
    "sample_tau_d": _sample_tau_d,
    "ramp_weight": _ramp_weight,
    "dynamics_loss": partial(_loss, "dynamics_loss", finite=False),  # its draws may leave the domain: eq07.finite
    "dynamics_loss_at": partial(_loss, "dynamics_loss_at", finite=True),
    "sample_frame": _sample_frame,
    "tokenizer_loss": _computes("tokenizer_loss", lambda case: (np.array(0.5), np.array(0.25)), scalar=True),
    "loss_normalizer": _loss_normalizer,
    "mtp_targets": _mtp_targets,
    "mtp_loss": _computes("mtp_loss", _mtp_loss_inputs, scalar=True),
    "mtp_loss_of": _computes("mtp_loss_of", _mtp_loss_of_inputs, scalar=True),
    "twohot_bins": _twohot_bins,
    "twohot_encode": _twohot_encode,
    "twohot_decode": _twohot_decode,
    "value_loss": _computes(
        "value_loss", lambda case: (case.normal(3, _number_of_bins(case)), np.array([-0.5, 0.25, 0.5])), scalar=True
    ),
    "lambda_returns": _computes("lambda_returns", _imagined),
    "advantages": _computes("advantages", _imagined),
    "policy_loss": _computes("policy_loss", _policy_inputs, scalar=True),
    "policy_loss_factored": _computes("policy_loss_factored", _factored_policy_inputs, scalar=True),
    "prior_start": _prior_start,
    "constants": _constants,
    "space_layer": partial(_layer, "space_layer"),
    "time_layer": partial(_layer, "time_layer"),
    "block_zeroed": partial(_layer_of_each_kind, "block_zeroed"),
    "transformer_layer": partial(_layer_of_each_kind, "transformer_layer"),
    "layer_kinds": _layer_kinds,
    "encode": _encode,
    "decode": partial(_video, "decode"),
    "reconstruct": partial(_video, "reconstruct"),
    "decode_step": _decode_step,
    "modality_mask": _modality_mask,
    "space_mask": _space_mask,
    "patch_dropout": _patch_dropout,
    "mae_replace": _computes("mae_replace", _mae_inputs),
    "patch_grid": _patch_grid,
    "regroup": _regroup,
    "mouse_class": _mouse_class,
    "training_plan": _training_plan,
    "image_dynamics": _image_dynamics,
    "training_gradients": _training_gradients,
    "agent_losses": _agent_losses,
    "imagined_trajectory": _imagined_trajectory,
    "resume": _resume,
    "load_checkpoint": _load_checkpoint,
}
"""Operation → smoke call."""
