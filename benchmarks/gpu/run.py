"""Run of steps: each row within its budget, all rows within the time limit of the run."""

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue

from benchmarks.gpu.plan import STAGES, Step, assigned
from benchmarks.gpu.report import FAILED, Row
from benchmarks.gpu.results import Results
from benchmarks.gpu.rows import Worker

#: Remaining seconds below which no row is started.
LEAST = 5.0


class Run:
    """Measures steps in three rounds: those with a limit, then rows not reached, then failed rows a second time.

    Args:
        steps: steps of the run, the most valuable first.
        smoke: True for tiny sizes on a CPU.
        seconds: time limit of the run.
        log: file to which progress and the output of rows are appended.
    """

    def __init__(self, steps: Sequence[Step], smoke: bool, seconds: float, log: Path) -> None:
        self.smoke, self.log, self.deadline = smoke, log, time.monotonic() + seconds
        self.steps, self.stages = steps, list(dict.fromkeys(step.stage for step in steps))
        #: Idle workers, kept for later steps: a start takes seconds, and a worker holds no tensors between rows.
        self._idle: list[Worker] = []

    def measure(self, directory: Path) -> Results:
        """Measure every row; the file in `directory` is up to date after each.

        Args:
            directory: directory of the results; those of earlier runs on the same day are merged.

        Returns:
            The results of this run.
        """
        self._say(f"== {', '.join(self.stages)}: {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        worker = self._worker()
        steps = list(assigned(worker.planned, self.steps))
        selected = sorted(index for _, indices in steps for index in indices)
        results = Results(directory, worker.environment(), {index: worker.planned[index] for index in selected})
        self._idle.append(worker)
        for step, indices in steps:
            if step.seconds is not None:
                self._batch(step, indices, results, step.seconds)
        for status in (("not reached",), FAILED):
            for step, indices in steps:
                self._batch(step, [index for index in indices if results.rows[index]["status"] in status], results)
        for worker in self._idle:
            worker.end()
        return results

    def _batch(self, step: Step, indices: Sequence[int], results: Results, seconds: float = float("inf")) -> None:
        """Measure rows of a step, several at the same time where its stage allows it; start none after `seconds`."""
        queue: SimpleQueue[int] = SimpleQueue()
        for index in indices:
            queue.put(index)
        end = min(time.monotonic() + seconds, self.deadline - LEAST)
        # A rehearsal measures nothing, and a second process would import torch once more.
        count = 1 if self.smoke else min(STAGES[step.stage], len(indices))
        threads = [threading.Thread(target=self._empty, args=(queue, results, end)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _empty(self, queue: "SimpleQueue[int]", results: Results, end: float) -> None:
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = None
        while time.monotonic() < end:
            try:
                index = queue.get_nowait()
            except Empty:
                break
            row = results.rows[index]
            label = f"{row['stage']}: {row['group']}: {row['name']}"
            self._say(f"{label}: begins")
            try:
                if worker is None or not worker.usable:
                    worker = self._worker()
                outcome = self._outcome(worker, index, row["budget"])
            except RuntimeError as error:
                outcome = {"status": "died", "error": str(error)}
            results.put(index, outcome)
            self._say(f"{label}: {outcome['status']} after {outcome.get('seconds')} s")
        if worker is not None and worker.usable:
            self._idle.append(worker)

    def _outcome(self, worker: Worker, index: int, budget: float) -> Row:
        """Outcome within the budget; "cut off" instead of "timed out" if the end of the run shortened the budget."""
        remaining = self.deadline - time.monotonic()
        outcome = worker.measure(index, min(budget, remaining))
        cut = outcome["status"] == "timed out" and remaining < budget
        return {"status": "cut off", "seconds": outcome["seconds"]} if cut else outcome

    def _worker(self) -> Worker:
        return Worker(self.stages, self.smoke, self.log)

    def _say(self, text: str) -> None:
        print(text, flush=True)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(text + "\n")
