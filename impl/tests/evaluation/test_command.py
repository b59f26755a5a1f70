"""`dreamer4-eval` from end to end, on checkpoints of every phase."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, save
from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.checkpoints.settings import Data, TrainingSettings
from dreamer4_impl.equations.eq11_pmpo import frozen_prior
from dreamer4_impl.evaluation.command import main
from dreamer4_impl.evaluation.evaluation import SECTIONS, Evaluation, EvaluationSettings, _add_caveat, evaluate
from dreamer4_impl.evaluation.held_out import open_joined
from dreamer4_impl.evaluation.measures import Measure
from dreamer4_impl.evaluation.output.document import schema
from dreamer4_impl.evaluation.subject import load_subject
from dreamer4_impl.models.dreamer4 import Dreamer4

from .toy_games import CountingGame

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")

FAST = ["--clips", "4", "--context", "3", "--horizons", "1,2,4", "--steps", "1,4", "--rollouts", "4", "--device", "cpu"]


@pytest.fixture
def run_of(tmp_path, square_model):
    """Factory of runs with a checkpoint of a phase, without the weights whose names start with `without`."""

    def make(phase, without="nothing", **data):
        model, run = square_model, tmp_path / "run"
        settings = TrainingSettings(
            phase, model.config, data=Data(**data), imagine=ImagineOptions(horizon=3, context=2, steps=1)
        )
        weights = {name: value for name, value in model.state_dict().items() if not name.startswith(without)}
        companions = {"prior": frozen_prior(model.agent.policy).state_dict()} if phase == "imagine" else {}
        save(run, Checkpoint(settings, 7, weights, state={"companions": companions}))
        return run

    return make


class Page(HTMLParser):
    """Headings, tags, images and external links of an HTML page."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.images, self.external, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append(tag)
        if tag == "h2" and "id" in values:
            self.headings.append(values["id"])
        if tag == "img":
            self.images.append(values["src"])
        self.external += [v for n, v in attributes if n in ("src", "href") and v and not v.startswith(("data:", "#"))]


def evaluated(run, data, *options):
    status = main([str(run), "--data", str(data), *FAST, *options])
    out = run / "evaluation" / "step-00000007"
    return status, json.loads((out / "evaluation.json").read_text()), (out / "index.html").read_text()


def test_checkpoint_of_the_last_phase_fills_every_section(run_of, square_data, capsys, monkeypatch):
    monkeypatch.setattr("dreamer4_impl.evaluation.played_game.Game", CountingGame)
    options = ["--game", "square", "--episodes", "2", "--random-episodes", "3"]
    status, document, text = evaluated(run_of("imagine"), square_data, *options)
    jsonschema.validate(document, schema())
    assert status == 0
    assert document["checkpoint"] | {"path": ""} == {
        "path": "", "phase": "imagine", "step": 7, "missing": [], "unexpected": []
    }  # fmt: skip
    assert document["skipped"] == {}
    assert document["settings"]["imagine"]["horizon"] == 3  # as the agent was trained
    assert {name.split(".")[0] for name in document["measures"]} == set(SECTIONS)
    assert [document["measures"][name]["n"] for name in ("game.random", "game.prior", "returns.real")] == [3, 2, 4]
    assert document["measures"]["rollout.k4.psnr.h4"]["n"] == 4
    page = Page(text)
    assert page.headings == list(SECTIONS)
    assert (
        page.tags.count("svg") == 8
    )  # by horizon (2), by K, the gap, and dots of the tokenizer and three kinds of returns
    assert [image.split(";")[0] for image in page.images] == ["data:image/png", "data:image/webp"] * 2
    assert page.external == []
    section = text[text.index('<h2 id="returns">') :]
    assert all(f'<th scope="col">{name}</th>' in section for name in ("imagined", "real"))
    assert section.count("<svg") == 1
    terminal = " ".join(capsys.readouterr().out.split())
    assert [shown.count("The imagined return is not reliable: it is 0.00") for shown in (text, terminal)] == [2, 2]
    assert "index.html" in terminal


def test_imagined_returns_without_a_game_say_that_the_real_ones_are_not_known():
    measures, reason = {"imagined.policy": Measure(1, 1, 1, n=2)}, "no game was named"
    evaluation = Evaluation(measures, skipped={"returns": reason}, notes={"imagined": []})
    _add_caveat(evaluation)
    assert evaluation.notes == {"imagined": [f"Not compared with the real return: {reason}."]}


def test_tasks_have_their_numbers_in_the_model_and_unknown_ones_are_refused(square_data, square_model):
    dataset = open_joined([square_data], ("other", "square"))
    assert (dataset.tasks, {episode.task for episode in dataset.episodes}) == (("other", "square"), {1})
    config = replace(square_model.config, dynamics=replace(square_model.config.dynamics, tasks=1))
    with pytest.raises(ValueError, match="dataset must have the 1 tasks of the model; got other, square"):
        evaluate(Dreamer4(config), dataset, EvaluationSettings(), training=dataset)


def test_sections_of_untrained_components_are_skipped_with_a_reason(run_of, square_data):
    status, document, text = evaluated(run_of("tokenizer"), square_data)
    assert status == 0
    assert list(document["skipped"]) == ["rollout", "reward", "imagined", "game", "returns"]
    reason = "the checkpoint is of the phase tokenizer, before the dynamics is trained"
    assert document["skipped"]["rollout"] == reason
    assert f"Skipped: {reason}" in text


@pytest.mark.parametrize(
    ("phase", "absent"), [("tokenizer", ["dynamics", "agent"]), ("dynamics", ["agent"]), ("agent", []), ("imagine", [])]
)
def test_prior_and_absent_components_depend_on_the_phase(run_of, phase, absent):
    subject = load_subject(run_of(phase), "cpu")
    assert list(subject.absent) == absent
    assert (subject.prior is not None) == (phase == "imagine")


def test_checkpoint_without_a_component_lists_its_parameters(run_of):
    subject = load_subject(run_of("imagine", without="agent."), "cpu")
    assert subject.absent == {"agent": "the checkpoint has no weights of the agent"}
    assert "agent.value.head.read.bias" in subject.facts["checkpoint"]["missing"]


def test_checkpoint_without_one_parameter_is_evaluated_and_names_it(run_of, square_data):
    name = "tokenizer.encoder.norm.weight"
    _, document, text = evaluated(run_of("tokenizer", without=name), square_data)
    assert document["checkpoint"]["missing"] == [name]
    assert "tokenizer.model.psnr" in document["measures"]
    assert name in text


def test_bars_decide_the_exit_status(run_of, square_data, capsys):
    run, met = run_of("tokenizer"), "tokenizer.model.psnr < 100"
    assert evaluated(run, square_data, "--require", met)[0] == 0
    status, document, text = evaluated(run, square_data, "--require", met, "--bars", "tokenizer,dynamics")
    assert status == 1
    assert [bar["met"] for bar in document["bars"]] == [False] * 9 + [True]
    assert document["bars"][1]["reason"] == "rollout.k4.psnr.h4 was not measured"
    jsonschema.validate(document, schema())
    assert "1 of 10 met" in text
    assert "missed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bars", "best"], "bars must be some of tokenizer, pca, dynamics, agent, game; got 'best'"),
        (["--require", "psnr"], "a bar must compare two sides"),
        (["--steps", "3"], "each of steps must be a power of two"),
        (["--clips", "0"], "clips must be 1 or more; got 0"),
        (["--random-episodes", "0"], "random_episodes must be 1 or more; got 0"),
        (["--horizons", "100"], "no held-out episode has the 103 frames of a clip"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_errors_of_the_command_line_have_a_clear_message(run_of, square_data, capsys, options, message):
    assert main([str(run_of("tokenizer")), "--data", str(square_data), *FAST, *options]) == 2
    assert message in capsys.readouterr().err


def test_run_without_a_checkpoint_is_refused(tmp_path, square_data, capsys):
    assert main([str(tmp_path), "--data", str(square_data)]) == 2
    assert "there is no checkpoint in" in capsys.readouterr().err


def test_data_of_other_frames_are_refused(run_of, square_data, square_model, capsys):
    config = square_model.config
    square_model.config = replace(config, tokenizer=replace(config.tokenizer, height=15))
    assert main([str(run_of("tokenizer")), "--data", str(square_data), *FAST]) == 2
    assert "(H, W, C) = (15, 16, 1); got (16, 16, 1)" in capsys.readouterr().err


def test_model_trained_on_all_episodes_needs_other_data(run_of, square_data, capsys):
    run = run_of("tokenizer", held_out=None)
    assert main([str(run), "--data", str(square_data), *FAST]) == 2
    assert "trained on all episodes of its data" in capsys.readouterr().err
    _, document, _ = evaluated(run, square_data, "--training-data", str(square_data))
    assert document["dataset"]["held_out"]["episodes"] == 50


def test_held_out_episodes_need_all_training_datasets(run_of, square_data, capsys):
    run = run_of("tokenizer", paths=("one", "two"))
    assert main([str(run), "--data", str(square_data), *FAST]) == 2
    assert (
        "depends on all the datasets of training in their order, one, two; got 1 in --data" in capsys.readouterr().err
    )
    _, document, _ = evaluated(run, square_data, "--data", str(square_data))
    assert document["dataset"]["held_out"]["episodes"] == 10


def test_as_many_episodes_are_held_out_as_in_training(run_of, square_data):
    _, document, _ = evaluated(run_of("tokenizer", held_out=0.5), square_data)
    assert document["dataset"]["held_out"]["episodes"] == document["dataset"]["training"]["episodes"] == 25


def test_help_has_examples_and_lists_the_bars(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "dreamer4-eval runs/dynamics --data breakout" in text
    assert "rollout.k4.psnr.h8 >= rollout.copy.psnr.h8 + 1" in text
