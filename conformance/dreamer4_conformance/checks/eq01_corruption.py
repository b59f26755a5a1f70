"""Checks of Eq. (1) and (6): corruption."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_reference.eq01_corruption import corrupt

Inputs = tuple[np.ndarray, np.ndarray, np.ndarray]
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
K = 4.0
"""Roundings: (1 − τ) z0 + τ z1 or z0 + τ (z1 − z0), three operations on at most |z0| + |z1| each."""


def _draw(subject: Subject, seed: int, shape: tuple[int, ...]) -> Inputs:
    """z0, z1 (B, T, S, D) and signal levels (B, T), multiples of 1/256: exact in every dtype and as noise levels."""
    rng = np.random.default_rng(seed)
    z0, z1 = (subject.round(rng.standard_normal(shape)) for _ in range(2))
    return z0, z1, rng.integers(0, 257, shape[:2]) / 256


def _compare(
    subject: Subject, trial: Trial, inputs: Inputs, got: np.ndarray, expected: np.ndarray, k: float = K
) -> None:
    z0, z1, tau = inputs
    call = f"corrupt(z0={z0.tolist()}, z1={z1.tolist()}, tau={subject.level(tau).tolist()})"
    trial.compare("z", got, expected, terms=np.abs(z0) + np.abs(z1), eps=subject.eps, k=k, call=call)


@check("eq01.interpolate", needs=("corrupt",))
def check_corruption_is_the_mixture(subject: Subject, trial: Trial) -> None:
    """z is (1 − τ) z0 + τ z1 in every element, at random levels, for B ≠ T and B = T. Within rounding."""

    def holds(seed: int, shape: tuple[int, ...]) -> None:
        inputs = _draw(subject, seed, shape)
        _compare(subject, trial, inputs, subject.corrupt(*inputs), corrupt(*inputs))

    trial.for_all(seeds(), SHAPES, body=holds)


@check("eq01.endpoints", needs=("corrupt",))
def check_ends_are_noise_and_data(subject: Subject, trial: Trial) -> None:
    """z is z0 at τ = 0 and z1 at τ = 1. Within rounding: z0 + 1 · (z1 − z0) need not be z1 to the last bit."""

    def holds(seed: int, shape: tuple[int, ...]) -> None:
        z0, z1, tau = _draw(subject, seed, shape)
        tau = np.round(tau)
        expected = np.where(tau[..., None, None] == 1, z1, z0)
        _compare(subject, trial, (z0, z1, tau), subject.corrupt(z0, z1, tau), expected)

    trial.for_all(seeds(), SHAPES, body=holds)


@check("eq01.swap", needs=("corrupt",))
def check_noise_and_data_are_exchangeable(subject: Subject, trial: Trial) -> None:
    """Exchanging z0 and z1 at level 1 − τ gives the same z. Twice the bound: both sides come from the adapter."""

    def holds(seed: int, shape: tuple[int, ...]) -> None:
        z0, z1, tau = _draw(subject, seed, shape)
        swapped = subject.corrupt(z1, z0, 1 - tau)
        _compare(subject, trial, (z0, z1, tau), subject.corrupt(z0, z1, tau), swapped, k=2 * K)

    trial.for_all(seeds(), SHAPES, body=holds)


@check("eq06.per-timestep", needs=("corrupt",))
def check_level_of_a_frame_changes_only_that_frame(subject: Subject, trial: Trial) -> None:
    """Changing τ of one frame by 1/2 changes z of that frame and of no other frame.

    Exact: all other frames stay equal bit for bit. The frame itself must change, because |z1 − z0| exceeds 1.
    """

    def holds(seed: int, shape: tuple[int, ...], data: st.DataObject) -> None:
        z0, distance, tau = _draw(subject, seed, shape)
        z1 = subject.round(z0 + 1 + np.abs(distance))
        row, t = (data.draw(st.integers(0, size - 1)) for size in shape[:2])
        moved_tau = tau.copy()
        moved_tau[row, t] += 0.5 if tau[row, t] <= 0.5 else -0.5
        changed = subject.corrupt(z0, z1, tau) != subject.corrupt(z0, z1, moved_tau)
        levels = f"tau = {subject.level(tau).tolist()} and {subject.level(moved_tau).tolist()}"
        call = f"corrupt(z0={z0.tolist()}, z1={z1.tolist()}, tau), {levels}"
        sentence = f"z of frame {t} of row {row} does not change with τ of that frame; it must"
        trial.fail_unless(changed[row, t].any(), sentence, call=call)
        changed[row, t] = False
        sentence = f"z of other frames changes with τ of frame {t} of row {row}; it must not"
        trial.fail_unless(not changed.any(), sentence, call=call)

    trial.for_all(seeds(), SHAPES, st.data(), body=holds)


@signature("corrupt")
def signature_mixtures(subject: Subject) -> np.ndarray:
    """z at six levels, 0 and 1 among them, for two pairs of z0 and z1."""
    tau = np.array([[0.0, 0.25, 1.0], [0.5, 0.75, 0.125]])
    z0 = np.array([1.0, -0.5]) * np.ones((2, 3, 1, 2))
    return attempt(lambda: subject.corrupt(z0, np.array([0.25, 2.0]) * np.ones_like(z0), tau), z0.size)
