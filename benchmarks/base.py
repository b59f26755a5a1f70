"""Comparison of this commit with a base commit: two processes run a few rounds each while the other one waits."""

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
#: One thread, and an allocator that keeps freed memory: mapping memory for every tensor takes a varying time.
CALM = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}


class Missing(Exception):
    """The base commit does not support the workload."""


class Worker:
    """Process that runs `benchmarks.worker` with the implementation in a folder."""

    def __init__(self, implementation: Path) -> None:
        environment = os.environ | CALM | {"PYTHONPATH": os.fspath(implementation)}
        command = [sys.executable, "-m", "benchmarks.worker"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def minimum(self, name: str, rounds: int) -> float:
        """Shortest time of a workload, in seconds."""
        reply = self._request({"name": name, "rounds": rounds})
        if "missing" in reply:
            raise Missing(reply["missing"])
        return float(reply["minimum"])

    def close(self) -> None:
        """Close the input of the process and wait for its end."""
        self._process.communicate()

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        reply = self._process.stdout.readline()
        if not reply:
            raise RuntimeError(f"the process that times {request['name']!r} ended with status {self._process.wait()}")
        return json.loads(reply)


class AgainstBase:
    """Context manager that times workloads at this commit and at a base commit.

    Args:
        revision: base commit; its `impl` is measured by the benchmarks of this commit.
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
        """(this, base): shortest times in seconds over `turns` alternations of `rounds` rounds."""
        this, base = map(min, zip(*(self.turn(name, name, rounds) for _ in range(turns)), strict=True))
        return this, base

    def turn(self, this: str, base: str, rounds: int = 1) -> tuple[float, float]:
        """(this, base): shortest time in seconds of one workload at each commit, the base's measured first.

        Raises:
            Missing: if a commit does not support its workload.
        """
        earlier = self._base.minimum(base, rounds)
        return self._this.minimum(this, rounds), earlier
