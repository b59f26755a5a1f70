"""Checks of Eq. (6) on the draws of the training loss: noise and signal level, recovered from the student's inputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.instruments.inputs import draw_inputs, largest_scale, ordinary_shape
from dreamer4_conformance.instruments.noise_draws import HIGHEST, SMALLEST, NoiseDraw, draw_noise, evaluate_draw
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.subject import Evaluation, Subject
from dreamer4_conformance.judging.check import FALSE_ALARM, Trial, check
from dreamer4_conformance.judging.dependence import largest_alignment, off_label
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.loss_evaluations import certain_evaluations, recover_noise
from dreamer4_conformance.judging.tail_bounds import (
    count_bound,
    mean_cosine_bound,
    mean_square_bound,
    normal_distance_bound,
    normal_tail,
    product_bound,
    tail_bound,
    union_bound,
)
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed

FEWEST = 2000
POOLED = 22
"""Timesteps of 6 elements that together have 128 and more."""
SMALLEST_CALLS = 64


def undecided_unless_labels_hold(subject: Subject, trial: Trial, draw: NoiseDraw) -> None:
    """Noise is recovered by the paper's mixture at the label. Inconclusive if either is wrong, which has its clause.

    Labels are judged as by that clause, at levels above 1/2 too: those clearly wrong there may be a little wrong
    where the noise is recovered.
    """
    recovered = off_label(draw.noise * (1 - draw.tau)[..., None, None], draw.z1, subject.eps)
    _, excess, z1, _ = _student_excess(subject, trial)
    if min(recovered, off_label(excess, z1, subject.eps)) < FALSE_ALARM:
        trial.inconclusive("the student's label is not the level of its input (eq07.student-label)")
    if subject.provides("corrupt") and subject.k_max > 1 and not _corrupts_by_the_paper(subject):
        trial.inconclusive("data is not corrupted by Eq. (1) (eq01.interpolate)")


def _corrupts_by_the_paper(subject: Subject) -> bool:
    level, unit = max(subject.d_min, 0.25), np.ones((2, 2, 1, 1))
    tau = np.full((2, 2), level)
    try:
        shares = subject.corrupt(unit, 0 * unit, tau), subject.corrupt(0 * unit, unit, tau)
    except OperationFailed:
        return True
    return all(np.abs(x - y).max() <= 8 * subject.eps for x, y in zip(shares, (1 - level, level), strict=True))


@check("eq06.noise-law", needs=("dynamics_loss",), decisions=24)
def check_noise_is_independent_standard_normal(subject: Subject, trial: Trial) -> None:
    """The noise is N(0, 1), and no two timesteps, rows, tokens, channels or seeds share it; at B = T = 1 too.

    The distribution is judged at τ = 0, where the input is the noise. Detected with certainty: a mean beyond 0.1, a
    scale 10 % off, a cut-off below 3, a correlation beyond 0.3, a distribution function 0.05 off.
    """
    draw, reseeded = (draw_noise(subject, [trial.seed + offset]) for offset in (0, 1))
    undecided_unless_labels_hold(subject, trial, draw)
    if (draw.recovered.sum() * draw.noise[0, 0].size) < FEWEST:
        trial.inconclusive("too few timesteps with τ ≤ 1/2 were drawn to recover the noise")
    _judge_distribution(trial, draw)
    _judge_correlations(trial, draw, reseeded)
    smallest = _smallest(subject, trial)
    if smallest is not None:
        _judge_distribution(trial, smallest)
        _judge_correlations(trial, smallest, None)


def _smallest(subject: Subject, trial: Trial) -> NoiseDraw | None:
    """Noise of many calls with the smallest B and T; None if the loss does not work with it, or draws no τ ≤ 1/2."""
    seeds = range(trial.seed + 2, trial.seed + 2 + SMALLEST_CALLS)
    try:
        draw = draw_noise(subject, seeds, [SMALLEST])
    except Inconclusive:
        return None
    return draw if draw.recovered.any() else None


def _judge_distribution(trial: Trial, draw: NoiseDraw) -> None:
    values = draw.noise[(draw.tau == 0) & draw.recovered].ravel()
    if values.size < FEWEST // 2:
        values = draw.noise[draw.recovered].ravel()
    if not values.size:
        return
    mean, mean_square = float(values.mean()), float((values**2).mean())
    score = normal_tail(mean * values.size**0.5)
    trial.reject_law(score, "the mean of the noise is not 0", call=draw.call, got=mean, expected=0.0)
    tail = mean_square_bound(mean_square, values.size)
    trial.reject_law(tail, "the variance of the noise is not 1", call=draw.call, got=mean_square, expected=1.0)
    trial.reject_law(normal_distance_bound(values), "the noise is not normal", call=draw.call)
    sentence = "the noise has too few or too many large values for a normal distribution"
    trial.reject_law(tail_bound(values), sentence, call=draw.call, got=float(np.abs(values).max()))


def _judge_correlations(trial: Trial, draw: NoiseDraw, reseeded: NoiseDraw | None) -> None:
    for name, products in _neighbour_products(draw, reseeded).items():
        if products.size:
            got, sentence = float(products.mean()), f"the noise of {name} is correlated"
            trial.reject_law(product_bound(got, products.size), sentence, call=draw.call, got=got, expected=0.0)
    for name, vectors in _vectors([draw] if reseeded is None else [draw, reseeded]):
        cosine, (i, j), bound = largest_alignment(vectors)
        sentence = f"the noise of {name} {i} and {j} is the same up to a correlation of {cosine:.3g}"
        trial.reject_law(bound, sentence, call=draw.call, got=cosine, expected=0.0)


def _neighbour_products(draw: NoiseDraw, reseeded: NoiseDraw | None) -> dict[str, np.ndarray]:
    """Products of elements that must be independent, each element used once."""
    noise, even, odd = draw.directions, slice(0, None, 2), slice(1, None, 2)
    rows = noise[: len(noise) // 2 * 2]
    pairs = {
        "neighbouring channels": (noise[..., even], noise[..., odd]),
        "neighbouring tokens": (noise[:, :, even], noise[:, :, odd]),
        "neighbouring timesteps": (noise[:, even], noise[:, odd]),
        "neighbouring rows": (rows[even], rows[odd]),
    }
    if reseeded is not None:
        length = min(len(noise), len(reseeded.noise))
        pairs["two seeds"] = (noise[:length], reseeded.directions[:length])
    products = {}
    for name, (left, right) in pairs.items():
        count = min(left.shape[1], right.shape[1])  # an odd number of timesteps leaves one without a partner
        product = (left[:, :count] * right[:, :count]).ravel()
        products[name] = product[product != 0]
    return products


def _vectors(draws: list[NoiseDraw]) -> Iterator[tuple[str, np.ndarray]]:
    """The noise of every timestep of every row, and of every token and channel over all of them, as vectors."""
    noise = np.concatenate([draw.directions[draw.recovered] for draw in draws])
    yield "timesteps", noise.reshape(len(noise), -1)
    for axis, name in ((1, "tokens"), (2, "channels")):
        along = np.moveaxis(noise, axis, 0)
        yield name, along.reshape(len(along), -1)


@check("eq06.noise-independent", needs=("dynamics_loss",), decisions=5)
def check_noise_is_independent_of_data_levels_and_steps(subject: Subject, trial: Trial) -> None:
    """The noise is uncorrelated with the data of its own and of any other timestep, and has N(0, 1)'s moments at all τ.

    Exact given the data: the projection of normal noise on it is normal. Pairing noise with the nearest of 64 rows of
    data shifts that by 20 standard deviations. Detected with certainty: noise that is other data of the batch, a mean
    of 0.2 or a scale 15 % off at some of the levels or step sizes.
    """
    draw = draw_noise(subject, [trial.seed])
    undecided_unless_labels_hold(subject, trial, draw)
    where = draw.recovered
    noise, z1 = draw.directions[where], draw.z1[where]
    if noise.size < FEWEST:
        trial.inconclusive("too few timesteps with τ ≤ 1/2 were drawn to recover the noise")
    cosine, bound = _dependence_on_data(draw)
    sentence = f"the noise depends on the data that it corrupts: their correlation is {cosine:.3g}"
    trial.reject_law(bound, sentence, call=draw.call, got=cosine, expected=0.0)
    large = [np.abs(x) > np.median(np.abs(x)) for x in (noise, z1)]
    agreement = float((large[0] == large[1]).mean())
    bound = count_bound(agreement * noise.size, noise.size, 0.5)
    sentence = f"noise and data are both large or both small in {agreement:.1%} of their elements"
    trial.reject_law(bound, sentence, call=draw.call, got=agreement, expected=0.5)
    data = draw.z1.reshape(-1, noise[0].size)
    cosine, (i, j), bound = largest_alignment(noise.reshape(len(noise), -1), data)
    row, t = divmod(j, draw.z1.shape[1])
    sentence = f"noise {i} is data of the batch, row {row}, timestep {t}, up to a correlation of {cosine:.3g}"
    trial.reject_law(bound, sentence, call=draw.call, got=cosine, expected=0.0)
    _judge_moments_by_label(trial, draw)


def _dependence_on_data(draw: NoiseDraw) -> tuple[float, float]:
    """Mean cosine between the noise and the data of its timestep, and the probability of one as large."""
    noise, z1 = draw.directions[draw.recovered], draw.z1[draw.recovered]
    length = np.sqrt((z1**2).sum((1, 2)) * (noise**2).sum((1, 2)))
    cosine = float(((noise * z1).sum((1, 2)) / np.where(length > 0, length, 1.0)).mean())
    return cosine, mean_cosine_bound(cosine, len(noise), noise[0].size)


def _groups(draw: NoiseDraw) -> Iterator[tuple[str, np.ndarray]]:
    """Noise at each step size, and by level: 0, up to 1/4, up to 1/2."""
    for size in np.unique(draw.d[draw.recovered]):
        yield f"d = {size:g}", draw.noise[draw.recovered & (draw.d == size)]
    for name, above, highest in (("τ = 0", -1.0, 0.0), ("0 < τ ≤ 1/4", 0.0, 0.25), ("1/4 < τ ≤ 1/2", 0.25, 0.5)):
        yield name, draw.noise[draw.recovered & (draw.tau > above) & (draw.tau <= highest)]


def _judge_moments_by_label(trial: Trial, draw: NoiseDraw) -> None:
    """Mean and variance at every step size and range of levels; no verdict if they are wrong at all of them alike."""
    groups = [(name, noise) for name, noise in _groups(draw) if noise.size]
    if len(groups) < 2:
        return
    means = [normal_tail(float(noise.mean()) * noise.size**0.5) for _, noise in groups]
    squares = [mean_square_bound(float((noise**2).mean()), noise.size) for _, noise in groups]
    for moment, bounds in (("mean", means), ("variance", squares)):
        name, noise = groups[int(np.argmin(bounds))]
        got = float(noise.mean() if moment == "mean" else (noise**2).mean())
        if max(bounds) < FALSE_ALARM:  # the law of all noise, which eq06.noise-law judges
            continue
        sentence = f"the {moment} of the noise depends on its label: at {name} it is {got:.3g}"
        trial.reject_law(union_bound(bounds), sentence, call=draw.call, got=got, expected=float(moment != "mean"))


@check("eq07.student-label", needs=("dynamics_loss",), decisions=1)
def check_students_label_is_the_level_of_its_input(subject: Subject, trial: Trial) -> None:
    """The label τ is the share of z1 in z̃, estimated by regression on 128 elements, of several timesteps if need be.

    Detected with certainty: labels off by more than 0.7 (1 − τ).
    """
    tau, excess, z1, call = _student_excess(subject, trial)
    trial.reject_law(
        off_label(excess, z1, subject.eps),
        "the student's label is not the signal level of its input",
        call=call,
        got=f"labels {tau.tolist()} in the first row",
        expected="the share of z1 in the student's input",
    )


def _student_excess(subject: Subject, trial: Trial) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Labels (T,) of the first row, z̃ − τ z1 and z1 (M, T, S, D), and the call."""
    return (_pooled_noise if subject.adapter.few_shapes else _noise_of_rows)(subject, trial)


def _noise_of_rows(subject: Subject, trial: Trial) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Labels (T,) of the first row, z̃ − τ z1 and z1 (M, T, S, D) of one evaluation, and its call."""
    evaluation = evaluate_draw(subject, trial.seed)
    matches = [match for match in evaluation.matches if match.certain]
    if not matches:
        trial.inconclusive("no row of the data can be recognised in the student's inputs")
    tau, z = (np.stack([getattr(match.student, name) for match in matches]) for name in ("tau", "z"))
    z1, size = evaluation.draw.z1[[match.row for match in matches]], "x".join(map(str, evaluation.draw.z1.shape))
    call = f"dynamics_loss(network, z1 of {size}, seed={trial.seed})"
    return tau[0], z - tau[..., None, None] * z1, z1, call


def _pooled_noise(subject: Subject, trial: Trial) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """The same from many small evaluations: z0 and z1 of `POOLED` timesteps with τ ≤ 1/2 make one vector."""
    shape, scale = ordinary_shape(subject, "dynamics_loss"), largest_scale(subject, "dynamics_loss")
    inputs = [draw_inputs(subject, trial.seed + i, shape, scale=scale) for i in range(2 * POOLED)]
    evaluations = list(certain_evaluations(subject, "dynamics_loss", AFFINE, inputs, POOLED))
    if not evaluations:
        trial.inconclusive("no row of the data can be recognised in the student's inputs")
    tau, z0, z1 = (np.concatenate(arrays) for arrays in zip(*map(_recovered, evaluations), strict=True))
    low = tau <= HIGHEST
    count = low.sum() // POOLED * POOLED
    if not count:
        trial.inconclusive("too few timesteps with τ ≤ 1/2 were drawn to compare their inputs with their labels")
    vectors = (x[low][:count].reshape(-1, 1, POOLED * shape[2], shape[3]) for x in (z0, z1))
    seeds = f"seed={trial.seed}, …, {trial.seed + len(evaluations) - 1}"
    return tau[0], *vectors, f"dynamics_loss(network, z1 of {'x'.join(map(str, shape))}, {seeds})"


def _recovered(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """τ (M, T), z0 and z1 (M, T, S, D) of the student's rows."""
    matches = evaluation.students
    tau, z1 = np.stack([match.student.tau for match in matches]), evaluation.draw.z1[[match.row for match in matches]]
    return tau, recover_noise(evaluation)[0], z1


@signature("dynamics_loss", tolerance=0.15, drawn=True)
def signature_moments_of_the_noise(subject: Subject) -> np.ndarray:
    """Moments of the noise, its correlations, what it shares, and its dependence on data, levels and steps."""
    return attempt(lambda: _statistics(subject), 27)


def _statistics(subject: Subject) -> list[float]:
    draw, reseeded = (draw_noise(subject, [seed]) for seed in (0, 1))
    values, where = draw.noise[draw.recovered], draw.recovered
    moments = [float(values.mean()), float((values**2).mean()), float((values**4).mean()) / 3]
    moments += [rate * float((np.abs(values) > edge).mean()) for edge, rate in ((2.6, 50), (3.05, 200))]
    neighbours = [float(products.mean()) for products in _neighbour_products(draw, reseeded).values()]
    shared = [float(largest_alignment(vectors)[2] > FALSE_ALARM) for _, vectors in _vectors([draw, reseeded])]
    noise, half = draw.directions, len(draw.noise) // 2
    distant = [float((x * y).mean()) * 2 for x, y in ((noise[:, :2], noise[:, 2:]), (noise[:half], noise[half:]))]
    large = [np.abs(x) > np.median(np.abs(x)) for x in (noise[where], draw.z1[where])]
    agreement = 5 * (float((large[0] == large[1]).mean()) - 0.5)
    paired = float(_dependence_on_data(draw)[1] < FALSE_ALARM)
    copied = float(largest_alignment(noise[where].reshape(where.sum(), -1), draw.z1.reshape(where.size, -1))[0] > 0.8)
    # 0 for labels that never occur, which no scale of noise equals.
    scales = {name: float((x**2).mean() ** 0.5) if x.size else 0.0 for name, x in _groups(draw)}
    labels = [scales.get(name, 1.0) for name in ("d = 1", "d = 0.5", "d = 0.25", f"d = {subject.d_min:g}")]
    levels = [scales.get(name, 1.0) for name in ("τ = 0", "0 < τ ≤ 1/4", "1/4 < τ ≤ 1/2")]
    alone = attempt(lambda: _statistics_of_single_frames(subject), 2)
    return [*moments, *neighbours, *shared, *distant, agreement, paired, copied, *labels, *levels, *alone]


def _statistics_of_single_frames(subject: Subject) -> list[float]:
    smallest = draw_noise(subject, range(8), [SMALLEST])
    if not smallest.recovered.any():
        return [np.nan, np.nan]
    return [float(np.nanmean(smallest.noise**2)), float(largest_alignment(next(_vectors([smallest]))[1])[2] < 1e-9)]
