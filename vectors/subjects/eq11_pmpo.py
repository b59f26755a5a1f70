"""Vectors of Eq. (11): PMPO for one action component and for several, with its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from dreamer4_conformance.checks.eq11_pmpo import K
from dreamer4_conformance.instruments.policy_states import States, gradient_terms, terms
from dreamer4_reference.constants import ALPHA, BETA
from dreamer4_reference.eq11_pmpo import policy_loss, policy_loss_factored, policy_loss_gradient
from vectors.vector import Vector, choose, draw, exact, float32, within

NAMES = ("logits", "prior_logits", "action", "advantage", "alpha", "beta")
SIGNS = (1.0, -2.0, 0.5, 3.0, -0.25)


def _states(advantage: tuple[float, ...], alpha: float = 0.25, beta: float = 0.5) -> States:
    count = len(advantage)
    logits, prior = (draw(seed, count, 3) for seed in (1, 2))
    return States(logits, prior, choose(3, 3, count), np.array(advantage), alpha, beta)


def _inputs_and_flags(case: States) -> tuple[dict[str, Any], tuple[str, ...]]:
    tests = {
        "empty_set": len(set((case.advantage >= 0).tolist())) == 1,
        "zero_advantage": bool((case.advantage == 0).any()),
        "batch_one": len(case.action) == 1,
    }
    return dict(zip(NAMES, case.arguments, strict=True)), tuple(name for name, holds in tests.items() if holds)


def _loss(name: str, clause: str, case: States) -> Vector:
    # The check of eq11.empty-set has twice the terms of the others.
    factor = 2 if clause == "eq11.empty-set" else 1
    outputs = {
        "result": within(policy_loss(*case.arguments), factor * terms(case), K),
        "gradient.logits": within(policy_loss_gradient(*case.arguments), gradient_terms(case), 2 * K),
        "gradient.prior_logits": exact(np.zeros_like(np.asarray(case.prior))),
    }
    inputs, flags = _inputs_and_flags(case)
    return Vector(name, "policy_loss", clause, inputs, outputs, flags)


def _factored(name: str, advantage: tuple[float, ...], *sizes: int) -> Vector:
    count = len(advantage)
    logits, prior = ([draw(seed + f, count, size) for f, size in enumerate(sizes)] for seed in (10, 20))
    action = np.stack([choose(30 + f, size, count) for f, size in enumerate(sizes)], 1)
    case = States(logits, prior, action, np.array(advantage), 0.25, 0.5)
    outputs = {"result": within(policy_loss_factored(*case.arguments), terms(case), K)}
    inputs, flags = _inputs_and_flags(case)
    return Vector(name, "policy_loss_factored", "eq11.factored", inputs, outputs, flags)


def vectors() -> Iterator[Vector]:
    """Both sets, one of them empty, an advantage of 0, both ends of α, with and without the prior term."""
    case = _states(SIGNS)
    yield _loss("both-sets", "eq11.value", case)
    alpha, beta = (float(x) for x in float32(np.array([ALPHA, BETA])))
    yield _loss("papers-weights", "eq11.value", replace(case, alpha=alpha, beta=beta))
    yield _loss("alpha-zero", "eq11.value", replace(case, alpha=0.0, beta=0.0))
    yield _loss("alpha-one", "eq11.value", replace(case, alpha=1.0, beta=0.0))
    yield _loss("gradient", "eq11.gradient", _states((-1.0, 2.0, -0.5, -4.0), alpha=0.75, beta=2.0))
    sizes = tuple(x * 2.0**power for x, power in zip(SIGNS, (-30, 8, 3, -12, 10), strict=True))
    yield _loss("other-sizes", "eq11.sign-only", _states(sizes))
    yield _loss("repeated-set", "eq11.per-set-mean", case.rows(np.array([0, 1, 1, 1, 2, 3, 4, 4, 4])))
    yield _loss("zeros", "eq11.zero-advantage", _states((0.0, -2.0, 0.0, 3.0, -0.25), beta=0.0))
    yield _loss("prior-term", "eq11.kl-direction", replace(_states(SIGNS, beta=1.0), prior=3 * np.asarray(case.prior)))
    yield _loss("no-negative", "eq11.empty-set", _states((1.0, 2.0, 0.5)))
    yield _loss("no-positive", "eq11.empty-set", _states((-1.0, -2.0, -0.5)))
    yield _loss("one-state", "eq11.empty-set", _states((-1.0,), beta=0.0))
    yield _factored("two-components", SIGNS, 3, 2)
    yield _factored("three-components", (1.0, -1.0, 0.0), 2, 4, 3)
    yield _factored("one-component", (1.0, -2.0), 3)
    yield _factored("no-negative", (1.0, 0.5), 2, 2)
