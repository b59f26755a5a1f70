"""The dataset on disk: dataset.json beside numbered shards, each a directory of arrays with one row per frame.

    DIR/dataset.json
    DIR/00000/frames.npy     uint8 (N, H, W, C)
              rewards.npy    float32 (N,), received on arriving at frame t; 0 on the first of an episode
              continues.npy  bool (N,), False where the episode terminated on arriving at frame t; truncation does not
              first.npy      bool (N,), frame t begins an episode
              labelled.npy   bool (N,), the action that led to frame t is known; where not, 0 is stored
              task.npy       int32 (N,), index into the tasks
              action.X.npy   the component X of the action that LED TO frame t (A32): categorical int32 (N,),
                             binary uint8 (N, size), continuous float32 (N, size)

An episode never spans two shards. dataset.json is written last, so that it names whole shards alone.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dreamer4_impl.layers.actions import Binary, Categorical, Component, Continuous

FORMAT = "dreamer4-dataset"
VERSION = 1
HEADER = "dataset.json"

_KINDS: dict[str, type[Categorical] | type[Binary] | type[Continuous]] = {
    "categorical": Categorical,
    "binary": Binary,
    "continuous": Continuous,
}
_DTYPES: dict[type[Component], str] = {Categorical: "int32", Binary: "uint8", Continuous: "float32"}


class DatasetError(ValueError):
    """A dataset that cannot be read or written as asked; the message is a sentence."""


@dataclass(frozen=True)
class Shard:
    """What dataset.json says of a shard: its directory, frames, episodes, and BLAKE2b digests by file name."""

    name: str
    length: int
    episodes: int
    checksums: Mapping[str, str]


@dataclass(frozen=True)
class Header:
    """What dataset.json says."""

    name: str
    height: int
    width: int
    channels: int
    components: tuple[Component, ...]
    tasks: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Dtype and shape of one row of every array, by the array's name."""
        plain = {"rewards": "float32", "continues": "bool", "first": "bool", "labelled": "bool", "task": "int32"}
        frame = (self.height, self.width, self.channels)
        columns: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {"frames": (np.dtype("uint8"), frame)}
        columns |= {name: (np.dtype(dtype), ()) for name, dtype in plain.items()}
        for part in self.components:
            columns[action_column(part)] = (np.dtype(_DTYPES[type(part)]), part.shape(1, 1)[2:])
        return columns

    def to_json(self) -> dict[str, Any]:
        """As it stands in dataset.json."""
        kinds: dict[type[Component], str] = {made: kind for kind, made in _KINDS.items()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "actions": [{"kind": kinds[type(part)], "name": part.name, "size": part.size} for part in self.components],
            "tasks": list(self.tasks),
            "shards": [vars(shard) for shard in self.shards],
            "meta": dict(self.meta),
        }


def action_column(component: Component) -> str:
    """Name of the array of a component.

    >>> action_column(Categorical("mouse", 121))
    'action.mouse'
    """
    return f"action.{component.name}"


def read_header(path: Path) -> Header:
    """Read dataset.json of the directory `path`; DatasetError says what is wrong with it."""
    file = path / HEADER
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        raise DatasetError(f"{path} is no dataset: {HEADER} is missing; dreamer4-record makes one") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error
    _check_version(file, content)
    try:
        return _header(content)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{file} is damaged: {type(error).__name__}: {error}") from error


def write_header(path: Path, header: Header) -> None:
    """Write dataset.json beside, then put it in place: a reader sees the old one or the new one, whole."""
    beside = path / f".{HEADER}.partial"
    with beside.open("w") as file:
        json.dump(header.to_json(), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path / HEADER)
    sync(path)


def checksum(file: Path) -> str:
    """BLAKE2b digest of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        components=tuple(_KINDS[part["kind"]](part["name"], part["size"]) for part in content["actions"]),
        tasks=tuple(content["tasks"]),
        shards=tuple(Shard(**shard) for shard in content["shards"]),
        meta=content["meta"],
    )
