"""Mistakes in symexp two-hot."""

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.base.twohot import symlog
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)


@mistake("twohot-constant", clause="twohot.round-trip", operations=("twohot_decode",), levels=SIGNAL)
class Constant(TextbookEquations):
    """All logits decode to the same value."""

    def bin_probabilities(self, logits: Tensor) -> Tensor:
        return torch.full_like(logits, 1 / logits.shape[1])


@mistake("twohot-mixed-space", clause="twohot.round-trip", operations=("twohot_encode", "value_loss"), levels=SIGNAL)
class MixedSpace(TextbookEquations):
    """Values are encoded in symlog space and decoded in raw space."""

    def encoding_space(self, x: Tensor) -> tuple[Tensor, Tensor]:
        points = self.symlog_points()
        return points, self.within_bins(symlog(x), points)


@mistake("twohot-nearest", clause="twohot.round-trip", operations=("twohot_encode", "value_loss"), levels=SIGNAL)
class Nearest(TextbookEquations):
    """One-hot encoding: the nearest bin gets all the mass."""

    def upper_weight(self, below: Tensor, x: Tensor, above: Tensor) -> Tensor:
        return super().upper_weight(below, x, above).round()


@mistake(
    "twohot-weights-swapped", clause="twohot.round-trip", operations=("twohot_encode", "value_loss"), levels=SIGNAL
)
class WeightsSwapped(TextbookEquations):
    """The two weights are swapped: the nearer bin gets the smaller one."""

    def upper_weight(self, below: Tensor, x: Tensor, above: Tensor) -> Tensor:
        return 1 - super().upper_weight(below, x, above)


@mistake("twohot-unlimited", clause="twohot.encode", operations=("twohot_encode",), levels=SIGNAL)
class Unlimited(TextbookEquations):
    """Values beyond the edges are not clipped: one weight exceeds 1 and the other is negative."""

    def within_bins(self, x: Tensor, points: Tensor) -> Tensor:
        return x


@mistake("twohot-smoothed", clause="twohot.encode", operations=("twohot_encode", "value_loss"), levels=SIGNAL)
class Smoothed(TextbookEquations):
    """A hundredth of the mass is spread over all bins."""

    def twohot_encode(self, x: Tensor) -> Tensor:
        p = super().twohot_encode(x)
        return 0.99 * p + 0.01 / p.shape[1]


@mistake("twohot-mode", clause="twohot.mean", operations=("twohot_decode",), levels=SIGNAL)
class Mode(TextbookEquations):
    """Decodes to the most likely bin instead of the mean."""

    def bin_probabilities(self, logits: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)


@mistake("twohot-edge-left-out", clause="twohot.centre", operations=("twohot_decode",), levels=SIGNAL)
class EdgeLeftOut(TextbookEquations):
    """The mean leaves out the last bin."""

    def bin_probabilities(self, logits: Tensor) -> Tensor:
        p = super().bin_probabilities(logits)
        return torch.cat([p[:, :-1], torch.zeros_like(p[:, -1:])], 1)
