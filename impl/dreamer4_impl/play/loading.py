"""What the command line names: a trained model, and recorded clips for it to continue."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from dreamer4_impl.checkpoints.checkpoint import HEADER, load_model, locate
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.transformer import TransformerConfig
from dreamer4_impl.play.errors import UsageError
from dreamer4_impl.play.recorded_clip import RecordedClip, read_clip
from dreamer4_impl.play.world import World

#: What is played where nothing is named.
DEMO: Final = Path(__file__).parent / "demo"
#: Name of the clip that lies beside a checkpoint.
CLIP: Final = "clip.npz"
#: Episodes of a dataset that one can begin from, and how many of their frames can be compared with.
EPISODES: Final = 8
COMPARED: Final = 300


def open_world(target: Path | None, data: Path | None, clip: Path | None, device: str | None) -> World:
    """The world that the command line names.

    Args:
        target: a run or a checkpoint; None is the demo.
        data: a dataset.
        clip: a file that `write_clip` wrote. With neither, the clip beside the checkpoint.
        device: None is a GPU where there is one.
    """
    if target is None and not (DEMO / HEADER).is_file():
        raise UsageError(
            "this installation has no demo: name a checkpoint, `dreamer4-play RUN --data DIR`; dreamer4-train makes one"
        )
    try:
        path = locate(target or DEMO, say)
        model, report = load_model(path, say=say)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if report:
        say(f"{path}: {report}")
    settings = json.loads((path / HEADER).read_text(encoding="utf-8"))["config"]
    if settings["phase"] == "tokenizer":
        raise UsageError(f"{path} is of the tokenizer alone: play needs a run of dynamics, agent or imagine")
    recordings = open_clips(path, data, clip, settings["data"]["paths"], model.config)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return World(on_device(model, place), recordings, recordings[0].title or path.name)


def say(sentence: str) -> None:
    """Tell the person at the terminal."""
    print(f"dreamer4-play: {sentence}", file=sys.stderr)


def open_clips(
    checkpoint: Path, data: Path | None, clip: Path | None, trained_on: Sequence[str], config: ModelConfig
) -> tuple[RecordedClip, ...]:
    """Clips of the dataset or the file that is named, else of what the checkpoint has beside it or was trained on."""
    beside = checkpoint / CLIP
    if clip is None and data is None and beside.is_file():
        clip = beside
    if clip is not None:
        return (read_clip(clip),)
    there = [data] if data else [path for path in map(Path, trained_on) if path.is_dir()]
    if not there:
        raise UsageError("where should play begin? Name a dataset, --data DIR, or a clip, --clip FILE")
    return clips_of(there[0], config.dynamics.transformer.context + COMPARED)


def clips_of(data: Path, length: int) -> tuple[RecordedClip, ...]:
    """The middle of some held-out episodes of a dataset, of up to `length` frames each."""
    try:
        dataset = Dataset.open(data)
        if len(dataset.episodes) > 1:
            _, dataset = dataset.split()
    except DatasetError as error:
        raise UsageError(str(error)) from None
    chosen = np.linspace(0, len(dataset.episodes) - 1, min(EPISODES, len(dataset.episodes))).round().astype(int)
    return tuple(_middle(dataset, int(episode), length) for episode in chosen)


def on_device(model: Dreamer4, device: torch.device) -> Dreamer4:
    """The model there, for use; with eager attention where its own needs a GPU and that is none."""
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("there is no CUDA device here: leave --device out, or say --device cpu")
        return model.to(device).eval().requires_grad_(False)
    tokenizer, dynamics = model.config.tokenizer, model.config.dynamics
    tokenizer = replace(tokenizer, encoder=_eager(tokenizer.encoder), decoder=_eager(tokenizer.decoder))
    dynamics = replace(dynamics, transformer=_eager(dynamics.transformer))
    eager = Dreamer4(replace(model.config, tokenizer=tokenizer, dynamics=dynamics))
    eager.load_state_dict(model.state_dict())
    return eager.eval().requires_grad_(False)


def _eager(config: TransformerConfig) -> TransformerConfig:
    return replace(config, backend="eager") if config.backend == "triton" else config


def _middle(dataset: Dataset, episode: int, length: int) -> RecordedClip:
    whole = dataset.episodes[episode]
    length = min(length, whole.length)
    clip = dataset.clip(episode, (whole.length - length) // 2, length)
    actions = {name: np.array(values) for name, values in clip.actions.items()}
    names = dataset.meta.get("action_names", {})
    return RecordedClip(np.array(clip.frames), actions, np.array(clip.labelled), names, dataset.tasks[whole.task])
