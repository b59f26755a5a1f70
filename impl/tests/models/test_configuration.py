"""Configurations raise on inconsistent values; presets have their documented sizes."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from dreamer4_impl.layers.actions import Binary, Continuous
from dreamer4_impl.models.dreamer4 import Dreamer4, count_parameters
from dreamer4_impl.models.presets import paper, small, tiny

TINY = tiny()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("tokenizer", {"latents": 11}, "latents must be a multiple of spatial_tokens.*; got 11 and 5"),
        ("tokenizer", {"height": 0}, "height must be a whole number, 1 or more; got 0"),
        ("tokenizer", {"query_spread": 0.0}, "query_spread must be above 0 and finite, or None; got 0.0"),
        ("tokenizer", {"latent_spread": -1.0}, "latent_spread must be above 0 and finite, or None; got -1.0"),
        ("tokenizer", {"patch": 2.0}, "patch must be a whole number, 1 or more; got 2.0"),
        ("dynamics", {"k_max": 48}, "k_max must be a power of two, 1 or more; got 48"),
        ("dynamics", {"registers": -1}, "registers must be a whole number, 0 or more; got -1"),
        ("dynamics", {"action_tokens": 0}, "action_tokens must be a whole number, 1 or more; got 0"),
        ("dynamics", {"agent": False}, "only the agent token has tasks: agent must be True; got tasks=3"),
        ("dynamics", {"actions": (Binary("keys", 1), Binary("keys", 2))}, "actions must have distinct names; got"),
        ("agent", {"hidden": 0}, "hidden must be a whole number, 1 or more; got 0"),
        ("agent", {"length": -1}, "length must be a whole number, 0 or more; got -1"),
    ],
)
def test_an_invalid_section_raises(part, change, message):
    with pytest.raises(ValueError, match=message):
        replace(getattr(TINY, part), **change)


def test_an_odd_width_raises():
    odd = replace(TINY.dynamics.transformer, width=25)
    with pytest.raises(ValueError, match=r"transformer.width must be even, one half for τ and one for d; got 25"):
        replace(TINY.dynamics, transformer=odd)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"dynamics": replace(TINY.dynamics, spatial_channels=3)},
            r"dynamics must take the representation of the tokenizer, 5 tokens of 6 channels "
            r"\(10 latents of 3\); got 5 of 3",
        ),
        ({"dynamics": replace(TINY.dynamics, spatial_tokens=10)}, "got 10 of 6"),
        ({"tokenizer": replace(TINY.tokenizer, latents=5)}, r"5 tokens of 3 channels \(5 latents of 3\); got 5 of 6"),
        ({"short_length": 8}, r"short_length must lie in \[1, long_length = 7\]; got 8"),
        ({"short_length": 0}, r"short_length must lie in \[1, long_length = 7\]; got 0"),
        (
            {"short_length": 3, "long_length": 3},
            "long_length must exceed the context length of the dynamics, 3; got 3",
        ),
        ({"short_length": 2}, "agent.length must be below short_length = 2, or short batches lack its targets; got 2"),
        (
            {"dynamics": replace(TINY.dynamics, agent=False, tasks=0)},
            "agent heads need an agent token: dynamics.agent must be True; got False",
        ),
        (
            {"dynamics": replace(TINY.dynamics, actions=(Continuous("joystick", 2),))},
            "a policy head needs categorical and binary actions, at least one; got",
        ),
        (
            {"dynamics": replace(TINY.dynamics, actions=())},
            r"a policy head needs categorical and binary actions, at least one; got \(\)",
        ),
    ],
)
def test_sections_that_do_not_fit_together_raise(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_a_world_model_needs_neither_actions_nor_an_agent():
    config = replace(TINY, agent=None, dynamics=replace(TINY.dynamics, agent=False, tasks=0, actions=()))
    model = Dreamer4(config)
    assert model.agent is None
    z1_hat, h = model.dynamics(torch.randn(1, 2, 5, 6), torch.zeros(1, 2), torch.ones(1, 2))
    assert z1_hat.shape == (1, 2, 5, 6)
    assert h is None


def test_configurations_are_values():
    assert tiny() == TINY
    assert hash(tiny()) == hash(TINY)
    with pytest.raises(FrozenInstanceError):
        TINY.short_length = 3


@pytest.mark.parametrize("preset", [tiny, small, paper])
def test_presets_are_built_on_the_meta_device(preset):
    with torch.device("meta"):
        model = Dreamer4(preset())
    config = preset()
    assert model.tokenizer.config == config.tokenizer
    assert model.dynamics.config == config.dynamics
    assert all(parameter.device.type == "meta" for parameter in model.parameters())


def test_the_papers_model_has_its_number_of_parameters():
    with torch.device("meta"):
        model = Dreamer4(paper())
    assert count_parameters(model.tokenizer) == pytest.approx(400e6, rel=0.05)
    assert count_parameters(model.dynamics) == pytest.approx(1.6e9, rel=0.05)


def test_the_papers_model_has_the_papers_shapes():
    config = paper()
    with torch.device("meta"):
        model = Dreamer4(config)
        z = model.tokenizer.encode(torch.zeros(1, 1, 360, 640, 3))
        actions = {"keys": torch.zeros(1, 1, 23), "mouse": torch.zeros(1, 1, dtype=torch.int64)}
        z1_hat, h = model.dynamics(z, torch.zeros(1, 1), torch.ones(1, 1), actions)
        video = model.tokenizer.decode(z1_hat)
    assert config.tokenizer.patches == 960
    assert (config.tokenizer.latents, config.tokenizer.latent_channels) == (512, 16)
    assert z.shape == z1_hat.shape == (1, 1, 256, 32)
    assert h.shape == (1, 1, 2048)
    assert video.shape == (1, 1, 360, 640, 3)
    assert (config.dynamics.transformer.context, config.short_length, config.long_length) == (192, 64, 256)


def test_square_frames_have_256_patches():
    assert replace(paper().tokenizer, height=256, width=256).patches == 256


def test_presets_have_their_documented_sizes():
    def parameters(preset):
        with torch.device("meta"):
            return count_parameters(Dreamer4(preset()))

    assert parameters(tiny) == pytest.approx(57e3, rel=0.02)
    assert parameters(small) == pytest.approx(28e6, rel=0.02)
