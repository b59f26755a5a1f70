"""Configuration of a run: layers, types, names, and validation."""

import json

import pytest

from dreamer4_impl.checkpoints.names import PHASES, preset_documents
from dreamer4_impl.checkpoints.settings import (
    MODELS,
    TrainingSettings,
    model_from_json,
    model_to_json,
    read_document,
    settings_from,
    settings_from_json,
    settings_to_json,
)
from dreamer4_impl.checkpoints.toml import from_table, to_table
from dreamer4_impl.layers.actions import Binary, Categorical, Continuous
from dreamer4_impl.models import presets

TINY = {"model": {"preset": "tiny"}}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_model_configuration_round_trips_through_json(build):
    config = build()
    assert model_from_json(json.loads(json.dumps(model_to_json(config)))) == config


def test_training_settings_round_trip_through_json():
    settings = settings_from(
        "dynamics", TINY, ["optimiser.average=0.1", "dynamics.d_min_share=0.75", "data.paths=['a']"]
    )
    assert settings_from_json(json.loads(json.dumps(settings_to_json(settings)))) == settings


@pytest.mark.parametrize("component", [Binary("keys", 3), Categorical("mouse", 5), Continuous("stick", 2)])
def test_components_of_an_action_keep_their_kind(component):
    assert from_table(type(component), to_table(component)) == component


def test_later_layers_have_priority():
    document = TINY | {"steps": 1, "seed": 1, "optimiser": {"warmup": 1}, "only": {"agent": {"steps": 2, "seed": 2}}}
    settings = settings_from("agent", document, ["seed=3"])
    assert (settings.steps, settings.seed, settings.optimiser.warmup) == (2, 3, 1)
    assert settings_from("dynamics", document).steps == 1


def test_a_model_can_be_named_and_changed_at_once():
    for document, typed in ((TINY, ["model=small"]), ({"model": "small"}, []), ({}, ["model=small"])):
        settings = settings_from("tokenizer", document, [*typed, "model.tokenizer.height=80"])
        assert (settings.model.tokenizer.height, settings.model.dynamics) == (80, MODELS["small"]().dynamics)
    with pytest.raises(ValueError, match=r"model.preset must be one of 'tiny', .* got 'tyni'"):
        settings_from("tokenizer", {}, ["model=tyni"])
    with pytest.raises(ValueError, match="model must be a table, or the name of a preset; got 3"):
        settings_from("tokenizer", TINY, ["model=3"])


def test_facts_of_the_data_fill_in_absent_settings():
    facts = {"tokenizer": {"height": 12}, "dynamics": {"tasks": 7, "actions": [to_table(Binary("fire", 1))]}}
    own = {"model": {"preset": "tiny", "dynamics": {"tasks": 5}}}
    model = settings_from("tokenizer", own, facts=facts).model
    assert (model.tokenizer.height, model.dynamics.tasks) == (12, 5)
    assert model.dynamics.actions == (Binary("fire", 1),)


@pytest.mark.parametrize("actions", [[], [to_table(Continuous("motors", 2))]])
def test_data_without_a_policy_train_all_but_the_agent(actions):
    own, facts = TINY | {"model": {"preset": "tiny", "agent": {"hidden": 3}}}, {"dynamics": {"actions": actions}}
    assert settings_from("dynamics", own, facts=facts).model.agent is None
    with pytest.raises(ValueError, match="and the data categorical or binary actions; got"):
        settings_from("agent", own, facts=facts)


def test_a_model_without_agent_token_has_no_tasks():
    own = {"model": {"preset": "tiny", "agent": "none", "dynamics": {"agent": False}}}
    assert settings_from("dynamics", own, facts={"dynamics": {"tasks": 7}}).model.dynamics.tasks == 0


def test_without_a_preset_the_model_is_that_of_the_earlier_phase():
    assert settings_from("dynamics", {}, model=presets.tiny()).model == presets.tiny()


def test_execution_backend_applies_to_all_transformers():
    model = settings_from("dynamics", TINY, ["execution.backend=chunked"]).model
    transformers = (model.tokenizer.encoder, model.tokenizer.decoder, model.dynamics.transformer)
    assert {transformer.backend for transformer in transformers} == {"chunked"}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "optimiser.learning_rat=1",
            "there is no setting 'optimiser.learning_rat'; did you mean 'optimiser.learning_rate'",
        ),
        ("only.dynamic.steps=1", "there is no setting 'only.dynamic'; did you mean 'only.dynamics'"),
        ("steps=many", "steps must be a whole number; got 'many'"),
        ("steps=true", "steps must be a whole number; got True"),
        ("steps=1.5", "steps must be a whole number; got 1.5"),
        ("steps=0", "steps must be 1 or more; got 0"),
        ("optimiser.betas=[0.9]", "optimiser.betas must have 2 values"),
        ("optimiser.betas=[0.9, 1.0]", r"optimiser: betas must lie in \[0, 1\)"),
        ("optimiser=3", "optimiser must be a table; got 3"),
        ("execution.autocast=float8", "execution.autocast must be one of 'bfloat16', 'float16'; got 'float8'"),
        ("batches.image_share=2", r"batches: image_share must lie in \[0, 1\]"),
        ("batches.short_length=0", "batches: short_length must be a whole number, 1 or more; got 0"),
        ("batches.short_length=99", r"batches.short_length must be at most model.long_length = \d+; got 99"),
        ("tokenizer.latent_noise=-1", r"tokenizer: latent_noise must be 0 or more and finite; got -1"),
        ("tokenizer.most_dropped=1.5", r"tokenizer: most_dropped must lie in \[0, 1\]"),
        ("steps", "a setting must have the form section.key=value; got 'steps'"),
        ("model.preset=huge", "model.preset must be one of 'tiny', 'small', 'paper'; got 'huge'"),
        ("model.dynamics.transformer.heads=3", "heads must be a multiple of kv_heads; got 3 and 2"),
        ("model.long_length=3", r"model: short_length must lie in \[1, long_length = 3\]"),
        ("model.short_length=2", "agent.length must be below short_length"),
        ("model.dynamics.spatial_channels=7", "dynamics must take the representation of the tokenizer"),
    ],
)
def test_invalid_settings_are_refused_with_a_message(override, sentence):
    with pytest.raises(ValueError, match=sentence):
        settings_from("dynamics", TINY, [override])


def test_phases_that_train_heads_require_an_agent():
    with pytest.raises(ValueError, match=r"the model must have \[model\.agent\]"):
        settings_from("agent", {"model": {"preset": "tiny", "agent": "none"}})


def test_short_batches_of_the_agent_contain_the_targets_of_its_heads():
    assert settings_from("dynamics", TINY, ["batches.short_length=1"]).short_length == 1
    with pytest.raises(ValueError, match=r"batches.short_length must be above model.agent.length = \d+"):
        settings_from("agent", TINY, ["batches.short_length=1"])


def test_a_document_is_read_by_path_or_refused(tmp_path):
    (tmp_path / "mine.toml").write_text("steps = 3\n[model]\npreset = 'tiny'\n")
    assert settings_from("dynamics", read_document(str(tmp_path / "mine.toml"))).steps == 3
    (tmp_path / "broken.toml").write_text("steps = ")
    with pytest.raises(ValueError, match=r"broken.toml is not TOML: "):
        read_document(str(tmp_path / "broken.toml"))


def test_every_preset_is_valid_for_every_phase():
    facts = {
        "tokenizer": {"height": 64, "width": 64, "channels": 1},
        "dynamics": {"actions": [to_table(Categorical("action", 4))], "tasks": 1},
    }
    for name in preset_documents():
        for phase in PHASES:
            assert isinstance(settings_from(phase, read_document(name), facts=facts), TrainingSettings)
