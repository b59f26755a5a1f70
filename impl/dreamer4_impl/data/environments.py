"""Gymnasium environments by id, from Atari, MiniGrid and users' own modules."""

import warnings
from typing import Any, Final

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


class AtariStart:
    """Start of the episodes of an Atari game without sticky actions, which uses no random numbers.

    Every seed then starts in the same state, so the ROM is loaded once, not for every seed; loading takes as long as 60
    to 250 frames.

    Args:
        environment: gymnasium environment of the game, with repeat_action_probability 0.
    """

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._saved: tuple[Any, Any] | None = None

    def reset(self, seed: int) -> Any:
        """Start an episode.

        Args:
            seed: seed of the environment, 0 or more.

        Returns:
            The first observation; a new array.
        """
        emulator = self._environment.unwrapped.ale
        if self._saved is None:
            observation, _ = self._environment.reset(seed=seed)
            self._saved = emulator.cloneSystemState(), observation
        else:
            self._environment.reset()
            # A reset alone leaves parts of the memory as they are.
            emulator.restoreSystemState(self._saved[0])
        return self._saved[1].copy()


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
