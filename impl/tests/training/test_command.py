"""The command `dreamer4-train`: runs, resuming, and messages for errors."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamer4_impl.checkpoints.checkpoint import load_model, read, steps
from dreamer4_impl.compilation import FORMS, TooManyFormsError
from dreamer4_impl.data.format import Header
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.layers.actions import Categorical
from dreamer4_impl.play.export import export
from dreamer4_impl.training.command import main
from dreamer4_impl.training.data import TrainingData
from dreamer4_impl.training.loop import Trainer
from dreamer4_impl.training.phases.dynamics import DynamicsPhase

from . import toy

DOCUMENT = """\
steps = 2
[model]
preset = "tiny"
[batches]
size = 2
[records]
tensorboard = false
[execution]
device = "cpu"
"""


def record(path, height=6, game="game", lengths=(20, 20, 20), moves=4, labelled=True, ends=False):
    random = np.random.default_rng(0)
    with DatasetWriter(path, Header("noise", height, 8, 3, (Categorical("move", moves),))) as writer:
        for length in lengths:
            frames = random.integers(0, 256, (length, height, 8, 3)).astype(np.uint8)
            actions, rewards = random.integers(0, moves, length), random.normal(size=length).astype(np.float32)
            continues = np.arange(length) < length - ends
            writer.add_episode(frames, {"move": actions} if labelled else None, rewards, continues, task=game)
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Directory with a document, a dataset and a run of the tokenizer."""
    place = tmp_path_factory.mktemp("command")
    (place / "mine.toml").write_text(DOCUMENT)
    record(place / "data")
    assert train(place, "tokenizer") == 0
    return place


def train(place, phase, *arguments, run=None):
    typed = [phase, str(place / "mine.toml"), "--data", str(place / "data"), "--run", str(run or place / phase)]
    return main([*typed, *arguments])


def test_the_lines_of_the_readme_train_a_dynamics(place, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "moving").symlink_to(place)
    monkeypatch.chdir(tmp_path)
    _, lines = re.findall(r"(?s)```python\n(.*?)```", (Path(__file__).parents[3] / "README.md").read_text("utf-8"))
    assert len(lines.splitlines()) <= 15
    assert lines.count("range(4500)") == 1
    names = {}
    exec(lines.replace("range(4500)", "range(3)"), names)
    before = load_model(place / "tokenizer")[0].state_dict()
    changed = {name for name, weight in names["model"].state_dict().items() if not weight.equal(before[name])}
    assert changed
    assert all(name.startswith("dynamics.") for name in changed)


def refused(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def test_model_takes_sizes_actions_and_tasks_from_the_data(place):
    settings = read(steps(place / "tokenizer")[-1]).settings
    assert settings.model.dynamics.actions == (Categorical("move", 4),)
    assert settings.model.dynamics.tasks == 1
    assert settings.data.paths == (str(place / "data"),)


def test_training_without_lpips_is_logged_and_configured(place):
    assert "mean square error alone" in (place / "tokenizer" / "log.txt").read_text()
    assert json.loads((place / "tokenizer" / "settings.json").read_text())["tokenizer"]["perceptual"] == "none"


def test_a_later_phase_starts_from_an_earlier_one_and_can_be_extended(place, capsys):
    assert train(place, "dynamics", "--init", str(place / "tokenizer")) == 0
    assert "done: step 2 of 2" in capsys.readouterr().err
    tokenizer, dynamics = (read(steps(place / phase)[-1]).weights for phase in ("tokenizer", "dynamics"))
    frozen = [name for name in tokenizer if name.startswith("tokenizer.")]
    assert all(np.array_equal(tokenizer[name], dynamics[name]) for name in frozen)
    again = ["dynamics", "--run", str(place / "dynamics"), "--resume", "--set", "steps=3"]
    assert main(again) == 0
    assert [line["step"] for line in toy.curve(place / "dynamics")] == [1, 2, 3]
    assert main(again) == 0


def test_a_run_without_checkpoint_resumes_from_the_start(place, tmp_path):
    assert train(place, "tokenizer", run=tmp_path) == 0
    expected = toy.curve(tmp_path)
    for path in steps(tmp_path):
        path.rename(tmp_path / path.name)
    assert main(["tokenizer", "--run", str(tmp_path), "--resume"]) == 0
    assert toy.curve(tmp_path) == expected


def test_a_dry_run_prints_the_configuration_and_writes_nothing(place, tmp_path, capsys):
    assert train(place, "tokenizer", "--dry-run", "--set", "steps=7", run=tmp_path / "r") == 0
    said = capsys.readouterr().out
    assert "steps = 7\n" in said
    assert "batches.size = 2\n" in said
    assert "trained" in said
    assert "tokenizer.encoder, tokenizer.decoder" in said
    assert "mean square error alone" in said
    assert not (tmp_path / "r").exists()


def test_a_run_is_never_overwritten(place, capsys):
    assert train(place, "tokenizer") == 2
    assert (
        "has checkpoints up to step-00000002: continue it with --resume, or choose another --run"
        in capsys.readouterr().err
    )


def test_usage_errors_are_messages(place, tmp_path, capsys):
    data, mine, run = place / "data", place / "mine.toml", tmp_path / "run"
    assert "name datasets with --data" in refused(capsys, "tokenizer", mine, "--run", run)
    assert "no model is given" in refused(capsys, "tokenizer", "--data", data, "--run", run)
    assert "name its run with --init" in refused(capsys, "dynamics", mine, "--data", data, "--run", run)
    assert "has nothing to resume" in refused(capsys, "dynamics", "--run", run, "--resume")
    assert "leave out CONFIG and --init" in refused(capsys, "dynamics", mine, "--run", run, "--resume")
    other = refused(capsys, "agent", "--run", place / "tokenizer", "--resume")
    assert "is a run of the phase 'tokenizer'; got 'agent'" in other
    typed = ("tokenizer", mine, "--data", data, "--run", run, "--set")
    assert "did you mean 'batches.size'" in refused(capsys, *typed, "batches.siz=3")
    assert "heads must be a multiple of kv_heads" in refused(capsys, *typed, "model.dynamics.transformer.heads=3")
    assert "execution.device must be" in refused(capsys, *typed, "execution.device=abacus")
    assert not run.exists()


def test_data_that_do_not_fit_the_model_are_refused(place, tmp_path, capsys):
    other = record(tmp_path / "other", height=7)
    said = refused(capsys, "tokenizer", "--run", place / "tokenizer", "--resume", "--data", other)
    assert "the model is for frames of (6, 8, 3) (height, width, channels); those of" in said
    assert "are (7, 8, 3)" in said


def test_episodes_shorter_than_every_clip_are_trained_on_and_counted(place, tmp_path, capsys):
    """Clips of 4 and 7 frames; the first of every ten episodes is held out."""
    data, typed = record(tmp_path / "data", lengths=(9, 3, 6, 1)), ["tokenizer", str(place / "mine.toml")]
    typed += ["--data", data, "--run", str(tmp_path / "run")]
    counts = [
        "data: 3 episodes, 10 frames to train on; 1 episodes, 9 frames held out",
        "clips of 4 frames: 2 of 3 episodes are shorter and padded; 20.0% of the frames of a batch are padding",
        "clips of 7 frames: 3 of 3 episodes are shorter and padded; 52.4% of the frames of a batch are padding",
    ]
    assert main([*typed, "--dry-run", "--set", "steps=40"]) == 0
    said = capsys.readouterr().out
    assert [count for count in counts if count not in said] == []
    assert main(typed) == 0
    assert [line["length"] for line in toy.curve(tmp_path / "run")] == [4, 4]
    log = (tmp_path / "run" / "log.txt").read_text()
    assert [count for count in counts[:2] if count not in log] == []
    assert counts[2] not in log


def test_the_end_of_an_episode_is_learned_where_data_have_ends(place, tmp_path, capsys):
    data, mine, run = record(tmp_path / "data", ends=True), str(place / "mine.toml"), str(tmp_path / "agent")
    typed = ["--data", data, "--set", "imagine.horizon=2", "--set", "imagine.context=2"]
    assert main(["agent", mine, *typed, "--run", run, "--init", str(place / "tokenizer")]) == 0
    assert "ends: 2 of 2 episodes terminate\n" in (tmp_path / "agent" / "log.txt").read_text()
    assert [line["means"]["continues"] > 0 for line in toy.curve(tmp_path / "agent")] == [True, True]
    assert main(["imagine", mine, *typed, "--run", str(tmp_path / "imagine"), "--init", run]) == 0
    assert "agent.continues.head.read.weight" in read(steps(tmp_path / "imagine")[-1]).weights
    endless = ["--set", "model.agent.continues=false", "--dry-run"]
    assert main(["imagine", mine, *typed, *endless, "--run", str(tmp_path / "b"), "--init", run]) == 0
    assert "the model has no head for them (model.agent.continues)" in capsys.readouterr().out
    export(tmp_path / "agent", None, tmp_path / "small")  # of the agent, the policy alone
    assert main(["imagine", mine, *typed, "--run", str(tmp_path / "c"), "--init", str(tmp_path / "small")]) == 0
    log = (tmp_path / "c" / "log.txt").read_text()
    assert "small are not those of its model: missing, unchanged: agent.continues." in log


def test_a_run_on_two_datasets_takes_the_tasks_of_both(place, tmp_path, capsys):
    both = [record(tmp_path / game, game=game, labelled=game == "game") for game in ("game", "video")]
    typed = [str(place / "mine.toml"), "--data", *both, "--run"]
    assert main(["tokenizer", *typed, str(tmp_path / "init")]) == 0
    assert main(["agent", *typed, str(tmp_path / "run"), "--init", str(tmp_path / "init")]) == 0
    assert read(steps(tmp_path / "run")[-1]).settings.model.dynamics.tasks == 2
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "relevant samples, 50% of a batch: from 2 of 4 episodes" in log
    assert "1 relevant episodes have no known action: they do not train the policy" in log


def test_dynamics_draw_a_share_of_sequences_with_a_reward(place, tmp_path):
    shapes, moves = (20, 6, 8, 3), {"move": np.ones(20)}
    with DatasetWriter(tmp_path / "data", Header("noise", 6, 8, 3, (Categorical("move", 4),))) as writer:
        for reward in (0.0, 1.0, 0.0):
            writer.add_episode(np.zeros(shapes, np.uint8), moves, np.full(20, reward), task="game")
    typed = ["dynamics", str(place / "mine.toml"), "--data", str(tmp_path / "data"), "--init", str(place / "tokenizer")]
    share = ["--set", "dynamics.rewarded_share=1.0", "--set", "data.held_out=none"]
    assert main([*typed, *share, "--run", str(tmp_path / "run")]) == 0
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "relevant samples, 100% of a batch: from 1 of 3 episodes, clips that contain a reward above 0" in log
    settings = read(steps(tmp_path / "run")[-1]).settings
    data, plan = TrainingData(settings), DynamicsPhase(settings).plan(0)
    batch = data.sampler.batch(0, range(plan.samples), plan.length, plan.relevant)
    assert (batch.rewards > 0).any(dim=1).all()


def test_a_task_keeps_its_number_when_a_later_phase_names_other_datasets_first(place, tmp_path):
    """Tokenizer on a and b; agent on b and a; imagination on b alone."""
    mine, (a, b) = str(place / "mine.toml"), (record(tmp_path / game, game=game) for game in "ab")
    phases, init = {"tokenizer": (a, b), "agent": (b, a), "imagine": (b,)}, []
    short = ["--set", "imagine.horizon=2", "--set", "imagine.context=2", "--set", "steps=1"]
    for phase, data in phases.items():
        run = str(tmp_path / phase)
        assert main([phase, mine, "--data", *data, "--run", run, *short, *init]) == 0
        settings = read(steps(tmp_path / phase)[-1]).settings
        assert (settings.data.tasks, settings.model.dynamics.tasks) == (("a", "b"), 2)
        dataset = TrainingData(settings).dataset
        assert [dataset.tasks[episode.task] for episode in dataset.episodes] == [
            game for path in data for game in 2 * path[-1]
        ]
        init = ["--init", run]
    assert main(["imagine", "--run", run, "--resume", "--data", record(tmp_path / "c", game="c")]) == 2


def test_data_that_a_phase_cannot_use_are_refused_before_the_first_step(place, tmp_path, capsys):
    silent = record(tmp_path / "silent", labelled=False)
    other = record(tmp_path / "other", moves=3)
    start = [place / "mine.toml", "--run", tmp_path / "run", "--init", place / "tokenizer", "--data"]
    for dry in ([], ["--dry-run"]):
        said = refused(capsys, "agent", *start, silent, *dry)
        assert "clones the actions of the relevant episodes; no action is known in any of the 1 of 'noise'" in said
    said = refused(capsys, "dynamics", *start, place / "data", other)
    assert f"the model is for the actions (Categorical(name='move', size=4),); those of {other} are" in said
    assert "is not a dataset: dataset.json is missing" in refused(capsys, "dynamics", *start, tmp_path / "absent")
    assert steps(tmp_path / "run") == []


def test_changed_widths_are_refused_when_weights_are_loaded(place, tmp_path, capsys):
    changed = ("--set", "model.tokenizer.encoder.mlp_width=32", "--init", str(place / "tokenizer"))
    assert train(place, "dynamics", *changed, run=tmp_path / "run") == 2
    assert "use the configuration that the model was trained with" in capsys.readouterr().err


def test_a_backend_without_a_gradient_ends_with_a_message(place, tmp_path, capsys, monkeypatch):
    def refuse(*arguments):
        raise NotImplementedError("backend 'flex' has no gradient on a CPU")

    monkeypatch.setattr("dreamer4_impl.training.gradients.Gradients.__call__", refuse)
    assert train(place, "tokenizer", run=tmp_path) == 2
    assert "dreamer4-train: backend 'flex' has no gradient on a CPU" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["lpips", "torchmetrics"])
def test_a_missing_perceptual_package_is_named(place, tmp_path, capsys, monkeypatch, package):
    for name in ("lpips", "torchmetrics", "torchmetrics.image", "torchmetrics.image.lpip"):
        monkeypatch.setitem(sys.modules, name, None)
    for option in ([], ["--dry-run"]):
        chosen = ("--set", f"tokenizer.perceptual={package}", *option)
        assert train(place, "tokenizer", *chosen, run=tmp_path / "run") == 2
        assert f"pip install {package}; or set tokenizer.perceptual=none" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[" * 100_000, "{", '{"phase": "tokenizer"}', "[]"])
def test_damaged_settings_of_a_run_are_named(tmp_path, capsys, content):
    (tmp_path / "settings.json").write_text(content)
    assert "settings.json cannot be read: " in refused(capsys, "tokenizer", "--run", tmp_path, "--resume")


def test_a_nan_loss_ends_with_status_1(place, tmp_path, capsys):
    assert train(place, "tokenizer", "--set", "optimiser.learning_rate=1e30", "--set", "steps=9", run=tmp_path) == 1
    assert "dreamer4-train: stopped in step" in capsys.readouterr().err


def test_too_many_compiled_forms_end_with_status_1_and_a_line_in_the_log(place, tmp_path, monkeypatch):
    def step(self, micro_batches):
        raise TooManyFormsError("Layer needs more compiled forms than 64: use fewer distinct shapes")

    monkeypatch.setattr(Trainer, "_step", step)
    assert train(place, "tokenizer", run=tmp_path) == 1
    assert "dreamer4-train: Layer needs more compiled forms than 64" in (tmp_path / "log.txt").read_text()


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
@pytest.mark.parametrize("phase", ["dynamics", "agent"])
def test_a_compiled_run_stays_within_the_limit_of_forms(place, tmp_path, phase):
    """Batches of both lengths, single images, and teachers of every number of sequences, with and without gradient."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    many = ["--init", str(place / "tokenizer"), "--set", "batches.size=7", "--set", "steps=40"]
    assert train(place, phase, *many, "--set", "execution.compile=eager", run=tmp_path) == 0
    assert {line["length"] for line in toy.curve(tmp_path)} == {4, 7}
    assert 0 < torch._dynamo.utils.counters["stats"]["unique_graphs"] < FORMS
    torch.compiler.reset()


@pytest.mark.nightly
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_torchrun_gives_the_same_losses_as_one_process(place, tmp_path, engine):
    """All phases, each started from the previous one."""
    init = []
    for phase in ("tokenizer", "dynamics", "agent", "imagine"):
        size = ["--set", "batches.size=4", "--set", "imagine.horizon=3", "--set", "imagine.context=2", *init]
        assert train(place, phase, *size, run=tmp_path / phase) == 0
        options = [str(place / "mine.toml"), "--data", str(place / "data"), "--run", str(tmp_path / "two" / phase)]
        typed = ["dreamer4_impl.training.command", phase, *options, *size, "--set", f"execution.distributed={engine}"]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
        subprocess.run([*torchrun, *typed], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        for one, two in zip(toy.curve(tmp_path / phase), toy.curve(tmp_path / "two" / phase), strict=True):
            assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
        init = ["--init", str(tmp_path / phase)]


def test_help_shows_examples_presets_and_exit_status(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    for taught in (
        "--init runs/tokenizer",
        "--resume",
        "torchrun",
        "exit status",
        "--set optimiser.learning_rate",
        "atari-cpu",
    ):
        assert taught in said
