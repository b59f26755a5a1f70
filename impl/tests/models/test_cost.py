"""Cost: the counted floating-point operations are those of the formulas, as T and S grow; bytes for the gradient."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dreamer4_impl.models.transformer import Layer, Transformer, TransformerConfig

CONFIG = TransformerConfig(
    width=12, depth=4, heads=4, kv_heads=2, head_width=6, mlp_width=20, context=3, time_every=4, softcap=4.0
)
SIZES = {"once": (2, 3, 5), "T doubled": (2, 6, 5), "S doubled": (2, 3, 10), "B doubled": (4, 3, 5)}


def projections(tokens: int, config: TransformerConfig = CONFIG) -> int:
    """2 · tokens · width · (queries, keys, values and back)."""
    return 2 * tokens * config.width * config.head_width * (2 * config.heads + 2 * config.kv_heads)


def mixing(sequences: int, queries: int, keys: int, config: TransformerConfig = CONFIG) -> int:
    """Logits and weighted sum: 4 · sequences · heads · queries · keys · head_width, independent of kv_heads."""
    return 4 * sequences * config.heads * queries * keys * config.head_width


def feed_forward(tokens: int, config: TransformerConfig = CONFIG) -> int:
    """Three products of 2 · tokens · width · mlp_width."""
    return 6 * tokens * config.width * config.mlp_width


def counted(function, *arguments, **options) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function(*arguments, **options)
    return counter.get_total_flops()


@pytest.mark.parametrize("size", SIZES)
def test_a_space_layer_costs_space_squared_for_each_frame(size):
    batch, time, space = SIZES[size]
    tokens = batch * time * space
    expected = projections(tokens) + mixing(batch * time, space, space) + feed_forward(tokens)
    assert counted(Layer(CONFIG, "space"), torch.zeros(batch, time, space, CONFIG.width)) == expected


@pytest.mark.parametrize("size", SIZES)
def test_a_time_layer_costs_time_squared_for_each_token(size):
    batch, time, space = SIZES[size]
    tokens = batch * time * space
    expected = projections(tokens) + mixing(batch * space, time, time) + feed_forward(tokens)
    assert counted(Layer(CONFIG, "time"), torch.zeros(batch, time, space, CONFIG.width)) == expected


@pytest.mark.parametrize("size", SIZES)
def test_the_mlp_costs_the_same_for_every_token(size):
    batch, time, space = SIZES[size]
    mlp = Layer(CONFIG, "space").mlp
    x = torch.zeros(batch, time, space, CONFIG.width)
    assert counted(mlp, x) == feed_forward(batch * time * space)


@pytest.mark.parametrize("size", SIZES)
def test_the_transformer_costs_the_sum_of_its_layers(size):
    batch, time, space = SIZES[size]
    tokens = batch * time * space
    expected = 4 * (projections(tokens) + feed_forward(tokens))
    expected += 3 * mixing(batch * time, space, space) + mixing(batch * space, time, time)
    assert counted(Transformer(CONFIG), torch.zeros(batch, time, space, CONFIG.width)) == expected


def test_the_backward_pass_costs_twice_the_forward_pass():
    model, x = Transformer(CONFIG), torch.zeros(2, 3, 5, CONFIG.width, requires_grad=True)
    forward = counted(model, x)
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    assert counter.get_total_flops() == 3 * forward


@pytest.mark.parametrize("frames", [1, 100])
def test_one_cached_frame_costs_the_context_at_any_length_of_the_past(frames):
    config = dataclasses.replace(CONFIG, context=7)
    model = Transformer(config)
    cache = model.empty_cache(2, 5)
    x = torch.zeros(2, 1, 5, config.width)
    for _ in range(frames - 1):
        model(x, cache=cache)
    expected = 4 * (projections(10) + feed_forward(10)) + 3 * mixing(2, 5, 5) + mixing(2 * 5, 1, 7)
    assert counted(model, x, cache=cache) == expected


def bytes_for_the_gradient(model: Transformer, x: torch.Tensor) -> int:
    """Bytes of all storages that the forward pass saves for the backward pass, without those of parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, torch.UntypedStorage] = {}  # kept, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(x)
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("size", SIZES)
def test_recomputing_saves_the_input_of_every_layer_and_nothing_else(size):
    model, x = Transformer(CONFIG), torch.randn(*SIZES[size], CONFIG.width, requires_grad=True)
    stored = bytes_for_the_gradient(model, x)
    model.recompute = True
    assert bytes_for_the_gradient(model, x) == CONFIG.depth * x.nbytes
    assert stored > 20 * CONFIG.depth * x.nbytes


@pytest.mark.parametrize("size", SIZES)
def test_recomputing_gives_the_same_gradients_for_the_operations_of_a_forward_pass(size):
    """Without the last product of each layer, whose result no gradient needs."""
    model, x = Transformer(CONFIG), torch.randn(*SIZES[size], CONFIG.width)
    gradients, costs = [], []
    for model.recompute in (False, True):
        model.zero_grad()
        with FlopCounterMode(display=False) as counter:
            model(x.requires_grad_()).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        costs.append(counter.get_total_flops())
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    last_products = CONFIG.depth * feed_forward(x[..., 0].numel()) // 3
    assert costs[1] - costs[0] == costs[0] // 3 - last_products
