"""RoPE: a rotation whose scores depend on differences of positions only, exact at any distance from the start."""

import cmath
import math

import pytest
import torch

from dreamer4_impl.layers.rope import rope, rotate, rotation


def test_every_pair_of_channels_is_a_complex_number_times_its_phase():
    x, positions = torch.randn(2, 3, 2, 6, dtype=torch.float64), torch.tensor([0, 5, 1])
    got = rope(x, positions, base=100.0)
    for b, i, h, pair in torch.cartesian_prod(*(torch.arange(n) for n in (2, 3, 2, 3))).tolist():
        angle = int(positions[i]) * 100.0 ** (-2 * pair / 6)
        rotated = complex(x[b, i, h, pair], x[b, i, h, pair + 3]) * cmath.exp(1j * angle)
        assert cmath.isclose(complex(got[b, i, h, pair], got[b, i, h, pair + 3]), rotated, rel_tol=1e-12)


def test_keeps_norms():
    x = torch.randn(4, 7, 2, 8, dtype=torch.float64)
    torch.testing.assert_close(rope(x, torch.arange(7) * 1000).norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("shift", [1, 1000, 10**6, 10**8 + 1])
def test_scores_depend_only_on_differences_of_positions(shift, dtype, bound):
    q, k = torch.randn(2, 1, 9, 1, 16).to(dtype)
    near, far = torch.arange(9), torch.arange(9) + shift

    def scores(positions):
        return torch.einsum("blhd,bmhd->blm", rope(q, positions), rope(k, positions)).double()

    angle_error = 1e-15 * shift
    error = (scores(near) - scores(far)).abs().max() / (q.norm(dim=-1).max() * k.norm(dim=-1).max())
    assert error <= bound + angle_error


def test_scores_differ_for_different_distances():
    x = torch.ones(1, 3, 1, 4, dtype=torch.float64)
    scores = torch.einsum("blhd,bmhd->lm", rope(x, torch.arange(3)), rope(x, torch.arange(3)))
    torch.testing.assert_close(scores[0, 2], torch.tensor(2 * math.cos(2) + 2 * math.cos(0.02), dtype=torch.float64))


def test_a_rotation_can_be_computed_once_for_all_layers():
    x, positions = torch.randn(2, 5, 3, 8), torch.arange(5)
    assert torch.equal(rotate(x, rotation(positions, 8)), rope(x, positions))


def test_gradient_is_the_inverse_rotation():
    x = torch.randn(1, 4, 1, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rope(x, torch.arange(4)), x)


def test_bad_arguments_are_refused_with_a_clear_message():
    with pytest.raises(ValueError, match=r"head_width must be even, 2 or more, .*; got 5"):
        rope(torch.zeros(1, 2, 1, 5), torch.arange(2))
    with pytest.raises(ValueError, match=r"positions must have shape \(L,\) = \(2,\); got \(3,\)"):
        rope(torch.zeros(1, 2, 1, 4), torch.arange(3))
    with pytest.raises(TypeError, match=r"positions must be an integer tensor; got torch.float32"):
        rope(torch.zeros(1, 2, 1, 4), torch.zeros(2))
    with pytest.raises(ValueError, match="base must be above 0; got 0"):
        rope(torch.zeros(1, 2, 1, 4), torch.arange(2), base=0)
