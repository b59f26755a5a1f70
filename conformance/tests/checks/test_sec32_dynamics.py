"""Which check of the dynamics rejects a deviation, and what it names."""

from __future__ import annotations

import pytest
from torch import Tensor

from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Check, Trial
from dreamer4_conformance.runner import checks_of, judge
from dreamer4_conformance.verdicts import OperationFailed, Status
from dreamer4_conformance.zoo.base import Book
from dreamer4_conformance.zoo.base.sec34_layers import Past
from dreamer4_conformance.zoo.mistakes.cache import ContextCachedClean
from dreamer4_conformance.zoo.mistakes.frame_tokens import OneRefused
from dreamer4_conformance.zoo.mistakes.sec32_dynamics import AgentBlind, AgentOfPast, AgentWithoutActions


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_agent_token_without_inputs_fails_the_firewall_only(dtype: str) -> None:
    adapter = AgentBlind()
    adapter.dtype = dtype
    names = ("attn.causal", "eq09.no-leak", "dyn.agent-firewall")
    causal, leak, firewall = (judge(Subject(adapter), BY_ID[name]) for name in names)
    assert causal.status is Status.PASS, causal.message
    assert leak.status is Status.INCONCLUSIVE
    assert "does not change with z of its own frame" in leak.message
    assert firewall.status is Status.FAIL


@pytest.mark.parametrize("adapter_type", [AgentOfPast, AgentWithoutActions])
def test_agent_token_that_no_label_can_reach_leaves_leaks_undecided(adapter_type: type[Book]) -> None:
    assert judge(Subject(adapter_type()), BY_ID["eq09.no-leak"]).status is Status.INCONCLUSIVE
    assert judge(Subject(adapter_type()), BY_ID["dyn.agent-firewall"]).status is Status.FAIL


@pytest.mark.parametrize("check", checks_of(BY_ID["dyn.tokens"]), ids=lambda check: check.name)
def test_label_without_an_embedding_is_named(check: Check) -> None:
    with pytest.raises(OperationFailed, match=r"raised IndexError.*at τ = 0(.5)? and d = 1$"):
        check.function(Subject(OneRefused()), Trial())


def test_cache_without_noise_of_generated_frames_is_named() -> None:
    result = judge(Subject(ContextCachedClean(A9="none")), BY_ID["ctx.cache"])
    assert result.status is Status.FAIL
    assert "context-cached-clean" in result.behaves_like


class LittlePast(ContextCachedClean):
    """Earlier frames have 1/64 of their weight, so an error in them changes the output little."""

    def mixed_time(self, x: Tensor, name: str, past: Past | None, start: int) -> Tensor:
        return super().mixed_time(x, name, past, start) / 64


def test_cache_that_differs_by_little_is_named() -> None:
    result = judge(Subject(LittlePast()), BY_ID["ctx.cache"])
    assert result.status is Status.FAIL
    assert result.worst_error is not None
    assert result.worst_error < 0.01
    assert "context-cached-clean" in result.behaves_like
