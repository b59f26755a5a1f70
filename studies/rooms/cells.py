"""Shares of frames in which agent and goal are in the right cell: reconstructions, rollouts, and the last frame copied.

The cells are read from the pixels of the rooms of `dreamer4_impl.examples.rooms`, 8×8 a cell: the agent is red, the
goal green, and an object is in the cell that shows more than half of it. Every held-out clip counts once per horizon;
its recorded frames are the truth. Where a goal moves after the context, its new cell is random: the copy's share of
right goals is that of the goals that did not move, and "moved" counts whether the goal left its cell, wherever it went.

With --rewarded, the clips are those whose next frame is rewarded, at which the goal of MovingGoal-v0 moves.

examples:
  python -m studies.rooms.cells runs/tokenizer --data goals
  python -m studies.rooms.cells runs/dynamics --data goals --rewarded
  python -m studies.rooms.cells runs/dynamics --data goals --horizons 1,4,8 --clips 1000 --json cells.json
"""

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dreamer4_impl.constants import SAMPLING_STEPS
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.durable import write_text
from dreamer4_impl.evaluation.command import integer_list
from dreamer4_impl.evaluation.held_out import Clips, evenly, load_clips, split_episodes, stack_clips
from dreamer4_impl.evaluation.measures import Measure
from dreamer4_impl.evaluation.sections.open_loop import OpenLoopBatch, OpenLoopSettings
from dreamer4_impl.evaluation.subject import load_subject
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.training.distributed import choose_device

#: Height and width of a cell in pixels.
CELL: Final = 8
#: Smallest mean excess of red over green in the cell of the agent, and of green over red in that of the goal: half of
#: what MiniGrid draws.
_AGENT, _GOAL = 58.3 / 255 / 2, 0.5
#: Value of the standard normal distribution below which 97.5 % lie.
_Z: Final = 1.96
OBJECTS: Final = ("agent", "goal", "both", "moved")
PREDICTORS: Final = ("reconstruction", "model", "copy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a checkpoint and print the shares.

    Args:
        arguments: command line without the program's name; None reads sys.argv.

    Returns:
        Exit status: 0, or 2 if the checkpoint or the data cannot be used.

    Raises:
        SystemExit: with status 2 for wrong usage.
    """
    options = _parser().parse_args(arguments)
    try:
        subject = load_subject(options.run, choose_device(options.device or "auto", "--device"))
        if "tokenizer" in subject.absent:
            raise ValueError(subject.absent["tokenizer"])
        plan = _plan(options, subject.model, rolled_out="dynamics" not in subject.absent)
        held_out = split_episodes(options.data, options.training_data, subject.data)[1]
        select = rewarded_clips if options.rewarded else load_clips
        clips = select(held_out, options.clips, plan.length)
        measures = shares(subject.model.eval(), clips, plan)
        if options.json is not None:
            document = {name: asdict(measure) for name, measure in measures.items()}
            write_text(options.json, json.dumps(subject.facts | {"measures": document}, indent=1) + "\n")
    except (ValueError, OSError) as error:
        print(f"studies.rooms.cells: {error}", file=sys.stderr)
        return 2
    _print(measures, plan.horizons, len(clips))
    return 0


@torch.no_grad()
def shares(model: Dreamer4, clips: Clips, plan: OpenLoopSettings) -> dict[str, Measure]:
    """Compare the cells of agent and goal in predicted frames with those of the recording.

    Args:
        model: model in evaluation mode.
        clips: held-out clips of a room, of at least `plan.length` frames.
        plan: context, horizons, a single K or none, batch and seed of the rollouts.

    Returns:
        Measures `{reconstruction, model, copy}.{agent, goal, both, moved}.hH`: shares of the clips in which agent,
        goal, or both are in the right cell H frames after the context, and in which the goal is seen outside of its
        cell in the last context frame if and only if it has left it; with 95 % Wilson intervals; without K, none of
        the model.

    Raises:
        ValueError: if the frames are no rooms.
    """
    ahead, right = [h - 1 for h in plan.horizons], defaultdict(list)
    for number, selected in enumerate(clips.batches(plan.batch)):
        batch = OpenLoopBatch(model, selected, plan, number)
        truth, before = (recorded_cells(video) for video in (batch.truth[:, ahead], batch.copy[:, ahead]))
        predicted = {"reconstruction": batch.reconstruction, "copy": batch.copy}
        for k in plan.steps:
            predicted["model"] = batch.predict(selected, k)
        for name, video in predicted.items():
            right[name].append(_right(room_cells(video[:, ahead]), truth, before).cpu())
    return {
        f"{name}.{label}.h{h}": share(column[:, index])
        for name, parts in right.items()
        for label, column in zip(OBJECTS, torch.cat(parts).unbind(-1), strict=True)
        for index, h in enumerate(plan.horizons)
    }


def rewarded_clips(dataset: Dataset, count: int, length: int) -> Clips:
    """Load clips whose last frame is rewarded, evenly spaced among all.

    Args:
        dataset: episodes to load from.
        count: number of clips, 1 or more; fewer if there are fewer rewards.
        length: frames per clip, 1 or more.

    Returns:
        The clips.

    Raises:
        ValueError: if no frame with enough frames before it is rewarded.
    """
    starts = [
        (episode, int(frame) - length + 1)
        for episode, rewards in enumerate(dataset.rewards())
        for frame in np.flatnonzero(rewards > 0)
        if frame >= length - 1
    ]
    if not starts:
        raise ValueError(f"no held-out frame with {length - 1} frames before it is rewarded; hold out more episodes")
    return stack_clips(dataset, [starts[i] for i in evenly(len(starts), count)], length)


def room_cells(video: Float[Tensor, "*lead H W C"]) -> Int[Tensor, "*lead 2"]:
    """Read the cells of agent and goal.

    Args:
        video: frames of a room in [0, 1], of 8×8 pixels a cell in colour, (…, H, W, 3).

    Returns:
        Index of the cell of the agent and of the goal, row by row, int64; −1 if it is in no cell or in several.

    Raises:
        ValueError: if frames are not in colour, or not divided into cells.
    """
    height, width, channels = video.shape[-3:]
    if channels != 3 or height % CELL or width % CELL:
        raise ValueError(
            f"rooms must have colour frames of {CELL}×{CELL} pixels a cell; got {height}×{width}×{channels}"
        )
    excess = video.clamp(0, 1)[..., 0] - video.clamp(0, 1)[..., 1]
    return torch.stack([_cell(excess, _AGENT), _cell(-excess, _GOAL)], dim=-1)


def recorded_cells(video: Float[Tensor, "*lead H W C"]) -> Int[Tensor, "*lead 2"]:
    """Read the cells of recorded frames, which must show both objects.

    Args:
        video: as for `room_cells`.

    Returns:
        Indices as of `room_cells`, 0 or more.

    Raises:
        ValueError: if a frame does not show one agent and one goal.
    """
    cells = room_cells(video)
    if (cells < 0).any():
        missing = int((cells < 0).any(-1).sum())
        raise ValueError(
            "the recorded frames must be of the rooms of dreamer4_impl.examples.rooms, with an agent and a goal; "
            f"{missing} of {cells[..., 0].numel()} frames have not exactly one of each"
        )
    return cells


def share(right: Bool[Tensor, " N"]) -> Measure:
    """Share with its 95 % Wilson interval, which has a width even if all or none are right.

    Args:
        right: one value per clip, N of 1 or more.

    Returns:
        The share, with N.

    Example:
        >>> interval = share(torch.ones(400, dtype=torch.bool))
        >>> round(interval.low, 4), interval.high
        (0.9905, 1.0)
    """
    n, p = len(right), float(right.double().mean())
    centre, half = p + _Z**2 / (2 * n), _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
    low, high = ((centre + sign * half) / (1 + _Z**2 / n) for sign in (-1, 1))
    return Measure(p, max(low, 0.0), min(high, 1.0), n)


def study_parser(module: str, description: str, run: str) -> argparse.ArgumentParser:
    """Make a parser with the arguments of every study of a run: the run, its data, the device and the file to write.

    Args:
        module: module that is called by `python -m`.
        description: its documentation.
        run: what the run must be.

    Returns:
        Parser of RUN, --data, --training-data, --device and --json.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", type=Path, help=run)
    parser.add_argument("--data", metavar="DIR", type=Path, nargs="+", required=True, help="as for dreamer4-eval")
    parser.add_argument("--training-data", metavar="DIR", type=Path, nargs="+", help="as for dreamer4-eval")
    parser.add_argument("--device", metavar="cpu|cuda", help="device of the model (default: cuda if available)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the measures to a file")
    return parser


def _cell(excess: Float[Tensor, "*lead H W"], threshold: float) -> Int[Tensor, "*lead"]:
    rows, columns = (size // CELL for size in excess.shape[-2:])
    cells = excess.clamp(min=0).reshape(*excess.shape[:-2], rows, CELL, columns, CELL).mean((-3, -1)).flatten(-2)
    present = cells >= threshold
    return torch.where(present.sum(-1) == 1, present.int().argmax(-1), -1)


def _right(
    cells: Int[Tensor, "N H 2"], truth: Int[Tensor, "N H 2"], before: Int[Tensor, "N H 2"]
) -> Bool[Tensor, "N H objects"]:
    """What is right, in the order of `OBJECTS`; a goal in no cell has not been seen to move."""
    right, goal = cells == truth, cells[..., 1]
    moved = (goal >= 0) & (goal != before[..., 1])
    return torch.stack([right[..., 0], right[..., 1], right.all(-1), moved == (truth != before)[..., 1]], dim=-1)


def _plan(options: argparse.Namespace, model: Dreamer4, *, rolled_out: bool) -> OpenLoopSettings:
    for name, values in {"clips": [options.clips], "horizons": options.horizons}.items():
        if min(values) < 1:
            raise ValueError(f"--{name} must be 1 or more; got {min(values)}")
    context = model.dynamics.config.transformer.context
    steps = (min(SAMPLING_STEPS, model.dynamics.config.k_max),) if rolled_out else ()
    return OpenLoopSettings(context, (1,) if options.rewarded else options.horizons, steps)


def _print(measures: Mapping[str, Measure], horizons: Iterable[int], clips: int) -> None:
    print(f"in the right cell, shares of {clips} clips with 95 % intervals")
    print(f"{'frames ahead':12}  {'':14}", *(f"{label:20}" for label in OBJECTS), sep="  ")
    for h in horizons:
        for name in PREDICTORS:
            cells = [measures[f"{name}.{label}.h{h}"] for label in OBJECTS if f"{name}.{label}.h{h}" in measures]
            if cells:
                print(f"{h:<12}  {name:14}", *map(_text, cells), sep="  ")


def _text(measure: Measure) -> str:
    return f"{measure.value:.3f} [{measure.low:.3f}, {measure.high:.3f}]"


def _parser() -> argparse.ArgumentParser:
    parser = study_parser(
        "studies.rooms.cells", __doc__, "a run or a checkpoint; without dynamics, only reconstructions"
    )
    parser.add_argument("--clips", metavar="N", type=int, default=400, help="number of held-out clips (default: 400)")
    parser.add_argument(
        "--horizons", metavar="1,4,8", type=integer_list, default=(1, 4, 8), help="frames ahead (default: 1,4,8)"
    )
    parser.add_argument(
        "--rewarded", action="store_true", help="clips whose next frame is rewarded; --horizons is not read"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
