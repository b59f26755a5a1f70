"""Where an adapter's code runs: in a worker process, or in this one.

A `Worker` survives an adapter that exits, crashes or hangs. `Contained` is the same in one process; the worker runs it,
and it judges live objects where a worker cannot be forked.
"""

from __future__ import annotations

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.guard import Guard
from dreamer4_conformance.isolation.contained import Conditions, Contained
from dreamer4_conformance.isolation.worker import Worker, device_of, is_forkable

IN_PROCESS = "none: the process of the caller has several threads or uses a GPU, and cannot be forked"

Judge = Contained | Worker


def start(source: str | Adapter | type[Adapter], conditions: Conditions) -> Judge:
    """Load an adapter, in a worker if possible.

    Args:
        source: `module:attr` or `file.py:attr`, which a worker imports, so that this process never runs the adapter's
            code; or an adapter or its class, which a worker inherits if this process can be forked.
        conditions: of the run.

    Returns:
        What judges its clauses. The caller closes it.

    Raises:
        AdapterError: if the adapter is unusable; the message says what to change.
    """
    if isinstance(source, str) or is_forkable(device_of(source, conditions)):
        return Worker(source, conditions)
    return Contained(source, conditions, Guard(traceback=conditions.traceback), IN_PROCESS)
