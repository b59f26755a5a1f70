"""Checks of Eq. (1) and (6): corruption."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.eq01_corruption import corrupt

Inputs = tuple[np.ndarray, np.ndarray, np.ndarray]
K = 4.0
"""Roundings: (1 − τ) z0 + τ z1 or z0 + τ (z1 − z0), three operations on at most |z0| + |z1| each."""


def _accepts(subject: Subject, batch: int, time: int, tau: float) -> bool:
    zeros = np.zeros((batch, time, 1, 1))
    try:
        subject.corrupt(zeros, zeros, np.full((batch, time), tau))
    except OperationFailed:
        return False
    return True


def _shapes(subject: Subject) -> st.SearchStrategy[tuple[int, int, int, int]]:
    """Shapes (B, T, S, D), from B = T = 1 if the operation does not raise there."""
    smallest = ((1, 1), (1, 2), (2, 1), (2, 2))
    batch, time = next((shape for shape in smallest if _accepts(subject, *shape, 0.0)), (1, 1))
    return st.tuples(st.integers(batch, 3), st.integers(time, 4), st.integers(1, 3), st.integers(1, 3))


def _has_clean_level(subject: Subject) -> bool:
    """True if the domain of the operation includes τ = 1, which is not on the grid of training."""
    return not _accepts(subject, 2, 2, 0.0) or _accepts(subject, 2, 2, 1.0)


def _draw(subject: Subject, seed: int, shape: tuple[int, ...], *, clean: bool) -> Inputs:
    """z0, z1 (B, T, S, D) and signal levels (B, T) of the finest grid, exact in every dtype and as noise levels.

    τ = 1 is among them if `clean`. Levels off the grid are not used: code with a table of levels, which
    has no row for them, is right.
    """
    rng = np.random.default_rng(seed)
    z0, z1 = (subject.round(rng.standard_normal(shape)) for _ in range(2))
    return z0, z1, rng.integers(0, subject.k_max + clean, shape[:2]) / subject.k_max


def _compare(subject: Subject, trial: Trial, inputs: Inputs, expected: np.ndarray) -> None:
    call, terms = _call(subject, inputs)
    trial.compare("z", subject.corrupt(*inputs), expected, terms=terms, eps=subject.eps, k=K, call=call)


def _call(subject: Subject, inputs: Inputs) -> tuple[str, np.ndarray]:
    """The call as Python, and the terms of its result."""
    z0, z1, tau = inputs
    call = f"corrupt(z0={z0.tolist()}, z1={z1.tolist()}, tau={subject.level(tau).tolist()})"
    return call, np.abs(z0) + np.abs(z1)


@check("eq01.interpolate", needs=("corrupt",))
def check_corruption_is_the_mixture(subject: Subject, trial: Trial) -> None:
    """z is (1 − τ) z0 + τ z1 in every element, at random levels, for B ≠ T and B = T. Within rounding."""
    clean = _has_clean_level(subject)

    def holds(seed: int, shape: tuple[int, ...]) -> None:
        inputs = _draw(subject, seed, shape, clean=clean)
        _compare(subject, trial, inputs, corrupt(*inputs))

    trial.for_all(seeds(), _shapes(subject), body=holds)


@check("eq01.endpoints", needs=("corrupt",))
def check_ends_are_noise_and_data(subject: Subject, trial: Trial) -> None:
    """z is z0 at τ = 0 and z1 at τ = 1. Within rounding: z0 + 1 · (z1 − z0) need not be z1 to the last bit.

    An operation that raises at τ = 1, which no training step draws, is judged at τ = 0.
    """
    clean = _has_clean_level(subject)

    def holds(seed: int, shape: tuple[int, ...]) -> None:
        z0, z1, _ = _draw(subject, seed, shape, clean=clean)
        tau = np.random.default_rng(seed).integers(0, 1 + clean, shape[:2]).astype(float)
        expected = np.where(tau[..., None, None] == 1, z1, z0)
        _compare(subject, trial, (z0, z1, tau), expected)

    trial.for_all(seeds(), _shapes(subject), body=holds)


@check("eq01.swap", needs=("corrupt",))
def check_noise_and_data_are_exchangeable(subject: Subject, trial: Trial) -> None:
    """Exchanging z0 and z1 at level 1 − τ gives the same z. Twice the bound: both sides come from the adapter."""
    clean = _has_clean_level(subject)
    if subject.k_max == 1 and not clean:
        trial.inconclusive("τ = 0 is the only level of the operation")

    def holds(seed: int, shape: tuple[int, ...]) -> None:
        z0, z1, tau = _draw(subject, seed, shape, clean=clean)
        tau = tau if clean else np.maximum(tau, subject.d_min)
        got, swapped = subject.corrupt(z0, z1, tau), subject.corrupt(z1, z0, 1 - tau)
        call, terms = _call(subject, (z0, z1, tau))
        trial.compare("z", got, swapped, terms=terms, eps=subject.eps, k=2 * K, call=call, required_by="adapter")

    trial.for_all(seeds(), _shapes(subject), body=holds)


@check("eq06.per-timestep", needs=("corrupt",))
def check_level_of_a_frame_changes_only_that_frame(subject: Subject, trial: Trial) -> None:
    """Changing τ of one frame by 1/2, a level of the grid, changes z of that frame and of no other frame.

    Exact: all other frames stay equal bit for bit. The frame itself must change, because |z1 − z0| exceeds 1.
    """

    clean, step = _has_clean_level(subject), 0.5 if subject.k_max > 1 else 1.0
    if subject.k_max == 1 and not clean:
        trial.inconclusive("τ = 0 is the only level of the operation")

    def holds(seed: int, shape: tuple[int, ...], data: st.DataObject) -> None:
        z0, distance, tau = _draw(subject, seed, shape, clean=clean)
        z1 = subject.round(z0 + 1 + np.abs(distance))
        row, t = (data.draw(st.integers(0, size - 1)) for size in shape[:2])
        moved_tau = tau.copy()
        moved_tau[row, t] += step if tau[row, t] < step else -step
        changed = subject.corrupt(z0, z1, tau) != subject.corrupt(z0, z1, moved_tau)
        levels = f"tau = {subject.level(tau).tolist()} and {subject.level(moved_tau).tolist()}"
        call = f"corrupt(z0={z0.tolist()}, z1={z1.tolist()}, tau), {levels}"
        sentence = f"z of frame {t} of row {row} does not change with τ of that frame; it must"
        trial.fail_unless(changed[row, t].any(), sentence, call=call)
        changed[row, t] = False
        sentence = f"z of other frames changes with τ of frame {t} of row {row}; it must not"
        trial.fail_unless(not changed.any(), sentence, call=call)

    trial.for_all(seeds(), _shapes(subject), st.data(), body=holds)


@signature("corrupt")
def signature_mixtures(subject: Subject) -> np.ndarray:
    """z at six levels, 0 and 1 among them, for two pairs of z0 and z1."""
    tau = np.array([[0.0, 0.25, 1.0], [0.5, 0.75, 0.125]])
    z0 = np.array([1.0, -0.5]) * np.ones((2, 3, 1, 2))
    return attempt(lambda: subject.corrupt(z0, np.array([0.25, 2.0]) * np.ones_like(z0), tau), z0.size)
