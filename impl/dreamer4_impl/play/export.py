"""A small copy of a trained model with something to begin from, to give away: a checkpoint with its clip."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, locate, read, save
from dreamer4_impl.checkpoints.settings import Data, PhaseName
from dreamer4_impl.play.errors import UsageError
from dreamer4_impl.play.loading import CLIP, clips_of, say
from dreamer4_impl.play.recorded_clip import write_clip

#: Recorded frames to compare with that are given away: four seconds at 15 a second.
COMPARED = 60


def export(run: Path, data: Path, out: Path) -> int:
    """Write a checkpoint of tokenizer and dynamics alone, weights in float16, and a clip beside it.

    Args:
        run: a run or one of its checkpoints; of its weights the running average where there is one.
        data: the dataset of the clip, from the middle of a held-out episode.
        out: the directory, which must not be there yet.

    Returns the size of all files in bytes.
    """
    if out.exists():
        raise UsageError(f"{out} is there already: name another place, or remove it")
    try:
        checkpoint = read(locate(run, say))
    except ValueError as error:
        raise UsageError(str(error)) from None
    settings = checkpoint.settings
    (clip, *_) = clips_of(data, settings.model.dynamics.transformer.context + COMPARED)
    both = {**checkpoint.weights, **checkpoint.average}
    weights = {name: weight.to(torch.float16) for name, weight in both.items() if not name.startswith("agent.")}
    # Where it was trained, and on what, is of no use elsewhere; without heads there is no phase of the agent.
    phase: PhaseName = "tokenizer" if settings.phase == "tokenizer" else "dynamics"
    alone = replace(settings, phase=phase, model=replace(settings.model, agent=None), data=Data(), init=None)
    given = Checkpoint(alone, checkpoint.step, weights)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as partial:
        written = save(Path(partial), given)
        write_clip(written / CLIP, clip)
        shutil.move(written, out)
    return sum(file.stat().st_size for file in out.iterdir())
