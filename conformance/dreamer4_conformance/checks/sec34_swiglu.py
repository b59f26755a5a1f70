"""Checks of `swiglu` against its formula, Sec. 3.4."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.inputs import fixed_values
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_reference.sec34_swiglu import silu, swiglu

K = 4


def _swiglu_inputs(subject: Subject, seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    width, hidden = rng.integers(1, 9, 2)
    shape = (*rng.integers(1, 4, rng.integers(0, 3)), width)
    weights = [(width, hidden), (width, hidden), (hidden, width)]
    return tuple(subject.round(rng.standard_normal(axes)) for axes in (shape, *weights))


def output_terms(x: np.ndarray, w_gate: np.ndarray, w_up: np.ndarray, w_down: np.ndarray) -> np.ndarray:
    """Terms of both products, propagated through silu (slope at most 1.1), the gate and W_down, shaped like x."""
    gate, up = silu(x @ w_gate), x @ w_up
    gate_terms, up_terms = (np.abs(x) @ np.abs(w) for w in (w_gate, w_up))
    hidden_terms = (1.1 * gate_terms + np.abs(gate)) * np.abs(up) + np.abs(gate) * up_terms
    return np.asarray(hidden_terms @ np.abs(w_down))


@check("net.swiglu", needs=("swiglu",))
def check_swiglu_equals_its_formula(subject: Subject, trial: Trial) -> None:
    """swiglu equals (silu(x W_gate) ⊙ x W_up) W_down. Terms: see `output_terms`."""

    def holds(seed: int) -> None:
        inputs = _swiglu_inputs(subject, seed)
        terms, expected = output_terms(*inputs), swiglu(*inputs)
        call = f"swiglu({', '.join(str(array.tolist()) for array in inputs)})"
        got = subject.compute("swiglu", *inputs, shape=expected.shape)
        trial.compare("the output", got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    trial.for_all(seeds(), body=holds)


@signature("swiglu")
def signature_outputs_of_fixed_weights(subject: Subject) -> np.ndarray:
    """Outputs for three tokens and one set of weights."""
    inputs = (2 * fixed_values(3, 4), fixed_values(4, 5), fixed_values(5, 4).T.copy(), fixed_values(5, 4))
    return attempt(lambda: subject.compute("swiglu", *inputs), 12)
