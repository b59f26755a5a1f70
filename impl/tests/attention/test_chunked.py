"""Attention in chunks, on a CPU: exact for any size of chunks, and each form compiled once."""

import pytest
import torch

import dreamer4_impl.attention.chunked as module
from dreamer4_impl import compilation
from dreamer4_impl.attention import attention
from dreamer4_impl.attention.eager import dense_attention

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning"),
]
#: Axis, frames of queries and of keys, and options; 5 tokens per frame.
CALLS = {
    "space": ("space", 3, 3, {"private": 2, "softcap": 5.0}),
    "no cap": ("space", 3, 3, {}),
    "window": ("time", 131, 131, {"causal": True, "window": 40, "softcap": 5.0}),
    "causal": ("time", 131, 131, {"causal": True}),
    "last queries": ("time", 5, 70, {"causal": True, "window": 67, "softcap": 5.0}),
    "ring": ("time", 1, 24, {"filled": torch.tensor(7), "softcap": 5.0}),
    "mask": ("time", 7, 9, {"mask": torch.ones(7, 9, dtype=torch.bool).tril(), "causal": True}),
}


@pytest.fixture
def uncompiled(monkeypatch):
    """Test the chunks without compiling every form, which would take minutes."""
    monkeypatch.setattr(module, "_compiled_attention", dense_attention)


def inputs(call, dtype=torch.float32):
    """q, k, v, and the gradient of the output."""
    generator = torch.Generator().manual_seed(0)
    _, length_q, length_k, _ = CALLS[call]
    shapes = ((length_q, 6), (length_k, 2), (length_k, 2), (length_q, 6))
    return [3 * torch.randn(3, frames, 5, heads, 8, generator=generator).to(dtype) for frames, heads in shapes]


def with_gradients(call, backend, dtype=torch.float32):
    axis, _, _, rules = CALLS[call]
    *leaves, weight = (x.requires_grad_() for x in inputs(call, dtype))
    out = attention(*leaves, axis=axis, backend=backend, **rules)
    return [out.detach(), *torch.autograd.grad(out, leaves, weight.detach())]


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("logits", [1, 2000, 1 << 19], ids=["a head each", "several chunks", "one chunk"])
@pytest.mark.parametrize("call", CALLS)
def test_output_and_gradients_are_exact_for_any_size_of_chunks(call, logits, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_LOGITS", logits)
    for got, expected in zip(with_gradients(call, "chunked"), with_gradients(call, "eager"), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.usefixtures("uncompiled")
def test_keys_hidden_from_all_queries_of_a_chunk_are_left_out(monkeypatch):
    lengths = []
    monkeypatch.setattr(module, "_attend_by_heads", lambda q, k, *_: lengths.append((q.shape[2], k.shape[2])) or q)
    q, k, v, _ = inputs("window")
    attention(q, k, v, axis="time", causal=True, window=40, backend="chunked")
    assert lengths == [(64, 64), (64, 103), (3, 42)]


def test_chunks_of_one_form_are_compiled_once_and_equal_eager(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_LOGITS", 2000)
    torch.compiler.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    got = with_gradients("space", "chunked")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1
    for x, expected in zip(got, with_gradients("space", "eager"), strict=True):
        torch.testing.assert_close(x, expected, rtol=1e-5, atol=2e-5)


def test_can_be_part_of_an_outer_graph():
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    q, k, v, _ = inputs("window")
    options = {"axis": "time", "causal": True, "window": 40, "softcap": 5.0}
    got = compiled(q, k, v, backend="chunked", **options)
    torch.testing.assert_close(got, attention(q, k, v, **options), rtol=1e-5, atol=2e-5)


def test_too_many_forms_raise(monkeypatch):
    monkeypatch.setattr(compilation, "FORMS", 1)
    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=1, accumulated_recompile_limit=1):
        for call in ("ring", "mask"):
            q, k, v, _ = inputs(call)
            axis, _, _, rules = CALLS[call]
            if call == "mask":
                with pytest.raises(compilation.TooManyFormsError, match="more compiled forms than 1"):
                    attention(q, k, v, axis=axis, backend="chunked", **rules)
            else:
                attention(q, k, v, axis=axis, backend="chunked", **rules)
    torch.compiler.reset()


def test_refuses_another_device():
    q, k, v, _ = (x.to("meta") for x in inputs("space"))
    with pytest.raises(
        NotImplementedError, match="'chunked' is for a CPU; got tensors on meta: use 'triton' or 'flex'"
    ):
        attention(q, k, v, axis="space", backend="chunked")
