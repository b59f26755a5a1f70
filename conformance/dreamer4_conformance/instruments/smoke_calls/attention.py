"""First calls of attention, its norms and its rotation."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.attention_case import Attending, everywhere
from dreamer4_conformance.instruments.smoke_calls import Occasion, contact, floats, pair

HEADS, WIDTH = 2, 8


def _queries_and_keys(at: Occasion) -> tuple[np.ndarray, np.ndarray]:
    q = at.normal(at.batch, at.time, HEADS, WIDTH)
    return q, q[::-1].copy()


@contact
def _attention(at: Occasion) -> None:
    q, k = _queries_and_keys(at)
    for backend, out in everywhere(at.subject, Attending(q, k, q, causal=True)):
        floats("attention" if backend is None else f"attention with backend={backend!r}", out)


@contact
def _soft_cap(at: Occasion) -> None:
    logits = 4 * at.normal(at.batch, at.time)
    floats("soft_cap", at.subject.compute("soft_cap", logits, 2.0, shape=logits.shape))


@contact
def _qk_norm(at: Occasion) -> None:
    given = _queries_and_keys(at)
    returned = pair("qk_norm", at.subject.call("qk_norm", *map(at.subject.native, given)), "q, k")
    for name, x, normalised in zip("qk", given, returned, strict=True):
        floats(f"qk_norm: {name}", at.subject.read(f"qk_norm: {name}", normalised, x.shape))


@contact
def _rope(at: Occasion) -> None:
    x = _queries_and_keys(at)[0]
    floats("rope", at.subject.compute("rope", x, np.arange(at.time), shape=x.shape))


@contact
def _rms_norm(at: Occasion) -> None:
    x = at.frames()
    floats("rms_norm", at.subject.compute("rms_norm", x, at.normal(x.shape[-1]), 1e-5, shape=x.shape))


@contact
def _swiglu(at: Occasion) -> None:
    x, hidden = at.frames(), 5
    width = x.shape[-1]
    weights = at.normal(width, hidden), at.normal(hidden, width).T.copy(), at.normal(hidden, width)
    floats("swiglu", at.subject.compute("swiglu", x, *weights, shape=x.shape))
