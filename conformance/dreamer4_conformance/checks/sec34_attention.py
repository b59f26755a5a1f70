"""Checks of Sec. 3.4 on the operation `attention` alone: its value and gradients, cap, groups, causality and window, in every backend.

A backend that refuses a call with NotImplementedError is left out of that call: it is outside of its contract.
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
"""Roundings that come on top of each other in one term; in bfloat16 also with products rounded to it."""

FEW_HEADS = ((4, 2), (2, 2))


def _compare(subject: Subject, trial: Trial, case: AttentionCase) -> None:
    expected, terms = case.expected, case.terms(subject.eps)
    for backend, got in outputs_by_backend(subject, case):
        trial.compare("the output", got, expected, terms=terms, k=K, eps=subject.eps, call=case.call(backend))


def _decide(trial: Trial, what: str) -> None:
    if trial.cases == 0:
        trial.inconclusive(f"attention raises NotImplementedError on every call {what}")


@check("attn.value", needs=("attention",))
def check_attention_equals_the_reference(subject: Subject, trial: Trial) -> None:
    """Terms: see `Attending.terms`."""

    def holds(case: AttentionCase) -> None:
        _compare(subject, trial, case)

    trial.for_all(attention_cases(subject), body=holds)
    _decide(trial, "of this check")


@check("attn.value", needs=("attention",))
def check_gradients_equal_the_reference(subject: Subject, trial: Trial) -> None:
    """Those of a weighted mean of the output; terms: see `Attending.gradient_terms`. Without gradients the value alone decides."""

    def holds(case: AttentionCase, seed: int) -> None:
        weight = subject.round(np.random.default_rng(seed).standard_normal(case.q.shape))
        for backend in backends(subject):
            _compare_gradients(subject, trial, case, weight, backend)

    trial.for_all(attention_cases(subject), seeds(), body=holds)
    if trial.cases == 0:
        raise NotProvided("attention has no gradients")


def _compare_gradients(
    subject: Subject, trial: Trial, case: AttentionCase, weight: np.ndarray, backend: str | None
) -> None:
    found = backend_gradients(subject, case, weight, backend)
    if found is None:
        return
    d_out = weight / weight.size
    parts = zip("qkv", found, case.expected_gradients(d_out), case.gradient_terms(d_out, subject.eps), strict=True)
    for name, got, expected, terms in parts:
        what, call = f"the gradient with respect to {name}", f"gradient of {case.call(backend)}"
        trial.compare(what, got, expected, terms=terms, k=K, eps=subject.eps, call=call)


@check("attn.softcap", needs=("soft_cap",))
def check_soft_cap_is_c_tanh_of_the_logit_over_c(subject: Subject, trial: Trial) -> None:
    """So it is bounded, odd, and of slope 1 at 0. Terms: its value, slope · logit, and c rounded in float32 at least."""
    logits = st.lists(st.floats(-8, 8) | st.floats(-1e4, 1e4), min_size=1, max_size=6)

    def holds(multiples: list[float], cap: float) -> None:
        x = subject.round(cap * np.array([*multiples, 0.0, 1.0]))
        expected = soft_cap(x, cap)
        slope = 1 - (expected / cap) ** 2
        terms = np.abs(expected) + slope * np.abs(x) + cap * min(1.0, EPS["float32"] / subject.eps)
        got, call = subject.compute("soft_cap", x, cap, shape=x.shape), f"soft_cap({x.tolist()}, {cap})"
        trial.compare("the capped logit", got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    trial.for_all(logits, st.sampled_from(CAPS), body=holds)


@check("attn.softcap", needs=("attention",))
def check_every_backend_caps_scaled_logits_before_the_mask(subject: Subject, trial: Trial) -> None:
    """Logits beyond the cap, and a cap so small that keys hidden before it keep a weight. Terms: see `Attending.terms`."""

    def holds(case: AttentionCase) -> None:
        _compare(subject, trial, case)

    trial.for_all(attention_cases(subject, caps=CAPS[:2]), body=holds)
    _decide(trial, "with a cap")


@check("attn.gqa", needs=("attention",))
def check_grouped_queries_equal_repeated_keys_and_values(subject: Subject, trial: Trial) -> None:
    """The operation against itself. Terms: see `Attending.terms`, for both."""

    def holds(case: AttentionCase) -> None:
        times = case.q.shape[2] // case.k.shape[2]
        full = replace(case, k=case.k.repeat(times, axis=2), v=case.v.repeat(times, axis=2))
        for backend, got in outputs_by_backend(subject, case):
            expected, terms = attention_output(subject, full, backend), 2 * case.terms(subject.eps)
            if expected is not None:
                what, call = "the output, beside that for repeated heads,", case.call(backend)
                trial.compare(what, got, expected, terms=terms, k=K, eps=subject.eps, call=call)

    trial.for_all(attention_cases(subject, heads=((2, 1), (4, 2), (6, 2), (6, 3))), body=holds)
    _decide(trial, "with grouped heads")


@check("attn.causal", needs=("attention",))
def check_a_query_sees_every_key_up_to_its_own_and_none_later(subject: Subject, trial: Trial) -> None:
    """Bit for bit, with later keys and values as large as a mask must hide."""

    def holds(seed: int, length: int, heads: tuple[int, int], softcap: float | None) -> None:
        _sees_what_it_may(subject, trial, _level(subject, seed, length, heads, softcap=softcap))

    trial.for_all(seeds(), st.integers(2, 9), st.sampled_from(FEW_HEADS), st.sampled_from((None, *CAPS)), body=holds)
    _decide(trial, "with causal = True")


@check("attn.window", needs=("attention",))
def check_a_query_sees_the_keys_of_its_window_and_no_others(subject: Subject, trial: Trial) -> None:
    """Bit for bit; a window that covers the sequence equals none, within rounding (terms: see `Attending.terms`)."""

    def holds(seed: int, length: int, heads: tuple[int, int], window: int) -> None:
        case = _level(subject, seed, length, heads, window=window)
        _sees_what_it_may(subject, trial, case)
        if window >= length:
            _compare(subject, trial, case)

    trial.for_all(seeds(), st.integers(2, 9), st.sampled_from(FEW_HEADS), st.integers(1, 11), body=holds)
    if trial.cases == 0:
        raise NotProvided("attention raises NotImplementedError on every call with a window")


def _level(subject: Subject, seed: int, length: int, heads: tuple[int, int], **options: Any) -> AttentionCase:
    """A causal call in which no weight is so small that another value is rounded away."""
    case = draw_attention_case(subject, seed, 1, length, heads, 8)
    return replace(case, q=case.q.clip(-1, 1), k=case.k.clip(-1, 1), causal=True, **options)


def _sees_what_it_may(subject: Subject, trial: Trial, case: AttentionCase) -> None:
    """In row j of a batch key and value j are replaced: no query moves that may not attend to j; with value j, every other does."""
    q, k, v = (np.repeat(x, case.q.shape[1], axis=0) for x in (case.q, case.k, case.v))
    base = replace(case, q=q, k=k, v=v)
    for backend in backends(subject):
        before = attention_output(subject, base, backend)
        both, value = (attention_output(subject, _replaced(base, names), backend) for names in ("kv", "v"))
        if before is not None and both is not None and value is not None:
            call = case.call(backend)
            _fail_unless_blind(trial, case, (before != both).any((2, 3)).T, call)
            _fail_unless_sight(trial, case, (before != value).any(3).all(2).T, call)


def _replaced(base: AttentionCase, names: str) -> AttentionCase:
    """Row j with key or value j, or both, as large as a mask must hide."""
    other, rows = replace(base, k=base.k.copy(), v=base.v.copy()), np.arange(base.q.shape[1])
    for x in (getattr(other, name) for name in names):
        x[rows, rows] = 64 * x[rows, rows] + 256
    return other


def _fail_unless_blind(trial: Trial, case: AttentionCase, moved: np.ndarray, call: str) -> None:
    """moved bool (Lq, Lk): which key moved which query."""
    leaks = np.argwhere(moved & ~case.mask)
    for query, key in leaks[:1]:
        why = "later" if key > query else f"outside of its window of {case.window}"
        sentence = f"the output of query {query} changes with key {key}, which is {why}"
        trial.fail_unless(False, sentence, call=call, got=moved.tolist(), expected=case.mask.tolist())
    trial.fail_unless(not len(leaks), "no query sees what it may not")


def _fail_unless_sight(trial: Trial, case: AttentionCase, moved: np.ndarray, call: str) -> None:
    missed = np.argwhere(~moved & case.mask)
    for query, key in missed[:1]:
        sentence = f"the output of query {query} does not change with value {key}, to which it may attend"
        trial.fail_unless(False, sentence, call=call, got=moved.tolist(), expected=case.mask.tolist())
    trial.fail_unless(not len(missed), "every query sees what it may")


# Signatures


def _fixed() -> AttentionCase:
    """Inputs of order one, exact in every dtype, their products not."""
    rng = np.random.default_rng(7)
    q, k, v = (rng.integers(-127, 128, (1, 5, heads, 4)) / 64 for heads in (4, 2, 2))
    return AttentionCase(4 * q, k, v)


PROBES = (
    _fixed(),
    replace(_fixed(), causal=True),
    replace(_fixed(), causal=True, window=2),
    replace(_fixed(), causal=True, window=5, softcap=1.0),
    replace(_fixed(), causal=True, softcap=2.0, scale=1.0),
)
"""Calls on which the mistakes differ."""


def _furthest(found: list[np.ndarray], expected: np.ndarray) -> np.ndarray:
    """The backend that is furthest from the reference; the reference itself where none covers the probe."""
    distances = [np.nan_to_num(np.abs(one - expected), nan=np.inf).max() for one in found]
    return found[int(np.argmax(distances))] if found else expected


@signature("attention", tolerance=2e-3)
def signature_outputs_of_fixed_inputs(subject: Subject) -> np.ndarray:
    """Of the backend that is furthest from the reference, for each of `PROBES`."""
    found = [_furthest([got for _, got in outputs_by_backend(subject, probe)], probe.expected) for probe in PROBES]
    return np.concatenate([output.ravel() for output in found])


@signature("attention", tolerance=2e-3)
def signature_gradients_of_fixed_inputs(subject: Subject) -> np.ndarray:
    """Likewise, of a weighted mean, capped and not."""
    weight = np.arange(80).reshape(1, 5, 4, 4) % 5 - 2.0
    return np.concatenate([_gradients_of(subject, probe, weight) for probe in PROBES[2:]])


def _gradients_of(subject: Subject, probe: AttentionCase, weight: np.ndarray) -> np.ndarray:
    expected = np.concatenate([x.ravel() for x in probe.expected_gradients(weight / weight.size)])
    found = [backend_gradients(subject, probe, weight, backend) for backend in backends(subject)]
    flat = [np.concatenate([x.ravel() for x in parts]) for parts in found if parts is not None]
    return weight.size * _furthest(flat, expected) / 4


@signature("soft_cap")
def signature_capped_logits(subject: Subject) -> np.ndarray:
    """Below, at and above the cap, as a share of it."""
    cap, shares = 4.0, np.array([-1000.0, -2.0, -1.0, -0.25, 0.0, 0.25, 1.0, 2.0, 1000.0])
    return np.asarray(subject.compute("soft_cap", cap * shares, cap, shape=shares.shape) / cap)
