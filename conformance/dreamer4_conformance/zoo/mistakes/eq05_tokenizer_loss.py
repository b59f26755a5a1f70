"""Mistakes in Eq. (5): the tokenizer's loss."""

from __future__ import annotations

from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import mistake


@mistake("lpips-weight", clause="eq05.combination", operations=("tokenizer_loss",))
class LpipsWeight(TextbookEquations):
    """LPIPS is weighted by 0.1 instead of 0.2."""

    lpips_weight = 0.1


@mistake("lpips-unweighted", clause="eq05.combination", operations=("tokenizer_loss",))
class LpipsUnweighted(TextbookEquations):
    """LPIPS is added with weight 1."""

    lpips_weight = 1.0


@mistake("lpips-detached", clause="eq05.combination", operations=("tokenizer_loss",))
class LpipsDetached(TextbookEquations):
    """LPIPS is shown in the loss and trains nothing: it is computed without gradient."""

    def tokenizer_loss(self, mse: Tensor, lpips: Tensor) -> Tensor:
        return super().tokenizer_loss(mse, lpips.detach())


@mistake("tokenizer-mean", clause="eq05.combination", operations=("tokenizer_loss",))
class TokenizerMean(TextbookEquations):
    """The weighted mean of the two terms instead of their weighted sum."""

    def tokenizer_loss(self, mse: Tensor, lpips: Tensor) -> Tensor:
        return super().tokenizer_loss(mse, lpips) / (1 + self.lpips_weight)
