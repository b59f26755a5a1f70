"""Games as the model sees them: frames resized by area averaging, actions held for several of the game's own frames."""

import enum
import math
import operator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dreamer4_impl.arguments import require_at_least
from dreamer4_impl.data.environments import Emulator, is_atari, make_environment
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.images import OBSERVATION, RENDER, ImageSource, is_frames_option
from dreamer4_impl.data.resizing import grey as to_grey
from dreamer4_impl.data.resizing import resize
from dreamer4_impl.data.user_code import failures
from dreamer4_impl.layers.actions import Binary, Categorical, Component, Continuous


@dataclass(frozen=True)
class View:
    """Source, size and colour of frames, frame skip, sticky actions; kept in a dataset's meta to play it as recorded.

    Args:
        size: height and width of a frame in pixels, 1 or more.
        grey: one channel instead of three.
        frame_skip: the game's own frames for which an action is held, 1 or more; rewards are summed over them, and the
            last frame is shown.
        repeat_probability: probability in [0, 1) with which an Atari game repeats the previous action in each of its
            own frames.
        flicker: show the maximum of the last two of the game's own frames, because Atari games draw some objects in
            every second frame only; False shows the last frame; None is True for Atari games.
        frames_from: "observation", "observation.KEY" for an entry of Dict observations, or "render" for what the game
            draws; see `ImageSource`.

    Raises:
        ValueError: if a value is out of range.
    """

    size: int = 64
    grey: bool = False
    frame_skip: int = 4
    repeat_probability: float = 0.0
    flicker: bool | None = None
    frames_from: str = OBSERVATION

    def __post_init__(self) -> None:
        require_at_least(1, size=self.size, frame_skip=self.frame_skip)
        if not 0 <= self.repeat_probability < 1:
            raise ValueError(f"repeat_probability must lie in [0, 1); got {self.repeat_probability}")
        if not is_frames_option(self.frames_from):
            raise ValueError(
                f"frames_from must be 'observation', 'observation.KEY' or 'render'; got {self.frames_from!r}"
            )

    @classmethod
    def recorded(cls, meta: Mapping[str, Any]) -> "View":
        """Read the view of a dataset.

        Args:
            meta: the dataset's meta.view; without `flicker`, frames are the last ones.

        Returns:
            The view with which the game was recorded.
        """
        return cls(**{"flicker": False, **meta})

    def meta(self, task: str) -> dict[str, Any]:
        """Describe the view for dataset.json.

        Args:
            task: gymnasium id of the game.

        Returns:
            JSON object, without `flicker` if it is false and `frames_from` if it is "observation": older datasets lack
            both.
        """
        fields = asdict(self) | {"flicker": self.shows_maximum(task)}
        defaults = {"flicker": False, "frames_from": OBSERVATION}
        return {name: value for name, value in fields.items() if name not in defaults or value != defaults[name]}

    def shows_maximum(self, task: str) -> bool:
        """Resolve `flicker` for a game.

        Args:
            task: gymnasium id of the game.

        Returns:
            True if frames are the maximum of two.

        Example:
            >>> View().shows_maximum("ALE/Pong-v5"), View().shows_maximum("CartPole-v1")
            (True, False)
        """
        return is_atari(task) if self.flicker is None else self.flicker

    @property
    def channels(self) -> int:
        """Channels of a frame.

        Returns:
            1 for grey frames, 3 for colour.
        """
        return 1 if self.grey else 3


@dataclass(frozen=True)
class Step:
    """Result of an action.

    Args:
        frame: values in [0, 255], uint8, (H, W, C).
        reward: sum over the skipped frames.
        terminated: the episode ended in a terminal state.
        truncated: the episode was cut off.
    """

    frame: UInt8[np.ndarray, "H W C"]
    reward: float
    terminated: bool
    truncated: bool


class Game:
    """Gymnasium environment with images, seen through a `View`.

    Args:
        task: gymnasium id, such as ALE/Breakout-v5; MODULE:ID or FILE.py:ID imports the module that registers it first.
        view: source, size and colour of the frames, frame skip.

    Attributes:
        environment: the gymnasium environment.
        observation: what the environment returned last; None before the first reset.
        frame: the last frame, uint8 (H, W, C); None before the first reset.
        component: component of an action, named "action".
        action_names: names of the classes by component name, for games that name them, as those of Atari and MiniGrid
            do; else empty.

    Raises:
        DatasetError: if the environment or its package is not available, it has no images, or its action space is not
            supported.
    """

    def __init__(self, task: str, view: View) -> None:
        self.task, self.view = task, view
        self.observation: Any = None
        self.frame: UInt8[np.ndarray, "H W C"] | None = None
        self._shows_maximum = view.shows_maximum(task)
        self.environment = make_environment(task, **_options(task, view))
        sticky = view.repeat_probability > 0
        self._emulator = Emulator(self.environment, grey=view.grey, sticky=sticky) if is_atari(task) else None
        with failures(f"reading the spaces of {task}"):
            self.component = component_of(self.environment.action_space)
            self._source = ImageSource(task, self.environment, view.frames_from, view.size)
            names = _action_names(self.environment.unwrapped, self.component)
        self.action_names = {self.component.name: names} if names else {}

    def reset(self, seed: int) -> UInt8[np.ndarray, "H W C"]:
        """Start an episode.

        Args:
            seed: seed of the episode, 0 or more; the same seed gives the same episode.

        Returns:
            First frame, values in [0, 255].

        Raises:
            DatasetError: if the environment raises an exception, or its images are none.
        """
        with failures(f"reset() of {self.task}"):
            if self._emulator is None:
                self.observation, _ = self.environment.reset(seed=seed)
            else:
                self.observation = self._emulator.reset(seed)
        self._image = self._source.image(self.observation)
        self.frame = self._frame(self._image)
        return self.frame

    def step(self, action: Any) -> Step:
        """Hold an action for `frame_skip` frames, or until the episode ends.

        Args:
            action: a value of the environment's action space.

        Returns:
            Frame and summed reward.

        Raises:
            DatasetError: if the action is none of the environment's, the environment raises an exception, a reward is
                not finite, or its images are none.
        """
        action = self.accepted(action)
        total, before = 0.0, self._image
        play = self.environment.step if self._emulator is None else self._emulator.step
        for _ in range(self.view.frame_skip):
            with failures(f"step() of {self.task}"):
                self.observation, reward, terminated, truncated, _ = play(action)
                total += float(reward)
            if self._shows_maximum:
                before, self._image = self._image, self._source.image(self.observation)
            if terminated or truncated:
                break
        if not math.isfinite(total):
            raise DatasetError(f"rewards of {self.task} must be finite; got {total}")
        if not self._shows_maximum:
            self._image = before = self._source.image(self.observation)
        self.frame = self._frame(np.maximum(before, self._image))
        return Step(self.frame, total, bool(terminated), bool(truncated))

    def accepted(self, action: Any) -> Any:
        """Convert an action to the type that the environment takes.

        Args:
            action: integer of a Discrete space; zeros and ones or numbers of MultiBinary and Box spaces, as an array or
                a sequence.

        Returns:
            An int, or an array of the space's dtype.

        Raises:
            DatasetError: if it is no action of the environment.
        """
        space = self.environment.action_space
        with suppress(TypeError, ValueError, OverflowError):
            if isinstance(self.component, Categorical):
                value: Any = operator.index(action)
                exact = True
            else:
                array = np.asarray(action)
                value = array.astype(space.dtype)
                exact = isinstance(self.component, Continuous) or np.array_equal(array, value)
            if exact and space.contains(value):
                return value
        raise DatasetError(f"an action of {self.task} must lie in {space}; got {action!r}")

    def memory(self) -> UInt8[np.ndarray, " 128"]:
        """RAM of an Atari game.

        Returns:
            Bytes (128,).
        """
        return self.environment.unwrapped.ale.getRAM()

    def close(self) -> None:
        """Close the environment and free its resources."""
        self.environment.close()

    def _frame(self, image: UInt8[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "H W C"]:
        frame = image
        if self.view.grey and frame.shape[2] == 3:
            frame = to_grey(frame)
        if not self.view.grey:
            frame = np.broadcast_to(frame, (*frame.shape[:2], 3))
        return resize(frame, self.view.size, self.view.size)


def component_of(space: Any) -> Component:
    """Convert a gymnasium action space.

    Args:
        space: Discrete from 0, MultiBinary(n), or Box of n floating-point numbers.

    Returns:
        Component named "action".

    Raises:
        DatasetError: if the space is of another kind.
    """
    kind, shape = type(space).__name__, tuple(space.shape or ())
    if kind == "Discrete" and space.start == 0:
        return Categorical("action", int(space.n))
    if kind == "MultiBinary" and len(shape) == 1:
        return Binary("action", shape[0])
    if kind == "Box" and len(shape) == 1 and np.issubdtype(space.dtype, np.floating):
        return Continuous("action", shape[0])
    raise DatasetError(
        f"actions must be Discrete from 0, MultiBinary(n) or Box of n floating-point numbers; got {space}"
    )


def _options(task: str, view: View) -> dict[str, Any]:
    options: dict[str, Any] = {"render_mode": "rgb_array"} if view.frames_from == RENDER else {}
    if is_atari(task):
        # Frames are skipped in `step`: the emulator's own skipping hides rewards and repeats.
        options |= {"frameskip": 1, "repeat_action_probability": view.repeat_probability}
        options["obs_type"] = "grayscale" if view.grey else "rgb"
    return options


def _action_names(environment: Any, component: Component) -> list[str]:
    """Names of the classes of an action, as Atari games or MiniGrid give them; empty if they do not fit."""
    meanings, actions = getattr(environment, "get_action_meanings", None), getattr(environment, "actions", None)
    members = list(actions.__members__) if isinstance(actions, enum.EnumMeta) else []
    names = list(meanings()) if meanings else members
    return names if len(names) == component.size else []
