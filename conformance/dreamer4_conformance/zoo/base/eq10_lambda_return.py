"""Eq. (10) in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Returns:
    """λ-returns, advantages and the loss of the value head. `follows` holds the option of every reading."""

    follows: dict[str, str]
    twohot_encode: Callable[[Tensor], Tensor]

    def lambda_returns(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        """The recursion, backwards from R_H = v_H."""
        value = self.with_bootstrap(value, reward.shape[1])
        mixed, discount = self.mixed_value(value), gamma * self.continuation(cont)
        rows, following = [], self.last_return(value)
        for t in reversed(range(reward.shape[1])):
            following = self.return_step(reward[:, t], discount[:, t], mixed[:, t], following, lam)
            rows.append(following)
        return self.finished_returns(torch.stack(rows[::-1], 1))

    def with_bootstrap(self, value: Tensor, horizon: int) -> Tensor:
        """H + 1 values; under A14 "reward" the last one is repeated, which gives r + γ c v as the last row."""
        return (
            value if self.follows["A14"] == "v" else torch.cat([value[:, :horizon], value[:, horizon - 1 : horizon]], 1)
        )

    def mixed_value(self, value: Tensor) -> Tensor:
        """v_{t+1}, or v_t as printed (A13)."""
        return value[:, 1:] if self.follows["A13"] == "v_next" else value[:, :-1]

    def continuation(self, cont: Tensor) -> Tensor:
        """c_t, or c_{t+1} with 1 past the end (A15)."""
        return cont if self.follows["A15"] == "t" else torch.cat([cont[:, 1:], torch.ones_like(cont[:, :1])], 1)

    def last_return(self, value: Tensor) -> Tensor:
        return value[:, -1]

    def return_step(self, reward: Tensor, discount: Tensor, value: Tensor, following: Tensor, lam: float) -> Tensor:
        """r + γ c ((1 − λ) v + λ R)."""
        return reward + discount * ((1 - lam) * value + lam * following)

    def finished_returns(self, returns: Tensor) -> Tensor:
        """Returns as they are, without clipping or scaling."""
        return returns

    def advantages(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        """A_t = R_t − v_t."""
        returns = self.lambda_returns(reward, value, cont, gamma, lam)
        return returns - self.baseline(self.with_bootstrap(value, reward.shape[1]))

    def baseline(self, value: Tensor) -> Tensor:
        return value[:, :-1]

    def value_loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        """− ln p(R): cross-entropy against the two-hot return."""
        target = self.value_target(returns)
        return -(target * logits.to(target.dtype).log_softmax(1)).sum(1).mean()

    def value_target(self, returns: Tensor) -> Tensor:
        """Two-hot encoding of the return, detached."""
        return self.twohot_encode(returns.detach())
