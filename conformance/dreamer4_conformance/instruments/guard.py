"""The guard around the code of an adapter: announces each operation, and restores the process state that it changes.

An operation that ended or blocked an earlier worker is in `lost` and is not called again.
"""

from __future__ import annotations

import ctypes
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments import process_state
from dreamer4_conformance.instruments.process_state import (
    CHANGED_BY_IMPORTS,
    PYTHON,
    SETTINGS,
    Originals,
    OwnCode,
    attribute_settings,
    libraries,
    stream_settings,
    torch_settings,
)
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed


class Lost(NamedTuple):
    """Why an operation is not called any more.

    Attributes:
        reason: what happened when it was called.
        undecided: whether its clauses are inconclusive rather than failed.
    """

    reason: str
    undecided: bool

    def verdict(self) -> Exception:
        """The exception that a call of the operation raises instead."""
        return Inconclusive(self.reason) if self.undecided else OperationFailed(self.reason)


class Announcement(ctypes.Structure):
    """What runs in a process; a worker shares it with the process that watches it.

    Attributes:
        operation: announced last; empty before the first of a clause.
        since: `time.monotonic` when the adapter's code was entered or left.
        running: whether the adapter's code runs, and not the suite's.
        threads: whether an operation has left a thread running.
    """

    _fields_ = (
        ("operation", ctypes.c_char * 64),
        ("since", ctypes.c_double),
        ("running", ctypes.c_bool),
        ("threads", ctypes.c_bool),
    )


class Guard:
    """Guard of one adapter; created before the adapter is imported.

    Attributes:
        lost: operations that are not called, with the reason.
        traceback: whether messages contain the whole traceback of an exception.
        isolated: whether the process is a worker, in which even KeyboardInterrupt comes from the adapter.
    """

    def __init__(
        self,
        announcement: Announcement | None = None,
        lost: Mapping[str, Lost] | None = None,
        *,
        traceback: bool = False,
        isolated: bool = False,
    ) -> None:
        self.lost, self.traceback, self.isolated = lost or {}, traceback, isolated
        self._announcement = announcement or Announcement()
        self._process, self._exit = os.getpid(), os._exit
        self._originals, self._code = Originals(PYTHON), OwnCode()
        self._settings = SETTINGS | stream_settings() | torch_settings()
        self._before_import: process_state.State = {}
        self._adapter: process_state.State = {}
        self._remarks: dict[str, None] = {}
        self._guarded = ""

    def loading(self) -> None:
        """Read the settings before the adapter is imported."""
        self._before_import = process_state.read(self._settings)

    def loaded(self, adapter: Adapter) -> None:
        """Separate the adapter's settings from the suite's, once it is imported and constructed.

        What the adapter sets then holds while its operations run, and only then. Its replacements of functions of NumPy
        and PyTorch stay; those of Python's and of the suite's are undone.
        """
        self._originals.restore()
        self._code.restore()
        current = process_state.read(self._settings)
        self._adapter = {name: value for name, value in current.items() if value != self._before_import[name]}
        process_state.restore(self._settings, self._before_import)
        self._settings |= torch_settings() | attribute_settings(adapter)
        self._modules = dict(sys.modules)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Surround code of the adapter, to which the time limit applies."""
        announcement, nested = self._announcement, self._announcement.running
        announcement.since, announcement.running = time.monotonic(), True
        try:
            yield
        finally:
            announcement.since, announcement.running = time.monotonic(), nested

    @contextmanager
    def call(self, operation: str) -> Iterator[None]:
        """Surround one call of an operation; within one of the same operation, calls are surrounded together.

        Raises:
            OperationFailed: if an earlier call ended the process.
            Inconclusive: if an earlier call did not return or ran out of memory.
        """
        if operation in self.lost:
            raise self.lost[operation].verdict()
        if operation == self._guarded:
            yield
            return
        outer, self._guarded = self._guarded, operation
        self._announcement.operation = operation.encode()
        before, threads, modules = process_state.read(self._settings), threading.active_count(), len(sys.modules)
        for name, value in self._adapter.items():
            self._settings[name].restore(value)
        try:
            yield
        finally:
            self._guarded = outer
            replaced = self._originals.restore()
            if os.getpid() != self._process:
                self._exit(0)  # a fork of the worker that returned from the operation
            during = before | self._adapter
            if len(sys.modules) != modules:
                during |= process_state.read(CHANGED_BY_IMPORTS)
            changed = [*replaced, *process_state.restore(self._settings, during)]
            for name in self._adapter:
                self._settings[name].restore(before[name])
            if changed:
                self._remark(f"{operation} changed {', '.join(changed)}; restored after the call")
            if threading.active_count() > threads:
                self._remark(f"{operation} left a thread running")
                self._announcement.threads = True

    def _remark(self, text: str) -> None:
        self._remarks[text] = None

    @contextmanager
    def clause(self) -> Iterator[list[str]]:
        """Surround the judgement of one clause, with global random states that do not depend on earlier clauses.

        Returns:
            A context manager; its list holds the remarks when it ends.
        """
        remarks: list[str] = []
        self._remarks.clear()
        self._announcement.operation = b""
        self._originals = Originals(libraries())
        with _seeded():
            yield remarks
        if any(sys.modules.get(name, self) is not module for name, module in self._modules.items()):
            sys.modules.update(self._modules)
            self._remark("an operation changed sys.modules; restored after the clause")
        remarks += self._remarks

    def tampered(self) -> list[str]:
        """Restore the suite's own code; return the names of what had been replaced."""
        return self._code.restore()


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed the global random states of Python, NumPy and torch, and restore them afterwards."""
    torch = sys.modules.get("torch")
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that operations may use
    state = None if torch is None else torch.get_rng_state()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if torch is not None:
        torch.default_generator.manual_seed(0)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(state)
