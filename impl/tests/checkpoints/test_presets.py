"""Configurations that come with the package."""

import pytest

from dreamer4_impl.checkpoints.names import PHASES, preset_documents
from dreamer4_impl.checkpoints.settings import read_document, settings_from
from dreamer4_impl.checkpoints.toml import to_table
from dreamer4_impl.layers.actions import Categorical

ATARI = {
    "tokenizer": {"height": 64, "width": 64, "channels": 1},
    "dynamics": {"actions": to_table((Categorical("action", 4),)), "tasks": 1},
}
GRID = {
    "tokenizer": {"height": 48, "width": 48, "channels": 3},
    "dynamics": {"actions": to_table((Categorical("action", 3),)), "tasks": 1},
}
FACTS = {"atari-cpu": ATARI, "atari-gpu": ATARI, "grid-cpu": GRID}


def presets():
    return {name: read_document(name) for name in preset_documents()}


def test_presets_are_for_two_cores_and_for_gpus():
    assert set(presets()) == set(FACTS)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", FACTS)
def test_every_preset_follows_the_recipe_in_every_phase(name, phase):
    settings = settings_from(phase, read_document(name), facts=FACTS[name])
    batches, lengths = settings.batches, (settings.model.short_length, settings.model.long_length)
    assert lengths[0] < settings.model.dynamics.transformer.context + 1 <= lengths[1]
    assert batches.image_share == 0.3
    assert batches.long_every > 1
    assert 0 < batches.long_only < 0.5


def test_a_patch_of_the_grid_preset_is_a_cell_and_its_code_has_256_values():
    config = settings_from("tokenizer", read_document("grid-cpu"), facts=GRID).model.tokenizer
    assert (config.patches, config.latents * config.latent_channels) == (36, 256)
