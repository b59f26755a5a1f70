"""Eq. (8): ramp loss weight."""

import pytest
import torch

from dreamer4_impl.equations.eq08_ramp_weight import ramp_weight


def test_ramp_weight_is_a_tenth_at_pure_noise_and_one_at_clean_data():
    tau = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(ramp_weight(tau), torch.tensor([0.1, 0.55, 1.0], dtype=torch.float64))


def test_ramp_weight_of_half_precision_levels_is_float32():
    assert ramp_weight(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.float32


def test_integer_levels_raise():
    with pytest.raises(TypeError, match=r"tau must be a floating-point tensor; got torch\.int64"):
        ramp_weight(torch.tensor([0, 1]))
