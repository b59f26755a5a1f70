"""RMSNorm and QK-norm: their formulas, and what rescaling does not change."""

import pytest
import torch

from dreamer4_impl.qk_norm import qk_norm
from dreamer4_impl.rms_norm import RMSNorm, rms_norm


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


def test_the_gain_is_the_module_s_parameter():
    norm = RMSNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(norm(torch.ones(3)), torch.tensor([1.0, 2.0, 3.0]))


def test_qk_norm_gives_every_head_the_gain_as_root_mean_square_whatever_its_scale():
    q, k = torch.randn(2, 5, 4, 8, dtype=torch.float64), torch.randn(2, 5, 2, 8, dtype=torch.float64)
    scales = torch.logspace(-1, 2, 4, dtype=torch.float64)[:, None]
    gain = torch.full((8,), 3.0, dtype=torch.float64)
    for got, gained in zip(qk_norm(q * scales, k, gain, None), (3.0, 1.0), strict=True):
        rms = got.square().mean(-1).sqrt()
        torch.testing.assert_close(rms, torch.full_like(rms, gained), rtol=1e-3, atol=0)
    assert torch.equal(qk_norm(q, k)[1], rms_norm(k))


def test_refuses_what_does_not_fit_with_a_sentence():
    with pytest.raises(ValueError, match=r"weight must have shape \(D,\) = \(4,\); got \(3,\)"):
        rms_norm(torch.zeros(2, 4), torch.ones(3))
    with pytest.raises(ValueError, match="eps must be 0 or more; got -1"):
        rms_norm(torch.zeros(2, 4), eps=-1)
    with pytest.raises(TypeError, match=r"x must be a floating-point tensor; got torch.int64"):
        rms_norm(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="k must have the head width of q, 4; got 6"):
        qk_norm(torch.zeros(1, 4), torch.zeros(1, 6))
