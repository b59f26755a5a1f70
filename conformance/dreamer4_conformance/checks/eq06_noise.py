"""Checks of Eq. (6) on the draws of the training loss: noise and signal level, recovered from the student's inputs."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.inputs import draw_inputs
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.subject import Evaluation, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.tail_bounds import (
    mean_square_bound,
    normal_distance_bound,
    normal_tail,
    product_bound,
    union_bound,
)

SHAPE = (64, 4, 8, 16)
"""(B, T, S, D) of the fixed-seed draw; B is at least the adapter's `min_batch`."""


def _draw(subject: Subject, seed: int) -> Evaluation:
    shape = (max(SHAPE[0], subject.adapter.min_batch), *SHAPE[1:])
    return subject.evaluate("dynamics_loss", AFFINE, draw_inputs(subject, seed, shape))


def _noise(evaluation: Evaluation) -> np.ndarray:
    """z0 = (z̃ − τ z1)/(1 − τ) (M, T, S, D) in the order of the data's rows; NaN where τ > 1/2 amplifies rounding.

    Only one student per row is used: the flow and the bootstrap term may share the noise of a row.
    """
    matches = [match for _, match in sorted({match.row: match for match in evaluation.students}.items())]
    tau, z = (np.stack([getattr(match.student, name) for match in matches]) for name in ("tau", "z"))
    z1 = evaluation.draw.z1[[match.row for match in matches]]
    level = np.where((tau >= 0) & (tau <= 0.5), tau, np.nan)[:, :, None, None]
    return (z - level * z1) / (1 - level)


def _products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    products = (left * right).ravel()
    return products[~np.isnan(products)]


def _neighbour_products(noise: np.ndarray, reseeded: np.ndarray) -> dict[str, np.ndarray]:
    """Products of elements that must be independent, each element used once."""
    even, odd = slice(0, None, 2), slice(1, None, 2)
    rows, reseeded_rows = noise[: len(noise) // 2 * 2], reseeded[: len(noise)]
    return {
        "neighbouring channels": _products(noise[..., even], noise[..., odd]),
        "neighbouring tokens": _products(noise[:, :, even], noise[:, :, odd]),
        "neighbouring timesteps": _products(noise[:, even], noise[:, odd]),
        "neighbouring rows": _products(rows[even], rows[odd]),
        "two seeds": _products(noise[: len(reseeded_rows)], reseeded_rows),
    }


@check("eq06.noise-law", needs=("dynamics_loss",), decisions=8)
def check_noise_is_independent_standard_normal(subject: Subject, trial: Trial) -> None:
    """The noise is distributed as N(0, 1), and neither neighbours along any axis nor two seeds are correlated.

    Detected with certainty: a mean beyond 0.1, a scale 10 % off, a correlation beyond 0.3, a distribution function 0.05
    off.
    """
    noise, reseeded = (_noise(_draw(subject, trial.seed + offset)) for offset in (0, 1))
    values = noise[~np.isnan(noise)]
    if values.size < 2000:
        trial.inconclusive("too few timesteps with τ ≤ 1/2 were drawn to recover the noise")
    call = f"dynamics_loss(network, z1 of {'x'.join(map(str, noise.shape))}, seed={trial.seed})"
    mean, mean_square = float(values.mean()), float((values**2).mean())
    score = mean * values.size**0.5
    trial.reject_law(normal_tail(score), "the mean of the noise is not 0", call=call, got=mean, expected=0.0)
    tail = mean_square_bound(mean_square, values.size)
    trial.reject_law(tail, "the variance of the noise is not 1", call=call, got=mean_square, expected=1.0)
    trial.reject_law(normal_distance_bound(values), "the noise is not normal", call=call)
    for name, products in _neighbour_products(noise, reseeded).items():
        if products.size:
            got, sentence = float(products.mean()), f"the noise of {name} is correlated"
            trial.reject_law(product_bound(got, products.size), sentence, call=call, got=got, expected=0.0)


@check("eq07.student-label", needs=("dynamics_loss",), decisions=1)
def check_students_label_is_the_level_of_its_input(subject: Subject, trial: Trial) -> None:
    """The label τ is the share of z1 in z̃, estimated by regression on 128 elements.

    Detected with certainty: labels off by more than 0.7 (1 − τ).
    """
    evaluation = _draw(subject, trial.seed)
    scores = []
    for match in evaluation.students:
        z1, tau = evaluation.draw.z1[match.row], match.student.tau
        power = (z1**2).sum((1, 2))
        gap = np.abs((match.student.z * z1).sum((1, 2)) / power - tau)
        scores.extend(np.maximum(gap - 4 * subject.eps, 0) * np.sqrt(power) / np.maximum(1 - tau, 1e-9))
    trial.reject_law(
        union_bound(normal_tail(score) for score in scores),
        "the student's label is not the signal level of its input",
        call=f"dynamics_loss(network, z1 of {'x'.join(map(str, evaluation.draw.z1.shape))}, seed={trial.seed})",
        got=f"off by {max(scores):.1f} standard deviations",
        expected="at most about 7 standard deviations among all timesteps",
    )


@signature("dynamics_loss", tolerance=0.15, drawn=True)
def signature_moments_of_the_noise(subject: Subject) -> np.ndarray:
    """Mean, mean square and fourth moment of the noise, and its correlations."""

    def probe() -> list[float]:
        noise, reseeded = (_noise(_draw(subject, seed)) for seed in (0, 1))
        moments = [float(np.nanmean(noise)), float(np.nanmean(noise**2)), float(np.nanmean(noise**4)) / 3]
        return moments + [float(products.mean()) for products in _neighbour_products(noise, reseeded).values()]

    return attempt(probe, 8)
