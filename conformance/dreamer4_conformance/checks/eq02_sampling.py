"""Checks of Eq. (2): a frame is sampled by Euler steps from noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.inputs import input_rng
from dreamer4_conformance.instruments.recorder import AnalyticNetwork, Call
from dreamer4_conformance.instruments.sampler_trace import (
    LOUD,
    STEADY,
    SamplerTrace,
    accepted_step_counts,
    accepts_steps,
    all_step_counts,
    draw_sampler_call,
    min_context_frames,
    trace_sampler,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.judging.tail_bounds import (
    correlation,
    mean_square_bound,
    normal_distance_bound,
    normal_tail,
    product_bound,
    union_bound,
)

SAMPLER = ("sample_frame",)
MOST_STEPS = 4
K_STEP = 8.0
"""Roundings: subtract, divide, multiply, add, and the network's input, each on at most |z| + |ẑ|."""


def _for_every_run(
    subject: Subject, trial: Trial, holds: Callable[[SamplerTrace], None], *, batch: int = 1, fewest_steps: int = 1
) -> None:
    """Call `holds` on observed runs of random context length, number of steps and seed."""
    counts = [count for count in accepted_step_counts(subject, MOST_STEPS) if count >= fewest_steps]
    if not counts:
        trial.inconclusive(f"K_max = {subject.k_max} does not allow {fewest_steps} steps")
    shapes = st.tuples(
        st.just(batch), st.integers(min_context_frames(subject), 3), st.integers(1, 2), st.integers(1, 2)
    )

    def run(seed: int, shape: tuple[int, int, int, int], num_steps: int) -> None:
        holds(trace_sampler(subject, draw_sampler_call(subject, seed, shape, num_steps)))

    trial.for_all(seeds(), shapes, st.sampled_from(counts), body=run)


@check("eq02.calls", needs=SAMPLER)
def check_a_frame_takes_k_labelled_evaluations(subject: Subject, trial: Trial) -> None:
    """A frame takes K evaluations, labelled τ = 0, 1/K, …, (K − 1)/K and d = 1/K.

    Exact: the labels are multiples of 1/K. Calls whose output does not change the frame are not counted.
    """

    def holds(run: SamplerTrace) -> None:
        count, call = run.sampler_call.num_steps, str(run.sampler_call)
        expected = [step / count for step in range(count)]
        sentence = f"{len(run.evaluations)} evaluations of the network change the frame; it needs K = {count}"
        trial.fail_unless(len(run.evaluations) == count, sentence, call=call, got=run.labels, expected=expected)
        taus, steps = (np.stack([getattr(c, name)[:, -1] for c in run.evaluations]) for name in ("tau", "d"))
        sentence = f"the frame is labelled τ = {run.labels}; its signal levels are {expected}"
        same = np.all(taus == np.array(expected)[:, None])
        trial.fail_unless(same, sentence, call=call, got=run.labels, expected=expected)
        labels = steps[:, 0].tolist()
        sentence = f"the frame's step size is labelled d = {labels}; it is 1/{count}"
        trial.fail_unless(np.all(steps == 1 / count), sentence, call=call, got=labels, expected=1 / count)

    _for_every_run(subject, trial, holds)


@check("eq02.step", needs=SAMPLER)
def check_each_evaluation_is_followed_by_an_euler_step(subject: Subject, trial: Trial) -> None:
    """Each input is the previous one plus one Euler step along the previous prediction. Within `K_STEP` roundings.

    Signal levels are counted, not read from the labels, which eq02.calls judges.
    """

    def holds(run: SamplerTrace) -> None:
        states = [*run.inputs, run.frame]
        for step, call in enumerate(run.evaluations):
            z, z1_hat, remaining = states[step], call.output[:, -1], len(run.evaluations) - step
            name = "the returned frame" if remaining == 1 else f"the input of evaluation {step + 1}"
            got, expected = states[step + 1], z + (z1_hat - z) / remaining
            terms = np.abs(z) + np.abs(z1_hat)
            trial.compare(name, got, expected, terms=terms, k=K_STEP, eps=subject.eps, call=str(run.sampler_call))

    _for_every_run(subject, trial, holds, batch=2, fewest_steps=min(2, subject.k_max))


@check("eq02.endpoint", needs=SAMPLER)
def check_perfect_predictor_is_reproduced(subject: Subject, trial: Trial) -> None:
    """A network that always predicts z1 is sampled to z1, for every K up to K_max.

    Within rounding on 8 + |z1|: the last step ends on the prediction, start noise stays below 8, z1 lies in (−1, 1).
    """
    fewest = min_context_frames(subject)

    def holds(seed: int, num_steps: int, time: int) -> None:
        run = draw_sampler_call(subject, seed, (2, time, 2, 3), num_steps)
        z1 = subject.round(input_rng(seed).uniform(-1, 1, (2, 3)))
        network = AnalyticNetwork(slope=0.0, base=z1)
        frame = subject.sample_frame(network, run.context, num_steps, seed, run.actions).frame
        expected = np.broadcast_to(z1, frame.shape)
        terms = 8 + np.abs(expected)
        trial.compare("the frame", frame, expected, terms=terms, k=2.0, eps=subject.eps, call=str(run))

    trial.for_all(seeds(), st.sampled_from(all_step_counts(subject)), st.integers(fewest, 2), body=holds)


@check("eq02.deterministic", needs=SAMPLER)
def check_same_seed_gives_the_same_frame(subject: Subject, trial: Trial) -> None:
    """Two calls with the same seed give the same frame, up to the rounding of kernels without a fixed order of sums."""

    def holds(seed: int, num_steps: int) -> None:
        run = draw_sampler_call(subject, seed, (2, 2, 2, 2), num_steps)
        arguments = (STEADY, run.context, num_steps, seed, run.actions)
        first, second = (subject.sample_frame(*arguments).frame for _ in range(2))
        terms = 1 + np.abs(first)
        trial.compare("the second sample", second, first, terms=terms, k=K_STEP, eps=subject.eps, call=f"{run}, twice")

    trial.for_all(seeds(), st.sampled_from(accepted_step_counts(subject, MOST_STEPS)), body=holds)


@check("eq02.start-law", needs=SAMPLER, decisions=5)
def check_start_is_standard_normal(subject: Subject, trial: Trial) -> None:
    """The first input of a frame is standard normal noise, over 32768 numbers.

    Detected with certainty: a mean of 0.07, a scale of 0.95, a distribution function off by 0.04, a correlation of 0.1.
    """
    shape = (16, 1, 32, 64)
    fewest = accepted_step_counts(subject, MOST_STEPS)[0]
    runs = [trace_sampler(subject, draw_sampler_call(subject, seed, shape, fewest)) for seed in (1, 2)]
    if not all(run.evaluations for run in runs):
        trial.inconclusive("the output of no network call changes the frame")
    start, second_start = (run.inputs[0] for run in runs)
    call, count = str(runs[0].sampler_call), start.size
    mean, square = float(start.mean()), float((start**2).mean())
    trial.reject_law(normal_tail(mean * count**0.5), f"the mean of the start is {mean:.3g}, not 0", call=call, got=mean)
    bound = mean_square_bound(square, count)
    trial.reject_law(bound, f"the mean square of the start is {square:.3g}, not 1", call=call, got=square, expected=1.0)
    trial.reject_law(normal_distance_bound(start), "the start is not normally distributed", call=call)
    axes = [np.moveaxis(start, axis, 0) for axis in range(3)]
    products = [float((x[::2] * x[1::2]).mean()) for x in axes]
    sentence = f"the start noise of neighbouring sequences, tokens, channels is correlated by {np.round(products, 3)}"
    bound = union_bound(product_bound(product, count // 2) for product in products)
    trial.reject_law(bound, sentence, call=call, got=products, expected=[0.0] * 3)
    product, call = float((start * second_start).mean()), f"{call}, and with seed 2"
    sentence = f"the start noise of two seeds is correlated by {product:.3g}"
    trial.reject_law(product_bound(product, count), sentence, call=call, got=product, expected=0.0)


@check("eq02.actions", needs=SAMPLER)
def check_every_evaluation_receives_the_actions(subject: Subject, trial: Trial) -> None:
    """Every evaluation receives the action of each of its frames: of the last frames if the context is cropped.

    Exact. The first action, which precedes the first frame, may be replaced by zeros. If the implementation converts
    actions, to classes for example, its actions at frame t must change with the action of frame t and no other.
    """

    def holds(run: SamplerTrace) -> None:
        for step, call in enumerate(run.evaluations):
            frames = call.z.shape[1]
            expected = run.sampler_call.actions[:, -frames:]
            got = None if call.actions is None else call.actions[:, -frames:]
            same = got is not None and np.array_equal(got, _allow_empty_start(expected, got, run))
            sentence = f"evaluation {step} does not receive the actions passed to sample_frame"
            shown = None if got is None else got.tolist()
            received = same or _converted(subject, run)
            trial.fail_unless(received, sentence, call=str(run.sampler_call), got=shown, expected=expected.tolist())

    _for_every_run(subject, trial, holds)


def _allow_empty_start(expected: np.ndarray, got: np.ndarray, run: SamplerTrace) -> np.ndarray:
    """`expected`, with zeros as its first action if `got` starts with zeros."""
    starts_empty = got.shape == run.sampler_call.actions.shape and not got[:, 0].any()
    return np.concatenate([0 * expected[:, :1], expected[:, 1:]], axis=1) if starts_empty else expected


def _converted(subject: Subject, run: SamplerTrace) -> bool:
    """Whether negating the action of frame t changes what all evaluations receive at t, and only there."""
    received, frames = _received(run), run.sampler_call.actions.shape[1]
    for back in range(1, 1 + (0 if received is None else received.shape[1])):
        actions = run.sampler_call.actions.copy()
        actions[:, -back] *= -1
        negated = _received(trace_sampler(subject, replace(run.sampler_call, actions=actions)))
        if received is None or negated is None or negated.shape != received.shape:
            return False
        changed = (negated != received).any((0, 2))
        if changed.sum() != changed[-back] or not (changed[-back] or back == frames):
            return False
    return received is not None


def _received(run: SamplerTrace) -> np.ndarray | None:
    """The actions (B, n, A) on the n frames common to all evaluations; None if evaluations receive different ones."""
    frames = min((call.z.shape[1] for call in run.evaluations), default=0)
    received = [None if call.actions is None else call.actions[:, -frames:] for call in run.evaluations]
    first = received[0] if received else None
    if first is None or not all(actions is not None and np.array_equal(actions, first) for actions in received):
        return None
    return np.asarray(first.reshape(*first.shape[:2], -1))


@signature("sample_frame", tolerance=0.05)
def signature_course_of_a_frame(subject: Subject) -> np.ndarray:
    """Statistics of one run and its repetition, and whether K = 1 is accepted.

    For each evaluation: labels, errors of the step, actions, context; for the run: start noise and its correlations.
    """
    shown = 5
    vector = attempt(lambda: _statistics(subject, shown), 8 * shown + 14)
    return np.asarray(np.nan_to_num(vector, nan=-1.0))


def _statistics(subject: Subject, shown: int) -> np.ndarray:
    num_steps = accepted_step_counts(subject, 4)[-1]
    settings = [draw_sampler_call(subject, seed, (32, 2, 16, 32), num_steps, signs=True) for seed in (1, 2)]
    context, actions = settings[0].context, settings[0].actions
    run = trace_sampler(subject, settings[0], LOUD)
    frame, calls = run.frame, run.evaluations
    repeated, reseeded = (subject.sample_frame(LOUD, s.context, num_steps, s.seed, s.actions).frame for s in settings)
    course = [
        run.labels,
        [float(call.d[:, -1].mean()) for call in calls],
        _missteps(run),
        [_agreement(call.actions, actions) for call in calls],
        *np.array([_past(call, context) for call in calls]).T,
    ]
    padded = [np.resize(np.append(values, [-1.0] * shown), shown) for values in course]
    first, last = calls[0].z[:, :-1], calls[-1].z[:, :-1]
    shared = [_shared_noise(first, context, axis) for axis in (0, 1)]
    spread = [_rms(frame), _rms(frame - repeated), _rms(frame - reseeded), _rms(first - last)]
    totals = [*spread, len(calls) / 4, float(accepts_steps(subject, 1))]
    return np.concatenate([*padded, _start_moments(run.inputs[0]), totals, shared])


def _shared_noise(past: np.ndarray, context: np.ndarray, axis: int) -> float:
    """Correlation of the noise between neighbouring sequences (axis 0) or past frames (axis 1)."""
    clean = context[:, -past.shape[1] :] if past.shape[1] else past
    return correlation(past - clean * (past * clean).mean() if past.size else past, axis)[0]


def _missteps(run: SamplerTrace) -> list[float]:
    """Distance of each state from an Euler step after the previous one."""
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
        *((x[::2] * x[1::2]).mean() for x in axes),
    ]


def _rms(x: np.ndarray) -> float:
    return float((x**2).mean() ** 0.5) if x.size else -1.0


def _agreement(got: np.ndarray | None, expected: np.ndarray) -> float:
    return -1.0 if got is None or got.shape != expected.shape else float((got * expected).mean() / (expected**2).mean())


def _past(call: Call, context: np.ndarray) -> tuple[float, float, float, float]:
    """Signal level, noise scale, label minus level and step label of the past frames; −1 if there are none."""
    frames = call.z.shape[1] - 1
    if frames == 0:
        return -1.0, -1.0, -1.0, -1.0
    past, clean = call.z[:, :-1], context[:, -frames:]
    level = float((past * clean).mean())
    return level, _rms(past - level * clean), 4 * float(call.tau[:, :-1].mean() - level), float(call.d[:, :-1].mean())
