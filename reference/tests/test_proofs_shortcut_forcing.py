"""Proofs about Eq. (1), (2), (3), (7) and (8), for one element of z; f is any network."""

from collections.abc import Callable

import numpy as np
import sympy as sp

from dreamer4_reference.eq01_corruption import corrupt, velocity
from dreamer4_reference.eq02_sampling import euler_step
from dreamer4_reference.eq03_shortcut_target import shortcut_target
from dreamer4_reference.eq04_grid import signal_levels, step_sizes
from dreamer4_reference.eq06_07_shortcut_forcing import (
    bootstrap_error,
    bootstrap_target,
    flow_error,
    shortcut_forcing_loss,
)
from dreamer4_reference.eq08_ramp_weight import ramp_weight

K_MAX = 8
Array = np.ndarray

tau, d, sigma = sp.symbols("tau d sigma", positive=True)
z0, z1, z1_hat = sp.symbols("z0 z1 z1_hat", real=True)
f = sp.Function("f")  # the network of Eq. (7): f(z, tau, d) predicts z1
g = sp.Function("g")  # the network of Eq. (3): it predicts the velocity
h = sp.Function("h")  # the network of Eq. (7), labelled with noise levels σ = 1 − τ

z_tilde = (1 - tau) * z0 + tau * z1
b_prime = (f(z_tilde, tau, d / 2) - z_tilde) / (1 - tau)
z_prime = z_tilde + b_prime * d / 2
b_double_prime = (f(z_prime, tau + d / 2, d / 2) - z_prime) / (1 - (tau + d / 2))
flow = (z1_hat - z1) ** 2
bootstrap = (1 - tau) ** 2 * ((z1_hat - z_tilde) / (1 - tau) - (b_prime + b_double_prime) / 2) ** 2
ramp = sp.Rational(9, 10) * tau + sp.Rational(1, 10)


def network(z: Array, tau: Array, d: Array, actions: Array | None = None) -> Array:
    """A nonlinear network that depends on both labels."""
    shape = tau.shape + (1,) * (z.ndim - tau.ndim)
    return np.asarray(np.sin(z) * (1 + tau.reshape(shape)) + z * d.reshape(shape) - 0.3)


def numeric(expression: sp.Expr, *arguments: sp.Symbol) -> Callable[..., Array]:
    """Turn an expression into NumPy code, with `network` for f and, in noise levels, for h."""
    functions = {"f": network, "h": lambda z, sigma, d: network(z, 1 - sigma, d)}
    return sp.lambdify(arguments, expression, [functions, "numpy"])


def draw(seed: int = 0, *, lowest_d: float = 2 / K_MAX) -> dict[str, Array]:
    """Noise, data and a prediction of shape (2, 8, 1, 1), with (tau, d) from the grid above `lowest_d`."""
    rng = np.random.default_rng(seed)
    pairs = [(t, s) for s in step_sizes(K_MAX) for t in signal_levels(s) if s >= lowest_d]
    chosen = np.array([pairs[i] for i in rng.integers(0, len(pairs), 16)], dtype=np.float64).reshape(2, 8, 2)
    frames = rng.normal(size=(3, 2, 8, 1, 1))
    return {"z0": frames[0], "z1": frames[1], "z1_hat": frames[2], "tau": chosen[..., 0], "d": chosen[..., 1]}


def evaluate(expression: sp.Expr, case: dict[str, Array]) -> Array:
    """Value of an expression in z0, z1, z1_hat, tau, d for every (B, T)."""
    arguments = (z0, z1, z1_hat, tau, d)
    values = (case[str(symbol)].reshape(2, 8) for symbol in arguments)
    return np.broadcast_to(numeric(expression, *arguments)(*values), (2, 8))


def assert_close(got: Array, expected: Array) -> None:
    np.testing.assert_allclose(got.reshape(2, 8), expected, rtol=1e-10, atol=1e-10)


def test_symbolic_form_equals_the_code() -> None:
    case = draw()
    noisy = corrupt(case["z0"], case["z1"], case["tau"])
    target = bootstrap_target(network, noisy, case["tau"], case["d"])
    assert_close(noisy, evaluate(z_tilde, case))
    for got, symbolic in zip(target, (b_prime, z_prime, b_double_prime), strict=True):
        assert_close(got, evaluate(symbolic, case))
    error = bootstrap_error(case["z1_hat"], noisy, case["tau"], target[0], target[2])
    assert_close(error, evaluate(bootstrap, case))
    assert_close(flow_error(case["z1_hat"], case["z1"]), evaluate(flow, case))
    assert_close(ramp_weight(case["tau"]), evaluate(ramp, case))


def test_x_space_error_is_the_squared_noise_level_times_the_v_space_error() -> None:
    """The footnote of Sec. 3.2 states this identity."""
    v_space = ((z1_hat - z_tilde) / (1 - tau) - (z1 - z0)) ** 2
    assert sp.simplify(flow - (1 - tau) ** 2 * v_space) == 0
    case = draw(1)
    v = velocity(case["z0"], case["z1"])
    noisy = corrupt(case["z0"], case["z1"], case["tau"])
    assert_close(bootstrap_error(case["z1_hat"], noisy, case["tau"], v, v), evaluate(flow, case))


def test_two_half_steps_equal_one_step_of_the_mean_velocity() -> None:
    two_half_steps = z_prime + b_double_prime * d / 2
    one_step = z_tilde + (b_prime + b_double_prime) / 2 * d
    assert sp.simplify(two_half_steps - one_step) == 0
    case = draw(2)
    tau_, half = case["tau"], case["d"] / 2
    start = corrupt(case["z0"], case["z1"], tau_)
    middle = euler_step(start, network(start, tau_, half), tau_, half)
    end = euler_step(middle, network(middle, tau_ + half, half), tau_ + half, half)
    assert_close(end, evaluate(one_step, case))


def test_the_bootstrap_loss_measures_how_far_one_step_lands_from_two_half_steps() -> None:
    one_step = z_tilde + (z1_hat - z_tilde) / (1 - tau) * d
    two_half_steps = z_prime + b_double_prime * d / 2
    distance = ((1 - tau) / d) ** 2 * (one_step - two_half_steps) ** 2
    assert sp.simplify(bootstrap - distance) == 0
    case = draw(3)
    noisy = corrupt(case["z0"], case["z1"], case["tau"])
    b, _, bb = bootstrap_target(network, noisy, case["tau"], case["d"])
    assert_close(bootstrap_error(case["z1_hat"], noisy, case["tau"], b, bb), evaluate(distance, case))


def test_eq07_is_eq03_for_a_network_that_predicts_the_data() -> None:
    """f(x, τ, d) = x + (1 − τ) g(x, τ, d) turns velocities into data."""
    v_prime = g(z_tilde, tau, d / 2)
    x_prime = z_tilde + v_prime * d / 2
    v_double_prime = g(x_prime, tau + d / 2, d / 2)
    v_hat = g(z_tilde, tau, d)
    eq03 = (v_hat - (v_prime + v_double_prime) / 2) ** 2
    eq07 = bootstrap.subs(z1_hat, f(z_tilde, tau, d)).replace(f, lambda z, t, s: z + (1 - t) * g(z, t, s))
    assert sp.simplify(eq07 - (1 - tau) ** 2 * eq03) == 0

    case = draw(4, lowest_d=1 / K_MAX)
    tau_, d_ = case["tau"], case["d"]

    def predicts_data(z: Array, tau: Array, d: Array, actions: Array | None) -> Array:
        return np.asarray(z + (1 - tau)[..., None, None] * network(z, tau, d))

    noisy = corrupt(case["z0"], case["z1"], tau_)
    target = shortcut_target(network, case["z0"], case["z1"], tau_, d_, 1 / K_MAX)
    weight = ramp_weight(tau_) * (1 - tau_) ** 2
    loss = shortcut_forcing_loss(predicts_data, case["z0"], case["z1"], tau_, d_, k_max=K_MAX)
    assert_close(loss, weight * ((network(noisy, tau_, d_) - target) ** 2)[..., 0, 0])


def test_a_perfect_predictor_has_zero_loss() -> None:
    def perfect(expression: sp.Expr) -> sp.Expr:
        return expression.replace(f, lambda z, t, s: z1).subs(z1_hat, z1)

    assert sp.simplify(perfect(b_prime) - (z1 - z0)) == 0
    assert sp.simplify(perfect(b_double_prime) - (z1 - z0)) == 0
    assert sp.simplify(perfect(z_prime) - z_tilde.subs(tau, tau + d / 2)) == 0
    assert sp.simplify(perfect(bootstrap)) == 0
    assert sp.simplify(perfect(flow)) == 0
    case = draw(5, lowest_d=1 / K_MAX)
    assert set(case["d"].ravel()) == {float(size) for size in step_sizes(K_MAX)}
    loss = shortcut_forcing_loss(
        lambda z, tau, d, actions: case["z1"], case["z0"], case["z1"], case["tau"], case["d"], k_max=K_MAX
    )
    assert_close(loss, np.zeros((2, 8)))


def in_noise_levels(expression: sp.Expr) -> sp.Expr:
    """Substitute τ = 1 − σ, also in the labels of the network h(z, σ, d)."""
    return expression.subs(tau, 1 - sigma).replace(f, lambda z, t, s: h(z, sp.expand(1 - t), s))


def test_in_noise_levels_the_teacher_is_called_at_sigma_and_at_sigma_minus_half_d() -> None:
    calls = in_noise_levels(b_prime + b_double_prime).atoms(sp.core.function.AppliedUndef)
    assert {call.args[1:] for call in calls} == {(sigma, d / 2), (sigma - d / 2, d / 2)}


def test_in_noise_levels_the_velocities_divide_by_the_noise_level_of_their_own_call() -> None:
    z, mid = in_noise_levels(z_tilde), in_noise_levels(z_prime)
    assert sp.simplify(z - (sigma * z0 + (1 - sigma) * z1)) == 0
    assert sp.simplify(in_noise_levels(b_prime) - (h(z, sigma, d / 2) - z) / sigma) == 0
    second = (h(mid, sigma - d / 2, d / 2) - mid) / (sigma - d / 2)
    assert sp.simplify(in_noise_levels(b_double_prime) - second) == 0


def test_in_noise_levels_the_bootstrap_error_is_scaled_by_sigma_squared() -> None:
    velocity_error = (z1_hat - in_noise_levels(z_tilde)) / sigma - in_noise_levels(b_prime + b_double_prime) / 2
    assert sp.simplify(in_noise_levels(bootstrap) - sigma**2 * velocity_error**2) == 0


def test_in_noise_levels_the_weight_is_one_minus_nine_tenths_sigma() -> None:
    assert sp.simplify(in_noise_levels(ramp) - (1 - sp.Rational(9, 10) * sigma)) == 0


def test_in_noise_levels_the_code_gives_the_same_loss() -> None:
    case = draw(6)
    arguments = (z0, z1, sigma, d)
    student = in_noise_levels(ramp * bootstrap).subs(z1_hat, h(in_noise_levels(z_tilde), sigma, d))
    values = (case["z0"][..., 0, 0], case["z1"][..., 0, 0], 1 - case["tau"], case["d"])
    expected = numeric(student, *arguments)(*values)
    assert_close(shortcut_forcing_loss(network, case["z0"], case["z1"], case["tau"], case["d"], k_max=K_MAX), expected)
