"""`dreamer4-train all`: plan, resuming, results, and messages for errors."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("gymnasium", reason="needs gymnasium")

from dreamer4_impl.checkpoints.checkpoint import steps
from dreamer4_impl.checkpoints.names import preset_documents
from dreamer4_impl.checkpoints.settings import read_document
from dreamer4_impl.checkpoints.toml import from_table
from dreamer4_impl.training.command import main
from dreamer4_impl.training.sequence.options import EvaluationOptions, RecordOptions
from dreamer4_impl.training.sequence.processes import Processes

GAME = f"{Path(__file__).parent / 'sequence_game.py'}:Strip-v0"
STAGES = ["data", "tokenizer", "dynamics", "agent", "imagine", "evaluation"]
DOCUMENT = """\
steps = 4
[model]
preset = "tiny"
[batches]
size = 2
[records]
tensorboard = false
checkpoint_every = 1
[execution]
device = "cpu"
[imagine]
horizon = 2
context = 2
[record]
frames = 320
size = 8
[evaluation]
episodes = 2
rollouts = 4
clips = 4
horizons = [1, 2]
bars = ["tokenizer"]
[only.agent]
optimiser = { warmup = 7 }
"""
MISSED = {"bar": "a.b > 1", "met": False, "left": 0.5, "right": 1.0, "reason": ""}
EVALUATION = {
    "measures": {"game.policy": {"value": 1.25, "low": None, "high": 2.0, "n": 2}},
    "skipped": {}, "notes": {}, "bars": [MISSED], "seconds": {}, "checkpoint": {"path": "/absolute"},
}  # fmt: skip


@pytest.fixture
def words(tmp_path):
    (tmp_path / "mine.toml").write_text(DOCUMENT)
    return ["all", str(tmp_path / "mine.toml"), "--env", GAME, "--run", str(tmp_path / "r"), "--frame-skip", "1"]


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Commands that were run; `failures` maps a stage to the exit status that it ends with the next time."""

    class Commands(list):
        failures: dict = {}  # noqa: RUF012

    log = Commands()

    def run(processes, command):
        log.append(command)
        name = {"dreamer4-record": "data", "dreamer4-eval": "evaluation"}.get(command[0], command[1])
        status = log.failures.pop(name, None)
        (tmp_path / "r" / name).mkdir(exist_ok=True)
        if status is not None:
            if status > 128:
                (tmp_path / "r" / name / "checkpoints" / "step-00000001").mkdir(parents=True)
                processes.receive(status - 128, None)
            return status
        if name == "evaluation":
            (tmp_path / "r" / name / "evaluation.json").write_text(json.dumps(EVALUATION))
        return int(name == "evaluation")

    monkeypatch.setattr(Processes, "run", run)
    return log


def results(tmp_path):
    return json.loads((tmp_path / "r" / "results.json").read_text())


def test_stages_run_once_and_in_order(words, commands, tmp_path, capsys):
    assert main([*words, "--seed", "5"]) == 1  # a bar is missed
    assert [(c[0], c[1]) for c in commands[1:5]] == [("dreamer4-train", phase) for phase in STAGES[1:5]]
    recorded, agent, evaluated = commands[0], commands[3], commands[5]
    assert recorded[:4] == ["dreamer4-record", GAME, "--out", str(tmp_path / "r" / "data")]
    assert agent[agent.index("--init") + 1] == str(tmp_path / "r" / "dynamics")
    assert all("seed=5" in c for c in commands[1:5])
    assert all(c[c.index("--seed") + 1] == "5" for c in (recorded, evaluated))
    table, shown = results(tmp_path), capsys.readouterr()
    assert list(table["stages"]) == STAGES
    assert all(stage["finished"] and stage["attempts"] == 1 for stage in table["stages"].values())
    assert table["stages"]["agent"]["settings"]["optimiser"] == {"warmup": 7}
    assert table["evaluation"]["bars"] == [MISSED]
    assert "/absolute" not in json.dumps(table["evaluation"])
    for text in ("1.25 [None, 2]", "missed: a.b > 1", f"play: dreamer4-play {tmp_path}/r/imagine --data"):
        assert text in shown.out
    assert "[3/6] dynamics: done in 0:00:00" in shown.err
    assert main([*words, "--seed", "5"]) == 1
    assert len(commands) == 6
    assert "[6/6] evaluation: finished before" in capsys.readouterr().err


def test_the_same_command_continues_after_a_signal_and_an_error(words, commands, tmp_path, capsys):
    commands.failures = {"dynamics": 143, "agent": 2, "evaluation": 1}
    assert main(words) == 143
    assert "[3/6] dynamics: stopped by SIGTERM; the same command continues" in capsys.readouterr().err
    assert main(words) == 2
    assert commands[3][:2] == ["dreamer4-train", "dynamics"]
    assert "--resume" in commands[3]
    assert "[4/6] agent: ended with exit status 2" in capsys.readouterr().err
    assert main(words) == 1
    assert not results(tmp_path)["stages"]["evaluation"]["finished"]  # an error, as there is no evaluation.json
    assert main(words) == 1
    table = results(tmp_path)["stages"]
    assert table["evaluation"]["finished"]
    assert [table[name]["attempts"] for name in STAGES] == [1, 1, 2, 2, 1, 2]
    assert "--resume" not in commands[5]  # the agent had no checkpoint


def test_only_the_evaluation_may_have_other_settings_later(words, commands, tmp_path, capsys):
    main(words)
    assert main([*words, "--set", "only.dynamics.steps=9"]) == 2
    assert "dynamics was begun with other settings: steps was 4, is 9" in capsys.readouterr().err
    for setting, stage in (("imagine.beta", "imagine"), ("imagine.context_level", "agent"), ("agent.levels", "agent")):
        value = '"context"' if setting == "agent.levels" else 0.5
        assert main([*words, "--set", f"{setting}={value}"]) == 2
        assert f"{stage} was begun with other settings: {setting}" in capsys.readouterr().err
    assert main([*words, "--frames", "400"]) == 2
    assert "frames was 320, is 400" in capsys.readouterr().err
    assert len(commands) == 6
    assert main([*words, "--episodes", "3", "--set", "evaluation.bars=[]"]) == 1
    assert commands[6][0] == "dreamer4-eval"
    assert "--bars" not in commands[6]
    (tmp_path / "r" / "results.json").write_text("{")
    assert main(words) == 2
    assert "results.json cannot be read" in capsys.readouterr().err


def test_datasets_take_the_place_of_recording(words, commands, tmp_path, capsys):
    from .test_command import record

    record(tmp_path / "noise")
    words[2:4] = ["--data", str(tmp_path / "noise")]
    assert main([*words, "--set", "evaluation.bars=['agent','game']"]) == 1
    assert [c[0] for c in commands] == ["dreamer4-train"] * 4 + ["dreamer4-eval"]
    assert commands[-1][commands[-1].index("--bars") + 1] == "agent"  # without a game to play
    assert "--game" not in commands[-1]
    assert results(tmp_path)["stages"]["agent"]["settings"]["datasets"] == ["../noise"]


def test_dry_run_lists_commands_and_sources_and_writes_nothing(words, tmp_path, capsys):
    assert main([*words, "--set", "seed=2", "--set", "only.agent.steps=9", "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    document = str(tmp_path / "mine.toml")
    assert ["seed", "=", "2", "command", "line"] in lines
    assert ["steps", "=", "9", "command", "line"] in lines
    assert ["optimiser.warmup", "=", "7", document] in lines
    assert ["frame_skip", "=", "1", "command", "line"] in lines
    assert ["longest", "=", "null", "default"] in lines
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--set", "record.frame=3"], "record.frame"),
        (["--set", "record.epsilon=[0, 2]"], "epsilon must be"),
        (["--set", "evaluation.episodes=0"], "episodes must be"),
        (["--set", "only.imagine.imagine.horizon=0"], "horizon"),
        (["--size", "0"], "size must be"),
        (["--env", "absent.py:Strip-v0"], "there is no file absent.py"),
    ],
)
def test_a_mistake_is_refused_before_the_first_stage(words, commands, change, message, tmp_path, capsys):
    assert main([*words, *change]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_neither_game_nor_data_and_torchrun_are_refused(words, monkeypatch, capsys):
    assert main([*words[:2], *words[4:]]) == 2
    assert "--env GAME" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    assert main(words) == 2
    assert "under torchrun" in capsys.readouterr().err


@pytest.mark.parametrize("name", preset_documents())
def test_tables_of_presets_are_valid(name):
    from dreamer4_impl.evaluation.bars import NAMED

    document = read_document(name)
    from_table(RecordOptions, document.get("record", {}), "record")
    evaluation = from_table(EvaluationOptions, document.get("evaluation", {}), "evaluation")
    assert set(evaluation.bars) <= set(NAMED)


@pytest.mark.nightly
def test_killed_in_every_stage_the_same_command_completes(words, tmp_path):
    """SIGKILL of the first process alone in every stage, and SIGTERM once; no process is left that trains on."""
    command = [sys.executable, "-m", "dreamer4_impl.training.command", *words, "--set", "steps=40"]
    command += ["--set", "evaluation.episodes=20"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    moments = random.Random(0)
    for stage in STAGES:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
        while stage not in _begun(tmp_path):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 6))
        process.send_signal(signal.SIGTERM if stage == "agent" else signal.SIGKILL)
        assert process.wait() in ((0, 143) if stage == "agent" else (0, 1, -9))
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode in (0, 1), done.stderr  # a bar may be missed
    table = results(tmp_path)
    assert all(stage["finished"] for stage in table["stages"].values())
    assert max(stage["attempts"] for stage in table["stages"].values()) > 1
    assert {"game.policy", "game.random"} <= set(table["evaluation"]["measures"])
    assert all(steps(tmp_path / "r" / phase)[-1].name == "step-00000040" for phase in STAGES[1:5])
    assert "play: dreamer4-play" in done.stdout


def _begun(tmp_path):
    try:
        return results(tmp_path)["stages"]
    except FileNotFoundError:
        return {}
