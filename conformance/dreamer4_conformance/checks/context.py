"""Checks of the context of Eq. (2): its corruption, its labels, that it is the same in all evaluations, and its use.

A past frame of the network's input is z = s · context + (1 − s) · noise. The context is ±1 and the noise has mean 0,
so s is estimated as the mean of z · context. Over 8192 numbers per frame its standard error is 0.001 at 10 % noise and
0.01 at 90 %. A level that differs from its label by more than 1/K_max plus a dozen standard errors is detected with
certainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dreamer4_conformance.instruments.recorder import Call
from dreamer4_conformance.instruments.sampler_trace import (
    SamplerTrace,
    SteadyNetwork,
    accepted_step_counts,
    draw_sampler_call,
    trace_sampler,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.tail_bounds import (
    correlation,
    mean_square_bound,
    normal_tail,
    product_bound,
    union_bound,
)

SAMPLER = ("sample_frame",)
SHAPE = (16, 3, 16, 32)
"""(B, T, S, D) of the context."""
FRAME_SIZE = SHAPE[0] * SHAPE[2] * SHAPE[3]
"""Numbers per frame of the context, all sequences together."""


@dataclass(frozen=True)
class PastFrames:
    """The n past frames of one network call: z (B, n, S, D), labels (B, n) and the clean context (B, n, S, D)."""

    z: np.ndarray
    tau: np.ndarray
    d: np.ndarray
    context: np.ndarray

    @property
    def level(self) -> np.ndarray:
        """Estimates of s (n,)."""
        return np.asarray((self.z * self.context).mean((0, 2, 3)))

    @property
    def noise_scale(self) -> np.ndarray:
        """Root mean squares of the noise (n,), (1 − s) for standard normal noise."""
        return np.asarray((self.noise**2).mean((0, 2, 3)) ** 0.5)

    @property
    def noise(self) -> np.ndarray:
        """z − s · context (B, n, S, D)."""
        return self.z - self.level[:, None, None] * self.context


def _sample(subject: Subject) -> SamplerTrace:
    num_steps = accepted_step_counts(subject, 4)[-1]
    return trace_sampler(subject, draw_sampler_call(subject, 3, SHAPE, num_steps, signs=True))


def _past_frames(run: SamplerTrace, trial: Trial) -> list[PastFrames]:
    """Past frames of each evaluation; if these have none, those of the first cache pass over the whole context."""
    context = run.sampler_call.context
    length = context.shape[1]

    def first(call: Call, frames: int) -> PastFrames:
        return PastFrames(call.z[:, :frames], call.tau[:, :frames], call.d[:, :frames], context[:, -frames:])

    evaluations = [first(call, call.z.shape[1] - 1) for call in run.evaluations if 1 < call.z.shape[1] <= length + 1]
    past = evaluations or [first(call, length) for call in run.cache_passes if call.z.shape[1] == length][:1]
    if not past:
        trial.inconclusive("no call of the network has the frames of the context as input")
    return past


@check("ctx.corruption", needs=SAMPLER, decisions=4)
def check_context_has_the_declared_level_and_its_label(subject: Subject, trial: Trial) -> None:
    """Past frames are corrupted to the level of A9 by independent standard normal noise, and labelled accordingly.

    The level and its label are accurate to 1/K_max; the label of the step size follows A11.
    """
    run = _sample(subject)
    past, call = _past_frames(run, trial), str(run.sampler_call)
    _judge_level(subject, trial, past, call)
    if subject.readings["A9"] != "none":
        _judge_independence(trial, past, call)
    _judge_labels(subject, trial, run, past, call)


def _levels_and_scales(past: list[PastFrames]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([frames.level for frames in past]), np.stack([frames.noise_scale for frames in past])


def _judge_level(subject: Subject, trial: Trial, past: list[PastFrames], call: str) -> None:
    reading = subject.readings["A9"]
    expected = subject.context_level
    if reading == "none":
        for frames in past:
            trial.compare("the context", frames.z, frames.context, terms=1.0, k=2.0, eps=subject.eps, call=call)
        return
    level, scale = _levels_and_scales(past)
    if reading == "slight":
        sentence = 'the context is not corrupted; if this is intended, declare readings = {"A9": "none"}'
        trial.fail_unless(bool((scale > 4 * subject.eps).all()), sentence, call=call, got=level.tolist())
    beyond = _beyond(subject, level - expected)
    sentence = f"the context has signal level {level.flat[np.argmax(beyond)]:.3g}; A9 = {reading} needs {expected:g}"
    trial.reject_law(_tail_probability(beyond, scale), sentence, call=call, got=level.tolist(), expected=expected)
    shares = (scale / np.maximum(np.abs(1 - level), subject.eps)) ** 2
    # A bf16 input adds rounding to the noise, and the level is an estimate: both move the share by less than 1 %.
    nearest = np.where(shares > 1, np.maximum(shares / 1.03, 1), np.minimum(shares * 1.03, 1))
    bound = union_bound(mean_square_bound(float(share), FRAME_SIZE) for share in nearest.flat)
    noise = f"the noise of the context has scale {scale.flat[0]:.3g} at signal level {level.flat[0]:.3g}"
    sentence = f"{noise}; it needs 1 minus the level"
    trial.reject_law(bound, sentence, call=call, got=scale.tolist(), expected=(1 - level).tolist())


AXES = ("sequences", "frames", "tokens", "channels")
"""Axes of z (B, n, S, D)."""


def _judge_independence(trial: Trial, past: list[PastFrames], call: str) -> None:
    correlations = [(name, *correlation(frames.noise, axis)) for frames in past for axis, name in enumerate(AXES)]
    name, worst, _ = max(correlations, key=lambda row: abs(row[1]))
    bound = union_bound(product_bound(value, pairs) for _, value, pairs in correlations if pairs)
    sentence = f"the noise of neighbouring {name} of the context is correlated by {worst:.3g}"
    trial.reject_law(bound, sentence, call=call, got=worst, expected=0.0)


def _beyond(subject: Subject, gap: np.ndarray) -> np.ndarray:
    """Amount by which |gap| exceeds 1/K_max, plus eps for the rounding of a label."""
    return np.asarray(np.maximum(np.abs(gap) - subject.d_min - subject.eps, 0.0))


def _tail_probability(beyond: np.ndarray, scale: np.ndarray) -> float:
    """Bound of the probability that an estimate of s is off by `beyond` in any frame."""
    deviation = np.maximum(scale, 1e-9) / FRAME_SIZE**0.5
    return union_bound(normal_tail(float(score)) for score in (beyond / deviation).flat)


def _judge_labels(subject: Subject, trial: Trial, run: SamplerTrace, past: list[PastFrames], call: str) -> None:
    level, scale = _levels_and_scales(past)
    label = np.stack([frames.tau.mean(0) for frames in past])
    equal = all(bool((frames.tau == frames.tau[:1]).all()) for frames in past)
    trial.fail_unless(equal, "the label of the context differs between sequences of equal corruption", call=call)
    beyond = _beyond(subject, label - level)
    worst = int(np.argmax(beyond))
    sentence = f"the context is labelled τ = {label.flat[worst]:.4g}; its signal level is {level.flat[worst]:.4g}"
    trial.reject_law(_tail_probability(beyond, scale), sentence, call=call, got=label.tolist(), expected=level.tolist())
    reading = subject.readings["A11"]
    expected = subject.d_min if reading == "d_min" else 1 / run.sampler_call.num_steps
    steps = sorted({float(d) for frames in past for d in frames.d.flat})
    sentence = f"the context's step size is labelled d = {steps}; A11 = {reading} needs {expected:g}"
    trial.fail_unless(steps == [expected], sentence, call=call, got=steps, expected=expected)


@check("ctx.fixed", needs=SAMPLER)
def check_context_is_the_same_in_every_evaluation(subject: Subject, trial: Trial) -> None:
    """All evaluations of a frame receive the same corrupted context, or different ones under A28 = evaluation. Exact.

    Only one frame is sampled, so noise that is redrawn for every frame (A28) passes too.
    """
    run = _sample(subject)
    past, reading, call = _past_frames(run, trial), subject.readings["A28"], str(run.sampler_call)
    if len(past) < 2:
        trial.inconclusive("only one call of the network has the context as input")
    same = [np.array_equal(frames.z, past[0].z) for frames in past[1:]]
    if reading == "evaluation":
        if bool((past[0].noise_scale <= 4 * subject.eps).all()):
            trial.inconclusive("the context is not corrupted, so no noise can be redrawn")
        sentence = "the context is the same in two evaluations; A28 = evaluation needs new noise in each"
        trial.fail_unless(not any(same), sentence, call=call)
        return
    sentence = f"the corrupted context changes between evaluations; A28 = {reading} needs the same in all"
    trial.fail_unless(all(same), sentence, call=call, got=same)


@check("ctx.used", needs=SAMPLER)
def check_sample_depends_on_the_context(subject: Subject, trial: Trial) -> None:
    """With a network that adds past frames to its output, negating the context changes the sampled frame. Exact."""
    network = SteadyNetwork(past=0.5)
    for num_steps in accepted_step_counts(subject, 4):
        call = draw_sampler_call(subject, 5, (2, 3, 2, 2), num_steps)
        samples = [
            subject.sample_frame(network, context, num_steps, call.seed, call.actions)
            for context in (call.context, -call.context)
        ]
        longest = max((c.z.shape[1] for c in trace_sampler(subject, call).evaluations), default=0)
        prefilled = any(c.z.shape[1] == 3 for c in samples[0].calls)
        if longest == 1 and prefilled:
            trial.inconclusive("the context reaches the evaluations through a cache, which the test network lacks")
        differ = not np.array_equal(samples[0].frame, samples[1].frame)
        sentence = "the frame is the same for two contexts; it needs to depend on the context"
        trial.fail_unless(differ, sentence, call=str(call))
