"""results.json of `dreamer4-train all`: what was run, how long it took, and what the evaluation measured."""

import json
import os
import platform
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from rich.console import Console
from rich.table import Table as Grid

from dreamer4_impl.checkpoints.toml import Table, flattened
from dreamer4_impl.durable import read_json, write_text
from dreamer4_impl.training.sequence.options import SequenceOptions
from dreamer4_impl.training.sequence.stages import Stage, play_command

RESULTS: Final = "results.json"
FORMAT: Final = "dreamer4-sequence"
VERSION: Final = 1
EVALUATION: Final = "evaluation.json"
"""Output of the evaluation in its directory."""
REPEATED: Final = ("measures", "skipped", "notes", "bars", "seconds")
"""Entries of evaluation.json that results.json repeats; the remaining ones are paths and settings."""
SHOWN: Final = ("imagined.", "returns.", "game.")
"""Beginnings of the measures in the table at the end of a sequence; results.json has all."""


class Results:
    """Results of a sequence, in a file that is replaced after every change.

    Args:
        sequence: settings of the sequence. Results of an earlier attempt are continued.

    Attributes:
        table: content of the file.

    Raises:
        ValueError: if the file is damaged or of another format.
    """

    def __init__(self, sequence: SequenceOptions) -> None:
        self.path = sequence.run / RESULTS
        earlier = self._read()
        self.table: Table = {
            "format": FORMAT,
            "version": VERSION,
            "config": sequence.config,
            "game": sequence.game,
            "seed": sequence.seed,
            "versions": _versions(),
            "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
            "stages": earlier.get("stages", {}),
            "evaluation": earlier.get("evaluation"),
            "play": play_command(sequence),
        }

    def is_finished(self, stage: Stage) -> bool:
        """Look up whether a stage has finished with its present settings.

        Args:
            stage: stage of the sequence.

        Returns:
            True if it is skipped. A finished evaluation with other settings is repeated.

        Raises:
            ValueError: if another stage was begun with other settings; the message has the first difference.
        """
        record = self.table["stages"].get(stage.name)
        if record is None:
            return False
        difference = _difference(record["settings"], stage.settings)
        if difference and stage.name != "evaluation":
            raise ValueError(
                f"{stage.directory} was begun with other settings: {difference}. Name another --run, or repeat the "
                "command as it was"
            )
        return bool(record["finished"]) and not difference

    def begin(self, stage: Stage) -> None:
        """Note that a stage starts, or continues.

        Args:
            stage: stage of the sequence.

        Raises:
            OSError: if the file cannot be written.
        """
        new = {"attempts": 0, "timed_attempts": 0, "wall_seconds": 0.0, "cpu_seconds": 0.0}
        record = self.table["stages"].setdefault(stage.name, new)
        record |= {"settings": stage.settings, "finished": False, "attempts": record["attempts"] + 1}
        self._write()

    def end(self, stage: Stage, wall: float, cpu: float, *, finished: bool) -> None:
        """Note the time of an attempt, and the measures of an evaluation.

        Args:
            stage: stage that has begun.
            wall: wall-clock time, seconds.
            cpu: processor time of all threads and processes, seconds.
            finished: True if the stage is complete.

        Raises:
            OSError: if a file cannot be read or written.
            ValueError: if the evaluation cannot be read.
        """
        record = self.table["stages"][stage.name]
        record |= {"finished": finished, "timed_attempts": record["timed_attempts"] + 1}
        for name, seconds in (("wall_seconds", wall), ("cpu_seconds", cpu)):
            record[name] = round(record[name] + seconds, 2)
        if finished and stage.name == "evaluation":
            evaluation = read_json(stage.directory / EVALUATION)
            self.table["evaluation"] = {name: evaluation[name] for name in REPEATED}
        self._write()

    def seconds(self, stage: Stage) -> str:
        """Describe the time of a stage.

        Args:
            stage: stage that has begun.

        Returns:
            Wall-clock and processor time of the attempts whose end was seen, h:mm:ss.
        """
        record = self.table["stages"][stage.name]
        wall, cpu = (timedelta(seconds=round(record[name])) for name in ("wall_seconds", "cpu_seconds"))
        killed = record["attempts"] - record["timed_attempts"]
        return f"{wall} (CPU {cpu})" + (f", without {killed} killed before the end" if killed else "")

    def missed(self) -> list[Table]:
        """List the bars that the evaluation has missed.

        Returns:
            Verdicts, as in evaluation.json.
        """
        return [bar for bar in (self.table["evaluation"] or {}).get("bars", []) if not bar["met"]]

    def show(self, console: Console) -> None:
        """Print times, returns, missed bars and the command that plays.

        Args:
            console: where to print.
        """
        grid = Grid(title=str(self.path), title_justify="left")
        for column in ("", "wall", "CPU"):
            grid.add_column(column, justify="left" if not column else "right")
        for name, record in self.table["stages"].items():
            wall, cpu = (str(timedelta(seconds=round(record[key]))) for key in ("wall_seconds", "cpu_seconds"))
            grid.add_row(name, wall, cpu)
        console.print(grid)
        evaluation = self.table["evaluation"] or {"measures": {}}
        for name, measure in evaluation["measures"].items():
            if name.startswith(SHOWN):
                console.print(f"{name:24} {_interval(measure)}", markup=False, highlight=False)
        for bar in self.missed():
            console.print(f"missed: {bar['bar']}", markup=False, highlight=False)
        console.print(f"play: {self.table['play']}", markup=False, highlight=False, soft_wrap=True)

    def _read(self) -> Table:
        try:
            table = read_json(self.path)
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from error
        if not isinstance(table, dict) or (table.get("format"), table.get("version")) != (FORMAT, VERSION):
            raise ValueError(f"{self.path} is not a file of this version of dreamer4-train: name another --run")
        return table

    def _write(self) -> None:
        write_text(self.path, json.dumps(self.table, indent=1, ensure_ascii=False) + "\n")


def _difference(earlier: Table, now: Table) -> str:
    before, after = dict(flattened(earlier)), dict(flattened(now))
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name) != after.get(name):
            return f"{name} was {json.dumps(before.get(name))}, is {json.dumps(after.get(name))}"
    return ""


def _interval(measure: Table) -> str:
    """Value and 95 % interval; null where it is not a number."""
    value, low, high = (_number(measure[name]) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}], n = {measure['n']}"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | int) else str(value)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("dreamer4-conformance", "torch", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a source tree that is not installed
            versions[package] = "unknown"
    return versions
