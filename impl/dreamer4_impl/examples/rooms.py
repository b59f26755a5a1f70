"""Two MiniGrid rooms of 6×6 cells in 48×48 pixels and a policy for them, as an example of a game of one's own.

    dreamer4-record dreamer4_impl.examples.rooms:MovingGoal-v0 --out goals --size 48 --frame-skip 1
    dreamer4-record dreamer4_impl.examples.rooms:OneGoal-v0 --out goal --size 48 --frame-skip 1 \
      --policy dreamer4_impl.examples.rooms:ShortestPath --epsilon 0:1

Needs the extra `minigrid`. An episode has at most 48 steps of three actions: turn left, turn right, and move forward.
"""

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from jaxtyping import UInt8
from minigrid.core.world_object import Goal
from minigrid.envs.empty import EmptyEnv

from dreamer4_impl.data.game import Game

LEFT, RIGHT, FORWARD = range(3)


class OneGoal(EmptyEnv):
    """MiniGrid-Empty-Random-6x6, seen from above: the goal is in a corner, and reaching it ends the episode."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(size=6, agent_start_pos=None, max_steps=48, render_mode=render_mode)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.observation_space = gymnasium.spaces.Box(0, 255, (48, 48, 3), np.uint8)

    def get_action_meanings(self) -> list[str]:
        """Name the actions, as Atari games do.

        Returns:
            Names in the order of the actions' numbers.
        """
        return ["left", "right", "forward"]

    def gen_obs(self) -> UInt8[np.ndarray, "48 48 3"]:
        """Draw the room.

        Returns:
            Frame of 8×8 pixels a cell, values in [0, 255].
        """
        return self.grid.render(8, tuple(self.agent_pos), self.agent_dir)

    def goal(self) -> tuple[int, int]:
        """Find the goal.

        Returns:
            Column and row of its cell, from 1 to 4.
        """
        cells = [(x, y) for x in range(1, 5) for y in range(1, 5)]
        return next(cell for cell in cells if self.grid.get(*cell) is not None)


class MovingGoal(OneGoal):
    """The goal is in a random cell and moves to another one when it is reached, which is rewarded with 1."""

    def _gen_grid(self, width: int, height: int) -> None:
        super()._gen_grid(width, height)  # type: ignore[no-untyped-call]
        self._move_goal()

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Turn or move.

        Args:
            action: LEFT, RIGHT or FORWARD.

        Returns:
            Frame, reward 0 or 1, False as no episode terminates, True after 48 steps, and no further information.
        """
        frame, _, reached, truncated, information = super().step(action)
        if reached:
            self._move_goal()
            frame = self.gen_obs()
        return frame, float(reached), False, truncated, information

    def _move_goal(self) -> None:
        self.grid.set(*self.goal(), None)
        self.place_obj(Goal())


class ShortestPath:
    """Policy that takes a shortest path to the goal.

    Args:
        game: one of the two rooms.
        generator: not used, as the policy has no choice.
    """

    def __init__(self, game: Game, generator: np.random.Generator) -> None:
        self.room = game.environment.unwrapped

    def __call__(self) -> int:
        """Choose an action after which the goal is nearest.

        Returns:
            LEFT, RIGHT or FORWARD.
        """
        room, goal = self.room, self.room.goal()
        ahead = room.front_pos if {*map(int, room.front_pos)} <= {*range(1, 5)} else room.agent_pos
        turned = [steps_to_goal(room.agent_pos, room.agent_dir + turn, goal) for turn in (-1, 1)]
        return int(np.argmin([*turned, steps_to_goal(ahead, room.agent_dir, goal)]))


def steps_to_goal(position: Sequence[int], direction: int, goal: Sequence[int]) -> int:
    """Count the turns and moves of a shortest path.

    Args:
        position: column and row of the agent.
        direction: 0 right, 1 down, 2 left, 3 up, modulo 4.
        goal: column and row of the goal.

    Returns:
        Number of steps, 0 or more.

    Example:
        >>> steps_to_goal((1, 1), 0, (3, 2)), steps_to_goal((1, 1), 2, (3, 1))
        (4, 4)
    """
    right, down = int(goal[0] - position[0]), int(goal[1] - position[1])
    needed = [0 if right > 0 else 2] * bool(right) + [1 if down > 0 else 3] * bool(down)
    turns = [min((direction - first) % 4, (first - direction) % 4) for first in needed]
    return abs(right) + abs(down) + min(turns, default=0) + max(len(needed) - 1, 0)


gymnasium.register("OneGoal-v0", f"{__name__}:OneGoal")
gymnasium.register("MovingGoal-v0", f"{__name__}:MovingGoal")
