"""Attention: every backend equals explicit loops in float64, on inputs that reach the cap."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dreamer4_impl import compilation
from dreamer4_impl.attention import BACKENDS, Preparation, attention, soft_cap
from dreamer4_impl.layers.rope import rotation

from . import kernel_oracle

FLEX = pytest.param("flex", marks=pytest.mark.flex)
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.usefixtures("fresh_compiler"),
]

#: Axis and options; lengths are distinct and no powers of two.
CALLS = {
    "space": {"axis": "space"},
    "space capped": {"axis": "space", "softcap": 3.0},
    "space masked": {"axis": "space", "mask": True},
    "space masked and capped": {"axis": "space", "mask": True, "softcap": 3.0},
    "time causal": {"axis": "time", "causal": True},
    "time window": {"axis": "time", "causal": True, "window": 3},
    "time window capped": {"axis": "time", "causal": True, "window": 3, "softcap": 3.0},
    "time causal last frames": {"axis": "time", "causal": True, "queries": 2},
    "time last frames": {"axis": "time", "causal": True, "window": 4, "softcap": 3.0, "queries": 2},
    "time masked": {"axis": "time", "mask": True, "queries": 2},
    "time masked window": {"axis": "time", "causal": True, "window": 4, "mask": True, "softcap": 3.0, "queries": 3},
    "space private": {"axis": "space", "private": 2},
    "space private capped": {"axis": "space", "private": 1, "softcap": 3.0},
    "time filled": {"axis": "time", "filled": 3, "queries": 1},
    "time filled capped": {"axis": "time", "filled": 7, "softcap": 3.0, "queries": 1},
    "space prepared": {"axis": "space", "prepared": True},
    "time prepared and capped": {
        "axis": "time",
        "causal": True,
        "window": 4,
        "softcap": 3.0,
        "prepared": True,
        "queries": 3,
    },
    "scaled": {"axis": "time", "scale": 0.1, "softcap": 0.5},
}
UNCAPPED = [name for name, call in CALLS.items() if "softcap" not in call]
COVERED = [("eager", name) for name in CALLS] + [("sdpa", name) for name in UNCAPPED]
COVERED_BY_FLEX = [pytest.param("flex", name, marks=pytest.mark.flex) for name in CALLS]


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def inputs(call, dtype=torch.float64, device="cpu", heads=4, kv_heads=2):
    """q, k, v that reach a cap of 3, a quarter of the queries tiny, and the options of `attention`."""
    generator = torch.Generator().manual_seed(0)
    options = dict(call)
    batch, time, space, width = 2, 7, 5, 6

    def draw(heads):
        x = torch.randn(batch, time, space, heads, width, generator=generator, dtype=torch.float64)
        norms = torch.randn(batch, time, space, heads, 1, generator=generator, dtype=torch.float64).exp()
        return (2 + 2 * torch.rand(width, generator=generator, dtype=torch.float64)) * x * norms

    q, k, v = draw(heads), draw(kv_heads), draw(kv_heads)
    q[:, ::4] *= 1e-3
    q = q[:, -options.pop("queries", time) :]
    if "filled" in options:
        options["filled"] = torch.tensor(options["filled"], device=device)
    if options.pop("prepared", False):
        positions = torch.arange(q.shape[1] if options["axis"] == "time" else space)
        angles = tuple(table.to(device, dtype) for table in rotation(positions, width))
        options["preparation"] = Preparation(torch.linspace(0.5, 3, width).to(device, dtype), 1e-6, angles)
    if "mask" in options:
        lengths = (space, space) if options["axis"] == "space" else (q.shape[1], time)
        mask = torch.rand(lengths, generator=generator) > 0.5
        options["mask"] = (mask | torch.eye(*lengths, dtype=torch.bool).flip(0, 1)).to(device)
    return [x.to(device, dtype) for x in (q, k, v)], options


def oracle(
    q,
    k,
    v,
    *,
    axis,
    causal=False,
    window=None,
    softcap=None,
    scale=None,
    mask=None,
    private=0,
    filled=None,
    preparation=None,
    rounded_weights=None,
):
    """Attend query by query in float64, with autograd's gradient."""
    q, k, v = (x.double() for x in (q, k, v))
    if preparation is not None:
        q = kernel_oracle.prepare(q, *preparation, axis)
        q = q if rounded_weights is None else q.to(rounded_weights).double()
    out = torch.empty_like(q)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    for b, t, s, h in product(*map(range, q.shape[:4])):
        query = s if axis == "space" else t + k.shape[1] - q.shape[1]
        keys = []
        for j in range(k.shape[2] if axis == "space" else k.shape[1]):
            late = causal and j > query
            early = window is not None and j <= query - window
            hidden = mask is not None and not mask[s if axis == "space" else t, j]
            hidden |= j >= k.shape[2] - private > query if axis == "space" else False
            hidden |= filled is not None and j >= int(filled)
            if not (late or early or hidden):
                keys.append(j)
        head = h // (q.shape[3] // k.shape[3])
        k_of, v_of = ((x[b, t, keys, head] if axis == "space" else x[b, keys, s, head]) for x in (k, v))
        logits = scale * (k_of * q[b, t, s, h]).sum(-1)
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        weights = (logits - logits.max().detach()).exp()
        if rounded_weights is not None:
            weights = weights.to(rounded_weights).double()
        out[b, t, s, h] = (weights / weights.sum())[None] @ v_of
    return out


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.double().cpu() - expected.cpu()).norm() / expected.norm())


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("backend", "name"), COVERED)
def test_equals_explicit_loops_with_all_gradients(backend, name, dtype, bound, device):
    tensors, options = inputs(CALLS[name], dtype, device)
    for tensor in tensors:
        tensor.requires_grad_()
    weight = torch.linspace(-1, 1, tensors[0].numel(), dtype=torch.float64, device=device).view_as(tensors[0])
    out = attention(*tensors, backend=backend, **options)
    expected = oracle(*tensors, **options)
    assert out.dtype == dtype
    assert relative(out.detach(), expected.detach()) <= bound
    got = torch.autograd.grad((weight * out.double()).sum(), tensors)
    for gradient, wanted in zip(got, torch.autograd.grad((weight * expected).sum(), tensors), strict=True):
        assert relative(gradient, wanted.double()) <= 3 * bound


@pytest.mark.parametrize(("backend", "name"), COVERED_BY_FLEX)
def test_flex_equals_explicit_loops(backend, name, device):
    tensors, options = inputs(CALLS[name], torch.float32, device)
    assert relative(attention(*tensors, backend=backend, **options), oracle(*tensors, **options)) <= 1e-5


@pytest.mark.parametrize(
    ("backend", "name"),
    [*COVERED, pytest.param("flex", "time window capped", marks=pytest.mark.flex)],
)
def test_bfloat16_error_is_at_most_twice_that_of_rounding_queries_and_weights(backend, name, device):
    tensors, options = inputs(CALLS[name], torch.bfloat16, device)
    expected = oracle(*tensors, **options)
    rounded = oracle(*tensors, rounded_weights=torch.bfloat16, **options).bfloat16()
    out = attention(*tensors, backend=backend, **options)
    assert out.dtype == torch.bfloat16
    assert relative(out, expected) <= 2 * relative(rounded, expected)


@pytest.mark.parametrize("backend", ["eager", "sdpa", FLEX])
@pytest.mark.parametrize("window", [7, 8, 1000])
def test_a_window_of_all_frames_hides_nothing(backend, window):
    tensors, _ = inputs({"axis": "time"}, torch.float32)
    got, expected = (attention(*tensors, axis="time", causal=True, window=w, backend=backend) for w in (window, None))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", ["eager", "sdpa", FLEX])
def test_a_window_of_one_returns_the_value_of_the_frame_itself(backend):
    (q, k, v), _ = inputs({"axis": "time"}, torch.float32, kv_heads=4)
    torch.testing.assert_close(attention(q, k, v, axis="time", causal=True, window=1, backend=backend), v)


@pytest.mark.parametrize("backend", ["eager", "sdpa", FLEX])
@pytest.mark.parametrize("axis", ["space", "time"])
def test_grouped_heads_equal_repeated_heads_in_order(backend, axis):
    # The rounding of products depends on their shapes, and large logits amplify it: float64 if the backend has it.
    exact = backend in ("eager", "sdpa")
    (q, k, v), _ = inputs({"axis": axis}, torch.float64 if exact else torch.float32, heads=6, kv_heads=2)
    repeated = (x.repeat_interleave(3, dim=3) for x in (k, v))
    got, bound = attention(q, k, v, axis=axis, backend=backend), 1e-12 if exact else 1e-5
    torch.testing.assert_close(got, attention(q, *repeated, axis=axis, backend=backend), rtol=bound, atol=bound)


@pytest.mark.parametrize("backend", ["eager", "sdpa", FLEX])
@pytest.mark.parametrize("hidden", [slice(5, None), slice(0, 2)], ids=["future", "out of the window"])
def test_large_values_at_hidden_keys_change_no_bit(backend, hidden, device):
    (q, k, v), _ = inputs({"axis": "time"}, torch.float32, device)
    before, after = (5, 7) if hidden.start == 0 else (0, 5)

    def rows(k, v):
        return attention(q, k, v, axis="time", causal=True, window=3, backend=backend)[:, before:after]

    clean = rows(k, v)
    k[:, hidden], v[:, hidden] = 1e4, -1e4
    assert torch.equal(rows(k, v), clean)


@pytest.mark.parametrize("backend", ["eager", "sdpa", FLEX])
@pytest.mark.parametrize("axis", ["space", "time"])
def test_slices_of_a_fused_projection_give_equal_results(backend, axis):
    tensors, _ = inputs({"axis": axis}, torch.float32)
    # NaN around the slices would reach the result if it was read.
    storage = torch.full((3, 8, 6, 4 + 2 + 2 + 1, 6), torch.nan)
    fused = storage[:2, :7, :5].split([4, 2, 2, 1], dim=3)[:3]
    for view, tensor in zip(fused, tensors, strict=True):
        view.copy_(tensor)
    got = attention(*fused, axis=axis, causal=True, backend=backend)
    torch.testing.assert_close(got, attention(*tensors, axis=axis, causal=True, backend=backend))


class Copies(TorchDispatchMode):
    """Counts the operations that copy a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("clone", "copy_", "_to_copy", "_reshape_copy", "contiguous"):
            self.operations.append(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("axis", ["space", "time"])
def test_sdpa_copies_no_contiguous_tensor(axis):
    tensors, _ = inputs({"axis": axis}, torch.float32, kv_heads=4)
    with Copies() as copies:
        attention(*tensors, axis=axis, causal=True, backend="sdpa")
    assert not copies.operations


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("name", UNCAPPED)
def test_compiles_into_one_graph_with_its_gradient(backend, name):
    tensors, options = inputs(CALLS[name], torch.float32)

    def gradients(function):
        leaves = [x.clone().requires_grad_() for x in tensors]
        return torch.autograd.grad(function(*leaves, backend=backend, **options).square().sum(), leaves)

    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    for got, expected in zip(gradients(compiled), gradients(attention), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.flex
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning")
@pytest.mark.parametrize("name", ["time window capped", "space masked and capped"])
def test_flex_can_be_part_of_an_outer_graph(name):
    tensors, options = inputs(CALLS[name], torch.float32)
    compiled = torch.compile(lambda *x: attention(*x, backend="flex", **options), fullgraph=True)
    torch.testing.assert_close(compiled(*tensors), attention(*tensors, **options), rtol=1e-5, atol=1e-5)


@pytest.mark.flex
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning")
@pytest.mark.parametrize("outer_graph", [False, True], ids=["alone", "in an outer graph"])
@pytest.mark.parametrize(("length", "width"), [(8, 8), (24, 16)])
def test_flex_never_reads_the_keys_of_the_next_row(length, width, outer_graph):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, length, 1, 2, width, generator=generator) for _ in range(3))
    k[1] = 1e4 * q[0, -1]
    compiled = torch.compile(lambda *x: attention(*x, axis="time", softcap=3.0, backend="flex"), fullgraph=True)
    got = compiled(q, k, v) if outer_graph else attention(q, k, v, axis="time", softcap=3.0, backend="flex")
    torch.testing.assert_close(got, attention(q, k, v, axis="time", softcap=3.0), rtol=1e-5, atol=1e-5)


@pytest.mark.flex
def test_flex_raises_instead_of_running_uncompiled_after_too_many_shapes(monkeypatch):
    monkeypatch.setattr(compilation, "FORMS", 1)
    (q, k, v), _ = inputs({"axis": "time"}, torch.float32)
    with torch._dynamo.config.patch(recompile_limit=1, accumulated_recompile_limit=1):
        attention(q, k, v, axis="time", causal=True, backend="flex")
        with pytest.raises(compilation.TooManyFormsError, match="more compiled forms than 1"):
            attention(q[:, 1:], k, v, axis="time", causal=True, backend="flex")


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("name", UNCAPPED)
def test_no_host_synchronisation(backend, name, no_host_sync):
    tensors, options = inputs(CALLS[name], torch.float32)
    with no_host_sync:
        attention(*tensors, backend=backend, **options)


def test_a_block_mask_is_made_once_and_serves_training_after_inference(monkeypatch):
    masks = []
    monkeypatch.setattr("dreamer4_impl.attention.libraries._block_masks", {})

    def kernel(q, k, v, *, block_mask, **_):
        masks.append(block_mask)
        return q[..., : v.shape[-1]]

    monkeypatch.setattr("dreamer4_impl.attention.libraries._compiled_flex", kernel)
    tensors, options = inputs(CALLS["time window"], torch.float32)
    for mode in (torch.inference_mode(), torch.no_grad()):
        with mode:
            attention(*tensors, backend="flex", **options)
    assert masks[0] is masks[1]
    assert not any(tensor.is_inference() for tensor in masks[0].as_tuple() if isinstance(tensor, Tensor))


def test_sdpa_refuses_a_cap():
    tensors, _ = inputs({"axis": "time"})
    with pytest.raises(NotImplementedError, match=r"'sdpa' has no soft cap; got softcap 3.0"):
        attention(*tensors, axis="time", softcap=3.0, backend="sdpa")


@pytest.mark.parametrize("leaf", [0, 1, 2])
def test_flex_refuses_a_gradient_on_a_cpu(leaf):
    tensors, _ = inputs({"axis": "time"}, torch.float32)
    tensors[leaf].requires_grad_()
    with pytest.raises(NotImplementedError, match="'flex' has no gradient on a CPU"):
        attention(*tensors, axis="time", backend="flex")


def test_flex_refuses_float64():
    tensors, _ = inputs({"axis": "time"}, torch.float64)
    with pytest.raises(NotImplementedError, match="'flex' has no float64"):
        attention(*tensors, axis="time", backend="flex")


BAD_OPTIONS = {
    "backend": (
        {"backend": "cudnn"},
        "backend must be one of 'eager', 'chunked', 'sdpa', 'flex', 'triton'; got 'cudnn'",
    ),
    "axis": ({"axis": "height"}, "axis must be one of 'space', 'time'; got 'height'"),
    "cap": ({"softcap": 0.0}, "soft cap must be above 0 and finite .*; got 0.0"),
    "cap without bound": ({"softcap": math.inf}, "soft cap must be above 0 and finite .*; got inf"),
    "window of none": ({"causal": True, "window": 0}, "window counts keys.* from 1; got 0"),
    "window alone": ({"window": 3}, "window comes with causal=True; got window 3 without"),
    "mask shape": ({"mask": torch.ones(2, 7, dtype=torch.bool)}, r"mask must have shape \(Lq, Lk\) = \(7, 7\)"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_are_refused_with_a_clear_message(name):
    options, message = BAD_OPTIONS[name]
    tensors, _ = inputs({"axis": "time"})
    with pytest.raises(ValueError, match=message):
        attention(*tensors, **{"axis": "time", **options})


def test_bad_tensors_are_refused_with_a_clear_message():
    (q, k, v), _ = inputs({"axis": "time"})
    with pytest.raises(ValueError, match="q must have a multiple of k's 2 heads; got 3"):
        attention(q[..., :3, :], k, v, axis="time")
    with pytest.raises(ValueError, match=r"k must have shape of q but for heads and time = \(2, 7, 5, 2, 6\)"):
        attention(q, k[:, :, :4], v[:, :, :4], axis="time")
    with pytest.raises(ValueError, match="v must have shape of k"):
        attention(q, k, v[:, 1:], axis="time")
    with pytest.raises(ValueError, match=r"q must have shape \(B, T, S, H, D\); got \(7, 5, 4, 6\)"):
        attention(q[0], k, v, axis="time")
    with pytest.raises(ValueError, match="at least one key along time"):
        attention(q, k[:, :0], v[:, :0], axis="time")
    with pytest.raises(ValueError, match="causal queries are the last of the keys, so at most 3; got 7"):
        attention(q, k[:, :3], v[:, :3], axis="time", causal=True)
    with pytest.raises(TypeError, match=r"k must have the dtype of q, torch.float64; got torch.float32"):
        attention(q, k.float(), v, axis="time")
    with pytest.raises(TypeError, match=r"mask must be a bool tensor, True = may attend; got torch.int64"):
        attention(q, k, v, axis="time", mask=torch.ones(7, 7, dtype=torch.int64))


def test_the_soft_cap_is_bounded_odd_and_of_slope_one_at_zero():
    logits = torch.linspace(-200, 200, 401, dtype=torch.float64, requires_grad=True)
    capped = soft_cap(logits, 50.0)
    torch.testing.assert_close(capped, torch.tensor([50 * math.tanh(x / 50) for x in logits.tolist()]).double())
    assert capped.abs().max() < 50
    assert torch.equal(capped, -capped.flip(0))
    assert torch.autograd.grad(capped.sum(), logits)[0][200] == 1


def test_every_backend_without_tests_elsewhere_is_tested_here():
    assert set(BACKENDS) - {"chunked", "triton"} == {"eager", "sdpa", "flex"}  # chunked and triton have their own files


def test_eager_is_exact_under_autocast():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 33, 1, 2, 16, generator=generator) for _ in range(3))
    options = {"axis": "time", "causal": True, "softcap": 5.0}
    with torch.autocast("cpu", torch.bfloat16):
        autocast = attention(3 * q, k, v, **options)
    assert torch.equal(autocast, attention(3 * q, k, v, **options))


@pytest.mark.parametrize("backend", ["eager", "chunked", "sdpa", "triton"])
@pytest.mark.parametrize("axis", ["space", "time"])
def test_an_empty_batch_gives_an_empty_result_with_gradients(backend, axis):
    q = torch.zeros(0, 3, 4, 2, 32, requires_grad=True)
    out = attention(q, q, q, axis=axis, causal=axis == "time", backend=backend)
    out.sum().backward()
    assert out.shape == q.shape
    assert q.grad is not None
