"""Checkpoints: complete, atomic, and self-describing.

    RUN/checkpoints/step-00001000/
        checkpoint.json       format, version, phase, step, configuration, model, size and checksum of every other file,
                              and the checksum of all this
        model.safetensors     weights
        average.safetensors   running average of the trained weights, if there is one
        state.pt              optimiser, running RMS, companions of the phase, random state

The checkpoint of a sharded model has a file of shards for every process that wrote it, in place of the first two files
and of the optimiser's tensors: see `shards`. Both forms are read by the same functions, by any number of processes.

A folder to share has the first file under the name config.json, next to model.safetensors alone: see `write_model`.

A checkpoint is written to a hidden directory, synced, and renamed: a directory without the leading dot is complete. The
next write removes what a failed or killed write has left; `dreamer4-train` holds the lock of the run meanwhile.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dreamer4_impl.checkpoints.header import (
    AVERAGE,
    HEADER,
    SHARED_HEADER,
    STATE,
    WEIGHTS,
    CheckpointError,
    damage_of,
    header_file,
    header_of,
    write_header,
)
from dreamer4_impl.checkpoints.settings import (
    TrainingSettings,
    model_from_json,
    settings_from_json,
)
from dreamer4_impl.checkpoints.shards import in_all_processes, read_shards, write_shards
from dreamer4_impl.durable import partial_name, sync
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4

OPTIMISER = "optimiser"
"""Name of the optimiser's state in a checkpoint, and of the shards of its tensors."""


class CannotSaveError(OSError):
    """A checkpoint could not be written; earlier ones are unchanged."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to continue bit for bit.

    Args:
        settings: configuration of the run.
        step: number of completed steps, 0 or more.
        weights: weights of the model by name; of a sharded model, `DTensor`s for `save_sharded`.
        average: running average of the trained weights by name; empty without one.
        state: further state, of types that `torch.load` accepts with `weights_only`. Only "optimiser" may have sharded
            tensors, in its "state".

    Raises:
        ValueError: if step is not a whole number, 0 or more.
    """

    settings: TrainingSettings
    step: int
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sharded(self) -> bool:
        """True if weights are sharded over processes.

        Returns:
            True for a checkpoint that `save_sharded` writes.
        """
        return any(hasattr(weight, "full_tensor") for weight in self.weights.values())

    def __post_init__(self) -> None:
        if type(self.step) is not int or self.step < 0:
            raise ValueError(f"step must be a whole number, 0 or more; got {self.step!r}")


@dataclass(frozen=True)
class LoadReport:
    """Names that did not match when weights were loaded; true if there are any.

    Args:
        missing: parameters of the model without a weight; they keep their values.
        unexpected: weights without a parameter; they are ignored.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected)

    def __str__(self) -> str:
        """Summary for messages.

        >>> print(LoadReport(missing=("a.b",)))
        missing, unchanged: a.b; unexpected, ignored: none
        """
        missing, unexpected = (", ".join(names) or "none" for names in (self.missing, self.unexpected))
        return f"missing, unchanged: {missing}; unexpected, ignored: {unexpected}"


def save(run: Path, checkpoint: Checkpoint, keep: int = 3) -> Path:
    """Write a checkpoint, and remove the oldest ones.

    Args:
        run: directory of the run.
        checkpoint: its content. A complete checkpoint of the same step is not replaced.
        keep: number of checkpoints to keep, 1 or more.

    Returns:
        Directory of the checkpoint.

    Raises:
        CannotSaveError: if it cannot be written, for example on a full disk; earlier checkpoints are unchanged.
    """
    final = _directory(run, checkpoint.step)
    partial = partial_name(final)
    try:
        if _begin(partial, final, checkpoint.step):
            _write(partial, checkpoint)
            _complete(partial, final)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CannotSaveError(f"the checkpoint of step {checkpoint.step} could not be written: {error}") from error
    _remove_oldest(run, keep)
    return final


def save_sharded(run: Path, checkpoint: Checkpoint, keep: int = 3) -> Path:
    """Write a checkpoint of sharded tensors, each process its shards; all processes must call it.

    Nothing is gathered: a process holds a copy of its own shards at most.

    Args:
        run: directory of the run, on a file system that all processes share.
        checkpoint: its content; what is not sharded is that of the first process. A complete checkpoint of the same
            step is not replaced.
        keep: number of checkpoints to keep, 1 or more.

    Returns:
        Directory of the checkpoint.

    Raises:
        CannotSaveError: in all processes, if one of them cannot write; earlier checkpoints are unchanged.
    """
    final = _directory(run, checkpoint.step)
    partial = in_all_processes(lambda: partial_name(final), first_only=True)[0]
    tensors, rest = _sharded(checkpoint)
    try:
        if not in_all_processes(lambda: _begin(partial, final, checkpoint.step), first_only=True)[0]:
            return final
        files = in_all_processes(lambda: write_shards(partial, tensors))
        in_all_processes(lambda: _write_rest(partial, final, rest, files), first_only=True)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CannotSaveError(f"the checkpoint of step {checkpoint.step} could not be written: {error}") from error
    if dist.get_rank() == 0:
        _remove_oldest(run, keep)
    return final


def write_model(directory: Path, checkpoint: Checkpoint) -> None:
    """Write a model to share: config.json and model.safetensors, which `load_model` and clients of the Hub read.

    Args:
        directory: an existing directory without files.
        checkpoint: configuration, step and weights; the running average takes the place of the weights that it has, and
            the state is left out.

    Raises:
        CannotSaveError: if a file cannot be written.
    """
    try:
        _save_tensors({**checkpoint.weights, **checkpoint.average}, directory / WEIGHTS)
        write_header(directory / SHARED_HEADER, checkpoint.settings, checkpoint.step)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CannotSaveError(f"the model could not be written to {directory}: {error}") from error


def steps(run: Path) -> list[Path]:
    """List the checkpoints of a run.

    Args:
        run: directory of the run.

    Returns:
        Directories of all checkpoints, also damaged ones, oldest first; files and directories of other names are left
        out.
    """
    numbers = {path: re.fullmatch(r"step-(\d+)", path.name) for path in (run / "checkpoints").glob("step-*")}
    return sorted((path for path in numbers if numbers[path]), key=lambda path: int(path.name.removeprefix("step-")))


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: directory of the checkpoint.

    Returns:
        Its content on the CPU, complete; tensors are mapped from the files unless they are put together from shards.

    Raises:
        CheckpointError: if it is damaged, of another format, or of a newer version.
    """
    header = header_of(path)
    if damage := damage_of(path):
        raise CheckpointError(damage)
    try:
        settings = settings_from_json(header["config"])
        state = _state(path)
        return Checkpoint(settings, header["step"], _tensors(path, WEIGHTS), _tensors(path, AVERAGE), state)
    except UnpicklingError as error:
        raise CheckpointError(f"{path} cannot be read: its {STATE} contains code, which is not executed") from error
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def settings_of(path: Path) -> TrainingSettings:
    """Read the settings of a checkpoint without its tensors.

    Args:
        path: directory of the checkpoint.

    Returns:
        Configuration of its run.

    Raises:
        CheckpointError: if its header is damaged, of another format, or of a newer version, or has settings that this
            version does not know.
    """
    header = header_of(path)
    try:
        return settings_from_json(header["config"])
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def latest_good(run: Path, log: Callable[[str], None] = print) -> Path | None:
    """Find the newest undamaged checkpoint of a run.

    Args:
        run: directory of the run.
        log: receives a message for every damaged checkpoint.

    Returns:
        Directory of the checkpoint; None if the run has none.

    Raises:
        CheckpointError: if all checkpoints are damaged.
    """
    paths = steps(run)
    for path in reversed(paths):
        damage = damage_of(path)
        if not damage:
            return path
        log(f"{damage}; using the checkpoint before it")
    if paths:
        raise CheckpointError(f"none of the {len(paths)} checkpoints in {run} can be used")
    return None


def locate(path: Path, log: Callable[[str], None] = print) -> Path:
    """Resolve a path to a checkpoint.

    Args:
        path: directory of a checkpoint or of `write_model`, or of a run: its newest undamaged checkpoint.
        log: receives a message for every damaged checkpoint.

    Returns:
        Directory of the checkpoint.

    Raises:
        CheckpointError: if there is none, or all are damaged.
    """
    if header_file(path).is_file():
        return path
    if (checkpoint := latest_good(path, log)) is None:
        raise CheckpointError(f"there is no checkpoint in {path}: it must be a run or one of its checkpoints")
    return checkpoint


def model_config(path: Path, log: Callable[[str], None] = print) -> ModelConfig:
    """Read the configuration of a model without its weights.

    Args:
        path: directory of a run or checkpoint.
        log: receives a message for every damaged checkpoint.

    Returns:
        The configuration.

    Raises:
        CheckpointError: if there is no checkpoint that can be used.
        ValueError: if the configuration is not supported by this version.
    """
    return model_from_json(header_of(locate(path, log))["model"])


def trained_tasks(path: Path, log: Callable[[str], None] = print) -> tuple[str, ...]:
    """Read the names of the tasks that a model was trained on.

    Args:
        path: directory of a run or checkpoint.
        log: receives a message for every damaged checkpoint.

    Returns:
        Names in the order of the tasks' numbers; empty if the checkpoint does not say.

    Raises:
        CheckpointError: if there is no checkpoint that can be used.
    """
    return tuple(header_of(locate(path, log)).get("config", {}).get("data", {}).get("tasks", ()))


def load_model(
    path: Path | str, *, strict: bool = False, average: bool = True, log: Callable[[str], None] = print
) -> tuple[Dreamer4, LoadReport]:
    """Load the model of a run or checkpoint, or of a folder that `dreamer4-play --export` wrote.

    Args:
        path: directory of a run, a checkpoint or such a folder, such as one that the Hub's client has downloaded.
        strict: refuse missing and unexpected parameters instead of reporting them.
        average: use the running average of the weights if there is one.
        log: receives a message for every damaged checkpoint.

    Returns:
        The model on the CPU in evaluation mode, and the names that did not match. The random state is unchanged.

    Raises:
        CheckpointError: if there is no checkpoint that can be used, or `strict` is set and names do not match.
    """
    path = locate(Path(path), log)
    header = header_of(path)
    if damage := damage_of(path):
        raise CheckpointError(damage)
    try:
        config = model_from_json(header["model"])
        weights = _tensors(path, WEIGHTS) | (_tensors(path, AVERAGE) if average else {})
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    with torch.random.fork_rng(devices=[]):
        model = Dreamer4(config)
    report = load_weights(model, weights, strict=strict, where=str(path))
    return model.eval(), report


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], *, strict: bool = False, where: str = "the checkpoint"
) -> LoadReport:
    """Copy weights into a module.

    Args:
        module: changed in place.
        weights: weights by name; their shapes must be those of the parameters.
        strict: refuse missing and unexpected parameters instead of reporting them.
        where: source of the weights, for messages.

    Returns:
        Names that did not match.

    Raises:
        CheckpointError: if a weight has another shape than its parameter, or `strict` is set and names do not match.
    """
    own = module.state_dict()
    for name in own.keys() & weights.keys():
        if own[name].shape != weights[name].shape:
            raise CheckpointError(
                f"{name} has the shape {tuple(weights[name].shape)} in {where} and {tuple(own[name].shape)} in this "
                "model: use the configuration that the model was trained with"
            )
    missing, unexpected = tuple(sorted(own.keys() - weights.keys())), tuple(sorted(weights.keys() - own.keys()))
    report = LoadReport(missing, unexpected)
    if strict and report:
        raise CheckpointError(f"{where} does not match the model: {report}")
    module.load_state_dict({name: weights[name] for name in own.keys() & weights.keys()}, strict=False)
    return report


# On disk


def _directory(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def _begin(partial: Path, final: Path, step: int) -> bool:
    """Remove leftovers and make the hidden directory; False if the checkpoint is complete already."""
    _clean(final.parent)
    if final.exists() and not damage_of(final) and header_of(final)["step"] == step:
        return False
    partial.mkdir(parents=True)
    return True


def _write(directory: Path, checkpoint: Checkpoint) -> None:
    _save_tensors(checkpoint.weights, directory / WEIGHTS)
    if checkpoint.average:
        _save_tensors(checkpoint.average, directory / AVERAGE)
    _save_state(checkpoint.state, directory / STATE)
    write_header(directory / HEADER, checkpoint.settings, checkpoint.step)


def _write_rest(partial: Path, final: Path, rest: Checkpoint, shards: Sequence[Mapping[str, Any]]) -> None:
    """Complete a checkpoint whose shards have been written by all processes."""
    _save_state(rest.state, partial / STATE)
    files = {name: fingerprint for written in shards for name, fingerprint in written.items()}
    write_header(partial / HEADER, rest.settings, rest.step, files)
    _complete(partial, final)


def _complete(partial: Path, final: Path) -> None:
    if final.exists():
        _remove(final)
    os.rename(partial, final)
    sync(final.parent)


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata={"format": "pt"})
    # safetensors makes files that only their owner can read; the directory was made with the mode of the umask.
    path.chmod(path.parent.stat().st_mode & 0o666)


def _save_state(state: Mapping[str, Any], path: Path) -> None:
    with open(path, "wb") as file:
        torch.save(dict(state), file)


def _sharded(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], Checkpoint]:
    """Tensors to write as shards, by file and name, and the checkpoint without them."""
    optimiser = checkpoint.state.get(OPTIMISER, {"state": {}})
    moments = {f"{name}/{key}": value for name, own in optimiser["state"].items() for key, value in own.items()}
    groups = {WEIGHTS: checkpoint.weights, AVERAGE: checkpoint.average, OPTIMISER: moments}
    tensors = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
    state = {**checkpoint.state, OPTIMISER: {**optimiser, "state": {}}}
    return tensors, Checkpoint(checkpoint.settings, checkpoint.step, {}, {}, state)


def _state(path: Path) -> dict[str, Any]:
    """State of a checkpoint; a folder to share has none."""
    if not (path / STATE).exists():
        return {}
    state: dict[str, Any] = torch.load(path / STATE, map_location="cpu", weights_only=True, mmap=True)
    for name, value in read_shards(path, OPTIMISER).items():
        parameter, _, key = name.rpartition("/")
        state[OPTIMISER]["state"].setdefault(parameter, {})[key] = value
    return state


def _tensors(path: Path, name: str) -> dict[str, Tensor]:
    """Tensors of a file, or of the shards that take its place."""
    if not (path / name).exists():
        return read_shards(path, name)
    with safe_open(path / name, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def _clean(root: Path) -> None:
    """Remove leftovers of interrupted writes and removals."""
    for leftover in root.glob(".step-*"):
        shutil.rmtree(leftover)


def _remove(path: Path) -> None:
    """Rename first, so that an interrupted removal leaves no checkpoint with missing files."""
    hidden = path.with_name(f".{path.name}.removed")
    os.rename(path, hidden)
    shutil.rmtree(hidden)


def _remove_oldest(run: Path, keep: int) -> None:
    """Remove the oldest checkpoints; directories that cannot be removed now are removed after the next save."""
    with suppress(OSError):
        for old in steps(run)[:-keep]:
            _remove(old)
