"""This commit and another, timed in turn on the same machine: two processes that each do a few rounds while the other waits."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
#: One thread, and memory that is kept: mapping it anew for every tensor takes a time of its own, a different one each time.
CALM = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}


class Missing(Exception):
    """The base commit cannot do what is measured."""


class Worker:
    """A process of `benchmarks.worker` on the implementation in a folder."""

    def __init__(self, implementation: Path) -> None:
        environment = os.environ | CALM | {"PYTHONPATH": os.fspath(implementation)}
        command = [sys.executable, "-m", "benchmarks.worker"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def minimum(self, name: str, rounds: int) -> float:
        """Of one workload's times, in seconds."""
        reply = self._ask({"name": name, "rounds": rounds})
        if "missing" in reply:
            raise Missing(reply["missing"])
        return float(reply["minimum"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        reply = self._process.stdout.readline()
        if not reply:
            raise RuntimeError(f"the process that times {request['name']!r} ended with status {self._process.wait()}")
        return json.loads(reply)


class AgainstBase:
    """Times workloads here and at another commit. A context manager.

    Args:
        revision: of git; its `impl` is measured by the benchmarks of this commit.
    """

    def __init__(self, revision: str) -> None:
        self.revision = revision

    def __enter__(self) -> "AgainstBase":
        archive = subprocess.run(["git", "archive", self.revision, "impl"], cwd=ROOT, capture_output=True, check=False)
        if archive.returncode:
            raise ValueError(f"--base must name a commit with impl/; got {self.revision!r}: {archive.stderr.decode()}")
        self._folder = TemporaryDirectory()
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(self._folder.name, filter="data")
        self._this, self._base = Worker(ROOT / "impl"), Worker(Path(self._folder.name) / "impl")
        return self

    def __exit__(self, *_: object) -> None:
        for worker in (self._this, self._base):
            worker.close()
        self._folder.cleanup()

    def __call__(self, name: str, rounds: int = 2, turns: int = 8) -> tuple[float, float]:
        """(this, base): the minimum of each, over `turns` turns of `rounds` rounds."""
        minima = [[worker.minimum(name, rounds) for worker in (self._base, self._this)] for _ in range(turns)]
        base, this = map(min, zip(*minima, strict=True))
        return this, base
