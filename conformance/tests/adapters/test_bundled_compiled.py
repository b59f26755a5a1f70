"""The backends that are compiled for each shape: a few examples of every check of attention."""

import pytest

from dreamer4_conformance.adapters.bundled import BundledChunked, BundledCompiled, BundledFlex
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.judging import check
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Status


@pytest.mark.flex
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
@pytest.mark.parametrize("adapter", [BundledFlex, BundledChunked], ids=["flex", "chunked"])
@pytest.mark.parametrize("clause", ["attn.value", "attn.softcap", "attn.gqa", "attn.causal", "attn.window"])
def test_compiled_backend_conforms(
    clause: str, adapter: type[BundledCompiled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(check.EXAMPLES, "ci", 2)
    result = judge(examine(adapter()), BY_ID[clause])
    assert result.status is Status.PASS, result.message
