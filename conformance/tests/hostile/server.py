"""Run the command on request in a fork of this process, which has imported the suite: a line of JSON in, one out.

Each run is the leader of a session of its own, so that processes that it leaves behind can be found and ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import dreamer4_conformance.run_report
import dreamer4_conformance.zoo.base
import dreamer4_conformance.zoo.mistakes  # noqa: F401
from dreamer4_conformance.cli import main


def run(folder: str, arguments: list[str], seconds: float) -> dict[str, object]:
    """Run the command in a folder, with its output in the files `out` and `err`.

    Args:
        folder: working directory.
        arguments: of the command.
        seconds: after which the run is ended.

    Returns:
        "status": exit status, negative for a signal, None if the run was ended; "left": number of processes that the
        run left behind.
    """
    process = os.fork()
    if process == 0:
        os.setsid()
        os.chdir(folder)
        for descriptor, name in enumerate((os.devnull, "../out", "../err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), descriptor)
        os._exit(main(arguments))
    deadline, status = time.monotonic() + seconds, None
    while status is None and time.monotonic() < deadline:
        ended, code = os.waitpid(process, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if ended else None
        time.sleep(0.01)
    left = [member for member in members(process) if member != process]
    for member in {*left, *([process] if status is None else [])}:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    if status is None:
        os.waitpid(process, 0)
    return {"status": status, "left": len(left)}


def members(session: int) -> list[int]:
    """Processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, number = stat.read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                found.append(int(stat.parent.name))
    return found


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and what the adapters send would have no effect
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
