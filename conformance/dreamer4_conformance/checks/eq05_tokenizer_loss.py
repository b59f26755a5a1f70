"""Checks of Eq. (5): the tokenizer's loss."""

from __future__ import annotations

from functools import partial

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.gradients import operation_gradients
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_reference.eq05_tokenizer_loss import tokenizer_loss

TERMS = st.integers(0, 1024).map(lambda numerator: numerator / 64)


@check("eq05.combination", needs=("tokenizer_loss",))
def check_terms_are_added_with_their_weight(subject: Subject, trial: Trial) -> None:
    """L is MSE + 0.2 · LPIPS. Within the rounding of one product, one sum and the constant 0.2."""

    def holds(mse: float, lpips: float) -> None:
        mse, lpips = (float(subject.round(np.array(x))) for x in (mse, lpips))
        got = subject.compute("tokenizer_loss", np.array(mse), np.array(lpips), shape=())
        expected, call = tokenizer_loss(mse, lpips), f"tokenizer_loss({mse}, {lpips})"
        trial.compare("L", got, expected, terms=mse + 0.2 * lpips, k=4, eps=subject.eps, call=call)

    trial.for_all(TERMS, TERMS, body=holds)


@check("eq05.combination", needs=("tokenizer_loss",))
def check_both_terms_are_trained(subject: Subject, trial: Trial) -> None:
    """The gradient of L is 1 for MSE and 0.2 for LPIPS. Within the rounding of the constant 0.2."""

    def holds(mse: float, lpips: float) -> None:
        terms = [subject.round(np.array(x)) for x in (mse, lpips)]
        for name, got, expected in zip(
            ("MSE", "LPIPS"), operation_gradients(subject, "tokenizer_loss", (0, 1), *terms), (1.0, 0.2), strict=True
        ):
            call = f"gradient of tokenizer_loss({mse}, {lpips})"
            name = f"the gradient with respect to {name}"
            trial.compare(name, got, expected, terms=expected, k=4, eps=subject.eps, call=call)

    trial.for_all(TERMS, TERMS, body=holds)


@signature("tokenizer_loss")
def signature_gradient_of_each_term(subject: Subject) -> np.ndarray:
    """Gradients at MSE = LPIPS = 1."""
    return attempt(lambda: operation_gradients(subject, "tokenizer_loss", (0, 1), np.array(1.0), np.array(1.0)), 2)


@signature("tokenizer_loss")
def signature_loss_of_each_term(subject: Subject) -> np.ndarray:
    """L at MSE = 1, LPIPS = 0 and at MSE = 0, LPIPS = 1."""
    pairs = ((1.0, 0.0), (0.0, 1.0))
    probes = [partial(subject.compute, "tokenizer_loss", *map(np.array, pair)) for pair in pairs]
    return np.concatenate([attempt(probe, 1) for probe in probes])
