"""The fused kernels, under Triton's interpreter where there is no GPU: a few examples of what attention is held to."""

import pytest

pytest.importorskip("triton", reason="needs the extra triton")
from dreamer4_conformance import TorchAdapter
from dreamer4_conformance.adapters.bundled import BundledTriton
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.judging import check
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Status


class AttentionAlone(TorchAdapter):
    """Of the bundled adapter: the interpreter would take minutes for the smoke calls of its models."""

    name, version = "fused attention", "of this project"
    backends, dtypes = BundledTriton.backends, BundledTriton.dtypes
    attention = BundledTriton.attention


#: These take half a minute; the rules of the kernels themselves hold the same by day.
BY_NIGHT = [pytest.param(clause, marks=pytest.mark.nightly) for clause in ("attn.gqa", "attn.causal", "attn.window")]


@pytest.mark.parametrize("clause", ["attn.value", "attn.softcap", *BY_NIGHT])
def test_the_fused_kernels_conform(clause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(check.EXAMPLES, "ci", 5)
    result = judge(examine(AttentionAlone()), BY_ID[clause], minimal=False)
    assert result.status is Status.PASS, result.message


@pytest.mark.nightly
@pytest.mark.parametrize("clause", ["attn.qknorm", "net.incremental", "ctx.cache", "dyn.agent-firewall", "tok.causal"])
def test_models_with_the_fused_kernels_conform(clause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(check.EXAMPLES, "ci", 2)
    result = judge(examine(BundledTriton()), BY_ID[clause], minimal=False)
    assert result.status is Status.PASS, result.message
