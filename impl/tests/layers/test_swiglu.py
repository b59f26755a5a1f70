"""SwiGLU: formula, gradient and initial values."""

import math

import pytest
import torch

from dreamer4_impl.layers.swiglu import SwiGLU, swiglu


def normal(*shape: int):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def matrices(width: int = 3, inner: int = 5):
    return [normal(width, inner), normal(width, inner).flip(1), normal(inner, width)]


def test_equals_the_formula_number_by_number():
    x, (w_gate, w_up, w_down) = normal(2, 3), matrices()
    got = swiglu(x, w_gate, w_up, w_down)
    for row, column in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        total = 0.0
        for f in range(5):
            gate, up = (sum(float(x[row, i] * w[i, f]) for i in range(3)) for w in (w_gate, w_up))
            total += gate / (1 + math.exp(-gate)) * up * float(w_down[f, column])
        assert math.isclose(float(got[row, column]), total, rel_tol=1e-10)


def test_gradients_of_input_and_matrices_are_right():
    leaves = [x.requires_grad_() for x in (normal(2, 3), *matrices())]
    assert torch.autograd.gradcheck(swiglu, leaves)


def test_initial_matrices_have_unit_gain_and_the_last_is_scaled():
    mlp = SwiGLU(256, 512, out_scale=0.1)
    expected = {"w_gate": 1 / 16, "w_up": 1 / 16, "w_down": 0.1 / 512**0.5}
    for name, deviation in expected.items():
        assert math.isclose(float(getattr(mlp, name).detach().std()), deviation, rel_tol=0.02), name


def test_bfloat16_is_close_to_the_exact_result():
    x, weights = normal(64, 3).bfloat16(), [w.bfloat16() for w in matrices()]
    got, expected = swiglu(x, *weights), swiglu(x.double(), *(w.double() for w in weights))
    assert got.dtype == torch.bfloat16
    assert (got.double() - expected).norm() <= 4 * 2**-8 * expected.norm()


def test_bad_arguments_are_refused_with_a_clear_message():
    w_gate, w_up, w_down = matrices()
    x = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"w_up must have shape \(D, F\) = \(3, 5\); got \(3, 4\)"):
        swiglu(x, w_gate, w_up[:, :4], w_down)
    with pytest.raises(ValueError, match=r"w_down must have shape \(F, D\) = \(5, 3\); got \(3, 5\)"):
        swiglu(x, w_gate, w_up, w_up)
