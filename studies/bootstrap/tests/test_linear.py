"""The closed form of the bootstrap recursion agrees with the implementation's loss."""

import pytest
import sympy
import torch
from torch import Tensor

from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss, shortcut_forcing_loss_at
from studies.bootstrap.linear import coefficients, target_weights, unstable_shares

VARIANCE, K_MAX = 2.0, 64


def test_the_target_is_a_weighted_mean_of_the_two_predictions() -> None:
    z, tau, d, f1, f2 = sympy.symbols("z tau d f1 f2")
    b_prime = (f1 - z) / (1 - tau)
    z_prime = z + b_prime * d / 2
    b_second = (f2 - z_prime) / (1 - tau - d / 2)
    omega, kappa = (1 - tau) / (2 * (1 - tau) - d), d / (2 * (1 - tau))
    target = z + (1 - tau) * (b_prime + b_second) / 2
    assert sympy.simplify(target - (1 - omega) * f1 - omega * f2) == 0
    assert sympy.simplify(z_prime - (1 - kappa) * z - kappa * f1) == 0


@pytest.mark.parametrize("tau", [0.0, 0.25, 0.5])
def test_loss_has_the_target_of_the_closed_form(tau: float) -> None:
    d, calls = 0.5, []

    def network(z: Tensor, level: Tensor, step: Tensor, actions: None) -> Tensor:
        calls.append(z)
        return torch.full_like(z, (3.0, -5.0, 7.0)[len(calls) - 1])

    z = torch.full((1, 1, 1, 1), 2.0)
    levels, steps = torch.full((1, 1), tau), torch.full((1, 1), d)
    loss = shortcut_forcing_loss_at(network, z, z, levels, steps, k_max=K_MAX)
    omega, kappa = target_weights(tau, d)
    assert float(calls[1]) == pytest.approx((1 - kappa) * 2 + kappa * 3)
    assert float(loss) == pytest.approx((0.9 * tau + 0.1) * (7 - (1 - omega) * 3 - omega * -5) ** 2, rel=1e-5)


def test_bounded_predictions_have_bounded_targets() -> None:
    for exponent in range(7):
        d = 2.0**-exponent
        for index in range(2**exponent):
            omega, kappa = target_weights(index * d, d)
            assert 0.5 < omega <= 1
            assert 0 < kappa <= 0.5


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_expected_gradient_of_the_loss_equals_the_closed_form(share: float) -> None:
    A, B, C = coefficients(VARIANCE, K_MAX)
    theta, gradients = 1.3, []
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        gradients.append(_gradient(torch.tensor(theta, requires_grad=True), share, 2**16, generator))
    expected = -2 * (share * (B - A * theta) + (1 - share) * C * theta * (theta - 1))
    found = torch.stack(gradients)
    assert float(found.mean()) == pytest.approx(expected, abs=4 * float(found.std()) / 8**0.5)
    assert abs(expected) > 20 * float(found.std()) / 8**0.5


def test_loss_diverges_for_shares_between_the_roots_and_not_above() -> None:
    shares = unstable_shares(VARIANCE, K_MAX)
    assert shares is not None
    low, high = shares
    assert low < 1 / 7 < high < 0.5
    assert _trained(None) > 10
    assert _trained(0.5) < 2


def test_small_variance_has_no_unstable_share() -> None:
    assert unstable_shares(0.5, K_MAX) is None
    assert _trained(None, variance=0.5) < 1


def _trained(share: float | None, variance: float = VARIANCE) -> float:
    """θ after gradient descent, stopped early once it exceeds 10."""
    generator, theta = torch.Generator().manual_seed(0), torch.tensor(0.0, requires_grad=True)
    for _ in range(1500):
        theta = (theta - 0.3 * _gradient(theta, share, 512, generator, variance)).detach().requires_grad_()
        if theta > 10:
            break
    return theta.item()


def _gradient(
    theta: Tensor, share: float | None, batch: int, generator: torch.Generator, variance: float = VARIANCE
) -> Tensor:
    z1 = variance**0.5 * torch.randn(batch, 1, 1, 1, generator=generator)
    loss = shortcut_forcing_loss(
        lambda z, tau, d, actions: theta * z, z1, k_max=K_MAX, generator=generator, d_min_share=share
    )
    return torch.autograd.grad(loss, theta)[0]
