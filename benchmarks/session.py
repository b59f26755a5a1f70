"""Session of the benchmarks: checks the result of each workload, then its counters, then its time."""

from typing import Any

import torch

from benchmarks.base import AgainstBase, Missing
from benchmarks.counting import count
from benchmarks.guard import Pace, Record, pace
from benchmarks.table import Row
from benchmarks.timing import Interleaved, calibrator, copy, once
from benchmarks.workload import Workload
from benchmarks.workloads import baseline

#: Time for the rounds of one workload in seconds, and bounds of their number.
BUDGET, FEWEST, MOST = 2.0, 5, 30


class Session:
    """One run of the benchmarks.

    Args:
        record: recorded counters of this version of torch.
        base: times workloads at this commit and at a base commit; None if times are not judged.
    """

    def __init__(self, record: Record, base: AgainstBase | None = None) -> None:
        self.record, self.base = record, base
        self.rows: list[Row] = []
        self.notes: list[str] = []

    def judge(self, workload: Workload, benchmark: Any) -> list[str]:
        """Measure a workload, add its row to the table, and return its faults.

        Raises:
            NotImplementedError: if the contender does not support the case.
            AssertionError: if its result is wrong.
        """
        workload.require_correct()
        counters = count(workload.build)
        faults = self.record.check(workload.name, counters)
        speed, ceiling = self._time(workload, benchmark)
        compared = self._compare(workload)
        if compared and compared.fault:
            faults.append(compared.fault)
        base = compared.ratio if compared else None
        benchmark.extra_info.update(counters._asdict(), speed=speed, ceiling=ceiling, base=base)
        self.rows.append(Row(workload.case, workload.contender, speed, ceiling, counters, base, tuple(faults)))
        return faults

    def _time(self, workload: Workload, benchmark: Any) -> tuple[float | None, float | None]:
        """Speed relative to the baseline, timed alternately, and the fraction of the ceiling reached."""
        run, reference = workload.build(), baseline(workload)
        baselines = {"baseline": reference.build()} if reference else {}
        turn = Interleaved({"calibrator": calibrator(), "copy": copy(), **baselines})
        turn()
        rounds = int(min(MOST, max(FEWEST, BUDGET / (once(run) + sum(turn.minima.values())))))
        benchmark.pedantic(run, setup=turn, rounds=rounds, warmup_rounds=1)
        if benchmark.stats is None:
            return None, None
        shortest = benchmark.stats.stats.min
        benchmark.extra_info["calibrated"] = shortest / turn.minima["calibrator"]
        speed = turn.minima["baseline"] / shortest if reference else None
        return speed, workload.floor.seconds(turn.minima) / shortest if workload.floor else None

    def _compare(self, workload: Workload) -> Pace | None:
        """Time relative to the base commit; None without a base or if the base does not support the workload."""
        if self.base is None:
            return None
        base = self.base
        try:
            return pace(workload.name, lambda: base(workload.name))
        except Missing as reason:
            self.notes.append(f"{workload.name}: not at {base.revision}: {str(reason).splitlines()[0][:120]}")
            return None


def version() -> str:
    """Key of the recorded counters: the version of torch."""
    return str(torch.__version__)
