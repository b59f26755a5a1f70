"""Export of a trained model as one folder to share: configuration, weights, a model card, and a clip to start from."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, locate, read, write_model
from dreamer4_impl.checkpoints.settings import Data
from dreamer4_impl.play.autopilot import ORIGINS
from dreamer4_impl.play.errors import UsageError
from dreamer4_impl.play.loading import CLIP, UNUSED, held_out_clips, print_message
from dreamer4_impl.play.model_card import CARD, model_card
from dreamer4_impl.play.recorded_clip import write_clip

#: Recorded frames after the context, for comparison: four seconds at 15 frames per second.
COMPARED = 60


def export(run: Path, data: Path | None, out: Path, full: bool = False) -> int:
    """Write a model, and a clip next to it.

    Weights are those of the running average if there is one. Paths of the training data are removed.

    Args:
        run: directory of a run or of a checkpoint.
        data: dataset of the clip, which is the middle of a held-out episode; None for no clip.
        out: output directory, which must not exist.
        full: write all weights as they are, so that the model computes the same bit for bit, instead of those of
            tokenizer, dynamics and policy in float16.

    Returns:
        Size of all files in bytes.

    Raises:
        UsageError: if out exists, or the checkpoint or the dataset cannot be read.
        CannotSaveError: if the model cannot be written.
    """
    if out.exists():
        raise UsageError(f"{out} already exists: remove it, or name another directory")
    try:
        checkpoint = read(locate(run, print_message))
    except ValueError as error:
        raise UsageError(str(error)) from None
    settings = checkpoint.settings
    length = settings.model.dynamics.transformer.context + COMPARED
    clip = None if data is None else held_out_clips(data, length)[0]
    exported = _without_origin(checkpoint) if full else _small(_without_origin(checkpoint))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        written = Path(folder) / "model"
        written.mkdir()
        write_model(written, exported)
        (written / CARD).write_text(model_card(exported, out.name), encoding="utf-8")
        if clip is not None:
            write_clip(written / CLIP, clip)
        shutil.move(written, out)
    return sum(file.stat().st_size for file in out.iterdir())


def _without_origin(checkpoint: Checkpoint) -> Checkpoint:
    """Averaged weights without the paths of the data and of the earlier run; the names of the tasks are kept."""
    settings = replace(checkpoint.settings, data=Data(tasks=checkpoint.settings.data.tasks), init=None)
    return Checkpoint(settings, checkpoint.step, {**checkpoint.weights, **checkpoint.average})


def _small(checkpoint: Checkpoint) -> Checkpoint:
    """What play needs: of a trained agent only the policy, as the reward head is large; in float16."""
    settings, unused = checkpoint.settings, UNUSED
    if settings.phase not in ORIGINS:
        settings, unused = replace(settings, model=replace(settings.model, agent=None)), ("agent.",)
    weights = {n: weight.to(torch.float16) for n, weight in checkpoint.weights.items() if not n.startswith(unused)}
    return Checkpoint(settings, checkpoint.step, weights)
