"""Checkpoints: complete, atomic, and readable without knowing who wrote them.

    RUN/checkpoints/step-00001000/
        checkpoint.json       format, version, phase, step, configuration, model, size and checksum of every other file
        model.safetensors     weights
        average.safetensors   running average of those that are trained, where there is one
        state.pt              optimiser, running RMS, companions of the phase, random state

Written into a hidden directory beside, synced, and renamed: a directory without the dot is whole. What a write that failed
or was killed leaves behind is cleaned away by the next one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import (
    Settings,
    model_from_json,
    model_to_json,
    settings_from_json,
    settings_to_json,
)
from dreamer4_impl.durable import sync
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4

FORMAT, VERSION = "dreamer4-checkpoint", 1
HEADER, WEIGHTS, AVERAGE, STATE = "checkpoint.json", "model.safetensors", "average.safetensors", "state.pt"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is a sentence."""


class CannotSaveError(OSError):
    """A checkpoint that could not be written; the earlier ones are as they were."""


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to continue as if it had not stopped.

    Args:
        settings: the configuration of the run.
        step: steps done.
        weights: of the model, by name.
        average: running average of the trained ones; empty without one.
        state: whatever else, of types that `torch.load` trusts.
    """

    settings: Settings
    step: int
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadReport:
    """What did not match when weights were loaded.

    Args:
        missing: parameters of the model that the weights lack; they stay as they were.
        unexpected: weights that the model has no parameter for; they are left out.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to report."""
        return bool(self.missing or self.unexpected)

    def __str__(self) -> str:
        """A sentence.

        >>> print(LoadReport(missing=("a.b",)))
        missing, left at their start: a.b; unexpected, left out: none
        """
        missing, unexpected = (", ".join(names) or "none" for names in (self.missing, self.unexpected))
        return f"missing, left at their start: {missing}; unexpected, left out: {unexpected}"


def save(run: Path, checkpoint: Checkpoint, keep: int = 3) -> Path:
    """Write a checkpoint, and remove the oldest ones beyond `keep`.

    Raises CannotSaveError where it cannot be written, on a full disk for one; what was there before is untouched.
    """
    root = run / "checkpoints"
    final = root / f"step-{checkpoint.step:08d}"
    partial = root / f".{final.name}.partial"
    try:
        _clean(root)
        if final.exists() and not _damage(final):
            return final
        partial.mkdir(parents=True)
        _write(partial, checkpoint)
        if final.exists():
            _remove(final)
        os.rename(partial, final)
        sync(root)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CannotSaveError(f"the checkpoint of step {checkpoint.step} could not be written: {error}") from error
    # What cannot be removed now is removed after the next one.
    with suppress(OSError):
        for old in steps(run)[:-keep]:
            _remove(old)
    return final


def steps(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first, whether they are good or not."""
    return sorted((run / "checkpoints").glob("step-*"))


def read(path: Path) -> Checkpoint:
    """Read the checkpoint in this directory; what is damaged, foreign or newer than this program is refused."""
    header = _header(path)
    if damage := _damage(path):
        raise CheckpointError(damage)
    try:
        settings = settings_from_json(header["config"])
        state = torch.load(path / STATE, map_location="cpu", weights_only=True, mmap=True)
        return Checkpoint(settings, header["step"], _tensors(path / WEIGHTS), _tensors(path / AVERAGE), state)
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} cannot be read: its {STATE} holds more than data, and code is not run"
        ) from error
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def latest_good(run: Path, say: Callable[[str], None] = print) -> Path | None:
    """The newest checkpoint of a run that is whole; None where there is none at all.

    What is damaged is named to `say`, and the one before is taken. Where all are damaged, CheckpointError.
    """
    found = steps(run)
    for path in reversed(found):
        damage = _damage(path)
        if not damage:
            return path
        say(f"{damage}; going back to the checkpoint before it")
    if found:
        raise CheckpointError(f"none of the {len(found)} checkpoints in {run} can be used")
    return None


def locate(path: Path, say: Callable[[str], None] = print) -> Path:
    """The checkpoint that a path means: itself, or the newest good one of a run."""
    if (path / HEADER).is_file():
        return path
    if (found := latest_good(path, say)) is None:
        raise CheckpointError(f"there is no checkpoint in {path}: it must be a run or one of its checkpoints")
    return found


def model_config(path: Path, say: Callable[[str], None] = print) -> ModelConfig:
    """The configuration of the model of a run or checkpoint; no weights are read."""
    return model_from_json(_header(locate(path, say))["model"])


def load_model(
    path: Path | str, *, strict: bool = False, average: bool = True, say: Callable[[str], None] = print
) -> tuple[Dreamer4, LoadReport]:
    """The model of a run or of one of its checkpoints, on the CPU, in evaluation mode.

    Args:
        path: the directory.
        strict: refuse missing and unexpected parameters instead of reporting them.
        average: take the running average of the weights where there is one.
        say: is told what was damaged.
    """
    path = locate(Path(path), say)
    header = _header(path)
    if damage := _damage(path):
        raise CheckpointError(damage)
    try:
        config = model_from_json(header["model"])
        weights = _tensors(path / WEIGHTS) | (_tensors(path / AVERAGE) if average else {})
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    with torch.random.fork_rng(devices=[]):
        model = Dreamer4(config)
    report = load_weights(model, weights, strict=strict, where=str(path))
    return model.eval(), report


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], *, strict: bool = False, where: str = "the checkpoint"
) -> LoadReport:
    """Copy weights into a module, and say which did not match.

    A weight of another shape than the parameter of its name is refused, whatever `strict` says.
    """
    own = module.state_dict()
    for name in own.keys() & weights.keys():
        if own[name].shape != weights[name].shape:
            raise CheckpointError(
                f"{name} has the shape {tuple(weights[name].shape)} in {where} and {tuple(own[name].shape)} in this "
                "model: the configuration of the model must be the one that it was trained with"
            )
    missing, unexpected = tuple(sorted(own.keys() - weights.keys())), tuple(sorted(weights.keys() - own.keys()))
    report = LoadReport(missing, unexpected)
    if strict and report:
        raise CheckpointError(f"{where} does not match the model: {report}")
    module.load_state_dict({name: weights[name] for name in own.keys() & weights.keys()}, strict=False)
    return report


# On disk


def _write(directory: Path, checkpoint: Checkpoint) -> None:
    _save_tensors(checkpoint.weights, directory / WEIGHTS)
    if checkpoint.average:
        _save_tensors(checkpoint.average, directory / AVERAGE)
    with open(directory / STATE, "wb") as file:
        torch.save(dict(checkpoint.state), file)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "phase": checkpoint.settings.phase,
        "step": checkpoint.step,
        "config": settings_to_json(checkpoint.settings),
        "model": model_to_json(checkpoint.settings.model),
        "files": {path.name: _fingerprint(path) for path in sorted(directory.iterdir())},
    }
    (directory / HEADER).write_text(json.dumps(header, indent=1), encoding="utf-8")
    for path in (*directory.iterdir(), directory):
        sync(path)


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        return {}
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)


def _fingerprint(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"size": path.stat().st_size, "blake2b": hashlib.file_digest(file, "blake2b").hexdigest()}


def _header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads((path / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no checkpoint: its {HEADER} cannot be read ({error})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this program: its format is not {FORMAT!r}")
    if not isinstance(header.get("version"), int) or header["version"] > VERSION:
        raise CheckpointError(
            f"{path} has version {header.get('version')!r}, and this program reads up to {VERSION}: "
            "install a newer dreamer4-conformance"
        )
    missing = [name for name in ("step", "config", "model", "files") if name not in header]
    if missing:
        raise CheckpointError(f"{path} is damaged: its {HEADER} does not say {', '.join(missing)}")
    return header


def _damage(path: Path) -> str:
    """A sentence about what is wrong with a checkpoint; empty where nothing is."""
    try:
        files = _header(path)["files"]
        for name in {WEIGHTS, STATE, *files}:
            if not (path / name).is_file() or _fingerprint(path / name) != files.get(name):
                return f"{path} is damaged: {name} is not what was written"
    except (CheckpointError, OSError) as error:
        return str(error)
    return ""


def _clean(root: Path) -> None:
    """Remove what writes and removals that were cut short have left."""
    for leftover in root.glob(".step-*"):
        shutil.rmtree(leftover)


def _remove(path: Path) -> None:
    """Out of sight first, so that a removal that is cut short leaves no checkpoint with files missing."""
    hidden = path.with_name(f".{path.name}.removed")
    os.rename(path, hidden)
    shutil.rmtree(hidden)
