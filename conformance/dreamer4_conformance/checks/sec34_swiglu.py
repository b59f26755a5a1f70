"""Checks of SwiGLU against its formula."""

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


@check("net.swiglu", needs=("swiglu",))
def check_swiglu_equals_its_formula(subject: Subject, trial: Trial) -> None:
    """Terms: those of both products, passed on through silu (slope ≤ 1.1), the gate and W_down."""

    def holds(seed: int) -> None:
        x, w_gate, w_up, w_down = given_ = _swiglu_inputs(subject, seed)
        gate, up = silu(x @ w_gate), x @ w_up
        of_gate, of_up = (np.abs(x) @ np.abs(w) for w in (w_gate, w_up))
        of_hidden = (1.1 * of_gate + np.abs(gate)) * np.abs(up) + np.abs(gate) * of_up
        terms, expected = of_hidden @ np.abs(w_down), swiglu(x, w_gate, w_up, w_down)
        call = f"swiglu({', '.join(str(part.tolist()) for part in given_)})"
        got = subject.compute("swiglu", *given_, shape=x.shape)
        trial.compare("the output", got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    trial.for_all(seeds(), body=holds)


@signature("swiglu")
def signature_outputs_of_fixed_weights(subject: Subject) -> np.ndarray:
    """Three tokens."""
    given_ = (2 * fixed_values(3, 4), fixed_values(4, 5), fixed_values(5, 4).T.copy(), fixed_values(5, 4))
    return attempt(lambda: subject.compute("swiglu", *given_), 12)
