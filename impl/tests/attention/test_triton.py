"""The Triton backend: equal to dense float64 arithmetic with all gradients, a valid operator, clear refusals."""

import importlib
import sys

import pytest
import torch
from torch.library import opcheck

from dreamer4_impl.attention import Preparation, Visible, attention, prepare_keys
from dreamer4_impl.attention.folding import Options
from dreamer4_impl.layers.rope import rotation

from . import kernel_oracle as oracle

pytest.importorskip("triton", reason="needs the extra triton")
from dreamer4_impl.attention.triton import operators

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")

#: Axis, lengths of queries and keys, key/value heads, group, width, rules.
CALLS = {
    "space, agent token": ("space", 35, 35, 1, 3, 64, {"softcap": 20.0, "private": 1}),
    "space, wide": ("space", 33, 33, 1, 1, 128, {"softcap": 20.0}),
    "space, narrow, no cap": ("space", 17, 17, 2, 2, 32, {"softcap": None}),
    "space, cap too high to bound": ("space", 19, 19, 1, 2, 32, {"softcap": 90.0, "private": 3}),
    "time, window": ("time", 37, 37, 1, 3, 32, {"softcap": 20.0, "causal": True, "window": 19}),
    "time, last frames, no cap": ("time", 5, 70, 1, 1, 32, {"softcap": None, "causal": True, "window": 35}),
    "time, mask": ("time", 7, 35, 1, 1, 32, {"softcap": 20.0, "mask": True}),
    "one frame, ring": ("time", 1, 35, 1, 4, 64, {"softcap": 20.0, "filled": 13}),
}


class Problem:
    """Tensors and options of a call that reaches the cap."""

    def __init__(self, name, device, dtype=torch.float32):
        self.axis, length_q, length_k, kv_heads, group, width, rules = CALLS[name]
        self.generator = torch.Generator().manual_seed(0)
        self.q, self.k, self.v = (
            self.draw(length, heads, width).to(device, dtype)
            for length, heads in ((length_q, kv_heads * group), (length_k, kv_heads), (length_k, kv_heads))
        )
        self.gains = [(2 + 2 * torch.rand(width, generator=self.generator)).to(device) for _ in range(2)]
        angles = [x.float().to(device) for x in rotation(torch.arange(length_k) + 100, width)]
        self.preparations = [
            Preparation(gain, 1e-3, tuple(x[-length:] for x in angles))
            for gain, length in zip(self.gains, (length_q, length_k), strict=True)
        ]
        self.rules = dict(rules)
        if "mask" in rules:
            mask = torch.rand(length_q, length_k, generator=self.generator) > 0.5
            mask[:, 2] = True
            self.rules["mask"] = mask.to(device)
        if "filled" in rules:
            self.rules["filled"] = torch.tensor(rules["filled"], device=device)
        self.weight = self.draw(length_q, kv_heads * group, width).to(device, dtype)
        self.leaves = [self.q, self.k, self.v, *self.gains]
        for leaf in self.leaves:
            leaf.requires_grad_()

    def draw(self, length, heads, width):
        shape = (1, 2, length, heads) if self.axis == "space" else (2, length, 2, heads)
        x = torch.randn(*shape, width, generator=self.generator)
        return x * torch.randn(*shape, 1, generator=self.generator).exp()

    def attend(self, backend="triton"):
        k = prepare_keys(self.k, self.preparations[1], self.axis, backend)
        options = {"axis": self.axis, "preparation": self.preparations[0], "backend": backend}
        return attention(self.q, k, self.v, **options, **self.rules)

    def expected(self):
        q, k = (
            oracle.prepare(x, *preparation, self.axis)
            for x, preparation in zip((self.q, self.k), self.preparations, strict=True)
        )
        lengths = [x.shape[2 if self.axis == "space" else 1] for x in (q, k)]
        rules = {**self.rules, "filled": None if "filled" not in self.rules else int(self.rules["filled"])}
        softcap, mask = rules.pop("softcap"), rules.pop("mask", None)
        visible = oracle.visible_keys(*lengths, **rules).to(q.device) if mask is None else mask
        return oracle.attend(q, k, self.v, visible, axis=self.axis, softcap=softcap, scale=q.shape[-1] ** -0.5)

    def gradients(self, out):
        return torch.autograd.grad((self.weight * out).sum(), self.leaves)


def relative(got, expected):
    return float((got.detach().double() - expected.detach().double()).norm() / expected.detach().norm())


@pytest.mark.parametrize("name", CALLS)
def test_float32_equals_dense_float64_with_every_gradient(name, device):
    problem = Problem(name, device)
    out, expected = problem.attend(), problem.expected()
    assert relative(out, expected) <= 1e-5
    for got, wanted in zip(problem.gradients(out), problem.gradients(expected), strict=True):
        assert relative(got, wanted) <= 1e-5


@pytest.mark.parametrize("name", ["space, agent token", "time, window"])
def test_bfloat16_stays_bfloat16_and_close(name, device):
    problem = Problem(name, device, torch.bfloat16)
    out, expected = problem.attend(), problem.expected()
    assert out.dtype == torch.bfloat16
    assert relative(out, expected) <= 0.02
    for got, wanted in zip(problem.gradients(out), problem.gradients(expected), strict=True):
        assert relative(got, wanted) <= 0.04


@pytest.mark.parametrize("axis", ["space", "time"])
@pytest.mark.parametrize("gain", [True, False])
def test_bfloat16_keys_are_prepared_in_float32_and_rounded_once(axis, gain, device):
    generator = torch.Generator().manual_seed(0)
    fused = torch.randn(2, 37, 3, 5, 64, generator=generator).to(device, torch.bfloat16)
    k = fused[:, :, :, 1:3] if axis == "time" else fused.transpose(1, 2)[:, :, :, 1:3]
    angles = tuple(x.float().to(device) for x in rotation(torch.arange(37), 64))
    preparation = Preparation(torch.linspace(1, 2, 64, device=device) if gain else None, 1e-6, angles)
    got, expected = (prepare_keys(k, preparation, axis, backend) for backend in ("triton", "eager"))
    assert got.dtype == torch.bfloat16
    # Where float32 results lie on different sides of a rounding boundary, they differ by one of 8 bits.
    assert (got != expected).float().mean() < 1e-3
    torch.testing.assert_close(got, expected, rtol=2**-7, atol=0)


@pytest.mark.parametrize("frames", [0, 3, 11])
def test_a_frame_is_written_to_its_slot_of_the_ring_only(frames, device):
    generator = torch.Generator().manual_seed(0)
    k, v = (torch.randn(2, 1, 37, 3, 32, generator=generator).to(device) for _ in range(2))
    ring = torch.full((2, 2, 4, 37, 3, 32), 7.0, device=device)
    angles = tuple(x.float().to(device) for x in rotation(torch.tensor([frames]), 32))
    preparation = Preparation(torch.linspace(1, 2, 32, device=device), 1e-6, angles)
    operators.write_keys(k, v, preparation, *ring, torch.tensor(frames, device=device))
    for written, expected in zip(ring, (prepare_keys(k, preparation, "time"), v), strict=True):
        torch.testing.assert_close(written[:, frames % 4], expected[:, 0], rtol=1e-6, atol=1e-6)
        assert (written[:, [slot for slot in range(4) if slot != frames % 4]] == 7).all()


def operator_arguments(device):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 3, 1, heads, 32, generator=generator).to(device) for heads in (2, 1, 1))
    gain, eps = torch.linspace(1, 2, 32, device=device), 1e-6
    cos, sin = (x.float().to(device) for x in rotation(torch.arange(3), 32))
    return [x.requires_grad_() for x in (q, k, v)], (gain.requires_grad_(), cos, sin, eps)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "prepared"])
def test_attend_is_a_valid_operator(raw, device):
    (q, k, v), preparation = operator_arguments(device)
    preparation = preparation if raw else (None, None, None, 0.0)
    opcheck(torch.ops.dreamer4.attend, (q, k, v, "time", *preparation, True, 2, 0, None, None, 20.0, 0.2))


def test_prepare_keys_and_write_keys_are_valid_operators(device):
    (_, k, v), preparation = operator_arguments(device)
    opcheck(torch.ops.dreamer4.prepare_keys, (k, "time", *preparation))
    ring = torch.zeros(2, 1, 4, 1, 1, 32, device=device)
    frame = [x[:, :1].detach() for x in (k, v)]
    angles = [x if isinstance(x, float) else x.detach() for x in preparation]
    opcheck(torch.ops.dreamer4.write_keys, (*frame, *ring, torch.tensor(5, device=device), *angles))


def test_compiles_into_one_graph_with_every_gradient(device):
    torch.compiler.reset()
    problem = Problem("time, mask", device)
    compiled = torch.compile(problem.attend, fullgraph=True, backend="aot_eager")
    out, expected = compiled(), problem.attend()
    assert torch.equal(out, expected)
    for got, wanted in zip(problem.gradients(out), problem.gradients(expected), strict=True):
        torch.testing.assert_close(got, wanted)
    torch.compiler.reset()


def test_host_never_reads_values(device, no_host_sync):
    problem = Problem("one frame, ring", device)
    with no_host_sync, torch.no_grad():
        problem.attend()


def attend_two_frames(dtype=torch.float32, width=32, preparation=None):
    x = torch.zeros(1, 2, 1, 1, width, dtype=dtype)
    return operators.attend(x, x, x, Options("time", preparation, Visible(), None, 1.0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_refuses_other_dtypes(dtype):
    with pytest.raises(NotImplementedError, match=f"float32 and bfloat16; got q of {dtype}: use 'eager'"):
        attend_two_frames(dtype)


@pytest.mark.parametrize("width", [7, 40, 96])
def test_prepared_heads_of_another_width_equal_eager(width, device):
    generator = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(1, 19, 2, heads, width, generator=generator).to(device).requires_grad_() for heads in (4, 2, 2)
    ]
    outputs = [attention(*leaves, axis="time", causal=True, softcap=3.0, backend=name) for name in ("triton", "eager")]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(out.square().sum(), leaves) for out in outputs]
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_refuses_a_head_width_without_a_tile():
    with pytest.raises(NotImplementedError, match="width 32, 64 and 128; got q of width 136"):
        attend_two_frames(width=136)
    with pytest.raises(NotImplementedError, match="width 32, 64 and 128; got q of width 48"):
        attend_two_frames(width=48, preparation=Preparation(None, 1e-6, rotation(torch.arange(2), 48)))


def test_refuses_the_cpu_without_the_interpreter(monkeypatch):
    monkeypatch.setattr(operators.kernels.INTERPRETED, "value", False)
    with pytest.raises(NotImplementedError, match=r"only under Triton's interpreter .*; got q on the CPU"):
        attend_two_frames()


def test_without_triton_the_import_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "dreamer4_impl.attention.triton.operators")
    with pytest.raises(ImportError, match=r"pip install 'dreamer4-conformance\[triton\]'"):
        importlib.import_module("dreamer4_impl.attention.triton.operators")


def test_a_call_of_few_programs_has_smaller_tiles():
    def programs(frames):
        q, k = (torch.empty(1, frames, 264, heads, 128, dtype=torch.bfloat16, device="meta") for heads in (16, 4))
        lse = torch.empty(1, frames, 4, 264, 4, device="meta")
        launch = operators.forward_launch(q, k, k, q, lse, Options("space", None, Visible(), None, 1.0))
        return launch.tile.rows, launch.programs

    assert programs(1) == (32, 132), "one frame gives each multiprocessor of an H200 one program"
    assert programs(256)[0] == operators.TILES["attend", 2, 128].rows
