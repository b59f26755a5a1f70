"""Checks of checkpoints: a resumed run continues like an uninterrupted one, and older checkpoints load with a report.

The tolerance of a resumed run is measured as the difference between two uninterrupted runs, which is zero on most
devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.instruments.training import LoadedCheckpoint, final_state, load_checkpoint
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.verdicts import OperationFailed

STEPS, INTERRUPTIONS = 4, (2, 3)
"""Steps of a run, and an even and an odd step after which it is interrupted: early, while averages still change."""
ROUNDING = 16 * EPS["float32"]
"""Relative to the largest value: a state stored in float32 is rounded once, and a few steps follow."""
VISIBLE = 8.0
"""Factor on the bound by which some value must change after the interruption for a verdict."""
FOREIGN = "not_a_parameter_of_this_model"


def largest_differences(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Largest difference of two final states by name; infinite if shapes differ or a value is not finite."""
    if left.keys() != right.keys():
        raise OperationFailed(
            f"resume returned {sorted(left)}, then {sorted(right)}; it needs the same names each time"
        )
    return {name: _largest_difference(x, right[name]) for name, x in left.items()}


def _largest_difference(left: np.ndarray, right: np.ndarray) -> float:
    if left.shape != right.shape:
        return np.inf
    difference = np.abs(left - right)
    return float(np.where(np.isfinite(difference), difference, np.inf).max(initial=0.0))


@check("ckpt.complete", needs=("resume",))
def check_a_resumed_run_ends_where_an_uninterrupted_one_does(subject: Subject, trial: Trial) -> None:
    """A run interrupted after each of `INTERRUPTIONS` ends in the same state as an uninterrupted run.

    Up to 4 times the difference of two uninterrupted runs, and `ROUNDING`.
    """
    steps = (STEPS, STEPS, INTERRUPTIONS[0])
    uninterrupted, repeated, stopped = (final_state(subject, count, None) for count in steps)
    spread = largest_differences(uninterrupted, repeated)
    size = {name: float(np.abs(x).max(initial=0.0)) for name, x in uninterrupted.items()}
    bound = {name: 4 * spread[name] + ROUNDING * size[name] for name in uninterrupted}
    moved = {name: _largest_difference(uninterrupted[name], x) for name, x in stopped.items() if name in uninterrupted}
    if not any(distance > VISIBLE * bound[name] for name, distance in moved.items()):
        trial.inconclusive("the state hardly changes after the interruption, so a loss of state cannot be detected")
    for interruption in INTERRUPTIONS:
        resumed, call = final_state(subject, STEPS, interruption), f"resume(0, {STEPS}, {interruption})"
        for name, difference in largest_differences(uninterrupted, resumed).items():
            quantity = f"the largest difference in {name!r} between the resumed and the uninterrupted run"
            trial.compare(quantity, difference, 0.0, terms=bound[name], k=1, eps=1.0, call=call)


def probed_names(names: Sequence[str]) -> list[str]:
    """The first, the middle and the last name."""
    return list(dict.fromkeys([names[0], names[len(names) // 2], names[-1]]))


@check("ckpt.tolerant", needs=("load_checkpoint",))
def check_a_checkpoint_of_the_same_model_loads_completely(subject: Subject, trial: Trial) -> None:
    """No parameter of a checkpoint of the same model is reported as missing or unexpected."""
    loaded = load_checkpoint(subject)
    for kind, names in (("missing", loaded.missing), ("unexpected", loaded.unexpected)):
        sentence = f"{list(names)} is reported as {kind} in a checkpoint of the same model"
        trial.fail_unless(not names, sentence, call=loaded.call, got=list(names))


@check("ckpt.tolerant", needs=("load_checkpoint",))
def check_a_missing_parameter_is_named_and_the_others_load(subject: Subject, trial: Trial) -> None:
    """If a parameter is removed from the checkpoint, it alone is reported as missing, and all others load.

    Judged for three parameters; the value of the missing one is free.
    """
    complete = load_checkpoint(subject)
    for name in probed_names(list(complete.parameters)):
        loaded = load_checkpoint(subject, removed=name)
        named = [report for report in loaded.missing if name in report]
        sentence = f"{name!r} is not in the checkpoint, and {list(loaded.missing)} is reported as missing"
        correct = bool(named) and len(loaded.missing) == len(named)
        trial.fail_unless(correct, sentence, call=loaded.call, got=loaded.missing)
        lost = [lost_name for lost_name in _not_loaded(complete, loaded) if lost_name != name]
        sentence = f"{lost[:3]} is not loaded from a checkpoint without {name!r}; all other parameters need to load"
        trial.fail_unless(not lost, sentence, call=loaded.call, got=lost)


@check("ckpt.tolerant", needs=("load_checkpoint",))
def check_an_unexpected_parameter_is_named(subject: Subject, trial: Trial) -> None:
    """If the checkpoint has a parameter that the model lacks, it is reported as unexpected, and all others load."""
    complete, loaded = load_checkpoint(subject), load_checkpoint(subject, added=FOREIGN)
    sentence = f"{FOREIGN!r} was added to the checkpoint, and {list(loaded.unexpected)} is reported as unexpected"
    named = len(loaded.unexpected) == 1 and FOREIGN in loaded.unexpected[0]
    trial.fail_unless(named, sentence, call=loaded.call, got=loaded.unexpected)
    lost = _not_loaded(complete, loaded)
    sentence = f"{lost[:3]} is not loaded from a checkpoint with {FOREIGN!r}; all parameters of the model need to load"
    trial.fail_unless(not lost, sentence, call=loaded.call, got=lost)


def _not_loaded(complete: LoadedCheckpoint, loaded: LoadedCheckpoint) -> list[str]:
    """Names of parameters whose values differ between two loads."""
    values = loaded.parameters
    return [
        name
        for name, x in complete.parameters.items()
        if name not in values or not np.array_equal(x, values[name], equal_nan=True)
    ]


@signature("resume")
def signature_where_resuming_departs(subject: Subject) -> np.ndarray:
    """Share of arrays that differ after an interruption in the middle, and before the last step; whether all hardly."""
    uninterrupted = final_state(subject, STEPS, None)
    size = {name: float(np.abs(x).max(initial=1e-12)) for name, x in uninterrupted.items()}

    def probe(interruption: int) -> np.ndarray:
        differences = largest_differences(uninterrupted, final_state(subject, STEPS, interruption))
        relative = np.array([difference / size[name] for name, difference in differences.items()])
        return np.array([(relative > 1e-6).mean(), relative.max() < 1e-2])

    return np.concatenate([attempt(partial(probe, step), 2) for step in INTERRUPTIONS])


@signature("load_checkpoint")
def signature_what_loading_reports(subject: Subject) -> np.ndarray:
    """Numbers of reported names, and whether parameters are lost: complete, one removed, one added."""

    def probe(removed: str | None = None, added: str | None = None) -> list[float]:
        complete, loaded = load_checkpoint(subject), load_checkpoint(subject, removed, added)
        lost = [name for name in _not_loaded(complete, loaded) if name != removed]
        return [len(loaded.missing), len(loaded.unexpected), min(len(lost), 1)]

    def probe_removed() -> list[float]:
        return probe(removed=next(iter(load_checkpoint(subject).parameters)))

    probes = (probe, probe_removed, partial(probe, added=FOREIGN))
    return np.concatenate([attempt(call, 3) for call in probes])
