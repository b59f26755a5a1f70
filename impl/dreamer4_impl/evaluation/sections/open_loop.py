"""Open-loop rollouts: C₀ recorded frames of context, then H frames predicted from the recorded actions alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dreamer4_impl.constants import SAMPLING_STEPS
from dreamer4_impl.evaluation.held_out import Clips, HeldOut
from dreamer4_impl.evaluation.results import Pictures, SectionResult, SkippedError
from dreamer4_impl.evaluation.scores import Scores
from dreamer4_impl.generation.rollout import rollout
from dreamer4_impl.models.dreamer4 import Dreamer4

#: Baselines, with the name of the paired difference of the model to each.
_GAPS: Final = {"copy": "over_copy", "mean_frame": "over_mean_frame", "shuffled": "shuffle_gap"}
#: Number of clips that pictures are chosen from; number of context frames in a picture.
PICTURED: Final = 16
SHOWN_CONTEXT: Final = 2


@dataclass(frozen=True)
class OpenLoopSettings:
    """What is rolled out.

    Args:
        context: C₀, frames before the first predicted frame, 1 or more.
        horizons: numbers of frames ahead at which rollouts are measured, 1 or more each.
        steps: numbers of sampling steps K, powers of two.
        batch: clips per batch, 1 or more.
        seed: seed of the noise, 0 or more, which all K and the rollouts with shuffled actions share.
    """

    context: int
    horizons: Sequence[int] = (1, 4, 8, 16)
    steps: Sequence[int] = (1, 2, SAMPLING_STEPS, 16, 64)
    batch: int = 32
    seed: int = 0

    @property
    def length(self) -> int:
        """Length of a clip.

        Returns:
            Context plus the longest horizon, in frames.
        """
        return self.context + max(self.horizons)


def shown_steps(steps: Sequence[int]) -> int:
    """Choose the K for pictures and shuffled actions.

    Args:
        steps: numbers of sampling steps, at least one.

    Returns:
        The K of the paper, 4, or the nearest to it.

    Example:
        >>> shown_steps([1, 2, 4, 64]), shown_steps([1, 16])
        (4, 1)
    """
    return min(steps, key=lambda k: (abs(k - SAMPLING_STEPS), k))


@torch.no_grad()
def open_loop(model: Dreamer4, data: HeldOut, plan: OpenLoopSettings) -> SectionResult:
    """Roll out every held-out clip and score the frames against the recording and the baselines.

    `copy` repeats the last context frame. `reconstruction` is the tokenizer's reconstruction of the true frame, an
    upper bound for frames decoded from predicted latents. `shuffled` uses the actions of another clip from the first
    predicted frame on.

    Args:
        model: model in evaluation mode.
        data: held-out clips of at least `plan.length` frames, and training frames.
        plan: what is rolled out.

    Returns:
        Measures `rollout.{kK, copy, mean_frame, reconstruction, shuffled}.{psnr, ssim}.hH`, paired gains of the model
        `rollout.{over_copy, over_mean_frame, shuffle_gap}.psnr.hH`, and pictures of the median and the worst clip.

    Raises:
        SkippedError: if every K exceeds the k_max of the model.
    """
    scores, result = Scores(), SectionResult()
    steps = _possible_steps(model, plan, result)
    shown = shown_steps(steps)
    shuffled = _shuffled(data.clips, plan, result)
    pictured: list[dict[str, Tensor]] = []
    for number, clips in enumerate(data.clips.batches(plan.batch)):
        batch = OpenLoopBatch(model, clips, plan, number)
        batch.score_baselines(scores, data.mean_frame)
        for k in steps:
            video = batch.predict(clips, k)
            scores.add(f"k{k}", video, batch.truth)
            if k == shown and len(pictured) * plan.batch < PICTURED:
                pictured.append(batch.rows(video, f"model, K = {k}"))
        if shuffled is not None:
            rows = slice(number * plan.batch, number * plan.batch + len(clips))
            scores.add("shuffled", batch.predict(shuffled.select(rows), shown), batch.truth)
    _measure(scores, plan, steps, shuffled is not None, shown, result)
    result.pictures = _choose(pictured, scores.mse(f"k{shown}")[:, -1], plan)
    return result


class OpenLoopBatch:
    """Batch of clips whose frames are encoded once.

    Args:
        model: model in evaluation mode.
        clips: B clips of at least `plan.length` frames.
        plan: what is rolled out.
        number: index of the batch, which its noise depends on.

    Attributes:
        truth: recorded frames after the context, (B, H, height, width, C).
        reconstruction: the tokenizer's reconstruction of these frames, shaped like truth.
        copy: the last frame of the context, shaped like truth.
    """

    def __init__(self, model: Dreamer4, clips: Clips, plan: OpenLoopSettings, number: int) -> None:
        self.model, self.plan, self.number = model, plan, number
        self.device = model.tokenizer.decoder.queries.device
        self.video = clips.pixels(self.device)[:, : plan.length]
        self.truth = self.video[:, plan.context :]
        self.z = model.tokenizer.encode(self.video)
        self.reconstruction = self._decoded(self.z)
        self.copy = self.video[:, plan.context - 1 : plan.context].expand(self.truth.shape)

    def score_baselines(self, scores: Scores, mean: Float[Tensor, "H W C"]) -> None:
        """Score copy, mean frame and reconstruction.

        Args:
            scores: extended in place.
            mean: mean training frame in [0, 1].
        """
        scores.add("copy", self.copy, self.truth)
        scores.add("mean_frame", mean.to(self.device).expand(self.truth.shape), self.truth)
        scores.add("reconstruction", self.reconstruction, self.truth)

    def predict(self, clips: Clips, num_steps: int) -> Float[Tensor, "B H height width C"]:
        """Predict the frames after the context.

        Args:
            clips: clips of this batch, possibly with other actions.
            num_steps: K, a power of two up to k_max.

        Returns:
            Decoded frames, (B, H, height, width, C).

        Raises:
            TypeError: if an action component has a wrong type or dtype.
            ValueError: if the actions do not have the shapes or names of the model.
        """
        context, frames = self.z[:, : self.plan.context], self.truth.shape[1]
        actions = {name: values[:, : self.plan.length] for name, values in clips.actions_on(self.device).items()}
        noise = torch.Generator(self.device).manual_seed(self.plan.seed * 1_000_003 + self.number)
        usable = actions if self.model.dynamics.config.actions else None
        z = rollout(self.model.dynamics, context, usable, frames, num_steps, noise)
        return self._decoded(torch.cat([context, z], dim=1))

    def rows(self, predicted: Tensor, name: str) -> dict[str, UInt8[Tensor, "B T height width C"]]:
        """Rows of the pictures: the last context frames, then the frames of each predictor.

        Args:
            predicted: frames of the model, (B, H, height, width, C).
            name: label of the model.

        Returns:
            Frames by label, (B, T, height, width, C) each.
        """
        context = self.video[:, max(0, self.plan.context - SHOWN_CONTEXT) : self.plan.context]
        rows = {"truth": self.truth, "reconstruction": self.reconstruction, name: predicted, "copy": self.copy}
        return {name: _bytes(torch.cat([context, video], dim=1)) for name, video in rows.items()}

    def _decoded(self, z: Tensor) -> Tensor:
        return self.model.tokenizer.decode(z)[:, self.plan.context :]


def _possible_steps(model: Dreamer4, plan: OpenLoopSettings, result: SectionResult) -> list[int]:
    k_max = model.dynamics.config.k_max
    steps = sorted({k for k in plan.steps if k <= k_max})
    if not steps:
        raise SkippedError(f"the model takes at most K = {k_max} steps; got {', '.join(map(str, plan.steps))}")
    if left_out := sorted({k for k in plan.steps if k > k_max}):
        result.notes.append(f"K = {', '.join(map(str, left_out))} was left out: above k_max = {k_max} of the model.")
    return steps


def _shuffled(clips: Clips, plan: OpenLoopSettings, result: SectionResult) -> Clips | None:
    """Clips with the actions of other clips after the context, by a random cycle, so that no clip keeps its own."""
    if set(clips.actions) == {"labelled"} or not clips.labelled[:, plan.context :].any() or len(clips) < 2:
        result.notes.append("Actions were not shuffled: this needs at least two clips with actions.")
        return None
    cycle = torch.randperm(len(clips), generator=torch.Generator().manual_seed(plan.seed))
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return clips.with_actions_of(order, plan.context)


def _measure(
    scores: Scores, plan: OpenLoopSettings, steps: Sequence[int], shuffled: bool, shown: int, result: SectionResult
) -> None:
    names = [*(f"k{k}" for k in steps), "copy", "mean_frame", "reconstruction", *(["shuffled"] if shuffled else [])]
    for h in sorted(set(plan.horizons)):
        for name in names:
            result.measures |= scores.measures(name, h - 1, f"rollout.{name}.{{metric}}.h{h}")
        for worse, gap in _GAPS.items():
            if worse in names:
                result.measures[f"rollout.{gap}.psnr.h{h}"] = scores.gap(worse, f"k{shown}", h - 1)


def _choose(
    pictured: list[dict[str, Tensor]], errors: Float[np.ndarray, "N"], plan: OpenLoopSettings
) -> list[Pictures]:
    """Choose the median and the worst of the first clips, by the error at the longest horizon."""
    rows = {name: torch.cat([batch[name] for batch in pictured]) for name in pictured[0]}
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
