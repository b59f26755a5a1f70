"""Eq. (5): tokenizer loss."""

import pytest
import torch

from dreamer4_impl.equations.eq05_tokenizer_loss import tokenizer_loss


def test_perceptual_term_enters_the_tokenizer_loss_at_one_fifth():
    mse, lpips = torch.tensor(3.0, requires_grad=True), torch.tensor(5.0, requires_grad=True)
    loss = tokenizer_loss(mse, lpips)
    loss.backward()
    assert loss == 4.0
    assert (mse.grad.item(), lpips.grad.item()) == (1.0, pytest.approx(0.2))


def test_terms_of_different_shapes_raise():
    with pytest.raises(ValueError, match=r"lpips must have shape of mse = \(\); got \(2,\)"):
        tokenizer_loss(torch.tensor(1.0), torch.ones(2))
