"""Recorded clips that the world model continues, and their file format.

Row t holds what arrives together with frame t (A32): `actions[t]` is the action that led to it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from dreamer4_impl.durable import DAMAGED_ARRAY, replacement
from dreamer4_impl.layers.actions import Component
from dreamer4_impl.play.errors import UsageError

FORMAT: Final = "dreamer4-clip"
VERSION: Final = 1


@dataclass(frozen=True)
class RecordedClip:
    """T recorded frames and the actions that led to them.

    Args:
        frames: frames, T ≥ 1, uint8, (T, H, W, C).
        actions: values by component, (T, …) each.
        labelled: True where the action is known, bool, (T,).
        names: names of the classes, switches or numbers, by component; components may be missing.
        title: name of the recorded game.

    Raises:
        ValueError: if frames are not uint8 (T, H, W, C), or actions or labelled do not have T rows.
    """

    frames: UInt8[np.ndarray, "T H W C"]
    actions: Mapping[str, Shaped[np.ndarray, "T ..."]]
    labelled: Bool[np.ndarray, " T"]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.dtype != np.uint8 or not len(self.frames):
            raise ValueError(
                f"frames must be uint8 (T, H, W, C) with T ≥ 1; got {self.frames.dtype} {self.frames.shape}"
            )
        rows = {name: len(values) for name, values in {**self.actions, "labelled": self.labelled}.items()}
        if set(rows.values()) != {len(self.frames)}:
            raise ValueError(f"actions and labelled must have a row for each of {len(self.frames)} frames; got {rows}")

    def require_fit(self, components: Sequence[Component], frame: tuple[int, int, int]) -> None:
        """Check that a model can continue the clip.

        Args:
            components: components of an action of the model.
            frame: shape (H, W, C) of the frames of the model.

        Raises:
            ValueError: if the shapes of frames or actions differ from those of the model.
        """
        if self.frames.shape[1:] != frame:
            raise ValueError(
                f"frames must have the shape of the model, (H, W, C) = {frame}; got {self.frames.shape[1:]}"
            )
        expected = {c.name: c.shape(1, len(self.frames))[1:] for c in components}
        actual = {name: values.shape for name, values in self.actions.items()}
        if actual != expected:
            raise ValueError(f"actions must have the shapes of the model, {expected}; got {actual}")


def write_clip(path: Path, recording: RecordedClip) -> None:
    """Write a clip as a compressed .npz file.

    Args:
        path: the file, overwritten if it exists.
        recording: context frames, actions and task to write.
    """
    names = {component: list(classes) for component, classes in recording.names.items()}
    about = {"format": FORMAT, "version": VERSION, "title": recording.title, "names": names}
    actions = {f"action.{name}": values for name, values in recording.actions.items()}
    arrays = {"frames": recording.frames, "labelled": recording.labelled, "about": np.array(json.dumps(about))}
    with replacement(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays, **actions)


def read_clip(path: Path) -> RecordedClip:
    """Read a file of `write_clip`.

    Args:
        path: file that `write_clip` wrote.

    Returns:
        The clip.

    Raises:
        UsageError: if the file does not exist, or is not a clip.
    """
    try:
        # numpy.load leaves a file open that it cannot read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return _recording({name: file[name] for name in file.files})
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except (*DAMAGED_ARRAY, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"{path} is not a clip of `dreamer4-play --export`: {error}") from None


def _recording(arrays: dict[str, np.ndarray]) -> RecordedClip:
    about = json.loads(str(arrays["about"]))
    if (about.get("format"), about.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"format must be {FORMAT} {VERSION}; got {about.get('format')} {about.get('version')}")
    actions = {name.removeprefix("action."): array for name, array in arrays.items() if name.startswith("action.")}
    return RecordedClip(arrays["frames"], actions, arrays["labelled"], about["names"], about["title"])
