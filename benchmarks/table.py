"""Summary table of a benchmark run."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from benchmarks.counting import Counters


@dataclass(frozen=True)
class Row:
    """Measurements of one workload; None for those that were not taken.

    Args:
        case, contender: names of the workload's case and contender.
        speed: speed relative to the baseline, from minima of alternating calls.
        ceiling: least possible time divided by the measured time.
        counters: counters of one call.
        base: time relative to the base commit.
        faults: messages of the guard; empty if the workload passes.
    """

    case: str
    contender: str
    speed: float | None = None
    ceiling: float | None = None
    counters: Counters | None = None
    base: float | None = None
    faults: tuple[str, ...] = ()


def table(rows: Iterable[Row]) -> Table:
    """Table with one line per row and a separator between cases."""
    drawn = Table(
        title="× eager: speed relative to eager · ceiling: least possible time / time · guard: compared with the record"
    )
    for name in ("case", "contender"):
        drawn.add_column(name, no_wrap=True)
    for name in ("× eager", "ceiling", "peak MB", "saved MB", "launches", "copies", "graphs", "time / base", "guard"):
        drawn.add_column(name, justify="right", no_wrap=True)
    case = None
    for row in rows:
        if case not in (None, row.case):
            drawn.add_section()
        drawn.add_row(*_cells(row, repeated=case == row.case), style="red" if row.faults else None)
        case = row.case
    return drawn


def _cells(row: Row, *, repeated: bool) -> list[str]:
    counted = ["–"] * 5
    if row.counters:
        peak, saved, *rest = row.counters
        counted = [f"{peak / 1e6:.2f}", f"{saved / 1e6:.2f}", *map(str, rest)]
    return [
        "" if repeated else row.case,
        row.contender,
        _number(row.speed, ".2f"),
        _number(row.ceiling, ".0%"),
        *counted,
        _number(row.base, ".2f"),
        "FAILED" if row.faults else "ok",
    ]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
