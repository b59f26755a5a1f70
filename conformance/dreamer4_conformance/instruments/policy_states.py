"""Arguments of the policy losses, and bounds of the rounding errors of their terms. Eq. (11)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_reference.eq11_pmpo import log_prob_weight
from dreamer4_reference.twohot import log_softmax, softmax

Logits = np.ndarray | list[np.ndarray]


@dataclass(frozen=True)
class States:
    """Arguments of `policy_loss`: logits, prior (N, A), action (N,), advantage (N,).

    Or of `policy_loss_factored`: lists of F logits and priors, action (N, F).
    """

    logits: Logits
    prior: Logits
    action: np.ndarray
    advantage: np.ndarray
    alpha: float
    beta: float

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Positional arguments of the operation."""
        return self.logits, self.prior, self.action, self.advantage, self.alpha, self.beta

    @property
    def components(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Logits and prior logits of each action component."""
        if isinstance(self.logits, list):
            return list(zip(self.logits, self.prior, strict=True))
        return [(self.logits, np.asarray(self.prior))]

    def rows(self, index: np.ndarray) -> States:
        """Select states by `index`, for a single action component."""
        logits, prior = np.asarray(self.logits)[index], np.asarray(self.prior)[index]
        return replace(self, logits=logits, prior=prior, action=self.action[index], advantage=self.advantage[index])

    def __str__(self) -> str:
        """Format the arguments for the call in a report."""
        tail = f"{self.advantage.tolist()}, {self.alpha}, {self.beta}"
        shapes = ", ".join(str(logits.shape) for logits, _ in self.components)
        return f"logits, prior_logits of {shapes}, {self.action.tolist()}, {tail}"


def loss(subject: Subject, case: States) -> float:
    """The loss that the operation returns."""
    name = "policy_loss_factored" if isinstance(case.logits, list) else "policy_loss"
    return float(subject.compute(name, *case.arguments, shape=()))


def log_prob_rounding(logits: np.ndarray) -> np.ndarray:
    """Rounding of ln π, in eps: the logits and the logarithm of their sum."""
    return np.asarray(1 + np.abs(logits).max(-1) + np.abs(log_softmax(logits)).max(-1))


def terms(case: States) -> float:
    """Sum of the absolute values of the three terms, each times the rounding of its ln π."""
    total = 0.0
    for logits, prior in case.components:
        log_ratio = np.abs(log_softmax(logits) - log_softmax(prior))
        divergence = (softmax(logits) * (1 + log_ratio)).sum(1) * (log_prob_rounding(logits) + log_prob_rounding(prior))
        total += (np.abs(log_prob_weight(case.advantage, case.alpha)) * log_prob_rounding(logits)).sum()
        total += case.beta * divergence.mean()
    return float(total)


def gradient_terms(case: States) -> np.ndarray:
    """Rounding of the gradient with respect to the logits, (N, A), for a single action component."""
    ((logits, prior),) = case.components
    pi, log_ratio = softmax(logits), np.abs(log_softmax(logits) - log_softmax(prior))
    likelihood = np.abs(log_prob_weight(case.advantage, case.alpha))[:, None] * (np.eye(pi.shape[1])[case.action] + pi)
    mean_ratio = (pi * log_ratio).sum(1, keepdims=True)
    divergence = pi * (1 + log_ratio + mean_ratio) * (log_prob_rounding(logits) + log_prob_rounding(prior))[:, None]
    return np.asarray(likelihood * log_prob_rounding(logits)[:, None] + case.beta / len(pi) * divergence)
