"""Eq. (4), Sec. 2, p. 3: step sizes and the grid of signal levels.

    d ~ 1 / U({1, 2, 4, …, K_max}),   τ ~ U({0, d, 2d, …, 1 − d})

Printed as τ ~ U({0, 1/d, …, 1 − 1/d}), which is empty for a step size d < 1.
Read as (A1): the multiples of d. Read as (A2): "sampled uniformly as a power of two" makes each of the log₂ K_max + 1
step sizes equally likely; P ∝ 1/d is not a reading.

K_max → k_max, a power of two; 1 leaves d = 1 and τ = 0 alone.
The laws are exact: Fraction → its probability, a Fraction.
"""

from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float64

from dreamer4_reference.levels import require_power_of_two, require_same_shape, require_step


def step_sizes(k_max: int) -> tuple[Fraction, ...]:
    """1, 1/2, 1/4, …, 1/K_max; the last is d_min.

    >>> [str(d) for d in step_sizes(4)]
    ['1', '1/2', '1/4']
    """
    require_power_of_two("k_max", k_max, equation="Eq. (4)")
    return tuple(Fraction(1, 2**power) for power in range(int(k_max).bit_length()))


def signal_levels(d: Fraction) -> tuple[Fraction, ...]:
    """0, d, 2d, …, 1 − d: pure noise is among them, clean data is not, so every τ + d ≤ 1.

    >>> [str(tau) for tau in signal_levels(Fraction(1, 4))]
    ['0', '1/4', '1/2', '3/4']
    """
    if not isinstance(d, Fraction):
        raise TypeError(f"Eq. (4): d is of type {type(d).__name__}, but must be a Fraction, as the grid is exact")
    require_step(np.array([float(d)]), equation="Eq. (4)")
    return tuple(multiple * d for multiple in range(d.denominator))


def step_law(k_max: int) -> dict[Fraction, Fraction]:
    """P(d): uniform over the step sizes (A2).

    >>> {str(d): str(p) for d, p in step_law(4).items()}
    {'1': '1/3', '1/2': '1/3', '1/4': '1/3'}
    """
    steps = step_sizes(k_max)
    return dict.fromkeys(steps, Fraction(1, len(steps)))


def level_law(d: Fraction) -> dict[Fraction, Fraction]:
    """P(τ | d): uniform over the grid of d.

    >>> {str(tau): str(p) for tau, p in level_law(Fraction(1, 2)).items()}
    {'0': '1/2', '1/2': '1/2'}
    """
    return dict.fromkeys(signal_levels(d), d)


def on_grid(tau: Float64[np.ndarray, "*batch"], d: Float64[np.ndarray, "*batch"]) -> Bool[np.ndarray, "*batch"]:
    """Whether τ is one of 0, d, …, 1 − d; exact, as division by a power of two is.

    >>> on_grid(np.array([0.5, 0.25, 1.0]), np.array([0.5, 0.5, 0.5])).tolist()
    [True, False, False]
    """
    require_same_shape(equation="Eq. (4)", tau=tau, d=d)
    require_step(d, equation="Eq. (4)")
    return np.asarray((tau >= 0) & (tau < 1) & (np.floor(tau / d) == tau / d))


def sample_tau_d(
    rng: np.random.Generator, k_max: int, shape: tuple[int, ...]
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*shape"]]:
    """Draw (tau, d), every element independently of the others (A3: both per timestep).

    >>> tau, d = sample_tau_d(np.random.default_rng(0), 64, (2, 3))
    >>> on_grid(tau, d).all().item()
    True
    """
    require_power_of_two("k_max", k_max, equation="Eq. (4)")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"Eq. (4): rng is of type {type(rng).__name__}, but must be a numpy.random.Generator")
    levels = 2 ** rng.integers(0, int(k_max).bit_length(), size=shape)
    return np.asarray(rng.integers(0, levels) / levels), np.asarray(1 / levels)
