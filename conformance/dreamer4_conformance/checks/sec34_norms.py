"""Checks of Sec. 3.4 on the operations `qk_norm` and `rms_norm`."""

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
"""The largest epsilon inside a QK-norm that is taken for one."""
SIZES = tuple(2.0**n for n in range(6, 11))
"""Of queries and keys: ‖q‖²/D ≫ eps."""


def tokens(subject: Subject, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """q (B, L, 4, D) and k (B, L, 2, D), every head of every token with a size of its own."""
    rng = np.random.default_rng(seed)
    batch, length, width = rng.integers(1, 3), rng.integers(1, 5), rng.choice(WIDTHS)
    shapes = [(batch, length, heads, width) for heads in (4, 2)]
    q, k = (rng.choice(SIZES, (*shape[:3], 1)) * (rng.standard_normal(shape) + 0.5) for shape in shapes)
    return subject.round(q), subject.round(k)


def multiplied(q: np.ndarray, k: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Every head of every token by a power of two from 1 to 256."""
    rng = np.random.default_rng(seed + 1)
    one, other = (x * 2.0 ** rng.integers(0, 9, (*x.shape[:3], 1)) for x in (q, k))
    return one, other


def normalised(subject: Subject, q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `qk_norm` returned."""
    returned = subject.call("qk_norm", subject.native(q), subject.native(k))
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise OperationFailed(f"qk_norm returned {type(returned).__name__}; it needs a pair (q, k)")
    return subject.read("qk_norm: q", returned[0], q.shape), subject.read("qk_norm: k", returned[1], k.shape)


def _norm_terms(subject: Subject, x: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The value, by what its mean square rounds and an epsilon takes away; under "layernorm" also the mean taken off, term by term."""
    centred = subject.readings["A31"] == "layernorm"
    offset, of_offset = (centred * y.mean(-1, keepdims=True) for y in (x, np.abs(x)))
    square = ((x - offset) ** 2).mean(-1, keepdims=True)
    relative = 1 + (x**2).mean(-1, keepdims=True) / square + QK_EPS / square / subject.eps
    per_unit = np.abs(expected).max(-1, keepdims=True) / np.abs(x - offset).max(-1, keepdims=True)
    return np.asarray(np.abs(expected) * relative + per_unit * of_offset)


@check("attn.qknorm", needs=("qk_norm",))
def check_queries_and_keys_have_the_declared_norm(subject: Subject, trial: Trial) -> None:
    """With gains at 1, as A31 has it. Terms: see `_norm_terms`."""
    norm: Any = subject.readings["A31"]

    def holds(seed: int) -> None:
        q, k = tokens(subject, seed)
        parts = zip(("queries", "keys"), (q, k), normalised(subject, q, k), qk_norm(q, k, norm=norm), strict=True)
        for what, given_, got, expected in parts:
            call, terms = f"qk_norm(*norms.tokens(subject, {seed}))", _norm_terms(subject, given_, expected)
            trial.compare(f"the normalised {what}", got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    trial.for_all(seeds(), body=holds)


@check("attn.qknorm", needs=("qk_norm",))
def check_the_size_of_one_head_changes_nothing(subject: Subject, trial: Trial) -> None:
    """The operation against itself, every head of every token multiplied by a power of two. Terms: see `_norm_terms`, twice."""

    def holds(seed: int) -> None:
        q, k = tokens(subject, seed)
        before, after = normalised(subject, q, k), normalised(subject, *multiplied(q, k, seed))
        for what, given_, one, other in zip(("queries", "keys"), (q, k), before, after, strict=True):
            call = f"qk_norm(*norms.multiplied(*norms.tokens(subject, {seed}), {seed}))"
            terms = 2 * _norm_terms(subject, given_, one)
            what = f"the normalised {what}, after each head was multiplied,"
            trial.compare(what, other, one, terms=terms, k=K, eps=subject.eps, call=call)

    trial.for_all(seeds(), body=holds)


@check("net.rmsnorm", needs=("rms_norm",))
def check_rms_norm_equals_its_formula(subject: Subject, trial: Trial) -> None:
    """Tokens from far below √eps to far above it, with an offset. Terms: the value, as mean and root keep relative errors."""

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
    """With an offset and a size for each head."""
    q, k = fixed_values(2, 3, 4, 8) + 0.5, fixed_values(2, 3, 2, 8) - 0.25
    sizes = 64 * 2.0 ** np.arange(4)[:, None]

    def probe() -> np.ndarray:
        return np.concatenate([x.ravel() for x in normalised(subject, sizes * q, sizes[:2] * k)])

    return attempt(probe, q.size + k.size)


@signature("rms_norm")
def signature_normalised_tokens(subject: Subject) -> np.ndarray:
    """Near √eps and above it, with an offset."""
    x, weight = np.stack([fixed_values(2, 8) / 8, fixed_values(2, 8) + 0.5]), fixed_values(8)
    return attempt(lambda: subject.compute("rms_norm", x, weight, 2.0**-6), x.size)
