"""Checks of Eq. (4): the step sizes and the grid of signal levels.

Every provided route is judged on draws with a fixed seed (`instruments.level_draws`). Grid membership is exact: levels
are dyadic fractions, whose quotients are exact in float64. Distributions are judged by bounds that also hold for
stratified draws, on values that are independent: where timesteps depend on each other, one per row, and where rows do,
one row of each of many calls. So a law does not fail because draws are shared, which eq04.granularity and
eq06.iid-levels judge.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.level_draws import (
    ROUTES,
    LevelDraw,
    independent_rows,
    large_batches,
    smallest_batches,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.dependence import clustering, excess_equality
from dreamer4_conformance.judging.level_statistics import (
    dependence_residuals,
    draw_seed,
    splits_at_d_min,
    step_residuals,
    with_uniform_law,
)
from dreamer4_conformance.judging.tail_bounds import count_bound, mean_bound, uniform_bound, union_bound
from dreamer4_reference.eq04_grid import step_sizes

CLUSTERED = 1.25
"""Ratio of `clustering` above which draws count as dependent. It does not decide a verdict, only which draws are used.

Below it, dependence widens a sum by at most 12 %; independent draws exceed it by chance, which costs only power.
"""
SMALL = "; if larger batches are needed, declare `min_batch` (and `min_time`)"


def _step_draws(subject: Subject, trial: Trial) -> Iterator[LevelDraw]:
    """Draws of step sizes with independent rows: large batches, then the smallest."""

    def clustered(draw: LevelDraw) -> bool:
        return clustering(step_residuals(subject, draw), 0) > CLUSTERED

    yield from independent_rows(subject, draw_seed(trial), clustered)
    yield from smallest_batches(subject, draw_seed(trial))


def _independent_steps(subject: Subject, draw: LevelDraw) -> tuple[list[np.ndarray], list[float]]:
    """Step sizes by timestep and, if timesteps are independent, of all together; and the sizes that can occur."""
    above, sizes = with_uniform_law(subject, draw), [float(d) for d in step_sizes(subject.k_max)]
    groups = [column[mask] for column, mask in zip(draw.d.T, above.T, strict=True)]
    per_row = subject.readings["A3"] == "sequence" or clustering(step_residuals(subject, draw), 1) > CLUSTERED
    if not per_row:
        groups.append(draw.d[above])
    return groups, [size for size in sizes if size != subject.d_min or not splits_at_d_min(subject)]


@check("eq04.step-support", needs_one=ROUTES, decisions=8)
def check_every_step_size_occurs(subject: Subject, trial: Trial) -> None:
    """Every step size of 1, 1/2, …, 1/K_max occurs, and no other: in a large batch, and among many of the smallest.

    `eq04.step-law` detects sizes that occur half as often as they should, or less. A size that is rare in large batches
    may be missing from the smallest by chance.
    """
    ladder = [float(d) for d in step_sizes(subject.k_max)]
    shares: dict[float, float] = {}
    for draw in _step_draws(subject, trial):
        invalid = sorted(set(draw.d.ravel()) - set(ladder))
        sentence = f"d = {invalid[0] if invalid else 0:.9g} is drawn; it needs one of 1, 1/2, …, 1/{subject.k_max}"
        trial.fail_unless(not invalid, sentence, call=draw.call, got=invalid[:8], expected=ladder)
        _judge_split(subject, trial, draw)
        groups, sizes = _independent_steps(subject, draw)
        largest, drawn = max(groups, key=len), sorted(set(draw.d.ravel()))
        missing = [size for size in sizes if size not in drawn]
        likeliest = max((min(1 / len(sizes), shares.get(size, 1.0)) for size in missing), default=0.0)
        p_value = union_bound(count_bound(0, max(largest.size, 1), likeliest) for _ in sizes)
        sentence = f"d = {', '.join(f'{size:g}' for size in missing)} never occurs among {largest.size} draws"
        hint = SMALL if draw.d.shape[1] == 1 else ""
        trial.reject_law(p_value if missing else 1.0, sentence + hint, call=draw.call, got=drawn, expected=ladder)
        if missing and draw.d.shape[1] > 1:
            trial.inconclusive(f"{sentence}, which are too few for a verdict")
        shares = {size: max(shares.get(size, 0.0), float((draw.d == size).mean())) for size in ladder}


def _judge_split(subject: Subject, trial: Trial, draw: LevelDraw) -> None:
    """Under A2 = split, step sizes at d_min occur, and others too."""
    share, at_d_min = subject.adapter.d_min_share, draw.d[:, 0] == subject.d_min
    if not splits_at_d_min(subject) or share is None:
        return
    for name, shown, probability in (("d = d_min", at_d_min, share), ("a larger d", ~at_d_min, 1 - share)):
        p_value = 1.0 if shown.any() else count_bound(0, len(shown), probability)
        hint = SMALL if draw.d.shape[1] == 1 else ""
        trial.reject_law(p_value, f"{name} never occurs among {len(shown)} rows{hint}", call=draw.call)


@check("eq04.step-law", needs_one=ROUTES, decisions=8)
def check_step_sizes_are_equally_likely(subject: Subject, trial: Trial) -> None:
    """All step sizes have the same probability, at every timestep, and in the smallest batches.

    At K_max = 64 a probability of 1/7 ± 0.04 is detected with certainty, ± 0.2 in one timestep of a loss.
    """
    for draw in _step_draws(subject, trial):
        if splits_at_d_min(subject):
            _judge_share_at_d_min(subject, trial, draw)
        groups, sizes = _independent_steps(subject, draw)
        counts = [np.array([(group == size).sum() for size in sizes]) for group in groups]
        bounds = [uniform_bound(count) if count.sum() else 1.0 for count in counts]
        index = int(np.argmin(bounds))
        worst, where = counts[index], f" at timestep {index}" if index < draw.d.shape[1] else ""
        got, equal = (worst / max(worst.sum(), 1)).round(4).tolist(), [1 / len(sizes)] * len(sizes)
        sentence = f"the step sizes {', '.join(f'{size:g}' for size in sizes)} are not equally likely{where}"
        trial.reject_law(union_bound(bounds), sentence, call=draw.call, got=got, expected=equal)


def _judge_share_at_d_min(subject: Subject, trial: Trial, draw: LevelDraw) -> None:
    """The share of rows at d_min is the declared one at every timestep, rounded to whole rows of a batch.

    A split of timesteps has the same share in every column. The other rows may draw from all sizes, d_min included.
    """
    share = subject.adapter.d_min_share
    if share is None:
        trial.inconclusive("reading A2 = split needs the adapter's d_min_share, the share of rows at d_min")
    included = share + (1 - share) / len(step_sizes(subject.k_max))
    counts = (draw.d == subject.d_min).sum(0)
    rows = len(draw.d)

    def bound(count: int, probability: float) -> float:
        nearest = np.clip(count / rows, probability - 1 / draw.batch, probability + 1 / draw.batch)
        return count_bound(float(count), rows, float(np.clip(nearest, 0, 1)))

    bounds = [max(bound(int(count), p) for p in (share, included)) for count in counts]
    got = float(counts[int(np.argmin(bounds))] / rows)
    sentence = f"the share of rows at d_min is {got:.3g}; the adapter's d_min_share is {share}"
    trial.reject_law(union_bound(bounds), sentence, call=draw.call, got=got, expected=share)


@check("eq04.grid", needs_one=ROUTES)
def check_level_is_a_multiple_of_its_step(subject: Subject, trial: Trial) -> None:
    """τ / d is an integer. Exact: division by a power of two does not round."""
    for draw in _all_draws(subject, trial):
        with np.errstate(divide="ignore", invalid="ignore"):
            multiple = draw.tau / draw.d
        _fail_unless_all(trial, draw, np.floor(multiple) == multiple, "τ must be a multiple of d")


def _all_draws(subject: Subject, trial: Trial) -> Iterator[LevelDraw]:
    yield from large_batches(subject, draw_seed(trial))
    yield from smallest_batches(subject, draw_seed(trial))


@check("eq04.grid-range", needs_one=ROUTES)
def check_noise_is_on_the_grid_and_clean_data_is_not(subject: Subject, trial: Trial) -> None:
    """0 ≤ τ < 1 and τ + d ≤ 1, and τ = 0 occurs.

    Exact: τ = 0 has a probability above 0.2 in each of 256 or more independent draws, for K_max up to 1024.
    """
    for draw in _all_draws(subject, trial):
        _fail_unless_all(trial, draw, draw.tau < 1, "τ must be below 1: clean data is not on the grid")
        _fail_unless_all(trial, draw, draw.tau >= 0, "τ must not be below 0, pure noise")
        _fail_unless_all(trial, draw, draw.tau + draw.d <= 1, "τ + d must not exceed 1, clean data")
        lowest = float(draw.tau.min())
        sentence = f"pure noise, τ = 0, never occurs; the lowest level is {lowest:g}"
        trial.fail_unless(lowest == 0, sentence, call=draw.call, got=lowest, expected=0.0)


def _fail_unless_all(trial: Trial, draw: LevelDraw, holds: np.ndarray, requirement: str) -> None:
    row, column = np.unravel_index(int(np.argmin(holds)), holds.shape)
    tau, d = float(draw.tau[row, column]), float(draw.d[row, column])
    call = f"{draw.call}, row {row}, timestep {column} (signal levels)"
    sentence = f"τ = {tau:.9g} is drawn with d = {d:.9g}; {requirement}"
    trial.fail_unless(bool(holds.all()), sentence, call=call, got=[tau, d])


@check("eq04.grid-law", needs_one=ROUTES, decisions=4)
def check_grid_points_are_equally_likely(subject: Subject, trial: Trial) -> None:
    """Given d, the levels are uniform on the grid, counted in halves, quarters and so on down to single points.

    At K_max = 64 a half of the finest grid with probability 0.64 is detected with certainty, and one of its 64 points
    that is missing or four times too likely.
    """
    for draw in _draws_with_independent_levels(subject, trial):
        bounds, worst = [1.0], ""
        for size in step_sizes(subject.k_max):
            levels = draw.tau[draw.d == float(size)]
            for cells in (2**power for power in range(1, size.denominator.bit_length())):
                counts = np.bincount(np.clip((levels * cells).astype(int), 0, cells - 1), minlength=cells)
                bounds.append(uniform_bound(counts) if levels.size else 1.0)
                if bounds[-1] == min(bounds):
                    shares = (counts / max(levels.size, 1)).round(4).tolist()
                    worst = f"given d = {float(size):g}, the {cells} equal parts of the grid have shares {shares}"
        trial.reject_law(union_bound(bounds), worst, call=draw.call)


def _draws_with_independent_levels(subject: Subject, trial: Trial) -> Iterator[LevelDraw]:
    """Large batches, with one timestep per row where timesteps share their levels, then the smallest batches."""

    def clustered(draw: LevelDraw) -> bool:
        return clustering(dependence_residuals(draw), 0) > CLUSTERED

    for draw in independent_rows(subject, draw_seed(trial), clustered):
        dependent = clustering(dependence_residuals(draw), 1) > CLUSTERED
        yield draw.one_timestep_per_row() if dependent else draw
    yield from smallest_batches(subject, draw_seed(trial))


@check("eq04.granularity", needs_one=ROUTES, decisions=4)
def check_levels_and_steps_are_drawn_per_timestep(subject: Subject, trial: Trial) -> None:
    """Two timesteps of a row share τ, or d unless A3 says so, no more often than the same timesteps of two rows.

    Rows with the same two step sizes are compared, so the verdict does not depend on the laws of d and τ. A share that
    is 0.1 larger is detected with certainty, 0.5 between two timesteps alone.
    """

    def clustered(draw: LevelDraw) -> bool:
        return max(clustering(x, 0) for x in (dependence_residuals(draw), step_residuals(subject, draw))) > CLUSTERED

    for draw in independent_rows(subject, draw_seed(trial), clustered):
        if subject.k_max == 1:
            trial.inconclusive("with K_max = 1 there is one step size and one level")
        if draw.tau.shape[1] == 1:
            trial.inconclusive("the operation works with T = 1 only, where there are no neighbours")
        _, index = np.unique(draw.d, return_inverse=True)
        code = index.reshape(draw.d.shape)
        _judge_sharing(trial, draw, draw.tau, code, np.ones(draw.d.shape, bool), "τ")
        if subject.readings["A3"] == "sequence":
            constant = bool((draw.d == draw.d[:, :1]).all())
            trial.fail_unless(constant, "d differs within a sequence; A3 = sequence needs one d", call=draw.call)
        else:
            _judge_sharing(trial, draw, draw.d, np.zeros_like(code), with_uniform_law(subject, draw), "d")


def _judge_sharing(
    trial: Trial, draw: LevelDraw, values: np.ndarray, code: np.ndarray, mask: np.ndarray, name: str
) -> None:
    """Decide by the excess of equal values, over all neighbours together and in every pair of timesteps."""
    excesses, time = {}, values.shape[1]
    for i, j in zip(*np.triu_indices(time, 1), strict=True):
        rows = mask[:, i] & mask[:, j]
        groups = code[rows, i] * (code.max() + 1.0) + code[rows, j]
        excesses[i, j] = excess_equality(values[rows, i], values[rows, j], groups)
    neighbours = [excess for (i, j), excess in excesses.items() if j == i + 1 and i % 2 == 0]
    samples = [np.concatenate(neighbours), *excesses.values()]
    bounds = [mean_bound(float(x.mean()), x.size, 1.0, 1.0) if x.sum() > 0 else 1.0 for x in samples]
    worst = samples[int(np.argmin(bounds))]
    excess = float(worst.mean()) if worst.size else 0.0
    hint = "; declare A3 = sequence if one d per sequence is intended" if name == "d" else ""
    sentence = f"two timesteps of a row have the same {name} more often than timesteps of two rows, by {excess:.1%}"
    trial.reject_law(union_bound(bounds), sentence + hint, call=draw.call, got=excess, expected=0.0)


@check("eq04.generator", needs=("sample_tau_d",))
def check_draws_follow_their_seed(subject: Subject, trial: Trial) -> None:
    """The same seed gives the same draw, other seeds give other τ and d, and global random states stay unchanged.

    Exact: 40 seeds agree by chance less than once in 10^9. At K_max = 1 all draws are equal; at K_max = 2 under
    A2 = split, d may be.
    """
    batch, time = max(subject.adapter.min_batch, 64), 8 if next(_all_draws(subject, trial)).tau.shape[1] > 1 else 1
    call = f"sample_tau_d(7, {batch}, {time})"
    before = _global_states()
    first, repeated, *reseeded = (subject.sample_tau_d(seed, batch, time) for seed in (7, *range(7, 47)))
    trial.fail_unless(_global_states() == before, "the call changes a global random state", call=call)
    same = all(np.array_equal(x, y) for x, y in zip(first, repeated, strict=True))
    trial.fail_unless(same, "the same seed gives two different draws", call=f"{call}, twice")
    fewest = {"τ": 2, "d": 4 if subject.readings["A2"] == "split" else 2}
    for index, (name, least) in enumerate(fewest.items()):
        differs = any(not np.array_equal(first[index], draw[index]) for draw in reseeded)
        sentence = f"{name} is the same for 40 seeds; it needs to follow the seed"
        calls = f"{call} and sample_tau_d(seed, {batch}, {time}) for seeds 8 to 46"
        trial.fail_unless(differs or subject.k_max < least, sentence, call=calls)


def _global_states() -> list[Any]:
    """The global random states of Python, NumPy and, if it is imported, torch."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    states = [random.getstate(), numpy_state[1].tobytes(), numpy_state[2:]]
    torch = sys.modules.get("torch")
    return states if torch is None else [*states, torch.random.get_rng_state().numpy().tobytes()]
