"""Checks of `attention` and `soft_cap`, Sec. 3.4, in every backend: value, gradients, cap, groups, causality, window.

A backend that raises NotImplementedError for a call is not judged by that call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.attention_case import (
    CAPS,
    AttentionCase,
    attention_output,
    backend_gradients,
    backends,
    draw_attention_case,
    outputs_by_backend,
)
from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import signature
from dreamer4_conformance.judging.strategies import attention_cases, seeds
from dreamer4_conformance.verdicts import NotProvided
from dreamer4_reference.sec34_attention import soft_cap

K = 4
"""Roundings that accumulate in one term; enough for bfloat16 with rounded products."""
FEW_HEADS = ((4, 2), (2, 2))
LONG = ((65, None), (130, 33), (130, None))
"""Lengths and windows of causal calls with more keys than one tile of a kernel usually has."""


def _compare_outputs(subject: Subject, trial: Trial, case: AttentionCase) -> None:
    expected, terms = case.expected, case.terms(subject.eps)
    for backend, got in outputs_by_backend(subject, case):
        trial.compare("the output", got, expected, terms=terms, k=K, eps=subject.eps, call=case.call(backend))


def _undecided_unless_supported(trial: Trial, calls: str) -> None:
    if trial.cases == 0:
        trial.inconclusive(f"attention raises NotImplementedError on every call {calls}")


@check("attn.value", needs=("attention",))
def check_attention_equals_the_reference(subject: Subject, trial: Trial) -> None:
    """The output equals the reference's, with and without mask, window, cap and scale. Terms: `AttentionCase.terms`."""

    def holds(case: AttentionCase) -> None:
        _compare_outputs(subject, trial, case)

    trial.for_all(attention_cases(subject), body=holds)
    for case in long_cases(subject, trial.seed):
        holds(case)
    _undecided_unless_supported(trial, "of this check")


@check("attn.value", needs=("attention",))
def check_gradients_equal_the_reference(subject: Subject, trial: Trial) -> None:
    """The gradients of a weighted mean of the output equal the reference's. Terms: `AttentionCase.gradient_terms`.

    An operation without gradients is judged by its value only.
    """
    rng = np.random.default_rng(trial.seed)

    def holds(case: AttentionCase, seed: int) -> None:
        weight = subject.round(np.random.default_rng(seed).standard_normal(case.q.shape))
        for backend in backends(subject):
            _compare_gradients(subject, trial, case, weight, backend)

    trial.for_all(attention_cases(subject), seeds(), body=holds)
    for case in long_cases(subject, trial.seed):
        holds(case, int(rng.integers(2**31)))
    if trial.cases == 0:
        raise NotProvided("attention has no gradients")


def long_cases(subject: Subject, seed: int) -> list[AttentionCase]:
    """Causal calls of the lengths and windows of `LONG`."""
    drawn = [(draw_attention_case(subject, seed, 1, length, (2, 1), 8, 3.0), window) for length, window in LONG]
    return [replace(case, causal=True, window=window) for case, window in drawn]


def _compare_gradients(
    subject: Subject, trial: Trial, case: AttentionCase, weight: np.ndarray, backend: str | None
) -> None:
    gradients = backend_gradients(subject, case, weight, backend)
    if gradients is None:
        return
    d_out, call = weight / weight.size, f"gradient of {case.call(backend)}"
    expected_gradients, gradient_terms = case.expected_gradients(d_out), case.gradient_terms(d_out, subject.eps)
    for name, got, expected, terms in zip("qkv", gradients, expected_gradients, gradient_terms, strict=True):
        name = f"the gradient with respect to {name}"
        trial.compare(name, got, expected, terms=terms, k=K, eps=subject.eps, call=call)


def cap_terms(logits: np.ndarray, cap: float, eps: float) -> np.ndarray:
    """Terms of the capped logits: their value, slope · logit, and c rounded in at least float32."""
    capped = soft_cap(logits, cap)
    slope = 1 - (capped / cap) ** 2
    return np.asarray(np.abs(capped) + slope * np.abs(logits) + cap * min(1.0, EPS["float32"] / eps))


@check("attn.softcap", needs=("soft_cap",))
def check_soft_cap_is_c_tanh_of_the_logit_over_c(subject: Subject, trial: Trial) -> None:
    """soft_cap(x, c) = c tanh(x / c), below, at and above the cap. Terms: see `cap_terms`."""
    logits = st.lists(st.floats(-8, 8) | st.floats(-1e4, 1e4), min_size=1, max_size=6)

    def holds(multiples: list[float], cap: float) -> None:
        x = subject.round(cap * np.array([*multiples, 0.0, 1.0]))
        expected, terms = soft_cap(x, cap), cap_terms(x, cap, subject.eps)
        got, call = subject.compute("soft_cap", x, cap, shape=x.shape), f"soft_cap({x.tolist()}, {cap})"
        trial.compare("the capped logit", got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    trial.for_all(logits, st.sampled_from(CAPS), body=holds)


@check("attn.softcap", needs=("attention",))
def check_every_backend_caps_scaled_logits_before_the_mask(subject: Subject, trial: Trial) -> None:
    """The cap applies to scaled logits, and the mask is applied after the cap. Terms: `AttentionCase.terms`.

    Some logits exceed the cap, and one cap is so small that a key masked before it would keep a visible weight.
    """

    def holds(case: AttentionCase) -> None:
        _compare_outputs(subject, trial, case)

    trial.for_all(attention_cases(subject, caps=CAPS[:2]), body=holds)
    _undecided_unless_supported(trial, "with a cap")


@check("attn.gqa", needs=("attention",))
def check_grouped_queries_equal_repeated_keys_and_values(subject: Subject, trial: Trial) -> None:
    """Grouped queries give the output of as many heads with keys and values repeated.

    The operation is compared with itself. Terms: `AttentionCase.terms` for both outputs.
    """

    def holds(case: AttentionCase) -> None:
        group = case.q.shape[2] // case.k.shape[2]
        full = replace(case, k=case.k.repeat(group, axis=2), v=case.v.repeat(group, axis=2))
        for backend, got in outputs_by_backend(subject, case):
            expected, terms = attention_output(subject, full, backend), 2 * case.terms(subject.eps)
            if expected is not None:
                name, call = "the output with grouped heads, compared with repeated heads,", case.call(backend)
                trial.compare(name, got, expected, terms=terms, k=K, eps=subject.eps, call=call, required_by="adapter")

    trial.for_all(attention_cases(subject, heads=((2, 1), (4, 2), (6, 2), (6, 3))), body=holds)
    _undecided_unless_supported(trial, "with grouped heads")


@check("attn.causal", needs=("attention",))
def check_a_query_attends_to_its_own_and_all_earlier_keys_only(subject: Subject, trial: Trial) -> None:
    """A query does not change with a later key or value, however large, and changes with every other value.

    Exact, bit for bit.
    """

    def holds(seed: int, length: int, heads: tuple[int, int], softcap: float | None) -> None:
        _fail_unless_mask_is_followed(subject, trial, _even_case(subject, seed, length, heads, softcap=softcap))

    trial.for_all(seeds(), st.integers(2, 9), st.sampled_from(FEW_HEADS), st.sampled_from((None, *CAPS)), body=holds)
    _undecided_unless_supported(trial, "with causal = True")


@check("attn.window", needs=("attention",))
def check_a_query_attends_to_the_keys_of_its_window_only(subject: Subject, trial: Trial) -> None:
    """A query does not change with a key or value outside its window, and changes with every value inside. Exact.

    A window that covers the sequence gives the output without a window. Terms: `AttentionCase.terms`.
    """

    def holds(seed: int, length: int, heads: tuple[int, int], window: int) -> None:
        case = _even_case(subject, seed, length, heads, window=window)
        _fail_unless_mask_is_followed(subject, trial, case)
        if window >= length:
            _compare_outputs(subject, trial, case)

    trial.for_all(seeds(), st.integers(2, 9), st.sampled_from(FEW_HEADS), st.integers(1, 11), body=holds)
    if trial.cases == 0:
        raise NotProvided("attention raises NotImplementedError on every call with a window")


def _even_case(subject: Subject, seed: int, length: int, heads: tuple[int, int], **options: Any) -> AttentionCase:
    """A causal call in which every weight is large enough for a replaced value to change the output."""
    case = draw_attention_case(subject, seed, 1, length, heads, 8)
    return replace(case, q=case.q.clip(-1, 1), k=case.k.clip(-1, 1), causal=True, **options)


def _fail_unless_mask_is_followed(subject: Subject, trial: Trial, case: AttentionCase) -> None:
    """Replace key and value j in row j of a batch: queries masked from j must not change; with value j, others must."""
    q, k, v = (np.repeat(x, case.q.shape[1], axis=0) for x in (case.q, case.k, case.v))
    base = replace(case, q=q, k=k, v=v)
    for backend in backends(subject):
        before = attention_output(subject, base, backend)
        pair, value = (attention_output(subject, _replaced(base, names), backend) for names in ("kv", "v"))
        if before is not None and pair is not None and value is not None:
            call = case.call(backend)
            _fail_unless_masked(trial, case, (before != pair).any((2, 3)).T, call)
            _fail_unless_attended(trial, case, (before != value).any(3).all(2).T, call)


def _replaced(base: AttentionCase, names: str) -> AttentionCase:
    """The case with key or value j, or both, of row j so large that a mask which is not exact lets it show."""
    case, rows = replace(base, k=base.k.copy(), v=base.v.copy()), np.arange(base.q.shape[1])
    for x in (getattr(case, name) for name in names):
        x[rows, rows] = 64 * x[rows, rows] + 256
    return case


def _fail_unless_masked(trial: Trial, case: AttentionCase, moved: np.ndarray, call: str) -> None:
    """Deviation if a query, row of `moved` (Lq, Lk), changed with a key that the mask excludes."""
    leaks = np.argwhere(moved & ~case.mask)
    query, key = leaks[0] if len(leaks) else (0, 0)
    why = "later" if key > query else f"outside of its window of {case.window}"
    sentence = f"the output of query {query} changes with key {key}, which is {why}"
    trial.fail_unless(not len(leaks), sentence, call=call, got=moved.tolist(), expected=case.mask.tolist())


def _fail_unless_attended(trial: Trial, case: AttentionCase, moved: np.ndarray, call: str) -> None:
    """Deviation if a query, row of `moved` (Lq, Lk), did not change with a value that the mask allows."""
    missing = np.argwhere(~moved & case.mask)
    query, key = missing[0] if len(missing) else (0, 0)
    sentence = f"the output of query {query} does not change with value {key}, to which it may attend"
    trial.fail_unless(not len(missing), sentence, call=call, got=moved.tolist(), expected=case.mask.tolist())


# Signatures


def _fixed(length: int = 5) -> AttentionCase:
    """Fixed inputs of order one, exact in every dtype; their products are not."""
    rng = np.random.default_rng(7)
    q, k, v = (rng.integers(-127, 128, (1, length, heads, 4)) / 64 for heads in (4, 2, 2))
    return AttentionCase(4 * q, k, v)


PROBES = (
    _fixed(),
    replace(_fixed(), causal=True),
    replace(_fixed(), causal=True, window=2),
    replace(_fixed(), causal=True, window=5, softcap=1.0),
    replace(_fixed(), causal=True, softcap=2.0, scale=1.0),
)
"""Calls that distinguish the mistakes."""


def _worst(outputs: list[np.ndarray], expected: np.ndarray) -> np.ndarray:
    """The output furthest from the reference; the reference if no backend supports the probe."""
    distances = [np.nan_to_num(np.abs(output - expected), nan=np.inf).max() for output in outputs]
    return outputs[int(np.argmax(distances))] if outputs else expected


@signature("attention", tolerance=2e-3)
def signature_outputs_of_fixed_inputs(subject: Subject) -> np.ndarray:
    """Output of the backend furthest from the reference, for each of `PROBES`."""
    outputs = [_worst([got for _, got in outputs_by_backend(subject, probe)], probe.expected) for probe in PROBES]
    return np.concatenate([output.ravel() for output in outputs])


@signature("attention", tolerance=2e-3)
def signature_gradients_of_fixed_inputs(subject: Subject) -> np.ndarray:
    """Gradients of a weighted mean, with and without a cap, of the backend furthest from the reference."""
    weight = np.arange(80).reshape(1, 5, 4, 4) % 5 - 2.0
    return np.concatenate([_gradients_of(subject, probe, weight) for probe in PROBES[2:]])


def _gradients_of(subject: Subject, probe: AttentionCase, weight: np.ndarray) -> np.ndarray:
    expected = np.concatenate([x.ravel() for x in probe.expected_gradients(weight / weight.size)])
    results = [backend_gradients(subject, probe, weight, backend) for backend in backends(subject)]
    flat = [np.concatenate([x.ravel() for x in gradients]) for gradients in results if gradients is not None]
    return weight.size * _worst(flat, expected) / 4


@signature("attention", tolerance=2e-3)
def signature_outputs_of_many_keys(subject: Subject) -> np.ndarray:
    """Output of the backend furthest from the reference for 70 keys: more than a tile of 64."""
    probe = replace(_fixed(70), causal=True)
    return _worst([got for _, got in outputs_by_backend(subject, probe)], probe.expected)[:, 64:].ravel()


@signature("soft_cap")
def signature_capped_logits(subject: Subject) -> np.ndarray:
    """Capped logits below, at and above the cap, as a share of the cap."""
    cap, shares = 4.0, np.array([-1000.0, -2.0, -1.0, -0.25, 0.0, 0.25, 1.0, 2.0, 1000.0])
    return np.asarray(subject.compute("soft_cap", cap * shares, cap, shape=shares.shape) / cap)
