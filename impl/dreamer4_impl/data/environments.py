"""Gymnasium environments by id, from Atari, MiniGrid and users' own modules."""

import warnings
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.user_code import EXTRAS, failures, imported_module

#: Packages that register environments when they are imported, by the beginning of the id.
_PACKAGES: Final = {"ALE/": "ale_py", "BabyAI-": "minigrid", "MiniGrid-": "minigrid"}


def is_atari(task: str) -> bool:
    """True for games of the Arcade Learning Environment.

    Args:
        task: gymnasium id of the game.

    Returns:
        True if the id is in its namespace.
    """
    return task.startswith("ALE/")


def make_environment(task: str, **options: Any) -> Any:
    """Create an environment.

    Args:
        task: gymnasium id, such as ALE/Breakout-v5; MODULE:ID or FILE.py:ID imports the module that registers it first.
        options: arguments of the environment.

    Returns:
        The environment.

    Raises:
        DatasetError: if its package is not installed, it is not registered, or it cannot be created.
    """
    _require(task, "gymnasium")
    import gymnasium

    module, _, name = task.rpartition(":")
    if module:
        imported_module(module)
    for prefix, package in _PACKAGES.items():
        if task.startswith(prefix):
            _require(task, package)
    if is_atari(task):
        _silence_atari()
    try:
        with failures(f"creating {task}"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*render_mode")  # `ImageSource` checks it
            return gymnasium.make(name, disable_env_checker=True, **options)
    except DatasetError as error:
        if isinstance(error.__cause__, gymnasium.error.Error):
            raise DatasetError(f"{task} cannot be played: {error.__cause__}") from error
        raise


class Emulator:
    """Emulator of an Atari game, without what gymnasium does in every step.

    Without sticky actions it uses no random numbers: every seed starts in the same state, and the ROM is loaded once,
    not for every seed; loading takes as long as 60 to 250 frames.

    Args:
        environment: gymnasium environment of the game, with frameskip 1 and the game's own actions.
        grey: observations of one channel instead of three.
        sticky: True if the environment repeats actions at random.
    """

    def __init__(self, environment: Any, *, grey: bool, sticky: bool) -> None:
        self._environment, self._sticky = environment, sticky
        self._emulator = environment.unwrapped.ale
        self._actions = self._emulator.getMinimalActionSet()
        self._screen = self._emulator.getScreenGrayscale if grey else self._emulator.getScreenRGB
        self._start: Any = None

    def reset(self, seed: int) -> UInt8[np.ndarray, "height width *C"]:
        """Start an episode.

        Args:
            seed: seed of the environment, 0 or more.

        Returns:
            The first observation; a new array.
        """
        self._environment.reset(seed=seed if self._sticky else None)
        if self._start is not None:
            # A reset alone leaves parts of the memory as they are.
            self._emulator.restoreSystemState(self._start[0])
            return self._start[1].copy()
        observation = self._screen()
        if not self._sticky:
            self._start = self._emulator.cloneSystemState(), observation.copy()
        return observation

    def step(self, action: int) -> tuple[UInt8[np.ndarray, "height width *C"], float, bool, bool, dict[str, Any]]:
        """Play one of the game's own frames.

        Args:
            action: index of the action.

        Returns:
            What gymnasium's `step` does: observation, a new array; reward; whether the episode has terminated, and
            whether it was cut off; an empty dict.
        """
        reward = self._emulator.act(self._actions[action])
        over, cut = self._emulator.game_over(with_truncation=False), self._emulator.game_truncated()
        return self._screen(), reward, over, cut, {}


def _require(task: str, package: str) -> None:
    try:
        imported_module(package)
    except DatasetError as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        extra = f"pip install 'dreamer4-conformance[{EXTRAS[package]}]'"
        raise DatasetError(f"playing {task} needs {package.replace('_', '-')}: {extra}") from error


def _silence_atari() -> None:
    import ale_py

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
