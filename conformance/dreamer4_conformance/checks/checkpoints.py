"""Checks of checkpoints: a run goes on from one as if it had not stopped, and an older one is loaded, with a report.

How far a resumed run may be off is measured: by two runs that were not interrupted, which on most devices are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.instruments.training import final_state, load_checkpoint
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.verdicts import OperationFailed

STEPS, AT = 4, 2
"""Steps of a run, and after how many it is interrupted: early, while averages and warm-ups still move."""
ROUNDING = 16 * EPS["float32"]
"""Of the largest value: what is stored in single precision may be rounded once, and what follows is a few steps away."""
VISIBLE = 8.0
"""Times the bound by which the steps after the interruption have to move something, for a verdict."""
FOREIGN = "not_a_parameter_of_this_model"


def furthest(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, float]:
    """By name, how far two runs are apart; infinitely where shapes differ or a value is not finite."""
    if one.keys() != other.keys():
        raise OperationFailed(f"resume returned {sorted(one)}, then {sorted(other)}; it needs the same names each time")
    return {name: _apart(x, other[name]) for name, x in one.items()}


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return np.inf
    difference = np.abs(one - other)
    return float(np.where(np.isfinite(difference), difference, np.inf).max(initial=0.0))


@check("ckpt.complete", needs=("resume",))
def check_a_resumed_run_ends_where_an_uninterrupted_one_does(subject: Subject, trial: Trial) -> None:
    """Bit for bit, or as closely as two uninterrupted runs and single precision allow."""
    whole, again, stopped = (
        final_state(subject, STEPS, None),
        final_state(subject, STEPS, None),
        final_state(subject, AT, None),
    )
    spread, call = furthest(whole, again), f"resume(0, {STEPS}, {AT})"
    size = {name: float(np.abs(x).max(initial=0.0)) for name, x in whole.items()}
    bound = {name: 4 * spread[name] + ROUNDING * size[name] for name in whole}
    moved = {name: _apart(whole[name], x) for name, x in stopped.items() if name in whole}
    if not any(distance > VISIBLE * bound[name] for name, distance in moved.items()):
        trial.inconclusive(
            "what a run ends with hardly moves after the interruption: what is lost there cannot be seen"
        )
    resumed = final_state(subject, STEPS, AT)
    for name, distance in furthest(whole, resumed).items():
        what = f"the largest difference in {name!r} between the resumed and the uninterrupted run"
        trial.compare(what, distance, 0.0, terms=bound[name], k=1, eps=1.0, call=call)


def some(names: Sequence[str]) -> list[str]:
    """The first, the middle one and the last."""
    return list(dict.fromkeys([names[0], names[len(names) // 2], names[-1]]))


@check("ckpt.tolerant", needs=("load_checkpoint",))
def check_a_checkpoint_of_the_same_model_loads_without_remark(subject: Subject, trial: Trial) -> None:
    """Nothing is missing, nothing unexpected."""
    whole = load_checkpoint(subject)
    for what, names in (("missing", whole.missing), ("unexpected", whole.unexpected)):
        trial.fail_unless(
            not names, f"nothing is {what}, but {list(names)} is reported", call=whole.call, got=list(names)
        )


@check("ckpt.tolerant", needs=("load_checkpoint",))
def check_a_missing_parameter_is_named_and_the_others_load(subject: Subject, trial: Trial) -> None:
    """For a few parameters; the one that is missing may stand for anything."""
    whole = load_checkpoint(subject)
    for name in some(list(whole.parameters)):
        without = load_checkpoint(subject, removed=name)
        named = [said for said in without.missing if name in said]
        sentence = f"{name!r} was not in the checkpoint, and {list(without.missing)} is reported as missing"
        trial.fail_unless(
            bool(named) and len(without.missing) == len(named), sentence, call=without.call, got=without.missing
        )
        lost = [
            other
            for other, x in whole.parameters.items()
            if other != name and not _same(x, without.parameters.get(other))
        ]
        trial.fail_unless(
            not lost, f"where {name!r} is missing, {lost[:3]} is not loaded either", call=without.call, got=lost
        )


@check("ckpt.tolerant", needs=("load_checkpoint",))
def check_an_unexpected_parameter_is_named(subject: Subject, trial: Trial) -> None:
    """Of a name that no model has; everything else loads."""
    whole, more = load_checkpoint(subject), load_checkpoint(subject, added=FOREIGN)
    sentence = f"the checkpoint holds {FOREIGN!r} besides, and {list(more.unexpected)} is reported as unexpected"
    named = len(more.unexpected) == 1 and FOREIGN in more.unexpected[0]
    trial.fail_unless(named, sentence, call=more.call, got=more.unexpected)
    lost = [name for name, x in whole.parameters.items() if not _same(x, more.parameters.get(name))]
    trial.fail_unless(not lost, f"{lost[:3]} is not loaded where the checkpoint holds more", call=more.call, got=lost)


def _same(one: np.ndarray, other: np.ndarray | None) -> bool:
    return other is not None and np.array_equal(one, other, equal_nan=True)


@signature("resume")
def signature_where_resuming_departs(subject: Subject) -> np.ndarray:
    """Whether a run differs after an interruption in the middle, and before the last step."""
    whole = final_state(subject, STEPS, None)

    def probe(at: int) -> np.ndarray:
        return np.array([max(furthest(whole, final_state(subject, STEPS, at)).values()) > 1e-6], np.float64)

    return np.concatenate([attempt(lambda at=at: probe(at), 1) for at in (AT, STEPS - 1)])  # type: ignore[misc]


@signature("load_checkpoint")
def signature_what_loading_reports(subject: Subject) -> np.ndarray:
    """Numbers of names, and of parameters that are not loaded: of the same model, without one, with one more."""

    def probe(**change: Any) -> list[float]:
        whole, other = load_checkpoint(subject).parameters, load_checkpoint(subject, **change)
        lost = sum(
            not _same(x, other.parameters.get(name)) for name, x in whole.items() if name != change.get("removed")
        )
        return [len(other.missing), len(other.unexpected), min(lost, 1)]

    def without_one() -> list[float]:
        return probe(removed=next(iter(load_checkpoint(subject).parameters)))

    calls = (probe, without_one, lambda: probe(added=FOREIGN))
    return np.concatenate([attempt(each, 3) for each in calls])
