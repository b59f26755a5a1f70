"""Statistics of draws of Eq. (4): levels and steps without their means, and which steps have the uniform law."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.level_draws import LevelDraw
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial


def draw_seed(trial: Trial) -> int:
    """Seed of all draws of a run, so that its checks share them."""
    return int(trial.rng().integers(2**30))


def standardised(draw: LevelDraw) -> tuple[np.ndarray, np.ndarray]:
    """Levels minus their mean (1 − d)/2, over √((1 − d²)/12), 0 where d = 1 fixes the level; and the mask d < 1."""
    free = draw.d < 1
    deviation = np.sqrt(np.where(free, 1 - draw.d**2, 1.0) / 12)
    return np.where(free, (draw.tau - (1 - draw.d) / 2) / deviation, 0.0), free


def _centred(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """x minus its mean over the rows at every timestep, 0 outside the mask."""
    mean = (x * mask).sum(0) / np.maximum(mask.sum(0), 1)
    return np.where(mask, x - mean, 0.0)


def level_residuals(draw: LevelDraw) -> np.ndarray:
    """Standardised levels without the mean at their d, so that a wrong law is not taken for dependence."""
    level, free = standardised(draw)
    for size in np.unique(draw.d[free]):
        at_size = draw.d == size
        level[at_size] -= level[at_size].mean()
    return level


def dependence_residuals(draw: LevelDraw) -> np.ndarray:
    """The same without the mean at their timestep, so that a trend is not taken for dependence between rows."""
    return _centred(level_residuals(draw), draw.d < 1)


def splits_at_d_min(subject: Subject) -> bool:
    """True under A2 = split, if there are larger step sizes than d_min."""
    return subject.readings["A2"] == "split" and subject.k_max > 1


def with_uniform_law(subject: Subject, draw: LevelDraw) -> np.ndarray:
    """Mask of the timesteps whose step size has the uniform law: all, or under A2 = split those above d_min."""
    split = splits_at_d_min(subject)
    return draw.d != subject.d_min if split else np.ones(draw.d.shape, bool)


def step_residuals(subject: Subject, draw: LevelDraw) -> np.ndarray:
    """Exponents of the step sizes that have the uniform law, without their mean at every timestep; 0 for the rest."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _centred(np.nan_to_num(np.log2(draw.d)), with_uniform_law(subject, draw))
