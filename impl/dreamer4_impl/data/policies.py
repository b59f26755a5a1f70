"""Policies for recording: random actions, held random actions, scripts that play well, and policies of users.

A policy is written as a function or class that takes the game and a generator of random numbers. It is called after the
first frame of every episode, and its result is called without arguments before every step, for the next action:

    # my_policy.py, played by --policy my_policy.py:Policy
    class Policy:
        def __init__(self, game, generator):
            self.game, self.generator = game, generator

        def __call__(self):
            bright = self.game.frame.mean() > 127  # also: game.observation, game.environment, game.component
            return 1 if bright else int(self.generator.integers(self.game.component.size))

All randomness must come from the generator: then episode e of a recording depends on the seed and e only.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.game import Game
from dreamer4_impl.data.user_code import failures, imported_object
from dreamer4_impl.layers.actions import Binary, Categorical

Policy: TypeAlias = Callable[[], Any]
"""Function that returns the next action for the current state of the game."""

PolicyFactory: TypeAlias = Callable[[Game, np.random.Generator], Policy]
"""Function or class that starts a policy for an episode."""

MEAN_HOLD = 4
"""Mean number of steps for which the policy "sticky" holds an action."""


def random_policy(game: Game, generator: np.random.Generator) -> Policy:
    """Draw every action independently.

    Classes and switches are uniform; numbers are uniform within their bounds, or standard normal without bounds.

    Args:
        game: its action component and action space.
        generator: source of the draws.

    Returns:
        Policy whose actions the game accepts.
    """
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
    """Draw a random action and hold it for MEAN_HOLD steps on average.

    Args:
        game: its action component and action space.
        generator: source of the draws.

    Returns:
        Policy whose actions the game accepts.
    """
    draw = random_policy(game, generator)
    current = draw()

    def _act() -> Any:
        nonlocal current
        if generator.random() < 1 / MEAN_HOLD:
            current = draw()
        return current

    return _act


def scripted_policy(game: Game, generator: np.random.Generator) -> Policy:
    """Play well from the game's memory, which holds the positions of the ball or the opponent.

    Args:
        game: one of Boxing, Breakout and Pong.
        generator: source of the script's variations.

    Returns:
        Policy for this game.

    Raises:
        DatasetError: if there is no script for the game.
    """
    if game.task not in _SCRIPTS:
        raise DatasetError(
            f"there is a scripted policy for {' and '.join(_SCRIPTS)}; got {game.task}: play at random, or write a "
            "policy and name it by its import path"
        )
    return _SCRIPTS[game.task](game, generator)


def require_policy_name(name: str) -> None:
    """Raise unless a name is that of a policy, or has the form of an import path.

    Args:
        name: a key of `POLICIES`, MODULE:NAME or FILE.py:NAME.

    Raises:
        ValueError: if it is neither.
    """
    if name not in POLICIES and ":" not in name:
        names = ", ".join(map(repr, POLICIES))
        raise ValueError(f"policy must be {names}, or an import path MODULE:NAME or FILE.py:NAME; got {name!r}")


def policy_factory(name: str) -> PolicyFactory:
    """Look up a policy by its name, or import it.

    Args:
        name: a key of `POLICIES`, MODULE:NAME or FILE.py:NAME.

    Returns:
        Factory of the policy. Exceptions of an imported policy become a DatasetError of one sentence.

    Raises:
        DatasetError: if the import fails, or the object cannot be called.
        ValueError: if the name has another form.
    """
    require_policy_name(name)
    if name in POLICIES:
        return POLICIES[name]
    factory = imported_object(name)
    if not callable(factory):
        raise DatasetError(
            f"the policy {name} must be a function or class that takes (game, generator); got {factory!r}"
        )
    return lambda game, generator: _imported_policy(name, factory, game, generator)


def _imported_policy(name: str, factory: PolicyFactory, game: Game, generator: np.random.Generator) -> Policy:
    with failures(f"starting the policy {name} with (game, generator)"):
        policy = factory(game, generator)
    if not callable(policy):
        raise DatasetError(
            f"the policy {name} must return a function without arguments that returns an action; got {policy!r}"
        )

    def _act() -> Any:
        with failures(f"an action of the policy {name}"):
            return game.accepted(policy())

    return _act


def mixed(policy: Policy, random: Policy, epsilon: float, generator: np.random.Generator) -> Policy:
    """Mix two policies step by step.

    Args:
        policy: followed with probability 1 − epsilon.
        random: followed with probability epsilon.
        epsilon: probability in [0, 1].
        generator: source of the choice.

    Returns:
        The mixed policy.
    """
    return lambda: random() if generator.random() < epsilon else policy()


def _breakout(game: Game, generator: np.random.Generator) -> Policy:
    aim = 0  # the point of the paddle that should hit the ball, drawn again every 32 steps on average

    def _act() -> int:
        nonlocal aim
        memory = game.memory().astype(int)
        ball_x, ball_y, paddle = memory[99], memory[101], memory[72]
        if ball_y == 0:
            return FIRE
        if generator.random() < 1 / 32:
            aim = int(generator.integers(-5, 6))
        # The paddle's centre lies under the ball where the two numbers differ by 10.
        distance = ball_x - (paddle + 10 + aim)
        return RIGHT if distance > 3 else LEFT if distance < -3 else NOOP

    return _act


def _pong(game: Game, generator: np.random.Generator) -> Policy:
    previous, aim = 0, 0

    def _act() -> int:
        nonlocal previous, aim
        memory = game.memory().astype(int)
        ball, paddle = memory[54], memory[51]
        if generator.random() < 1 / 32:
            aim = int(generator.integers(-5, 6))
        # The paddle has momentum: it aims at the ball's position one step later.
        movement = ball - previous if previous and ball else 0
        previous = int(ball)
        if ball == 0:
            return FIRE
        # The paddle's centre is level with the ball where the two numbers differ by 7.
        distance = ball + movement - (paddle + 7 + aim)
        return LEFT if distance > 4 else RIGHT if distance < -4 else NOOP

    return _act


def _boxing(game: Game, generator: np.random.Generator) -> Policy:
    (names,) = game.action_names.values()

    def _act() -> int:
        memory = game.memory().astype(int)
        x, y, opponent_x, opponent_y = memory[32], memory[34], memory[33], memory[35]
        # A punch lands where one arm, above or below the head, is level with the opponent's head.
        right = opponent_x + (8 if opponent_x < x else -8) - x
        down = opponent_y + (16 if opponent_y <= y else -16) - y
        vertical = "DOWN" if down > 2 else "UP" if down < -2 else ""
        horizontal = "RIGHT" if right > 2 else "LEFT" if right < -2 else ""
        punch = "FIRE" if abs(opponent_x - x) <= 20 and abs(down) <= 8 else ""
        return names.index(vertical + horizontal + punch or "NOOP")

    return _act


NOOP, FIRE, RIGHT, LEFT = range(4)
"""Actions of Breakout and Pong; in Pong, RIGHT is up."""

_SCRIPTS = {"ALE/Boxing-v5": _boxing, "ALE/Breakout-v5": _breakout, "ALE/Pong-v5": _pong}
POLICIES: dict[str, PolicyFactory] = {"random": random_policy, "sticky": sticky_policy, "scripted": scripted_policy}
