"""Recorded play, read-only and memory-mapped: episodes, clips, and the split into training and held-out episodes."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from dreamer4_impl.arguments import require_option
from dreamer4_impl.data.format import DatasetError, Header, action_column, read_header
from dreamer4_impl.data.shards import Episode, OpenShard, episodes_of, open_shard


@dataclass(frozen=True)
class Clip:
    """T consecutive frames of one episode. The arrays are read-only views of the files.

    Args:
        frames: values in [0, 255], uint8, (T, H, W, C).
        actions: a_{t−1} of every component by name: the action that led to frame t.
        labelled: True where that action is known, bool, (T,).
        rewards: r_t, received on arriving at frame t, float32, (T,).
        continues: False where the episode terminated on arriving at frame t, bool, (T,).
        first: True in the first row of an episode, bool, (T,).
        task: index into the dataset's tasks, from 0.
    """

    frames: UInt8[np.ndarray, "T H W C"]
    actions: Mapping[str, Shaped[np.ndarray, "T ..."]]
    labelled: Bool[np.ndarray, " T"]
    rewards: Float32[np.ndarray, " T"]
    continues: Bool[np.ndarray, " T"]
    first: Bool[np.ndarray, " T"]
    task: int


class Dataset:
    """Recorded episodes; `Dataset.open` reads them from disk, `subset` and `split` select some of them.

    Args:
        header: content of dataset.json.
        shards: open shards.
        episodes: episodes in these shards, in the order of the recording.

    Attributes:
        name, height, width, channels, components, tasks, meta: fields of the header.
    """

    def __init__(self, header: Header, shards: Sequence[OpenShard], episodes: Sequence[Episode]) -> None:
        self.header = header
        self.shards = tuple(shards)
        self.episodes = tuple(episodes)
        self.name, self.tasks, self.meta = header.name, header.tasks, header.meta
        self.height, self.width, self.channels = header.height, header.width, header.channels
        self.components = header.components

    @classmethod
    def open(
        cls,
        path: Path | str,
        damaged: Literal["refuse", "skip"] = "refuse",
        verify: Literal["full", "quick"] = "quick",
    ) -> "Dataset":
        """Map a dataset into memory.

        Args:
            path: directory that holds dataset.json.
            damaged: treatment of a damaged shard: "refuse" raises, "skip" warns and leaves the shard out.
            verify: "quick" compares files, sizes, dtypes and shapes; "full" reads every byte and compares checksums.

        Returns:
            The dataset.

        Raises:
            DatasetError: if dataset.json cannot be used, or a shard is damaged and `damaged` is "refuse".
            ValueError: if an option is unknown.
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

    def __len__(self) -> int:
        return sum(episode.length for episode in self.episodes)

    def clip(self, episode: int, start: int, length: int) -> Clip:
        """Cut rows start, …, start + length − 1 out of an episode.

        Args:
            episode: index into `episodes`, from 0.
            start: first frame, from 0.
            length: T, 1 or more.

        Returns:
            Views of the files.

        Raises:
            ValueError: if a row lies outside the episode.
        """
        source = self.episodes[episode]
        if start < 0 or length < 1 or start + length > source.length:
            raise ValueError(
                f"start and length must lie in episode {episode} of {source.length} frames; got {start} and {length}"
            )
        rows = slice(source.start + start, source.start + start + length)
        arrays = self.shards[source.shard].arrays
        actions = {component.name: arrays[action_column(component)][rows] for component in self.components}
        names = ("frames", "labelled", "rewards", "continues", "first")
        return Clip(actions=actions, task=source.task, **{name: arrays[name][rows] for name in names})

    def returns(self) -> Float32[np.ndarray, " E"]:
        """Sum the rewards of every episode.

        Returns:
            Undiscounted returns (E,), E episodes.
        """
        return np.array([rewards.sum() for rewards in self.rewards()], np.float32)

    def rewards(self) -> list[Float32[np.ndarray, " T"]]:
        """List the rewards of every episode.

        Returns:
            Views of the files, (T,) for each episode.
        """
        return [self.clip(i, 0, episode.length).rewards for i, episode in enumerate(self.episodes)]

    def subset(self, episodes: Iterable[int]) -> "Dataset":
        """Select episodes.

        Args:
            episodes: indices into `episodes`, from 0.

        Returns:
            Dataset of these episodes, which shares the shards.
        """
        return Dataset(self.header, self.shards, [self.episodes[i] for i in episodes])

    def split(self, held_out: float = 0.1) -> tuple["Dataset", "Dataset"]:
        """Split into episodes to train on and held-out ones: episodes 0, n, 2n, … of the recording, n = 1 / held_out.

        The split depends on the recording only: it stays the same if the dataset grows or damaged shards are skipped.

        Args:
            held_out: share of the held-out episodes, in (0, 0.5].

        Returns:
            Dataset to train on, and held-out dataset.

        Raises:
            DatasetError: if one of them would be empty.
            ValueError: if held_out is out of range.
        """
        if not 0 < held_out <= 0.5:
            raise ValueError(f"held_out must lie in (0, 0.5]; got {held_out!r}")
        every = round(1 / held_out)
        evaluated = [i for i, episode in enumerate(self.episodes) if episode.number % every == 0]
        trained = [i for i, episode in enumerate(self.episodes) if episode.number % every]
        if not evaluated or not trained:
            raise DatasetError(
                f"the dataset {self.name!r} must have episodes to train on and to hold out; every {every}th of its "
                f"{len(self.episodes)} is held out, which leaves {len(trained)} to train on: record more episodes"
            )
        return self.subset(trained), self.subset(evaluated)


def concatenate(datasets: Sequence[Dataset], tasks: Sequence[str] = ()) -> Dataset:
    """Join datasets whose frames have the same size and whose actions have the same components.

    Tasks of the same name become one task. The split of the result is that of its parts.

    Args:
        datasets: one or more.
        tasks: names of the first tasks of the result, which the datasets need not have, such as those of a trained
            model; the tasks of the datasets follow in their order.

    Returns:
        Dataset of all episodes, which shares the shards.

    Raises:
        DatasetError: if the datasets differ in the size of a frame or the components of an action.
        ValueError: if there is no dataset.
    """
    if not datasets:
        raise ValueError("datasets must hold at least one; got none")
    head = datasets[0].header
    names = tuple(dict.fromkeys([*tasks, *(task for dataset in datasets for task in dataset.tasks)]))
    shards: list[OpenShard] = []
    episodes: list[Episode] = []
    for dataset in datasets:
        _require_same_spaces(head, dataset.header)
        for episode in dataset.episodes:
            task = names.index(dataset.tasks[episode.task])
            episodes.append(replace(episode, shard=len(shards) + episode.shard, task=task))
        shards += dataset.shards
    name = " + ".join(dataset.name for dataset in datasets)
    return Dataset(replace(head, name=name, tasks=names), shards, episodes)


def _require_same_spaces(first: Header, second: Header) -> None:
    for name in ("height", "width", "channels", "components"):
        if getattr(first, name) != getattr(second, name):
            raise DatasetError(
                f"datasets must agree in {name}; {first.name!r} has {getattr(first, name)} "
                f"and {second.name!r} {getattr(second, name)}"
            )
