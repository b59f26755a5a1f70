"""Inputs of the smoke calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.black_box import Tree, example_inputs
from dreamer4_conformance.instruments.result_types import as_floats
from dreamer4_conformance.instruments.subject import Subject

TOKENS, CHANNELS, ACTIONS, CLASSES = 2, 3, 3, 4


@dataclass(frozen=True)
class SmokeCase:
    """Shapes and inputs of one round of smoke calls."""

    subject: Subject
    batch: int
    time: int

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal values, rounded to the adapter's dtype."""
        return self.subject.round(np.random.default_rng(sum(shape)).standard_normal(shape))

    def frames(self) -> np.ndarray:
        """Standard normal z (B, T, S, D)."""
        return self.normal(self.batch, self.time, TOKENS, CHANNELS)

    def example(self, operation: str) -> dict[str, Tree]:
        """Inputs of a black box, from the adapter's `example`."""
        return example_inputs(self.subject, operation, 0, self.batch, self.time)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """tau and d (B, T) on the grid of Eq. (4), in the middle of its range; d is constant along a sequence."""
        finest = int(np.log2(self.subject.k_max))
        exponent = np.broadcast_to(1 + np.arange(self.batch)[:, None] % max(finest, 1), (self.batch, self.time))
        steps = 2 ** np.minimum(exponent, finest)
        return (steps - 1) // 2 / steps, 1.0 / steps


SmokeCall = Callable[[SmokeCase], object]


def computes(operation: str, inputs: Callable[[SmokeCase], tuple[Any, ...]], *, scalar: bool = False) -> SmokeCall:
    """Smoke call of an operation whose result is a scalar or has the shape of the first input."""

    def call(case: SmokeCase) -> None:
        values = inputs(case)
        as_floats(operation, case.subject.compute(operation, *values, shape=() if scalar else values[0].shape))

    return call
