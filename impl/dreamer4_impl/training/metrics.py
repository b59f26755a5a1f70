"""Measurements of a run: one JSON object for each step in RUN/metrics.jsonl, videos in RUN/media, and boards.

Resuming first removes the steps after the checkpoint, so that the file ends as that of an uninterrupted run, except for
`seconds`.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from dreamer4_impl.checkpoints.toml import flattened
from dreamer4_impl.durable import replacement
from dreamer4_impl.training.boards import Boards
from dreamer4_impl.training.pictures import Video, write_gif

StepRecord: TypeAlias = Mapping[str, Any]
"""Values of a step by name; nested mappings are groups of curves."""


class Metrics:
    """Writer of a run's measurements; a context manager.

    A full disk does not end the run: steps are held in memory until they can be written, and what fails otherwise, such
    as TensorBoard or a tracker, is given up.

    Args:
        run: directory of the run.
        step: number of completed steps, 0 or more; later rows are removed.
        tensorboard: also write RUN/tensorboard.
        tracker: "trackio" or "wandb" also sends everything to this tracker.
        project: project of the tracker.
        report: receives messages about lines and steps that are lost or late.

    Raises:
        OSError: if the directory cannot be written.
    """

    def __init__(
        self,
        run: Path,
        step: int,
        *,
        tensorboard: bool,
        tracker: str | None = None,
        project: str = "",
        report: Callable[[str], None] = print,
    ) -> None:
        run.mkdir(parents=True, exist_ok=True)
        path = run / "metrics.jsonl"
        if damaged := _truncate(path, step):
            report(f"{path} had {damaged} damaged lines, which are left out")
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed by close)
        self._run, self._pending, self._report = run, b"", report
        self._boards = Boards(run, step, tensorboard=tensorboard, tracker=tracker, project=project, report=report)

    def write(self, record: StepRecord) -> None:
        """Add a step.

        Args:
            record: values with the key "step"; NaN, a mean over nothing, becomes null.
        """
        late = bool(self._pending)
        self._pending += json.dumps(_plain(record)).encode() + b"\n"
        try:
            self._flush()
        except OSError as error:
            if not late:
                self._report(f"metrics.jsonl cannot be written: {error}; its steps are held in memory meanwhile")
        values = dict(flattened(record, "/"))
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        step = numbers.pop("step")
        self._boards.write({name: value for name, value in numbers.items() if math.isfinite(value)}, int(step))

    def show(self, step: int, videos: Mapping[str, Video]) -> None:
        """Write videos as GIF to RUN/media, and show them.

        Args:
            step: number of completed steps, 1 or more.
            videos: videos by name.

        Raises:
            OSError: if a file cannot be written.
        """
        for name, video in videos.items():
            path = self._run / "media" / f"{name}-{step:08d}.gif"
            write_gif(path, video)
            self._boards.show(name, video, path, step)

    def sync(self) -> None:
        """Wait until the steps so far are on disk, before a checkpoint includes them.

        Raises:
            OSError: if they cannot be written.
        """
        try:
            self._flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(f"metrics.jsonl could not be written: {error}") from error

    def close(self) -> None:
        """Close metrics.jsonl and the boards."""
        with suppress(OSError):
            self._flush()
        self._file.close()
        self._boards.close()

    def _flush(self) -> None:
        while self._pending:
            self._pending = self._pending[os.write(self._file.fileno(), self._pending) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl.

    Args:
        path: `metrics.jsonl` of a run.

    Returns:
        Records of the steps; damaged lines are left out.

    Raises:
        OSError: if the file cannot be read.
    """
    return [record for line in path.read_bytes().split(b"\n") if (record := _record(line)) is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    """Record of a line; None if the line is damaged."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def _truncate(path: Path, step: int) -> int:
    """Remove later steps and damaged lines; number of the damaged ones, an incomplete last line excepted."""
    if not path.exists():
        return 0
    lines = path.read_bytes().split(b"\n")
    records = [_record(line) for line in lines]
    earlier = [line + b"\n" for line, r in zip(lines, records, strict=True) if r is not None and r["step"] <= step]
    with replacement(path) as partial:
        partial.write_bytes(b"".join(earlier))
    return records[:-1].count(None)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
