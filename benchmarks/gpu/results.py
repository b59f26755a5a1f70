"""Results file of a run: contains every planned row from the start, and is replaced atomically after each row."""

import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu.environment import slug
from benchmarks.gpu.report import FAILED, Document, Row, dumped, merged


class Results:
    """Results of one run; the file also holds those of earlier runs into the same directory (see `report.merged`).

    Args:
        directory: directory of the file, which is named after the GPU and the day.
        environment: hardware and versions of this run.
        planned: stage, group, name and facts of every row before its measurement, by index.
    """

    def __init__(self, directory: Path, environment: dict[str, Any], planned: Mapping[int, Row]) -> None:
        self.path = directory / f"{slug(environment['gpu'])}-{datetime.now(UTC).date()}.json"
        self._lock, self._planned = threading.Lock(), planned
        self._earlier = [json.loads(self.path.read_text(encoding="utf-8"))] if self.path.exists() else []
        self._environment: dict[str, Any] = environment
        self._ceilings: dict[str, Any] = {}
        #: Rows of this run by index.
        self.rows: dict[int, Row] = {
            index: {"status": "not reached", "seconds": None, **row} for index, row in planned.items()
        }
        self._write()

    @property
    def document(self) -> Document:
        """Document of this run, without earlier runs."""
        rows = list(self.rows.values())
        return {"schema": 1, "environment": self._environment, "ceilings": self._ceilings, "rows": rows}

    def put(self, index: int, outcome: Row) -> None:
        """Record the outcome of an attempt; success after a failed attempt keeps the failure as a note.

        Args:
            index: index of the row.
            outcome: "status", "seconds", and figures or "error".
        """
        with self._lock:
            row, before = self._planned[index] | outcome, self.rows[index]
            if "ceilings" in row:
                self._ceilings[row["stage"]] = row.pop("ceilings")
            if before["status"] in FAILED and row["status"] not in FAILED:
                note = {"note": f"{before['status']} at the first attempt", "error": before["error"]}
                row = row | note if row["status"] == "ok" else before
            self.rows[index] = row
            self._write()

    def _write(self) -> None:
        """Replace the file atomically, so that a killed run leaves either the old or the new version."""
        partial = self.path.with_suffix(".partial")
        partial.write_text(dumped(merged([*self._earlier, self.document])), encoding="utf-8")
        os.replace(partial, self.path)
