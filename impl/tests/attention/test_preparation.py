"""QK-norm and RoPE of queries and keys."""

import pytest
import torch

from dreamer4_impl.attention import Preparation, prepare
from dreamer4_impl.layers.rms_norm import rms_norm
from dreamer4_impl.layers.rope import rope, rotation


def raw(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, 5, 3, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("axis", "length"), [("space", 3), ("time", 5)])
def test_every_head_is_normalised_then_rotated_by_its_position(axis, length):
    x, gain, positions = raw(), torch.linspace(0.5, 2, 8, dtype=torch.float64), torch.arange(2, 2 + length)
    got = prepare(x, Preparation(gain, 1e-6, rotation(positions, 8)), axis)
    sequences = x if axis == "space" else x.transpose(1, 2)
    expected = rope(rms_norm(sequences, gain), positions)
    torch.testing.assert_close(got, expected if axis == "space" else expected.transpose(1, 2))


def test_root_mean_square_of_every_head_is_the_gain():
    scales = torch.logspace(-1, 2, 4, dtype=torch.float64)[:, None]
    gain, angles = torch.full((8,), 3.0, dtype=torch.float64), rotation(torch.arange(3), 8)
    rms = prepare(raw() * scales, Preparation(gain, 1e-6, angles), "space").square().mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, 3.0), rtol=1e-3, atol=0)


def test_half_precision_is_rounded_once():
    x, angles = raw(torch.bfloat16), rotation(torch.arange(3), 8)
    exact = prepare(x.double(), Preparation(None, 1e-6, angles), "space")
    got = prepare(x, Preparation(None, 1e-6, angles), "space").double()
    assert ((got - exact).abs() <= 2**-8 * exact.abs() + 1e-6).all()
