"""A vector: inputs of one operation, the outputs that the reference gives, and the bounds of their rounding errors."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.subject import EPS, Subject, smallest_normal

EPS32 = EPS["float32"]
TINY32 = smallest_normal(EPS32)


@dataclass(frozen=True)
class Range:
    """The numbers 0, 1, …, n − 1 as floats, row-major: an array that its shape determines."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Output:
    """One expected result.

    Attributes:
        value: floats, integers or booleans, or a `Range`; NaN requires any value that is not finite.
        bound: largest absolute error, broadcasts to value; None requires equality.
        free: True where every result is right, shaped like value; None for nowhere.
    """

    value: np.ndarray | Range
    bound: np.ndarray | None = None
    free: np.ndarray | None = None


@dataclass(frozen=True)
class Vector:
    """One call of an operation.

    Attributes:
        name: of the case, unique within the operation.
        operation: of the adapter interface, or one of the steps that README.md lists.
        clause: id of the clause that a wrong output violates.
        inputs: arguments by name: arrays, numbers, lists, mappings, None.
        outputs: expected results by name; "gradient.x" is the gradient with respect to the input x.
        flags: keys of `FLAGS`.
        readings: reading id → options under which the outputs hold; readings that do not matter are absent.
        settings: numbers that the implementation chooses, such as k_max, for which the outputs hold.
    """

    name: str
    operation: str
    clause: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Output]
    flags: tuple[str, ...] = ()
    readings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Operation and name, unique among all vectors."""
        return f"{self.operation}/{self.name}"


FLAGS: dict[str, str] = {
    "d_min": "a timestep has the finest step size, d = 1/K_max",
    "above_d_min": "a timestep has a step size above 1/K_max",
    "mixed_steps": "step sizes differ within a sequence",
    "tau_zero": "a signal level is 0, pure noise",
    "tau_last": "a signal level is 1 − d, the last of its grid",
    "tau_one": "a signal level is 1, clean data, which no training step draws: raising an error is right too",
    "batch_one": "B or N is 1",
    "time_one": "T or L is 1",
    "square_batch": "B = T, where a wrong broadcast goes unnoticed",
    "horizon_one": "H is 1",
    "terminal": "a continuation is 0",
    "past_end": "a target lies beyond the end of the sequence",
    "out_of_range": "a value lies beyond the outermost bins",
    "empty_set": "all advantages have one sign",
    "zero_advantage": "an advantage is 0",
    "one_step": "K = 1",
    "grouped": "fewer key/value heads than query heads",
    "window": "attention has a window",
    "capped": "logits exceed the soft cap",
    "many_keys": "more than 64 keys, more than one tile of most kernels",
    "not_finite": "an input is NaN or infinite; raising an error is right too",
    "large_values": "latents far beyond the range of a tanh; raising an error is right too",
    "actions": "the network depends on actions: code without actions, or that converts them, may skip it",
    "settles": "judges a running estimate after it has settled",
}
"""Edge cases by name, with their meaning."""


def exact(value: Any, free: np.ndarray | None = None) -> Output:
    """Require equality; `free` marks elements where every result is right."""
    return Output(value if isinstance(value, Range) else np.asarray(value), free=free)


def within(value: Any, terms: Any, k: float) -> Output:
    """Require |result − value| ≤ k (eps · terms + smallest normal number), both those of float32, as `Trial.compare`.

    Args:
        value: of the reference, float.
        terms: sum of the absolute values of the terms in the reference's expression; broadcasts to value.
        k: factor of the tolerance of the check that judges the same result.

    Returns:
        The output with its bound.
    """
    return Output(np.asarray(value, np.float64), np.asarray(k * (EPS32 * np.asarray(terms, np.float64) + TINY32)))


def interval(low: float, high: float) -> Output:
    """Require a number between low and high."""
    return Output(np.array((low + high) / 2), np.array((high - low) / 2))


def draw(seed: int, *shape: int, limit: float = 2.0, step: float = 1 / 32) -> np.ndarray:
    """Multiples of `step` in [−limit, limit], uniform and exact in float32.

    `random.Random.random` has the same sequence in every version of Python, unlike NumPy's generators.
    """
    source, count = random.Random(seed), round(2 * limit / step) + 1
    flat = [int(source.random() * count) * step - limit for _ in range(int(np.prod(shape)))]
    return np.array(flat, np.float64).reshape(shape)


def choose(seed: int, options: int, *shape: int) -> np.ndarray:
    """Integers in [0, options), uniform."""
    source = random.Random(seed)
    return np.array([int(source.random() * options) for _ in range(int(np.prod(shape)))], np.int64).reshape(shape)


def float32(x: np.ndarray) -> np.ndarray:
    """Round to float32; the result is float64."""
    return x.astype(np.float32).astype(np.float64)


def subject_under(readings: Mapping[str, str] | None = None, **attributes: Any) -> Subject:
    """The suite's view of a float32 adapter without operations, under readings; for bounds that depend on them."""
    adapter = Adapter()
    adapter.readings = dict(readings or {})
    for name, value in attributes.items():
        setattr(adapter, name, value)
    return Subject(adapter)


def options(**readings: str | tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Readings of a vector by id: one option, or several under which its outputs are the same."""
    return {name: (option,) if isinstance(option, str) else option for name, option in readings.items()}
