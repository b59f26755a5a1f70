"""Vectors of Sec. 3.4: RMSNorm and the norm of queries and keys."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.checks.sec34_norms import K, norm_terms
from dreamer4_reference.sec34_norms import Norm, qk_norm, rms_norm
from vectors.vector import Vector, draw, options, subject_under, within


def _rms_norm(name: str, x: np.ndarray, eps: float, *flags: str) -> Vector:
    weight = draw(9, x.shape[-1])
    value = rms_norm(x, weight, eps)
    inputs, outputs = {"x": x, "weight": weight, "eps": eps}, {"result": within(value, 2 * np.abs(value), K)}
    return Vector(name, "rms_norm", "net.rmsnorm", inputs, outputs, flags)


def _qk_norm(name: str, norm: Norm, shape: tuple[int, int, int], *flags: str) -> Vector:
    batch, length, width = shape
    subject = subject_under({"A31": norm})
    inputs, outputs = {}, {}
    for seed, (argument, heads) in enumerate((("q", 4), ("k", 2))):
        size = 2.0 ** (6 + np.arange(batch * length * heads) % 5).reshape(batch, length, heads, 1)
        inputs[argument] = size * (draw(seed, batch, length, heads, width) + 0.53125)
    for argument, value in zip("qk", qk_norm(inputs["q"], inputs["k"], norm=norm), strict=True):
        outputs[argument] = within(value, norm_terms(subject, inputs[argument], value), K)
    return Vector(f"{name}-{norm}", "qk_norm", "attn.qknorm", inputs, outputs, flags, options(A31=norm))


def vectors() -> Iterator[Vector]:
    """Tokens with an offset, of the size of √eps and far above it; heads of different sizes, under every A31."""
    yield _rms_norm("tokens", draw(1, 2, 3, 4) + 0.53125, 2.0**-20)
    yield _rms_norm("size-of-eps", (draw(2, 3, 5) + 0.53125) / 64, 2.0**-10)
    yield _rms_norm("large-eps", draw(3, 2, 2) + 0.53125, 2.0**-4)
    yield _rms_norm("one-channel", draw(4, 3, 1) + 3, 2.0**-10)
    yield _rms_norm("one-token", draw(5, 6) + 0.53125, 2.0**-10, "batch_one")
    for norm in ("rms", "l2", "layernorm"):
        yield _qk_norm("heads", norm, (2, 2, 4), "square_batch")
        yield _qk_norm("one-token", norm, (1, 1, 6), "batch_one", "time_one")
