"""Measurements of a run: one JSON object for each step in RUN/metrics.jsonl, and TensorBoard.

Resuming first removes the steps after the checkpoint, so that the file ends as that of an uninterrupted run, except for
`seconds`.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from dreamer4_impl.checkpoints.toml import flattened
from dreamer4_impl.durable import write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

StepRecord: TypeAlias = Mapping[str, Any]
"""Values of a step by name; nested mappings are groups of curves."""


class Metrics:
    """Writer of a run's measurements; a context manager.

    Args:
        run: directory of the run.
        step: number of completed steps; later ones are removed.
        tensorboard: also write RUN/tensorboard.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool) -> None:
        run.mkdir(parents=True, exist_ok=True)
        path = run / "metrics.jsonl"
        _truncate(path, step)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        self._board = _board(run / "tensorboard", step) if tensorboard else None

    def write(self, record: StepRecord) -> None:
        """Add a step.

        Args:
            record: values with the key "step"; NaN, a mean over nothing, becomes null.
        """
        self._file.write(json.dumps(_plain(record)) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in flattened(record, "/"):
                if isinstance(value, int | float) and math.isfinite(value):
                    self._board.add_scalar(name, value, record["step"])

    def sync(self) -> None:
        """Wait until the steps so far are on disk, before a checkpoint includes them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close metrics.jsonl and the TensorBoard writer."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl.

    Args:
        path: the file.

    Returns:
        Records of the steps; an incomplete last line is left out.

    Raises:
        OSError: if the file cannot be read.
    """
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _truncate(path: Path, step: int) -> None:
    if not path.exists():
        return
    write_text(path, "".join(json.dumps(record) + "\n" for record in read_metrics(path) if record["step"] <= step))


def _board(directory: Path, step: int) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(directory), purge_step=step + 1)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
