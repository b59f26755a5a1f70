"""Proofs about Eq. (10): with v_{t+1} it is a mixture of n-step returns, as printed it is not (reading A13)."""

import numpy as np
import pytest
import sympy as sp

from dreamer4_reference.eq10_lambda_return import Mixture, lambda_returns

gamma, lam = sp.symbols("gamma lambda", nonnegative=True)
MAX_HORIZON = 5
r, c = sp.symbols(f"r:{MAX_HORIZON}"), sp.symbols(f"c:{MAX_HORIZON}")
v = sp.symbols(f"v:{MAX_HORIZON + 1}")


def lambda_return(horizon: int, mixture: Mixture, t: int = 0) -> sp.Expr:
    """R_t of Eq. (10), by its recursion."""
    if t == horizon:
        return v[horizon]
    mixed = v[t + 1] if mixture == "v_next" else v[t]
    return r[t] + gamma * c[t] * ((1 - lam) * mixed + lam * lambda_return(horizon, mixture, t + 1))


def n_step_return(n: int) -> sp.Expr:
    """r_0 + γ c_0 r_1 + … + γⁿ c_0 … c_{n−1} v_n."""
    discount = [gamma**i * sp.prod(c[:i]) for i in range(n + 1)]
    return sum(discount[i] * r[i] for i in range(n)) + discount[n] * v[n]


def weights(horizon: int) -> list[sp.Expr]:
    """(1 − λ) λ^{n−1} for n = 1 … H − 1, and the remainder λ^{H−1} for n = H."""
    return [(1 - lam) * lam ** (n - 1) for n in range(1, horizon)] + [lam ** (horizon - 1)]


@pytest.mark.parametrize("mixture", ["v_next", "v_same"])
@pytest.mark.parametrize("horizon", range(1, MAX_HORIZON + 1))
def test_symbolic_form_equals_the_code(horizon: int, mixture: Mixture) -> None:
    rng = np.random.default_rng(horizon)
    reward, value = rng.normal(size=(3, horizon)), rng.normal(size=(3, horizon + 1))
    cont = rng.uniform(size=(3, horizon))
    expressions = [lambda_return(horizon, mixture, t) for t in range(horizon)]
    symbolic = sp.lambdify((r[:horizon], v[: horizon + 1], c[:horizon], gamma, lam), expressions, "numpy")
    expected = np.stack(symbolic(reward.T, value.T, cont.T, 0.9, 0.7), axis=1)
    got = lambda_returns(reward, value, cont, 0.9, 0.7, mixture=mixture)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("horizon", range(1, MAX_HORIZON + 1))
def test_with_the_next_value_it_is_a_mixture_of_n_step_returns(horizon: int) -> None:
    mixture = sum(w * n_step_return(n) for n, w in enumerate(weights(horizon), start=1))
    assert sp.expand(lambda_return(horizon, "v_next") - mixture) == 0


@pytest.mark.parametrize("horizon", range(1, MAX_HORIZON + 1))
def test_the_weights_of_the_mixture_sum_to_one(horizon: int) -> None:
    assert sp.expand(sum(weights(horizon)) - 1) == 0


def test_mixture_holds_at_every_horizon_by_induction() -> None:
    """Induction: H = 1 holds; put one step before a mixture R′ = Σ wₙ Gₙ′ with Σ wₙ = 1."""
    reward, cont, value, mixture = sp.symbols("r c v R_prime")
    one_step = reward + gamma * cont * value
    longer = reward + gamma * cont * mixture  # Σ wₙ (r + γ c Gₙ′): each n-step return becomes n + 1 steps long
    recursion = reward + gamma * cont * ((1 - lam) * value + lam * mixture)
    assert sp.expand((1 - lam) * one_step + lam * longer - recursion) == 0
    n = sp.Symbol("n", positive=True)
    assert sp.simplify(lam * ((1 - lam) * lam ** (n - 1)) - (1 - lam) * lam**n) == 0


def test_printed_mixture_contains_a_value_absent_from_every_n_step_return() -> None:
    printed = sp.expand(lambda_return(2, "v_same"))
    assert sp.simplify(printed.coeff(v[0]) - gamma * c[0] * (1 - lam)) == 0
    assert all(v[0] not in n_step_return(n).free_symbols for n in range(1, MAX_HORIZON + 1))


@pytest.mark.parametrize("horizon", range(1, MAX_HORIZON + 1))
def test_as_printed_lambda_zero_ignores_the_next_state(horizon: int) -> None:
    printed = lambda_return(horizon, "v_same").subs(lam, 0)
    assert printed.free_symbols == {r[0], gamma, c[0], v[0]}
    as_read = lambda_return(horizon, "v_next").subs(lam, 0)
    assert sp.expand(as_read - n_step_return(1)) == 0


@pytest.mark.parametrize("horizon", range(1, MAX_HORIZON + 1))
def test_lambda_one_is_the_longest_n_step_return(horizon: int) -> None:
    assert sp.expand(lambda_return(horizon, "v_next").subs(lam, 1) - n_step_return(horizon)) == 0
