"""The noise that a training loss draws, recovered from the student's inputs: z0 = (z̃ − τ z1)/(1 − τ)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamer4_conformance.instruments.inputs import draw_inputs
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.subject import Evaluation, Subject
from dreamer4_conformance.verdicts import Deviation, Inconclusive, OperationFailed

SHAPES = ((64, 4, 8, 16), (16, 16, 8, 16), (128, 1, 8, 16))
"""(B, T, S, D) of one draw, B and T at least `min_batch` and `min_time`: the first that the loss does not raise for."""
SMALLEST = (1, 1, 8, 16)
HIGHEST = 0.5
"""Largest level at which noise is recovered: above, the division amplifies rounding."""


@dataclass(frozen=True)
class NoiseDraw:
    """Noise z0 and data z1 (M, T, S, D), τ and d (M, T), and the call as Python. z0 is NaN where τ > 1/2."""

    noise: np.ndarray
    z1: np.ndarray
    tau: np.ndarray
    d: np.ndarray
    call: str

    @property
    def recovered(self) -> np.ndarray:
        """Mask (M, T) of the timesteps whose noise is recovered."""
        return np.isfinite(self.noise).all((2, 3))

    @property
    def directions(self) -> np.ndarray:
        """Noise with a mean square of 1 in every frame, so that its scale does not matter; 0 where it is unknown."""
        scale = np.sqrt((self.noise**2).mean((2, 3), keepdims=True))
        return np.nan_to_num(self.noise / np.where(scale > 0, scale, 1.0))


def evaluate_draw(subject: Subject, seed: int, shapes: Sequence[tuple[int, int, int, int]] = SHAPES) -> Evaluation:
    """Evaluate `dynamics_loss` on data of the first of these shapes for which it does not raise.

    Raises:
        Inconclusive: if it raises for all of them, which eq07.batch-shapes judges.
    """
    failures = []
    fewest = subject.adapter.min_batch, subject.adapter.min_time
    for batch, time, tokens, channels in shapes:
        draw = draw_inputs(subject, seed, (max(batch, fewest[0]), max(time, fewest[1]), tokens, channels))
        try:
            return subject.evaluate("dynamics_loss", AFFINE, draw)
        except OperationFailed as failed:
            failures.append(failed)
    raise Inconclusive(f"no draw of the loss can be read: {failures[0]}")


def draw_noise(
    subject: Subject, seeds: Sequence[int], shapes: Sequence[tuple[int, int, int, int]] = SHAPES
) -> NoiseDraw:
    """Recover the noise of one evaluation per seed, their rows together in the order of the data's.

    One student per row is used: the flow and the bootstrap term may share the noise of a row.

    Raises:
        Inconclusive: if the loss raises or its calls cannot be matched, which eq07 judges.
    """
    evaluations = [evaluate_draw(subject, seed, shapes) for seed in seeds]
    noise, z1, tau, d = (np.concatenate(arrays) for arrays in zip(*map(_recover, evaluations), strict=True))
    size = "x".join(map(str, evaluations[0].draw.z1.shape))
    return NoiseDraw(noise, z1, tau, d, f"dynamics_loss(network, z1 of {size}, seed={', '.join(map(str, seeds))})")


def _recover(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    try:
        matches = [match for _, match in sorted({match.row: match for match in evaluation.matches}.items())]
    except Deviation:
        raise Inconclusive(
            f"the student's rows cannot be identified; the clauses of eq07 judge them:\n{evaluation.call_log}"
        ) from None
    tau, d, z = (np.stack([getattr(match.student, name) for match in matches]) for name in ("tau", "d", "z"))
    z1 = evaluation.draw.z1[[match.row for match in matches]]
    certain = np.array([match.certain for match in matches])[:, None]
    level = np.where(certain & (tau >= 0) & (tau <= HIGHEST), tau, np.nan)[:, :, None, None]
    return (z - level * z1) / (1 - level), z1, tau, d
