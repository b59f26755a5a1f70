"""From what was typed to a run: its configuration, its data, its model and where it starts."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
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
    Settings,
    read_document,
    settings_from,
    settings_from_json,
    settings_to_json,
)
from dreamer4_impl.checkpoints.toml import assignments, merge, to_table
from dreamer4_impl.data.clips import ClipSampler
from dreamer4_impl.data.dataset import Dataset, concatenate
from dreamer4_impl.data.format import Header, read_header
from dreamer4_impl.data.latents import LatentCache
from dreamer4_impl.data.progress import progress_bar
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4, count_parameters
from dreamer4_impl.training.distributed import Processes, choose_device
from dreamer4_impl.training.log import Log
from dreamer4_impl.training.loop import Source, Trainer
from dreamer4_impl.training.phase import Phase
from dreamer4_impl.training.phases import PHASES
from dreamer4_impl.training.randomness import seed_everything

#: The configuration of a run, for resuming it before its first checkpoint.
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Launch:
    """A run that can begin.

    Args:
        settings: whole and consistent; nothing else was loaded yet.
        run: its directory.
        log: of this process.
        checkpoint: to continue from; None is a new run.
    """

    settings: Settings
    run: Path
    log: Log
    checkpoint: Path | None = None

    def describe(self) -> str:
        """The configuration, the number of parameters and which are trained; for people."""
        settings = self.settings
        with torch.device("meta"):
            model = Dreamer4(settings.model)
        phase = make_phase(settings, torch.device("cpu"))
        trained = phase.trained(model)
        parts = {name: count_parameters(part) for name, part in model.named_children()}
        return "\n".join(
            [
                *(f"{name} = {json.dumps(value)}" for name, value in _flat(settings_to_json(settings))),
                "",
                *(f"{name:12}{count:>15,} parameters" for name, count in parts.items()),
                f"{'trained':12}{sum(p.numel() for _, p in trained):>15,} in {', '.join(_parts(trained))}",
                *phase.notes,
            ]
        )

    def trainer(self, processes: Processes) -> Trainer:
        """Load data and weights."""
        settings = self.settings
        seed_everything(settings.seed)
        checkpoint = None if self.checkpoint is None else read(self.checkpoint)
        dataset = open_data(settings)
        model, phase = Dreamer4(settings.model), make_phase(settings, processes.device)
        self._begin(model, phase, dataset, checkpoint)
        if processes.first:
            _write_settings(self.run, settings)
        source = self._source(model, dataset, checkpoint, processes)
        for note in phase.notes:
            self.log.say(note)
        return Trainer(settings, phase, source, self.run, model, processes, checkpoint, self.log)

    def _begin(self, model: Dreamer4, phase: Phase, dataset: Dataset, checkpoint: Checkpoint | None) -> None:
        """The weights that the first step starts from."""
        if checkpoint is not None:
            self.log.say(f"continues {self.run} after step {checkpoint.step}")
            if report := load_weights(model, checkpoint.weights, where=str(self.checkpoint)):
                self.log.say(f"{self.checkpoint} has another layout than this program's: {report}")
            return
        if self.settings.init is not None:
            earlier, _ = load_model(self.settings.init, say=self.log.say)
            if report := load_weights(model, earlier.state_dict(), where=self.settings.init):
                self.log.say(f"{self.settings.init} has not all that this phase needs, or more: {report}")
        phase.prepare(model, dataset)

    def _source(self, model: Dreamer4, dataset: Dataset, checkpoint: Checkpoint | None, processes: Processes) -> Source:
        directory, cache = self.settings.data.latents, None
        if directory is not None:
            tokenizer = model.tokenizer.to(processes.device).eval()
            with progress_bar("encoding", sum(len(shard.arrays["first"]) for shard in dataset.shards)) as report:
                cache = LatentCache(directory, dataset, tokenizer, progress=report)
        return ClipSampler(dataset, self.settings.seed, latents=cache)


def start(options: argparse.Namespace) -> Launch:
    """A new run of what was typed."""
    if found := steps(options.run):
        raise ValueError(
            f"{options.run} has checkpoints up to {found[-1].name}: continue it with --resume, or name another --run"
        )
    log = _log(options)
    init = None if options.init is None else model_config(Path(options.init), log.say)
    document = read_document(options.config) if options.config is not None else {}
    typed = [*options.set, *_typed(options)]
    if init is None and "model" not in merge(document, assignments(typed)):
        raise ValueError("the model is not known: name a CONFIG with [model], a preset, or --init an earlier phase")
    paths = merge(document, assignments(typed)).get("data", {}).get("paths", [])
    settings = settings_from(options.phase, document, typed, model=init, facts=facts_of(paths))
    return Launch(_checked(settings), options.run, log)


def resume(options: argparse.Namespace) -> Launch:
    """The run that is there, with what was typed over its configuration."""
    if options.config is not None or options.init is not None:
        raise ValueError("a run is resumed with the configuration it has: leave CONFIG and --init out, and use --set")
    log = _log(options)
    checkpoint = latest_good(options.run, log.say)
    settings = read(checkpoint).settings if checkpoint is not None else _read_settings(options.run)
    if settings.phase != options.phase:
        raise ValueError(f"{options.run} is a run of the phase {settings.phase!r}; got {options.phase!r}")
    table = merge(settings_to_json(settings), assignments([*options.set, *_typed(options)]))
    return Launch(_checked(settings_from_json(table)), options.run, log, checkpoint)


def make_phase(settings: Settings, device: torch.device) -> Phase:
    """Make the phase that the settings name."""
    return PHASES[settings.phase](settings, device)


def facts_of(paths: Sequence[str]) -> dict[str, Any]:
    """What the first dataset says of the model: the size of a frame, actions and tasks; the others must agree with it."""
    if not paths:
        return {}
    header = read_header(Path(paths[0]))
    return {
        "tokenizer": {"height": header.height, "width": header.width, "channels": header.channels},
        "dynamics": {"actions": to_table(header.components), "tasks": len(header.tasks)},
    }


def open_data(settings: Settings) -> Dataset:
    """The part of the datasets that is trained on."""
    data = settings.data
    datasets = [Dataset.open(path, damaged=data.damaged, verify=data.verify) for path in data.paths]
    dataset = datasets[0] if len(datasets) == 1 else concatenate(datasets)
    return dataset if data.held_out is None else dataset.split(data.held_out)[0]


def _checked(settings: Settings) -> Settings:
    """Refuse data that are not there or that the model was not made for, by their headers alone."""
    if not settings.data.paths:
        raise ValueError("there are no data: name datasets with --data")
    for path in settings.data.paths:
        _require_fit(settings.model, read_header(Path(path)), path)
    choose_device(settings.execution.device)
    if settings.phase != "tokenizer" and settings.init is None:
        raise ValueError(f"phase {settings.phase!r} starts from an earlier one: name its run with --init")
    return settings


def _require_fit(model: ModelConfig, header: Header, path: str) -> None:
    made = (model.tokenizer.height, model.tokenizer.width, model.tokenizer.channels)
    found = (header.height, header.width, header.channels)
    if made != found:
        raise ValueError(f"the model is for frames of {made} (height, width, channels); those of {path} are {found}")
    if model.dynamics.actions != header.components:
        raise ValueError(
            f"the model is for the actions {model.dynamics.actions}; those of {path} are {header.components}"
        )
    if model.dynamics.tasks and len(header.tasks) > model.dynamics.tasks:
        raise ValueError(f"the model knows {model.dynamics.tasks} tasks; {path} has {len(header.tasks)}")


def _typed(options: argparse.Namespace) -> list[str]:
    """--data and --init as settings."""
    paths = [f"data.paths={json.dumps(options.data)}"] if options.data else []
    return paths + ([f"init={json.dumps(options.init)}"] if options.init is not None else [])


def _log(options: argparse.Namespace) -> Log:
    quiet = os.environ.get("RANK", "0") != "0"
    return Log(None if options.dry_run else options.run, quiet=quiet)


def _write_settings(run: Path, settings: Settings) -> None:
    run.mkdir(parents=True, exist_ok=True)
    partial = run / f".{SETTINGS}.partial"
    partial.write_text(json.dumps(settings_to_json(settings), indent=1), encoding="utf-8")
    os.replace(partial, run / SETTINGS)


def _read_settings(run: Path) -> Settings:
    try:
        return settings_from_json(json.loads((run / SETTINGS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(f"there is nothing to resume in {run}: it has no checkpoint and no {SETTINGS}") from None


def _flat(table: Mapping[str, Any], where: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        found += _flat(value, f"{where}{name}.") if isinstance(value, Mapping) else [(where + name, value)]
    return found


def _parts(trained: Sequence[tuple[str, Any]]) -> list[str]:
    """The modules that are trained, two names deep."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name, _ in trained))
