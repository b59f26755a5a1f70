"""`randomised` fills every parameter of a model, whatever it was, the same on every call."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dreamer4_conformance import randomised


class Gated(nn.Module):
    """Zero-initialised gate, output projection and tokens next to ordinary layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm, self.out = nn.Embedding(5, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.gate, self.tokens = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(1, 3, 8))
        nn.init.zeros_(self.out.weight)

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.embedding(index), self.tokens.expand(len(index), -1, -1)], 1)
        return x + self.gate * self.out(self.norm(x))


def test_no_parameter_stays_zero_or_one() -> None:
    model = randomised(Gated())
    for name, parameter in model.named_parameters():
        assert bool((parameter != 0).all() & (parameter != 1).all()), name
    assert not model.training


def test_values_depend_on_the_seed_alone() -> None:
    index, models = torch.arange(5)[None], [Gated() for _ in range(3)]
    state = torch.random.get_rng_state()
    first, second, third = (randomised(model, seed)(index) for model, seed in zip(models, (0, 0, 1), strict=True))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, third)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_outputs_stay_of_order_one_through_many_layers() -> None:
    deep = randomised(nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)) for _ in range(20))))
    assert 0.2 < float(deep(torch.randn(100, 64, generator=torch.Generator().manual_seed(0))).detach().std()) < 5


def test_dtype_and_gradients_are_kept() -> None:
    model = nn.Linear(2, 2).double().requires_grad_(False)
    assert randomised(model).weight.dtype == torch.float64
    assert not model.weight.requires_grad


def test_unusable_modules_are_refused() -> None:
    with pytest.raises(TypeError, match="module is list"):
        randomised([nn.Linear(1, 1)])  # type: ignore[type-var]
    with pytest.raises(ValueError, match="weight has no shape yet"):
        randomised(nn.LazyLinear(3))
