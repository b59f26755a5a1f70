"""Sec. 3.2: the (τ, d) token."""

import pytest
import torch

from dreamer4_impl.layers.label_token import LabelToken, level_index, step_index


def test_label_is_the_nearest_grid_level_and_the_last_for_a_clean_frame():
    tau = torch.tensor([0.0, 1 / 64, 0.9, 63 / 64, 1.0])
    assert level_index(tau, 64).tolist() == [0, 1, 58, 63, 63]
    assert step_index(torch.tensor([1.0, 0.5, 1 / 64]), 64).tolist() == [0, 1, 6]


@pytest.mark.parametrize("k_max", [1, 2, 64, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_grid_label_has_its_own_row(k_max, dtype):
    steps = torch.arange(k_max)
    assert torch.equal(level_index((steps / k_max).to(dtype), k_max), steps)
    exponents = torch.arange(k_max.bit_length())
    assert torch.equal(step_index((0.5**exponents).to(dtype), k_max), exponents)


def test_label_token_is_two_concatenated_embeddings():
    token = LabelToken(width=6, k_max=4)
    tau, d = torch.tensor([[0.25, 0.5]]), torch.tensor([[0.25, 0.5]])
    expected = torch.cat([token.tau_table[[1, 2]], token.d_table[[2, 1]]], dim=-1)
    assert torch.equal(token(tau, d)[0], expected)


def test_bad_labels_are_refused_with_a_clear_message():
    with pytest.raises(ValueError, match="width must be even, one half for τ and one for d; got 5"):
        LabelToken(5, 4)
    with pytest.raises(ValueError, match=r"d must have shape \(B, T\) = \(2, 3\); got \(2,\)"):
        LabelToken(4, 4)(torch.zeros(2, 3), torch.zeros(2))
