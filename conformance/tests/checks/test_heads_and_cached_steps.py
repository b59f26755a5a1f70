"""Heads, cached steps and windows on which a clause is inconclusive, and deviations that it must still detect."""

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
    """What the suite says of it."""
    return judge(Subject(adapter), BY_ID[clause], minimal=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few examples, and no diagnosis of what fails."""
    monkeypatch.setitem(EXAMPLES, "ci", 5)
    monkeypatch.setattr("dreamer4_conformance.runner.behaves_like", lambda *_: [])


# Heads


class Heads(Adapter):
    """Frames are summed up to each, and read by one layer for each distance."""

    name, dtype, count, scale, noise = "heads", "float64", 9, 1.0, 0.0
    context_frames: int | None = None

    def example(self, seed: int, batch: int, time: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        levels = rng.integers(0, 64, (batch, time)) / 64
        return {"z": rng.standard_normal((batch, time, 2, 4)), "tau": levels, "d": np.full((batch, time), 1 / 64)}

    def seen(self, z: np.ndarray, tau: np.ndarray) -> np.ndarray:
        return np.asarray(np.tanh(z) + tau[..., None, None])

    def dynamics(self, z: np.ndarray, tau: np.ndarray, d: Any, actions: Any, task: Any, labelled: Any) -> Any:
        reach, seen = self.context_frames or z.shape[1], self.seen(z, tau)
        mixed = np.stack([seen[:, max(0, t - reach + 1) : t + 1].mean(1) for t in range(z.shape[1])], 1)
        return z + mixed, mixed[:, :, 0]

    def mtp_heads(self, agent: np.ndarray) -> np.ndarray:
        self.calls = getattr(self, "calls", 0) + 1
        outputs = np.stack([agent * (n + 1) for n in range(self.count)], 2) * self.scale
        return np.asarray(outputs + self.noise * np.random.default_rng(self.calls).standard_normal(outputs.shape))


def test_heads_that_start_at_zero_decide_nothing() -> None:
    class Zero(Heads):
        scale = 0.0

    result = verdict(Zero(), "mtp.heads")
    assert result.status is Status.INCONCLUSIVE, result.message


def test_heads_whose_sums_have_no_order_decide_nothing() -> None:
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
def test_another_number_of_distances_is_another_length(count: int, length: int | None, status: Status) -> None:
    class Another(Heads):
        def constants(self) -> dict[str, float]:
            return {} if length is None else {"mtp_length": length}

    Another.count = count
    assert verdict(Another(), "mtp.heads").status is status


# Frame by frame


class Steps(Heads):
    """With a cache; `evicts`: frames that have left the window leave it."""

    evicts, speaks = True, True

    def dynamics_init(self, batch: int) -> list[np.ndarray]:
        return []

    def dynamics_step(self, state: Any, z: np.ndarray, tau: np.ndarray, d: Any, actions: Any, task: Any) -> Any:
        state = [*state, self.seen(z, tau)]
        state = state[-self.context_frames :] if self.evicts and self.context_frames else state
        mixed = np.concatenate(state, 1).mean(1, keepdims=True)
        return z + mixed, mixed[:, :, 0] if self.speaks else None, state


def test_a_cached_step_may_leave_out_the_agent_but_not_z_hat() -> None:
    class Silent(Steps):
        speaks = False

    result = verdict(Silent(), "net.incremental")
    assert result.status is Status.INCONCLUSIVE, result.message
    assert "no agent output" in result.message

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
def test_a_window_that_is_never_left_decides_nothing(frames: int, evicts: bool, status: Status) -> None:
    class Windowed(Steps):
        pass

    Windowed.context_frames, Windowed.evicts = frames, evicts
    assert verdict(Windowed(), "net.incremental").status is status


@pytest.mark.parametrize(("frames", "status"), [(8, Status.PASS), (192, Status.INCONCLUSIVE)])
def test_a_rollout_and_a_decoder_inside_the_window_decide_nothing(frames: int, status: Status) -> None:
    class Box(Steps):
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

    Box.context_frames = frames
    for clause in ("ctx.cache", "tok.causal"):
        result = verdict(Box(), clause)
        assert result.status is status, f"{clause}: {result.message}"
