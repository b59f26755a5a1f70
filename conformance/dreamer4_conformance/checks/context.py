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
    SamplerCall,
    SamplerTrace,
    SteadyNetwork,
    accepted_step_counts,
    draw_sampler_call,
    trace_sampler,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.dependence import largest_alignment
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
ALONE = (1, 1, SHAPE[0] * SHAPE[2], SHAPE[3])
"""One frame of one sequence, with as many numbers."""
FRAME_SIZE = SHAPE[0] * SHAPE[2] * SHAPE[3]
"""Numbers per frame of the context, all sequences together."""


@dataclass(frozen=True)
class PastFrames:
    """The n past frames of one network call: z (B, n, S, D), labels (B, n) and the clean context (B, n, S, D).

    `index` are the positions of these frames in the context.
    """

    z: np.ndarray
    tau: np.ndarray
    d: np.ndarray
    context: np.ndarray
    index: list[int]

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


def _sample(subject: Subject, shape: tuple[int, int, int, int] = SHAPE) -> SamplerTrace:
    """Sample with up to four steps; one sequence alone with the fewest."""
    counts = accepted_step_counts(subject, 4)
    count = counts[0] if shape == ALONE else counts[-1]
    return trace_sampler(subject, draw_sampler_call(subject, 3, shape, count, signs=True))


def _past_frames(run: SamplerTrace, trial: Trial) -> list[PastFrames]:
    """Past frames of each evaluation; if these have none, those of the cache passes, in one piece or in several."""
    evaluations = [_context_frames(call, run, slice(0, -1)) for call in run.evaluations]
    past = [frames for frames in evaluations if frames.z.shape[1]]
    if past:
        return past
    prefilled = _prefilled(run)
    if not prefilled:
        trial.inconclusive("no call of the network has the frames of the context as input")
    return [_joined(prefilled, run.sampler_call.context.shape[1])]


def _prefilled(run: SamplerTrace) -> list[PastFrames]:
    """Frames of the context in the cache passes; of a pass over the whole context even if they are uncorrelated."""
    passes = [_context_frames(call, run, slice(None), assume_last=False) for call in run.cache_passes]
    complete = [call for call in run.cache_passes if call.z.shape[1] == run.sampler_call.context.shape[1]]
    prefilled = [frames for frames in passes if frames.z.shape[1]]
    return prefilled or [_context_frames(call, run, slice(None)) for call in complete[:1]]


def _context_frames(call: Call, run: SamplerTrace, where: slice, *, assume_last: bool = True) -> PastFrames:
    """Frames of a call with the context frame that each of them corrupts: the most correlated.

    Uncorrelated frames are assumed to be the last ones of the context, or are left out: padding, generated frames.
    """
    context, z = run.sampler_call.context, call.z[:, where]
    frames, length = z.shape[1], context.shape[1]
    if not frames or not length:
        return PastFrames(z[:, :0], call.tau[:, :0], call.d[:, :0], context[:, :0], [])
    correlations = np.einsum("bnsd,btsd->nt", z, context) / context[:, 0].size
    scale = np.sqrt((z**2).mean((0, 2, 3))) / context[:, 0].size ** 0.5
    certain = np.abs(correlations).max(1) > 7 * scale
    nearest = np.abs(correlations).argmax(1)
    if assume_last and frames <= length:
        nearest, certain = np.where(certain, nearest, np.arange(length - frames, length)), np.ones(frames, bool)
    chosen = np.flatnonzero(certain)
    tau, d = call.tau[:, where][:, chosen], call.d[:, where][:, chosen]
    return PastFrames(z[:, chosen], tau, d, context[:, nearest[chosen]], nearest[chosen].tolist())


def _joined(passes: list[PastFrames], length: int) -> PastFrames:
    """The first occurrence of every context frame in several passes, in the order of the context."""
    first: dict[int, tuple[PastFrames, int]] = {}
    for frames in passes:
        for position, index in enumerate(frames.index):
            first.setdefault(index, (frames, position))
    ordered = [(index, *first[index]) for index in range(length) if index in first]
    z, tau, d, context = (
        np.stack([getattr(frames, name)[:, k] for _, frames, k in ordered], 1) for name in ("z", "tau", "d", "context")
    )
    return PastFrames(z, tau, d, context, [index for index, _, _ in ordered])


@check("ctx.corruption", needs=SAMPLER, decisions=10)
def check_context_has_the_declared_level_and_its_label(subject: Subject, trial: Trial) -> None:
    """Past frames are corrupted to the level of A9 by independent standard normal noise, and labelled accordingly.

    The level and its label are accurate to 1/K_max; the label of the step size follows A11. Judged for several
    sequences and frames, and for one frame of one sequence in the fewest steps.
    """
    for run in (_sample(subject), _sample(subject, ALONE)):
        past, call = _past_frames(run, trial), str(run.sampler_call)
        _judge_level(subject, trial, past, call)
        if subject.readings["A9"] != "none":
            _judge_independence(trial, run, past, call)
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


def _judge_independence(trial: Trial, run: SamplerTrace, past: list[PastFrames], call: str) -> None:
    """Neighbours are uncorrelated; no two sequences, frames, tokens or channels share their noise, nor the start."""
    correlations = [(name, *correlation(frames.noise, axis)) for frames in past for axis, name in enumerate(AXES)]
    name, worst, _ = max(correlations, key=lambda row: abs(row[1]))
    bound = union_bound(product_bound(value, pairs) for _, value, pairs in correlations if pairs)
    sentence = f"the noise of neighbouring {name} of the context is correlated by {worst:.3g}"
    trial.reject_law(bound, sentence, call=call, got=worst, expected=0.0)
    noise = past[0].noise
    vectors = [np.moveaxis(noise, axis, 0).reshape(noise.shape[axis], -1) for axis in range(4)]
    aligned = {name: largest_alignment(x) for name, x in zip(AXES, vectors, strict=True) if len(x) > 1}
    if run.evaluations:
        start = run.inputs[0].reshape(1, -1)
        aligned["frames and the start"] = largest_alignment(start, vectors[1])
    name = min(aligned, key=lambda key: aligned[key][2])
    sentence = f"the noise of two {name} of the context is the same up to a correlation of {aligned[name][0]:.3g}"
    bound = union_bound(bound for _, _, bound in aligned.values())
    trial.reject_law(bound, sentence, call=call, got=aligned[name][0], expected=0.0)


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
    if len(past) < 2 and len(run.evaluations) > 1 and reading != "evaluation":
        # A cache holds the context for all evaluations: it is fixed unless a frame passes again, with other noise.
        occurrences = [(i, frames.z[:, k]) for frames in _prefilled(run) for k, i in enumerate(frames.index)]
        first = dict(reversed(occurrences))
        same = [np.array_equal(z, first[i]) for i, z in occurrences]
        trial.fail_unless(all(same), "the context enters the cache twice, with different noise", call=call, got=same)
        return
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
    """With a network that adds past frames to its output, negating the context changes the sampled frame. Exact.

    For several sequences and frames, and for one frame of one sequence; then for single sequences and frames.
    """
    network = SteadyNetwork(past=0.5)
    counts = accepted_step_counts(subject, 4)
    for num_steps, shape in [*((count, (2, 3, 2, 2)) for count in counts), (counts[-1], (1, 1, 2, 2))]:
        call = draw_sampler_call(subject, 5, shape, num_steps)
        samples = [
            subject.sample_frame(network, context, num_steps, call.seed, call.actions)
            for context in (call.context, -call.context)
        ]
        if not all(np.isfinite(sample.frame).all() for sample in samples):
            trial.inconclusive("the sampled frame is not finite (eq02.endpoint)")
        run = trace_sampler(subject, call)
        longest = max((c.z.shape[1] for c in run.evaluations), default=0)
        if longest == 1 and _prefills(run):
            trial.inconclusive("the context reaches the evaluations through a cache, which the test network lacks")
        differ = not np.array_equal(samples[0].frame, samples[1].frame)
        sentence = "the frame is the same for two contexts; it needs to depend on the context"
        trial.fail_unless(differ, sentence, call=str(call))
        if not run.cache_passes:
            _fail_unless_last_frames_are_used(subject, trial, network, call, samples[0].frame)


def _fail_unless_last_frames_are_used(
    subject: Subject, trial: Trial, network: SteadyNetwork, call: SamplerCall, sampled: np.ndarray
) -> None:
    """Negate one of the last two frames of one sequence: the sampled frame of that sequence must change.

    A sampler may crop a longer context; with a window of fewer frames only these count.
    """
    batch, time = call.context.shape[:2]
    count = min(2, time, 2 if subject.window is None else subject.window - 1)
    for row, back in np.ndindex(batch, count):
        t, context = time - 1 - back, call.context.copy()
        context[row, t] *= -1
        frame = subject.sample_frame(network, context, call.num_steps, call.seed, call.actions).frame
        sentence = (
            f"the frame of sequence {row} does not change with frame {t} of its context of {time} frames; "
            "declare `context_frames` if the sampler passes fewer frames to the network"
        )
        trial.fail_unless(not np.array_equal(frame[row], sampled[row]), sentence, call=str(call))


def _prefills(run: SamplerTrace) -> bool:
    """True if all frames of the context pass through the network, in one call or in several."""
    passes = [len(call.z[0]) for call in run.cache_passes]
    return sum(passes) >= run.sampler_call.context.shape[1]
