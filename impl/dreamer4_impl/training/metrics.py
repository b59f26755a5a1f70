"""What a run measured: one JSON object for each step in RUN/metrics.jsonl, and TensorBoard.

A run that resumes first forgets what came after its checkpoint, so that the file in the end is that of a run that was never
interrupted, but for `seconds`.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

#: A step's values by name; nested ones are groups of curves.
Record = Mapping[str, Any]


class Metrics:
    """Writes the measurements of a run.

    Args:
        run: its directory.
        step: steps done; what is later is forgotten.
        tensorboard: whether to write RUN/tensorboard too.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool) -> None:
        run.mkdir(parents=True, exist_ok=True)
        path = run / "metrics.jsonl"
        _truncate(path, step)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        self._board = _board(run / "tensorboard", step) if tensorboard else None

    def write(self, record: Record) -> None:
        """Add a step; `step` is among its values. NaN, where nothing was there to count, becomes null."""
        self._file.write(json.dumps(_plain(record)) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in _flat(record):
                if isinstance(value, int | float) and math.isfinite(value):
                    self._board.add_scalar(name, value, record["step"])

    def sync(self) -> None:
        """Have the steps so far on disk, before a checkpoint says that they are done."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish both."""
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
    """The steps of a metrics.jsonl; a last line that was cut short is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def _truncate(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [json.dumps(record) + "\n" for record in read_metrics(path) if record["step"] <= step]
    partial = path.with_name(".metrics.partial")
    partial.write_text("".join(kept), encoding="utf-8")
    os.replace(partial, path)


def _board(directory: Path, step: int) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(directory), purge_step=step + 1)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(record: Record, where: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in record.items():
        found += _flat(value, f"{where}{name}/") if isinstance(value, Mapping) else [(where + name, value)]
    return found
