"""The transformer against explicit loops in float64; influence among tokens, compilation, invalid input."""

import dataclasses

import pytest
import torch
from torch import Tensor

from dreamer4_impl.models.transformer import Layer, Transformer, TransformerConfig

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
FLEX = pytest.param("flex", marks=pytest.mark.flex)
CONFIG = TransformerConfig(
    width=12, depth=4, heads=4, kv_heads=2, head_width=6, mlp_width=20, context=3, time_every=2, softcap=4.0
)
#: Tracing takes about a second for each layer.
SHALLOW = dataclasses.replace(CONFIG, depth=2)
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.usefixtures("fresh_compiler"),
]


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def randomised(module: torch.nn.Module, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    """Parameters so large that every operation matters and the cap is reached; gains differ between channels."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(noise / 3 if parameter.ndim == 2 else 2 + noise / 2)
    return module.to(dtype)


def tokens(time: int = 7, space: int = 5, batch: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, time, space, CONFIG.width, dtype=dtype, generator=torch.Generator().manual_seed(1))


def rms_normalised(x: Tensor, gain: Tensor) -> Tensor:
    return gain * x / ((x * x).sum() / x.numel() + CONFIG.norm_eps) ** 0.5


def turned(x: Tensor, position: int) -> Tensor:
    half = x.numel() // 2
    angles = position * CONFIG.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    pairs = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag])


def attended(attention, sequence: list[Tensor], may_attend) -> list[Tensor]:
    """Attention of one sequence of vectors, head by head."""
    width, group = CONFIG.head_width, CONFIG.heads // CONFIG.kv_heads
    outputs = []
    for i, x in enumerate(sequence):
        heads = []
        for h in range(CONFIG.heads):
            of_q, of_k = (slice(n * width, (n + 1) * width) for n in (h, h // group))
            q = turned(rms_normalised(x @ attention.wq[:, of_q], attention.q_gain), i)
            keys = [j for j in range(len(sequence)) if may_attend(i, j)]
            k = [turned(rms_normalised(sequence[j] @ attention.wk[:, of_k], attention.k_gain), j) for j in keys]
            logits = torch.stack([q @ key for key in k]) / width**0.5
            weights = (CONFIG.softcap * (logits / CONFIG.softcap).tanh()).softmax(0)
            heads.append(sum(w * (sequence[j] @ attention.wv[:, of_k]) for w, j in zip(weights, keys, strict=True)))
        outputs.append(torch.cat(heads) @ attention.wo)
    return outputs


def layer_by_loops(layer: Layer, x: Tensor, may_attend) -> Tensor:
    """x + attention(norm(x)), then + swiglu(norm(x)); sequence after sequence, token after token."""
    x = (x if layer.kind == "space" else x.transpose(1, 2)).clone(memory_format=torch.contiguous_format)
    for sequence in x.flatten(0, 1):
        normalised = [rms_normalised(token, layer.norm1.weight) for token in sequence]
        for token, update in zip(sequence, attended(layer.attention, normalised, may_attend), strict=True):
            token += update
            inner = rms_normalised(token, layer.norm2.weight)
            gate, up = inner @ layer.mlp.w_gate, inner @ layer.mlp.w_up
            token += (gate / (1 + (-gate).exp()) * up) @ layer.mlp.w_down
    return x if layer.kind == "space" else x.transpose(1, 2)


@torch.no_grad()
def by_loops(model: Transformer, x: Tensor, private: int) -> Tensor:
    may_attend = {
        "space": lambda i, j: j < x.shape[2] - private or i >= x.shape[2] - private,
        "time": lambda i, j: i - CONFIG.context < j <= i,
    }
    for layer in model.layers:
        x = layer_by_loops(layer, x, may_attend[layer.kind])
    return x


@pytest.mark.parametrize("private", [0, 1, 2])
def test_equals_explicit_loops(private):
    model, x = randomised(Transformer(CONFIG)), tokens()
    torch.testing.assert_close(model(x, private=private).detach(), by_loops(model, x, private), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["sdpa", FLEX])
@pytest.mark.parametrize("private", [0, 1])
def test_backends_agree(backend, private):
    config = dataclasses.replace(CONFIG, softcap=None if backend == "sdpa" else 4.0)
    model, other = Transformer(config), Transformer(dataclasses.replace(config, backend=backend))
    other.load_state_dict(randomised(model, torch.float32).state_dict())
    x = tokens(dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(other(x, private=private), model(x, private=private), rtol=1e-4, atol=1e-4)


def influence(function, x: Tensor) -> Tensor:
    """bool (T, S, T, S): whether the output of a frame's token, first, depends on the input of another."""
    _, time, space, _ = x.shape
    out = function(x)
    moved = torch.empty(time, space, time, space, dtype=torch.bool)
    for t in range(time):
        for s in range(space):
            changed = x.clone()
            changed[:, t, s] += 1
            moved[:, :, t, s] = (function(changed) != out).any(-1).any(0)
    return moved


@torch.no_grad()
def test_a_space_layer_mixes_all_tokens_of_a_frame_and_no_frames():
    layer, x = randomised(Layer(CONFIG, "space")), tokens(time=4, space=3)
    expected = torch.eye(4, dtype=torch.bool)[:, None, :, None].expand(4, 3, 4, 3)
    assert torch.equal(influence(layer, x), expected)


@torch.no_grad()
def test_a_time_layer_mixes_the_last_frames_of_one_token_only():
    layer, x = randomised(Layer(CONFIG, "time")), tokens(time=6, space=3)
    frames = torch.ones(6, 6, dtype=torch.bool).tril().triu(-2)
    expected = frames[:, None, :, None] & torch.eye(3, dtype=torch.bool)[None, :, None, :]
    assert torch.equal(influence(layer, x), expected)


@torch.no_grad()
def test_private_tokens_stay_private_through_all_layers():
    model, x = randomised(Transformer(CONFIG)), tokens(time=3, space=4)
    moved = influence(lambda x: model(x, private=1), x)
    assert not moved[:, :3, :, 3].any()
    assert moved[2, 3].all()


def test_layers_of_other_sizes_are_of_the_kinds_stated():
    config = dataclasses.replace(CONFIG, depth=6, time_every=4)
    assert config.layer_kinds() == ["space", "space", "space", "time", "space", "space"]
    assert [layer.kind for layer in Transformer(config).layers] == config.layer_kinds()


@pytest.mark.parametrize("kind", ["space", "time"])
def test_a_layer_whose_output_matrices_are_zero_is_the_identity(kind):
    layer, x = randomised(Layer(CONFIG, kind)), tokens()
    with torch.no_grad():
        layer.attention.wo.zero_()
        layer.mlp.w_down.zero_()
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize(("batch", "time"), [(3, 3), (3, 4)])
def test_permuting_the_batch_permutes_the_output(batch, time):
    model, x = randomised(Transformer(CONFIG)), tokens(time, batch=batch)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(x[order]), model(x)[order], rtol=1e-12, atol=1e-12)


def test_a_gradient_reaches_every_parameter():
    model = randomised(Transformer(CONFIG))
    model(tokens()).square().sum().backward()
    assert not [name for name, parameter in model.named_parameters() if not parameter.grad.any()]


def test_the_update_of_the_residual_stream_does_not_grow_with_its_scale():
    layer, x = randomised(Layer(CONFIG, "space")), tokens()
    near, far = (layer(scale * x) - scale * x for scale in (1e3, 1e6))
    assert far.norm() < 1.01 * near.norm()


@pytest.mark.parametrize("depth", [2, 32])
def test_the_initial_size_of_the_residual_stream_is_independent_of_depth(depth):
    torch.manual_seed(0)
    model = Transformer(dataclasses.replace(CONFIG, width=64, heads=8, depth=depth, mlp_width=128))
    x = torch.randn(1, 4, 4, 64)
    with torch.no_grad():
        assert 1 < model(x).std() / x.std() < 1.5


def test_queries_and_keys_start_at_qk_gain():
    attention = Layer(dataclasses.replace(CONFIG, qk_gain=2.0), "space").attention
    assert all(gain.tolist() == [2.0] * CONFIG.head_width for gain in (attention.q_gain, attention.k_gain))


def test_output_matrices_start_at_out_scale():
    def written(out_scale):
        torch.manual_seed(0)
        layer = Layer(dataclasses.replace(CONFIG, out_scale=out_scale), "space")
        return layer.attention.wo.std(), layer.mlp.w_down.std()

    for one, three in zip(written(1.0), written(3.0), strict=True):
        torch.testing.assert_close(three, 3 * one)
    assert written(None) == written((2 * CONFIG.depth) ** -0.5)


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.double().cpu() - expected).norm() / expected.norm())


@torch.no_grad()
def test_bfloat16_error_is_at_most_twice_that_of_rounding_the_inputs(device):
    model, x = randomised(Transformer(CONFIG)), tokens()
    exact = model(x)
    in_bfloat16 = model.to(device, torch.bfloat16)(x.to(device, torch.bfloat16))
    expected = model.to("cpu", torch.float64)(x.bfloat16().double())
    assert in_bfloat16.dtype == torch.bfloat16
    assert relative(in_bfloat16, expected) <= 2 * relative(expected, exact)


@torch.no_grad()
def test_autocast_computes_in_bfloat16_and_keeps_the_residual_stream_in_float32():
    model, x = randomised(Transformer(CONFIG), torch.float32), tokens(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = model(x)
    exact = model.double()(x.double())
    rounded = model.bfloat16().double()(x.double())
    assert got.dtype == torch.float32
    assert 1e-3 <= relative(got, exact) <= 3 * relative(rounded, exact)


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("backend", ["eager", FLEX])
def test_the_gpu_agrees_with_the_cpu_and_its_host_never_waits(backend):
    model, x = randomised(Transformer(CONFIG), torch.float32), tokens(dtype=torch.float32)
    expected = model(x)
    other = Transformer(dataclasses.replace(CONFIG, backend=backend)).cuda()
    other.load_state_dict(model.state_dict())
    on_gpu = x.cuda()
    other(on_gpu).sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = other(on_gpu)
        got.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_results_are_on_the_device_of_the_inputs_without_reading_values():
    with torch.device("meta"):
        model, x = Transformer(CONFIG), torch.empty(2, 3, 5, CONFIG.width)
        cache = model.empty_cache(2, 5)
    assert model(x, private=1).device.type == model(x, private=1, cache=cache).device.type == "meta"


def loss_gradients(model, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    model(x, private=1).square().mean().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.nightly)])
def test_a_training_step_compiles_into_one_graph(backend):
    model, x = randomised(Transformer(SHALLOW), torch.float32), tokens(dtype=torch.float32)
    expected = loss_gradients(model, x)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for got, wanted in zip(loss_gradients(compiled, x), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@torch.no_grad()
@pytest.mark.flex
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning")
def test_flex_is_part_of_the_one_graph_of_the_compiled_forward_pass():
    model, x = randomised(Transformer(SHALLOW), torch.float32), tokens(dtype=torch.float32)
    other = Transformer(dataclasses.replace(SHALLOW, backend="flex"))
    other.load_state_dict(model.state_dict())
    compiled = torch.compile(other, fullgraph=True)
    torch.testing.assert_close(compiled(x, private=1), model(x, private=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dynamic", [pytest.param(None, marks=pytest.mark.nightly), False])
def test_nothing_is_compiled_again_when_a_time_length_repeats(dynamic):
    model = randomised(Transformer(SHALLOW), torch.float32)
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=dynamic)
    lengths = [4, 6, 1]
    for time in lengths:
        compiled(tokens(time, dtype=torch.float32), private=1)
    with torch.compiler.set_stance("fail_on_recompile"):
        for time in lengths + lengths:
            compiled(tokens(time, dtype=torch.float32), private=1)


REFUSED = {
    "heads": ({"heads": 3}, "heads must be a multiple of kv_heads; got 3 and 2"),
    "head_width": ({"head_width": 5}, "head_width must be even, because RoPE turns pairs of channels; got 5"),
    "depth": ({"depth": 0}, "depth must be a whole number, 1 or more; got 0"),
    "context": ({"context": 2.5}, "context must be a whole number, 1 or more; got 2.5"),
    "softcap": ({"softcap": -1.0}, "softcap must be above 0 and finite; got -1.0"),
    "backend": (
        {"backend": "cudnn"},
        "backend must be one of 'eager', 'chunked', 'sdpa', 'flex', 'triton'; got 'cudnn'",
    ),
    "triton": ({"backend": "triton"}, r"backend 'triton' needs a head_width of \(32, 64, 128\); got 6"),
    "sdpa with a cap": ({"backend": "sdpa"}, "backend 'sdpa' has no soft cap.* softcap must be None; got 4.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_inconsistent_configuration_raises(name):
    changes, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **changes)


def test_invalid_input_raises_and_names_the_argument():
    model = Transformer(CONFIG)
    with pytest.raises(
        ValueError, match=r"x must have shape \(B, T, S, width\) = \(2, 7, 5, 12\); got \(2, 7, 5, 11\)"
    ):
        model(tokens(dtype=torch.float32)[..., 1:])
    with pytest.raises(ValueError, match=r"x must have shape \(B, T, S, D\)"):
        model(tokens(dtype=torch.float32)[0])
    with pytest.raises(
        TypeError, match=r"x must have the dtype of the parameters, torch.float32, .*; got torch.float64"
    ):
        model(tokens())
    with pytest.raises(ValueError, match="private counts positions, from 0 to the number of keys, 5; got 6"):
        model(tokens(dtype=torch.float32), private=6)
    with pytest.raises(ValueError, match="kind must be one of 'space', 'time'; got 'both'"):
        Layer(CONFIG, "both")
