"""Smoke calls of attention, its cap, its norms and its rotation."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.attention_case import AttentionCase, outputs_by_backend
from dreamer4_conformance.instruments.result_types import as_floats, as_pair
from dreamer4_conformance.instruments.smoke_calls.case import SmokeCall, SmokeCase, computes

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


CALLS: dict[str, SmokeCall] = {
    "attention": _attention,
    "soft_cap": computes("soft_cap", lambda case: (4 * case.normal(case.batch, case.time), 2.0)),
    "qk_norm": _qk_norm,
    "rope": computes("rope", lambda case: (_queries_and_keys(case)[0], np.arange(case.time))),
}
