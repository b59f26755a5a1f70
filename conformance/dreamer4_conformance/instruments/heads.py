"""Heads of the agent: distances of Eq. (9), bins of two-hot values, trajectories from which λ-returns are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dreamer4_conformance.instruments.result_types import as_floats
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.eq10_lambda_return import lambda_returns

Targets = Literal["actions", "rewards"]


def distances(subject: Subject, length: int, targets: Targets) -> tuple[int, ...]:
    """Distances n for L = length under reading A17."""
    declared = subject.readings["A17.rewards"] if targets == "rewards" else "same"
    declared = subject.readings["A17"] if declared == "same" else declared
    first, stop = {"0..8": (0, length + 1), "0..7": (0, length), "1..8": (1, length + 1)}[declared]
    return tuple(range(first, stop))


def declared_length(subject: Subject) -> int | None:
    """L of `constants`; None if the adapter does not declare it."""
    declared = subject.call("constants") if subject.provides("constants") else None
    if isinstance(declared, Mapping) and "mtp_length" in declared:
        return int(subject.read("constants", declared["mtp_length"], ()))
    return None


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
    """Arguments of `lambda_returns`: reward, cont (B, H); value (B, H + 1), or (B, H) under A14 "reward"."""

    reward: np.ndarray
    value: np.ndarray
    cont: np.ndarray
    gamma: float
    lam: float

    @property
    def baseline(self) -> np.ndarray:
        """The value of each step's own state, v_t for t in [0, H), (B, H)."""
        return self.value[:, : self.reward.shape[1]]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Positional arguments of the operation."""
        return self.reward, self.value, self.cont, self.gamma, self.lam

    def __str__(self) -> str:
        """The arguments as Python."""
        return ", ".join(str(x.tolist()) if isinstance(x, np.ndarray) else str(x) for x in self.arguments)


def draw_trajectory(subject: Subject, seed: int, shape: tuple[int, int], gamma: float, lam: float) -> Trajectory:
    """Draw standard normal rewards and values, and c in [0, 1] with many zeros and ones; `shape` is (B, H).

    With A15 "next" the last c is 1, because the paper leaves the step past the end open.
    """
    rng = np.random.default_rng(seed)
    reward = rng.standard_normal(shape)
    value = rng.standard_normal((shape[0], shape[1] + (subject.readings["A14"] == "v")))
    cont = np.clip(rng.integers(-DENOMINATOR // 2, 2 * DENOMINATOR, shape), 0, DENOMINATOR) / DENOMINATOR
    if subject.readings["A15"] == "next":
        cont[:, -1] = 1.0
    return Trajectory(subject.round(reward), subject.round(value), cont, gamma, lam)


def expected_returns(subject: Subject, case: Trajectory) -> np.ndarray:
    """λ-returns of the reference under the adapter's readings, (B, H)."""
    options: Any = {"mixture": subject.readings["A13"], "pairing": subject.readings["A15"]}
    return np.asarray(lambda_returns(*case.arguments, **options, last=subject.readings["A14"]))  # type: ignore[arg-type]


def returns_magnitude(subject: Subject, case: Trajectory) -> np.ndarray:
    """Sum of absolute terms |r| + γ c ((1 − λ)|v| + λ …), times the number of remaining steps.

    |v_t| is included, because an implementation may add TD errors to v_t.
    """
    reward = np.abs(case.reward) + np.abs(case.baseline)
    sizes = expected_returns(subject, replace(case, reward=reward, value=np.abs(case.value)))
    return np.asarray(sizes * (1 + np.arange(reward.shape[1])[::-1]))


def compute_returns(subject: Subject, case: Trajectory) -> np.ndarray:
    """λ-returns of the adapter, (B, H)."""
    return subject.compute("lambda_returns", *case.arguments, shape=case.reward.shape)


START = ("policy", "prior", "policy_after", "prior_after")


def prior_components(subject: Subject, seed: int) -> list[tuple[np.ndarray, ...]]:
    """The four arrays (N, A) of `START`, finite, for each action component that `prior_start` returns.

    Raises:
        OperationFailed: if one is missing, or their numbers or shapes differ.
    """
    returned = subject.call("prior_start", seed, seeded=seed)
    if not isinstance(returned, Mapping) or not set(START) <= set(returned):
        got = sorted(map(str, returned)) if isinstance(returned, Mapping) else type(returned).__name__
        raise OperationFailed(f"prior_start returned {got}; it needs the keys {', '.join(START)}")
    lists = [x if isinstance(x, list | tuple) else [x] for x in (returned[name] for name in START)]
    counts = ", ".join(f"{name!r} {len(x)}" for name, x in zip(START, lists, strict=True))
    needs = "it needs logits (N, A), or a list with one array per action component, alike under all four keys"
    if len(set(map(len, lists))) > 1 or not lists[0]:
        raise OperationFailed(f"prior_start returned {counts} arrays; {needs}")
    arrays = [[as_floats("prior_start", subject.read("prior_start", x)) for x in row] for row in lists]
    components = list(zip(*arrays, strict=True))
    for shapes in ([x.shape for x in component] for component in components):
        if len(shapes[0]) != 2 or len(set(shapes)) > 1:
            raise OperationFailed(f"prior_start returned shapes {shapes}; {needs}")
    return components
