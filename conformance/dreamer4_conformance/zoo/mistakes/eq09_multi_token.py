"""Mistakes in Eq. (9): multi-token prediction."""

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)


@mistake("mtp-off-by-one", clause="eq09.offsets", operations=("mtp_targets", "mtp_loss_of"), levels=SIGNAL)
class OffByOne(TextbookEquations):
    """The head at distance n is trained on the target at t + n + 1."""

    def distances(self, length: int, *, rewards: bool = False) -> Tensor:
        return super().distances(length, rewards=rewards) + 1


@mistake("mtp-behind", clause="eq09.offsets", operations=("mtp_targets", "mtp_loss_of"), levels=SIGNAL)
class Behind(TextbookEquations):
    """The head at distance n is trained on the target at t + n − 1."""

    def target_index(self, index: Tensor, time: int) -> Tensor:
        return super().target_index(index - 1, time).clamp(min=0)


@mistake("mtp-wraps", clause="eq09.offsets", operations=("mtp_targets", "mtp_loss_of"), levels=SIGNAL)
class Wraps(TextbookEquations):
    """Targets past the end are taken from the start of the sequence and counted as valid."""

    def target_index(self, index: Tensor, time: int) -> Tensor:
        return index % time

    def target_exists(self, index: Tensor, time: int) -> Tensor:
        return torch.ones_like(index, dtype=torch.bool)


@mistake("mtp-repeats-last", clause="eq09.offsets", operations=("mtp_targets", "mtp_loss_of"), levels=SIGNAL)
class RepeatsLast(TextbookEquations):
    """Targets past the end repeat the last one and are counted as valid."""

    def target_exists(self, index: Tensor, time: int) -> Tensor:
        return torch.ones_like(index, dtype=torch.bool)


@mistake("mtp-sign", clause="eq09.sum", operations=("mtp_loss", "mtp_loss_of"), levels=SIGNAL)
class Sign(TextbookEquations):
    """The sign of the loss is inverted: the log-likelihood is minimised."""

    def over_distances(self, total: Tensor, count: Tensor) -> Tensor:
        return -super().over_distances(total, count)


@mistake("mtp-pooled", clause="eq09.sum", operations=("mtp_loss", "mtp_loss_of"), levels=SIGNAL)
class Pooled(TextbookEquations):
    """One mean over all valid entries instead of a mean for each distance."""

    def over_distances(self, total: Tensor, count: Tensor) -> Tensor:
        return total.sum() / count.sum()


@mistake("mtp-past-end-counted", clause="eq09.past-end", operations=("mtp_loss", "mtp_loss_of"), levels=SIGNAL)
class PastEndCounted(TextbookEquations):
    """Entries past the end are included in the sum."""

    def valid_log_prob(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        return log_prob
