"""Equivalent ways to compute Eq. (10)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("returns-td-errors")
class TdErrors(TorchAdapter):
    """TD(λ): the value plus the discounted sum of TD errors; the advantage is that sum."""

    def lambda_returns(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        return value[:, :-1] + self.advantages(reward, value, cont, gamma, lam)

    def advantages(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        delta = reward + gamma * cont * value[:, 1:] - value[:, :-1]
        advantage, total = torch.empty_like(delta), torch.zeros_like(delta[:, 0])
        for t in range(delta.shape[1] - 1, -1, -1):
            total = delta[:, t] + gamma * lam * cont[:, t] * total
            advantage[:, t] = total
        return advantage


@equivalent("returns-mixture")
class MixtureOfSums(Adapter):
    """NumPy; explicit mixture of n-step returns, the last with the weight of all longer ones."""

    def lambda_returns(
        self, reward: np.ndarray, value: np.ndarray, cont: np.ndarray, gamma: float, lam: float
    ) -> np.ndarray:
        horizon, returns = reward.shape[1], np.zeros_like(reward)
        for t in range(horizon):
            total, discount = np.zeros_like(reward[:, 0]), np.ones_like(reward[:, 0])
            for n in range(1, horizon - t + 1):
                total = total + discount * reward[:, t + n - 1]
                discount = discount * gamma * cont[:, t + n - 1]
                weight = lam ** (n - 1) * ((1 - lam) if t + n < horizon else 1.0)
                returns[:, t] += weight * (total + discount * value[:, t + n])
        return returns

    def advantages(
        self, reward: np.ndarray, value: np.ndarray, cont: np.ndarray, gamma: float, lam: float
    ) -> np.ndarray:
        return np.asarray(self.lambda_returns(reward, value, cont, gamma, lam) - value[:, :-1])


@equivalent("returns-matrix")
class LinearSystem(TorchAdapter):
    """The recursion as a triangular system of equations for all R_t at once, in double precision."""

    def lambda_returns(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        discount, wide = gamma * cont.double(), value.double()
        right = reward.double() + (1 - lam) * discount * wide[:, 1:]
        right[:, -1] += lam * discount[:, -1] * wide[:, -1]
        system = torch.eye(reward.shape[1], dtype=torch.float64) - torch.diag_embed(lam * discount[:, :-1], offset=1)
        returns: Tensor = torch.linalg.solve_triangular(system, right[..., None], upper=True)[..., 0]
        return returns.to(reward.dtype)


@equivalent("returns-as-printed")
class AsPrinted(TorchAdapter):
    """v_t in the mixture, c_{t+1} next to r_t, last row r + γ c v from H values: all readings of Eq. (10), declared."""

    readings = {"A13": "v_same", "A14": "reward", "A15": "next"}  # noqa: RUF012

    def lambda_returns(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        discount = gamma * torch.nn.functional.pad(cont[:, 1:], (0, 1), value=1.0)
        rows = [value[:, -1] * discount[:, -1] + reward[:, -1]]
        for t in range(reward.shape[1] - 2, -1, -1):
            rows.insert(0, torch.lerp(value[:, t], rows[0], lam) * discount[:, t] + reward[:, t])
        return torch.stack(rows, 1)


@equivalent("returns-last-reward")
class LastReward(Adapter):
    """NumPy; H values for H rewards (A14, declared): the last return is r + γ c v of its own step; loops over rows."""

    readings = {"A14": "reward"}  # noqa: RUF012

    def lambda_returns(
        self, reward: np.ndarray, value: np.ndarray, cont: np.ndarray, gamma: float, lam: float
    ) -> np.ndarray:
        returns = reward + gamma * cont * value
        for row in range(len(reward)):
            for t in range(reward.shape[1] - 2, -1, -1):
                ahead = value[row, t + 1] + lam * (returns[row, t + 1] - value[row, t + 1])
                returns[row, t] = reward[row, t] + gamma * cont[row, t] * ahead
        return returns

    def advantages(
        self, reward: np.ndarray, value: np.ndarray, cont: np.ndarray, gamma: float, lam: float
    ) -> np.ndarray:
        return self.lambda_returns(reward, value, cont, gamma, lam) - value


@equivalent("returns-reversed-scan")
class ReversedScan(TorchAdapter):
    """Time first and reversed, one scan over stacked values; the advantage from a recursion of its own."""

    def lambda_returns(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        steps = torch.stack([reward.T, gamma * cont.T, value[:, 1:].T], 1).flip(0)
        carried, rows = value.T[-1], []
        for r, discount, following in steps:
            carried = r + discount * (following - lam * following + lam * carried)
            rows.append(carried)
        return torch.stack(rows).flip(0).T

    def advantages(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        rows, carried = [], torch.zeros_like(value[:, -1])
        for t in reversed(range(reward.shape[1])):
            error = reward[:, t] + gamma * cont[:, t] * value[:, t + 1] - value[:, t]
            carried = error + gamma * lam * cont[:, t] * carried
            rows.append(carried)
        return torch.stack(rows[::-1], 1)
