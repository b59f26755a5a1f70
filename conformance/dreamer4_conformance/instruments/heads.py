"""Heads of the agent: bins of two-hot values, and the trajectories from which λ-returns are computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.eq10_lambda_return import lambda_returns


def adapter_bins(subject: Subject) -> np.ndarray:
    """The adapter's `twohot_bins`, (K,).

    Raises:
        OperationFailed: if they are not finite and ascending.
    """
    bins = subject.compute("twohot_bins")
    if bins.ndim != 1 or len(bins) < 2 or not (np.isfinite(bins).all() and (np.diff(bins) > 0).all()):
        raise OperationFailed(f"twohot_bins returned shape {bins.shape}; it needs (K,), finite and ascending")
    return bins


DENOMINATOR = 256
"""γ, λ and c are multiples of 1/256, exact in every dtype."""


@dataclass(frozen=True)
class Trajectory:
    """Arguments of `lambda_returns`: reward, cont (B, H); value (B, H + 1)."""

    reward: np.ndarray
    value: np.ndarray
    cont: np.ndarray
    gamma: float
    lam: float

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Positional arguments of the operation."""
        return self.reward, self.value, self.cont, self.gamma, self.lam

    def __str__(self) -> str:
        """The arguments as Python."""
        return ", ".join(str(x.tolist()) if isinstance(x, np.ndarray) else str(x) for x in self.arguments)


def draw_trajectory(subject: Subject, seed: int, shape: tuple[int, int], gamma: float, lam: float) -> Trajectory:
    """Draw standard normal rewards and values (B, H) and (B, H + 1), and c in [0, 1] with many zeros and ones.

    With A15 "next" the last c is 1, because the paper leaves the step past the end open.
    """
    rng = np.random.default_rng(seed)
    reward, value = rng.standard_normal(shape), rng.standard_normal((shape[0], shape[1] + 1))
    cont = np.clip(rng.integers(-DENOMINATOR // 2, 2 * DENOMINATOR, shape), 0, DENOMINATOR) / DENOMINATOR
    if subject.readings["A15"] == "next":
        cont[:, -1] = 1.0
    return Trajectory(subject.round(reward), subject.round(value), cont, gamma, lam)


def expected_returns(subject: Subject, case: Trajectory) -> np.ndarray:
    """λ-returns of the reference under the adapter's readings, (B, H)."""
    mixture, pairing = subject.readings["A13"], subject.readings["A15"]
    return np.asarray(lambda_returns(*case.arguments, mixture=mixture, pairing=pairing))  # type: ignore[arg-type]


def returns_magnitude(subject: Subject, case: Trajectory) -> np.ndarray:
    """Sum of absolute terms |r| + γ c ((1 − λ)|v| + λ …), times the number of remaining steps.

    |v_t| is included, because an implementation may add TD errors to v_t.
    """
    reward = np.abs(case.reward) + np.abs(case.value[:, :-1])
    sizes = expected_returns(subject, replace(case, reward=reward, value=np.abs(case.value)))
    return np.asarray(sizes * (1 + np.arange(reward.shape[1])[::-1]))


def compute_returns(subject: Subject, case: Trajectory) -> np.ndarray:
    """λ-returns of the adapter, (B, H)."""
    return subject.compute("lambda_returns", *case.arguments, shape=case.reward.shape)
