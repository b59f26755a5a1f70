"""Checks of the context of Eq. (2): slightly corrupted, labelled as it is, the same in all evaluations of a frame,
and used.

A frame of the network's input is read as z = s · context + (1 − s) · noise. The context is ±1 and the noise has mean
0, so that s is the mean of z · context. Over 8192 numbers a frame it is known to 0.001 at 10 % noise and to 0.01 at
90 %; a level further from its label than 1/K_max and a dozen of those is found with certainty.
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


@dataclass(frozen=True)
class Passed:
    """The past frames that one call handed to the network, (B, n, S, D), with labels (B, n) and the frames that they
    were made from.
    """

    z: np.ndarray
    tau: np.ndarray
    d: np.ndarray
    context: np.ndarray

    @property
    def level(self) -> np.ndarray:
        """Estimate of s, (n,)."""
        return np.asarray((self.z * self.context).mean((0, 2, 3)))

    @property
    def noise_scale(self) -> np.ndarray:
        """Root mean square of the noise, (n,)."""
        return np.asarray((self.noise**2).mean((0, 2, 3)) ** 0.5)

    @property
    def noise(self) -> np.ndarray:
        """What remains, (B, n, S, D)."""
        return self.z - self.level[:, None, None] * self.context


def _observed(subject: Subject) -> SamplerTrace:
    return trace_sampler(
        subject, draw_sampler_call(subject, 3, SHAPE, accepted_step_counts(subject, 4)[-1], signs=True)
    )


def _handed(run: SamplerTrace, trial: Trial) -> list[Passed]:
    """Past frames in the denoising evaluations; where these have none, in passes over the whole context before them."""
    context = run.sampler_call.context

    def passed(call: Call, frames: int) -> Passed:
        return Passed(call.z[:, :frames], call.tau[:, :frames], call.d[:, :frames], context[:, -frames:])

    found = [
        passed(call, call.z.shape[1] - 1) for call in run.evaluations if 1 < call.z.shape[1] <= context.shape[1] + 1
    ]
    found = (
        found or [passed(call, call.z.shape[1]) for call in run.cache_passes if call.z.shape[1] == context.shape[1]][:1]
    )
    if not found:
        trial.inconclusive("no call of the network carries the frames of the context")
    return found


@check("ctx.corruption", needs=SAMPLER, decisions=4)
def check_context_is_corrupted_as_declared_and_labelled_so(subject: Subject, trial: Trial) -> None:
    """Under A9 the level, within 1/K_max; its label within 1/K_max of it; standard normal noise,
    every number's own; the d label under A11.
    """
    run = _observed(subject)
    calls, call = _handed(run, trial), str(run.sampler_call)
    _judge_level(subject, trial, calls, call)
    if subject.readings["A9"] != "none":
        _judge_independence(trial, calls, call)
    _judge_labels(subject, trial, run, calls, call)


def _judge_level(subject: Subject, trial: Trial, calls: list[Passed], call: str) -> None:
    reading = subject.readings["A9"]
    levels = {"slight": 0.9, "none": 1.0, "level": subject.adapter.context_level, "literal": 0.1}
    expected = levels[reading]
    if reading == "none":
        for one in calls:
            trial.compare("the context", one.z, one.context, terms=1.0, k=2.0, eps=subject.eps, call=call)
        return
    level, scale = (np.stack([getattr(one, name) for one in calls]) for name in ("level", "noise_scale"))
    if reading == "slight":
        sentence = "the context is not corrupted at all; without corruption, A9 = none is to be declared"
        trial.fail_unless(bool((scale > 4 * subject.eps).all()), sentence, call=call, got=level.tolist())
    beyond = _beyond(subject, level - expected)
    sentence = f"the context is at signal level {level.flat[np.argmax(beyond)]:.3g}; A9 = {reading} is {expected:g}"
    trial.reject_law(_unlikely(beyond, scale), sentence, call=call, got=level.tolist(), expected=expected)
    shares = (scale / np.maximum(np.abs(1 - level), subject.eps)) ** 2
    # A bf16 input adds rounding to the noise, and the level is an estimate: both move the share by less than 1 %.
    nearest = np.where(shares > 1, np.maximum(shares / 1.03, 1), np.minimum(shares * 1.03, 1))
    bound = union_bound(mean_square_bound(float(share), SHAPE[0] * SHAPE[2] * SHAPE[3]) for share in nearest.flat)
    sentence = (
        f"the noise of the context has scale {scale.flat[0]:.3g} at signal level {level.flat[0]:.3g}; it is 1 − level"
    )
    trial.reject_law(bound, sentence, call=call, got=scale.tolist(), expected=(1 - level).tolist())


AXES = ("sequences", "frames", "tokens", "channels")
"""Of z (B, n, S, D)."""


def _judge_independence(trial: Trial, calls: list[Passed], call: str) -> None:
    found = [(name, *correlation(one.noise, axis)) for one in calls for axis, name in enumerate(AXES)]
    name, worst, _ = max(found, key=lambda each: abs(each[1]))
    bound = union_bound(product_bound(value, pairs) for _, value, pairs in found if pairs)
    sentence = f"the noise of neighbouring {name} of the context is correlated by {worst:.3g}"
    trial.reject_law(bound, sentence, call=call, got=worst, expected=0.0)


def _beyond(subject: Subject, gap: np.ndarray) -> np.ndarray:
    """How far a gap exceeds 1/K_max, with the rounding of a label that lies halfway."""
    return np.asarray(np.maximum(np.abs(gap) - subject.d_min - subject.eps, 0.0))


def _unlikely(beyond: np.ndarray, scale: np.ndarray) -> float:
    deviation = np.maximum(scale, 1e-9) / (SHAPE[0] * SHAPE[2] * SHAPE[3]) ** 0.5
    return union_bound(normal_tail(float(score)) for score in (beyond / deviation).flat)


def _judge_labels(subject: Subject, trial: Trial, run: SamplerTrace, calls: list[Passed], call: str) -> None:
    level, scale = (np.stack([getattr(one, name) for one in calls]) for name in ("level", "noise_scale"))
    label = np.stack([one.tau.mean(0) for one in calls])
    uneven = any(bool((one.tau != one.tau[:1]).any()) for one in calls)
    trial.fail_unless(not uneven, "the label of the context differs between sequences of equal corruption", call=call)
    beyond = _beyond(subject, label - level)
    worst = int(np.argmax(beyond))
    sentence = f"the context is labelled τ = {label.flat[worst]:.4g}; its signal level is {level.flat[worst]:.4g}"
    trial.reject_law(_unlikely(beyond, scale), sentence, call=call, got=label.tolist(), expected=level.tolist())
    reading = subject.readings["A11"]
    expected = subject.d_min if reading == "d_min" else 1 / run.sampler_call.num_steps
    steps = sorted({float(d) for one in calls for d in one.d.flat})
    sentence = f"the context's step size is labelled {steps}; A11 = {reading} is {expected:g}"
    trial.fail_unless(steps == [expected], sentence, call=call, got=steps, expected=expected)


@check("ctx.fixed", needs=SAMPLER)
def check_context_is_the_same_in_every_evaluation(subject: Subject, trial: Trial) -> None:
    """Exact. One frame cannot tell noise that is kept from noise that is redrawn for the next frame (A28)."""
    run = _observed(subject)
    calls, reading = _handed(run, trial), subject.readings["A28"]
    if len(calls) < 2:
        trial.inconclusive("the context is handed to the network once")
    same = [np.array_equal(one.z, calls[0].z) for one in calls[1:]]
    if reading == "evaluation":
        if bool((calls[0].noise_scale <= 4 * subject.eps).all()):
            trial.inconclusive("the context is not corrupted, so that nothing can be redrawn")
        trial.fail_unless(
            not any(same),
            "the context is the same in two evaluations; A28 = evaluation redraws it",
            call=str(run.sampler_call),
        )
        return
    sentence = f"the corrupted context changes between evaluations; A28 = {reading} keeps it"
    trial.fail_unless(all(same), sentence, call=str(run.sampler_call), got=same)


@check("ctx.used", needs=SAMPLER)
def check_sample_depends_on_the_context(subject: Subject, trial: Trial) -> None:
    """A network that adds earlier frames to its output: another context must give another frame."""
    network = SteadyNetwork(past=0.5)
    for num_steps in accepted_step_counts(subject, 4):
        given = draw_sampler_call(subject, 5, (2, 3, 2, 2), num_steps)
        frames = [
            subject.sample_frame(network, context, num_steps, given.seed, given.actions)
            for context in (given.context, -given.context)
        ]
        widest = max((call.z.shape[1] for call in trace_sampler(subject, given).evaluations), default=0)
        carried = any(call.z.shape[1] == 3 for call in frames[0].calls)
        if widest == 1 and carried:
            trial.inconclusive(
                "the evaluations see the context through a cache, which an analytic network does not have"
            )
        differ = not np.array_equal(frames[0].frame, frames[1].frame)
        trial.fail_unless(differ, "the frame is the same for two contexts: history is not used", call=str(given))
