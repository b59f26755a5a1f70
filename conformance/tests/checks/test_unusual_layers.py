"""Unusual layers: for a fixed number of tokens, without effect, or with a table of positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamer4_conformance import Adapter
from dreamer4_conformance.checks.sec34_layers import provided_layers
from dreamer4_conformance.checks.time_layers import check_a_frame_attends_to_itself
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import EXAMPLES, Trial
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Inconclusive, Result, Status

WIDTH = 8
MIXING = np.random.default_rng(5).standard_normal((4, WIDTH, WIDTH)) / 3


def verdict(adapter: Adapter, clause: str) -> Result:
    """The result of one clause, with the first counterexample."""
    return judge(Subject(adapter), BY_ID[clause], minimal=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run few examples and no diagnosis."""
    monkeypatch.setitem(EXAMPLES, "ci", 5)
    monkeypatch.setattr("dreamer4_conformance.runner.gather", lambda *_: None)


def rotated(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Apply RoPE along the axis before the channels."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * 100.0 ** (-np.arange(half) / half)
    x, y = x[..., :half], x[..., half:]
    return np.concatenate([x * np.cos(angles) - y * np.sin(angles), x * np.sin(angles) + y * np.cos(angles)], -1)


def normed(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6))


class Layers(Adapter):
    """Causal attention over time, with pre-normalisation."""

    name, dtype, tokens = "layers", "float64", 3

    def example(self, seed: int, batch: int, time: int) -> dict[str, Any]:
        return {"x": np.random.default_rng(seed).standard_normal((batch, time, self.tokens, WIDTH))}

    def time_layer(self, x: np.ndarray) -> np.ndarray:
        y = np.swapaxes(x, 1, 2)
        q, k, v = (normed(y) @ mixing for mixing in MIXING[:3])
        frames = np.arange(x.shape[1])
        q, k = (rotated(normed(heads), frames) for heads in (q, k))
        logits = np.where(frames[:, None] >= frames, q @ np.swapaxes(k, -1, -2) / WIDTH**0.5, -np.inf)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        return x + np.swapaxes(weights / weights.sum(-1, keepdims=True) @ v @ MIXING[3], 1, 2)


@pytest.mark.parametrize("tokens", [2, 3])
def test_layer_may_require_its_number_of_tokens(tokens: int) -> None:
    class Fixed(Layers):
        """Flattens its tokens and regroups them into frames of a fixed number."""

        def time_layer(self, x: np.ndarray) -> np.ndarray:
            return super().time_layer(x.reshape(len(x), -1, self.tokens, WIDTH)).reshape(x.shape)

    Fixed.tokens = tokens
    result = verdict(Fixed(), "attn.rope")
    assert result.status is Status.PASS, result.message


def test_bfloat16_may_hide_whether_a_frame_attends_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamer4_conformance.checks.time_layers.repetition_response", lambda *_: (0.02, 0.2))
    subject = Subject(Layers())
    subject.adapter.dtype = "bfloat16"
    with pytest.raises(Inconclusive, match="rounding of bfloat16"):
        check_a_frame_attends_to_itself(subject, Trial())


def test_layer_that_is_undecided_does_not_hide_the_next() -> None:
    class Idle(Layers):
        """The space layer adds nothing; the time layer depends on sizes."""

        def space_layer(self, x: np.ndarray) -> np.ndarray:
            return x

        def time_layer(self, x: np.ndarray) -> np.ndarray:
            return x + np.cumsum(x, 1) @ MIXING[0]

    assert provided_layers(Subject(Idle())) == [("space_layer", None), ("time_layer", None)]
    assert verdict(Idle(), "net.prenorm").status is Status.FAIL

    class WithoutSizes(Idle):
        time_layer = Layers.time_layer

    assert verdict(WithoutSizes(), "net.prenorm").status is Status.INCONCLUSIVE


def test_rope_may_have_a_table_of_256_positions() -> None:
    class Table(Adapter):
        """Raises IndexError for positions beyond its table of angles."""

        name, dtype = "table", "float64"

        def rope(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
            return np.swapaxes(rotated(np.swapaxes(x, 1, 2), np.arange(256)[np.asarray(positions)]), 1, 2)

    result = verdict(Table(), "attn.rope")
    assert result.status is Status.PASS, result.message
