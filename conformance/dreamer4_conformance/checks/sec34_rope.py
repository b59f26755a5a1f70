"""Checks of `rope`: it preserves norms, and scores depend on the difference of positions only."""

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
"""Offsets of all positions; the largest is just beyond the integers that bfloat16 represents."""
COVERED = 256
"""Positions that an operation must accept; a table of angles may end there."""


class _Rotated:
    """One query and one key per head, repeated at increasing positions with gaps and rotated by the operation."""

    def __init__(self, subject: Subject, seed: int, shift: int) -> None:
        rng = np.random.default_rng(seed)
        heads, width, length = int(rng.integers(1, 4)), int(rng.choice(WIDTHS)), rng.integers(4, 10)
        self.positions = shift + np.cumsum(rng.integers(1, 4, length))
        self.distance = self.positions[:, None] - self.positions
        self.q, self.k = (np.repeat(_vectors(subject, rng, heads, width), length, axis=1) for _ in range(2))
        self.q_rotated, self.k_rotated = (
            subject.compute("rope", x, self.positions, shape=x.shape) for x in (self.q, self.k)
        )
        self.sizes = np.linalg.norm(self.q[0, 0], axis=-1) * np.linalg.norm(self.k[0, 0], axis=-1)
        # Angles are computed in at least float32, whatever the dtype of x.
        self.terms = 1 + (1 + self.positions.max()) * EPS["float32"] / subject.eps

    @property
    def call(self) -> str:
        return f"rope(x, {self.positions.tolist()}), x at each position {self.q[0, 0].tolist()}"

    @property
    def scores(self) -> np.ndarray:
        """Scores of the rotated queries (rows) and keys, (H, L, L)."""
        return np.einsum("bihd,bjhd->hij", self.q_rotated, self.k_rotated)


def _vectors(subject: Subject, rng: np.random.Generator, heads: int, width: int) -> np.ndarray:
    """One vector per head, (1, 1, H, D), every channel at least 1 in size: rotating only a few of them shows."""
    shape = (1, 1, heads, width)
    return subject.round(rng.choice((-1, 1), shape) * (1 + rng.random(shape)))


def _rotated(subject: Subject, seed: int, shift: int) -> _Rotated | None:
    """The case; None if the operation raises NotImplementedError or, beyond `COVERED` positions, anything."""
    try:
        return _Rotated(subject, seed, shift)
    except OperationFailed as failed:
        if is_not_implemented(failed) or (shift >= COVERED and failed.__cause__ is not None):
            return None
        raise


@check("attn.rope", needs=("rope",))
def check_rotation_preserves_norms(subject: Subject, trial: Trial) -> None:
    """The norm of every rotated query is that of the query. Terms: the norm, with angles in float32."""

    def holds(seed: int, shift: int) -> None:
        case = _rotated(subject, seed, shift)
        if case is not None:
            before, after = (np.linalg.norm(x, axis=-1) for x in (case.q, case.q_rotated))
            trial.compare("the norm", after, before, terms=2 * before, k=K, eps=_eps(subject), call=case.call)

    trial.for_all(seeds(), st.sampled_from((0, *SHIFTS)), body=holds)


def _eps(subject: Subject) -> float:
    """Rounding of one operation, at least that of float32: sine and cosine may be tables in float32."""
    return max(subject.eps, EPS["float32"])


@check("attn.rope", needs=("rope",))
def check_scores_depend_on_the_difference_of_positions_only(subject: Subject, trial: Trial) -> None:
    """Scores of one query and one key at many positions are equal at equal distances, and differ between distances.

    Terms: ‖q‖ ‖k‖, with angles in float32.
    """

    def holds(seed: int, shift: int) -> None:
        near, far = _rotated(subject, seed, 0), _rotated(subject, seed, shift)
        if near is None:
            return
        bound = _compare_scores(subject, trial, near, near)
        spread = np.ptp(near.scores, axis=(1, 2)) / near.sizes
        sentence = f"the score is the same at every distance up to {near.distance.max()}"
        trial.fail_unless((spread > bound).any(), sentence, call=near.call, got=near.scores.tolist())
        if far is not None:
            _compare_scores(subject, trial, near, far)

    trial.for_all(seeds(), st.sampled_from((0, *SHIFTS)), body=holds)


def _compare_scores(subject: Subject, trial: Trial, near: _Rotated, far: _Rotated) -> float:
    """Compare the scores of `far` with the first of `near` at the same distance; return the bound in ‖q‖ ‖k‖."""
    flat = near.distance.ravel().tolist()
    first = np.array([flat.index(distance) for distance in far.distance.ravel().tolist()])
    expected = near.scores.reshape(len(near.scores), -1)[:, first].reshape(far.scores.shape)
    terms = 4 * far.terms * far.sizes[:, None, None]
    name = f"the score at the same distance, with both positions moved by {far.positions[0] - near.positions[0]},"
    trial.compare(name, far.scores, expected, terms=terms, k=K, eps=subject.eps, call=far.call)
    return float(K * subject.eps * 4 * far.terms)


@signature("rope")
def signature_invariants_of_the_rotation(subject: Subject) -> np.ndarray:
    """Four flags: norms change; scores differ at one distance; scores differ after a shift; scores vary at all."""

    def probe() -> np.ndarray:
        near, far = _Rotated(subject, 7, 0), _Rotated(subject, 7, SHIFTS[-1])
        norms = np.linalg.norm(near.q_rotated, axis=-1) / np.linalg.norm(near.q, axis=-1)
        scores, shifted = (case.scores[0] / case.sizes[0] for case in (near, far))
        spread = max(np.ptp(scores[near.distance == distance]) for distance in near.distance.ravel())
        return np.array([np.abs(norms - 1).max(), spread, np.abs(shifted - scores).max(), np.ptp(scores)]) > 1 / 16

    return attempt(probe, 4)
