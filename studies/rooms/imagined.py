"""Predicted rewards of imagined frames of MovingGoal-v0, by what the step before them should lead to.

The policy of an agent is rolled out from recorded frames. Each frame stands for the drawn scene whose latents are
nearest: the cell and the direction of the agent, and the cell of the goal. So for every imagined step it is known
whether it should reach the goal ("goal", reward 1), moves to a free cell ("free"), runs against a wall ("wall") or
turns ("turn", 0 each). "moved" is the share of the frames in which the goal is in another cell than before, and
"distance" the mean squared distance of z to its nearest scene, in variances of z: where it is large, the frame lies
between several scenes.

examples:
  python -m studies.rooms.imagined runs/agent --data goals
  python -m studies.rooms.imagined runs/imagine --data goals --starts 400 --steps 2 --json imagined.json
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from minigrid.core.world_object import Goal
from torch import Tensor

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.data.clips import as_video
from dreamer4_impl.data.game import Game, View
from dreamer4_impl.durable import write_text
from dreamer4_impl.evaluation.held_out import Clips, load_clips, split_episodes
from dreamer4_impl.evaluation.subject import load_subject
from dreamer4_impl.examples.rooms import FORWARD
from dreamer4_impl.generation.imagination import imagine
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.training.distributed import choose_device
from studies.rooms.cells import CELL, study_parser

ROOM: Final = "dreamer4_impl.examples.rooms:MovingGoal-v0"
#: Cells of the room inside its walls, row by row of 6×6.
CELLS: Final = tuple(column + 6 * row for row in range(1, 5) for column in range(1, 5))
#: What a step forward adds to the cell, by direction: right, down, left, up.
AHEAD: Final = (1, 6, -1, -6)
KINDS: Final = ("goal", "free", "wall", "turn")
MEASURES: Final = ("n", "reward", "moved", "distance")
#: Clips that are rolled out at once.
_BATCH: Final = 64


class Scenes(NamedTuple):
    """Scenes of the room.

    Args:
        z: latents of each scene as a single frame, (N, S·D).
        agent: cell of the agent, row by row of 6×6, int64, (N,).
        direction: of the agent, 0 right, 1 down, 2 left, 3 up, int64, (N,).
        goal: cell of the goal, int64, (N,).
    """

    z: Float[Tensor, "N E"]
    agent: Int[Tensor, " N"]
    direction: Int[Tensor, " N"]
    goal: Int[Tensor, " N"]

    def nearest(self, z: Float[Tensor, "*lead S D"]) -> tuple[Int[Tensor, "*lead"], Float[Tensor, "*lead"]]:
        """Find the scene nearest to each frame.

        Args:
            z: latent frames, (…, S, D).

        Returns:
            Its index, and its mean squared distance in variances of z over the scenes.
        """
        distance, index = torch.cdist(z.flatten(-2).flatten(0, -2), self.z).min(1)
        error = distance.square() / self.z.shape[1] / self.z.var(0).mean()
        return index.view(z.shape[:-2]), error.view(z.shape[:-2])


def main(arguments: Sequence[str] | None = None) -> int:
    """Roll an agent out and print its predicted rewards.

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
        if reason := subject.absent.get("agent"):
            raise ValueError(reason)
        if options.starts < 1:
            raise ValueError(f"--starts must be 1 or more; got {options.starts}")
        settings = replace(subject.imagine, steps=subject.imagine.steps if options.steps is None else options.steps)
        held_out = split_episodes(options.data, options.training_data, subject.data)[1]
        clips = load_clips(held_out, options.starts, settings.context)
        measures = rewards_by_kind(subject.model.eval(), clips, settings)
        if options.json is not None:
            document = subject.facts | {"starts": len(clips), "steps": settings.steps, "measures": measures}
            write_text(options.json, json.dumps(document, indent=1) + "\n")
    except (ValueError, OSError) as error:
        print(f"studies.rooms.imagined: {error}", file=sys.stderr)
        return 2
    print(f"{len(clips)} starts, {settings.horizon} frames each, K = {settings.steps}")
    print(f"{'step':6}", *(f"{name:>8}" for name in MEASURES), sep="  ")
    for kind in KINDS:
        n, *means = (measures[kind][name] for name in MEASURES)
        print(f"{kind:6}", f"{n:8}", *(f"{'-':>8}" if x is None else f"{x:8.3f}" for x in means), sep="  ")
    return 0


@torch.no_grad()
def rewards_by_kind(model: Dreamer4, clips: Clips, options: ImagineOptions) -> dict[str, dict[str, float | None]]:
    """Roll the policy out and average the predicted rewards of each kind of step.

    Args:
        model: model with an agent, in evaluation mode, of a room of 48×48 pixels.
        clips: starts, of at least `options.context` frames.
        options: context, horizon and K.

    Returns:
        For each of `KINDS`, the `MEASURES`: "n", the number of steps, and means over them, None without steps.
    """
    assert model.agent is not None
    device, scenes = model.dynamics.registers.device, draw_scenes(model)
    parts = []
    for number, batch in enumerate(clips.batches(_BATCH)):
        z = model.tokenizer.encode(batch.pixels(device))[:, : options.context]
        actions = {name: values[:, : options.context] for name, values in batch.actions_on(device).items()}
        task = batch.task.to(device) if model.dynamics.config.tasks else None
        keys = [("imagined", number, row) for row in range(len(batch))]
        imagined = imagine(model, model.agent.policy, z, actions, task, options, 0, keys)
        (action,) = imagined.actions.values()
        index, error = scenes.nearest(torch.cat([z[:, -1:], imagined.z], dim=1))
        kind = step_kinds(scenes, index[:, :-1], action)
        moved = (scenes.goal[index[:, 1:]] != scenes.goal[index[:, :-1]]).float()
        rewards = model.agent.reward.predict(imagined.h[:, 1:])
        parts.append(torch.stack([kind.float(), rewards, moved, error[:, 1:]], dim=-1).flatten(0, 1).cpu())
    kinds, *values = torch.cat(parts).unbind(-1)
    chosen = {name: kinds == number for number, name in enumerate(KINDS)}
    return {
        name: {"n": int(mask.sum())}
        | {key: float(x[mask].mean()) if mask.any() else None for key, x in zip(MEASURES[1:], values, strict=True)}
        for name, mask in chosen.items()
    }


@torch.no_grad()
def draw_scenes(model: Dreamer4) -> Scenes:
    """Draw and encode every scene of the room in which the agent is not on the goal.

    Args:
        model: its tokenizer encodes frames of 48×48 pixels.

    Returns:
        960 scenes.
    """
    game = Game(ROOM, View(48, frame_skip=1))
    game.reset(0)
    room, frames, states = game.environment.unwrapped, [], []
    for goal in CELLS:
        room.grid.set(*room.goal(), None)
        room.grid.set(goal % 6, goal // 6, Goal())
        for agent in CELLS:
            for direction in range(4) if agent != goal else ():
                frames.append(room.grid.render(CELL, (agent % 6, agent // 6), direction))
                states.append((agent, direction, goal))
    game.close()
    device = model.dynamics.registers.device
    video = as_video(torch.from_numpy(np.stack(frames)[:, None])).to(device)
    starts = range(0, len(video), _BATCH)
    z = torch.cat([model.tokenizer.encode(video[start : start + _BATCH]) for start in starts])
    return Scenes(z.flatten(1), *torch.tensor(states, device=device).unbind(1))


def step_kinds(scenes: Scenes, index: Int[Tensor, "*lead"], action: Int[Tensor, "*lead"]) -> Int[Tensor, "*lead"]:
    """Tell what each step does by the rules of the room.

    Args:
        scenes: scenes of the room.
        index: scene before the step, int64.
        action: LEFT, RIGHT or FORWARD.

    Returns:
        Index of its kind in `KINDS`.
    """
    ahead = scenes.agent[index] + torch.tensor(AHEAD, device=index.device)[scenes.direction[index]]
    inside = torch.isin(ahead, torch.tensor(CELLS, device=index.device))
    forward = torch.where(ahead == scenes.goal[index], 0, torch.where(inside, 1, 2))
    return torch.where(action == FORWARD, forward, 3)


def _parser() -> argparse.ArgumentParser:
    parser = study_parser("studies.rooms.imagined", __doc__, "a run of agent or imagine, or a checkpoint of one")
    parser.add_argument("--starts", metavar="N", type=int, default=256, help="number of rollouts (default: 256)")
    parser.add_argument("--steps", metavar="K", type=int, help="K of the rollouts (default: as in training)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
