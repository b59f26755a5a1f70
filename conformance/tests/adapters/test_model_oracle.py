"""The bundled models equal the reference, which was written from the paper without them, to 1e-10 in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamer4_impl.layers.actions import Binary, BinaryEncoder, Categorical, CategoricalEncoder, Continuous
from dreamer4_impl.models.configuration import DynamicsConfig, TokenizerConfig
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.tokenizer import Tokenizer
from dreamer4_impl.models.transformer import Layer, Transformer, TransformerConfig
from dreamer4_reference import sec31_tokenizer, sec32_dynamics
from dreamer4_reference.sec34_layers import layer_kinds

Array = np.ndarray
BATCH, TIME, PATCH = 2, 7, 2

# A cap that acts, a window shorter than T, grouped queries, and sizes that all differ.
CONFIG = TransformerConfig(
    width=10, depth=5, heads=6, kv_heads=2, head_width=4, mlp_width=14, context=3, softcap=2.0, rope_base=100.0
)
TOKENIZER = TokenizerConfig(
    CONFIG, CONFIG, height=3, width=7, patch=PATCH, channels=3, latents=6, latent_channels=5, spatial_tokens=3
)
DYNAMICS = DynamicsConfig(
    CONFIG,
    (Categorical("mouse", 9), Binary("keys", 4), Continuous("stick", 3)),
    spatial_tokens=5,
    spatial_channels=7,
    registers=3,
    action_tokens=2,
    agent=True,
    tasks=4,
    k_max=16,
)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, with no parameter at a special value: gains about 1, all else of order 1."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    for name, parameter in module.named_parameters():
        gain = "norm" in name or name.endswith("_gain")
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.copy_(1 + 0.4 * values if gain else 0.5 * values)
    return module


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whole(below: int, *shape: int, seed: int = 2) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


def array(x: Tensor) -> Array:
    return x.detach().numpy()


def linear(name: str, module: nn.Linear) -> dict[str, Array]:
    return {f"{name}_weight": array(module.weight).T, f"{name}_bias": array(module.bias)}


def layer_parameters(layer: Layer) -> dict[str, Array]:
    """Heads get an axis of their own."""
    attention, config = layer.attention, layer.config
    heads = {
        name: array(getattr(attention, name)).reshape(config.width, -1, config.head_width)
        for name in ("wq", "wk", "wv")
    }
    return {
        "norm1": array(layer.norm1.weight),
        **heads,
        "wo": array(attention.wo).reshape(-1, config.head_width, config.width),
        "q_gain": array(attention.q_gain),
        "k_gain": array(attention.k_gain),
        "norm2": array(layer.norm2.weight),
        **{name: array(getattr(layer.mlp, name)) for name in ("w_gate", "w_up", "w_down")},
    }


def stack(transformer: Transformer, norm: nn.Module) -> dict[str, Any]:
    layers = [layer_parameters(layer) for layer in transformer.layers if isinstance(layer, Layer)]
    assert len(layers) == transformer.config.depth
    return {"layers": layers, "norm": array(norm.get_parameter("weight"))}


def settings(config: TransformerConfig) -> dict[str, Any]:
    return {
        "kinds": layer_kinds(config.depth, config.time_every),
        "window": config.context,
        "softcap": config.softcap,
        "base": config.rope_base,
        "eps": config.norm_eps,
    }


def assert_equal(got: Tensor, expected: Array) -> None:
    assert got.shape == expected.shape
    np.testing.assert_allclose(array(got), expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


# Tokenizer


def tokenizer() -> Tokenizer:
    model = randomised(Tokenizer(TOKENIZER))
    assert isinstance(model, Tokenizer)
    return model


def patches_of(video: Array) -> Array:
    """(B, T, 3, 7, 3) with black below and to the right, in 2×4 patches of 2×2, row by row."""
    padded = np.zeros((BATCH, TIME, 4, 8, 3))
    padded[:, :, :3, :7] = video
    cut = [
        padded[:, :, row : row + PATCH, column : column + PATCH].reshape(BATCH, TIME, -1)
        for row in range(0, 4, PATCH)
        for column in range(0, 8, PATCH)
    ]
    return np.stack(cut, axis=2)


def encoded(model: Tokenizer, video: Tensor, dropped: Tensor | None = None) -> Array:
    encoder = model.encoder
    parameters = {
        **linear("patch", encoder.embed_patch),
        "dropped": array(encoder.dropped),
        "latents": array(encoder.latents),
        **stack(encoder.transformer, encoder.norm),
        **linear("bottleneck", encoder.bottleneck),
    }
    mask = None if dropped is None else array(dropped)
    return sec31_tokenizer.encode(parameters, patches_of(array(video)), dropped=mask, **settings(CONFIG))


def test_the_encoder_equals_the_reference() -> None:
    model, video = tokenizer(), draw(BATCH, TIME, 3, 7, 3)
    assert_equal(model.encode(video), encoded(model, video))


def test_the_encoder_with_dropped_patches_equals_the_reference() -> None:
    model, video, dropped = tokenizer(), draw(BATCH, TIME, 3, 7, 3), draw(BATCH, TIME, 8, seed=3) < 0
    z = model.encode(video, dropped)
    assert_equal(z, encoded(model, video, dropped))
    assert not torch.allclose(z, model.encode(video))


def test_the_decoder_equals_the_reference() -> None:
    model, z = tokenizer(), draw(BATCH, TIME, 3, 10).tanh()
    decoder = model.decoder
    parameters = {
        **linear("latent", decoder.embed_latent),
        "queries": array(decoder.queries),
        **stack(decoder.transformer, decoder.norm),
        **linear("patch", decoder.read_patch),
    }
    patches, video = sec31_tokenizer.decode(parameters, array(z), **settings(CONFIG)), model.decode(z)
    # The video is cropped to its frame, so the padding's pixels are compared as black.
    assert_equal(torch.from_numpy(patches_of(array(video))), patches * patches_of(np.ones(video.shape)))


# Dynamics


def dynamics(config: DynamicsConfig = DYNAMICS) -> Dynamics:
    model = randomised(Dynamics(config))
    assert isinstance(model, Dynamics)
    return model


def inputs(time: int = TIME) -> dict[str, Any]:
    """Frames with labels on the grid, a clean one among them; the second clip has no actions."""
    d = 0.5 ** whole(5, BATCH, time).double()
    tau = (torch.rand(BATCH, time, generator=torch.Generator().manual_seed(4), dtype=torch.float64) / d).floor() * d
    tau[0, 0], d[0, 0] = 1.0, 1 / 16
    return {
        "z": draw(BATCH, time, 5, 7),
        "tau": tau,
        "d": d,
        "actions": {
            "mouse": whole(9, BATCH, time),
            "keys": whole(2, BATCH, time, 4),
            "stick": draw(BATCH, time, 3, seed=5),
        },
        "labelled": torch.tensor([True, False]),
    }


def component(encoder: nn.Module, values: Tensor) -> Array:
    """One component of the actions as tokens, by the reference."""
    if isinstance(encoder, CategoricalEncoder):
        table = array(encoder.table).reshape(1, -1, 2, CONFIG.width)
        return sec32_dynamics.embed_classes(array(values)[..., None], table)
    if isinstance(encoder, BinaryEncoder):
        tables = np.stack([array(encoder.off), array(encoder.on)], axis=1).reshape(4, 2, 2, CONFIG.width)
        return sec32_dynamics.embed_classes(array(values), tables)
    project = encoder.get_submodule("project")
    weight, bias = array(project.get_parameter("weight")).T, array(project.get_parameter("bias"))
    return sec32_dynamics.project_numbers(
        array(values), weight.reshape(3, 2, CONFIG.width), bias.reshape(2, CONFIG.width)
    )


def predicted(model: Dynamics, case: dict[str, Any], agent: Array | None, **change: Any) -> tuple[Array, Array | None]:
    parameters = {
        **linear("spatial", model.embed_spatial),
        "registers": array(model.registers),
        "tau_table": array(model.label.tau_table),
        "d_table": array(model.label.d_table),
        "actions": array(model.actions.embedding),
        **stack(model.transformer, model.norm),
        **linear("read", model.read_spatial),
    }
    encoders = zip(model.actions.components, model.actions.encoders, strict=True)
    components = [component(encoder, case["actions"][part.name]) for part, encoder in encoders]
    z, tau, d, labelled = (array(case[name]) for name in ("z", "tau", "d", "labelled"))
    given = settings(model.config.transformer) | change
    return sec32_dynamics.dynamics(parameters, z, tau, d, components, labelled, agent=agent, **given)


def agent_input(model: Dynamics, task: Tensor, time: int = TIME) -> Array:
    assert model.agent is not None
    assert model.agent.tasks is not None
    token = array(model.agent.embedding) + array(model.agent.tasks)[array(task)][:, None]
    return np.broadcast_to(token[:, None], (BATCH, time, 1, CONFIG.width))


def test_the_dynamics_with_an_agent_equals_the_reference() -> None:
    model, case, task = dynamics(), inputs(), torch.tensor([3, 1])
    z_hat, agent = model(**case, task=task)
    expected, expected_agent = predicted(model, case, agent_input(model, task))
    assert expected_agent is not None
    assert_equal(z_hat, expected)
    assert_equal(agent, expected_agent[:, :, 0])


def test_the_dynamics_without_an_agent_equals_the_reference() -> None:
    config = DynamicsConfig(**(vars(DYNAMICS) | {"agent": False, "tasks": 0}))
    model, case = dynamics(config), inputs()
    z_hat, agent = model(**case)
    assert agent is None
    assert_equal(z_hat, predicted(model, case, None)[0])


def test_the_dynamics_with_a_cache_equals_the_reference_far_beyond_the_window() -> None:
    model, time, task = dynamics(), 6 * CONFIG.context, torch.tensor([0, 2])
    case, cache = inputs(time), model.empty_cache(BATCH)
    frames = [model(**at(case, slice(t, t + 1)), task=task, cache=cache, commit=True)[0] for t in range(time)]
    assert_equal(torch.cat(frames, 1), predicted(model, case, agent_input(model, task, time))[0])


def at(case: dict[str, Any], frames: slice) -> dict[str, Any]:
    parts = {name: case[name][:, frames] for name in ("z", "tau", "d")}
    actions = {name: values[:, frames] for name, values in case["actions"].items()}
    return parts | {"actions": actions, "labelled": case["labelled"]}


CHANGES: dict[str, dict[str, Any]] = {
    "cap": {"softcap": 2.5},
    "no cap": {"softcap": None},
    "window": {"window": 4},
    "base": {"base": 101.0},
    "axes": {"axes": "time"},
    "epsilon": {"eps": 1e-5},
    "order of layers": {"kinds": layer_kinds(5, 4, position="other")},
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_oracle_tells_models_apart_that_differ_in_one_setting(change: str) -> None:
    model, case = dynamics(DynamicsConfig(**(vars(DYNAMICS) | {"agent": False, "tasks": 0}))), inputs()
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_equal(model(**case)[0], predicted(model, case, None, **CHANGES[change])[0])


def test_every_parameter_of_the_dynamics_has_an_effect_on_these_inputs() -> None:
    model, case, task = dynamics(), inputs(), torch.tensor([3, 1])
    before = model(**case, task=task)
    for name, parameter in model.named_parameters():
        parameter.data += 1e-3
        after = model(**case, task=task)
        moved = max((new - old).abs().max() for new, old in zip(after, before, strict=True))
        assert moved > 1e-7, f"{name} moves nothing"
        parameter.data -= 1e-3
