"""Eq. (1) and (6): corruption."""

import pytest
import torch

from dreamer4_impl.equations.eq01_corruption import corrupt


def pair(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 2, 3, 4, 5, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_noise_at_level_zero_and_data_at_level_one_exactly(dtype):
    z0, z1 = pair(dtype)
    assert torch.equal(corrupt(z0, z1, torch.zeros(2, 3)), z0)
    assert torch.equal(corrupt(z0, z1, torch.ones(2, 3)), z1)


def test_each_timestep_is_mixed_at_its_own_level():
    z0, z1 = pair(torch.float64)
    tau = torch.tensor([[0.0, 0.25, 0.5], [0.75, 0.875, 1.0]], dtype=torch.float64)
    z = corrupt(z0, z1, tau)
    for b in range(2):
        for t in range(3):
            level = tau[b, t].item()
            torch.testing.assert_close(z[b, t], (1 - level) * z0[b, t] + level * z1[b, t], rtol=1e-15, atol=0)


def test_half_precision_is_rounded_once_to_the_dtype_of_the_data():
    z0, z1 = pair(torch.bfloat16)
    tau = torch.full((2, 3), 0.9)
    expected = ((1 - tau[..., None, None]) * z0.float() + tau[..., None, None] * z1.float()).bfloat16()
    assert torch.equal(corrupt(z0.float(), z1, tau), expected)


def test_gradient_of_the_data_is_the_level():
    z0, z1 = pair(torch.float64)
    z1.requires_grad_(True)
    corrupt(z0, z1, torch.full((2, 3), 0.25)).sum().backward()
    assert (z1.grad == 0.25).all()


@pytest.mark.parametrize(
    ("z0", "z1", "tau", "error", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 1), torch.zeros(2), ValueError, r"z0 must have shape of z1 = \(2, 1\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3), ValueError, "tau must have shape of the leading axes"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2).long(), TypeError, "tau must be a floating-point"),
        (torch.zeros(2, device="meta"), torch.zeros(2), torch.zeros(2), ValueError, "z0 must lie on cpu .* got meta"),
    ],
)
def test_invalid_input_raises_and_names_the_argument(z0, z1, tau, error, message):
    with pytest.raises(error, match=message):
        corrupt(z0, z1, tau)
