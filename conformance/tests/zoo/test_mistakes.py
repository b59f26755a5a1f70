"""Each mistake is rejected by the clause that it violates and reported by its id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.smoke_calls import smoke_failure
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import CHECKS, Trial
from dreamer4_conformance.runner import checks_of, judge
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, OperationFailed, Status
from dreamer4_conformance.zoo.mistakes import MISTAKES, Mistake

#: Naming takes the most time: by default the first mistake of every fifth clause is named, all in the nightly run.
#: That every check rejects a mistake is tested below, without names.
BY_DEFAULT = list({mistake.clause: mistake.id for mistake in reversed(MISTAKES.values())}.values())[::5]


def parameters() -> Iterator[Any]:
    """Every mistake in every level."""
    for mistake in MISTAKES.values():
        for level in mistake.levels:
            nightly = mistake.id not in BY_DEFAULT or level != mistake.levels[0]
            yield pytest.param(mistake, level, id=f"{mistake.id}-{level}", marks=[pytest.mark.nightly] * nightly)


EVERY = list(parameters())


@pytest.mark.parametrize(("mistake", "level"), EVERY)
def test_mistake_is_rejected_by_the_clause_it_violates_and_named(mistake: Mistake, level: str) -> None:
    subject = Subject(mistake.adapter(level))
    assert not any(smoke_failure(subject, operation) for operation in mistake.operations)
    result = judge(subject, BY_ID[mistake.clause], minimal=False)
    assert result.status is Status.FAIL, f"{mistake.id} passes {mistake.clause}: {mistake.description}"
    assert mistake.id in result.behaves_like
    assert result.message


def rejects(check_name: str) -> bool:
    """True if the check alone rejects a mistake of its clause."""
    check = CHECKS[check_name]
    for mistake in MISTAKES.values():
        if mistake.clause == check.clause:
            try:
                check.function(Subject(mistake.adapter(mistake.levels[0])), Trial(minimal=False))
            except (Deviation, OperationFailed):
                return True
            except (Inconclusive, NotProvided):
                continue
    return False


@pytest.mark.parametrize("check_name", list(CHECKS))
def test_every_check_rejects_at_least_one_mistake(check_name: str) -> None:
    assert rejects(check_name), f"{check_name} rejects no mistake of {CHECKS[check_name].clause}"


def test_every_mistake_has_a_description() -> None:
    for mistake in MISTAKES.values():
        assert mistake.adapter.__doc__ != mistake.adapter.__mro__[1].__doc__, f"{mistake.id} has no description"
        assert checks_of(BY_ID[mistake.clause]), f"{mistake.id}: {mistake.clause} has no check"


REVIEWED = [
    "ramp-inverted",
    "ramp-flow-only",
    "ramp-bootstrap-only",
    "grid-free",
    "grid-wrong-end",
    "grid-includes-one",
    "steps-inverse",
    "steps-no-one",
    "steps-no-min",
    "levels-by-position",
    "levels-per-sequence",
    "global-rng",
    "bootstrap-x-space",
    "bootstrap-unscaled",
    "bootstrap-tau-squared",
    "velocity-unnormalised",
    "renoise-true",
    "renoise-fresh",
    "tau-mid-clamped",
    "teacher-full-step",
    "teacher-gradient",
    "teacher-no-actions",
    "flow-everywhere",
    "broadcast-batch",
    "mixed-label-zero",
    "label-ahead",
    "renoise-sampler",
    "frozen-noise-sampler",
    "stops-short",
    "context-literal",
    "context-label-mismatch",
    "context-ignored",
    "lpips-weight",
    "value-printed-silently",
    "value-target-attached",
    "value-continue-missing",
    "value-horizon-one",
    "pmpo-alpha-swapped",
    "pmpo-zero-excluded",
    "pmpo-magnitude",
    "pmpo-global-mean",
    "pmpo-empty-nan",
    "pmpo-normalised-advantage",
    "pmpo-kl-reversed",
    "mtp-off-by-one",
    "twohot-constant",
    "twohot-mixed-space",
    "step-embedding-broadcast",
    "context-cached-clean",
    "tanh-missing",
    "masks-swapped",
    "mask-polarity",
    "latents-of-other-frames",
    "mae-rate",
    "mae-rate-two-fifths",
    "mae-rate-per-batch",
    "mae-same-over-time",
    "mae-at-inference",
    "mae-zeros",
    "not-causal",
    "action-mean",
    "agent-visible",
    "agent-blind",
    "rope-flattened",
    "softcap-bypassed",
    "softcap-product",
    "qknorm-keys-only",
    "temporal-every-2",
    "cache-differs",
    "all-labels-ahead",
    "levels-end-early",
    "residual-doubled",
    "actions-blind",
    "constants-mtp-length",
    "bootstrap-missing",
    "first-frame-as-context",
    "sampler-labels-noise",
]


@pytest.mark.parametrize("name", REVIEWED)
def test_mistakes_found_in_real_code_are_in_the_zoo(name: str) -> None:
    assert name in MISTAKES
