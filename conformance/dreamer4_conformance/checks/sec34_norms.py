"""Checks of `qk_norm` and `rms_norm`, Sec. 3.4."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.attention_case import WIDTHS
from dreamer4_conformance.instruments.inputs import fixed_values
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.sec34_norms import qk_norm, rms_norm

K = 4
QK_EPS = 1e-4
"""Largest epsilon inside a QK-norm that is accepted."""
SIZES = tuple(2.0**n for n in range(6, 11))
"""Sizes of queries and keys, so large that ‖q‖²/D ≫ `QK_EPS`."""


def draw_heads(subject: Subject, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw q (B, L, 4, D) and k (B, L, 2, D), every head of every token with its own size."""
    rng = np.random.default_rng(seed)
    batch, length, width = rng.integers(1, 3), rng.integers(1, 5), rng.choice(WIDTHS)
    shapes = [(batch, length, heads, width) for heads in (4, 2)]
    q, k = (rng.choice(SIZES, (*shape[:3], 1)) * (rng.standard_normal(shape) + 0.5) for shape in shapes)
    return subject.round(q), subject.round(k)


def scale_heads(q: np.ndarray, k: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Multiply every head of every token by a power of two from 1 to 256."""
    rng = np.random.default_rng(seed + 1)
    q_scaled, k_scaled = (x * 2.0 ** rng.integers(0, 9, (*x.shape[:3], 1)) for x in (q, k))
    return q_scaled, k_scaled


def normalised_heads(subject: Subject, q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The queries and keys that `qk_norm` returns. OperationFailed unless they are a pair of the right shapes."""
    returned = subject.call("qk_norm", subject.native(q), subject.native(k))
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise OperationFailed(f"qk_norm returned {type(returned).__name__}; it needs a pair (q, k)")
    return subject.read("qk_norm: q", returned[0], q.shape), subject.read("qk_norm: k", returned[1], k.shape)


def norm_terms(subject: Subject, x: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The value, times the relative error of its mean square and of an epsilon of at most `QK_EPS`.

    Under A31 = layernorm also the terms of the mean that is subtracted.
    """
    centred = subject.readings["A31"] == "layernorm"
    offset, offset_terms = (centred * y.mean(-1, keepdims=True) for y in (x, np.abs(x)))
    square = ((x - offset) ** 2).mean(-1, keepdims=True)
    relative = 1 + (x**2).mean(-1, keepdims=True) / square + QK_EPS / square / subject.eps
    per_unit = np.abs(expected).max(-1, keepdims=True) / np.abs(x - offset).max(-1, keepdims=True)
    return np.asarray(np.abs(expected) * relative + per_unit * offset_terms)


@check("attn.qknorm", needs=("qk_norm",))
def check_queries_and_keys_have_the_declared_norm(subject: Subject, trial: Trial) -> None:
    """qk_norm, its gains at 1, returns the norm that the reading A31 declares. Terms: see `norm_terms`."""
    norm: Any = subject.readings["A31"]

    def holds(seed: int) -> None:
        q, k = draw_heads(subject, seed)
        outputs, references = normalised_heads(subject, q, k), qk_norm(q, k, norm=norm)
        for name, x, got, expected in zip(("queries", "keys"), (q, k), outputs, references, strict=True):
            call, terms = f"qk_norm(*sec34_norms.draw_heads(subject, {seed}))", norm_terms(subject, x, expected)
            trial.compare(f"the normalised {name}", got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    trial.for_all(seeds(), body=holds)


@check("attn.qknorm", needs=("qk_norm",))
def check_qk_norm_is_invariant_to_the_scale_of_each_head(subject: Subject, trial: Trial) -> None:
    """Every head of every token is multiplied by a power of two; the output must not change.

    The operation is compared with itself. Terms: those of `norm_terms` for both outputs.
    """

    def holds(seed: int) -> None:
        q, k = draw_heads(subject, seed)
        outputs, scaled = normalised_heads(subject, q, k), normalised_heads(subject, *scale_heads(q, k, seed))
        for name, x, expected, got in zip(("queries", "keys"), (q, k), outputs, scaled, strict=True):
            heads = f"sec34_norms.draw_heads(subject, {seed})"
            call = f"qk_norm(*sec34_norms.scale_heads(*{heads}, {seed}))"
            terms, name = 2 * norm_terms(subject, x, expected), f"the normalised {name}, after scaling each head,"
            trial.compare(name, got, expected, terms=terms, k=K, eps=subject.eps, call=call, required_by="adapter")

    trial.for_all(seeds(), body=holds)


@check("net.rmsnorm", needs=("rms_norm",))
def check_rms_norm_equals_its_formula(subject: Subject, trial: Trial) -> None:
    """rms_norm equals x · weight / √(mean(x²) + eps), for tokens with an offset, from below √eps to far above it.

    Terms: twice the value, as mean and root preserve relative errors.
    """

    def holds(seed: int, eps: float, width: int) -> None:
        rng = np.random.default_rng(seed)
        shape = (*rng.integers(1, 4, rng.integers(0, 3)), width)
        size = np.sqrt(eps) * 2.0 ** rng.integers(-2, 5, (*shape[:-1], 1))
        x = subject.round(size * (rng.standard_normal(shape) + 0.5))
        weight = subject.round(rng.standard_normal(width))
        expected, call = rms_norm(x, weight, eps), f"rms_norm({x.tolist()}, {weight.tolist()}, {eps})"
        got, terms = subject.compute("rms_norm", x, weight, eps, shape=x.shape), 2 * np.abs(expected)
        trial.compare("the normalised token", got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    trial.for_all(seeds(), st.sampled_from((2.0**-20, 2.0**-10, 2.0**-4)), st.integers(1, 17), body=holds)


@signature("qk_norm")
def signature_normalised_heads_of_many_sizes(subject: Subject) -> np.ndarray:
    """Normalised queries and keys with an offset and a different size for each head."""
    q, k = fixed_values(2, 3, 4, 8) + 0.5, fixed_values(2, 3, 2, 8) - 0.25
    sizes = 64 * 2.0 ** np.arange(4)[:, None]

    def probe() -> np.ndarray:
        return np.concatenate([x.ravel() for x in normalised_heads(subject, sizes * q, sizes[:2] * k)])

    return attempt(probe, q.size + k.size)


@signature("rms_norm")
def signature_normalised_tokens(subject: Subject) -> np.ndarray:
    """Normalised tokens with an offset, of sizes near √eps and above it."""
    x, weight = np.stack([fixed_values(2, 8) / 8, fixed_values(2, 8) + 0.5]), fixed_values(8)
    return attempt(lambda: subject.compute("rms_norm", x, weight, 2.0**-6), x.size)
