"""Definition of a regression: a counter above its record, or a time more than 15 % above that of the base commit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.counting import Counters

#: Minima of the same code differ by 1 to 8 %, by at most 16 % on a busy machine (see `timing`).
TOLERANCE: Final = 0.15
#: Number of repeated measurements of a time above the bound; the minima of all attempts are pooled.
RETRIES: Final = 3
RECORDS: Final = Path(__file__).parent / "counters"


def counter_faults(name: str, recorded: Counters, measured: Counters) -> list[str]:
    """One message for each counter above its record.

    >>> before = Counters(peak_bytes=8, saved_bytes=0, launches=2, copies=0, graphs=0)
    >>> counter_faults("time / eager", before, before._replace(copies=1))
    ['time / eager: copies must be at most 0, as recorded; got 1']
    """
    pairs = zip(Counters._fields, recorded, measured, strict=True)
    return [f"{name}: {field} must be at most {old}, as recorded; got {new}" for field, old, new in pairs if new > old]


class Record:
    """Recorded counters of all workloads for one version of torch.

    A workload without a record passes `check`, which adds one.

    Args:
        version: version of torch.
        folder: directory of the record files.
        overwrite: replace existing records instead of judging by them.
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
        """Compare the counters of a workload with their record and return the faults."""
        recorded = self.counters.get(name)
        if recorded is None or (self.overwrite and recorded != measured):
            self.new.append(name)
            self.counters[name] = measured
            return []
        if any(new < old for old, new in zip(recorded, measured, strict=True)):
            self.lower.append(name)
        return counter_faults(name, recorded, measured)

    def save(self) -> None:
        """Write the file if there are new records; counters below the record do not change it."""
        if self.new:
            self.path.parent.mkdir(exist_ok=True)
            entries = {name: counters._asdict() for name, counters in sorted(self.counters.items())}
            self.path.write_text(json.dumps(entries, indent=1) + "\n")

    def notes(self) -> list[str]:
        """Remarks for the summary: workloads without a record, and counters below it."""
        notes = []
        if self.new:
            notes.append(f"recorded, not judged: {len(self.new)} workloads without an entry in {self.path.name}")
        if self.lower:
            notes.append(f"below the record, which --record would lower: {', '.join(self.lower)}")
        return notes


class Pace(NamedTuple):
    """Time relative to the base commit, and a message if the ratio is above the bound."""

    ratio: float
    fault: str | None


def pace(name: str, measure: Callable[[], tuple[float, float]]) -> Pace:
    """Compare this commit with its base.

    Args:
        name: label of the workload in the message.
        measure: times both commits alternately and returns their minima (this, base) in seconds; called again up to
            `RETRIES` times while the ratio is above the bound.

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
