"""Header of a checkpoint: its description and the checksums of its files.

It is checkpoint.json in a checkpoint of a run, and config.json in a folder to share, where clients of the Hugging Face
Hub look for it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamer4_impl.checkpoints.settings import TrainingSettings, model_to_json, settings_to_json
from dreamer4_impl.durable import checksum, read_json, sync

FORMAT, VERSION, SHARDED_VERSION = "dreamer4-checkpoint", 2, 3
HEADER, WEIGHTS, AVERAGE, STATE = "checkpoint.json", "model.safetensors", "average.safetensors", "state.pt"
SHARED_HEADER = "config.json"
"""Name of the header in a folder to share, under which clients of the Hugging Face Hub look for it."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why and what to do."""


def header_of(path: Path) -> dict[str, Any]:
    """Read the header of a checkpoint or of a folder to share.

    Args:
        path: its directory.

    Returns:
        Content of checkpoint.json or config.json: phase, step, configuration, model, and files with their checksums.

    Raises:
        CheckpointError: if it is missing, damaged, of another format, or of a newer version.
    """
    file = header_file(path)
    try:
        header = read_json(file)
        digest = digest_of(header) if isinstance(header, dict) else ""
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: its {file.name} cannot be read ({error})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this program: its format is not {FORMAT!r}")
    if not isinstance(header.get("version"), int) or header["version"] > SHARDED_VERSION:
        raise CheckpointError(
            f"{path} has version {header.get('version')!r}, and this program reads up to {SHARDED_VERSION}: "
            "install a newer dreamer4-conformance"
        )
    missing = [name for name in ("step", "config", "model", "files") if name not in header]
    if missing:
        raise CheckpointError(f"{path} is damaged: its {file.name} lacks {', '.join(missing)}")
    # Version 1 had no checksum.
    if header["version"] > 1 and header.get("checksum") != digest:
        raise CheckpointError(f"{path} is damaged: {file.name} does not match its checksum")
    if type(header["step"]) is not int or header["step"] < 0:
        raise CheckpointError(f"{path} is damaged: its step must be a whole number, 0 or more; got {header['step']!r}")
    if not isinstance(header["files"], dict) or any(Path(name).name != name for name in header["files"]):
        raise CheckpointError(
            f"{path} is damaged: its {file.name} must list files of its directory with their checksums"
        )
    return header


def damage_of(path: Path) -> str:
    """Compare the files of a checkpoint or of a folder to share with the checksums in its header.

    Args:
        path: its directory.

    Returns:
        Message about the damage; empty if there is none.
    """
    try:
        header = header_of(path)
        files = header["files"]
        required = {STATE} if header_file(path).name == HEADER else set()
        # The shards are those that the header lists.
        required |= set() if header["version"] == SHARDED_VERSION else {WEIGHTS}
        for name in required | {*files}:
            if not (path / name).is_file() or fingerprint(path / name) != files.get(name):
                return f"{path} is damaged: {name} does not match its checksum"
    except (CheckpointError, OSError) as error:
        return str(error)
    return ""


def write_header(
    file: Path, settings: TrainingSettings, step: int, shards: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Describe a checkpoint and all files that are in its directory, and wait until the disk holds them.

    Args:
        file: path of the header; the other files of its directory are complete.
        settings: configuration of the run.
        step: number of completed steps.
        shards: fingerprints of the shards by file name, from the processes that wrote them; None if there are none.

    Raises:
        OSError: if a file cannot be read, written or synced, or the directory lacks the shards of another process.
    """
    directory = file.parent
    files = dict(shards or {})
    for name, written in files.items():
        if not (directory / name).is_file() or (directory / name).stat().st_size != written["size"]:
            raise OSError(
                f"{name}, which another process has written, is not in {directory}: the run directory must be on a "
                "file system that all processes share"
            )
    files |= {path.name: fingerprint(path) for path in directory.iterdir() if path.name not in files}
    header = {
        "format": FORMAT,
        "version": VERSION if shards is None else SHARDED_VERSION,
        "phase": settings.phase,
        "step": step,
        "config": settings_to_json(settings),
        "model": model_to_json(settings.model),
        "files": dict(sorted(files.items())),
    }
    header["checksum"] = digest_of(header)
    file.write_text(json.dumps(header, indent=1), encoding="utf-8")
    for path in (*(directory / name for name in files), file, directory):
        sync(path)


def header_file(path: Path) -> Path:
    """Locate the header of a checkpoint or of a folder to share.

    Args:
        path: its directory.

    Returns:
        Path of the header; if there is none, that of a checkpoint.
    """
    shared = path / SHARED_HEADER
    return shared if shared.is_file() and not (path / HEADER).is_file() else path / HEADER


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and checksum of a file.

    Args:
        path: the file.

    Returns:
        JSON object, as the header holds it.

    Raises:
        OSError: if the file cannot be read.
    """
    return {"size": path.stat().st_size, "blake2b": checksum(path)}


def digest_of(header: Mapping[str, Any]) -> str:
    """Digest of a header.

    Args:
        header: its content; its own checksum is left out.

    Returns:
        Hexadecimal digits of BLAKE2b.
    """
    content = {name: value for name, value in header.items() if name != "checksum"}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode()).hexdigest()
