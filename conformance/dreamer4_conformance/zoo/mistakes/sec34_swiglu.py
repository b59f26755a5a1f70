"""Mistakes in SwiGLU (Sec. 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)


@mistake("swiglu-exchanged", clause="net.swiglu", operations=("swiglu",), levels=SIGNAL)
class GateAndUpExchanged(TextbookModel):
    """silu is applied to x W_up instead of to x W_gate."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return super().gated(up, gate)


@mistake("swiglu-gelu", clause="net.swiglu", operations=("swiglu",), levels=SIGNAL)
class Gelu(TextbookModel):
    """The gate uses gelu instead of silu."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return torch.nn.functional.gelu(gate) * up


@mistake("swiglu-sigmoid", clause="net.swiglu", operations=("swiglu",), levels=SIGNAL)
class Sigmoid(TextbookModel):
    """The gate uses a sigmoid instead of silu, as in a plain GLU."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return gate.sigmoid() * up


@mistake("swiglu-ungated", clause="net.swiglu", operations=("swiglu",), levels=SIGNAL)
class Ungated(TextbookModel):
    """silu is applied to the product of both projections instead of to the gate."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return torch.nn.functional.silu(gate * up)
