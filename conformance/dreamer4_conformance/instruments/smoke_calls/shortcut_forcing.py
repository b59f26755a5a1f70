"""Smoke calls of Eq. (1), (2), (4) and (6)-(8)."""

from __future__ import annotations

from functools import partial

from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.result_types import as_floats, as_pair
from dreamer4_conformance.instruments.smoke_calls.case import ACTIONS, SmokeCall, SmokeCase
from dreamer4_conformance.instruments.subject import Draw
from dreamer4_conformance.verdicts import OperationFailed


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


CALLS: dict[str, SmokeCall] = {
    "corrupt": _corrupt,
    "sample_tau_d": _sample_tau_d,
    "ramp_weight": _ramp_weight,
    "dynamics_loss": partial(_loss, "dynamics_loss", finite=False),  # its draws may leave the domain: eq07.finite
    "dynamics_loss_at": partial(_loss, "dynamics_loss_at", finite=True),
    "sample_frame": _sample_frame,
}
