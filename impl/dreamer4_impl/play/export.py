"""Export of a trained world model as a small checkpoint with a clip to start from."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, locate, read, save
from dreamer4_impl.checkpoints.names import PhaseName
from dreamer4_impl.checkpoints.settings import Data
from dreamer4_impl.play.errors import UsageError
from dreamer4_impl.play.loading import CLIP, held_out_clips, print_message
from dreamer4_impl.play.recorded_clip import write_clip

#: Recorded frames after the context, for comparison: four seconds at 15 frames per second.
COMPARED = 60


def export(run: Path, data: Path, out: Path) -> int:
    """Write a checkpoint of tokenizer and dynamics with weights in float16, and a clip next to it.

    Args:
        run: directory of a run or of a checkpoint; the running average of the weights is used if there is one.
        data: dataset of the clip, which is the middle of a held-out episode.
        out: output directory, which must not exist.

    Returns:
        Size of all files in bytes.

    Raises:
        UsageError: if out exists, or the checkpoint or the dataset cannot be read.
        CannotSaveError: if the checkpoint cannot be written.
    """
    if out.exists():
        raise UsageError(f"{out} already exists: remove it, or name another directory")
    try:
        checkpoint = read(locate(run, print_message))
    except ValueError as error:
        raise UsageError(str(error)) from None
    settings = checkpoint.settings
    (clip, *_) = held_out_clips(data, settings.model.dynamics.transformer.context + COMPARED)
    averaged = {**checkpoint.weights, **checkpoint.average}
    weights = {name: weight.to(torch.float16) for name, weight in averaged.items() if not name.startswith("agent.")}
    # Paths of the training data are removed; a model without heads cannot be of a phase of the agent.
    phase: PhaseName = "tokenizer" if settings.phase == "tokenizer" else "dynamics"
    exported = replace(settings, phase=phase, model=replace(settings.model, agent=None), data=Data(), init=None)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as partial:
        written = save(Path(partial), Checkpoint(exported, checkpoint.step, weights))
        write_clip(written / CLIP, clip)
        shutil.move(written, out)
    return sum(file.stat().st_size for file in out.iterdir())
