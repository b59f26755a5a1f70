"""The command `dreamer4-train all`: from a game to an evaluated agent."""

import argparse
import json
import resource
import shlex
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dreamer4_impl.durable import DirectoryLock, InUseError, remove_partials
from dreamer4_impl.training.log import Log
from dreamer4_impl.training.sequence.options import SequenceOptions, sequence_options, sources
from dreamer4_impl.training.sequence.processes import Processes, signals_passed_on
from dreamer4_impl.training.sequence.results import EVALUATION, Results
from dreamer4_impl.training.sequence.stages import Stage, stages

PATIENCE = 60.0
"""Seconds to wait for a process that still uses the directory of a stage, as after its parent was killed."""


def run_sequence(options: argparse.Namespace) -> int:
    """Run the stages that have not finished.

    Args:
        options: parsed command line.

    Returns:
        Exit status, as in the help text.

    Raises:
        DatasetError: if the game cannot be opened or a dataset cannot be used.
        InUseError: if another process uses the directory of the sequence or of a stage.
        OSError: if a file cannot be read or written.
        ValueError: if a setting is wrong, or differs from that of a stage that has begun.
    """
    sequence = sequence_options(options)
    if options.dry_run:
        print(describe(sequence, options))
        return 0
    with DirectoryLock(options.run), signals_passed_on() as processes:
        remove_partials(options.run)
        log, results, plan = Log(options.run), Results(sequence), stages(sequence)
        unfinished = [stage for stage in plan if not results.is_finished(stage)]
        for number, stage in enumerate(plan, start=1):
            label = f"[{number}/{len(plan)}] {stage.name}"
            if stage not in unfinished:
                log.write(f"{label}: finished before, in {results.seconds(stage)}")
            elif status := _run_stage(stage, label, processes, results, log):
                return status
        results.show(Console())
        return int(bool(results.missed()))


def describe(sequence: SequenceOptions, options: argparse.Namespace) -> str:
    """Describe the stages: state, command, and settings with their sources.

    Args:
        sequence: settings of the sequence.
        options: parsed command line.

    Returns:
        Text of many lines.

    Raises:
        ValueError: if the results of an earlier attempt cannot be continued.
    """
    results, listed = Results(sequence), sources(sequence, options)
    lines = ["all phases", *_settings(listed["all phases"])]
    for number, stage in enumerate(stages(sequence), start=1):
        begun = stage.name in results.table["stages"]
        state = "finished" if results.is_finished(stage) else "continues" if begun else "new"
        lines += ["", f"{number} {stage.name}: {state}", f"  {shlex.join(stage.command())}"]
        lines += _settings(listed[stage.name])
    return "\n".join(lines)


def _settings(rows: Sequence[tuple[str, object, str]]) -> list[str]:
    return [f"  {f'{name} = {json.dumps(value)}':40} {source}" for name, value, source in rows]


def _run_stage(stage: Stage, label: str, processes: Processes, results: Results, log: Log) -> int:
    """Status that ends the sequence; 0 continues it."""
    _wait_for(stage.directory, processes)
    if processes.caught is not None:
        return _stopped(label, processes.caught, log)
    log.write(f"{label}: {shlex.join(stage.command())}")
    (stage.directory / EVALUATION).unlink(missing_ok=True)  # of an evaluation that is repeated
    results.begin(stage)
    began, cpu = time.monotonic(), _cpu_seconds()
    status = processes.run(stage.command())
    # An evaluation that misses a bar is complete; an error in it has the same status.
    finished = status == 0 or (status == 1 and (stage.directory / EVALUATION).exists())
    results.end(stage, time.monotonic() - began, _cpu_seconds() - cpu, finished=finished)
    if processes.caught is not None:
        return _stopped(label, processes.caught, log)
    if finished:
        log.write(f"{label}: done in {results.seconds(stage)}")
        return 0
    log.write(f"{label}: ended with exit status {status}; the same command continues")
    return status


def _stopped(label: str, number: int, log: Log) -> int:
    log.write(f"{label}: stopped by {signal.Signals(number).name}; the same command continues")
    return 128 + number


def _wait_for(directory: Path, processes: Processes) -> None:
    end = time.monotonic() + PATIENCE
    while processes.caught is None:
        try:
            with DirectoryLock(directory, patience=0.5):
                return
        except InUseError:
            if time.monotonic() > end:
                raise


def _cpu_seconds() -> float:
    """Processor time of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
