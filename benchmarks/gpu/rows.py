"""Rows of a stage, each measured within its budget in a worker process whose loss does not affect other rows.

A worker measures rows one after the other; they share imports, the CUDA context and compiled kernels. A row that
raises, hangs or ends its process is reported with that status, and a worker whose device no longer works is replaced.
"""

import gc
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.gpu import report
from benchmarks.gpu.environment import environment

#: Number of characters of an error text that are kept, from its end.
ERROR_CHARACTERS = 4000
#: Seconds within which a worker must finish its imports and initialize its device.
START = 120.0
#: Seconds to wait for the end of a killed process: one that hangs in the driver does not end.
END = 10.0


class Unavailable(Exception):
    """This machine lacks a requirement of the row, which the message names."""


def unavailable(reason: str) -> dict[str, Any]:
    """Measure of a row that this machine or a rehearsal leaves out.

    Args:
        reason: what is lacking.

    Raises:
        Unavailable: always.
    """
    raise Unavailable(reason)


@dataclass(frozen=True)
class Row:
    """Planned measurement.

    Args:
        group: table of the row; rows of one group are compared with each other.
        name: unique name in the group.
        measure: returns the figures, among others by the names in `report.COLUMNS`; raises if they would be wrong.
        facts: values available before the measurement: predictions, the paper's figure, a description.
        budget: time limit in seconds.
    """

    group: str
    name: str
    measure: Callable[[], dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)
    budget: float = 60.0


class Worker:
    """Process that measures rows.

    The list `planned` is sent by the process, so that the parent does not import torch.

    Args:
        stages: names of the modules of this package whose `rows(smoke)` are measured.
        smoke: True for tiny sizes on a CPU.
        log: file to which the output of rows is appended; None for the output of this process.
    """

    def __init__(self, stages: Sequence[str], smoke: bool, log: Path | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, connection = context.Pipe()
        self._process = context.Process(target=_work, args=(stages, smoke, log, connection), daemon=True)
        self._process.start()
        connection.close()
        self.usable = True
        self.planned: list[report.Row] = self._received("rows")

    def environment(self) -> dict[str, Any]:
        """Return `environment()` of the process."""
        self._connection.send(None)
        about: dict[str, Any] = self._received("environment")
        return about

    def _received(self, content: str) -> Any:
        try:
            if self._connection.poll(START):
                return self._connection.recv()
            reason = f"did not respond within {START:.0f} seconds"
        except EOFError:
            reason = "ended"
        self.end()
        raise RuntimeError(f"the measuring process {reason} before it had sent its {content}; see the log")

    def measure(self, index: int, seconds: float) -> report.Row:
        """Measure one row: status, seconds, and figures or error. Sets `usable` to False if the process is lost."""
        began = time.monotonic()
        try:
            self._connection.send(index)
            if self._connection.poll(seconds):
                outcome, self.usable = self._connection.recv()
            else:
                outcome, self.usable = {"status": "timed out", "error": f"not done after {seconds:.1f} seconds"}, False
        except (EOFError, OSError):
            self._process.join(END)
            outcome, self.usable = {"status": "died", "error": f"exit status {self._process.exitcode}"}, False
        if not self.usable:
            self.end()
        return {**outcome, "seconds": round(time.monotonic() - began, 1)}

    def end(self) -> None:
        """Kill the process and its children."""
        try:
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            self._process.kill()
        self._process.join(END)


def _work(stages: Sequence[str], smoke: bool, log: Path | None, connection: Connection) -> None:
    os.setpgrp()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    if log is not None:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    rows: dict[str, list[Row]] = {
        stage: importlib.import_module(f"benchmarks.gpu.{stage}").rows(smoke) for stage in stages
    }
    connection.send([row for stage in stages for row in planned(stage, rows[stage])])
    measured = [row for stage in stages for row in rows[stage]]
    while True:
        try:
            index = connection.recv()
        except EOFError:
            return
        connection.send(environment() if index is None else _measured(measured[index]))


def planned(stage: str, rows: Iterable[Row]) -> list[report.Row]:
    """Describe the rows of a stage before their measurement.

    >>> planned("kernels", [Row("copies", "large", dict, {"predicted": "4 TB/s"})])
    [{'stage': 'kernels', 'group': 'copies', 'name': 'large', 'predicted': '4 TB/s', 'budget': 60.0}]
    """
    return [{"stage": stage, "group": row.group, "name": row.name, **row.facts, "budget": row.budget} for row in rows]


def _measured(row: Row) -> tuple[report.Row, bool]:
    try:
        return {"status": "ok", **row.measure()}, True
    except Unavailable as reason:
        return {"status": "not here", "reason": str(reason)}, True
    except Exception:
        text = traceback.format_exc()[-ERROR_CHARACTERS:]
        return {"status": "failed", "error": text}, _device_still_works()
    finally:
        if _device_still_works():
            _release_memory()


def _release_memory() -> None:
    """Release compiled code and memory, so that a row does not affect the next one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()


def _device_still_works() -> bool:
    """Return False after an illegal access, which makes every later call of the process fail."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _end_with_parent(parent: int) -> None:
    """Kill the process group when the parent is gone: a GPU that is still busy would disturb the next run."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)
