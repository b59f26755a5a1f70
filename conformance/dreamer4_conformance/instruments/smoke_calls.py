"""Every provided operation is called once on an ordinary input: its answer must have the documented shape and type.

An operation is refused only where it works neither for B ≠ T nor for B = T; one that fails for certain shapes alone is
judged by the clauses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.attention_case import AttentionCase, outputs_by_backend
from dreamer4_conformance.instruments.black_box import Tree, example_inputs, run_black_box
from dreamer4_conformance.instruments.dynamics import mouse_classes
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
class Occasion:
    """The shapes of one round of calls, and the contents that they are filled with."""

    subject: Subject
    batch: int
    time: int

    def normal(self, *shape: int) -> np.ndarray:
        """Values of order one that the adapter's dtype represents."""
        return self.subject.round(np.random.default_rng(sum(shape)).standard_normal(shape))

    def frames(self) -> np.ndarray:
        """z (B, T, S, D)."""
        return self.normal(self.batch, self.time, TOKENS, CHANNELS)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """tau, d (B, T) on the grid of Eq. (4), clear of its end; d the same along a sequence."""
        finest = int(np.log2(self.subject.k_max))
        exponent = np.broadcast_to(1 + np.arange(self.batch)[:, None] % max(finest, 1), (self.batch, self.time))
        steps = 2 ** np.minimum(exponent, finest)
        return (steps - 1) // 2 / steps, 1.0 / steps


def smoke_calls(subject: Subject, operations: Collection[str] | None = None) -> Iterator[str]:
    """One sentence for every operation that cannot be used; of `operations`, None for all."""
    batch = max(3, subject.adapter.min_batch)
    time = 4 if batch != 4 else 5
    for name, call in SMOKE_CALLS.items():
        if not subject.provides(name) or (operations is not None and name not in operations):
            continue
        problem = _problem(call, Occasion(subject, batch, time))
        if problem is not None and _problem(call, Occasion(subject, batch, batch)) is not None:
            yield problem


def _problem(call: Callable[[Occasion], None], occasion: Occasion) -> str | None:
    try:
        with np.errstate(all="ignore"):
            call(occasion)
    except Deviation as deviation:
        return deviation.message + (f" (called as {deviation.call})" if deviation.call else "")
    except (NotProvided, Inconclusive):
        return None
    return None


def _computes(
    operation: str, inputs: Callable[[Occasion], tuple[Any, ...]], *, scalar: bool = False
) -> Callable[[Occasion], None]:
    """The smoke call of an operation whose result is a scalar, or has the shape of the first input."""

    def call(at: Occasion) -> None:
        values = inputs(at)
        as_floats(operation, at.subject.compute(operation, *values, shape=() if scalar else values[0].shape))

    return call


# Attention, its norms and its rotation

HEADS, WIDTH = 2, 8


def _queries_and_keys(at: Occasion) -> tuple[np.ndarray, np.ndarray]:
    q = at.normal(at.batch, at.time, HEADS, WIDTH)
    return q, q[::-1].copy()


def _attention(at: Occasion) -> None:
    q, k = _queries_and_keys(at)
    for backend, out in outputs_by_backend(at.subject, AttentionCase(q, k, q, causal=True)):
        as_floats("attention" if backend is None else f"attention with backend={backend!r}", out)


def _qk_norm(at: Occasion) -> None:
    given = _queries_and_keys(at)
    returned = as_pair("qk_norm", at.subject.call("qk_norm", *map(at.subject.native, given)), "q, k")
    for name, x, normalised in zip("qk", given, returned, strict=True):
        as_floats(f"qk_norm: {name}", at.subject.read(f"qk_norm: {name}", normalised, x.shape))


def _rms_norm(at: Occasion) -> None:
    x = at.frames()
    as_floats("rms_norm", at.subject.compute("rms_norm", x, at.normal(x.shape[-1]), 1e-5, shape=x.shape))


def _swiglu(at: Occasion) -> None:
    x, hidden = at.frames(), 5
    width = x.shape[-1]
    weights = at.normal(width, hidden), at.normal(hidden, width).T.copy(), at.normal(hidden, width)
    as_floats("swiglu", at.subject.compute("swiglu", x, *weights, shape=x.shape))


# The dynamics


def _inputs(at: Occasion) -> dict[str, Tree]:
    return example_inputs(at.subject, "dynamics", 0, at.batch, at.time)


def _example(at: Occasion) -> None:
    example = as_mapping("example", at.subject.call("example", 0, at.batch, at.time, seeded=0))
    for name in ("tau", "d"):
        if example.get(name) is not None:
            x = at.subject.read(f"example: {name}", example[name], (at.batch, at.time))
            as_floats(f"example: {name}", x)
            if not ((x >= 0) & (x <= 1)).all():
                raise OperationFailed(f"example: {name} lies in {x.min():g} … {x.max():g}; it needs numbers in [0, 1]")


def _dynamics(at: Occasion) -> None:
    # How many tokens z_hat has is a clause.
    given = _inputs(at)
    z_hat = _outputs("dynamics", at, run_black_box(at.subject, "dynamics", given), at.time)
    as_shape("dynamics: z_hat", z_hat, (at.batch, at.time, None, given["z"].shape[-1]))


def _dynamics_step(at: Occasion) -> None:
    _outputs("dynamics_step", at, unroll(at.subject, _inputs(at), 1), 1)


def _outputs(name: str, at: Occasion, found: dict[str, np.ndarray], time: int) -> np.ndarray:
    if "z_hat" not in found:
        raise OperationFailed(f"{name} returned None for z_hat; it needs ({at.batch}, {time}, S, D)")
    for output, x in found.items():
        as_floats(f"{name}: {output}", x)
        if x.shape[1] != time:
            raise OperationFailed(f"{name}: {output} has shape {x.shape}; it needs ({at.batch}, {time}, …)")
    return found["z_hat"]


def _label_token(at: Occasion) -> None:
    tau, d = at.grid()
    token = at.subject.compute("label_token", at.subject.level(tau), d)
    as_floats("label_token", as_shape("label_token", token, (at.batch, at.time, None)))


def _action_tokens(at: Occasion) -> None:
    components = [at.normal(at.batch, at.time, TOKENS, CHANNELS), -at.normal(at.batch, at.time, TOKENS, CHANNELS)]
    labelled = np.arange(at.batch) % 2 == 0
    tokens = at.subject.compute("action_tokens", components, at.normal(TOKENS, CHANNELS), labelled)
    as_floats("action_tokens", as_shape("action_tokens", tokens, (at.batch, at.time, TOKENS, CHANNELS)))


def _mtp_heads(at: Occasion) -> None:
    if not at.subject.provides("dynamics"):
        return
    agent = run_black_box(at.subject, "dynamics", _inputs(at)).get("agent")
    if agent is not None:
        heads = at.subject.compute("mtp_heads", agent)
        as_floats("mtp_heads", as_shape("mtp_heads", heads, (at.batch, at.time, None, None)))


def _rollout(at: Occasion) -> None:
    given = example_inputs(at.subject, "rollout", 0, at.batch, at.time + 1)
    for cache in (False, True):
        z = rollout_frames(at.subject, given, at.time, seed=0, cache=cache, num_steps=min(4, at.subject.k_max))
        as_floats("rollout", as_shape("rollout", z, (at.batch, 1, *given["z"].shape[2:])))


# The equations


def _corrupt(at: Occasion) -> None:
    z0, z1 = at.frames(), at.frames()[::-1].copy()
    as_floats("corrupt", at.subject.corrupt(z0, z1, at.grid()[0]))


def _sample_tau_d(at: Occasion) -> None:
    drawn = at.subject.call("sample_tau_d", 0, at.batch, at.time, seeded=0)
    for part, x in zip(("tau", "d"), as_pair("sample_tau_d", drawn, "tau, d"), strict=True):
        as_floats(f"sample_tau_d: {part}", at.subject.read("sample_tau_d", x))
    _, d = at.subject.sample_tau_d(0, at.batch, at.time)
    if not ((d > 0) & (d <= 1)).all():
        raise OperationFailed(f"sample_tau_d returned d from {d.min():g} to {d.max():g}; it needs step sizes in (0, 1]")


def _ramp_weight(at: Occasion) -> None:
    as_floats("ramp_weight", at.subject.ramp_weight(at.grid()[0]))


def _loss(route: str, at: Occasion, *, finite: bool) -> None:
    tau, d = at.grid()
    z1 = at.frames()
    draw = Draw(z1, at.normal(at.batch, at.time, ACTIONS), 0, z1[::-1].copy(), tau, d)
    evaluation = at.subject.evaluate(route, AFFINE, draw)
    as_floats(route, evaluation.loss, finite=finite)
    if not evaluation.calls:
        raise OperationFailed(f"{route} never called the network; it needs to call what it is given as the model")


def _sample_frame(at: Occasion) -> None:
    actions = at.normal(at.batch, at.time + 1, ACTIONS)
    sampled = at.subject.sample_frame(AFFINE, at.frames(), min(4, at.subject.k_max), 0, actions)
    as_floats("sample_frame", sampled.frame)
    if not sampled.calls:
        raise OperationFailed("sample_frame never called the network; it needs to call what it is given as the model")


def _loss_normalizer(at: Occasion) -> None:
    normalizer = at.subject.call("loss_normalizer")
    if not callable(normalizer):
        raise OperationFailed(f"loss_normalizer returned {type(normalizer).__name__}; it needs n(name, value)")
    try:
        divided = [normalizer("mse", at.subject.native(np.array(value))) for value in (1.0, 0.5)]
    except Exception as error:
        raise OperationFailed(f"loss_normalizer()('mse', 1.0) raised {type(error).__name__}: {error}") from error
    for value in divided:
        # Before the declared warm-up the estimate may still be anything.
        as_floats("loss_normalizer()", at.subject.read("loss_normalizer()", value, ()), finite=False)


def _mtp_targets(at: Occasion) -> None:
    time = at.time + 12
    returned = at.subject.call("mtp_targets", at.subject.native(at.normal(at.batch, time)), 8)
    targets, valid = (at.subject.read("mtp_targets", x) for x in as_pair("mtp_targets", returned, "targets, valid"))
    as_shape("mtp_targets: targets", targets, (at.batch, time, None))
    as_shape("mtp_targets: valid", valid, targets.shape)
    if valid.dtype != bool:
        raise OperationFailed(f"mtp_targets: valid holds {valid.dtype} values; it needs booleans")


def _mtp_loss(at: Occasion) -> None:
    distances = {"0..8": range(9), "0..7": range(8), "1..8": range(1, 9)}[at.subject.readings["A17"]]
    time = at.time + 12
    valid = np.arange(time)[:, None] + np.array(distances) < time
    log_prob = -np.abs(at.normal(at.batch, time, len(distances)))
    loss = at.subject.compute("mtp_loss", log_prob, np.broadcast_to(valid, log_prob.shape).copy(), shape=())
    as_floats("mtp_loss", loss)


def _bins(at: Occasion) -> np.ndarray:
    return as_shape("twohot_bins", at.subject.compute("twohot_bins"), (None,))


def _number_of_bins(at: Occasion) -> int:
    if at.subject.provides("twohot_bins"):
        return len(_bins(at))
    if at.subject.provides("twohot_encode"):
        return int(at.subject.compute("twohot_encode", np.zeros(1)).shape[-1])
    raise NotProvided


def _twohot_bins(at: Occasion) -> None:
    bins = as_floats("twohot_bins", _bins(at))
    if len(bins) < 2 or not (np.diff(bins) > 0).all():
        raise OperationFailed(f"twohot_bins returned {len(bins)} values; it needs at least two, in ascending order")


def _twohot_encode(at: Occasion) -> None:
    bins = len(_bins(at)) if at.subject.provides("twohot_bins") else None
    encoded = at.subject.compute("twohot_encode", np.array([-0.5, 0.25, 0.5]))
    as_floats("twohot_encode", as_shape("twohot_encode", encoded, (3, bins)))


def _twohot_decode(at: Occasion) -> None:
    logits = at.normal(3, _number_of_bins(at))
    as_floats("twohot_decode", at.subject.compute("twohot_decode", logits, shape=(3,)))


def _imagined(at: Occasion) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    shape = (at.batch, at.time)
    return at.normal(*shape), at.normal(at.batch, at.time + 1), np.ones(shape), 0.997, 0.95


def _policy_loss(at: Occasion) -> None:
    logits, prior = at.normal(6, CLASSES), at.normal(CLASSES, 6).T.copy()
    action, advantage = np.arange(6) % CLASSES, np.array([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    loss = at.subject.compute("policy_loss", logits, prior, action, advantage, 0.5, 0.3, shape=())
    as_floats("policy_loss", loss)


def _policy_loss_factored(at: Occasion) -> None:
    logits, prior = ([at.normal(6, width) + shift for width in (3, 2)] for shift in (0.0, 0.5))
    action, advantage = np.arange(12).reshape(6, 2) % 2, np.array([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    loss = at.subject.compute("policy_loss_factored", logits, prior, action, advantage, 0.5, 0.3, shape=())
    as_floats("policy_loss_factored", loss)


def _prior_start(at: Occasion) -> None:
    returned = as_mapping("prior_start", at.subject.call("prior_start", 0, seeded=0))
    shapes = set()
    for key in ("policy", "prior", "policy_after", "prior_after"):
        if key not in returned:
            raise OperationFailed(f"prior_start returned the keys {sorted(map(str, returned))}; it needs {key!r} too")
        name = f"prior_start: {key}"
        shapes.add(as_shape(name, as_floats(name, at.subject.read(name, returned[key])), (None, None)).shape)
    if len(shapes) > 1:
        raise OperationFailed(f"prior_start returned logits of shapes {sorted(shapes)}; it needs one shape (N, A)")


def _constants(at: Occasion) -> None:
    for key, value in as_mapping("constants", at.subject.call("constants")).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OperationFailed(f"constants: {key!r} is {value!r}; it needs a number")


# Layers

KINDS = {"space", "time", "both"}


def _layer(operation: str, at: Occasion) -> None:
    x = example_inputs(at.subject, "space_layer", 0, at.batch, at.time)["x"]
    if x.ndim != 4 or x.shape[:2] != (at.batch, at.time):
        raise OperationFailed(f"example returned x of shape {x.shape}; it needs ({at.batch}, {at.time}, S, D)")
    as_floats("example: x", x)
    as_floats(operation, at.subject.compute(operation, x, shape=x.shape))


def _layer_kinds(at: Occasion) -> None:
    kinds = at.subject.call("layer_kinds")
    if not isinstance(kinds, list | tuple):
        raise OperationFailed(
            f"layer_kinds returned {type(kinds).__name__}; it needs a list of 'space', 'time' or 'both'"
        )
    if not kinds or not all(isinstance(kind, str) and kind in KINDS for kind in kinds):
        raise OperationFailed(f"layer_kinds returned {kinds!r}; it needs 'space', 'time' or 'both' for each layer")


# The tokenizer


def _encode(at: Occasion) -> None:
    z = run_black_box(at.subject, "encode", example_inputs(at.subject, "encode", 0, at.batch, at.time))["z"]
    as_floats("encode", as_shape("encode", z, (at.batch, at.time, None, None)))


def _video(operation: str, at: Occasion) -> None:
    video = run_black_box(at.subject, operation, example_inputs(at.subject, operation, 0, at.batch, at.time))["video"]
    as_floats(operation, video)
    if video.shape[:2] != (at.batch, at.time):
        raise OperationFailed(f"{operation} returned shape {video.shape}; it needs ({at.batch}, {at.time}, …)")


def _decode_step(at: Occasion) -> None:
    if not at.subject.provides("decode_init"):
        raise NotProvided
    z = example_inputs(at.subject, "decode", 0, at.batch, at.time)["z"]
    state = at.subject.call("decode_init", at.batch)
    video, _ = as_pair(
        "decode_step", at.subject.call("decode_step", state, at.subject.native(z[:, :1])), "video, state"
    )
    frame = as_floats("decode_step", at.subject.read("decode_step", video))
    if frame.shape[:2] != (at.batch, 1):
        raise OperationFailed(f"decode_step returned shape {frame.shape}; it needs ({at.batch}, 1, …)")


def _modality_mask(at: Occasion) -> None:
    modality, frame = ["latent", "image", "latent", "image"], np.array([0, 0, 1, 1])
    for kind in ("encoder", "decoder"):
        mask = at.subject.compute("modality_mask", kind, modality, frame, shape=(4, 4))
        if mask.dtype != bool:
            raise OperationFailed(f"modality_mask returned {mask.dtype} values; it needs booleans, True = may attend")


def _patch_dropout(at: Occasion) -> None:
    dropout_masks(at.subject, 0, at.batch, at.time, 6)


def _mae_replace(at: Occasion) -> None:
    tokens, embedding = at.normal(at.batch, at.time, 5, CHANNELS), at.normal(CHANNELS)
    mask = np.arange(tokens[..., 0].size).reshape(tokens.shape[:3]) % 3 == 0
    as_floats("mae_replace", at.subject.compute("mae_replace", tokens, mask, embedding, shape=tokens.shape))


def _patch_grid(at: Occasion) -> None:
    frame_grid(at.subject, 256, 256)


def _regroup(at: Occasion) -> None:
    z = labelled_latents()
    as_floats("regroup", at.subject.compute("regroup", z, shape=(*z.shape[:2], *DYNAMICS_SHAPE)))


def _mouse_class(at: Occasion) -> None:
    mouse_classes(at.subject, at.normal(at.batch, 2))


# Training and checkpoints


def _training_plan(at: Occasion) -> None:
    planned = training_plan(at.subject, 0, 8)
    for key in ("length", "image", "relevant"):
        try:
            batch_lengths(at.subject, planned) if key == "length" else marked_sequences(at.subject, planned, key)
        except Inconclusive:
            continue


def _image_dynamics(at: Occasion) -> None:
    given = example_inputs(at.subject, "image_dynamics", 0, at.batch, at.time)
    z_hat = as_floats("image_dynamics", run_black_box(at.subject, "image_dynamics", given)["z_hat"])
    if z_hat.shape != given["z"].shape:
        raise OperationFailed(f"image_dynamics returned shape {z_hat.shape}; it needs {given['z'].shape}")


def _training_gradients(at: Occasion) -> None:
    components_with_gradient(at.subject, "dynamics", 0)
    found = at.subject.call("training_gradients", "dynamics", 0, seeded=0)
    for part, value in as_mapping("training_gradients", found).items():
        for gradient in gradient_arrays(value):
            as_floats(f"training_gradients: {part}", at.subject.read("training_gradients", gradient))


def _agent_losses(at: Occasion) -> None:
    agent_losses(at.subject, 0, DATA)
    found = at.subject.call("agent_losses", 0, list(DATA), list(RELEVANT), seeded=0)
    for name, value in as_mapping("agent_losses", found).items():
        if value is not None:
            as_floats(f"agent_losses: {name}", at.subject.read("agent_losses", value, ()))


def _resume(at: Occasion) -> None:
    for name, x in final_state(at.subject, 1, None).items():
        as_floats(f"resume: {name}", x)


def _load_checkpoint(at: Occasion) -> None:
    for name, x in load_checkpoint(at.subject).parameters.items():
        as_floats(f"load_checkpoint: {name}", x)


SMOKE_CALLS: dict[str, Callable[[Occasion], None]] = {
    "attention": _attention,
    "soft_cap": _computes("soft_cap", lambda at: (4 * at.normal(at.batch, at.time), 2.0)),
    "qk_norm": _qk_norm,
    "rope": _computes("rope", lambda at: (_queries_and_keys(at)[0], np.arange(at.time))),
    "rms_norm": _rms_norm,
    "swiglu": _swiglu,
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
    "dynamics_loss": partial(_loss, "dynamics_loss", finite=False),  # it may draw beyond the domain: eq07.finite
    "dynamics_loss_at": partial(_loss, "dynamics_loss_at", finite=True),
    "sample_frame": _sample_frame,
    "tokenizer_loss": _computes("tokenizer_loss", lambda at: (np.array(0.5), np.array(0.25)), scalar=True),
    "loss_normalizer": _loss_normalizer,
    "mtp_targets": _mtp_targets,
    "mtp_loss": _mtp_loss,
    "twohot_bins": _twohot_bins,
    "twohot_encode": _twohot_encode,
    "twohot_decode": _twohot_decode,
    "value_loss": _computes(
        "value_loss", lambda at: (at.normal(3, _number_of_bins(at)), np.array([-0.5, 0.25, 0.5])), scalar=True
    ),
    "lambda_returns": _computes("lambda_returns", _imagined),
    "advantages": _computes("advantages", _imagined),
    "policy_loss": _policy_loss,
    "policy_loss_factored": _policy_loss_factored,
    "prior_start": _prior_start,
    "constants": _constants,
    "space_layer": partial(_layer, "space_layer"),
    "time_layer": partial(_layer, "time_layer"),
    "block_zeroed": partial(_layer, "block_zeroed"),
    "layer_kinds": _layer_kinds,
    "encode": _encode,
    "decode": partial(_video, "decode"),
    "reconstruct": partial(_video, "reconstruct"),
    "decode_step": _decode_step,
    "modality_mask": _modality_mask,
    "patch_dropout": _patch_dropout,
    "mae_replace": _mae_replace,
    "patch_grid": _patch_grid,
    "regroup": _regroup,
    "mouse_class": _mouse_class,
    "training_plan": _training_plan,
    "image_dynamics": _image_dynamics,
    "training_gradients": _training_gradients,
    "agent_losses": _agent_losses,
    "resume": _resume,
    "load_checkpoint": _load_checkpoint,
}
"""Operation → its smoke call."""
