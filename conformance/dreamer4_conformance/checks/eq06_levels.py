"""Check of Eq. (6): given the step sizes, the signal levels of timesteps and rows are independent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.instruments.level_draws import ROUTES, LevelDraw, large_batches
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.dependence import distant_pairs
from dreamer4_conformance.judging.level_statistics import dependence_residuals, draw_seed, level_residuals
from dreamer4_conformance.judging.tail_bounds import mean_bound, union_bound

SHARED = 0.75
"""Smallest correlation of any two timesteps, of levels standardised given their d, that share one level."""


@check("eq06.iid-levels", needs_one=ROUTES, decisions=6)
def check_levels_are_independent_of_timestep_and_neighbours(subject: Subject, trial: Trial) -> None:
    """Levels, standardised given their d, have the same mean at every timestep and are uncorrelated between any two.

    The mean over all timesteps, which eq04.grid-law judges, is subtracted. Rows are compared at distance 1, 2, 4, ….
    Detected with certainty: a correlation of 0.17 between neighbours, of 0.5 between two timesteps, a mean shifted by
    0.7 standard deviations at one timestep. One level per sequence correlates every two timesteps, which
    eq04.granularity judges: where the mean product of all pairs exceeds `SHARED`, timesteps are not compared, and the
    first timestep of a row stands for all, as equal levels are one observation.
    """
    shared = False
    for draw in large_batches(subject, draw_seed(trial)):
        if subject.k_max == 1:
            trial.inconclusive("with K_max = 1 there is one level")
        level, free = level_residuals(draw), draw.d < 1
        columns = range(level.shape[1])
        bounds = [_mean_bound(level[free[:, t], t], largest=3**0.5) for t in columns]
        means = [round(float(level[free[:, t], t].mean()), 3) if free[:, t].any() else 0.0 for t in columns]
        sentence = f"given d, the mean level depends on the timestep: by timestep, in standard deviations, {means}"
        trial.reject_law(union_bound(bounds), sentence, call=draw.call, got=means, expected=[0.0] * len(means))
        level = dependence_residuals(draw)
        timesteps = [product[product != 0] for product in _timesteps(level)]
        if min((float(x.mean()) for x in timesteps if x.size), default=0.0) > SHARED:
            shared, level = True, level[:, :1]
        else:
            _reject_dependence(trial, draw, "timesteps", timesteps)
        _reject_dependence(trial, draw, "rows", [product[product != 0] for product in _rows(draw, level)])
    if shared:
        trial.inconclusive("follows from eq04.granularity: the timesteps of a sequence share one level")


def _reject_dependence(trial: Trial, draw: LevelDraw, name: str, samples: list[np.ndarray]) -> None:
    """Reject the law if the mean of some products of levels is not 0."""
    bounds = [_mean_bound(sample, largest=3.0) for sample in samples]
    worst = samples[int(np.argmin(bounds))] if samples else np.zeros(0)
    correlation = float(worst.mean()) if worst.size else 0.0
    sentence = f"given d, the levels of two {name} are correlated by {correlation:.3g}"
    trial.reject_law(union_bound(bounds), sentence, call=draw.call, got=correlation, expected=0.0)


def _timesteps(level: np.ndarray) -> Iterator[np.ndarray]:
    """Products of neighbouring timesteps in disjoint pairs, and of every two timesteps, each independent over rows."""
    even = level.shape[1] // 2 * 2
    yield level[:, :even:2] * level[:, 1:even:2]
    for i, j in zip(*np.triu_indices(level.shape[1], 1), strict=True):
        yield level[:, i] * level[:, j]


def _rows(draw: LevelDraw, level: np.ndarray) -> Iterator[np.ndarray]:
    """Products of rows of one batch at any power of two as distance; of neighbours only if rows come from many."""
    if len(level) == draw.batch:
        yield from distant_pairs(level)
    else:
        even = len(level) // 2 * 2
        yield level[:even:2] * level[1:even:2]


def _mean_bound(values: np.ndarray, largest: float) -> float:
    """Bernstein's bound; the variance is 1 on the paper's grid and measured where another law has a larger one."""
    if not values.size:
        return 1.0
    return mean_bound(float(values.mean()), values.size, max(1.0, float((values**2).mean())), largest)
