"""Checks of Sec. 3.4 on the operations `qk_norm`, `rope`, `rms_norm` and `swiglu`."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dreamer4_conformance.instruments.attention_case import refused
from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.sec34_norms import qk_norm, rms_norm
from dreamer4_reference.sec34_swiglu import silu, swiglu

K = 4
QK_EPS = 1e-4
"""The largest epsilon inside a QK-norm that is taken for one."""
SIZES = tuple(2.0**n for n in range(6, 11))
"""Of queries and keys: ‖q‖²/D ≫ eps."""
WIDTHS = (8, 16, 24)
SHIFTS = (1, 7, 64, 256)
"""How far positions are moved: at last just further than bfloat16 counts."""
COVERED = 256
"""Positions that an operation has to take: tables of angles need not be longer."""


# QK-norm


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
def queries_and_keys_have_the_declared_norm(subject: Subject, trial: Trial) -> None:
    """With gains at 1, as A31 has it. Terms: see `_norm_terms`."""
    norm: Any = subject.readings["A31"]

    @trial.examples
    @given(seeds())
    def holds(seed: int) -> None:
        q, k = tokens(subject, seed)
        parts = zip(("queries", "keys"), (q, k), normalised(subject, q, k), qk_norm(q, k, norm=norm), strict=True)
        for what, given_, got, expected in parts:
            call, terms = f"qk_norm(*norms.tokens(subject, {seed}))", _norm_terms(subject, given_, expected)
            trial.compare(f"the normalised {what}", got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    holds()


@check("attn.qknorm", needs=("qk_norm",))
def the_size_of_one_head_changes_nothing(subject: Subject, trial: Trial) -> None:
    """The operation against itself, every head of every token multiplied by a power of two. Terms: see `_norm_terms`, twice."""

    @trial.examples
    @given(seeds())
    def holds(seed: int) -> None:
        q, k = tokens(subject, seed)
        before, after = normalised(subject, q, k), normalised(subject, *multiplied(q, k, seed))
        for what, given_, one, other in zip(("queries", "keys"), (q, k), before, after, strict=True):
            call = f"qk_norm(*norms.multiplied(*norms.tokens(subject, {seed}), {seed}))"
            terms = 2 * _norm_terms(subject, given_, one)
            what = f"the normalised {what}, after each head was multiplied,"
            trial.compare(what, other, one, terms=terms, k=K, eps=subject.eps, call=call)

    holds()


# RoPE


class _Turned:
    """One query and one key per head, the same at every position, rotated to increasing positions with gaps."""

    def __init__(self, subject: Subject, seed: int, shift: int) -> None:
        rng = np.random.default_rng(seed)
        heads, width, length = int(rng.integers(1, 4)), int(rng.choice(WIDTHS)), rng.integers(4, 10)
        self.positions = shift + np.cumsum(rng.integers(1, 4, length))
        self.distance = self.positions[:, None] - self.positions
        self.q, self.k = (np.repeat(_even(subject, rng, heads, width), length, axis=1) for _ in range(2))
        self.turned_q, self.turned_k = (
            subject.compute("rope", x, self.positions, shape=x.shape) for x in (self.q, self.k)
        )
        self.sizes = np.linalg.norm(self.q[0, 0], axis=-1) * np.linalg.norm(self.k[0, 0], axis=-1)
        # Angles are taken in float32 at least, whatever turns with them.
        self.terms = 1 + (1 + self.positions.max()) * EPS["float32"] / subject.eps

    @property
    def call(self) -> str:
        return f"rope(x, {self.positions.tolist()}), x at each position {self.q[0, 0].tolist()}"

    @property
    def scores(self) -> np.ndarray:
        """(H, L, L)"""
        return np.einsum("bihd,bjhd->hij", self.turned_q, self.turned_k)


def _even(subject: Subject, rng: np.random.Generator, heads: int, width: int) -> np.ndarray:
    """(1, 1, H, D): no channel is small, so that turning only a few of them shows."""
    shape = (1, 1, heads, width)
    return subject.round(rng.choice((-1, 1), shape) * (1 + rng.random(shape)))


def _turned(subject: Subject, seed: int, shift: int) -> _Turned | None:
    """None where the operation refuses the positions with NotImplementedError, or, beyond `COVERED`, in any way."""
    try:
        return _Turned(subject, seed, shift)
    except OperationFailed as failed:
        if refused(failed) or (shift >= COVERED and failed.__cause__ is not None):
            return None
        raise


@check("attn.rope", needs=("rope",))
def the_rotation_keeps_norms(subject: Subject, trial: Trial) -> None:
    """Terms: the norm, with angles in float32."""

    @trial.examples
    @given(seeds(), st.sampled_from((0, *SHIFTS)))
    def holds(seed: int, shift: int) -> None:
        case = _turned(subject, seed, shift)
        if case is not None:
            before, after = (np.linalg.norm(x, axis=-1) for x in (case.q, case.turned_q))
            trial.compare("the norm", after, before, terms=2 * before, k=K, eps=_eps(subject), call=case.call)

    holds()


def _eps(subject: Subject) -> float:
    """Sine and cosine may be tables in float32."""
    return max(subject.eps, EPS["float32"])


@check("attn.rope", needs=("rope",))
def scores_depend_on_the_difference_of_positions_alone(subject: Subject, trial: Trial) -> None:
    """And they do depend on it. One query and one key at all positions; terms: their sizes, with angles in float32."""

    @trial.examples
    @given(seeds(), st.sampled_from((0, *SHIFTS)))
    def holds(seed: int, shift: int) -> None:
        near, far = _turned(subject, seed, 0), _turned(subject, seed, shift)
        if near is None:
            return
        bound = _same_at_same_distance(subject, trial, near, near)
        spread = np.ptp(near.scores, axis=(1, 2)) / near.sizes
        sentence = f"the score is the same at every distance up to {near.distance.max()}"
        trial.require((spread > bound).any(), sentence, call=near.call, got=near.scores.tolist())
        if far is not None:
            _same_at_same_distance(subject, trial, near, far)

    holds()


def _same_at_same_distance(subject: Subject, trial: Trial, near: _Turned, far: _Turned) -> float:
    """Scores of `far` against the first of `near` at the same distance; returns the bound, as a share of ‖q‖‖k‖."""
    flat = near.distance.ravel().tolist()
    first = np.array([flat.index(distance) for distance in far.distance.ravel().tolist()])
    expected = near.scores.reshape(len(near.scores), -1)[:, first].reshape(far.scores.shape)
    terms = 4 * far.terms * far.sizes[:, None, None]
    what = f"the score at positions moved by {far.positions[0] - near.positions[0]}, but as far apart,"
    trial.compare(what, far.scores, expected, terms=terms, k=K, eps=subject.eps, call=far.call)
    return float(K * subject.eps * 4 * far.terms)


# RMSNorm and SwiGLU


@check("net.rmsnorm", needs=("rms_norm",))
def rms_norm_equals_its_formula(subject: Subject, trial: Trial) -> None:
    """Tokens from far below √eps to far above it, with an offset. Terms: the value, as mean and root keep relative errors."""

    @trial.examples
    @given(seeds(), st.sampled_from((2.0**-20, 2.0**-10, 2.0**-4)), st.integers(1, 17))
    def holds(seed: int, eps: float, width: int) -> None:
        rng = np.random.default_rng(seed)
        shape = (*rng.integers(1, 4, rng.integers(0, 3)), width)
        size = np.sqrt(eps) * 2.0 ** rng.integers(-2, 5, (*shape[:-1], 1))
        x = subject.round(size * (rng.standard_normal(shape) + 0.5))
        weight = subject.round(rng.standard_normal(width))
        expected, call = rms_norm(x, weight, eps), f"rms_norm({x.tolist()}, {weight.tolist()}, {eps})"
        got, terms = subject.compute("rms_norm", x, weight, eps, shape=x.shape), 2 * np.abs(expected)
        trial.compare("the normalised token", got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    holds()


def _swiglu_inputs(subject: Subject, seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    width, hidden = rng.integers(1, 9, 2)
    shape = (*rng.integers(1, 4, rng.integers(0, 3)), width)
    weights = [(width, hidden), (width, hidden), (hidden, width)]
    return tuple(subject.round(rng.standard_normal(axes)) for axes in (shape, *weights))


@check("net.swiglu", needs=("swiglu",))
def swiglu_equals_its_formula(subject: Subject, trial: Trial) -> None:
    """Terms: those of both products, passed on through silu (slope ≤ 1.1), the gate and W_down."""

    @trial.examples
    @given(seeds())
    def holds(seed: int) -> None:
        x, w_gate, w_up, w_down = given_ = _swiglu_inputs(subject, seed)
        gate, up = silu(x @ w_gate), x @ w_up
        of_gate, of_up = (np.abs(x) @ np.abs(w) for w in (w_gate, w_up))
        of_hidden = (1.1 * of_gate + np.abs(gate)) * np.abs(up) + np.abs(gate) * of_up
        terms, expected = of_hidden @ np.abs(w_down), swiglu(x, w_gate, w_up, w_down)
        call = f"swiglu({', '.join(str(part.tolist()) for part in given_)})"
        got = subject.compute("swiglu", *given_, shape=x.shape)
        trial.compare("the output", got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    holds()


# Signatures


def _steps(*shape: int) -> np.ndarray:
    """Eighths between −1 and 1, in no order."""
    return np.asarray((np.arange(np.prod(shape)) * 7 % 17 - 8).reshape(shape) / 8)


@signature("qk_norm")
def normalised_heads_of_many_sizes(subject: Subject) -> np.ndarray:
    """With an offset and a size for each head."""
    q, k = _steps(2, 3, 4, 8) + 0.5, _steps(2, 3, 2, 8) - 0.25
    sizes = 64 * 2.0 ** np.arange(4)[:, None]

    def probe() -> np.ndarray:
        return np.concatenate([x.ravel() for x in normalised(subject, sizes * q, sizes[:2] * k)])

    return attempt(probe, q.size + k.size)


@signature("rope")
def what_the_rotation_keeps(subject: Subject) -> np.ndarray:
    """Whether norms are kept, scores at one distance agree, near and far, and scores differ between distances: 0 or 1."""

    def probe() -> np.ndarray:
        near, far = _Turned(subject, 7, 0), _Turned(subject, 7, SHIFTS[-1])
        norms = np.linalg.norm(near.turned_q, axis=-1) / np.linalg.norm(near.q, axis=-1)
        scores, moved = (case.scores[0] / case.sizes[0] for case in (near, far))
        at_one_distance = [np.ptp(scores[near.distance == distance]) for distance in near.distance.ravel()]
        off = np.array([np.abs(norms - 1).max(), max(at_one_distance), np.abs(moved - scores).max(), np.ptp(scores)])
        return off > 1 / 16

    return attempt(probe, 4)


@signature("rms_norm")
def normalised_tokens(subject: Subject) -> np.ndarray:
    """Near √eps and above it, with an offset."""
    x, weight = np.stack([_steps(2, 8) / 8, _steps(2, 8) + 0.5]), _steps(8)
    return attempt(lambda: subject.compute("rms_norm", x, weight, 2.0**-6), x.size)


@signature("swiglu")
def outputs_of_fixed_weights(subject: Subject) -> np.ndarray:
    """Three tokens."""
    given_ = (2 * _steps(3, 4), _steps(4, 5), _steps(5, 4).T.copy(), _steps(5, 4))
    return attempt(lambda: subject.compute("swiglu", *given_), 12)
