"""Checks of Eq. (8): the ramp weight."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from dreamer4_conformance.check import Trial, check
from dreamer4_conformance.diagnosis import signature
from dreamer4_conformance.strategies import levels
from dreamer4_conformance.subject import Subject
from dreamer4_reference.eq08_ramp_weight import ramp_weight


@check("eq08.value", needs=("ramp_weight",))
def weight_is_the_ramp(subject: Subject, trial: Trial) -> None:
    """Terms: 0.9 τ + 0.1, each rounded once; in noise levels 1 − τ is exact on multiples of 1/256."""

    @trial.examples
    @given(levels())
    def holds(tau: np.ndarray) -> None:
        got, expected = subject.ramp_weight(tau), ramp_weight(tau)
        call = f"ramp_weight({subject.level(tau).tolist()})"
        trial.compare("w", got, expected, terms=np.ones_like(tau), k=4, eps=subject.eps, call=call)

    holds()


@signature("ramp_weight")
def weight_along_the_levels(subject: Subject) -> np.ndarray:
    """w at five levels."""
    return subject.ramp_weight(np.linspace(0.0, 1.0, 5))
