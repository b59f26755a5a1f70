"""Mistakes in frame-by-frame generation: the result with a cache differs from the one without."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import Book
from dreamer4_conformance.zoo.base.sec32_dynamics import EMPTY, Dynamics, State
from dreamer4_conformance.zoo.base.sec34_layers import Past
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
STEP = ("dynamics_step", "rollout")
ROLLOUT = ("rollout",)


class Generating(Dynamics, Book):
    """The dynamics with one layer that mixes time."""

    depth = 4


@mistake("cache-differs", clause="net.incremental", operations=STEP, levels=SIGNAL)
class CacheDiffers(Generating):
    """The cache is not cut to the window: step by step, attention covers more frames than in one pass."""

    def mixed_time(self, x: Tensor, name: str, past: Past | None, start: int) -> Tensor:
        context, self.context_frames = self.context_frames, None if start else self.context_frames
        try:
            return super().mixed_time(x, name, past, start)
        finally:
            self.context_frames = context


@mistake("cache-short", clause="net.incremental", operations=STEP, levels=SIGNAL)
class CacheShort(Generating):
    """The cache holds one frame less than the window: C − 2 past frames and the current one."""

    def extend_cache(self, past: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        held = 0 if self.context_frames is None else self.context_frames - 2
        past = None if past is None else tuple(x[:, max(0, x.shape[1] - held) :] for x in past)
        return super().extend_cache(past, k, v)


@mistake("cache-of-values", clause="net.incremental", operations=STEP, levels=SIGNAL)
class CacheOneBehind(Generating):
    """Values are stored one slot away from their keys."""

    def extend_cache(self, past: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return super().extend_cache(past if past is None else (past[0], past[1].roll(1, 1)), k, v)


@mistake("cache-positions-restart", clause="net.incremental", operations=STEP, levels=SIGNAL)
class PositionsRestart(Generating):
    """Every call numbers its frames from 0."""

    def frame_positions(self, start: int, time: int, tokens: int) -> Tensor:
        return super().frame_positions(0, time, tokens)


@mistake("cache-positions-wrap", clause="net.incremental", operations=STEP, levels=SIGNAL)
class PositionsWrap(Generating):
    """Positions are slots of a ring buffer and restart at 0 when it wraps."""

    def frame_positions(self, start: int, time: int, tokens: int) -> Tensor:
        positions = super().frame_positions(start, time, tokens)
        return positions if time > 1 else positions % 4


@mistake("cache-full-then-empty", clause="net.incremental", operations=STEP, levels=SIGNAL)
class FullThenEmpty(Generating):
    """The cache is cleared when it is full."""

    def next_state(self, past: Past, start: int, time: int, last: list[Tensor]) -> State:
        _, reached, _ = state = super().next_state(past, start, time, last)
        return EMPTY if time == 1 and reached % 4 == 0 else state


@mistake("cache-label-kept", clause="net.incremental", operations=STEP, levels=SIGNAL)
class LabelKept(Generating):
    """With a cache, every frame after the first is labelled τ = 0, d = 1."""

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, Any]:
        tau, d = (tau, d) if state[1] == 0 else (torch.zeros_like(tau), torch.ones_like(d))
        return super().dynamics_step(state, z, tau, d, actions, task)


@mistake("cache-actions-lost", clause="net.incremental", operations=STEP, levels=SIGNAL)
class ActionsLost(Generating):
    """The step-by-step form ignores the actions."""

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, Any]:
        unlabelled = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        return self.predicted(z, tau, d, actions, task, unlabelled, state)


@mistake("cache-squeezed", clause="net.incremental", operations=("dynamics_step",), levels=SIGNAL)
class CacheSqueezed(Generating):
    """`squeeze` of cached keys and values also removes the batch axis of one sequence, which is then without past."""

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, Any]:
        return super().dynamics_step(state if len(z) > 1 else EMPTY, z, tau, d, actions, task)


# Rollouts


@mistake("cache-window-long", clause="ctx.cache", operations=ROLLOUT, levels=SIGNAL)
class CacheWindowLong(Generating):
    """With a cache a new frame attends to C cached frames and itself, without one to C frames."""

    def evaluated(
        self, z: Tensor, tau: Tensor, d: Tensor, past: Tensor, state: Any, actions: Any
    ) -> tuple[Tensor, Any]:
        context = self.context_frames
        self.context_frames = context if state is None or context is None else context + 1
        try:
            return super().evaluated(z, tau, d, past, state, actions)
        finally:
            self.context_frames = context


@mistake("cache-label", clause="ctx.cache", operations=ROLLOUT, levels=SIGNAL)
class CacheLabel(Generating):
    """Frames in the cache have the label d = 1, where those that are computed again have the finest step."""

    def labels_in_cache(self, z: Tensor) -> tuple[Tensor, Tensor]:
        tau, d = super().labels_in_cache(z)
        return tau, torch.ones_like(d)


@mistake("context-cached-clean", clause="ctx.cache", operations=ROLLOUT, levels=SIGNAL)
class ContextCachedClean(Generating):
    """Generated frames become context at 10 % noise, whatever A9 says, but are cached without noise."""

    def committed(self, z: Tensor, corrupted: Tensor, cache: bool) -> Tensor:
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).to(z)
        return z if cache else self.mix(noise, z, z.new_full((1, 1, 1, 1), 0.9))


@mistake("cache-prefilled-clean", clause="ctx.cache", operations=ROLLOUT, levels=SIGNAL)
class PrefilledClean(Generating):
    """The context is corrupted with different noise before it is written to the cache."""

    def prefilled(self, past: Tensor, actions: Any) -> Any:
        return super().prefilled(self.slightly_corrupt(past, torch.Generator().manual_seed(0)), actions)


@mistake("cache-commits-every-pass", clause="ctx.cache", operations=ROLLOUT, levels=SIGNAL)
class CommitsEveryPass(Generating):
    """Every denoising pass writes one more frame to the cache."""

    def state_after_denoising(self, before: Any, after: Any) -> Any:
        return after


@mistake("cache-never-written", clause="ctx.cache", operations=ROLLOUT, levels=SIGNAL)
class NeverWritten(Generating):
    """Generated frames are not written to the cache; it stays as it was after the context."""

    def append_frames(self, state: Any, z: Tensor, actions: Any, start: int) -> Any:
        return super().append_frames(state, z, actions, start) if start == 0 else state


@mistake("cache-actions-behind", clause="ctx.cache", operations=ROLLOUT, levels=SIGNAL)
class ActionsBehind(Generating):
    """Generated frames are written to the cache with the actions of the previous frame."""

    def append_frames(self, state: Any, z: Tensor, actions: Any, start: int) -> Any:
        return super().append_frames(state, z, actions, max(start - 1, 0))


@mistake("cache-labelled-as-drawn", clause="ctx.cache", operations=ROLLOUT, levels=SIGNAL)
class LabelledAsDrawn(Generating):
    """Frames in the cache are labelled as pure noise."""

    def labels_in_cache(self, z: Tensor) -> tuple[Tensor, Tensor]:
        tau, d = super().labels_in_cache(z)
        return torch.zeros_like(tau), d


@mistake("rollout-forgets-context", clause="ctx.cache", operations=ROLLOUT, levels=SIGNAL)
class ForgetsContext(Generating):
    """The context is replaced by noise before frames are generated."""

    def rollout(self, context: Tensor, actions: Any, frames: int, num_steps: int, seed: int, *, cache: bool) -> Tensor:
        noise = torch.randn(context.shape, generator=torch.Generator().manual_seed(seed)).to(context)
        return super().rollout(noise, actions, frames, num_steps, seed, cache=cache)


@mistake("rollout-without-actions", clause="ctx.cache", operations=ROLLOUT, levels=SIGNAL)
class WithoutActions(Generating):
    """All frames are generated with action 0 instead of the actions passed in."""

    def actions_of(self, actions: Any, frames: slice) -> Any:
        return {name: torch.zeros_like(component[:, frames]) for name, component in actions.items()}
