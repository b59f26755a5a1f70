"""First calls of the equations' operations."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.smoke_calls import (
    ACTIONS,
    CLASSES,
    Occasion,
    contact,
    dimensions,
    floats,
    mapping,
    pair,
)
from dreamer4_conformance.instruments.subject import Draw
from dreamer4_conformance.verdicts import NotProvided, OperationFailed


@contact
def _corrupt(at: Occasion) -> None:
    z0, z1 = at.frames(), at.frames()[::-1].copy()
    floats("corrupt", at.subject.corrupt(z0, z1, at.grid()[0]))


@contact
def _sample_tau_d(at: Occasion) -> None:
    drawn = at.subject.call("sample_tau_d", 0, at.batch, at.time, seeded=0)
    for part, x in zip(("tau", "d"), pair("sample_tau_d", drawn, "tau, d"), strict=True):
        floats(f"sample_tau_d: {part}", at.subject.read("sample_tau_d", x))
    _, d = at.subject.sample_tau_d(0, at.batch, at.time)
    if not ((d > 0) & (d <= 1)).all():
        raise OperationFailed(f"sample_tau_d returned d from {d.min():g} to {d.max():g}; it needs step sizes in (0, 1]")


@contact
def _ramp_weight(at: Occasion) -> None:
    floats("ramp_weight", at.subject.ramp_weight(at.grid()[0]))


@contact
def _dynamics_loss(at: Occasion) -> None:
    # What it draws inside may leave the domain; that the loss is finite there is a clause.
    _loss("dynamics_loss", at, finite=False)


@contact
def _dynamics_loss_at(at: Occasion) -> None:
    _loss("dynamics_loss_at", at, finite=True)


def _loss(route: str, at: Occasion, *, finite: bool) -> None:
    tau, d = at.grid()
    z1 = at.frames()
    draw = Draw(z1, at.normal(at.batch, at.time, ACTIONS), 0, z1[::-1].copy(), tau, d)
    evaluation = at.subject.evaluate(route, AFFINE, draw)
    floats(route, evaluation.loss, finite=finite)
    if not evaluation.calls:
        raise OperationFailed(f"{route} never called the network; it needs to call what it is given as the model")


@contact
def _sample_frame(at: Occasion) -> None:
    actions = at.normal(at.batch, at.time + 1, ACTIONS)
    sampled = at.subject.sample_frame(AFFINE, at.frames(), min(4, at.subject.k_max), 0, actions)
    floats("sample_frame", sampled.frame)
    if not sampled.calls:
        raise OperationFailed("sample_frame never called the network; it needs to call what it is given as the model")


@contact
def _tokenizer_loss(at: Occasion) -> None:
    mse, lpips = np.array(0.5), np.array(0.25)
    floats("tokenizer_loss", at.subject.compute("tokenizer_loss", mse, lpips, shape=()))


@contact
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
        floats("loss_normalizer()", at.subject.read("loss_normalizer()", value, ()), finite=False)


@contact
def _mtp_targets(at: Occasion) -> None:
    time = at.time + 12
    returned = at.subject.call("mtp_targets", at.subject.native(at.normal(at.batch, time)), 8)
    targets, valid = (at.subject.read("mtp_targets", x) for x in pair("mtp_targets", returned, "targets, valid"))
    dimensions("mtp_targets: targets", targets, (at.batch, time, None))
    dimensions("mtp_targets: valid", valid, targets.shape)
    if valid.dtype != bool:
        raise OperationFailed(f"mtp_targets: valid holds {valid.dtype} values; it needs booleans")


@contact
def _mtp_loss(at: Occasion) -> None:
    distances = {"0..8": range(9), "0..7": range(8), "1..8": range(1, 9)}[at.subject.readings["A17"]]
    time = at.time + 12
    valid = np.arange(time)[:, None] + np.array(distances) < time
    log_prob = -np.abs(at.normal(at.batch, time, len(distances)))
    loss = at.subject.compute("mtp_loss", log_prob, np.broadcast_to(valid, log_prob.shape).copy(), shape=())
    floats("mtp_loss", loss)


def _bins(at: Occasion) -> np.ndarray:
    return dimensions("twohot_bins", at.subject.compute("twohot_bins"), (None,))


def _number_of_bins(at: Occasion) -> int:
    if at.subject.provides("twohot_bins"):
        return len(_bins(at))
    if at.subject.provides("twohot_encode"):
        return int(at.subject.compute("twohot_encode", np.zeros(1)).shape[-1])
    raise NotProvided


@contact
def _twohot_bins(at: Occasion) -> None:
    bins = floats("twohot_bins", _bins(at))
    if len(bins) < 2 or not (np.diff(bins) > 0).all():
        raise OperationFailed(f"twohot_bins returned {len(bins)} values; it needs at least two, in ascending order")


@contact
def _twohot_encode(at: Occasion) -> None:
    bins = len(_bins(at)) if at.subject.provides("twohot_bins") else None
    encoded = at.subject.compute("twohot_encode", np.array([-0.5, 0.25, 0.5]))
    floats("twohot_encode", dimensions("twohot_encode", encoded, (3, bins)))


@contact
def _twohot_decode(at: Occasion) -> None:
    logits = at.normal(3, _number_of_bins(at))
    floats("twohot_decode", at.subject.compute("twohot_decode", logits, shape=(3,)))


@contact
def _value_loss(at: Occasion) -> None:
    logits = at.normal(3, _number_of_bins(at))
    floats("value_loss", at.subject.compute("value_loss", logits, np.array([-0.5, 0.25, 0.5]), shape=()))


def _imagined(at: Occasion) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    shape = (at.batch, at.time)
    return at.normal(*shape), at.normal(at.batch, at.time + 1), np.ones(shape), 0.997, 0.95


@contact
def _lambda_returns(at: Occasion) -> None:
    returns = at.subject.compute("lambda_returns", *_imagined(at), shape=(at.batch, at.time))
    floats("lambda_returns", returns)


@contact
def _advantages(at: Occasion) -> None:
    floats("advantages", at.subject.compute("advantages", *_imagined(at), shape=(at.batch, at.time)))


@contact
def _policy_loss(at: Occasion) -> None:
    logits, prior = at.normal(6, CLASSES), at.normal(CLASSES, 6).T.copy()
    action, advantage = np.arange(6) % CLASSES, np.array([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    loss = at.subject.compute("policy_loss", logits, prior, action, advantage, 0.5, 0.3, shape=())
    floats("policy_loss", loss)


@contact
def _policy_loss_factored(at: Occasion) -> None:
    logits, prior = ([at.normal(6, width) + shift for width in (3, 2)] for shift in (0.0, 0.5))
    action, advantage = np.arange(12).reshape(6, 2) % 2, np.array([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    loss = at.subject.compute("policy_loss_factored", logits, prior, action, advantage, 0.5, 0.3, shape=())
    floats("policy_loss_factored", loss)


@contact
def _prior_start(at: Occasion) -> None:
    returned = mapping("prior_start", at.subject.call("prior_start", 0, seeded=0))
    shapes = set()
    for key in ("policy", "prior", "policy_after", "prior_after"):
        if key not in returned:
            raise OperationFailed(f"prior_start returned the keys {sorted(map(str, returned))}; it needs {key!r} too")
        name = f"prior_start: {key}"
        shapes.add(dimensions(name, floats(name, at.subject.read(name, returned[key])), (None, None)).shape)
    if len(shapes) > 1:
        raise OperationFailed(f"prior_start returned logits of shapes {sorted(shapes)}; it needs one shape (N, A)")


@contact
def _constants(at: Occasion) -> None:
    for key, value in mapping("constants", at.subject.call("constants")).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OperationFailed(f"constants: {key!r} is {value!r}; it needs a number")
