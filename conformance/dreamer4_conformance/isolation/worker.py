"""A worker process that imports an adapter and judges its clauses, and is replaced when the adapter's code ends it.

The worker announces each operation before it calls it. If it then ends or does not return within the time limit, a new
worker judges the clause again without that operation: a time-out or exhausted memory leaves the clauses that need the
operation undecided, anything else fails them. Clauses are judged from the run's seed alone, so that a verdict does not
depend on what an earlier worker did.

A worker is forked from this process, which has imported the suite, where that is safe: in a process of one thread that
has not used CUDA. Elsewhere (Windows, macOS, a process of several threads) it is a new interpreter, which imports the
suite again. Either way the worker makes its own CUDA context.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from json import dumps, loads
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.clauses import BY_ID, Clause
from dreamer4_conformance.instruments.faults import describe_error
from dreamer4_conformance.instruments.guard import Announcement, Guard, Lost
from dreamer4_conformance.isolation.contained import Conditions, Contained, Declared
from dreamer4_conformance.report.document import from_row, to_row
from dreamer4_conformance.runner import against_expectation
from dreamer4_conformance.threads import on_gpu
from dreamer4_conformance.verdicts import AdapterError, Result, Status

POLLING = 0.2
"""Seconds between two looks at a silent worker: a process that it has started may hold its connection open."""
LONGEST = 2**28
"""Number of bytes of a reply; more than that is no reply, but something that the adapter has written."""
JUDGING = 300.0
"""Seconds that the suite may compute between two calls of the adapter's code, in addition to the time limit."""


@dataclass
class WorkerLost(Exception):
    """The worker ended, or was ended after the time limit.

    Attributes:
        operation: the operation announced last; empty if there was none.
        reason: what happened, without a subject.
        undecided: whether the clause is inconclusive rather than failed.
    """

    operation: str
    reason: str
    undecided: bool


class Worker:
    """An adapter in a process of its own."""

    def __init__(self, source: str | Adapter | type[Adapter], conditions: Conditions) -> None:
        """Start the worker and load the adapter.

        Raises:
            AdapterError: if the adapter is unusable, or its import or constructor ends the process or does not return.
        """
        self._source, self._conditions = source, conditions
        self._lost: dict[str, Lost] = {}
        self._start()
        atexit.register(self.close)

    def _start(self) -> None:
        import_torch(self._source)  # before the fork, so that a new worker need not
        method = "fork" if is_forkable(device_of(self._source, self._conditions)) else "spawn"
        context: Any = multiprocessing.get_context(method)
        self._connection, other_end = context.Pipe()
        inherited = self._connection if method == "fork" else None
        self._announcement = context.RawValue(Announcement)
        self._announcement.since = time.monotonic()
        arguments = (self._source, self._conditions, self._lost, self._announcement, other_end, inherited)
        self._process = context.Process(target=serve, args=arguments)
        self._out_of_memory = _out_of_memory_kills()
        with catch_warnings():
            filterwarnings("ignore", r".*fork\(\)")  # JAX warns of every fork once it is imported
            self._process.start()
        other_end.close()
        try:
            reply = self._receive()
        except WorkerLost as lost:
            raise AdapterError(f"the adapter cannot be loaded: its import or constructor {lost.reason}") from None
        if "refused" in reply:
            self._end()
            raise AdapterError(reply["refused"])
        self.declared = Declared(**reply["declared"])

    def judge(self, clause: Clause) -> Result:
        """Judge one clause that has a check; as `Contained.judge`.

        Raises:
            AdapterError: if a new worker is needed and cannot load the adapter.
        """
        repeated = False
        while True:
            try:
                self._connection.send_bytes(clause.id.encode())
                return from_row(self._receive()["row"])
            except (WorkerLost, OSError) as error:
                lost = error if isinstance(error, WorkerLost) else self._lost_worker()
            if self._announcement.threads and not repeated:
                repeated = True  # a new worker does not have the thread that an earlier operation left
            elif lost.operation and lost.operation not in self._lost:
                self._lost[lost.operation] = Lost(f"{lost.operation} {lost.reason}", lost.undecided)
            else:
                self._start()
                return self._outside_of_operations(clause, lost)
            self._start()

    def _outside_of_operations(self, clause: Clause, lost: WorkerLost) -> Result:
        status = Status.INCONCLUSIVE if lost.undecided else Status.FAIL
        message = f"the adapter's code {lost.reason}"
        result = Result(clause.id, clause.equation, clause.kind, status, message=message)
        return against_expectation(self.declared.expected_failures, result)

    def _receive(self) -> dict[str, Any]:
        """The next reply. Raises WorkerLost if the worker ends or exceeds the time limit."""
        while not self._connection.poll(POLLING):
            if self._process.exitcode is not None:
                raise self._lost_worker()
            limit = self._conditions.time_limit
            allowed = limit if self._announcement.running else limit + JUDGING
            if time.monotonic() > self._announcement.since + allowed:
                self._end()
                reason = f"did not return within {allowed:g} s and is not called again"
                raise WorkerLost(self._announcement.operation.decode(), reason, True)
        try:
            reply: dict[str, Any] = loads(self._connection.recv_bytes(LONGEST))
        except (EOFError, OSError, ValueError):
            raise self._lost_worker() from None
        return reply

    def _lost_worker(self) -> WorkerLost:
        operation = self._announcement.operation.decode()
        code, deadline = self._process.exitcode, time.monotonic() + 1
        while code is None and time.monotonic() < deadline:  # `join` would wait for a worker that has closed its files
            time.sleep(0.01)
            code = self._process.exitcode
        self._end()
        if code is not None and code < 0 and _out_of_memory_kills() > self._out_of_memory:
            return WorkerLost(operation, "ran out of memory: the system ended the process", True)
        manner = "closed its connection" if code is None else f"exit status {code}"
        if code is not None and code < 0:
            manner = signal.Signals(-code).name
        return WorkerLost(operation, f"ended the process ({manner}) and is not called again", False)

    def _end(self) -> None:
        """Kill the worker and the processes that the adapter has started."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._connection.close()

    def close(self) -> None:
        """End the worker. It must not be used afterwards."""
        atexit.unregister(self.close)
        if not self._connection.closed:
            self._end()


# The worker's side


def serve(
    source: str | Adapter | type[Adapter],
    conditions: Conditions,
    lost: dict[str, Lost],
    announcement: Announcement,
    connection: Connection,
    inherited: Connection | None,
) -> None:
    """Load the adapter, then judge each clause whose id arrives, until the connection is closed.

    Args:
        source: as in `Worker`.
        conditions: of the run.
        lost: operations that are not called any more.
        announcement: shared with the process that reports.
        connection: to the process that reports.
        inherited: the other end, which a fork inherits and closes.
    """
    if inherited is not None:
        inherited.close()
    _detach()
    import_torch(source)  # in a new interpreter, before the time limit applies
    if isinstance(source, str):  # an object may hold open files
        _close_inherited(connection)

    def reply(**message: Any) -> None:
        connection.send_bytes(dumps(message).encode())

    guard = Guard(announcement, lost, traceback=conditions.traceback, isolated=True)
    exit_process = os._exit  # without the handlers that the adapter has registered
    announcement.since, announcement.running = time.monotonic(), True
    try:
        contained = Contained(source, conditions, guard, "a worker process")
        if not on_gpu(str(contained.declared.environment["device"])):
            _limit_memory()
        announcement.since, announcement.running = time.monotonic(), False
        reply(declared=asdict(contained.declared))
    except AdapterError as error:
        reply(refused=str(error))
        exit_process(0)
    except BaseException as error:
        reply(refused=f"importing or constructing the adapter raised {describe_error(error)}")
        exit_process(0)
    while True:
        try:
            clause = connection.recv_bytes().decode()
        except EOFError:
            exit_process(0)
        reply(row=to_row(contained.judge(BY_ID[clause])))


def _detach() -> None:
    """Form a process group, which can be ended as a whole, and end with the process that reports."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    with suppress(OSError):
        os.dup2(2, 1)  # the report is written to standard output, so that what the adapter prints goes elsewhere


def _close_inherited(connection: Connection) -> None:
    """Close the files of the process that reports, its report files for example, in a fork of it."""
    used = {connection.fileno()}
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with suppress(Exception):  # None, or a stream without a descriptor
            used.add(stream.fileno())
    with suppress(OSError):
        for number in map(int, os.listdir("/proc/self/fd")):
            if number > 2 and number not in used:
                with suppress(OSError):
                    os.close(number)


def _limit_memory() -> None:
    """Let an allocation beyond the physical memory fail, rather than the whole machine."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (physical, hard))


# This process


def device_of(source: str | Adapter | type[Adapter], conditions: Conditions) -> str | None:
    """Device on which an adapter will compute; None if it is known only after its import."""
    device = conditions.device
    with suppress(Exception):  # validation reports what is wrong with the attribute
        device = device or (None if isinstance(source, str) else source.device)
    return device if isinstance(device, str) else None


def import_torch(source: str | Adapter | type[Adapter]) -> None:
    """Import torch, if it is installed, for an adapter that may use it."""
    if may_use_torch(source):
        with suppress(ImportError):
            import torch  # noqa: F401


def may_use_torch(source: str | Adapter | type[Adapter]) -> bool:
    """False for an adapter's file that names JAX and not PyTorch, whose import takes more than a second of CPU time.

    Args:
        source: as in `Worker`.
    """
    path = Path(source.rpartition(":")[0]) if isinstance(source, str) else Path()
    try:
        text = path.read_text("utf-8").lower() if path.is_file() else ""
    except (OSError, ValueError):  # loading the adapter reports it
        return True
    return "jax" not in text or "torch" in text


def is_forkable(device: str | None = "cpu") -> bool:
    """True if this process can be forked: one thread, apart from those of NumPy's BLAS, and no use of CUDA.

    Args:
        device: on which the worker computes; None if it is not known yet. On a CPU, a driver that is loaded is no
            obstacle; a context is.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return False
    try:
        threads = len(os.listdir("/proc/self/task"))
        libraries = Path("/proc/self/maps").read_text()
    except OSError:
        return False
    if "libcuda.so" in libraries and (device is None or on_gpu(device)):
        return False  # looking for a GPU, as `torch.cuda.is_available` does, already keeps a fork from using it
    return threads == 1 or ("openblas" in libraries and threads <= _blas_threads())


def _blas_threads() -> int:
    """Threads that NumPy's OpenBLAS starts when it is imported; it handles a fork itself."""
    chosen = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    return int(chosen) if chosen.isdecimal() else len(os.sched_getaffinity(0))


def _out_of_memory_kills() -> int:
    """Number of processes that the system has killed because memory was exhausted."""
    try:
        counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(counters.get("oom_kill", 0))
