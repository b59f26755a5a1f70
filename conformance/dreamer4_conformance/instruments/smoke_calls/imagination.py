"""Smoke calls of returns, advantages and the losses of imagination training."""

from __future__ import annotations

from typing import Any

import numpy as np

from dreamer4_conformance.instruments.heads import prior_components
from dreamer4_conformance.instruments.imagination import imagined_trajectory
from dreamer4_conformance.instruments.smoke_calls.case import CLASSES, SmokeCall, SmokeCase, computes
from dreamer4_conformance.instruments.smoke_calls.heads import number_of_bins


def _imagined(case: SmokeCase) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    shape = (case.batch, case.time)
    values = case.time + (case.subject.readings["A14"] == "v")
    return case.normal(*shape), case.normal(case.batch, values), np.ones(shape), 0.997, 0.95


ADVANTAGE = np.array([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])


def _policy_inputs(case: SmokeCase) -> tuple[Any, ...]:
    logits, prior = case.normal(6, CLASSES), case.normal(CLASSES, 6).T.copy()
    return logits, prior, np.arange(6) % CLASSES, ADVANTAGE, 0.5, 0.3


def _factored_policy_inputs(case: SmokeCase) -> tuple[Any, ...]:
    logits, prior = ([case.normal(6, width) + shift for width in (3, 2)] for shift in (0.0, 0.5))
    return logits, prior, np.arange(12).reshape(6, 2) % 2, ADVANTAGE, 0.5, 0.3


CALLS: dict[str, SmokeCall] = {
    "lambda_returns": computes("lambda_returns", _imagined),
    "advantages": computes("advantages", _imagined),
    "value_loss": computes(
        "value_loss", lambda case: (case.normal(3, number_of_bins(case)), np.array([-0.5, 0.25, 0.5])), scalar=True
    ),
    "policy_loss": computes("policy_loss", _policy_inputs, scalar=True),
    "policy_loss_factored": computes("policy_loss_factored", _factored_policy_inputs, scalar=True),
    "prior_start": lambda case: prior_components(case.subject, 0),
    "imagined_trajectory": lambda case: imagined_trajectory(case.subject, 0),
}
