"""The data of a run: what the model must be like for them, what is trained on, and what is left out.

Everything that a run will need is checked here, before its first step.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.checkpoints.toml import to_table
from dreamer4_impl.data.clips import ClipSampler
from dreamer4_impl.data.dataset import Clip, Dataset, concatenate
from dreamer4_impl.data.format import DatasetError, Header, read_header
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.training.phase import AnyPhase


def task_names(paths: Sequence[str], trained: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the tasks of a run in the order of their numbers.

    Args:
        paths: directories of datasets.
        trained: names of the tasks that the model has already been trained on, which come first.

    Returns:
        Distinct names.

    Raises:
        DatasetError: if a dataset cannot be used.
    """
    return tuple(dict.fromkeys([*trained, *(task for path in paths for task in read_header(Path(path)).tasks)]))


def facts_of(
    paths: Sequence[str], damaged: Literal["refuse", "skip"] = "refuse", tasks: Sequence[str] = ()
) -> dict[str, Any]:
    """Settings of the model that follow from the datasets: size of a frame, actions, tasks, and a head for ends.

    Args:
        paths: directories of datasets; all others must agree with the first in frames and actions.
        damaged: treatment of a damaged shard, as for `Dataset.open`.
        tasks: names of the tasks of the run, from `task_names`.

    Returns:
        Nested table; empty without datasets. The agent gets a head for ends if any episode terminates.

    Raises:
        DatasetError: if a dataset cannot be used.
        ValueError: if `damaged` is unknown.
    """
    if not paths:
        return {}
    header = read_header(Path(paths[0]))
    shards = [shard for path in paths for shard in Dataset.open(path, damaged=damaged).shards]
    ends = not all(shard.arrays["continues"].all() for shard in shards)
    return {
        "tokenizer": {"height": header.height, "width": header.width, "channels": header.channels},
        "dynamics": {"actions": to_table(header.components), "tasks": len(tasks)},
        **({"agent": {"continues": True}} if ends else {}),
    }


def require_fit(settings: TrainingSettings) -> None:
    """Raise unless there are data, and their frames, actions and tasks fit the model; reads headers only.

    Args:
        settings: settings of the run.

    Raises:
        DatasetError: if a dataset cannot be used.
        ValueError: if there is no dataset, or one does not fit.
    """
    if not settings.data.paths:
        raise ValueError("no data are given: name datasets with --data")
    headers = {path: read_header(Path(path)) for path in settings.data.paths}
    for path, header in headers.items():
        _require_fit(settings.model, header, path)
    tasks = task_names(settings.data.paths, settings.data.tasks)
    if settings.model.dynamics.tasks and len(tasks) > settings.model.dynamics.tasks:
        raise ValueError(
            f"the model has {settings.model.dynamics.tasks} tasks; the data have {len(tasks)}: {', '.join(tasks)}"
        )


class TrainingData:
    """Episodes to train on: all datasets joined, without the held-out ones.

    Args:
        settings: settings of the run, which name at least one dataset.

    Attributes:
        dataset: the episodes.
        held_out: the episodes kept for evaluation; None if all are trained on.
        sampler: draws clips from them.

    Raises:
        DatasetError: if a dataset cannot be used, they differ in frames or actions, or there are too few episodes.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        data = settings.data
        self._recorded = [Dataset.open(path, damaged=data.damaged, verify=data.verify) for path in data.paths]
        joined = concatenate(self._recorded, data.tasks)
        self.dataset: Dataset = joined
        self.held_out: Dataset | None = None
        if data.held_out is not None:
            self.dataset, self.held_out = joined.split(data.held_out)
        # The paper's relevant sequences are those of the agent; the dynamics may draw more of those with a reward.
        self._relevant = "rewards" if settings.phase == "dynamics" else settings.agent.relevant
        self.sampler = ClipSampler(self.dataset, settings.seed, "rewards" if self._relevant == "rewards" else None)

    def require(self, phase: AnyPhase) -> None:
        """Raise unless the data have every kind of episode that a phase draws.

        Args:
            phase: phase that will read the data.

        Raises:
            DatasetError: if there are no episodes, none is relevant, or the relevant ones have no actions to clone.
        """
        if phase.relevant_share < 1:
            self.sampler.require(relevant=False)
        if phase.relevant_share > 0:
            self.sampler.require(relevant=True)
        if phase.clones and not self._known_actions[self.sampler.relevant_episodes()].any():
            raise DatasetError(
                f"phase {phase.name!r} clones the actions of the relevant episodes; no action is known in any of the "
                f"{self.sampler.relevant_episodes().sum()} of {self.dataset.name!r}"
            )

    def describe(self, phase: AnyPhase) -> list[str]:
        """Count what the phase trains on, and what it leaves out.

        Args:
            phase: phase that will read the data.

        Returns:
            Lines for the log.
        """
        return [self._counts(), *self._padding(phase), *self._relevance(phase), *self._ends(phase)]

    def _counts(self) -> str:
        """Episodes and frames by use; those of damaged shards as far as they are left out."""
        listed = [entry for dataset in self._recorded for entry in dataset.header.shards]
        usable = [shard.entry for dataset in self._recorded for shard in dataset.shards]
        episodes, frames = len(self.dataset.episodes), len(self.dataset)
        uses = {
            "to train on": (episodes, frames),
            "held out": (_episodes(usable) - episodes, _frames(usable) - frames),
            "left out in damaged shards": (_episodes(listed) - _episodes(usable), _frames(listed) - _frames(usable)),
        }
        return "data: " + "; ".join(f"{e} episodes, {f} frames {use}" for use, (e, f) in uses.items() if e)

    def _padding(self, phase: AnyPhase) -> list[str]:
        lengths = np.array([episode.length for episode in self.dataset.episodes])
        lines = []
        for length in phase.lengths():
            short = lengths[lengths < length]
            positions = len(short) + (lengths[lengths >= length] - length + 1).sum()
            share = (length - short).sum() / (length * positions)
            if len(short):
                lines.append(
                    f"clips of {length} frames: {len(short)} of {len(lengths)} episodes are shorter and padded; "
                    f"{share:.1%} of the frames of a batch are padding, which no loss counts"
                )
        return lines

    def _relevance(self, phase: AnyPhase) -> list[str]:
        relevant, lines = self.sampler.relevant_episodes(), []
        if phase.relevant_share > 0:
            why = {
                "returns": "whose return is above the median of their task",
                "rewards": "clips that contain a reward above 0",
            }
            lines.append(
                f"relevant samples, {phase.relevant_share:.0%} of a batch: from {relevant.sum()} of {len(relevant)} "
                f"episodes, {why[self._relevant]}"
            )
        if phase.clones and (without := int((relevant & (self._known_actions == 0)).sum())):
            lines.append(f"{without} relevant episodes have no known action: they do not train the policy")
        return lines

    def _ends(self, phase: AnyPhase) -> list[str]:
        agent = phase.settings.model.agent
        ends = sum(not clip.continues[-1] for clip in self._episodes())
        if agent is None or not ends or phase.name not in ("agent", "imagine"):
            return []
        endless = "; the model has no head for them (model.agent.continues), so that imagination goes on after an end"
        return [f"ends: {ends} of {len(self.dataset.episodes)} episodes terminate{'' if agent.continues else endless}"]

    @cached_property
    def _known_actions(self) -> Int64[np.ndarray, " E"]:
        """Number of known actions taken in each episode."""
        return np.array([clip.labelled[1:].sum() for clip in self._episodes()], np.int64)

    def _episodes(self) -> Iterator[Clip]:
        return (self.dataset.clip(number, 0, episode.length) for number, episode in enumerate(self.dataset.episodes))


def _require_fit(model: ModelConfig, header: Header, path: str) -> None:
    frame = (model.tokenizer.height, model.tokenizer.width, model.tokenizer.channels)
    recorded = (header.height, header.width, header.channels)
    if frame != recorded:
        raise ValueError(
            f"the model is for frames of {frame} (height, width, channels); those of {path} are {recorded}"
        )
    if model.dynamics.actions != header.components:
        raise ValueError(
            f"the model is for the actions {model.dynamics.actions}; those of {path} are {header.components}"
        )


def _episodes(entries: Iterable[Any]) -> int:
    return sum(entry.episodes for entry in entries)


def _frames(entries: Iterable[Any]) -> int:
    return sum(entry.length for entry in entries)
