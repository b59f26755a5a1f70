"""The commands on random settings and command lines: no traceback, and an exit status that the help text lists."""

import os
import random
import traceback
from collections import Counter

import numpy as np
import pytest
import torch

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, save
from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.checkpoints.settings import Data, TrainingSettings
from dreamer4_impl.data import command as record
from dreamer4_impl.data.format import Header
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.equations.eq11_pmpo import frozen_prior
from dreamer4_impl.evaluation import command as evaluation
from dreamer4_impl.layers.actions import Categorical
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.play import command as play
from dreamer4_impl.play.loading import held_out_clips
from dreamer4_impl.play.recorded_clip import write_clip
from dreamer4_impl.play.server import PlayServer
from dreamer4_impl.training import command as train

from . import random_lines

DOCUMENT = """\
steps = 1
[model]
preset = "tiny"
[batches]
size = 2
[records]
tensorboard = false
[imagine]
horizon = 2
context = 2
steps = 1
"""
PHASES = ("tokenizer", "dynamics", "agent", "imagine")
STATUSES = {
    "train": (train.main, {0, 1, 2, 129, 130, 143}),
    "record": (record.main, {0, 1, 2, 130}),
    "eval": (evaluation.main, {0, 1, 2, 130}),
    "play": (play.main, {0, 2, 130}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, a run of each phase, and files that are damaged or something else."""
    folder = tmp_path_factory.mktemp("lines")
    generator = np.random.default_rng(0)
    components = (Categorical("move", 4),)
    for name, height in {"data": 6, "tall": 7}.items():
        with DatasetWriter(folder / name, Header("noise", height, 8, 3, components)) as writer:
            for _ in range(4):
                frames = generator.integers(0, 256, (20, height, 8, 3), np.uint8)
                writer.add_episode(frames, {"move": generator.integers(0, 4, 20)}, generator.normal(size=20), task="g")
    config = tiny().__class__(**{**vars(tiny()), "dynamics": _with_actions(tiny(), components)})
    torch.manual_seed(0)
    model = Dreamer4(config)
    for phase in PHASES:
        settings = TrainingSettings(
            phase,
            config,
            steps=7,
            data=Data((str(folder / "data"),)),
            imagine=ImagineOptions(horizon=2, context=2, steps=1),
        )
        state = {"companions": {"prior": frozen_prior(model.agent.policy).state_dict()}}
        save(folder / phase, Checkpoint(settings, 7, model.state_dict(), state=state))
    (folder / "mine.toml").write_text(DOCUMENT)
    (folder / "broken.toml").write_text("steps = [")
    for name in ("empty", "damaged/checkpoints/step-00000001"):
        (folder / name).mkdir(parents=True)
    (folder / "damaged" / "checkpoints" / "step-00000001" / "checkpoint.json").write_text("[" * 100_000)
    (folder / "film.mp4").write_bytes(generator.bytes(2000))
    (folder / "clip.npz").write_bytes(generator.bytes(2000))
    write_clip(folder / "good.npz", held_out_clips(folder / "data", 8)[0])
    return folder


def _with_actions(config: ModelConfig, components):
    return config.dynamics.__class__(**{**vars(config.dynamics), "actions": components, "tasks": 1})


@pytest.fixture(autouse=True)
def _surroundings(folder, monkeypatch, tmp_path):
    """Relative paths, no browser, and a server that is stopped at once."""

    def stop(server):
        raise KeyboardInterrupt

    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PlayServer, "serve_forever", stop)
    monkeypatch.setattr(play, "open_page", lambda url: None)


def failure(command: str, words: list[str], capsys) -> str:
    """Message about a line that ends in a traceback or with an undocumented status; empty for a good line."""
    main, statuses = STATUSES[command]
    try:
        status = main(words)
    except SystemExit as stopped:
        status = stopped.code
    except BaseException:
        return f"{words}: {traceback.format_exc(limit=-3)}"
    output = capsys.readouterr()
    if "Traceback" in output.out + output.err:
        return f"{words}: {output.err}"
    if status == 2 and not output.err.strip():
        return f"{words}: no message"
    statistics[command, status] += 1
    return "" if status in statuses else f"{words}: status {status}"


statistics: Counter[tuple[str, object]] = Counter()


def require_no_failure(command, lines, capsys):
    failures = [message for words in lines if (message := failure(command, words, capsys))]
    assert not failures, "\n".join([f"{len(failures)} lines fail:", *failures])


def settings_lines(count, seed=0):
    chosen = random.Random(seed)
    for _ in range(count):
        phase = chosen.choice(PHASES)
        init = ["--init", PHASES[PHASES.index(phase) - 1]] if phase != "tokenizer" else []
        sets = [
            word for _ in range(chosen.choice((1, 1, 2))) for word in ("--set", random_lines.random_setting(chosen))
        ]
        words = [phase, "mine.toml", "--data", "data", "--run", "run", "--dry-run", *init, *sets]
        yield [word.replace("\0", "0") for word in words]


NUMBERS = (*"1123" * 5, "0", "-1", "x", "")  # right in five of six
RUNS = (*PHASES * 3, "dynamics/checkpoints/step-00000007", "damaged", "empty", "data", "nowhere", "mine.toml", "")
DATASETS = (*("data",) * 20, "tall", "empty", "dynamics", "nowhere", "mine.toml")
OUT = ("out", "mine.toml", "mine.toml/out", "/dev/null", "data", "")


def command_lines(command, count, seed=0):
    chosen = random.Random(f"{command} {seed}")
    for number in range(count):
        yield LINES[command](chosen, number)


def train_words(chosen, number):
    settings = tuple(random_lines.random_setting(chosen) for _ in range(5))
    settings = tuple(setting for setting in settings if "steps" not in setting) or ("seed=1",)  # legal, for hours
    options = {
        "--data!": DATASETS,
        "--run!": (f"run{number}", f"run{number}", f"run{number}", *RUNS, "/dev/null"),
        "--init": RUNS,
        "--set": (*settings, "only"),
        "--resume": (),
        "--dry-run": (),
        "--help": (),
        "--dat": DATASETS,
        "--unknown": (),
    }
    documents = ("mine.toml", "mine.toml", "mine.toml", "broken.toml", "nowhere.toml", "nothing", "data")
    return random_lines.random_words(chosen, [(*PHASES, "policy"), documents], options)


def record_words(chosen, number):
    out = {"--out!": (f"recording{number}", f"recording{number}", f"recording{number}", *OUT)}
    kind = chosen.random()
    if kind < 0.15:
        return ["check", *random_lines.random_words(chosen, [DATASETS], {"--help": (), "--fast": ()})]
    if kind < 0.3:
        options = {
            "--size": ("8", "8x6", "x", "0", "8x", "-1x2"),
            "--every": NUMBERS,
            "--grey": (),
            "--actions-like": DATASETS,
            "--fps": ("10", "0", "-1", "nan", "x"),
            "--resume": (),
            "--damaged": ("skip", "refuse", "x"),
        }
        films = ("film.mp4", "film.mp4", "nowhere.mp4", "data")
        return ["video", *random_lines.random_words(chosen, [films], {**out, **options})]
    if kind < 0.4:
        sources = ("data", "empty", "nowhere", "mine.toml", "a/b-v0")
        return [
            "import",
            *random_lines.random_words(chosen, [sources], {**out, "--size": ("8", "x"), "--task": ("t",)}),
        ]
    games = (
        "ALE/Pong-v5",
        "ALE/Breakout-v5",
        "CartPole-v1",
        "Nothing-v0",
        "ALE/Pong",
        "no_module:X-v0",
        "data",
        "film.mp4:X",
    )
    options = {
        "--frames!": (*NUMBERS, "5", "12", "only"),
        "--size": ("8", "16", *NUMBERS),
        "--grey": (),
        "--frame-skip": (*NUMBERS, "only"),
        "--policy": ("random", "sticky", "scripted", "no.py:P", "x"),
        "--seed": NUMBERS,
        "--epsilon": ("0", "0:1", "1:0", "nan", "2", "a:b", ":", "0:1:2"),
        "--repeat-probability": ("0.5", "2", "nan", "-1"),
        "--longest": NUMBERS,
        "--resume": (),
        "--flicker": (),
        "--no-flicker": (),
        "--frames-from": ("render", "x", ""),
    }
    return random_lines.random_words(chosen, [games], {**out, **options})


def eval_words(chosen, number):
    options = {
        "--data!": DATASETS,
        "--training-data": DATASETS,
        "--out!": (*(f"evaluation{number}",) * 9, *OUT),
        "--clips!": NUMBERS,
        "--context": NUMBERS,
        "--horizons!": ("1", *("1,2",) * 9, "0", "1,", "a", "-1", "100"),
        "--steps!": (*("1,2",) * 9, "3", "0", "x"),
        "--rollouts!": NUMBERS,
        "--game": ("Nothing-v0", "CartPole-v1", ""),
        "--episodes": (*NUMBERS, "only"),
        "--seed": NUMBERS,
        "--device": ("cpu", "cpu", "cpu", "cuda", "meta", "tpu", "cuda:9", "cpu:3"),
        "--help": (),
        "--bars": ("tokenizer", "agent,pca", "best", ""),
        "--require": ("a.b > 1", "1 > 0", "a.b", ">", "1 + > 2", "é > 1"),
    }
    return random_lines.random_words(chosen, [RUNS], options)


def play_words(chosen, number):
    options = {
        "--data": DATASETS,
        "--clip": ("good.npz", "good.npz", "clip.npz", "nowhere.npz", "data", "film.mp4", "mine.toml"),
        "--steps": NUMBERS,
        "--seed": NUMBERS,
        "--fps": ("15", "0", "nan", "61", "x"),
        "--device": ("cpu", "cuda", "meta"),
        "--host": ("127.0.0.1", "nowhere.invalid", "300.1.1.1", "192.0.2.1"),
        "--port!": ("0", "0", "0", "0", "65536", "-1", "x"),
        "--no-browser": (),
        "--export": RUNS,
        "--out": (f"export{number}", *OUT),
        "--help": (),
    }
    return random_lines.random_words(chosen, [RUNS], options)


LINES = {"train": train_words, "record": record_words, "eval": eval_words, "play": play_words}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model=2", "model must be a table, or the name of a preset; got 2"),
        ("model=-1e-30", "model must be a table, or the name of a preset; got -1e-30"),
        ("model.preset=[]", "model.preset must be one of 'tiny', 'small', 'paper'; got []"),
        ("model.dynamics=7", "model.dynamics must be a table; got 7"),
        ("model.dynamics.actions=1e-30", "model.dynamics.actions must be a list; got 1e-30"),
        ("model.dynamics.actions=[{kind = ['x']}]", "must be one of 'categorical', 'binary', 'continuous'; got ['x']"),
        ("model.dynamics.registers=2147483648", "registers must be at most 1048576; got 2147483648"),
        ("model.dynamics.k_max=9223372036854775808", "model.dynamics.k_max must lie within 64 bits"),
        (f"model.tokenizer.decoder.heads=1{'0' * 30}", "model.tokenizer.decoder.heads must lie within 64 bits"),
        ("batches.size=2147483648", "batches: size must be at most 1048576; got 2147483648"),
        ("imagine.context_level=nan", "imagine: context_level must lie in [0, 1]; got nan"),
        ("imagine.gamma=1.5", "imagine: gamma must lie in [0, 1]; got 1.5"),
        ("imagine.lam=-1", "imagine: lam must lie in [0, 1]; got -1.0"),
        ("imagine.beta=inf", "imagine: beta must be 0 or more and finite; got inf"),
        ("execution=7", "execution must be a table; got 7"),
        ("execution.device=meta", "execution.device must be 'auto', 'cpu' or 'cuda'; got 'meta'"),
        ("execution.device=cpu:1", "execution.device must be 'auto', 'cpu' or 'cuda'; got 'cpu:1'"),
        pytest.param("execution.compile=cosine", "the backend of torch.compile must be", marks=pytest.mark.nightly),
        ("only=-inf", "only must be a table; got -inf"),
        ("only.tokenizer=2147483648", "only.tokenizer must be a table; got 2147483648"),
        ("phase=" + "[" * 3000, ""),
        ("optimiser.weight_decay=" + "[" * 3000, "optimiser.weight_decay must be a number; got '[[["),
        ("optimiser.weight_decay=nan", "optimiser: weight_decay must be 0 or more; got nan"),
        ("a." * 2000 + "b=1", "a setting must have the form section.key=value; got 'a.a."),
        ("seed=1\nsteps=2", "seed must be a whole number; got '1\\nsteps=2'"),
    ],
    ids=lambda text: text[:40],
)
def test_a_setting_that_ended_in_a_traceback_is_refused(capsys, setting, message):
    words = ["tokenizer", "mine.toml", "--data", "data", "--run", "run", "--dry-run", "--set", setting]
    assert train.main(words) == (2 if message else 0)
    output = capsys.readouterr().err
    assert message in output
    assert len(output) < 2000


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("eval", ["agent", "--data", "data", "--device", "tpu"], "--device must be 'auto', 'cpu' or 'cuda'; got 'tpu'"),
        ("eval", ["agent", "--data", "data", "--device", "meta"], "--device must be 'auto', 'cpu' or 'cuda'"),
        ("train", ["tokenizer", "--run", "tokenizer", "--resume", "--set", "phase=dynamics"],
         "the phase of a run cannot be changed from 'tokenizer'; got 'dynamics'"),
        ("train", ["tokenizer", "--run", "damaged", "--resume"], "nested too deeply"),
    ],
)  # fmt: skip
def test_a_command_line_that_ended_in_a_traceback_is_refused(capsys, command, words, message):
    assert STATUSES[command][0](words) == 2
    assert message in capsys.readouterr().err


def test_random_settings_end_without_a_traceback(capsys):
    require_no_failure("train", settings_lines(30), capsys)


@pytest.mark.nightly
def test_a_thousand_random_settings_end_without_a_traceback(capsys):
    require_no_failure("train", settings_lines(1000, seed=1), capsys)


@pytest.mark.parametrize("command", LINES)
def test_random_command_lines_end_with_a_documented_status(capsys, command):
    require_no_failure(command, command_lines(command, 15), capsys)


@pytest.mark.nightly
@pytest.mark.parametrize("command", LINES)
def test_five_hundred_random_command_lines_end_with_a_documented_status(capsys, command):
    count = int(os.environ.get("LINES", "500"))
    require_no_failure(command, command_lines(command, count, seed=1), capsys)
    print(statistics)
