"""Checks of Eq. (2): a frame is sampled by Euler steps from noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    sampler_limits,
    trace_sampler,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.dependence import largest_alignment
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.loss_evaluations import is_unconditional
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.judging.tail_bounds import (
    correlation,
    mean_square_bound,
    normal_distance_bound,
    normal_tail,
    product_bound,
    tail_bound,
    union_bound,
)
from dreamer4_conformance.verdicts import Inconclusive, NotProvided

SAMPLER = ("sample_frame",)
MOST_STEPS, MANY_STEPS = 4, 16
K_STEP = 8.0
"""Roundings: subtract, divide, multiply, add, and the network's input, each on at most |z| + |ẑ|."""


def _for_every_run(
    subject: Subject, trial: Trial, holds: Callable[[SamplerTrace], None], *, batch: int = 1, fewest_steps: int = 1
) -> None:
    """Call `holds` on observed runs of random context length, number of steps and seed."""
    counts = [count for count in accepted_step_counts(subject, MOST_STEPS) if count >= fewest_steps]
    if not counts:
        trial.inconclusive(f"K_max = {subject.k_max} does not allow {fewest_steps} steps")
    fewest = sampler_limits(subject).fewest_frames
    shapes = st.tuples(st.just(batch), st.integers(fewest, fewest + 3), st.integers(1, 2), st.integers(1, 2))

    def run(seed: int, shape: tuple[int, int, int, int], num_steps: int) -> None:
        holds(trace_sampler(subject, draw_sampler_call(subject, seed, shape, num_steps)))

    trial.for_all(seeds(), shapes, st.sampled_from(counts), body=run)
    run(1, (2, fewest + 1, 2, 2), accepted_step_counts(subject, MANY_STEPS)[-1])


@check("eq02.calls", needs=SAMPLER)
def check_a_frame_takes_k_labelled_evaluations(subject: Subject, trial: Trial) -> None:
    """A frame takes K evaluations, labelled τ = 0, 1/K, …, (K − 1)/K and d = 1/K.

    Exact: the labels are multiples of 1/K. A label between two grid levels, such as 0.001, counts as the level that it
    is embedded as, rounded down or to the nearest (A10). Calls whose output does not change the frame are not counted.
    """

    def holds(run: SamplerTrace) -> None:
        count, call = run.sampler_call.num_steps, str(run.sampler_call)
        expected = [step / count for step in range(count)]
        sentence = f"{len(run.evaluations)} evaluations of the network change the frame; it needs K = {count}"
        trial.fail_unless(len(run.evaluations) == count, sentence, call=call, got=run.labels, expected=expected)
        taus, steps = (np.stack([getattr(c, name)[:, -1] for c in run.evaluations]) for name in ("tau", "d"))
        sentence = f"the frame is labelled τ = {run.labels}; its signal levels are {expected}"
        above = (taus - np.array(expected)[:, None]) * subject.k_max
        same = np.all((above >= -0.5) & (above < 1))
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
    # Among this many normal numbers some exceed 4, so that clipping has an effect.
    wide = draw_sampler_call(subject, 1, (4, 1, 64, 256), accepted_step_counts(subject, 2)[-1])
    holds(trace_sampler(subject, wide))


@check("eq02.endpoint", needs=SAMPLER)
def check_perfect_predictor_is_reproduced(subject: Subject, trial: Trial) -> None:
    """A network that always predicts z1 is sampled to z1, for every K up to K_max.

    Within rounding on 8 + |z1|: the last step ends on the prediction, start noise stays below 8, z1 lies in (−1, 1).
    """
    fewest = sampler_limits(subject).fewest_frames

    def holds(seed: int, num_steps: int, time: int) -> None:
        run = draw_sampler_call(subject, seed, (2, time, 2, 3), num_steps)
        z1 = subject.round(input_rng(seed).uniform(-1, 1, run.context.shape[2:]))
        network = AnalyticNetwork(slope=0.0, base=z1)
        frame = subject.sample_frame(network, run.context, num_steps, seed, run.actions).frame
        expected = np.broadcast_to(z1, frame.shape)
        terms = 8 + np.abs(expected)
        trial.compare("the frame", frame, expected, terms=terms, k=2.0, eps=subject.eps, call=str(run))

    trial.for_all(seeds(), st.sampled_from(all_step_counts(subject)), st.integers(fewest, fewest + 2), body=holds)


@check("eq02.deterministic", needs=SAMPLER)
def check_same_seed_gives_the_same_frame(subject: Subject, trial: Trial) -> None:
    """Two calls with the same seed give the same frame, up to the rounding of kernels without a fixed order of sums."""

    def holds(seed: int, num_steps: int) -> None:
        run = draw_sampler_call(subject, seed, (2, 2, 2, 2), num_steps)
        arguments = (STEADY, run.context, num_steps, seed, run.actions)
        first, second = (subject.sample_frame(*arguments).frame for _ in range(2))
        terms = 1 + np.abs(first)
        trial.compare(
            "the second sample",
            second,
            first,
            terms=terms,
            k=K_STEP,
            eps=subject.eps,
            call=f"{run}, twice",
            required_by="adapter",
        )

    trial.for_all(seeds(), st.sampled_from(accepted_step_counts(subject, MOST_STEPS)), body=holds)


@check("eq02.start-law", needs=SAMPLER, decisions=13)
def check_start_is_standard_normal(subject: Subject, trial: Trial) -> None:
    """The first input of a frame is standard normal noise, over 32768 numbers; for one sequence at a time too.

    No two sequences, tokens, channels or seeds share it, and it does not depend on the context. Detected with
    certainty: a mean of 0.07, a scale of 0.95, a cut-off at 3, a distribution function off by 0.04, a correlation of
    0.1 between neighbours.
    """
    fewest = accepted_step_counts(subject, MOST_STEPS)[0]
    batches = [_first_inputs(subject, trial, [seed], (16, 1, 32, 64), fewest) for seed in (1, 2)]
    alone = _first_inputs(subject, trial, range(3, 19), (1, 1, 32, 64), fewest)
    for start, call in (batches[0], alone):
        _judge_normal(trial, start, call)
    start, call = batches[0]
    axes = [np.moveaxis(start, axis, 0) for axis in range(3)]
    products = [(x[: len(x) // 2 * 2 : 2] * x[1::2]).ravel() for x in axes]
    means = [float(x.mean()) if x.size else 0.0 for x in products]
    sentence = f"the start noise of neighbouring sequences, tokens, channels is correlated by {np.round(means, 3)}"
    bound = union_bound(product_bound(mean, x.size) for mean, x in zip(means, products, strict=True))
    trial.reject_law(bound, sentence, call=call, got=means, expected=[0.0] * 3)
    sources = [alone] if sampler_limits(subject).single_row else [*batches, alone]
    sequences = np.concatenate([x.reshape(len(x), -1) for x, _ in sources])
    shared = {"sequences or seeds": sequences, "tokens": _along(start, 1), "channels": _along(start, 2)}
    for name, vectors in shared.items():
        cosine, (first, second), bound = largest_alignment(vectors)
        sentence = f"the start noise of {name} {first} and {second} is the same up to a correlation of {cosine:.3g}"
        trial.reject_law(bound, sentence, call=call, got=cosine, expected=0.0)
    context = draw_sampler_call(subject, 1, (16, 1, 32, 64), fewest).context
    vectors = np.moveaxis(context, 1, 0).reshape(context.shape[1], -1)
    cosine, _, bound = largest_alignment(start.reshape(1, -1), vectors)
    sentence = f"the start noise is correlated with the context by {cosine:.3g}"
    trial.reject_law(bound, sentence, call=call, got=cosine, expected=0.0)


def _first_inputs(
    subject: Subject, trial: Trial, seeds: Sequence[int], shape: tuple[int, int, int, int], num_steps: int
) -> tuple[np.ndarray, str]:
    """The generated frame in the first evaluation, the rows of all seeds together, and the call as Python."""
    runs = [trace_sampler(subject, draw_sampler_call(subject, seed, shape, num_steps)) for seed in seeds]
    if not all(run.evaluations for run in runs):
        trial.inconclusive("the output of no network call changes the frame")
    call = str(runs[0].sampler_call) + (f", and with seeds up to {seeds[-1]}" if len(seeds) > 1 else "")
    return np.concatenate([run.inputs[0] for run in runs]), call


def _along(start: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(start, axis, 0).reshape(start.shape[axis], -1)


def _judge_normal(trial: Trial, start: np.ndarray, call: str) -> None:
    mean, square = float(start.mean()), float((start**2).mean())
    score = normal_tail(mean * start.size**0.5)
    trial.reject_law(score, f"the mean of the start is {mean:.3g}, not 0", call=call, got=mean, expected=0.0)
    bound = mean_square_bound(square, start.size)
    trial.reject_law(bound, f"the mean square of the start is {square:.3g}, not 1", call=call, got=square, expected=1.0)
    trial.reject_law(normal_distance_bound(start), "the start is not normally distributed", call=call)
    largest = float(np.abs(start).max())
    sentence = f"the start has too few or too many large numbers for a normal distribution, the largest {largest:.3g}"
    trial.reject_law(tail_bound(start), sentence, call=call, got=largest)


@check("eq02.actions", needs=SAMPLER)
def check_every_evaluation_receives_the_actions(subject: Subject, trial: Trial) -> None:
    """Every evaluation receives the action of each of its frames: of the last frames if the context is cropped.

    Exact. The first action, which precedes the first frame, may be replaced by zeros. If the implementation converts
    actions, to classes for example, its actions at frame t must change with the action of frame t and no other. A model
    without actions, in the loss and in the sampler, is not judged.
    """
    if not subject.samples_with_actions():
        raise NotProvided("sample_frame has no argument `actions`: an unconditional model")

    def holds(run: SamplerTrace) -> None:
        if all(call.actions is None for call in run.evaluations) and is_unconditional(subject):
            raise NotProvided("neither the loss nor the sampler passes actions: an unconditional model")
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
    vector = attempt(lambda: _statistics(subject, shown), 8 * shown + 21)
    return np.asarray(np.nan_to_num(vector, nan=-1.0))


@signature("sample_frame")
def signature_accepted_numbers_of_steps(subject: Subject) -> np.ndarray:
    """Whether the sampler accepts K = 1, 2, 4."""
    return np.array([accepts_steps(subject, count) for count in (1, 2, 4) if count <= subject.k_max], float)


@signature("sample_frame")
def signature_labels_of_a_frame(subject: Subject) -> np.ndarray:
    """Level and step size with which the frame is labelled in each evaluation; −1 after the last one."""

    def probe() -> np.ndarray:
        run = _short_run(subject)
        steps = [float(call.d[:, -1].mean()) for call in run.evaluations]
        return np.concatenate([_padded(values, 6) for values in (run.labels, steps)])

    return attempt(probe, 12)


@signature("sample_frame")
def signature_labels_of_the_context(subject: Subject) -> np.ndarray:
    """Level with which past frames are labelled in each evaluation, above that of the frame; −1 after the last one.

    Raises:
        Inconclusive: if past frames are in a cache.
    """
    run = _short_run(subject)
    if run.cache_passes:
        raise Inconclusive("the evaluations have no past frames")
    calls = [call for call in run.evaluations if call.tau.shape[1] > 1]
    return _padded([float(call.tau[:, :-1].mean() - call.tau[:, -1].mean()) for call in calls], 6)


@signature("sample_frame", tolerance=0.05)
def signature_steps_of_a_frame(subject: Subject) -> np.ndarray:
    """Distance of each state from an Euler step after the previous one; −1 after the last one."""
    return attempt(lambda: _padded(_missteps(_short_run(subject)), 6), 6)


def _padded(values: Sequence[float] | np.ndarray, size: int) -> np.ndarray:
    """The first values, and −1 where there are fewer than `size`."""
    return np.resize(np.append(values, [-1.0] * size), size)


def _short_run(subject: Subject) -> SamplerTrace:
    num_steps = accepted_step_counts(subject, 4)[-1]
    return trace_sampler(subject, draw_sampler_call(subject, 1, (32, 2, 16, 32), num_steps, signs=True), LOUD)


def _statistics(subject: Subject, shown: int) -> np.ndarray:
    num_steps = accepted_step_counts(subject, 4)[-1]
    settings = [draw_sampler_call(subject, seed, (32, 2, 16, 32), num_steps, signs=True) for seed in (1, 2)]
    context, actions = settings[0].context, settings[0].actions
    run = trace_sampler(subject, settings[0], LOUD)
    frame, calls = run.frame, run.evaluations
    runs = [subject.sample_frame(LOUD, s.context, num_steps, s.seed, s.actions) for s in settings]
    repeated, reseeded = (x.frame for x in runs)
    course = [
        run.labels,
        [float(call.d[:, -1].mean()) for call in calls],
        _missteps(run),
        [_agreement(call.actions, actions) for call in calls],
        *np.array([_past(call, context) for call in calls]).T,
    ]
    padded = [_padded(values, shown) for values in course]
    first, last = calls[0].z[:, :-1], calls[-1].z[:, :-1]
    shared = [_shared_noise(first, context, axis) for axis in (0, 1)]
    spread = [_rms(frame), _rms(frame - repeated), _rms(frame - reseeded), _rms(first - last)]
    totals = [*spread, len(calls) / 4, float(accepts_steps(subject, 1))]
    start, many = run.inputs[0], accepted_step_counts(subject, MANY_STEPS)[-1]
    alone = draw_sampler_call(subject, 1, (1, 2, 16, 32), many, signs=True)
    calls = subject.sample_frame(LOUD, alone.context, many, alone.seed, alone.actions).calls
    length = max(call.z.shape[1] for call in calls)
    presence = (calls[0].z[:, :-1] * alone.context[:, 1 - length :]).mean() if length > 1 else 0.0
    seeded = 0 * start if run.cache_passes else runs[1].calls[0].z[:, -1]
    pairs = [(start[: len(start) // 2], start[-(len(start) // 2) :]), (start[1:], seeded[:-1]), (start, context[:, -1])]
    if first.shape[1]:
        noise = first[:, -1] - (first[:, -1] * context[:, -1]).mean() * context[:, -1]
        pairs.append((start, noise / max(_rms(noise), 1e-3)))
    products = [float((x * y).mean()) if x.size else 0.0 for x, y in pairs]
    related = [*products, 0.0][:4]
    large = 20 * float((np.abs(start) > 2.6).mean())
    more = [*related, large, float(len(calls) >= many), round(float(presence))]
    return np.concatenate([*padded, _start_moments(start), totals, shared, more])


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
    """Signal level, noise scale, label minus level, 4 times each, and step label of past frames; −1 without any."""
    frames = call.z.shape[1] - 1
    if frames == 0:
        return -1.0, -1.0, -1.0, -1.0
    past, clean = call.z[:, :-1], context[:, -frames:]
    level = float((past * clean).mean())
    return (
        4 * level,
        4 * _rms(past - level * clean),
        4 * float(call.tau[:, :-1].mean() - level),
        float(call.d[:, :-1].mean()),
    )
