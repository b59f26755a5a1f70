"""Checks of RoPE: norms are kept, and scores depend on the difference of positions alone."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.attention_case import WIDTHS, is_not_implemented
from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import OperationFailed

K = 4
SHIFTS = (1, 7, 64, 256)
"""How far positions are moved: at last just further than bfloat16 counts."""


COVERED = 256
"""Positions that an operation has to take: tables of angles need not be longer."""


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
        if is_not_implemented(failed) or (shift >= COVERED and failed.__cause__ is not None):
            return None
        raise


@check("attn.rope", needs=("rope",))
def check_the_rotation_keeps_norms(subject: Subject, trial: Trial) -> None:
    """Terms: the norm, with angles in float32."""

    def holds(seed: int, shift: int) -> None:
        case = _turned(subject, seed, shift)
        if case is not None:
            before, after = (np.linalg.norm(x, axis=-1) for x in (case.q, case.turned_q))
            trial.compare("the norm", after, before, terms=2 * before, k=K, eps=_eps(subject), call=case.call)

    trial.for_all(seeds(), st.sampled_from((0, *SHIFTS)), body=holds)


def _eps(subject: Subject) -> float:
    """Sine and cosine may be tables in float32."""
    return max(subject.eps, EPS["float32"])


@check("attn.rope", needs=("rope",))
def check_scores_depend_on_the_difference_of_positions_alone(subject: Subject, trial: Trial) -> None:
    """And they do depend on it. One query and one key at all positions; terms: their sizes, with angles in float32."""

    def holds(seed: int, shift: int) -> None:
        near, far = _turned(subject, seed, 0), _turned(subject, seed, shift)
        if near is None:
            return
        bound = _same_at_same_distance(subject, trial, near, near)
        spread = np.ptp(near.scores, axis=(1, 2)) / near.sizes
        sentence = f"the score is the same at every distance up to {near.distance.max()}"
        trial.fail_unless((spread > bound).any(), sentence, call=near.call, got=near.scores.tolist())
        if far is not None:
            _same_at_same_distance(subject, trial, near, far)

    trial.for_all(seeds(), st.sampled_from((0, *SHIFTS)), body=holds)


def _same_at_same_distance(subject: Subject, trial: Trial, near: _Turned, far: _Turned) -> float:
    """Scores of `far` against the first of `near` at the same distance; returns the bound, as a share of ‖q‖‖k‖."""
    flat = near.distance.ravel().tolist()
    first = np.array([flat.index(distance) for distance in far.distance.ravel().tolist()])
    expected = near.scores.reshape(len(near.scores), -1)[:, first].reshape(far.scores.shape)
    terms = 4 * far.terms * far.sizes[:, None, None]
    what = f"the score at positions moved by {far.positions[0] - near.positions[0]}, but as far apart,"
    trial.compare(what, far.scores, expected, terms=terms, k=K, eps=subject.eps, call=far.call)
    return float(K * subject.eps * 4 * far.terms)


@signature("rope")
def signature_what_the_rotation_keeps(subject: Subject) -> np.ndarray:
    """Whether norms are kept, scores at one distance agree, near and far, and scores differ between distances: 0 or 1."""

    def probe() -> np.ndarray:
        near, far = _Turned(subject, 7, 0), _Turned(subject, 7, SHIFTS[-1])
        norms = np.linalg.norm(near.turned_q, axis=-1) / np.linalg.norm(near.q, axis=-1)
        scores, moved = (case.scores[0] / case.sizes[0] for case in (near, far))
        at_one_distance = [np.ptp(scores[near.distance == distance]) for distance in near.distance.ravel()]
        off = np.array([np.abs(norms - 1).max(), max(at_one_distance), np.abs(moved - scores).max(), np.ptp(scores)])
        return off > 1 / 16

    return attempt(probe, 4)
