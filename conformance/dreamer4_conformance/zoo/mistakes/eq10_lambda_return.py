"""Mistakes in Eq. (10): λ-returns and the loss of the value head."""

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
RETURNS = ("lambda_returns", "advantages")


@mistake("value-printed-silently", clause="eq10.value", operations=RETURNS, levels=SIGNAL)
class PrintedSilently(TextbookEquations):
    """The mixture uses v_t as printed, without declaring reading A13."""

    def mixed_value(self, value: Tensor) -> Tensor:
        return value[:, :-1]


@mistake("value-horizon-one", clause="eq10.value", operations=RETURNS, levels=SIGNAL)
class HorizonOne(TextbookEquations):
    """Returns raise an error at horizon 1."""

    def finished_returns(self, returns: Tensor) -> Tensor:
        if returns.shape[1] < 2:
            raise IndexError("index -2 is out of bounds")
        return returns


@mistake("value-last-dropped", clause="eq10.limits", operations=RETURNS, levels=SIGNAL)
class LastDropped(TextbookEquations):
    """The recursion starts from 0 instead of from the last value."""

    def last_return(self, value: Tensor) -> Tensor:
        return torch.zeros_like(value[:, -1])


@mistake("value-lambda-swapped", clause="eq10.limits", operations=RETURNS, levels=SIGNAL)
class LambdaSwapped(TextbookEquations):
    """λ multiplies the value and 1 − λ the return."""

    def return_step(self, reward: Tensor, discount: Tensor, value: Tensor, following: Tensor, lam: float) -> Tensor:
        return super().return_step(reward, discount, value, following, 1 - lam)


@mistake("value-lambda-fixed", clause="eq10.limits", operations=RETURNS, levels=SIGNAL)
class LambdaFixed(TextbookEquations):
    """λ is always 0.95, whatever is passed."""

    def return_step(self, reward: Tensor, discount: Tensor, value: Tensor, following: Tensor, lam: float) -> Tensor:
        return super().return_step(reward, discount, value, following, 0.95)


@mistake("value-continue-missing", clause="eq10.terminal", operations=RETURNS, levels=SIGNAL)
class ContinueMissing(TextbookEquations):
    """c_t is left out, so episodes never end."""

    def continuation(self, cont: Tensor) -> Tensor:
        return torch.ones_like(cont)


@mistake("value-terminal-reward-lost", clause="eq10.terminal", operations=RETURNS, levels=SIGNAL)
class TerminalRewardLost(TextbookEquations):
    """c_t multiplies the reward too, so the last reward of an episode is lost."""

    def lambda_returns(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        return super().lambda_returns(reward * self.continuation(cont), value, cont, gamma, lam)


@mistake("value-terminal-early", clause="eq10.terminal", operations=RETURNS, levels=SIGNAL)
class TerminalEarly(TextbookEquations):
    """The end of an episode also cuts off the previous step."""

    def continuation(self, cont: Tensor) -> Tensor:
        return cont * torch.cat([cont[:, 1:], torch.ones_like(cont[:, :1])], 1)


@mistake("value-returns-clipped", clause="eq10.linear", operations=RETURNS, levels=SIGNAL)
class ReturnsClipped(TextbookEquations):
    """Returns are clipped to ±20."""

    def finished_returns(self, returns: Tensor) -> Tensor:
        return returns.clamp(-20, 20)


@mistake("value-returns-normalised", clause="eq10.linear", operations=RETURNS, levels=SIGNAL)
class ReturnsNormalised(TextbookEquations):
    """Returns are divided by their range where that exceeds 1."""

    def finished_returns(self, returns: Tensor) -> Tensor:
        return returns / (returns.max() - returns.min()).clamp(min=1)


@mistake("value-target-attached", clause="eq10.loss", operations=("value_loss",), levels=SIGNAL)
class TargetAttached(TextbookEquations):
    """The return is not detached in the value loss."""

    def value_target(self, returns: Tensor) -> Tensor:
        return self.twohot_encode(returns)


@mistake("value-loss-summed", clause="eq10.loss", operations=("value_loss",), levels=SIGNAL)
class LossSummed(TextbookEquations):
    """The loss is the sum over the states instead of their mean."""

    def value_loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        return super().value_loss(logits, returns) * len(returns)


@mistake("value-loss-squared", clause="eq10.loss", operations=("value_loss",), levels=SIGNAL)
class LossSquared(TextbookEquations):
    """The loss is the squared error of the decoded value instead of the cross-entropy."""

    def value_loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        return (self.twohot_decode(logits) - returns.detach()).square().mean()
