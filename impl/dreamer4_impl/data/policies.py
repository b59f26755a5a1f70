"""Who plays while a recording is made: at random, with held actions, or by a script that plays well."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.game import Game
from dreamer4_impl.layers.actions import Binary, Categorical

#: An action from the state of the game.
Policy: TypeAlias = Callable[[], Any]

#: Mean number of steps for which the policy "sticky" holds an action.
HELD = 4


def random_policy(game: Game, generator: np.random.Generator) -> Policy:
    """Every action anew, uniformly; numbers uniformly within their bounds, or from a normal distribution without."""
    component = game.component
    if isinstance(component, Categorical):
        return lambda: int(generator.integers(component.size))
    if isinstance(component, Binary):
        return lambda: generator.integers(2, size=component.size, dtype=np.int8)
    space = game.environment.action_space
    if space.is_bounded():
        return lambda: generator.uniform(space.low, space.high).astype(space.dtype)
    return lambda: generator.standard_normal(component.size).astype(space.dtype)


def sticky_policy(game: Game, generator: np.random.Generator) -> Policy:
    """A random action, held for HELD steps in the mean."""
    draw = random_policy(game, generator)
    held = draw()

    def act() -> Any:
        nonlocal held
        if generator.random() < 1 / HELD:
            held = draw()
        return held

    return act


def scripted_policy(game: Game, generator: np.random.Generator) -> Policy:
    """Play well, as the game's memory tells where the ball or the opponent is."""
    if game.task not in _SCRIPTS:
        raise DatasetError(f"there is a scripted policy for {' and '.join(_SCRIPTS)}; got {game.task}: play at random")
    return _SCRIPTS[game.task](game, generator)


def mixed(policy: Policy, random: Policy, epsilon: float, generator: np.random.Generator) -> Policy:
    """`policy`, and with probability `epsilon` in each step `random`."""
    return lambda: random() if generator.random() < epsilon else policy()


def _breakout(game: Game, generator: np.random.Generator) -> Policy:
    aim = 0  # the point of the paddle, which changes now and then

    def act() -> int:
        nonlocal aim
        memory = game.memory().astype(int)
        ball_x, ball_y, paddle = memory[99], memory[101], memory[72]
        if ball_y == 0:
            return FIRE
        if generator.random() < 1 / 32:
            aim = int(generator.integers(-5, 6))
        # The paddle's centre lies under the ball where the two numbers differ by 10.
        away = ball_x - (paddle + 10 + aim)
        return RIGHT if away > 3 else LEFT if away < -3 else NOOP

    return act


def _pong(game: Game, generator: np.random.Generator) -> Policy:
    before, aim = 0, 0

    def act() -> int:
        nonlocal before, aim
        memory = game.memory().astype(int)
        ball, paddle = memory[54], memory[51]
        if generator.random() < 1 / 32:
            aim = int(generator.integers(-5, 6))
        # The paddle has momentum: it is sent where the ball will be a step later.
        ahead = ball - before if before and ball else 0
        before = int(ball)
        if ball == 0:
            return FIRE
        # The paddle's centre is level with the ball where the two numbers differ by 7.
        away = ball + ahead - (paddle + 7 + aim)
        return LEFT if away > 4 else RIGHT if away < -4 else NOOP

    return act


def _boxing(game: Game, generator: np.random.Generator) -> Policy:
    (names,) = game.action_names.values()

    def act() -> int:
        memory = game.memory().astype(int)
        x, y, opponent_x, opponent_y = memory[32], memory[34], memory[33], memory[35]
        # A punch lands where one arm, above or below the head, is level with the opponent's head.
        right = opponent_x + (8 if opponent_x < x else -8) - x
        down = opponent_y + (16 if opponent_y <= y else -16) - y
        vertical = "DOWN" if down > 2 else "UP" if down < -2 else ""
        horizontal = "RIGHT" if right > 2 else "LEFT" if right < -2 else ""
        punch = "FIRE" if abs(opponent_x - x) <= 20 and abs(down) <= 8 else ""
        return names.index(vertical + horizontal + punch or "NOOP")

    return act


#: The actions of Breakout and Pong; in Pong, RIGHT is up.
NOOP, FIRE, RIGHT, LEFT = range(4)

_SCRIPTS = {"ALE/Boxing-v5": _boxing, "ALE/Breakout-v5": _breakout, "ALE/Pong-v5": _pong}
POLICIES = {"random": random_policy, "sticky": sticky_policy, "scripted": scripted_policy}
