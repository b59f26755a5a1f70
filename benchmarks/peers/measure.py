"""Measurement of a comparison: rounds in which every implementation has one turn, and counted operations."""

import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from benchmarks.base import ROOT, AgainstBase
from benchmarks.peers import lucidrains, nicklashansen, ours
from benchmarks.peers.shape import Shape
from benchmarks.peers.training import Training
from benchmarks.timing import Interleaved, Run
from dreamer4_conformance.adapters.nicklashansen import PROJECT, NicklasHansen

NICKLAS_HANSEN, LUCIDRAINS = PROJECT, "lucidrains/dreamer4"
TRAINING: Final[Mapping[str, Callable[[Shape], Training]]] = {
    "ours, backend chunked": partial(ours.training, backend="chunked"),
    "ours, backend eager": partial(ours.training, backend="eager"),
    NICKLAS_HANSEN: nicklashansen.training,
    LUCIDRAINS: lucidrains.training,
}
FRAMES: Final[Mapping[str, Callable[[Shape], Run]]] = {
    "ours, commit merged": partial(ours.frame, merge_commit=True),
    "ours": partial(ours.frame, merge_commit=False),
    NICKLAS_HANSEN: nicklashansen.frame,
    LUCIDRAINS: lucidrains.frame,
}
#: Workloads of `benchmarks.workloads` for the comparison with an earlier commit, and its number of rounds.
FRAME_NOW, FRAME_BEFORE, BASE_ROUNDS = "frame, commit merged / eager", "frame / eager", 40
#: Least number of rounds, and the share of the seconds that training steps take.
FEWEST, TRAINING_SHARE = 5, 0.8


def measure(shape: Shape, seconds: float, revision: str | None = None) -> dict[str, Any]:
    """Measure every implementation that can be imported, on one thread.

    Args:
        shape: sizes of models and inputs.
        seconds: wall-clock time of all rounds, without preparations.
        revision: commit whose generated frame is measured too, in processes of its own; None for none.

    Returns:
        Results as `report.page` and results.json have them.

    Raises:
        FileNotFoundError: if there is no checkout of nicklashansen/dreamer4.
        ValueError: if the revision is no commit of this repository.
        Missing: if that commit cannot generate a frame of the `small` preset.
        ArithmeticError: if a loss is not finite.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = None if revision is None else against(revision)
    skipped: dict[str, str] = {}
    steps: dict[str, Training] = _built(TRAINING, shape, skipped)
    training = {name: _counted(step) for name, step in steps.items()}
    halves = {f"{name}: {half}": getattr(step, half) for name, step in steps.items() for half in ("gradient", "update")}
    times = alternate(halves, TRAINING_SHARE * seconds)
    for name, row in training.items():
        row |= {half: times[f"{name}: {half}"] for half in ("gradient", "update")}
    frames: dict[str, Run] = _built(FRAMES, shape, skipped)
    for run in frames.values():
        run()  # a merged commit has its cost from the second frame on
    counted = {name: flops(run) for name, run in frames.items()}
    times = alternate(frames, (1 - TRAINING_SHARE) * seconds)
    return {
        "versions": _versions(skipped),
        "machine": _machine(),
        "shape": asdict(shape),
        "training": training,
        "frame": {name: {"flops": counted[name], "times": times[name]} for name in frames},
        "base": base,
        "skipped": skipped,
    }


def flops(run: Run) -> int:
    """Count the operations of matrix products of one call, two for each multiply-add.

    Compiled functions run uncompiled, because torch does not compile under the counter. Fused attention, which it does
    not count on a CPU, is replaced by its products; masked logits are counted.
    """
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _WholeModel()
    with torch.compiler.set_stance("force_eager"), sdpa_kernel(SDPBackend.MATH), counter:
        run()
    return counter.get_total_flops()


class _WholeModel(ModuleTracker):
    """Attributes everything to one module: torch's tracker fails on views of parameters made without gradient."""

    def __enter__(self) -> "_WholeModel":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def alternate(runs: Mapping[str, Run], seconds: float) -> dict[str, list[float]]:
    """Time all runs in turn until the seconds are over, after two rounds that are not counted.

    Returns:
        Processor times in seconds by run, one for each round.
    """
    for _ in range(2):
        Interleaved(runs)()
    turn, end = Interleaved(runs), time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(turn.times.values()))) < FEWEST:
        turn()
    return turn.times


def against(revision: str) -> dict[str, Any]:
    """Time one cached frame of the `small` preset, commit merged, in turn with that of an earlier commit, not merged.

    Raises:
        ValueError: if the revision is no commit of this repository.
        Missing: if that commit has no frame to time.
    """
    with AgainstBase(revision) as base:
        pairs = [base.turn(FRAME_NOW, FRAME_BEFORE) for _ in range(BASE_ROUNDS)]
    this, earlier = map(list, zip(*pairs, strict=True))
    return {"revision": _git("rev-parse", "--short", revision), "this": this, "base": earlier}


def _built(builders: Mapping[str, Callable[[Shape], Any]], shape: Shape, skipped: dict[str, str]) -> dict[str, Any]:
    """Implementations by name; those from PyPI may be missing."""
    built: dict[str, Any] = {}
    for name, build in builders.items():
        try:
            built[name] = build(shape)
        except ModuleNotFoundError as error:
            skipped[name] = str(error)
    return built


def _counted(step: Training) -> dict[str, Any]:
    """Parameters and operations of one step, whose loss must be a number."""
    count = flops(lambda: _require_finite(step.gradient()))
    row = {"parameters": step.trained_parameters(), "flops": count}
    step.update()
    return row


def _require_finite(loss: float) -> None:
    if not math.isfinite(loss):
        raise ArithmeticError(f"the loss before timing must be finite; got {loss}")


def _machine() -> str:
    allocator = " ".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("MALLOC_"))
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{os.cpu_count()} cores, {capability}, settings of the allocator: {allocator or 'default'}"


def _versions(skipped: Mapping[str, str]) -> dict[str, str]:
    versions = {
        "ours": _git("describe", "--always", "--dirty"),
        NICKLAS_HANSEN: NicklasHansen().version,
        "torch": str(torch.__version__),
        "Python": platform.python_version(),
    }
    return versions if LUCIDRAINS in skipped else versions | {LUCIDRAINS: version("dreamer4")}


def _git(*arguments: str) -> str:
    """Output of git in this repository; "unknown" outside of one."""
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"
