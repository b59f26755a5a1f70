"""Signatures of Eq. (4): the laws of τ and d, through `sample_tau_d` and through the student's labels of a loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dreamer4_conformance.instruments.level_draws import LevelDraw, loss_labels, rows_of_batches, schedule_labels
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.level_statistics import standardised
from dreamer4_reference.eq04_grid import step_sizes


@signature("sample_tau_d", tolerance=0.04)
def signature_law_of_the_draws(subject: Subject) -> np.ndarray:
    """Shares of the step sizes and of τ = 0 and 1, moments and correlations of the levels, effect of the seed."""
    return _law(subject, lambda seed, batch, time: schedule_labels(subject, seed, time, batch), 4096)


@signature("sample_tau_d", tolerance=0.08)
def signature_law_of_the_steps(subject: Subject) -> np.ndarray:
    """Shares of the step sizes in rows of many batches, whatever the levels are and whether a batch shares its step."""
    sizes = step_sizes(subject.k_max)

    def probe() -> np.ndarray:
        d = rows_of_batches(subject, "sample_tau_d", 1, 4).d
        return np.array([(d == float(size)).mean() for size in sizes])

    return attempt(probe, len(sizes))


@signature("dynamics_loss", tolerance=0.08, drawn=True)
def signature_law_of_the_students_labels(subject: Subject) -> np.ndarray:
    """The same of the student's labels, in a batch whose rows gradients identify."""
    return _law(subject, lambda seed, batch, time: loss_labels(subject, seed, time, batch), 512)


def _law(subject: Subject, draw: Callable[[int, int, int], LevelDraw], batch: int) -> np.ndarray:
    size = len(step_sizes(subject.k_max)) + 27
    return np.asarray(np.nan_to_num(attempt(lambda: _statistics(subject, draw, batch), size), nan=-1.0))


def _statistics(subject: Subject, draw: Callable[[int, int, int], LevelDraw], batch: int) -> np.ndarray:
    batch = max(subject.adapter.min_batch, batch)
    first, repeated, reseeded = (draw(seed, batch, 4) for seed in (1, 1, 2))
    tau, d = first.tau, first.d
    shares = [(d == float(size)).mean() for size in step_sizes(subject.k_max)]
    with np.errstate(divide="ignore", invalid="ignore"):
        on_grid = np.mean(np.abs(np.round(tau / d) - tau / d) < 1e-3)
    level, free = standardised(first)
    moments = [(level**power).sum(0) / np.maximum(free.sum(0), 1) / 2 for power in (1, 2)]
    half = len(level) // 2
    pairs = [level[:, ::2] * level[:, 1::2], level[::2] * level[1::2], level[:, :2] * level[:, 2:]]
    pairs.append(level[:half] * level[half : 2 * half])
    correlations = [product.sum() / max(level.size // 2, 1) for product in pairs]
    ends = [(tau == 0).mean(), (tau == 1).mean(), on_grid, (d == d[:, :1]).mean(), (tau == tau[:, :1]).mean()]
    seeded = [float(np.array_equal(first.tau, repetition.tau)) for repetition in (repeated, reseeded)]
    above, same_steps = (d != subject.d_min).any(1).mean(), float(np.array_equal(d, reseeded.d))
    coarsest = float(all((draw(seed, subject.adapter.min_batch, 1).d == 1).all() for seed in range(16)))
    with np.errstate(divide="ignore"):
        steps = [*np.log2(d).mean(0) / 8, (d[:, 1] == d[:, 2]).mean()]
    return np.concatenate([shares, *moments, correlations, ends, seeded, steps, [above, same_steps, coarsest]])
