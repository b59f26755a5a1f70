"""Preparation of a run from the command line: configuration, data, model and initial weights."""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dreamer4_impl.checkpoints.checkpoint import (
    Checkpoint,
    latest_good,
    load_model,
    load_weights,
    model_config,
    read,
    settings_of,
    steps,
    trained_tasks,
)
from dreamer4_impl.checkpoints.header import CheckpointError
from dreamer4_impl.checkpoints.settings import (
    Data,
    TrainingSettings,
    merged_layers,
    read_document,
    settings_from,
    settings_from_json,
    settings_to_json,
)
from dreamer4_impl.checkpoints.toml import assignments, flattened, from_table, merge, subtable
from dreamer4_impl.compilation import require_compiler
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.latents import LatentCache
from dreamer4_impl.data.progress import progress_bar
from dreamer4_impl.durable import read_json, write_text
from dreamer4_impl.models.dreamer4 import Dreamer4, count_parameters
from dreamer4_impl.training.boards import require_tracker
from dreamer4_impl.training.data import TrainingData, facts_of, require_fit, task_names
from dreamer4_impl.training.distributed import Processes, choose_device
from dreamer4_impl.training.log import Log
from dreamer4_impl.training.loop import ClipSource, Trainer
from dreamer4_impl.training.media import Media
from dreamer4_impl.training.phase import AnyPhase
from dreamer4_impl.training.phases import PHASES
from dreamer4_impl.training.randomness import seed_everything

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
        """Describe the run; opens the data and checks them.

        Returns:
            Configuration, number of parameters, trained modules, and what is trained on and left out, as text.

        Raises:
            DatasetError: if a dataset cannot be used.
            ModuleNotFoundError: if a package of the phase is not installed.
        """
        settings = self.settings
        with torch.device("meta"):
            model = Dreamer4(settings.model)
        phase = PHASES[settings.phase](settings, torch.device("cpu"))
        trained = phase.trained(model)
        counts = {name: count_parameters(module) for name, module in model.named_children()}
        data = TrainingData(settings)
        data.require(phase)
        return "\n".join(
            [
                *(f"{name} = {json.dumps(value)}" for name, value in flattened(settings_to_json(settings))),
                "",
                *(f"{name:12}{count:>15,} parameters" for name, count in counts.items()),
                f"{'trained':12}{sum(p.numel() for _, p in trained):>15,} in {', '.join(_modules(trained))}",
                *phase.notes,
                *data.describe(phase),
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
        data = TrainingData(settings)
        model, phase = Dreamer4(settings.model), PHASES[settings.phase](settings, processes.device)
        data.require(phase)
        for note in (*phase.notes, *data.describe(phase)):
            self.log.write(note)
        self._initialise(model, phase, data.dataset, checkpoint)
        if processes.first:
            _write_settings(self.run, settings)
        source, media = self._source(model, data, processes), self._media(data, processes)
        return Trainer(settings, phase, source, self.run, model, processes, checkpoint, self.log, media)

    def _initialise(self, model: Dreamer4, phase: AnyPhase, dataset: Dataset, checkpoint: Checkpoint | None) -> None:
        """Load the weights that the first step starts from."""
        if checkpoint is not None:
            self.log.write(f"continuing {self.run} after step {checkpoint.step}")
            if report := load_weights(model, checkpoint.weights, where=str(self.checkpoint)):
                self.log.write(f"the weights of {self.checkpoint} do not match the model: {report}")
            return
        if self.settings.init is not None:
            earlier, incomplete = load_model(self.settings.init, log=self.log.write)
            if incomplete:
                self.log.write(f"the weights of {self.settings.init} are not those of its model: {incomplete}")
            if report := load_weights(model, earlier.state_dict(), where=self.settings.init):
                self.log.write(f"the weights of {self.settings.init} do not match the model: {report}")
        phase.prepare(model, dataset)

    def _media(self, data: TrainingData, processes: Processes) -> Media | None:
        """Videos of the model in training, in one process."""
        if not processes.first or not 0 < self.settings.records.media_every <= self.settings.steps:
            return None
        if processes.world > 1 and self.settings.execution.distributed == "fsdp":
            self.log.write("no videos are made (records.media_every): every process has a shard of the model only")
            return None
        return Media(self.settings, data.dataset if data.held_out is None else data.held_out, processes.device)

    def _source(self, model: Dreamer4, data: TrainingData, processes: Processes) -> ClipSource:
        """Clips with the tokenizer's latents if they are cached."""
        directory, shards = self.settings.data.latents, data.dataset.shards
        if directory is not None:
            tokenizer = model.tokenizer.to(processes.device).eval()
            with progress_bar("encoding", sum(len(shard.arrays["first"]) for shard in shards)) as report:
                data.sampler.latents = LatentCache(directory, data.dataset, tokenizer, progress=report)
        return data.sampler


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
    table = merged_layers(options.phase, document, overrides)
    if init is None and "model" not in table:
        raise ValueError("no model is given: name a CONFIG with [model], a preset, or --init an earlier phase")
    data = from_table(Data, subtable(table, "data"), "data")
    trained = data.tasks or (() if options.init is None else trained_tasks(Path(options.init), log.write))
    tasks = task_names(data.paths, trained)
    facts = facts_of(data.paths, data.damaged, tasks)
    if options.phase == "imagine" and init is not None and init.agent is not None:
        # The phase does not train the head for ends; it takes that of the earlier run.
        facts["agent"] = {"continues": init.agent.continues}
    settings = settings_from(options.phase, document, overrides, model=init, facts=facts)
    settings = replace(settings, data=replace(settings.data, tasks=tasks))
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
    settings = settings_of(checkpoint) if checkpoint is not None else _read_settings(options.run)
    if settings.phase != options.phase:
        raise ValueError(f"{options.run} is a run of the phase {settings.phase!r}; got {options.phase!r}")
    table = merge(settings_to_json(settings), assignments([*options.set, *_overrides(options)]))
    if table["phase"] != options.phase:
        raise ValueError(f"the phase of a run cannot be changed from {options.phase!r}; got {table['phase']!r}")
    return TrainingRun(_checked(settings_from_json(table)), options.run, log, checkpoint)


def _checked(settings: TrainingSettings) -> TrainingSettings:
    """Refuse data that are missing or do not fit the model; reads their headers only."""
    require_fit(settings)
    choose_device(settings.execution.device)
    require_tracker(settings.records.tracker)
    if settings.execution.compile is not None:
        require_compiler(settings.execution.compile)
    if settings.phase != "tokenizer" and settings.init is None:
        raise ValueError(f"phase {settings.phase!r} starts from an earlier one: name its run with --init")
    return settings


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
        return settings_from_json(read_json(run / SETTINGS))
    except FileNotFoundError:
        raise CheckpointError(f"{run} has nothing to resume: it has no checkpoint and no {SETTINGS}") from None
    except ValueError as error:
        raise CheckpointError(f"{run / SETTINGS} cannot be read: {error}; start the run again") from error


def _modules(trained: Sequence[tuple[str, Any]]) -> list[str]:
    """Names of the trained modules, two levels deep."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name, _ in trained))
