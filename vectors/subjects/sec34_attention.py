"""Vectors of Sec. 3.4: attention with masks, windows, caps and groups, its gradients, and the soft cap.

A gradient is that of the mean of weight ⊙ result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamer4_conformance.checks.sec34_attention import K, cap_terms
from dreamer4_conformance.instruments.attention_case import AttentionCase
from dreamer4_reference.sec34_attention import soft_cap
from vectors.vector import EPS32, Output, Vector, draw, within

Heads = tuple[int, int]


def _case(length: int, heads: Heads, width: int, strength: float, **chosen: Any) -> AttentionCase:
    q, k, v = (draw(seed, 1, length, count, width) for seed, count in enumerate((heads[0], heads[1], heads[1])))
    return AttentionCase(strength * q, k, v, **chosen)


def _attention(name: str, clause: str, case: AttentionCase, *flags: str, gradients: bool = False) -> Vector:
    inputs: dict[str, Any] = {"q": case.q, "k": case.k, "v": case.v, **case.options}
    outputs: dict[str, Output] = {"result": within(case.expected, case.terms(EPS32), K)}
    if gradients:
        inputs["weight"] = weight = draw(9, *case.q.shape)
        expected, terms = (f(weight / weight.size) for f in (case.expected_gradients, lambda d: _terms(case, d)))
        outputs |= {
            f"gradient.{argument}": within(value, size, K)
            for argument, value, size in zip("qkv", expected, terms, strict=True)
        }
    grouped = ("grouped",) if case.q.shape[2] > case.k.shape[2] else ()
    return Vector(name, "attention", clause, inputs, outputs, ("batch_one", *grouped, *flags))


def _terms(case: AttentionCase, d_out: np.ndarray) -> tuple[np.ndarray, ...]:
    return case.gradient_terms(d_out, EPS32)


def _soft_cap(name: str, shares: list[float], cap: float) -> Vector:
    x = cap * np.array(shares)
    outputs = {"result": within(soft_cap(x, cap), cap_terms(x, cap, EPS32), K)}
    return Vector(name, "soft_cap", "attn.softcap", {"logits": x, "cap": cap}, outputs, ("capped",))


def vectors() -> Iterator[Vector]:
    """Every option alone and together; gradients with and without a cap; many keys."""
    yield _attention("full", "attn.value", _case(5, (2, 2), 4, 1.0), gradients=True)
    yield _attention("scale", "attn.value", _case(4, (1, 1), 4, 1.0, scale=1.0))
    yield _attention("causal", "attn.causal", _case(6, (2, 1), 4, 1.0, causal=True), gradients=True)
    yield _attention("one-key", "attn.causal", _case(1, (2, 2), 4, 1.0, causal=True), "time_one")
    for length in (1, 3, 6, 9):
        case = _case(6, (1, 1), 4, 1.0, causal=True, window=length)
        yield _attention(f"window-{length}", "attn.window", case, "window")
    yield _attention("groups", "attn.gqa", _case(4, (6, 3), 4, 1.0))
    yield _attention("groups-gradient", "attn.gqa", _case(3, (4, 2), 4, 1.0, causal=True), gradients=True)
    capped = _case(6, (2, 1), 4, 6.0, causal=True, softcap=2.0)
    yield _attention("cap", "attn.softcap", capped, "capped", gradients=True)
    yield _attention("cap-and-scale", "attn.softcap", _case(5, (1, 1), 4, 3.0, softcap=6.0, scale=2.0), "capped")
    yield _attention("cap-50", "attn.softcap", _case(4, (1, 1), 8, 32.0, causal=True, softcap=50.0), "capped")
    many = _case(70, (1, 1), 2, 6.0, causal=True)
    yield _attention("many-keys", "attn.value", many, "many_keys")
    window = _case(70, (1, 1), 2, 6.0, causal=True, window=65)
    yield _attention("many-keys-window", "attn.value", window, "many_keys", "window")
    for cap in (2.0, 50.0):
        yield _soft_cap(f"cap-{cap:g}", [-1000.0, -2.0, -1.0, -0.25, 0.0, 0.25, 1.0, 2.0, 1000.0], cap)
