"""The checks of Sec. 3.4's operations in every dtype, and the messages of unusual backends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from dreamer4_conformance.adapter import JaxAdapter, TorchAdapter
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.attention_case import backend_gradients, draw_attention_case
from dreamer4_conformance.instruments.smoke_calls import smoke_failure
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import AdapterError, Status
from dreamer4_conformance.zoo.equivalents import EQUIVALENTS
from dreamer4_conformance.zoo.equivalents.sec34_attention import AttentionAlone, Library
from dreamer4_conformance.zoo.mistakes import MISTAKES

ATTENTION = ["attn.value", "attn.softcap", "attn.gqa", "attn.causal", "attn.window"]
OPERATIONS = [*ATTENTION, "attn.qknorm", "attn.rope", "net.rmsnorm", "net.swiglu"]
STEMS = ("sec34_attention", "sec34_norms", "sec34_rope", "sec34_swiglu")
ALONE = [name for name, entry in EQUIVALENTS.items() if entry.adapter_factory.__module__.endswith(STEMS)]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_textbook_conforms_in_other_dtypes(name: str, dtype: str) -> None:
    adapter = AttentionAlone()
    adapter.dtype = dtype
    result = judge(Subject(adapter), BY_ID[name])
    assert result.status is Status.PASS, result.message


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", ALONE)
def test_equivalent_passes_in_other_dtypes(name: str, dtype: str) -> None:
    adapter = EQUIVALENTS[name].adapter_factory()
    if dtype not in adapter.dtypes:
        pytest.skip(f"{name} runs in {adapter.dtypes}")
    adapter.dtype = dtype
    results = [judge(Subject(adapter), BY_ID[name]) for name in OPERATIONS]
    assert [
        f"{result.id}: {result.message} at {result.call}" for result in results if result.status is Status.FAIL
    ] == []
    assert any(result.status is Status.PASS for result in results)


# A mistake of precision only: in bfloat16 it is correct.
PRECISION = {"attention-half-inside"}
MISTAKEN = [
    name
    for name, entry in MISTAKES.items()
    if entry.adapter.__module__.endswith(STEMS) and entry.clause in OPERATIONS and name not in PRECISION
]


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", MISTAKEN)
def test_mistake_is_rejected_and_named_in_other_dtypes(name: str, dtype: str) -> None:
    adapter = MISTAKES[name].adapter("signal")
    adapter.dtype = dtype
    result = judge(Subject(adapter), BY_ID[MISTAKES[name].clause])
    assert result.status is Status.FAIL
    assert name in result.behaves_like


def test_backend_without_a_cap_is_judged_without_it() -> None:
    results = {name: judge(Subject(Library()), BY_ID[name]) for name in ATTENTION}
    assert results.pop("attn.softcap").status is Status.INCONCLUSIVE
    assert {result.status for result in results.values()} == {Status.PASS}


class RefusesEverything(TorchAdapter):
    def attention(self, q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        raise NotImplementedError("not today")


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_that_supports_no_call_is_undecided(name: str) -> None:
    result = judge(examine(RefusesEverything), BY_ID[name])
    assert result.status is (Status.NOT_PROVIDED if name == "attn.window" else Status.INCONCLUSIVE)
    assert "NotImplementedError" in result.message


class SecondBackendRaises(AttentionAlone):
    def attention(self, q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        if options["backend"] == "matmul" and options["softcap"] is not None:
            raise RuntimeError("no kernel for this device")
        return super().attention(q, k, v, **options)  # type: ignore[arg-type]


def test_backend_that_raises_fails_with_the_call() -> None:
    result = judge(Subject(SecondBackendRaises()), BY_ID["attn.softcap"])
    assert result.status is Status.FAIL
    assert "no kernel for this device" in result.message
    assert "backend='matmul'" in result.call


class TransposedHeads(AttentionAlone):
    def attention(self, q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        return super().attention(q, k, v, **options).transpose(1, 2)  # type: ignore[arg-type]


def test_gradients_of_attention_in_jax_equal_the_reference() -> None:
    jnp = pytest.importorskip("jax.numpy")

    class InJax(JaxAdapter):
        def attention(self, q: Any, k: Any, v: Any, **options: Any) -> Any:
            k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
            logits = jnp.einsum("bihd,bjhd->bhij", q, k) * q.shape[3] ** -0.5
            shares = jnp.exp(options["softcap"] * jnp.tanh(logits / options["softcap"]))
            return jnp.einsum("bhij,bjhd->bihd", shares / shares.sum(-1, keepdims=True), v)

    case = replace(draw_attention_case(Subject(InJax()), 0, 1, 3, (2, 1), 8), softcap=2.0)
    weight = np.arange(case.q.size).reshape(case.q.shape) % 5 - 2.0
    found = backend_gradients(Subject(InJax()), case, weight, None)
    assert found is not None
    for got, expected in zip(found, case.expected_gradients(weight / weight.size), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_attention_of_a_different_layout_is_rejected() -> None:
    failure = smoke_failure(examine(TransposedHeads), "attention")
    assert failure is not None
    assert failure.message.startswith("attention returned shape")


def test_backends_given_as_a_string_are_rejected() -> None:
    class OneName(AttentionAlone):
        backends = "eager"

    with pytest.raises(AdapterError, match="backends is 'eager'; it needs a list of names"):
        examine(OneName)
