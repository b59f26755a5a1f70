"""Smoke calls of multi-token prediction and two-hot values."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.black_box import run_black_box
from dreamer4_conformance.instruments.heads import declared_length, distances
from dreamer4_conformance.instruments.result_types import as_floats, as_pair, as_shape
from dreamer4_conformance.instruments.smoke_calls.case import CLASSES, SmokeCall, SmokeCase, computes
from dreamer4_conformance.verdicts import NotProvided, OperationFailed


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


def _mtp_heads(case: SmokeCase) -> None:
    if not case.subject.provides("dynamics"):
        return
    agent = run_black_box(case.subject, "dynamics", case.example("dynamics")).get("agent")
    if agent is not None:
        heads = case.subject.compute("mtp_heads", agent)
        as_floats("mtp_heads", as_shape("mtp_heads", heads, (case.batch, case.time, None, None)))


def _bins(case: SmokeCase) -> np.ndarray:
    return as_shape("twohot_bins", case.subject.compute("twohot_bins"), (None,))


def number_of_bins(case: SmokeCase) -> int:
    """K, by `twohot_bins` or else by the width of `twohot_encode`."""
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
    logits = case.normal(3, number_of_bins(case))
    as_floats("twohot_decode", case.subject.compute("twohot_decode", logits, shape=(3,)))


CALLS: dict[str, SmokeCall] = {
    "mtp_targets": _mtp_targets,
    "mtp_loss": computes("mtp_loss", _mtp_loss_inputs, scalar=True),
    "mtp_loss_of": computes("mtp_loss_of", _mtp_loss_of_inputs, scalar=True),
    "mtp_heads": _mtp_heads,
    "twohot_bins": _twohot_bins,
    "twohot_encode": _twohot_encode,
    "twohot_decode": _twohot_decode,
}
