"""Rows of a stage: each is measured by itself, within its budget, in a process that may be lost without the others.

A worker measures one row after the other and keeps what they share: imports, the CUDA context, compiled kernels. A row
that raises, hangs or ends its process becomes a row that says so; a worker that can no longer be trusted is replaced.
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

#: How much of the end of an error's text is kept.
ERROR_CHARACTERS = 4000
#: Seconds within which a worker must have imported everything and found its device.
START = 120.0
#: Seconds until a process that was killed is given up: one that hangs in the driver cannot end.
END = 10.0


class Unavailable(Exception):
    """What a row needs does not exist on this machine; the message names it."""


@dataclass(frozen=True)
class Row:
    """What is to be measured.

    Args:
        group: the table that it stands in; rows of one group are compared with each other.
        name: what distinguishes it there.
        measure: gives the figures, by the names in `report.COLUMNS` among others; raises where they would be wrong.
        facts: what is facts before: predictions, the paper's figure, what exactly is measured.
        budget: seconds after which it is given up.
    """

    group: str
    name: str
    measure: Callable[[], dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)
    budget: float = 60.0


class Worker:
    """A process that measures rows.

    Args:
        stages: the modules of this package whose `rows(smoke)` are measured.
        smoke: tiny sizes, on a CPU too.
        log: file that everything printed by rows is appended to; None for the output of this process.

    The rows `planned` come from the process: this one imports no torch.
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
        """What `environment` says in the process."""
        self._connection.send(None)
        about: dict[str, Any] = self._received("environment")
        return about

    def _received(self, content: str) -> Any:
        try:
            if self._connection.poll(START):
                return self._connection.recv()
            reason = f"did not answer within {START:.0f} seconds"
        except EOFError:
            reason = "ended"
        self.end()
        raise RuntimeError(f"the process that measures {reason} before it had sent its {content}; the log says why")

    def measure(self, index: int, seconds: float) -> report.Row:
        """Status, seconds, and figures or error of one row; not `usable` afterwards where the process is lost."""
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
        """End the process and those that it has started."""
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
    """What is facts of the rows of a stage before they are measured.

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
            _forget()


def _forget() -> None:
    """What one row has compiled and allocated shall not weigh on the next."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()


def _device_still_works() -> bool:
    """After an illegal access every later call of the process fails too."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _end_with_parent(parent: int) -> None:
    """A killed parent ends nobody; a GPU that goes on computing would disturb the next run."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)
