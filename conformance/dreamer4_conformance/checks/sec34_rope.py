"""Checks of `rope`: it preserves norms, and scores depend on the difference of positions only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.attention_case import WIDTHS
from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import NotProvided, OperationFailed

K = 4
SHIFTS = (1, 7, 64, 256, 10_000)
"""Offsets of all positions; 256 is just beyond the integers that bfloat16 represents."""
COVERED = 64
"""Positions that an operation must accept; a table of angles may end there."""
STRETCHES = ((0, 4096), (0, 1024), (0, 256), (0, COVERED))
"""First and last position + 1 of consecutive positions; the longest that the operation accepts is judged."""
FAR_STRETCHES = tuple((2**n - 96, 2**n + 96) for n in (13, 15, 16))
"""Consecutive positions around the ends of integer types, which an operation may reject."""
LAGS = (0, 1, 7, 64, 191, 192, 1000)
"""Distances of the pairs that are compared along a stretch."""


class _Rotated:
    """One query and one key per row and head, repeated at increasing positions with gaps, rotated by the operation."""

    def __init__(self, subject: Subject, seed: int, shift: int) -> None:
        rng = np.random.default_rng(seed)
        batch, heads, width = int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.choice(WIDTHS))
        length = rng.integers(4, 10)
        self.positions = shift + np.cumsum(rng.integers(1, 4, length))
        self.distance = self.positions[:, None] - self.positions
        vectors = [_vectors(subject, rng, batch, heads, width) for _ in range(2)]
        self.q, self.k = (np.repeat(x, length, axis=1) for x in vectors)
        self.q_rotated, self.k_rotated = (
            subject.compute("rope", x, self.positions, shape=x.shape) for x in (self.q, self.k)
        )
        self.sizes = (np.linalg.norm(self.q[:, 0], axis=-1) * np.linalg.norm(self.k[:, 0], axis=-1)).ravel()
        # Angles are computed in at least float32, whatever the dtype of x.
        self.terms = 1 + (1 + self.positions.max()) * EPS["float32"] / subject.eps

    @property
    def call(self) -> str:
        return f"rope(x, {self.positions.tolist()}), x at each position {self.q[:, 0].tolist()} (B, H, D)"

    @property
    def scores(self) -> np.ndarray:
        """Scores of the rotated queries (rows) and keys, (B·H, L, L)."""
        scores = np.einsum("bihd,bjhd->bhij", self.q_rotated, self.k_rotated)
        return scores.reshape(-1, *scores.shape[2:])


def _vectors(subject: Subject, rng: np.random.Generator, batch: int, heads: int, width: int) -> np.ndarray:
    """One vector per row and head, (B, 1, H, D), every channel at least 1: rotating only a few of them shows."""
    shape = (batch, 1, heads, width)
    return subject.round(rng.choice((-1, 1), shape) * (1 + rng.random(shape)))


def _rotated(subject: Subject, seed: int, shift: int) -> _Rotated | None:
    """The case; None if the operation does not support it."""
    try:
        return _Rotated(subject, seed, shift)
    except NotProvided:
        return None
    except OperationFailed as failed:
        _raise_unless_unsupported(failed, first=shift, last=shift)
        return None


def _raise_unless_unsupported(failed: OperationFailed, *, first: int, last: int) -> None:
    """Raise a failure again, except any exception for positions from `COVERED` on."""
    if max(first, last) < COVERED or failed.__cause__ is None:
        raise failed


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
    trial.compare(name, far.scores, expected, terms=terms, k=K, eps=subject.eps, call=far.call, required_by="adapter")
    return float(K * subject.eps * 4 * far.terms)


@check("attn.rope", needs=("rope",))
def check_scores_depend_on_the_distance_along_thousands_of_positions(subject: Subject, trial: Trial) -> None:
    """Scores at one distance are the same along consecutive positions: no position is an earlier one again.

    Positions that wrap at a window, at a ring's or at an integer's end change the score of the pairs across the end.
    Terms: ‖q‖ ‖k‖, with angles in float32.
    """
    for seed in range(2):
        stretch = next(filter(None, (_stretch(subject, seed, *ends) for ends in STRETCHES)), None)
        if stretch is None:
            trial.inconclusive("rope raises NotImplementedError on every call of this check")
        first = {lag: stretch.scores(lag)[:1] for lag in LAGS if lag < len(stretch.positions)}
        for case in (stretch, *filter(None, (_stretch(subject, seed, *ends) for ends in FAR_STRETCHES))):
            for lag in (lag for lag in first if lag < len(case.positions)):
                name = f"the score of positions p and p − {lag}, for some p, compared with that of {lag} and 0,"
                _compare_lag(subject, trial, name, case, lag, first[lag])


@dataclass(frozen=True)
class _Stretch:
    """One query and one key, rotated by the operation at consecutive positions (L,): q and k (L, D)."""

    positions: np.ndarray
    vectors: tuple[np.ndarray, np.ndarray]
    q: np.ndarray
    k: np.ndarray

    def scores(self, lag: int) -> np.ndarray:
        """Scores (L − lag,) of each query and the key `lag` positions before."""
        return np.asarray((self.q[lag:] * self.k[: len(self.k) - lag]).sum(-1))


def _stretch(subject: Subject, seed: int, first: int, stop: int) -> _Stretch | None:
    """The rotated vectors; None if the operation does not support these positions."""
    rng, positions = np.random.default_rng(seed), np.arange(first, stop)
    q, k = (_vectors(subject, rng, 1, 1, WIDTHS[0])[0, 0, 0] for _ in range(2))
    x = np.stack([np.repeat(vector[None, None], len(positions), 0) for vector in (q, k)])
    try:
        rotated = subject.compute("rope", x, positions, shape=x.shape)
    except NotProvided:
        return None
    except OperationFailed as failed:
        _raise_unless_unsupported(failed, first=first, last=stop - 1)
        return None
    return _Stretch(positions, (q, k), rotated[0, :, 0], rotated[1, :, 0])


def _compare_lag(subject: Subject, trial: Trial, name: str, case: _Stretch, lag: int, expected: np.ndarray) -> None:
    """Compare the scores at one distance with the score of the positions `lag` and 0."""
    q, k = case.vectors
    positions = case.positions[lag:]
    angles = 1 + (1 + positions) * EPS["float32"] / subject.eps
    terms = 4 * angles * np.linalg.norm(q) * np.linalg.norm(k)
    call = f"rope(x, arange({positions[0] - lag}, {positions[-1] + 1})), x at each position {q.tolist()}, {k.tolist()}"
    got = case.scores(lag)
    trial.compare(
        name,
        got,
        np.broadcast_to(expected, got.shape),
        terms=terms,
        k=K,
        eps=subject.eps,
        call=call,
        required_by="adapter",
    )


@signature("rope")
def signature_invariants_of_the_rotation(subject: Subject) -> np.ndarray:
    """Four flags: norms change; scores differ at one distance; scores differ after a shift; scores vary at all."""

    def probe() -> np.ndarray:
        near, far = _Rotated(subject, 7, 0), _Rotated(subject, 7, 256)
        norms = np.linalg.norm(near.q_rotated, axis=-1) / np.linalg.norm(near.q, axis=-1)
        scores, shifted = (case.scores[0] / case.sizes[0] for case in (near, far))
        spread = max(np.ptp(scores[near.distance == distance]) for distance in near.distance.ravel())
        return np.array([np.abs(norms - 1).max(), spread, np.abs(shifted - scores).max(), np.ptp(scores)]) > 1 / 16

    return attempt(probe, 4)


@signature("rope")
def signature_where_positions_end(subject: Subject) -> np.ndarray:
    """The first of thousands of positions, and the first around 2¹⁵, that scores differently with the one before it."""

    def probe(first: int, stop: int) -> float:
        stretch = _stretch(subject, 1, first, stop)
        if stretch is None:
            return -1.0
        scores, size = stretch.scores(1), float(np.prod([np.linalg.norm(x) for x in stretch.vectors]))
        ends = np.flatnonzero(np.abs(scores - scores[0]) > size / 16)
        return (first + 1 + ends[0]) / 100 if len(ends) else 0.0

    return np.concatenate([attempt(partial(probe, *ends), 1) for ends in (STRETCHES[0], FAR_STRETCHES[1])])
