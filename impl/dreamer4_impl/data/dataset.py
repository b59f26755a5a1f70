"""Recorded play, read only and memory-mapped: episodes, clips of them, and what is held out."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from dreamer4_impl.arguments import require_option
from dreamer4_impl.data.format import DatasetError, Header, action_column, read_header
from dreamer4_impl.data.shards import Episode, OpenShard, episodes_of, open_shard
from dreamer4_impl.layers.actions import Component


@dataclass(frozen=True)
class Clip:
    """T consecutive frames of one episode; row t holds what arrives together with frame t.

    The arrays are views of the files: they cannot be written to.
    """

    frames: UInt8[np.ndarray, "T H W C"]
    actions: Mapping[str, Shaped[np.ndarray, "T ..."]]
    labelled: Bool[np.ndarray, " T"]
    rewards: Float32[np.ndarray, " T"]
    continues: Bool[np.ndarray, " T"]
    first: Bool[np.ndarray, " T"]
    task: int


class Dataset:
    """A dataset, or a part of one; `Dataset.open` reads it.

    Attributes:
        header: what dataset.json says; its fields name, height, width, channels, components, tasks, meta are here too.
        shards: those that are open.
        episodes: in the order of the recording.
    """

    def __init__(self, header: Header, shards: Sequence[OpenShard], episodes: Sequence[Episode]) -> None:
        self.header = header
        self.shards = tuple(shards)
        self.episodes = tuple(episodes)

    @classmethod
    def open(
        cls,
        path: Path | str,
        damaged: Literal["refuse", "skip"] = "refuse",
        verify: Literal["full", "quick"] = "quick",
    ) -> "Dataset":
        """Map the dataset in the directory `path`.

        Args:
            path: the directory of dataset.json.
            damaged: what becomes of a damaged shard: DatasetError, or a warning and the others alone.
            verify: "quick" compares files, sizes, dtypes and shapes; "full" reads every byte and compares checksums.
        """
        require_option("damaged", damaged, ("refuse", "skip"))
        require_option("verify", verify, ("full", "quick"))
        path = Path(path)
        header = read_header(path)
        shards: list[OpenShard] = []
        episodes: list[Episode] = []
        number = 0
        for entry in header.shards:
            try:
                shard = open_shard(path / entry.name, entry, header, verify)
                episodes += episodes_of(shard, len(shards), number, len(header.tasks))
                shards.append(shard)
            except DatasetError as error:
                if damaged == "refuse":
                    raise DatasetError(f"{error}; record it again, or open the dataset without it (skip)") from error
                warnings.warn(f"skipped: {error}", stacklevel=2)
            number += entry.episodes
        return cls(header, shards, episodes)

    @property
    def name(self) -> str:
        """What the recorder called it."""
        return self.header.name

    @property
    def height(self) -> int:
        """Of a frame, in pixels."""
        return self.header.height

    @property
    def width(self) -> int:
        """Of a frame, in pixels."""
        return self.header.width

    @property
    def channels(self) -> int:
        """Of a pixel."""
        return self.header.channels

    @property
    def components(self) -> tuple[Component, ...]:
        """What an action consists of."""
        return self.header.components

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return self.header.tasks

    @property
    def meta(self) -> Mapping[str, Any]:
        """How it was recorded."""
        return self.header.meta

    def __len__(self) -> int:
        return sum(episode.length for episode in self.episodes)

    def clip(self, episode: int, start: int, length: int) -> Clip:
        """Rows start, …, start + length − 1 of an episode.

        Args:
            episode: index into `episodes`.
            start: 0 is the episode's first frame.
            length: T.
        """
        whole = self.episodes[episode]
        if start < 0 or length < 1 or start + length > whole.length:
            raise ValueError(
                f"start and length must lie in episode {episode} of {whole.length} frames; got {start} and {length}"
            )
        rows = slice(whole.start + start, whole.start + start + length)
        arrays = self.shards[whole.shard].arrays
        actions = {part.name: arrays[action_column(part)][rows] for part in self.components}
        names = ("frames", "labelled", "rewards", "continues", "first")
        return Clip(actions=actions, task=whole.task, **{name: arrays[name][rows] for name in names})

    def returns(self) -> Float32[np.ndarray, " E"]:
        """Sum of the rewards of every episode."""
        sums = [self.clip(i, 0, episode.length).rewards.sum() for i, episode in enumerate(self.episodes)]
        return np.array(sums, np.float32)

    def part(self, episodes: Iterable[int]) -> "Dataset":
        """The dataset of these episodes alone, by their indices."""
        return Dataset(self.header, self.shards, [self.episodes[i] for i in episodes])

    def split(self, held_out: float = 0.1) -> tuple["Dataset", "Dataset"]:
        """What is trained on, and what is held out: every n-th episode of the recording, n = 1 / held_out, from the first.

        The same for everybody who opens the dataset, and stable when it grows or when damaged shards are skipped.
        """
        if not 0 < held_out <= 0.5:
            raise ValueError(f"held_out must lie in (0, 0.5]; got {held_out!r}")
        every = round(1 / held_out)
        out = [i for i, episode in enumerate(self.episodes) if episode.number % every == 0]
        rest = [i for i, episode in enumerate(self.episodes) if episode.number % every]
        if not out or not rest:
            raise DatasetError(
                f"the dataset {self.name!r} must have episodes to train on and to hold out; "
                f"of its {len(self.episodes)} every {every}th is held out, which leaves {len(rest)}: record more episodes"
            )
        return self.part(rest), self.part(out)


def concatenate(datasets: Sequence[Dataset]) -> Dataset:
    """One dataset of several with frames of the same size and the same action components; tasks of one name become one.

    Its split is that of its parts.
    """
    if not datasets:
        raise ValueError("datasets must hold at least one; got none")
    head = datasets[0].header
    tasks = tuple(dict.fromkeys(task for dataset in datasets for task in dataset.tasks))
    shards: list[OpenShard] = []
    episodes: list[Episode] = []
    for dataset in datasets:
        _require_same_spaces(head, dataset.header)
        for episode in dataset.episodes:
            task = tasks.index(dataset.tasks[episode.task])
            episodes.append(replace(episode, shard=len(shards) + episode.shard, task=task))
        shards += dataset.shards
    name = " + ".join(dataset.name for dataset in datasets)
    return Dataset(replace(head, name=name, tasks=tasks), shards, episodes)


def _require_same_spaces(one: Header, other: Header) -> None:
    for name in ("height", "width", "channels", "components"):
        if getattr(one, name) != getattr(other, name):
            raise DatasetError(
                f"datasets must agree in {name}; {one.name!r} has {getattr(one, name)} "
                f"and {other.name!r} {getattr(other, name)}"
            )
