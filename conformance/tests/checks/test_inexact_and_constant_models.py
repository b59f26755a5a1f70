"""Correct models that must not fail: outputs that are not repeatable to the last bit, actions that never vary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamer4_conformance import Adapter
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Result, Status


def verdict(adapter: Adapter, clause: str) -> Result:
    return judge(Subject(adapter), BY_ID[clause])


class Means(Adapter):
    """Each frame is mixed with its past; `noisy` is the probability that a call rounds one sum differently."""

    name = "means"
    dtype = "float64"
    noisy = 0.0
    actions: Any = "drawn"

    def __init__(self) -> None:
        self.calls = np.random.default_rng(0)

    def example(self, seed: int, batch: int, time: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        return {
            "x": rng.standard_normal((batch, time, 4, 8)),
            "z": rng.standard_normal((batch, time, 3, 4)),
            "tau": rng.integers(0, 64, (batch, time)) / 64,
            "d": 2.0 ** -rng.integers(0, 3, (batch, time)),
            "video": rng.standard_normal((batch, time, 6, 4)),
            "actions": self.example_actions(rng, batch, time),
        }

    def example_actions(self, rng: np.random.Generator, batch: int, time: int) -> Any:
        if isinstance(self.actions, str):
            return rng.standard_normal((batch, time, 2)) if self.actions == "drawn" else np.zeros((batch, time, 2))
        return self.actions

    def summed(self, x: np.ndarray) -> np.ndarray:
        """Change one element of a sum by a rounding, with probability `noisy`."""
        if self.calls.random() < self.noisy:
            x.flat[self.calls.integers(x.size)] *= 1 + 4e-16
        return x

    def time_layer(self, x: np.ndarray) -> np.ndarray:
        return self.summed(x + np.tanh(np.cumsum(x, 1)))

    def dynamics(self, z: Any, tau: Any, d: Any, actions: Any, task: Any, labelled: Any) -> tuple[np.ndarray, None]:
        action_sum = labelled[:, None] * actions.sum(-1) if isinstance(actions, np.ndarray) else 0
        content = np.tanh(z).sum((2, 3)) + tau + d + action_sum
        return self.summed(z + np.cumsum(content, 1)[..., None, None]), None

    def rollout(self, context: Any, actions: Any, frames: int, num_steps: int, seed: int, *, cache: bool) -> np.ndarray:
        action_sum = actions.sum((1, 2)) if isinstance(actions, np.ndarray) else np.zeros(len(context))
        noise = np.random.default_rng(seed).standard_normal((len(context), frames, *context.shape[2:]))
        return noise + (context.sum((1, 2, 3)) + action_sum)[:, None, None, None]

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return np.asarray(rng.random((batch, time, patches)) < 0.9 * rng.random((batch, time, 1)))

    def encode(self, video: np.ndarray) -> np.ndarray:
        return self.summed(np.tanh(np.cumsum(video.sum(2, keepdims=True), 1)))


REPEATED = ("net.factorised", "attn.causal", "dyn.unlabelled", "tok.mae-law")


@pytest.mark.parametrize("noisy", [0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("clause", REPEATED)
def test_sums_without_a_fixed_order_are_no_deviation(clause: str, noisy: float) -> None:
    adapter = Means()
    adapter.noisy = noisy
    result = verdict(adapter, clause)
    assert result.status is not Status.FAIL, result.message


@pytest.mark.parametrize("actions", ["zeros", {}, [], None])
@pytest.mark.parametrize("clause", ["dyn.unlabelled", "ctx.cache"])
def test_actions_that_never_vary_are_no_deviation(clause: str, actions: Any) -> None:
    adapter = Means()
    adapter.actions = actions
    result = verdict(adapter, clause)
    expected = Status.INCONCLUSIVE if clause == "dyn.unlabelled" else Status.PASS
    assert result.status is expected, result.message
