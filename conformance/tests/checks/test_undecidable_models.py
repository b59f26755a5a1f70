"""Adapters that are right, and from which a clause once wrongly turned away; and one that a clause must not pass unseen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamer4_conformance import Adapter
from dreamer4_conformance.checks.sec34_layers import offered
from dreamer4_conformance.checks.time_layers import check_a_frame_sees_itself
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import EXAMPLES, Trial
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Inconclusive, Result, Status

WIDTH = 8
MIXING = np.random.default_rng(5).standard_normal((4, WIDTH, WIDTH)) / 3


def verdict(adapter: Adapter, clause: str) -> Result:
    """What the suite says of it."""
    return judge(Subject(adapter), BY_ID[clause], minimal=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few examples, and no diagnosis of what fails."""
    monkeypatch.setitem(EXAMPLES, "ci", 5)
    monkeypatch.setattr("dreamer4_conformance.runner.behaves_like", lambda *_: [])


# Layers


def turned(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """RoPE along the axis before the channels."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * 100.0 ** (-np.arange(half) / half)
    one, other = x[..., :half], x[..., half:]
    return np.concatenate(
        [one * np.cos(angles) - other * np.sin(angles), one * np.sin(angles) + other * np.cos(angles)], -1
    )


def normed(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6))


class Layers(Adapter):
    """One causal attention over time, before which x is normalised."""

    name, dtype, places = "layers", "float64", 3

    def example(self, seed: int, batch: int, time: int) -> dict[str, Any]:
        return {"x": np.random.default_rng(seed).standard_normal((batch, time, self.places, WIDTH))}

    def time_layer(self, x: np.ndarray) -> np.ndarray:
        y = np.swapaxes(x, 1, 2)
        q, k, v = (normed(y) @ mixing for mixing in MIXING[:3])
        frames = np.arange(x.shape[1])
        q, k = (turned(normed(each), frames) for each in (q, k))
        logits = np.where(frames[:, None] >= frames, q @ np.swapaxes(k, -1, -2) / WIDTH**0.5, -np.inf)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        return x + np.swapaxes(weights / weights.sum(-1, keepdims=True) @ v @ MIXING[3], 1, 2)


@pytest.mark.parametrize("places", [2, 3])
def test_a_layer_may_be_bound_to_its_number_of_places(places: int) -> None:
    class Bound(Layers):
        """Takes its tokens flattened, and knows how many there are in a frame."""

        def time_layer(self, x: np.ndarray) -> np.ndarray:
            return super().time_layer(x.reshape(len(x), -1, self.places, WIDTH)).reshape(x.shape)

    Bound.places = places
    result = verdict(Bound(), "attn.rope")
    assert result.status is Status.PASS, result.message


def test_whether_a_frame_sees_itself_may_be_lost_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamer4_conformance.checks.time_layers.copies_told_apart", lambda *_: (0.02, 0.2))
    subject = Subject(Layers())
    subject.adapter.dtype = "bfloat16"
    with pytest.raises(Inconclusive, match="rounding of bfloat16"):
        check_a_frame_sees_itself(subject, Trial())


def test_a_layer_that_cannot_be_judged_does_not_hide_the_next() -> None:
    class Idle(Layers):
        """The space layer adds nothing; the time layer sees sizes."""

        def space_layer(self, x: np.ndarray) -> np.ndarray:
            return x

        def time_layer(self, x: np.ndarray) -> np.ndarray:
            return x + np.cumsum(x, 1) @ MIXING[0]

    assert offered(Subject(Idle())) == ["space_layer", "time_layer"]
    assert verdict(Idle(), "net.prenorm").status is Status.FAIL

    class Still(Idle):
        time_layer = Layers.time_layer

    assert verdict(Still(), "net.prenorm").status is Status.INCONCLUSIVE


def test_a_rotation_may_have_a_table_of_256_positions() -> None:
    class Table(Adapter):
        """Angles of positions beyond the table are not to be had."""

        name, dtype = "table", "float64"

        def rope(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
            return np.swapaxes(turned(np.swapaxes(x, 1, 2), np.arange(256)[np.asarray(positions)]), 1, 2)

    result = verdict(Table(), "attn.rope")
    assert result.status is Status.PASS, result.message


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
