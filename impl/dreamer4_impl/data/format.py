"""Dataset format: dataset.json next to numbered shards, each a directory of arrays with one row per frame.

    DIR/dataset.json
    DIR/00000/frames.npy     uint8 (N, H, W, C)
              rewards.npy    float32 (N,), received on arriving at frame t; 0 on the first row of an episode
              continues.npy  bool (N,), False where the episode terminated on arriving at frame t; truncation keeps True
              first.npy      bool (N,), True in the first row of an episode
              labelled.npy   bool (N,), True where the action that led to frame t is known; elsewhere 0 is stored
              task.npy       int32 (N,), index into the tasks
              action.X.npy   component X of the action that LED TO frame t (A32): categorical int32 (N,),
                             binary uint8 (N, size), continuous float32 (N, size)

An episode never spans two shards. dataset.json is written last, so that it names complete shards only.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dreamer4_impl.durable import read_json, write_text
from dreamer4_impl.layers.actions import KINDS, Binary, Categorical, Component, Continuous

FORMAT = "dreamer4-dataset"
VERSION = 1
HEADER = "dataset.json"

_DTYPES: dict[type[Component], str] = {Categorical: "int32", Binary: "uint8", Continuous: "float32"}


class DatasetError(ValueError):
    """A dataset cannot be read or written as requested; the message says why and what to do."""


@dataclass(frozen=True)
class Shard:
    """Entry of one shard in dataset.json.

    Args:
        name: directory of the shard in that of the dataset, a plain name.
        length: N, frames, 1 or more.
        episodes: number of episodes, 1 or more.
        checksums: BLAKE2b digest of every array's file by file name.

    Raises:
        ValueError: if the name leads out of the directory, or a number is not whole or too small.
    """

    name: str
    length: int
    episodes: int
    checksums: Mapping[str, str]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name in ("", "..") or Path(self.name).name != self.name:
            raise ValueError(f"a shard must be a directory in that of the dataset; got the name {self.name!r}")
        for name in ("length", "episodes"):
            number = getattr(self, name)
            if type(number) is not int or number < 1:
                raise ValueError(f"{name} of the shard {self.name!r} must be a whole number, 1 or more; got {number!r}")


@dataclass(frozen=True)
class Header:
    """Content of dataset.json.

    Args:
        name: name of the recording, such as the game's gymnasium id.
        height: H, pixels of a frame vertically, 1 or more.
        width: W, pixels of a frame horizontally, 1 or more.
        channels: C, 1 or 3.
        components: components of an action; empty for videos.
        tasks: names of the tasks; an episode's task is an index into them.
        shards: complete shards in the order of the recording.
        meta: how the data were recorded, in JSON types.
        position: where an import continues after the last complete shard (unit of the source, episodes of that unit
            which are stored); None for other recordings.
    """

    name: str
    height: int
    width: int
    channels: int
    components: tuple[Component, ...]
    tasks: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    position: tuple[int, int] | None = None

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """List the arrays of a shard.

        Returns:
            Dtype and shape of one row by the array's name, without ".npy".
        """
        plain = {"rewards": "float32", "continues": "bool", "first": "bool", "labelled": "bool", "task": "int32"}
        frame = (self.height, self.width, self.channels)
        columns: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {"frames": (np.dtype("uint8"), frame)}
        columns |= {name: (np.dtype(dtype), ()) for name, dtype in plain.items()}
        for component in self.components:
            columns[action_column(component)] = (np.dtype(_DTYPES[type(component)]), component.shape(1, 1)[2:])
        return columns

    def to_json(self) -> dict[str, Any]:
        """Convert to the JSON object that dataset.json holds.

        Returns:
            Object with the format's name and version.
        """
        kinds: dict[type[Component], str] = {cls: kind for kind, cls in KINDS.items()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "actions": [{"kind": kinds[type(c)], "name": c.name, "size": c.size} for c in self.components],
            "tasks": list(self.tasks),
            "shards": [vars(shard) for shard in self.shards],
            "meta": dict(self.meta),
            **({} if self.position is None else {"position": list(self.position)}),
        }


def action_column(component: Component) -> str:
    """Name of the array that holds a component of the actions.

    Args:
        component: component of an action, categorical or otherwise.

    Returns:
        Name of its file without ".npy".

    Example:
        >>> action_column(Categorical("mouse", 121))
        'action.mouse'
    """
    return f"action.{component.name}"


def read_header(path: Path) -> Header:
    """Read dataset.json.

    Args:
        path: directory of the dataset.

    Returns:
        The header; shards are not opened.

    Raises:
        DatasetError: if it is missing, unreadable, incomplete, or of another format or version.
    """
    file = path / HEADER
    try:
        content = read_json(file)
    except FileNotFoundError:
        raise DatasetError(f"{path} is not a dataset: {HEADER} is missing; dreamer4-record makes one") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error
    _check_version(file, content)
    try:
        return _header(content)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DatasetError(f"{file} is damaged: {type(error).__name__}: {error}") from error


def write_header(path: Path, header: Header) -> None:
    """Replace dataset.json atomically.

    Args:
        path: directory of the dataset.
        header: its new content.

    Raises:
        OSError: if it cannot be written; the old content is then unchanged.
    """
    write_text(path / HEADER, json.dumps(header.to_json(), indent=1))


def _check_version(file: Path, content: Any) -> None:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f"{file} does not describe a dataset: its format must be {FORMAT!r}")
    if content.get("version") != VERSION:
        raise DatasetError(
            f"{file} has version {content.get('version')!r}; this program reads version {VERSION}: "
            "record the dataset again, or read it with the version of dreamer4-conformance that wrote it"
        )


def _header(content: dict[str, Any]) -> Header:
    return Header(
        name=str(content["name"]),
        height=int(content["height"]),
        width=int(content["width"]),
        channels=int(content["channels"]),
        components=tuple(KINDS[action["kind"]](action["name"], action["size"]) for action in content["actions"]),
        tasks=tuple(content["tasks"]),
        shards=tuple(Shard(**shard) for shard in content["shards"]),
        meta=content["meta"],
        position=_position(content.get("position")),
    )


def _position(content: Any) -> tuple[int, int] | None:
    if content is None:
        return None
    unit, episodes = map(int, content)
    return unit, episodes
