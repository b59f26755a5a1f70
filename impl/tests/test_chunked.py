"""Attention in chunks, for a CPU: exact however it is cut, compiled once, and nothing of the size of the weights is kept."""

import pytest
import torch

from dreamer4_impl import chunked
from dreamer4_impl.attention import Visible
from dreamer4_impl.chunked import chunked_attention

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning"),
]
SCALE = 0.2
#: Queries, keys, what is visible, and the cap.
CALLS = {
    "space": (23, 23, {"private": 2}, 5.0),
    "no cap": (23, 23, {}, None),
    "window": (131, 131, {"causal": True, "window": 40}, 5.0),
    "last queries": (5, 70, {"causal": True, "window": 67}, 5.0),
    "ring": (1, 24, {"filled": torch.tensor(7)}, 5.0),
}


def inputs(length_q, length_k, dtype=torch.float32, heads=6, kv_heads=2):
    """q, k, v, with strides of a layout (N, L, H, D) whose heads lie in a wider tensor, and the gradient that comes back."""
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randn(3, length, count + 1, 8, generator=generator, dtype=torch.float64)
        for length, count in ((length_q, heads), (length_k, kv_heads), (length_k, kv_heads), (length_q, heads))
    ]
    return [(size * x.to(dtype))[:, :, 1:].transpose(1, 2) for size, x in zip((3, 3, 1, 1), drawn, strict=True)]


def oracle(q, k, v, visible, softcap):
    """All at once, in float64."""
    q, k, v = q.double(), *(x.double().repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    logits = SCALE * q @ k.mT
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    table = visible.table(q.device)
    return (logits if table is None else logits.masked_fill(~table, -torch.inf)).softmax(-1) @ v


def with_gradients(function, tensors, *options):
    *leaves, weight = (x.detach().requires_grad_() for x in tensors)
    out = function(*leaves, *options)
    return [out.detach(), *torch.autograd.grad(out, leaves, weight.to(out.dtype).detach())]


def relative(got, expected):
    return float((got.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("logits", [1, 2000, 1 << 19], ids=["a head each", "several chunks", "one chunk"])
@pytest.mark.parametrize("name", CALLS)
def test_output_and_gradients_are_exact_however_it_is_cut(name, logits, monkeypatch):
    monkeypatch.setattr(chunked, "_LOGITS_PER_CHUNK", logits)
    length_q, length_k, rules, softcap = CALLS[name]
    visible, tensors = Visible(length_q, length_k, **rules), inputs(length_q, length_k)
    got = with_gradients(chunked_attention, tensors, visible, softcap, SCALE)
    expected = with_gradients(oracle, [x.double() for x in tensors], visible, softcap)
    assert max(relative(*pair) for pair in zip(got, expected, strict=True)) <= 3e-6


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-14), (torch.bfloat16, 2**-8)])
def test_bfloat16_is_rounded_once_and_float64_is_exact(dtype, bound):
    visible, tensors = Visible(131, 131, causal=True, window=40), inputs(131, 131, dtype)
    got = with_gradients(chunked_attention, tensors, visible, 5.0, SCALE)
    expected = with_gradients(oracle, [x.double() for x in tensors], visible, 5.0)
    assert all(x.dtype == dtype for x in got)
    assert max(relative(*pair) for pair in zip(got, expected, strict=True)) <= bound


def test_gives_the_same_bits_again():
    visible, tensors = Visible(131, 131, causal=True), inputs(131, 131)
    first, second = (with_gradients(chunked_attention, tensors, visible, 5.0, SCALE) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_keeps_nothing_of_the_size_of_the_weights():
    *leaves, _ = inputs(131, 131, heads=2)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        chunked_attention(*(x.requires_grad_() for x in leaves), Visible(131, 131, causal=True), 5.0, SCALE)
    assert kept
    assert max(kept) < 3 * 2 * 131 * 131


def test_is_an_operator_that_torch_accepts():
    q, k, v, _ = (x.requires_grad_() for x in inputs(5, 5))
    torch.library.opcheck(chunked._attend, (q, k, v, torch.zeros(5, 5), True, 3, 5.0, SCALE))


def test_is_part_of_an_outer_graph_under_autocast_too():
    visible, tensors = Visible(23, 23, causal=True), inputs(23, 23)
    compiled = torch.compile(chunked_attention, fullgraph=True, backend="aot_eager")
    plain = with_gradients(chunked_attention, tensors, visible, 5.0, SCALE)
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(compiled, tensors, visible, 5.0, SCALE)
    assert all(torch.equal(*pair) for pair in zip(found, plain, strict=True))


def test_another_shape_compiles_nothing():
    shapes = [(16, 16), (5, 70), (131, 131), (23, 24)]

    def call(length_q, length_k, softcap):
        visible = Visible(length_q, length_k, causal=True, window=40)
        with_gradients(chunked_attention, inputs(length_q, length_k), visible, softcap, SCALE)

    call(*shapes[0], 5.0)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for number, shape in enumerate(shapes):
        call(*shape, 6.0 + number)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before


def test_the_quotient_of_polynomials_is_within_4e_7_of_tanh():
    x = torch.linspace(1e-4, 12, 1_000_001)
    exact = x.double().tanh()
    assert ((chunked._tanh(x).double() - exact) / exact).abs().max() <= 4e-7
    assert torch.equal(chunked._tanh(-x), -chunked._tanh(x))
    assert chunked._tanh(torch.tensor([0.0, 1e30])).tolist() == pytest.approx([0.0, 1.0], abs=2e-7)


@pytest.mark.parametrize(("length", "most", "sizes"), [(65, 64, [32, 33]), (5, 0, [1] * 5), (0, 4, []), (4, 4, [4])])
def test_parts_are_even_and_cover_everything(length, most, sizes):
    parts = list(chunked._parts(length, most))
    assert [part.stop - part.start for part in parts] == sizes
    assert [n for part in parts for n in range(part.start, part.stop)] == list(range(length))


def test_refuses_other_devices_with_a_sentence():
    q, k, v, _ = (x.to("meta") for x in inputs(5, 5))
    with pytest.raises(NotImplementedError, match="'chunked' is for a CPU; got tensors on meta"):
        chunked_attention(q, k, v, Visible(5, 5), 5.0, SCALE)
