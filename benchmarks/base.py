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

from benchmarks.timing import Sample

ROOT = Path(__file__).parents[1]


class Missing(Exception):
    """The base commit cannot do what is measured."""


class Worker:
    """A process of `benchmarks.worker` on the implementation in a folder."""

    def __init__(self, implementation: Path) -> None:
        environment = os.environ | {"PYTHONPATH": os.fspath(implementation), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks.worker"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def sample(self, name: str, rounds: int) -> Sample:
        """Minima of one workload."""
        reply = self._ask({"name": name, "rounds": rounds})
        if "missing" in reply:
            raise Missing(reply["missing"])
        return Sample(**reply)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
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
        self._folder = TemporaryDirectory()

    def __enter__(self) -> "AgainstBase":
        archive = subprocess.run(["git", "archive", self.revision, "impl"], cwd=ROOT, capture_output=True, check=False)
        if archive.returncode:
            raise ValueError(f"--base must name a commit with impl/; got {self.revision!r}: {archive.stderr.decode()}")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(self._folder.name, filter="data")
        self._this, self._base = Worker(ROOT / "impl"), Worker(Path(self._folder.name) / "impl")
        return self

    def __exit__(self, *_: object) -> None:
        for worker in (self._this, self._base):
            worker.close()
        self._folder.cleanup()

    def __call__(self, name: str, rounds: int = 3, turns: int = 4) -> tuple[Sample, Sample]:
        """(this, base), each the minima of `turns` turns of `rounds` rounds."""
        this, base = self._this.sample(name, rounds), self._base.sample(name, rounds)
        for _ in range(turns - 1):
            this = this.pooled(self._this.sample(name, rounds))
            base = base.pooled(self._base.sample(name, rounds))
        return this, base
