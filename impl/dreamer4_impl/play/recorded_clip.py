"""A recorded stretch of play: where the world model begins, and what came next when it was recorded.

Row t holds what arrives together with frame t (A32): `actions[t]` is the action that led to it.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from dreamer4_impl.layers.actions import Component
from dreamer4_impl.play.errors import UsageError

FORMAT: Final = "dreamer4-clip"
VERSION: Final = 1


@dataclass(frozen=True)
class RecordedClip:
    """T frames and the actions that led to them.

    Args:
        frames: uint8.
        actions: component name → values.
        labelled: where an action is known.
        names: component name → what its classes or switches are called, as far as that is known.
        title: what was recorded.
    """

    frames: UInt8[np.ndarray, "T H W C"]
    actions: Mapping[str, Shaped[np.ndarray, "T ..."]]
    labelled: Bool[np.ndarray, " T"]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no recording."""
        if self.frames.ndim != 4 or self.frames.dtype != np.uint8 or not len(self.frames):
            raise ValueError(
                f"frames must be uint8 (T, H, W, C), one or more; got {self.frames.dtype} {self.frames.shape}"
            )
        rows = {name: len(values) for name, values in {**self.actions, "labelled": self.labelled}.items()}
        if set(rows.values()) != {len(self.frames)}:
            raise ValueError(f"actions and labelled must have a row for each of {len(self.frames)} frames; got {rows}")

    def require_fit(self, components: Sequence[Component], frame: tuple[int, int, int]) -> None:
        """Raise ValueError unless a model of frames (H, W, C) and of actions with these components can continue it."""
        if self.frames.shape[1:] != frame:
            raise ValueError(f"the model's frames are {frame}, height, width and channels; got {self.frames.shape[1:]}")
        expected = {part.name: part.shape(1, len(self.frames))[1:] for part in components}
        got = {name: values.shape for name, values in self.actions.items()}
        if got != expected:
            raise ValueError(f"the model's actions have the shapes {expected}; got {got}")


def write_clip(path: Path, recording: RecordedClip) -> None:
    """Write a recording as one compressed .npz file."""
    names = {name: list(called) for name, called in recording.names.items()}
    about = {"format": FORMAT, "version": VERSION, "title": recording.title, "names": names}
    actions = {f"action.{name}": values for name, values in recording.actions.items()}
    arrays = {"frames": recording.frames, "labelled": recording.labelled, "about": np.array(json.dumps(about))}
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays, **actions)


def read_clip(path: Path) -> RecordedClip:
    """Read what `write_clip` wrote; a sentence where it is something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return _recording({name: file[name] for name in file.files})
    except FileNotFoundError:
        raise UsageError(f"{path} is not there") from None
    except (OSError, ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is no clip that `dreamer4-play --export` wrote: {error}") from None


def _recording(arrays: dict[str, np.ndarray]) -> RecordedClip:
    about = json.loads(str(arrays["about"]))
    if (about.get("format"), about.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"it must say {FORMAT} {VERSION}; got {about.get('format')} {about.get('version')}")
    actions = {name.removeprefix("action."): array for name, array in arrays.items() if name.startswith("action.")}
    return RecordedClip(arrays["frames"], actions, arrays["labelled"], about["names"], about["title"])
