"""Open-loop rollouts against held-out clips: C₀ frames of context, then H frames from the recorded actions alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dreamer4_impl.constants import SAMPLING_STEPS
from dreamer4_impl.evaluation.held_out import Clips, HeldOut
from dreamer4_impl.evaluation.results import Findings, Pictures, SkippedError
from dreamer4_impl.evaluation.scores import Scores
from dreamer4_impl.generation.rollout import rollout
from dreamer4_impl.models.dreamer4 import Dreamer4

#: Paired differences to the model: what it is compared with, and the name of the measure.
_GAPS: Final = {"copy": "over_copy", "mean_frame": "over_mean_frame", "shuffled": "shuffle_gap"}
#: Clips that pictures are chosen from, and frames of context that they show.
PICTURED: Final = 16
SHOWN_CONTEXT: Final = 2


@dataclass(frozen=True)
class Plan:
    """What is rolled out.

    Args:
        context: C₀, frames before the first that is predicted.
        horizons: how many frames ahead the measures are, each 1 or more.
        steps: values of K.
        batch: clips at a time.
        seed: of the noise, the same for every K and with shuffled actions: their differences are paired.
    """

    context: int
    horizons: Sequence[int] = (1, 4, 8, 16)
    steps: Sequence[int] = (1, 2, SAMPLING_STEPS, 16, 64)
    batch: int = 32
    seed: int = 0

    @property
    def length(self) -> int:
        """Frames of a clip."""
        return self.context + max(self.horizons)


def shown_steps(steps: Sequence[int]) -> int:
    """The K that pictures and shuffled actions are for: the paper's 4, or the nearest.

    >>> shown_steps([1, 2, 4, 64]), shown_steps([1, 16])
    (4, 1)
    """
    return min(steps, key=lambda k: (abs(k - SAMPLING_STEPS), k))


@torch.no_grad()
def open_loop(model: Dreamer4, data: HeldOut, plan: Plan) -> Findings:
    """`rollout.{kK, copy, mean_frame, reconstruction, shuffled}.{psnr, ssim}.hH`, and gains of
    the model, paired: `rollout.{over_copy, over_mean_frame, shuffle_gap}.psnr.hH`.

    `copy` repeats the last frame of the context, `reconstruction` is the tokenizer's of the true frame: nothing decoded
    from latents is expected to be better. `shuffled` has, from the first predicted frame on, the actions of another clip.
    """
    scores, found = Scores(), Findings()
    steps = _possible_steps(model, plan, found)
    shown = shown_steps(steps)
    shuffled = _shuffled(data.clips, plan, found)
    pictured: list[dict[str, Tensor]] = []
    for number, clips in enumerate(data.clips.split(plan.batch)):
        rolled = _Batch(model, clips, plan, number)
        rolled.score_baselines(scores, data.mean_frame)
        for k in steps:
            video = rolled.predict(clips, k)
            scores.add(f"k{k}", video, rolled.truth)
            if k == shown and len(pictured) * plan.batch < PICTURED:
                pictured.append(rolled.rows(video, f"model, K = {k}"))
        if shuffled is not None:
            rows = slice(number * plan.batch, number * plan.batch + len(clips))
            scores.add("shuffled", rolled.predict(shuffled.take(rows), shown), rolled.truth)
    _measure(scores, plan, steps, shuffled is not None, shown, found)
    found.pictures = _choose(pictured, scores.mse(f"k{shown}")[:, -1], plan)
    return found


class _Batch:
    """Some clips, encoded once."""

    def __init__(self, model: Dreamer4, clips: Clips, plan: Plan, number: int) -> None:
        self.model, self.plan, self.number = model, plan, number
        self.device = model.tokenizer.decoder.queries.device
        self.video = clips.pixels(self.device)[:, : plan.length]
        self.truth = self.video[:, plan.context :]
        self.z = model.tokenizer.encode(self.video)
        self.reconstruction = self._decoded(self.z)

    def score_baselines(self, scores: Scores, mean: Float[Tensor, "H W C"]) -> None:
        self.copy = self.video[:, self.plan.context - 1 : self.plan.context].expand(self.truth.shape)
        scores.add("copy", self.copy, self.truth)
        scores.add("mean_frame", mean.to(self.device).expand(self.truth.shape), self.truth)
        scores.add("reconstruction", self.reconstruction, self.truth)

    def predict(self, clips: Clips, num_steps: int) -> Float[Tensor, "B H height width C"]:
        context, frames = self.z[:, : self.plan.context], self.truth.shape[1]
        actions = {name: values[:, : self.plan.length] for name, values in clips.actions_on(self.device).items()}
        noise = torch.Generator(self.device).manual_seed(self.plan.seed * 1_000_003 + self.number)
        known = actions if self.model.dynamics.config.actions else None
        z = rollout(self.model.dynamics, context, known, frames, num_steps, noise)
        return self._decoded(torch.cat([context, z], dim=1))

    def rows(self, predicted: Tensor, name: str) -> dict[str, UInt8[Tensor, "B T height width C"]]:
        before = self.video[:, max(0, self.plan.context - SHOWN_CONTEXT) : self.plan.context]
        rows = {"truth": self.truth, "reconstruction": self.reconstruction, name: predicted, "copy": self.copy}
        return {name: _bytes(torch.cat([before, video], dim=1)) for name, video in rows.items()}

    def _decoded(self, z: Tensor) -> Tensor:
        return self.model.tokenizer.decode(z)[:, self.plan.context :]


def _possible_steps(model: Dreamer4, plan: Plan, found: Findings) -> list[int]:
    k_max = model.dynamics.config.k_max
    steps = sorted({k for k in plan.steps if k <= k_max})
    if not steps:
        raise SkippedError(f"the model takes at most K = {k_max} steps; asked for {', '.join(map(str, plan.steps))}")
    if left_out := sorted({k for k in plan.steps if k > k_max}):
        found.notes.append(f"K = {', '.join(map(str, left_out))} is above the model's k_max = {k_max} and left out.")
    return steps


def _shuffled(clips: Clips, plan: Plan, found: Findings) -> Clips | None:
    """Every clip with the actions of another one where it is predicted: a random cycle over all clips leaves none its own."""
    if set(clips.actions) == {"labelled"} or not clips.labelled[:, plan.context :].any() or len(clips) < 2:
        found.notes.append("Actions are not shuffled: that takes two clips or more with actions.")
        return None
    cycle = torch.randperm(len(clips), generator=torch.Generator().manual_seed(plan.seed))
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return clips.with_actions_of(order, plan.context)


def _measure(scores: Scores, plan: Plan, steps: Sequence[int], shuffled: bool, shown: int, found: Findings) -> None:
    names = [*(f"k{k}" for k in steps), "copy", "mean_frame", "reconstruction", *(["shuffled"] if shuffled else [])]
    for h in sorted(set(plan.horizons)):
        for name in names:
            found.measures |= scores.measures(name, h - 1, f"rollout.{name}.{{metric}}.h{h}")
        for worse, gap in _GAPS.items():
            if worse in names:
                found.measures[f"rollout.{gap}.psnr.h{h}"] = scores.gap(worse, f"k{shown}", h - 1)


def _choose(pictured: list[dict[str, Tensor]], errors: Float[np.ndarray, "N"], plan: Plan) -> list[Pictures]:
    """The median and the worst of the first clips, by the error at the longest horizon."""
    rows = {name: torch.cat([part[name] for part in pictured]) for name in pictured[0]}
    count = min(PICTURED, len(errors))
    order = sorted(range(count), key=lambda clip: float(errors[clip]))
    chosen = {"median": order[(count - 1) // 2], "worst": order[-1]}
    context = min(SHOWN_CONTEXT, plan.context)
    return [
        Pictures(f"The {which} of {count} clips", {name: video[clip] for name, video in rows.items()}, context)
        for which, clip in chosen.items()
    ]


def _bytes(video: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    return (video.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
