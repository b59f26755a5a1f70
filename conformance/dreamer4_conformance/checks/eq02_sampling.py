"""Checks of Eq. (2): a frame is sampled by Euler steps from noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.inputs import contents
from dreamer4_conformance.instruments.recorder import AnalyticNetwork, Call
from dreamer4_conformance.instruments.sampler_trace import (
    LOUD,
    STEADY,
    Denoising,
    every_step_count,
    fewest_frames,
    observe,
    setting,
    step_counts,
    taken,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.judging.tail_bounds import (
    any_of,
    correlation,
    mean_square_bound,
    normal_distance_bound,
    normal_tail,
    product_bound,
)

SAMPLER = ("sample_frame",)
MOST_STEPS = 4
K_STEP = 8.0
"""Subtract, divide, multiply, add, and an input that was rounded when it was handed to the network:
each on at most |z| + |ẑ|.
"""


def _for_every_run(
    subject: Subject, trial: Trial, holds: Callable[[Denoising], None], *, batch: int = 1, fewest_steps: int = 1
) -> None:
    """Observed runs of random context length, number of steps and seed."""
    counts = [count for count in step_counts(subject, MOST_STEPS) if count >= fewest_steps]
    if not counts:
        trial.inconclusive(f"with K_max = {subject.k_max} there are never {fewest_steps} steps")
    shapes = st.tuples(st.just(batch), st.integers(fewest_frames(subject), 3), st.integers(1, 2), st.integers(1, 2))

    def run(seed: int, shape: tuple[int, int, int, int], num_steps: int) -> None:
        holds(observe(subject, setting(subject, seed, shape, num_steps)))

    trial.for_all(seeds(), shapes, st.sampled_from(counts), body=run)


@check("eq02.calls", needs=SAMPLER)
def check_a_frame_takes_k_labelled_evaluations(subject: Subject, trial: Trial) -> None:
    """Exact: the labels are multiples of 1/K. Passes that do not move the frame are not counted."""

    def holds(run: Denoising) -> None:
        count, call = run.setting.num_steps, str(run.setting)
        expected = [step / count for step in range(count)]
        sentence = f"{len(run.evaluations)} evaluations move the frame; K = {count}"
        trial.require(len(run.evaluations) == count, sentence, call=call, got=run.labels, expected=expected)
        taus, steps = (np.stack([getattr(one, name)[:, -1] for one in run.evaluations]) for name in ("tau", "d"))
        told = bool((taus == np.array(expected)[:, None]).all())
        sentence = f"the frame is labelled τ = {run.labels}; its signal levels are {expected}"
        trial.require(told, sentence, call=call, got=run.labels, expected=expected)
        sentence = f"the frame's step size is labelled {steps[:, 0].tolist()}; it is 1/{count}"
        trial.require(
            bool((steps == 1 / count).all()), sentence, call=call, got=steps[:, 0].tolist(), expected=1 / count
        )

    _for_every_run(subject, trial, holds)


@check("eq02.step", needs=SAMPLER)
def check_every_input_is_one_euler_step_on(subject: Subject, trial: Trial) -> None:
    """From the recorded inputs and outputs alone; levels are counted, not read from the labels (eq02.calls does)."""

    def holds(run: Denoising) -> None:
        states = [*run.inputs, run.frame]
        for step, call in enumerate(run.evaluations):
            z, z1_hat, left = states[step], call.output[:, -1], len(run.evaluations) - step
            what = "the returned frame" if left == 1 else f"the input of evaluation {step + 1}"
            terms = np.abs(z) + np.abs(z1_hat)
            expected = z + (z1_hat - z) / left
            trial.compare(
                what, states[step + 1], expected, terms=terms, k=K_STEP, eps=subject.eps, call=str(run.setting)
            )

    _for_every_run(subject, trial, holds, batch=2, fewest_steps=min(2, subject.k_max))


@check("eq02.endpoint", needs=SAMPLER)
def check_perfect_predictor_is_reproduced(subject: Subject, trial: Trial) -> None:
    """For every K up to K_max. The last step ends on the prediction, whatever rounded before it; start noise stays
    below 8, data inside (−1, 1).
    """
    fewest = fewest_frames(subject)

    def holds(seed: int, num_steps: int, time: int) -> None:
        run = setting(subject, seed, (2, time, 2, 3), num_steps)
        z1 = subject.round(contents(seed).uniform(-1, 1, (2, 3)))
        network = AnalyticNetwork(slope=0.0, base=z1)
        frame = subject.sample_frame(network, run.context, num_steps, seed, run.actions).frame
        expected = np.broadcast_to(z1, frame.shape)
        terms = 8 + np.abs(expected)
        trial.compare("the frame", frame, expected, terms=terms, k=2.0, eps=subject.eps, call=str(run))

    trial.for_all(seeds(), st.sampled_from(every_step_count(subject)), st.integers(fewest, 2), body=holds)


@check("eq02.deterministic", needs=SAMPLER)
def check_same_seed_gives_the_same_frame(subject: Subject, trial: Trial) -> None:
    """Up to the rounding of kernels that add in no fixed order."""

    def holds(seed: int, num_steps: int) -> None:
        run = setting(subject, seed, (2, 2, 2, 2), num_steps)
        arguments = (STEADY, run.context, num_steps, seed, run.actions)
        first, again = (subject.sample_frame(*arguments).frame for _ in range(2))
        terms = 1 + np.abs(first)
        trial.compare("the second sample", again, first, terms=terms, k=K_STEP, eps=subject.eps, call=f"{run}, twice")

    trial.for_all(seeds(), st.sampled_from(step_counts(subject, MOST_STEPS)), body=holds)


@check("eq02.start-law", needs=SAMPLER, decisions=5)
def check_start_is_standard_normal(subject: Subject, trial: Trial) -> None:
    """Over 32768 numbers.

    Found with certainty: a mean of 0.07, a scale of 0.95, a distribution function off by 0.04, a correlation of 0.1.
    """
    shape = (16, 1, 32, 64)
    fewest = step_counts(subject, MOST_STEPS)[0]
    runs = [observe(subject, setting(subject, seed, shape, fewest)) for seed in (1, 2)]
    if not all(run.evaluations for run in runs):
        trial.inconclusive("no evaluation moves the frame")
    start, other = (run.inputs[0] for run in runs)
    call, count = str(runs[0].setting), start.size
    mean, square = float(start.mean()), float((start**2).mean())
    trial.reject_law(normal_tail(mean * count**0.5), f"the mean of the start is {mean:.3g}, not 0", call=call, got=mean)
    bound = mean_square_bound(square, count)
    trial.reject_law(bound, f"the mean square of the start is {square:.3g}, not 1", call=call, got=square, expected=1.0)
    trial.reject_law(normal_distance_bound(start), "the start is not normally distributed", call=call)
    axes = [np.moveaxis(start, axis, 0) for axis in range(3)]
    products = [float((one[::2] * one[1::2]).mean()) for one in axes]
    sentence = f"the start noise of neighbouring sequences, tokens, channels is correlated by {np.round(products, 3)}"
    bound = any_of(product_bound(one, count // 2) for one in products)
    trial.reject_law(bound, sentence, call=call, got=products, expected=[0.0] * 3)
    between = float((start * other).mean())
    sentence = f"the start noise of two seeds is correlated by {between:.3g}"
    trial.reject_law(
        product_bound(between, count), sentence, call=f"{call}, and with seed 2", got=between, expected=0.0
    )


@check("eq02.actions", needs=SAMPLER)
def check_every_evaluation_receives_the_actions(subject: Subject, trial: Trial) -> None:
    """Exact, on the frames that the evaluation was given: the last ones where the context is cropped or cached.

    The action that leads to the first frame comes from before it: an implementation may have no place for it. One that
    knows actions of another kind, classes say, hands over what it made of each frame's own.
    """

    def holds(run: Denoising) -> None:
        for step, one in enumerate(run.evaluations):
            expected = run.setting.actions[:, -one.z.shape[1] :]
            got = None if one.actions is None else one.actions[:, -one.z.shape[1] :]
            same = got is not None and np.array_equal(got, _placed(expected, got, run))
            sentence = f"evaluation {step} does not receive the actions that were given"
            shown = None if got is None else got.tolist()
            received = same or _encoded(subject, run)
            trial.require(received, sentence, call=str(run.setting), got=shown, expected=expected.tolist())

    _for_every_run(subject, trial, holds)


def _placed(expected: np.ndarray, got: np.ndarray, run: Denoising) -> np.ndarray:
    """What was given, or that without its first action where the sequence starts with nothing."""
    starts_empty = got.shape == run.setting.actions.shape and not got[:, 0].any()
    return np.concatenate([0 * expected[:, :1], expected[:, 1:]], axis=1) if starts_empty else expected


def _encoded(subject: Subject, run: Denoising) -> bool:
    """Whether the negative of frame t's action changes what all evaluations receive at t, and there alone."""
    received, frames = _received(run), run.setting.actions.shape[1]
    for back in range(1, 1 + (0 if received is None else received.shape[1])):
        actions = run.setting.actions.copy()
        actions[:, -back] *= -1
        other = _received(observe(subject, replace(run.setting, actions=actions)))
        if received is None or other is None or other.shape != received.shape:
            return False
        changed = (other != received).any((0, 2))
        if changed.sum() != changed[-back] or not (changed[-back] or back == frames):
            return False
    return received is not None


def _received(run: Denoising) -> np.ndarray | None:
    """The actions that every evaluation received, (B, n, A), on frames that all were given; None if they differ."""
    frames = min((one.z.shape[1] for one in run.evaluations), default=0)
    found = [None if one.actions is None else one.actions[:, -frames:] for one in run.evaluations]
    first = found[0] if found else None
    if first is None or not all(one is not None and np.array_equal(one, first) for one in found):
        return None
    return np.asarray(first.reshape(*first.shape[:2], -1))


@signature("sample_frame", tolerance=0.05)
def signature_course_of_a_frame(subject: Subject) -> np.ndarray:
    """Statistics of one run and its repetition:
    labels, steps, start noise, actions, context, evaluation by evaluation; and whether one step is taken.
    """
    shown = 5
    vector = attempt(lambda: _statistics(subject, shown), 8 * shown + 14)
    return np.asarray(np.nan_to_num(vector, nan=-1.0))


def _statistics(subject: Subject, shown: int) -> np.ndarray:
    num_steps = step_counts(subject, 4)[-1]
    given, elsewhere = (setting(subject, seed, (32, 2, 16, 32), num_steps, signs=True) for seed in (1, 2))
    run = observe(subject, given, LOUD)
    frame, calls = run.frame, run.evaluations
    again, other = (
        subject.sample_frame(LOUD, one.context, num_steps, one.seed, one.actions) for one in (given, elsewhere)
    )
    course = [
        run.labels,
        [float(call.d[:, -1].mean()) for call in calls],
        _missteps(run),
        [_agreement(call.actions, given.actions) for call in calls],
        *np.array([_past(call, given.context) for call in calls]).T,
    ]
    padded = [np.resize(np.append(values, [-1.0] * shown), shown) for values in course]
    first, last = calls[0].z[:, :-1], calls[-1].z[:, :-1]
    shared = [_shared_noise(first, given.context, axis) for axis in (0, 1)]
    spread = [_rms(frame), _rms(frame - again.frame), _rms(frame - other.frame), _rms(first - last)]
    whole = [*spread, len(calls) / 4, float(taken(subject, 1))]
    return np.concatenate([*padded, _start_moments(run.inputs[0]), whole, shared])


def _shared_noise(past: np.ndarray, context: np.ndarray, axis: int) -> float:
    """Correlation of the noise of neighbouring sequences or frames of the past."""
    clean = context[:, -past.shape[1] :] if past.shape[1] else past
    return correlation(past - clean * (past * clean).mean() if past.size else past, axis)[0]


def _missteps(run: Denoising) -> list[float]:
    """How far each state lies from one Euler step on."""
    states, count = [*run.inputs, run.frame], len(run.evaluations)
    return [
        _rms(states[step + 1] - states[step] - (call.output[:, -1] - states[step]) / (count - step))
        for step, call in enumerate(run.evaluations)
    ]


def _start_moments(start: np.ndarray) -> list[float]:
    scale = _rms(start) or 1.0
    axes = [np.moveaxis(start / scale, axis, 0) for axis in range(3)]
    return [
        start.mean(),
        _rms(start),
        4 * (np.abs(start) < scale / 2).mean(),
        *((one[::2] * one[1::2]).mean() for one in axes),
    ]


def _rms(x: np.ndarray) -> float:
    return float((x**2).mean() ** 0.5) if x.size else -1.0


def _agreement(got: np.ndarray | None, given: np.ndarray) -> float:
    return -1.0 if got is None or got.shape != given.shape else float((got * given).mean() / (given**2).mean())


def _past(call: Call, context: np.ndarray) -> tuple[float, float, float, float]:
    """Of the past frames that an evaluation was given:
    signal level, noise, how far the label is from the level, step label.
    """
    frames = call.z.shape[1] - 1
    if frames == 0:
        return -1.0, -1.0, -1.0, -1.0
    past, clean = call.z[:, :-1], context[:, -frames:]
    level = float((past * clean).mean())
    return level, _rms(past - level * clean), 4 * float(call.tau[:, :-1].mean() - level), float(call.d[:, :-1].mean())
