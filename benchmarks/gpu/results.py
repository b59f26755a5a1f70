"""The file of a run: it holds every planned row from the start, and is replaced as a whole after each."""

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu.environment import slug
from benchmarks.gpu.report import Document, Row, merged, of_stage, write


class Results:
    """What is known of one stage so far, beside what the file holds of others.

    Args:
        directory: of the file, which is called after the GPU and the day.
        stage: whose rows these are; what an earlier run of it has left is forgotten.
        environment: of this run.
        planned: group, name and what is known beforehand, for every row.
    """

    def __init__(self, directory: Path, stage: str, environment: dict[str, Any], planned: Sequence[Row]) -> None:
        self.path = directory / f"{slug(environment['gpu'])}-{datetime.now(UTC).date()}.json"
        self.stage, self._lock = stage, threading.Lock()
        self._others = [json.loads(self.path.read_text(encoding="utf-8"))] if self.path.exists() else []
        rows = [{"stage": stage, "status": "not reached", "seconds": None} | row for row in planned]
        self.document: Document = {"schema": 1, "environment": environment, "ceilings": {}, "rows": rows}
        self._write()

    def put(self, index: int, found: Row) -> None:
        """Note what became of a planned row.

        Args:
            index: of the row among the planned.
            found: "status", "seconds", and figures or "error".
        """
        with self._lock:
            ceilings = found.pop("ceilings", None)
            if ceilings is not None:
                self.document["ceilings"] = {self.stage: ceilings}
            self.document["rows"][index] |= found
            self._write()

    @property
    def rows(self) -> list[Row]:
        """The rows of this stage."""
        return of_stage(self.document["rows"], self.stage)

    def _write(self) -> None:
        write(self.path, merged([*self._others, self.document]))
