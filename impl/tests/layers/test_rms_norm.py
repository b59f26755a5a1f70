"""RMSNorm: formula, ε, gradients and half precision."""

import pytest
import torch

from dreamer4_impl.layers.rms_norm import RMSNorm, rms_norm


def test_equals_the_formula_vector_by_vector():
    x, weight = torch.randn(3, 2, 5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    got = rms_norm(x, weight, eps=0.3)
    for index in torch.cartesian_prod(torch.arange(3), torch.arange(2)).tolist():
        vector = x[tuple(index)]
        mean_square = sum(float(u) ** 2 for u in vector) / 5
        torch.testing.assert_close(got[tuple(index)], weight * vector / (mean_square + 0.3) ** 0.5)


def test_epsilon_is_added_to_the_mean_square_not_to_the_root():
    assert rms_norm(torch.zeros(4), eps=0.25).tolist() == [0, 0, 0, 0]
    torch.testing.assert_close(rms_norm(torch.ones(4), eps=3.0), torch.full((4,), 0.5))


def test_gradients_of_input_and_gain_are_right():
    x, weight = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 4), (4,)))
    assert torch.autograd.gradcheck(rms_norm, (x, weight))


def test_half_precision_does_not_overflow_where_the_square_would():
    x = torch.tensor([300.0, -400.0], dtype=torch.float16)
    torch.testing.assert_close(rms_norm(x).double(), rms_norm(x.double()), rtol=1e-3, atol=0)


def test_gain_is_a_parameter_of_the_module():
    norm = RMSNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(norm(torch.ones(3)), torch.tensor([1.0, 2.0, 3.0]))


def test_bad_arguments_are_refused_with_a_clear_message():
    with pytest.raises(ValueError, match=r"weight must have shape \(D,\) = \(4,\); got \(3,\)"):
        rms_norm(torch.zeros(2, 4), torch.ones(3))
    with pytest.raises(ValueError, match="eps must be 0 or more; got -1"):
        rms_norm(torch.zeros(2, 4), eps=-1)
    with pytest.raises(TypeError, match=r"x must be a floating-point tensor; got torch.int64"):
        rms_norm(torch.zeros(2, dtype=torch.int64))
