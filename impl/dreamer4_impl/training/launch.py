"""Preparation of a run from the command line: configuration, data, model and initial weights."""

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dreamer4_impl.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    latest_good,
    load_model,
    load_weights,
    model_config,
    read,
    steps,
)
from dreamer4_impl.checkpoints.settings import (
    TrainingSettings,
    read_document,
    settings_from,
    settings_from_json,
    settings_to_json,
)
from dreamer4_impl.checkpoints.toml import assignments, flattened, merge, to_table
from dreamer4_impl.data.clips import ClipSampler
from dreamer4_impl.data.dataset import Dataset, concatenate
from dreamer4_impl.data.format import Header, read_header
from dreamer4_impl.data.latents import LatentCache
from dreamer4_impl.data.progress import progress_bar
from dreamer4_impl.durable import write_text
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4, count_parameters
from dreamer4_impl.training.distributed import Processes, choose_device
from dreamer4_impl.training.log import Log
from dreamer4_impl.training.loop import ClipSource, Trainer
from dreamer4_impl.training.phase import AnyPhase
from dreamer4_impl.training.phases import PHASES
from dreamer4_impl.training.randomness import seed_everything

PLANNED = 100
"""Steps in which every length and every kind of sample of a run occurs, the long batches at its end excepted."""

SETTINGS = "settings.json"
"""File with the configuration of a run, for resuming before the first checkpoint."""


@dataclass(frozen=True)
class TrainingRun:
    """Run that is ready to start; nothing but its configuration has been loaded.

    Args:
        settings: complete and checked.
        run: directory of the run.
        log: log of this process.
        checkpoint: checkpoint to continue from; None starts a new run.
    """

    settings: TrainingSettings
    run: Path
    log: Log
    checkpoint: Path | None = None

    def describe(self) -> str:
        """Describe the run.

        Returns:
            Configuration, number of parameters, and trained modules, as text.
        """
        settings = self.settings
        with torch.device("meta"):
            model = Dreamer4(settings.model)
        phase = PHASES[settings.phase](settings, torch.device("cpu"))
        trained = phase.trained(model)
        counts = {name: count_parameters(module) for name, module in model.named_children()}
        return "\n".join(
            [
                *(f"{name} = {json.dumps(value)}" for name, value in flattened(settings_to_json(settings))),
                "",
                *(f"{name:12}{count:>15,} parameters" for name, count in counts.items()),
                f"{'trained':12}{sum(p.numel() for _, p in trained):>15,} in {', '.join(_modules(trained))}",
                *phase.notes,
            ]
        )

    def trainer(self, processes: Processes) -> Trainer:
        """Build the training loop: seed, load data and weights, write the settings to the run directory.

        Args:
            processes: group of processes that share a global batch, with the device of this one.

        Returns:
            The loop, ready to run.

        Raises:
            ValueError: if the batch has fewer samples than there are micro-batches in all processes.
            CheckpointError: if a checkpoint cannot be used or does not fit the model.
            DatasetError: if a dataset cannot be used.
            ModuleNotFoundError: if a package of the phase is not installed.
            OSError: if a file cannot be read or written.
        """
        settings = self.settings
        seed_everything(settings.seed)
        checkpoint = None if self.checkpoint is None else read(self.checkpoint)
        dataset = open_data(settings)
        model, phase = Dreamer4(settings.model), PHASES[settings.phase](settings, processes.device)
        self._initialise(model, phase, dataset, checkpoint)
        if processes.first:
            _write_settings(self.run, settings)
        source = self._source(model, phase, dataset, processes)
        for note in phase.notes:
            self.log.write(note)
        return Trainer(settings, phase, source, self.run, model, processes, checkpoint, self.log)

    def _initialise(self, model: Dreamer4, phase: AnyPhase, dataset: Dataset, checkpoint: Checkpoint | None) -> None:
        """Load the weights that the first step starts from."""
        if checkpoint is not None:
            self.log.write(f"continuing {self.run} after step {checkpoint.step}")
            if report := load_weights(model, checkpoint.weights, where=str(self.checkpoint)):
                self.log.write(f"the weights of {self.checkpoint} do not match the model: {report}")
            return
        if self.settings.init is not None:
            earlier, _ = load_model(self.settings.init, log=self.log.write)
            if report := load_weights(model, earlier.state_dict(), where=self.settings.init):
                self.log.write(f"the weights of {self.settings.init} do not match the model: {report}")
        phase.prepare(model, dataset)

    def _source(self, model: Dreamer4, phase: AnyPhase, dataset: Dataset, processes: Processes) -> ClipSource:
        """Clips with the tokenizer's latents if they are cached. Missing lengths are refused before the first step."""
        sampler = ClipSampler(dataset, self.settings.seed)
        steps = self.settings.steps
        for step in {*range(min(steps, PLANNED)), steps - 1}:
            plan = phase.plan(step)
            for relevant in set(plan.relevant):
                sampler.require(plan.length, relevant)
        directory, cache = self.settings.data.latents, None
        if directory is not None:
            tokenizer = model.tokenizer.to(processes.device).eval()
            with progress_bar("encoding", sum(len(shard.arrays["first"]) for shard in dataset.shards)) as report:
                cache = LatentCache(directory, dataset, tokenizer, progress=report)
        sampler.latents = cache
        return sampler


def start(options: argparse.Namespace) -> TrainingRun:
    """Prepare a new run.

    Args:
        options: parsed command line.

    Returns:
        The run.

    Raises:
        CheckpointError: if the earlier phase has no checkpoint that can be used.
        DatasetError: if a dataset cannot be used.
        ValueError: if the directory has checkpoints, the configuration is wrong, or data and model do not fit together.
    """
    if checkpoints := steps(options.run):
        last = checkpoints[-1].name
        raise ValueError(
            f"{options.run} has checkpoints up to {last}: continue it with --resume, or choose another --run"
        )
    log = _log(options)
    init = None if options.init is None else model_config(Path(options.init), log.write)
    document = read_document(options.config) if options.config is not None else {}
    overrides = [*options.set, *_overrides(options)]
    table = merge(document, assignments(overrides))
    if init is None and "model" not in table:
        raise ValueError("no model is given: name a CONFIG with [model], a preset, or --init an earlier phase")
    facts = facts_of(table.get("data", {}).get("paths", []))
    settings = settings_from(options.phase, document, overrides, model=init, facts=facts)
    return TrainingRun(_checked(settings), options.run, log)


def resume(options: argparse.Namespace) -> TrainingRun:
    """Prepare to continue a run, with changes to its configuration.

    Args:
        options: parsed command line.

    Returns:
        The run.

    Raises:
        CheckpointError: if there is nothing to resume, or no checkpoint can be used.
        DatasetError: if a dataset cannot be used.
        ValueError: if CONFIG or --init are given, the run is of another phase, or the configuration is wrong.
    """
    if options.config is not None or options.init is not None:
        raise ValueError("--resume keeps the configuration of the run: leave out CONFIG and --init, and use --set")
    log = _log(options)
    checkpoint = latest_good(options.run, log.write)
    settings = read(checkpoint).settings if checkpoint is not None else _read_settings(options.run)
    if settings.phase != options.phase:
        raise ValueError(f"{options.run} is a run of the phase {settings.phase!r}; got {options.phase!r}")
    table = merge(settings_to_json(settings), assignments([*options.set, *_overrides(options)]))
    return TrainingRun(_checked(settings_from_json(table)), options.run, log, checkpoint)


def facts_of(paths: Sequence[str]) -> dict[str, Any]:
    """Settings of the model that follow from the datasets: size of a frame, actions, and the tasks of all of them.

    Args:
        paths: directories of datasets; all others must agree with the first in frames and actions.

    Returns:
        Nested table; empty without datasets.

    Raises:
        DatasetError: if a dataset cannot be used.
    """
    if not paths:
        return {}
    headers = [read_header(Path(path)) for path in paths]
    header = headers[0]
    return {
        "tokenizer": {"height": header.height, "width": header.width, "channels": header.channels},
        "dynamics": {"actions": to_table(header.components), "tasks": len(_tasks(headers))},
    }


def open_data(settings: TrainingSettings) -> Dataset:
    """Open the episodes to train on.

    Args:
        settings: settings of the run.

    Returns:
        All datasets joined, without the held-out episodes.

    Raises:
        DatasetError: if a dataset cannot be used, they differ in frames or actions, or there are too few episodes.
        ValueError: if there is no dataset.
    """
    data = settings.data
    datasets = [Dataset.open(path, damaged=data.damaged, verify=data.verify) for path in data.paths]
    dataset = datasets[0] if len(datasets) == 1 else concatenate(datasets)
    return dataset if data.held_out is None else dataset.split(data.held_out)[0]


def _checked(settings: TrainingSettings) -> TrainingSettings:
    """Refuse data that are missing or do not fit the model; reads their headers only."""
    if not settings.data.paths:
        raise ValueError("no data are given: name datasets with --data")
    headers = {path: read_header(Path(path)) for path in settings.data.paths}
    for path, header in headers.items():
        _require_fit(settings.model, header, path)
    tasks = _tasks(headers.values())
    if settings.model.dynamics.tasks and len(tasks) > settings.model.dynamics.tasks:
        raise ValueError(
            f"the model has {settings.model.dynamics.tasks} tasks; the data have {len(tasks)}: {', '.join(tasks)}"
        )
    choose_device(settings.execution.device)
    if settings.phase != "tokenizer" and settings.init is None:
        raise ValueError(f"phase {settings.phase!r} starts from an earlier one: name its run with --init")
    return settings


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


def _tasks(headers: Iterable[Header]) -> list[str]:
    """Tasks of all datasets, as `concatenate` numbers them."""
    return list(dict.fromkeys(task for header in headers for task in header.tasks))


def _overrides(options: argparse.Namespace) -> list[str]:
    """Convert --data and --init to settings."""
    paths = [f"data.paths={json.dumps(options.data)}"] if options.data else []
    return paths + ([f"init={json.dumps(options.init)}"] if options.init is not None else [])


def _log(options: argparse.Namespace) -> Log:
    quiet = os.environ.get("RANK", "0") != "0"
    return Log(None if options.dry_run else options.run, quiet=quiet)


def _write_settings(run: Path, settings: TrainingSettings) -> None:
    run.mkdir(parents=True, exist_ok=True)
    write_text(run / SETTINGS, json.dumps(settings_to_json(settings), indent=1))


def _read_settings(run: Path) -> TrainingSettings:
    try:
        return settings_from_json(json.loads((run / SETTINGS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(f"{run} has nothing to resume: it has no checkpoint and no {SETTINGS}") from None


def _modules(trained: Sequence[tuple[str, Any]]) -> list[str]:
    """Names of the trained modules, two levels deep."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name, _ in trained))
