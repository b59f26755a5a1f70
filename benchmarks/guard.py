"""What counts as a regression: any counter above the recorded one, or a time more than 15 % above the base commit's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.counting import Counters

#: Minima of the same code differ by 1 to 8 %, on a busy machine by 16 % at worst (`timing`).
TOLERANCE: Final = 0.15
#: How often a time that is too long is measured again; the minima of all attempts are pooled.
RETRIES: Final = 3
RECORDS: Final = Path(__file__).parent / "counters"


def counter_faults(name: str, recorded: Counters, measured: Counters) -> list[str]:
    """One sentence for each counter that went up.

    >>> before = Counters(peak_bytes=8, saved_bytes=0, launches=2, copies=0, graphs=0)
    >>> counter_faults("time / eager", before, before._replace(copies=1))
    ['time / eager: copies must be at most 0, as recorded; got 1']
    """
    pairs = zip(Counters._fields, recorded, measured, strict=True)
    return [f"{name}: {field} must be at most {old}, as recorded; got {new}" for field, old, new in pairs if new > old]


class Record:
    """Recorded counters by workload, of one version of torch.

    What is not recorded yet is recorded by `check`, and does not fail.

    Args:
        version: of torch.
        folder: where the records are.
        overwrite: record everything anew.
    """

    def __init__(self, version: str, folder: Path = RECORDS, *, overwrite: bool = False) -> None:
        self.path, self.overwrite = folder / f"{version}.json", overwrite
        self.counters: dict[str, Counters] = {}
        if self.path.exists():
            entries = json.loads(self.path.read_text())
            self.counters = {name: Counters(**entry) for name, entry in entries.items()}
        self.new: list[str] = []
        self.lower: list[str] = []

    def check(self, name: str, measured: Counters) -> list[str]:
        """Faults of one workload."""
        recorded = self.counters.get(name)
        if recorded is None or (self.overwrite and recorded != measured):
            self.new.append(name)
            self.counters[name] = measured
            return []
        if any(new < old for old, new in zip(recorded, measured, strict=True)):
            self.lower.append(name)
        return counter_faults(name, recorded, measured)

    def save(self) -> None:
        """Write what was recorded newly, and nothing else."""
        if self.new:
            self.path.parent.mkdir(exist_ok=True)
            entries = {name: counters._asdict() for name, counters in sorted(self.counters.items())}
            self.path.write_text(json.dumps(entries, indent=1) + "\n")

    def notes(self) -> list[str]:
        """What a reader should know although nothing failed."""
        notes = []
        if self.new:
            notes.append(f"recorded, not judged: {len(self.new)} workloads without an entry in {self.path.name}")
        if self.lower:
            notes.append(f"below the record, which --record would lower: {', '.join(self.lower)}")
        return notes


class Pace(NamedTuple):
    """How a time compares with the base commit's: its multiple, and a sentence if that is too much."""

    ratio: float
    fault: str | None


def pace(name: str, measure: Callable[[], tuple[float, float]]) -> Pace:
    """Compare this commit with its base.

    Args:
        name: of the workload.
        measure: times both in turn and returns their minima, (this, base); called again, up to `RETRIES` times, while this
            is too slow.

    >>> pace("time / eager", lambda: (1.3, 1.0)).fault
    'time / eager: time must be at most 1.15 of the base commit; got 1.30 in 4 attempts'
    """
    this, base = measure()
    for _ in range(RETRIES):
        if this <= (1 + TOLERANCE) * base:
            break
        this, base = map(min, (this, base), measure())
    if this <= (1 + TOLERANCE) * base:
        return Pace(this / base, None)
    bound = f"at most {1 + TOLERANCE:.2f} of the base commit"
    return Pace(this / base, f"{name}: time must be {bound}; got {this / base:.2f} in {1 + RETRIES} attempts")
