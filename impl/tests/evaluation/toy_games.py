"""A game of five steps, and models whose predicted rewards and policy are known."""

import numpy as np
import torch

from dreamer4_impl.data.game import Step
from dreamer4_impl.layers.actions import Categorical


class CountingGame:
    """Game of five steps that rewards action 1 with 1."""

    def __init__(self, task, view, *, truncated=False):
        self.component, self.steps, self.truncated = Categorical("move", 3), 0, truncated

    def reset(self, seed):
        self.steps = 0
        return np.zeros((16, 16, 1), np.uint8)

    def step(self, action):
        self.steps += 1
        over = self.steps == 5
        return Step(np.zeros((16, 16, 1), np.uint8), float(action == 1), over > self.truncated, over and self.truncated)

    def close(self):
        pass


class UnevenGame(CountingGame):
    """Game of random frames that show the action, which ends after 2 steps with seed 0, 3 with seed 1, and so on."""

    def reset(self, seed):
        self.steps, self.length, self.generator = 0, 2 + seed, np.random.default_rng(seed)
        return self._frame(0)

    def step(self, action):
        self.steps += 1
        return Step(self._frame(action), 0.0, self.steps == self.length, False)

    def _frame(self, action):
        frame = self.generator.integers(256, size=(16, 16, 1), dtype=np.uint8)
        frame[:8] = 100 * action
        return frame


def with_rewards(model, constant):
    """Make the reward head predict a constant for every input."""
    head = model.agent.reward
    with torch.no_grad():
        logits = head.twohot.encode(torch.tensor(float(constant))).clamp(min=1e-9).log()
        head.head.read.bias.copy_(logits.repeat(head.head.distances))
    return model


def with_action(model, action):
    """Make the policy take the same action always."""
    with torch.no_grad():
        model.agent.policy.head.read.bias[action] += 30
    return model
