"""No false alarms: every equivalent passes all clauses that it provides."""

from __future__ import annotations

from contextlib import suppress

import pytest

from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import CHECKS, EXAMPLES, FALSE_ALARM, Trial
from dreamer4_conformance.runner import checkable, judge
from dreamer4_conformance.verdicts import OWN_FAULT, Inconclusive, Status
from dreamer4_conformance.zoo.base import Textbook
from dreamer4_conformance.zoo.equivalents import EQUIVALENTS

# torch warns of its own access to `.grad` while it compiles code after a graph break.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")

ACCEPTABLE = {Status.PASS, Status.NOT_PROVIDED, Status.INCONCLUSIVE}


def hold(name: str, **options: object) -> None:
    """Judge one equivalent by every clause: it must fail none and pass at least one."""
    subject = examine(EQUIVALENTS[name].adapter_factory())
    results = [judge(subject, clause, **options) for clause in checkable()]  # type: ignore[arg-type]
    failures = [
        f"{result.id}: {result.message} at {result.call}" for result in results if result.status not in ACCEPTABLE
    ]
    assert not [result.message for result in results if result.message.startswith(OWN_FAULT)]
    assert not failures, "\n".join([f"false alarm on {name} with {options}", *failures])
    assert any(result.status is Status.PASS for result in results)


#: Recompiled for every shape, which takes as long as a dozen others.
NIGHTLY = "loss-compiled"


#: Judged by default, every ninth one: they take a few seconds each. The nightly run judges all, at other seeds too.
BY_DEFAULT = [name for name in list(EQUIVALENTS)[::9] if name != NIGHTLY]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.nightly] * (name not in BY_DEFAULT)) for name in EQUIVALENTS]
)
def test_equivalent_passes_all_clauses_it_provides(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXAMPLES, "ci", 5)  # the nightly run uses all, at other seeds
    hold(name)


SEEDS = max(10, -(-200 // len(EQUIVALENTS)))


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
@pytest.mark.parametrize("name", EQUIVALENTS)
def test_equivalent_passes_at_other_seeds(name: str, seed: int) -> None:
    hold(name, profile="dev", seed=seed)


@pytest.mark.parametrize("check_name", list(CHECKS))
def test_check_takes_at_most_its_declared_number_of_decisions(check_name: str) -> None:
    trial = Trial()
    with suppress(Inconclusive):
        CHECKS[check_name].function(Subject(Textbook()), trial)
    assert trial.decisions <= CHECKS[check_name].decisions


def test_false_alarm_probability_of_a_run_is_below_1e_6() -> None:
    assert sum(check.decisions for check in CHECKS.values()) * FALSE_ALARM <= 1e-6
