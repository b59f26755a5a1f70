"""Heads, cached steps and windows that leave a clause undecided, and deviations that it must reject nevertheless."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamer4_conformance import Adapter
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import EXAMPLES
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Result, Status


def verdict(adapter: Adapter, clause: str) -> Result:
    """The result of one clause, with the first counterexample."""
    return judge(Subject(adapter), BY_ID[clause], minimal=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run few examples and no diagnosis."""
    monkeypatch.setitem(EXAMPLES, "ci", 5)
    monkeypatch.setattr("dreamer4_conformance.runner.gather", lambda *_: None)


# Heads


class Heads(Adapter):
    """A causal mean over frames, and one head per distance."""

    name, dtype, count, scale, noise = "heads", "float64", 9, 1.0, 0.0
    context_frames: int | None = None

    def example(self, seed: int, batch: int, time: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        levels = rng.integers(0, 64, (batch, time)) / 64
        return {"z": rng.standard_normal((batch, time, 2, 4)), "tau": levels, "d": np.full((batch, time), 1 / 64)}

    def features(self, z: np.ndarray, tau: np.ndarray) -> np.ndarray:
        return np.asarray(np.tanh(z) + tau[..., None, None])

    def dynamics(self, z: np.ndarray, tau: np.ndarray, d: Any, actions: Any, task: Any, labelled: Any) -> Any:
        reach, features = self.context_frames or z.shape[1], self.features(z, tau)
        mixed = np.stack([features[:, max(0, t - reach + 1) : t + 1].mean(1) for t in range(z.shape[1])], 1)
        return z + mixed, mixed[:, :, 0]

    def mtp_heads(self, agent: np.ndarray) -> np.ndarray:
        self.calls = getattr(self, "calls", 0) + 1
        outputs = np.stack([np.tanh((n + 1) * agent) for n in range(self.count)], 2) * self.scale
        return np.asarray(outputs + self.noise * np.random.default_rng(self.calls).standard_normal(outputs.shape))


def test_heads_that_are_zero_leave_the_clause_undecided() -> None:
    class Zero(Heads):
        scale = 0.0

    result = verdict(Zero(), "mtp.heads")
    assert result.status is Status.INCONCLUSIVE, result.message


def test_heads_that_are_not_repeatable_leave_the_clause_undecided() -> None:
    class Unordered(Heads):
        noise = 1e-14

    result = verdict(Unordered(), "mtp.heads")
    assert result.status is Status.INCONCLUSIVE, result.message


@pytest.mark.parametrize(
    ("count", "length", "status"),
    [
        (9, None, Status.PASS),
        (9, 8, Status.PASS),
        (5, None, Status.PASS),
        (5, 4, Status.PASS),
        (5, 8, Status.FAIL),
        (8, None, Status.FAIL),
        (8, 7, Status.PASS),
        (1, None, Status.FAIL),
    ],
)
def test_number_of_distances_follows_the_declared_length(count: int, length: int | None, status: Status) -> None:
    class OfCount(Heads):
        def constants(self) -> dict[str, float]:
            return {} if length is None else {"mtp_length": length}

    OfCount.count = count
    assert verdict(OfCount(), "mtp.heads").status is status


# Frame by frame


class Steps(Heads):
    """The model with a cache; `evicts`: it removes frames outside the window. `returns_agent`: each step returns it."""

    evicts, returns_agent = True, True

    def dynamics_init(self, batch: int) -> list[np.ndarray]:
        return []

    def dynamics_step(self, state: Any, z: np.ndarray, tau: np.ndarray, d: Any, actions: Any, task: Any) -> Any:
        state = [*state, self.features(z, tau)]
        state = state[-self.context_frames :] if self.evicts and self.context_frames else state
        mixed = np.concatenate(state, 1).mean(1, keepdims=True)
        return z + mixed, mixed[:, :, 0] if self.returns_agent else None, state


def test_cached_step_may_omit_the_agent_but_not_z_hat() -> None:
    class Silent(Steps):
        returns_agent = False

    assert verdict(Silent(), "net.incremental").status is Status.PASS

    class SilentAndWrong(Silent):
        evicts, context_frames = False, 8

    assert verdict(SilentAndWrong(), "net.incremental").status is Status.FAIL


@pytest.mark.parametrize(
    ("frames", "evicts", "status"),
    [
        (8, True, Status.PASS),
        (8, False, Status.FAIL),
        (192, True, Status.INCONCLUSIVE),
        (192, False, Status.INCONCLUSIVE),
    ],
)
def test_window_longer_than_the_sequence_leaves_the_clause_undecided(frames: int, evicts: bool, status: Status) -> None:
    class Windowed(Steps):
        pass

    Windowed.context_frames, Windowed.evicts = frames, evicts
    assert verdict(Windowed(), "net.incremental").status is status


@pytest.mark.parametrize(("frames", "status"), [(8, Status.PASS), (192, Status.INCONCLUSIVE)])
def test_rollout_and_decoder_within_the_window_leave_the_clause_undecided(frames: int, status: Status) -> None:
    class WithDecoder(Steps):
        def rollout(self, context: np.ndarray, actions: Any, count: int, steps: int, seed: int, *, cache: bool) -> Any:
            noise = np.random.default_rng(seed).standard_normal((len(context), count, *context.shape[2:]))
            return noise + context.mean((1, 2, 3))[:, None, None, None]

        def decode(self, z: np.ndarray) -> np.ndarray:
            return np.asarray(self.dynamics(z, np.zeros(z.shape[:2]), None, None, None, None)[0])

        def decode_init(self, batch: int) -> list[np.ndarray]:
            return []

        def decode_step(self, state: Any, z: np.ndarray) -> Any:
            video, _, state = self.dynamics_step(state, z, np.zeros(z.shape[:2]), None, None, None)
            return video, state

    WithDecoder.context_frames = frames
    for clause in ("ctx.cache", "tok.causal"):
        result = verdict(WithDecoder(), clause)
        assert result.status is status, f"{clause}: {result.message}"
