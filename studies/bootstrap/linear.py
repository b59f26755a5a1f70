"""When the recursion of Eq. (7) diverges, in closed form.

With s = 1 − τ, the target of the bootstrap term in x-space is a weighted mean of the teacher's two predictions:

    z̃ + (1 − τ)(b' + b'')/2 = (1 − ω) f(z̃, τ, d/2) + ω f(z', τ + d/2, d/2),   ω = s/(2s − d) ∈ (1/2, 1]
    z' = (1 − κ) z̃ + κ f(z̃, τ, d/2),   κ = d/(2s) ∈ (0, 1/2]

No division by a small 1 − τ remains: a network with bounded outputs has targets within the same bounds. The remaining
cause is z', which leaves the data when f is wrong. Take the network that shares its one parameter, f = θ z for every τ
and d, on data N(0, v). Then the target is θ (1 + ωκ (θ − 1)) z̃, larger than θ z̃ as soon as θ > 1, and with a share p
of the rows at d_min gradient descent on the expected loss follows

    dθ/dt ∝ p (B − A θ) + (1 − p) C θ (θ − 1)
    A = E[w z̃²], B = E[w z̃ z₁] at d_min,   C = E[w z̃² ωκ] above it

The best θ for the flow term alone is B/A. Where B/A > 1, as where v is large, the right-hand side is positive for every
θ when p lies between two roots: θ goes to infinity in finite time. Above the larger root the rows at d_min keep θ near
B/A; below the smaller one it stays below 1, near the trivial solution of zero velocity.
"""

import numpy as np


def target_weights(tau: float, d: float) -> tuple[float, float]:
    """Weights ω of the second prediction in the target and κ of the first prediction in z'.

    >>> target_weights(tau=0.5, d=0.5), target_weights(tau=0.0, d=0.5)
    ((1.0, 0.5), (0.6666666666666666, 0.25))
    """
    remaining = 1 - tau
    return remaining / (2 * remaining - d), d / (2 * remaining)


def coefficients(variance: float, k_max: int) -> tuple[float, float, float]:
    """Coefficients (A, B, C) under the grid of Eq. (4), d uniform above d_min, and the weight of Eq. (8).

    >>> [round(x, 3) for x in coefficients(2.0, 64)]
    [0.61, 0.684, 0.094]
    """
    tau = np.arange(k_max) / k_max
    A = np.mean(_weighted_square(tau, variance))
    B = np.mean(_ramp(tau) * tau * variance)
    C = np.mean([_growth(2.0**-k, variance) for k in range(k_max.bit_length() - 1)])
    return float(A), float(B), float(C)


def unstable_shares(variance: float, k_max: int) -> tuple[float, float] | None:
    """Open interval of shares p of rows at d_min in which θ has no fixed point; None if there is none.

    >>> unstable_shares(0.5, 64) is None
    True
    >>> [round(p, 3) for p in unstable_shares(2.0, 64)]
    [0.072, 0.234]
    """
    A, B, C = coefficients(variance, k_max)
    theta = B / A
    if theta <= 1:
        return None
    # The discriminant in r = pA/((1 − p)C): r² + (2 − 4 B/A) r + 1.
    centre, half_width = 2 * theta - 1, 2 * np.sqrt(theta * (theta - 1))
    low, high = (r * C / (A + r * C) for r in (centre - half_width, centre + half_width))
    return float(low), float(high)


def _growth(d: float, variance: float) -> float:
    tau = np.arange(round(1 / d)) * d
    omega, kappa = (1 - tau) / (2 * (1 - tau) - d), d / (2 * (1 - tau))
    return float(np.mean(_weighted_square(tau, variance) * omega * kappa))


def _weighted_square(tau: np.ndarray, variance: float) -> np.ndarray:
    return _ramp(tau) * (tau**2 * variance + (1 - tau) ** 2)


def _ramp(tau: np.ndarray) -> np.ndarray:
    return 0.9 * tau + 0.1
