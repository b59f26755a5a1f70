"""Checks of Eq. (1) and (6): corruption."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_reference.eq01_corruption import corrupt

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
K = 4.0
"""In either form, (1 − τ) z0 + τ z1 or z0 + τ (z1 − z0), three operations round, none of them on more than |z0| +
|z1|.
"""


def _draw(subject: Subject, seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z0, z1 and levels that are multiples of 1/256, exact in every dtype and in either convention."""
    rng = np.random.default_rng(seed)
    z0, z1 = (subject.round(rng.standard_normal(shape)) for _ in range(2))
    return z0, z1, rng.integers(0, 257, shape[:2]) / 256


def _compare(
    subject: Subject, trial: Trial, contents: tuple[np.ndarray, ...], got: np.ndarray, expected: np.ndarray, **more: Any
) -> None:
    z0, z1, tau = contents
    call = f"corrupt(z0={z0.tolist()}, z1={z1.tolist()}, tau={subject.level(tau).tolist()})"
    trial.compare("z", got, expected, terms=np.abs(z0) + np.abs(z1), eps=subject.eps, call=call, **{"k": K, **more})


@check("eq01.interpolate", needs=("corrupt",))
def check_corruption_is_the_mixture(subject: Subject, trial: Trial) -> None:
    """Element by element, at random levels, for B ≠ T and B = T."""

    def holds(seed: int, shape: tuple[int, ...]) -> None:
        contents = _draw(subject, seed, shape)
        _compare(subject, trial, contents, subject.corrupt(*contents), corrupt(*contents))

    trial.for_all(seeds(), SHAPES, body=holds)


@check("eq01.endpoints", needs=("corrupt",))
def check_ends_are_noise_and_data(subject: Subject, trial: Trial) -> None:
    """Within rounding: z0 + 1 · (z1 − z0) need not be z1 to the last bit."""

    def holds(seed: int, shape: tuple[int, ...]) -> None:
        z0, z1, tau = _draw(subject, seed, shape)
        tau = np.round(tau)
        _compare(
            subject, trial, (z0, z1, tau), subject.corrupt(z0, z1, tau), np.where(tau[..., None, None] == 1, z1, z0)
        )

    trial.for_all(seeds(), SHAPES, body=holds)


@check("eq01.swap", needs=("corrupt",))
def check_noise_and_data_are_exchangeable(subject: Subject, trial: Trial) -> None:
    """Two results of the implementation, each within its own bound."""

    def holds(seed: int, shape: tuple[int, ...]) -> None:
        z0, z1, tau = _draw(subject, seed, shape)
        swapped = subject.corrupt(z1, z0, 1 - tau)
        _compare(subject, trial, (z0, z1, tau), subject.corrupt(z0, z1, tau), swapped, k=2 * K)

    trial.for_all(seeds(), SHAPES, body=holds)


@check("eq06.per-timestep", needs=("corrupt",))
def check_level_of_a_frame_changes_that_frame_alone(subject: Subject, trial: Trial) -> None:
    """Exact: the other frames stay bit for bit;
    frame t moves, as z1 lies more than 1 away from z0 and its level changes by a half.
    """

    def holds(seed: int, shape: tuple[int, ...], data: st.DataObject) -> None:
        z0, away, tau = _draw(subject, seed, shape)
        z1 = subject.round(z0 + 1 + np.abs(away))
        row, t = (data.draw(st.integers(0, size - 1)) for size in shape[:2])
        other = tau.copy()
        other[row, t] += 0.5 if tau[row, t] <= 0.5 else -0.5
        changed = subject.corrupt(z0, z1, tau) != subject.corrupt(z0, z1, other)
        levels = f"tau {subject.level(tau).tolist()} and {subject.level(other).tolist()}"
        call = f"corrupt(z0={z0.tolist()}, z1={z1.tolist()}, tau), {levels}"
        trial.require(changed[row, t].any(), f"frame {t} of row {row} ignores its own τ", call=call)
        changed[row, t] = False
        trial.require(not changed.any(), f"changing τ of frame {t} of row {row} changes other frames", call=call)

    trial.for_all(seeds(), SHAPES, st.data(), body=holds)


@signature("corrupt")
def signature_mixtures(subject: Subject) -> np.ndarray:
    """z at six levels, the ends among them, for two pairs of z0 and z1."""
    tau = np.array([[0.0, 0.25, 1.0], [0.5, 0.75, 0.125]])
    z0 = np.array([1.0, -0.5]) * np.ones((2, 3, 1, 2))
    return attempt(lambda: subject.corrupt(z0, np.array([0.25, 2.0]) * np.ones_like(z0), tau), z0.size)
