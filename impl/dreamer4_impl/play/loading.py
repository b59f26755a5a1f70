"""Loading of the model and the recorded clips that the command line names."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
import torch

from dreamer4_impl.checkpoints.checkpoint import LoadReport, load_model, locate
from dreamer4_impl.checkpoints.header import HEADER, header_of
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.transformer import TransformerConfig
from dreamer4_impl.play.errors import UsageError
from dreamer4_impl.play.recorded_clip import RecordedClip, read_clip
from dreamer4_impl.play.world import World

#: Package whose folder `model` is played by default.
DEMO: Final = "dreamer4_conformance_demo"
#: File name of a clip in the directory of a checkpoint.
CLIP: Final = "clip.npz"
#: Prefixes of the parameters that play does not use.
UNUSED: Final[tuple[str, ...]] = ("agent.reward.", "agent.value.", "agent.continues.")
#: Maximum number of episodes of a dataset to start from.
EPISODES: Final = 8
#: Maximum number of recorded frames after the context, for comparison.
COMPARED: Final = 300


def open_world(
    target: Path | str | None, data: Path | str | None, clip: Path | str | None, device: str | None
) -> World:
    """Load the model and the clips.

    Args:
        target: directory of a run or of a checkpoint; None for the demo.
        data: dataset to start from.
        clip: file of `write_clip` to start from; without data and clip, the clip in the directory of the checkpoint.
        device: "cpu" or "cuda"; None for a GPU if available.

    Returns:
        The model on its device, and the clips.

    Raises:
        UsageError: if model or clips cannot be loaded, or do not fit each other.
    """
    path = demo() if target is None else Path(target)
    data, clip = (None if source is None else Path(source) for source in (data, clip))
    try:
        path = locate(path, print_message)
        model, report = load_model(path, log=print_message)
        settings = header_of(path)["config"]
        phase, trained_on, tasks = settings["phase"], settings["data"]["paths"], settings["data"].get("tasks", ())
    except ValueError as error:
        raise UsageError(str(error)) from None
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged: its {HEADER} lacks the phase or the data of the training") from error
    if report := _of_play(report):
        print_message(f"{path}: {report}")
    if phase == "tokenizer":
        raise UsageError(
            f"{path} is a checkpoint of the tokenizer alone: play needs the phase dynamics, agent or imagine"
        )
    recordings = open_clips(path, data, clip, trained_on, model.config)
    torch_device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = on_device(model, torch_device)
    # Of a game of one's own, MODULE:ID or FILE.py:ID, the id is its name.
    name = recordings[0].title.rpartition(":")[2] or path.name
    return World(model, recordings, name, phase, tuple(tasks))


def demo() -> Path:
    """Locate the model of the demo.

    Returns:
        Its directory.

    Raises:
        UsageError: if the package of the demo is not installed.
    """
    try:
        return Path(str(files(DEMO))) / "model"
    except ModuleNotFoundError:
        raise UsageError(
            "the demo is a separate package, pip install 'dreamer4-conformance[demo]' (in a clone: pip install ./demo)"
            "; without it, name a checkpoint of dreamer4-train: dreamer4-play RUN --data DIR"
        ) from None


def _of_play(report: LoadReport) -> LoadReport:
    """Leave out the heads that play does not use, which a small export does not have."""
    missing = tuple(name for name in report.missing if not name.startswith(UNUSED))
    return LoadReport(missing, report.unexpected)


def print_message(message: str) -> None:
    """Print a message to stderr, after the name of the command.

    Args:
        message: the text.
    """
    print(f"dreamer4-play: {message}", file=sys.stderr)


def open_clips(
    checkpoint: Path, data: Path | None, clip: Path | None, trained_on: Sequence[str], config: ModelConfig
) -> tuple[RecordedClip, ...]:
    """Load clips: from `clip`, `data`, the directory of the checkpoint or the training data, the first that exists.

    Args:
        checkpoint: directory of the checkpoint.
        data: dataset, or None.
        clip: file of `write_clip`, or None; data must then be None.
        trained_on: paths of the training data; paths that do not exist are ignored.
        config: configuration of the model, for the length of the clips.

    Returns:
        One clip or more.

    Raises:
        UsageError: if there is nothing to start from, or it cannot be read.
    """
    bundled = checkpoint / CLIP
    if clip is None and data is None and bundled.is_file():
        clip = bundled
    if clip is not None:
        return (read_clip(clip),)
    datasets = [data] if data else [path for path in map(Path, trained_on) if path.is_dir()]
    if not datasets:
        raise UsageError("play needs recorded frames to start from: name a dataset, --data DIR, or a clip, --clip FILE")
    return held_out_clips(datasets[0], config.dynamics.transformer.context + COMPARED)


def held_out_clips(data: Path, length: int) -> tuple[RecordedClip, ...]:
    """Load the middle of evenly spaced held-out episodes; with a single episode in all, its middle.

    Args:
        data: directory of the dataset.
        length: frames per clip, 1 or more; fewer if an episode is shorter.

    Returns:
        Up to `EPISODES` clips, at least one.

    Raises:
        UsageError: if the dataset cannot be read or split.
    """
    try:
        dataset = Dataset.open(data)
        if len(dataset.episodes) > 1:
            _, dataset = dataset.split()
    except DatasetError as error:
        raise UsageError(str(error)) from None
    chosen = np.linspace(0, len(dataset.episodes) - 1, min(EPISODES, len(dataset.episodes))).round().astype(int)
    return tuple(_middle(dataset, int(episode), length) for episode in chosen)


def on_device(model: Dreamer4, device: torch.device) -> Dreamer4:
    """Prepare a model for inference: device, evaluation mode, no gradients; the CPU gets eager attention for Triton's.

    Args:
        model: model on the CPU.
        device: device to move it to.

    Returns:
        The model itself on a GPU, a copy on the CPU.

    Raises:
        UsageError: if the device is a GPU and there is none.
    """
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("no CUDA device is available: omit --device, or use --device cpu")
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
    record = dataset.episodes[episode]
    length = min(length, record.length)
    clip = dataset.clip(episode, (record.length - length) // 2, length)
    actions = {name: np.array(values) for name, values in clip.actions.items()}
    names = dataset.meta.get("action_names", {})
    return RecordedClip(np.array(clip.frames), actions, np.array(clip.labelled), names, dataset.tasks[record.task])
