"""Games as the model sees them: frames resized by area averaging, actions held for several of the game's own frames."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dreamer4_impl.arguments import require_at_least
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.resizing import grey as to_grey
from dreamer4_impl.data.resizing import resize
from dreamer4_impl.layers.actions import Binary, Categorical, Component, Continuous


@dataclass(frozen=True)
class View:
    """Size and colour of frames, frame skip and sticky actions; kept in a dataset's meta to play the game as recorded.

    Args:
        size: height and width of a frame in pixels, 1 or more.
        grey: one channel instead of three.
        frame_skip: the game's own frames for which an action is held, 1 or more; rewards are summed over them, and the
            last frame is shown.
        repeat_probability: probability in [0, 1) with which an Atari game repeats the previous action in each of its
            own frames.
        flicker: show the maximum of the last two of the game's own frames, because Atari games draw some objects in
            every second frame only; False shows the last frame; None is True for Atari games.

    Raises:
        ValueError: if a value is out of range.
    """

    size: int = 64
    grey: bool = False
    frame_skip: int = 4
    repeat_probability: float = 0.0
    flicker: bool | None = None

    def __post_init__(self) -> None:
        require_at_least(1, size=self.size, frame_skip=self.frame_skip)
        if not 0 <= self.repeat_probability < 1:
            raise ValueError(f"repeat_probability must lie in [0, 1); got {self.repeat_probability}")

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
            JSON object, which holds `flicker` only if it is true: older datasets lack it.
        """
        fields = asdict(self)
        del fields["flicker"]
        return fields | ({"flicker": True} if self.shows_maximum(task) else {})

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
        frame: values in [0, 255].
        reward: sum over the skipped frames.
        terminated: the episode ended in a terminal state.
        truncated: the episode was cut off.
    """

    frame: UInt8[np.ndarray, "H W C"]
    reward: float
    terminated: bool
    truncated: bool


class Game:
    """Gymnasium environment whose observations are images, seen through a `View`.

    Args:
        task: gymnasium id, such as ALE/Breakout-v5.
        view: size and colour of the frames, frame skip.

    Attributes:
        component: component of an action, named "action".
        action_names: names of the classes by component name, for games that name them, as Atari's do; else empty.

    Raises:
        DatasetError: if the environment or its package is not available, or its action space is not supported.
    """

    def __init__(self, task: str, view: View) -> None:
        self.task, self.view = task, view
        self._shows_maximum = view.shows_maximum(task)
        self.environment = _make(task, view)
        self.component = component_of(self.environment.action_space)
        meanings = getattr(self.environment.unwrapped, "get_action_meanings", None)
        self.action_names: dict[str, list[str]] = {self.component.name: list(meanings())} if meanings else {}

    def reset(self, seed: int) -> UInt8[np.ndarray, "H W C"]:
        """Start an episode.

        Args:
            seed: seed of the episode, 0 or more; the same seed gives the same episode.

        Returns:
            First frame, values in [0, 255].

        Raises:
            DatasetError: if observations are not images.
        """
        observation, _ = self.environment.reset(seed=seed)
        self._last = self._image(observation)
        return self._frame(self._last)

    def step(self, action: Any) -> Step:
        """Hold an action for `frame_skip` frames, or until the episode ends.

        Args:
            action: a value of the environment's action space.

        Returns:
            Frame and summed reward.

        Raises:
            DatasetError: if observations are not images.
        """
        total, image = 0.0, self._last
        for _ in range(self.view.frame_skip):
            observation, reward, terminated, truncated, _ = self.environment.step(action)
            before, image = image, self._image(observation)
            total += float(reward)
            if terminated or truncated:
                break
        self._last = image
        frame = self._frame(np.maximum(before, image) if self._shows_maximum else image)
        return Step(frame, total, bool(terminated), bool(truncated))

    def memory(self) -> UInt8[np.ndarray, " 128"]:
        """RAM of an Atari game.

        Returns:
            Bytes (128,).
        """
        return self.environment.unwrapped.ale.getRAM()

    def close(self) -> None:
        """Close the environment and free its resources."""
        self.environment.close()

    def _image(self, observation: Any) -> UInt8[np.ndarray, "height width channels"]:
        frame = np.array(observation)  # a copy: environments may write every frame to the same array
        if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or frame.shape[2:] not in ((), (1,), (3,)):
            raise DatasetError(
                f"the observations of {self.task} must be uint8 images, (H, W), (H, W, 1) or (H, W, 3); "
                f"got {frame.dtype} {frame.shape}"
            )
        return frame.reshape(*frame.shape[:2], -1)

    def _frame(self, image: UInt8[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "H W C"]:
        frame = image
        if self.view.grey and frame.shape[2] == 3:
            frame = to_grey(frame)
        if not self.view.grey:
            frame = np.broadcast_to(frame, (*frame.shape[:2], 3))
        return resize(frame, self.view.size, self.view.size)


def is_atari(task: str) -> bool:
    """True for games of the Arcade Learning Environment.

    Args:
        task: gymnasium id of the game.

    Returns:
        True if the id is in its namespace.
    """
    return task.startswith("ALE/")


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


def _make(task: str, view: View) -> Any:
    try:
        import gymnasium
    except ImportError as error:
        raise DatasetError(f"playing {task} needs gymnasium: pip install 'dreamer4-conformance[atari]'") from error
    options: dict[str, Any] = {}
    if is_atari(task):
        _register_atari(gymnasium, task)
        # Frames are skipped in `step`: the emulator's own skipping hides rewards and repeats.
        options = {"frameskip": 1, "repeat_action_probability": view.repeat_probability}
        options["obs_type"] = "grayscale" if view.grey else "rgb"
    try:
        return gymnasium.make(task, disable_env_checker=True, **options)
    except gymnasium.error.Error as error:
        raise DatasetError(f"{task} cannot be played: {error}") from error


def _register_atari(gymnasium: Any, task: str) -> None:
    try:
        import ale_py
    except ImportError as error:
        raise DatasetError(f"playing {task} needs ale-py: pip install 'dreamer4-conformance[atari]'") from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    gymnasium.register_envs(ale_py)
