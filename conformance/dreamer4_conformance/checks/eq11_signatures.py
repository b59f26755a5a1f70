"""Signatures of Eq. (11): the policy losses of five states, and the prior of the first update."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from dreamer4_conformance.instruments.gradients import operation_gradients
from dreamer4_conformance.instruments.heads import prior_components
from dreamer4_conformance.instruments.policy_states import States, loss
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_reference.twohot import log_softmax


def _fixed(advantage: tuple[float, ...]) -> States:
    """Five states on which mistakes differ."""
    angle = np.arange(15.0).reshape(5, 3)
    logits, prior = np.round(2 * np.cos(angle) * 64) / 64, np.round(2 * np.sin(3 * angle) * 64) / 64
    return States(logits, prior, np.array([0, 2, 1, 1, 0]), np.array(advantage), 0.25, 0.5)


SIGNS = ((1.0, -2.0, 0.5, 3.0, -0.25), (0.0, -2.0, 0.0, 3.0, -0.25), (1.0,) * 5, (-1.0,) * 5)
"""Advantages of both signs, with zeros, all positive, all negative."""


@signature("policy_loss")
def signature_loss_of_five_states(subject: Subject) -> np.ndarray:
    """The loss at `SIGNS`; its gradient for policy and prior, and for the policy if a set is empty."""

    def value(signs: tuple[float, ...]) -> np.ndarray:
        return np.array(loss(subject, _fixed(signs)))

    def gradient(argument: int, signs: tuple[float, ...]) -> np.ndarray:
        return operation_gradients(subject, "policy_loss", (argument,), *_fixed(signs).arguments)[0]

    values = [attempt(partial(value, signs), 1) for signs in SIGNS]
    gradients = [attempt(partial(gradient, *case), 15) for case in ((0, SIGNS[0]), (1, SIGNS[0]), (0, SIGNS[2]))]
    return np.concatenate([*values, *gradients])


@signature("policy_loss_factored")
def signature_loss_of_two_components(subject: Subject) -> np.ndarray:
    """The loss of two components at `SIGNS`."""

    def probe(signs: tuple[float, ...]) -> np.ndarray:
        single = _fixed(signs)
        logits, prior = np.asarray(single.logits), np.asarray(single.prior)
        action = np.stack([single.action, np.array([1, 0, 0, 1, 1])], axis=1)
        factored = replace(single, logits=[logits, 2 * logits[::-1, :2]], prior=[prior, prior[::-1, 1:]], action=action)
        return np.array(loss(subject, factored))

    return np.concatenate([attempt(partial(probe, signs), 1) for signs in SIGNS])


@signature("prior_start")
def signature_how_the_prior_starts_and_moves(subject: Subject) -> np.ndarray:
    """Whether the prior starts as the policy, stays the same, and follows the policy: first and last component."""

    def probe() -> np.ndarray:
        rows = []
        components = prior_components(subject, 0)
        for before, prior, after, prior_after in (components[0], components[-1]):
            start = np.allclose(log_softmax(before), log_softmax(prior), rtol=0.02, atol=0.02)
            rows.append([start, np.array_equal(prior, prior_after), np.array_equal(after, prior_after)])
        return np.array(rows, np.float64)

    return attempt(probe, 6)
