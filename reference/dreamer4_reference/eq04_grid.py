"""Eq. (4), Sec. 2, p. 3: step sizes and the grid of signal levels.

    d ~ 1 / U({1, 2, 4, …, K_max}),   τ ~ U({0, d, 2d, …, 1 − d})

Printed as τ ~ U({0, 1/d, …, 1 − 1/d}), which is empty for a step size d < 1.
Read as (A1): the multiples of d. Read as (A2): "sampled uniformly as a power of two" makes each of the log₂ K_max + 1
step sizes equally likely; P ∝ 1/d is not a reading. Read as (A3): d and τ are drawn per timestep.

K_max → k_max, a power of two; with K_max = 1 only d = 1 and τ = 0 remain.
Probability distributions are exact: a dict from value (Fraction) to probability (Fraction).
"""

from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float64

from dreamer4_reference.levels import require_power_of_two, require_same_shape, require_step


def step_sizes(k_max: int) -> tuple[Fraction, ...]:
    """Step sizes 1, 1/2, 1/4, …, 1/K_max in decreasing order.

    Args:
        k_max: K_max, a power of two, 1 included.

    Returns:
        log₂ K_max + 1 exact fractions; the last is d_min = 1/K_max.

    Raises:
        TypeError: if k_max is not an int.
        ValueError: if k_max is not a power of two.

    Example:
        >>> [str(d) for d in step_sizes(4)]
        ['1', '1/2', '1/4']
    """
    require_power_of_two("k_max", k_max, equation="Eq. (4)")
    return tuple(Fraction(1, 2**power) for power in range(int(k_max).bit_length()))


def signal_levels(d: Fraction) -> tuple[Fraction, ...]:
    """Grid of signal levels 0, d, 2d, …, 1 − d of one step size.

    The grid contains pure noise, τ = 0, but not clean data, τ = 1, so τ + d ≤ 1 at every grid point.

    Args:
        d: step size as an exact Fraction, 2⁻ⁿ with n ≥ 0.

    Returns:
        1/d exact fractions in increasing order.

    Raises:
        TypeError: if d is not a Fraction; a float is rejected because the grid is exact.
        ValueError: if d is not a power of 1/2.

    Example:
        >>> [str(tau) for tau in signal_levels(Fraction(1, 4))]
        ['0', '1/4', '1/2', '3/4']
    """
    if not isinstance(d, Fraction):
        raise TypeError(f"Eq. (4): d is of type {type(d).__name__}, but must be a Fraction, as the grid is exact")
    require_step(np.array([float(d)]), equation="Eq. (4)")
    return tuple(multiple * d for multiple in range(d.denominator))


def step_law(k_max: int) -> dict[Fraction, Fraction]:
    """Exact distribution of d: uniform over the step sizes (A2).

    Args:
        k_max: K_max, a power of two, 1 included.

    Returns:
        {d: P(d)} in decreasing order of d, each probability 1/(log₂ K_max + 1).

    Raises:
        TypeError: if k_max is not an int.
        ValueError: if k_max is not a power of two.

    Example:
        >>> {str(d): str(p) for d, p in step_law(4).items()}
        {'1': '1/3', '1/2': '1/3', '1/4': '1/3'}
    """
    steps = step_sizes(k_max)
    return dict.fromkeys(steps, Fraction(1, len(steps)))


def level_law(d: Fraction) -> dict[Fraction, Fraction]:
    """Exact distribution of τ given d: uniform over the grid of d.

    Args:
        d: step size as an exact Fraction, 2⁻ⁿ with n ≥ 0.

    Returns:
        {τ: P(τ | d)} in increasing order of τ, each probability d.

    Raises:
        TypeError: if d is not a Fraction.
        ValueError: if d is not a power of 1/2.

    Example:
        >>> {str(tau): str(p) for tau, p in level_law(Fraction(1, 2)).items()}
        {'0': '1/2', '1/2': '1/2'}
    """
    return dict.fromkeys(signal_levels(d), d)


def on_grid(tau: Float64[np.ndarray, "*batch"], d: Float64[np.ndarray, "*batch"]) -> Bool[np.ndarray, "*batch"]:
    """Test element by element if τ is one of 0, d, …, 1 − d.

    The test is exact and has no tolerance: dividing by a power of two does not round.

    Args:
        tau: float64 signal levels, any shape; values outside [0, 1) and NaN give False.
        d: float64 step sizes 2⁻ⁿ with n ≥ 0, shaped like tau.

    Returns:
        bool array, shaped like tau.

    Raises:
        TypeError: if an argument is not a float64 array.
        ValueError: if the shapes differ or a step size is not a power of 1/2.

    Example:
        >>> on_grid(np.array([0.5, 0.25, 1.0]), np.array([0.5, 0.5, 0.5])).tolist()
        [True, False, False]
    """
    require_same_shape(equation="Eq. (4)", tau=tau, d=d)
    require_step(d, equation="Eq. (4)")
    return np.asarray((tau >= 0) & (tau < 1) & (np.floor(tau / d) == tau / d))


def sample_tau_d(
    rng: np.random.Generator, k_max: int, shape: tuple[int, ...]
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*shape"]]:
    """Draw (τ, d) from their distributions, independently for every element (A3: both per timestep).

    Args:
        rng: source of randomness; only this generator is advanced.
        k_max: K_max, a power of two, 1 included.
        shape: shape of the result, usually (B, T).

    Returns:
        (tau, d), two float64 arrays of that shape: d in {1, 1/2, …, 1/K_max} and tau in {0, d, …, 1 − d}.

    Raises:
        TypeError: if rng is not a numpy.random.Generator or k_max is not an int.
        ValueError: if k_max is not a power of two.

    Example:
        >>> tau, d = sample_tau_d(np.random.default_rng(0), 64, (2, 3))
        >>> on_grid(tau, d).all().item()
        True
    """
    require_power_of_two("k_max", k_max, equation="Eq. (4)")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"Eq. (4): rng is of type {type(rng).__name__}, but must be a numpy.random.Generator")
    levels = 2 ** rng.integers(0, int(k_max).bit_length(), size=shape)
    return np.asarray(rng.integers(0, levels) / levels), np.asarray(1 / levels)
