"""The cache: frame by frame equals the full sequence, also far beyond the window."""

import dataclasses

import pytest
import torch
from torch import Tensor

from dreamer4_impl.attention import Cache, Preparation
from dreamer4_impl.layers.rope import rotation
from dreamer4_impl.models.transformer import Transformer, TransformerConfig

FLEX = pytest.param("flex", marks=pytest.mark.flex)
CONFIG = TransformerConfig(
    width=12, depth=4, heads=4, kv_heads=2, head_width=6, mlp_width=20, context=4, time_every=2, softcap=4.0
)
FRAMES = 5 * CONFIG.context + 1
#: Frames of each call.
ARRIVALS = {
    "one by one": [1] * FRAMES,
    "all at once": [FRAMES],
    "three, then one by one": [3] + [1] * (FRAMES - 3),
    "more than the context, then one by one": [7] + [1] * (FRAMES - 7),
    "in groups": [2, 5, 1, 4, 1, 1, 3, 4],
}
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")


def model(dtype: torch.dtype = torch.float64, device: str = "cpu", **changes) -> Transformer:
    """Parameters large enough that frames at the edge of the window matter; gains differ from channel to channel."""
    generator = torch.Generator().manual_seed(0)
    transformer = Transformer(dataclasses.replace(CONFIG, **changes))
    for parameter in transformer.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(noise / 3 if parameter.ndim == 2 else 2 + noise / 2)
    return transformer.to(device, dtype)


def tokens(batch: int = 2, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, FRAMES, 3, CONFIG.width, generator=generator, dtype=torch.float64).to(device, dtype)


def in_groups(transformer: Transformer, x: Tensor, cache: Cache, arrivals: list[int], **options) -> Tensor:
    return torch.cat([transformer(group, cache=cache, **options) for group in x.split(arrivals, dim=1)], dim=1)


def relative(got: Tensor, expected: Tensor) -> float:
    return float(((got.double() - expected.double()).norm() / expected.double().norm()).detach())


@pytest.mark.parametrize("arrivals", ARRIVALS)
@pytest.mark.parametrize(("batch", "private"), [(2, 0), (1, 1)])
def test_frames_in_groups_equal_the_full_sequence(arrivals, batch, private, device):
    transformer, x = model(device=device), tokens(batch, device=device)
    got = in_groups(transformer, x, transformer.empty_cache(batch, 3), ARRIVALS[arrivals], private=private)
    assert relative(got, transformer(x, private=private)) <= 1e-12


@pytest.mark.parametrize("context", [1, 2, FRAMES, 2 * FRAMES])
def test_any_context_equals_the_full_sequence(context):
    transformer, x = model(context=context), tokens()
    for arrivals in ([1] * FRAMES, [3] + [1] * (FRAMES - 3)):
        got = in_groups(transformer, x, transformer.empty_cache(2, 3), arrivals)
        assert relative(got, transformer(x)) <= 1e-12


@pytest.mark.parametrize("backend", ["sdpa", FLEX])
def test_every_backend_equals_the_full_sequence(backend):
    cap = None if backend == "sdpa" else 4.0
    transformer, x = model(torch.float32, backend=backend, softcap=cap), tokens(dtype=torch.float32)
    with torch.no_grad():
        got = in_groups(transformer, x, transformer.empty_cache(2, 3), [3] + [1] * (FRAMES - 3))
        assert relative(got, transformer(x)) <= 1e-5


@torch.no_grad()
def test_bfloat16_differs_from_the_full_sequence_by_less_than_rounding(device):
    transformer, x = model(torch.bfloat16, device), tokens(dtype=torch.bfloat16, device=device)
    full = transformer(x)
    got = in_groups(transformer, x, transformer.empty_cache(2, 3), ARRIVALS["three, then one by one"])
    assert relative(got, full) <= relative(full, transformer.double()(x.double()))


@pytest.mark.parametrize("start", [10**4, 10**6])
def test_error_does_not_grow_with_the_number_of_frames(start):
    transformer, x = model(), tokens()
    cache = transformer.empty_cache(2, 3)
    in_groups(transformer, torch.zeros_like(x[:, : CONFIG.context]), cache, [CONFIG.context])
    cache.frames.fill_(start * CONFIG.context)
    near = transformer.empty_cache(2, 3)
    in_groups(transformer, torch.zeros_like(x[:, : CONFIG.context]), near, [CONFIG.context])
    far, expected = (in_groups(transformer, x, c, [1] * FRAMES)[:, 3 * CONFIG.context :] for c in (cache, near))
    assert relative(far, expected) <= 1e-8


@pytest.mark.parametrize("frames", [1, 2, 6])
@pytest.mark.parametrize("before", [0, 2, 11])
def test_without_commit_the_cache_does_not_change(frames, before):
    transformer, x = model(), tokens()
    full = transformer(x)
    cache = transformer.empty_cache(2, 3)
    if before:
        transformer(x[:, :before], cache=cache)
    for seed in range(3):
        noise = torch.randn(2, frames, 3, CONFIG.width, generator=torch.Generator().manual_seed(seed)).double()
        expected = transformer(torch.cat([x[:, :before], noise], dim=1))[:, before:]
        assert relative(transformer(noise, cache=cache, commit=False), expected) <= 1e-12
    assert int(cache.frames) == before
    got = in_groups(transformer, x[:, before:], cache, [3] + [1] * (FRAMES - before - 3))
    assert relative(got, full[:, before:]) <= 1e-12


def test_a_clone_is_independent():
    transformer, x = model(), tokens()
    cache = transformer.empty_cache(2, 3)
    in_groups(transformer, x[:, :9], cache, [1] * 9)
    branch = cache.clone()
    in_groups(transformer, -x[:, :5], branch, [1] * 5)
    got = in_groups(transformer, x[:, 9:], cache, [1] * (FRAMES - 9))
    assert relative(got, transformer(x)[:, 9:]) <= 1e-12
    assert (int(cache.frames), int(branch.frames)) == (FRAMES, 14)


def test_a_reset_clears_everything_including_nan():
    transformer, x = model(), tokens()
    cache = transformer.empty_cache(2, 3)
    transformer(torch.full_like(x, torch.nan), cache=cache)
    cache.reset()
    got = in_groups(transformer, x, cache, [1] * FRAMES)
    assert relative(got, transformer(x)) <= 1e-12


def test_a_frame_beyond_the_context_changes_no_bit():
    transformer, x = model(context=2, depth=2), tokens()
    outputs = []
    for first in (x[:, :1], -5 * x[:, :1]):
        cache = transformer.empty_cache(2, 3)
        outputs.append(in_groups(transformer, torch.cat([first, x[:, 1:]], dim=1), cache, [1] * FRAMES))
    assert torch.equal(outputs[0][:, 2:], outputs[1][:, 2:])
    assert not torch.equal(outputs[0][:, 1], outputs[1][:, 1])


def test_the_cache_is_written_and_one_frame_is_read_in_place():
    transformer, x = model(), tokens()
    cache = transformer.empty_cache(2, 3)
    pointers = cache.keys.data_ptr(), cache.values.data_ptr(), cache.frames.data_ptr()
    in_groups(transformer, x, cache, [3] + [1] * (FRAMES - 3))
    assert (cache.keys.data_ptr(), cache.values.data_ptr(), cache.frames.data_ptr()) == pointers
    new = torch.zeros(2, 1, 3, 2, 6, dtype=torch.float64)
    keys, _ = cache.extend(0, new, new, Preparation(None, 1e-6, rotation(torch.arange(1), 6)), commit=False)
    assert keys.data_ptr() == cache.keys.data_ptr()


def test_no_gradient_flows_through_a_cache():
    transformer, x = model(), tokens()
    cache = transformer.empty_cache(2, 3)
    assert not transformer(x[:, :3], cache=cache).requires_grad
    assert not cache.keys.requires_grad


def test_no_host_synchronisation(no_host_sync):
    transformer, x = model(), tokens()
    cache = transformer.empty_cache(2, 3)
    with no_host_sync:
        in_groups(transformer, x[:, :6], cache, [4, 1, 1], private=1)


def test_a_step_is_one_graph_that_is_compiled_once():
    torch.compiler.reset()
    transformer, x = model(depth=2), tokens()
    cache = transformer.empty_cache(2, 3)
    expected = transformer(x)
    compiled = torch.compile(transformer, fullgraph=True, backend="aot_eager", dynamic=False)
    first = compiled(x[:, :1], cache=cache)
    with torch.compiler.set_stance("fail_on_recompile"):
        rest = in_groups(compiled, x[:, 1:], cache, [1] * (FRAMES - 1))
    torch.compiler.reset()
    assert relative(torch.cat([first, rest], dim=1), expected) <= 1e-12


def test_bad_arguments_are_refused_with_a_clear_message():
    transformer, x = model(), tokens()
    with pytest.raises(
        ValueError, match=r"the cache's keys must have shape \(layers, B, C, S, H, D\) = \(2, 2, 4, 3, 2, 6\)"
    ):
        transformer(x, cache=transformer.empty_cache(1, 3))
    with pytest.raises(TypeError, match=r"k must have the dtype of the cache, torch.float32; got torch.float64"):
        transformer(x, cache=transformer.empty_cache(2, 3, torch.float32))
    with pytest.raises(ValueError, match=r"shape must be \(layers, B, C, S, H, D\), .*; got \(1, 1, 0, 1, 1, 1\)"):
        Cache.empty((1, 1, 0, 1, 1, 1))
    preparation, k = Preparation(None, 1e-6, rotation(torch.arange(1), 2)), torch.zeros(1, 1, 1, 1, 2)
    with pytest.raises(ValueError, match=r"v must have shape \(B, new, S, H, D\)"):
        Cache.empty((1, 1, 1, 1, 1, 2)).extend(0, k, torch.cat([k, k], dim=1), preparation, commit=True)
