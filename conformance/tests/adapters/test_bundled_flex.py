"""The backend that is compiled for each shape: a few examples of every check that it can be held to."""

import pytest

from dreamer4_conformance.adapters.bundled import BundledFlex
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.judging import check
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Status


@pytest.mark.flex
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
@pytest.mark.parametrize("clause", ["attn.value", "attn.softcap", "attn.gqa", "attn.causal", "attn.window"])
def test_compiled_flex_conforms(clause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(check.EXAMPLES, "ci", 2)
    result = judge(examine(BundledFlex()), BY_ID[clause])
    assert result.status is Status.PASS, result.message
