"""Images of a game: its observations, an entry of them, or what it draws."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.user_code import failures

OBSERVATION: Final = "observation"
RENDER: Final = "render"


def is_frames_option(frames: str) -> bool:
    """True for a source of frames that `ImageSource` takes.

    Args:
        frames: the option `--frames-from`.

    Returns:
        True for "observation", "observation.KEY" with any key, and "render".

    Example:
        >>> is_frames_option("observation.image"), is_frames_option("image")
        (True, False)
    """
    return frames in (OBSERVATION, RENDER) or frames.startswith(f"{OBSERVATION}.")


class ImageSource:
    """Take the images of a game from its observations or from what it draws.

    Args:
        task: gymnasium id of the game, for messages.
        environment: the game; created with render_mode "rgb_array" if frames is "render".
        frames: "render"; "observation.KEY", an entry of Dict or Tuple observations, with further dots for entries of
            entries; or "observation", the observation itself or, of a Dict or Tuple, its only image. An image that is
            smaller than a frame is not chosen by this rule if the game draws larger ones: it may hold codes of objects.
        size: height and width of a frame in pixels, 1 or more.

    Raises:
        DatasetError: if the game has no such images, or several.
    """

    def __init__(self, task: str, environment: Any, frames: str, size: int) -> None:
        self.task, self.environment = task, environment
        self._draws = "rgb_array" in ((environment.metadata or {}).get("render_modes") or ())
        if frames == RENDER and not self._draws:
            raise DatasetError(
                f"{task} does not draw images: --frames-from render needs the render mode 'rgb_array', which it lacks"
            )
        self.keys = None if frames == RENDER else self._keys(frames, size)

    def image(self, observation: Any) -> UInt8[np.ndarray, "height width channels"]:
        """Take the current image.

        Args:
            observation: the observation that the environment has just returned.

        Returns:
            Copy of the image, values in [0, 255], with 1 or 3 channels.

        Raises:
            DatasetError: if it is not an image, or the environment cannot draw.
        """
        if self.keys is None:
            with failures(f"render() of {self.task}"):
                return self._checked(f"the results of render() of {self.task}", self.environment.render())
        name = f"the observations of {self.task}" if not self.keys else f"{_name(self.keys)!r} of {self.task}"
        with failures(f"reading {name}"):
            for key in self.keys:
                observation = observation[int(key) if isinstance(observation, tuple) else key]
            return self._checked(name, observation)

    def _keys(self, frames: str, size: int) -> tuple[str, ...]:
        """Keys that lead from an observation to the image."""
        leaves = dict(_leaves(self.environment.observation_space, ()))
        if () in leaves and frames == OBSERVATION:
            return ()
        images = {_name(keys): keys for keys, space in leaves.items() if keys and _is_image_space(space)}
        chosen = list(images.values()) if frames == OBSERVATION else [images.get(frames)]
        if len(chosen) != 1 or chosen[0] is None:
            raise DatasetError(
                f"--frames-from must be 'render' or an image among the observations of {self.task}, "
                f"{', '.join(map(repr, images)) or 'which hold none'}; got {frames!r}"
            )
        if frames == OBSERVATION:
            self._require_large(_name(chosen[0]), leaves[chosen[0]].shape, size)
        return chosen[0]

    def _require_large(self, name: str, shape: tuple[int, ...], size: int) -> None:
        if self._draws and min(shape[:2]) < size:
            raise DatasetError(
                f"{name!r} of {self.task} has {shape[0]}×{shape[1]} pixels, fewer than frames of {size}×{size}: choose "
                f"--frames-from render, which takes what the game draws, or --frames-from {name}"
            )

    def _checked(self, name: str, image: Any) -> UInt8[np.ndarray, "height width channels"]:
        frame = np.array(image)  # a copy: environments may write every frame to the same array
        if frame.dtype != np.uint8 or not _is_image_shape(frame.shape):
            hint = ": --frames-from render takes what the game draws" if self._draws and self.keys is not None else ""
            raise DatasetError(
                f"{name} must be uint8 images, (H, W), (H, W, 1) or (H, W, 3); got {frame.dtype} {frame.shape}{hint}"
            )
        return frame.reshape(*frame.shape[:2], -1)


def _leaves(space: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Spaces without entries, by the keys that lead to them."""
    spaces = getattr(space, "spaces", None)
    if spaces is None:
        yield keys, space
        return
    for key, entry in spaces.items() if hasattr(spaces, "items") else enumerate(spaces):
        yield from _leaves(entry, (*keys, str(key)))


def _name(keys: tuple[str, ...]) -> str:
    return ".".join((OBSERVATION, *keys))


def _is_image_space(space: Any) -> bool:
    return space.dtype == np.uint8 and _is_image_shape(tuple(space.shape or ()))


def _is_image_shape(shape: tuple[int, ...]) -> bool:
    return len(shape) in (2, 3) and min(shape[:2]) > 0 and shape[2:] in ((), (1,), (3,))
