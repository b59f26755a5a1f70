"""Each reading that a check can see has its witness: declared it passes, undeclared it fails and is named."""

from __future__ import annotations

import pytest

from dreamer4_conformance import runner
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.readings import READINGS
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Status
from dreamer4_conformance.zoo.base import Textbook

VISIBLE = [
    pytest.param(reading.id, option, reading.clause, id=f"{reading.id}-{option}")
    for reading in READINGS
    if reading.clause is not None
    for option in reading.options[1:]
]
# Context noise drawn for each generated frame differs from noise drawn once only over several generated frames.
TOLD_APART = [param for param in VISIBLE if param.values[:2] != ("A28", "generated")]


class Witness(Textbook):
    """The textbook that follows a reading, with a context level of its own that A9 "level" makes use of."""

    context_level = 0.7


class Undeclared(Witness):
    """It follows a reading without declaring it."""

    def __init__(self, **follows: str) -> None:
        super().__init__(**follows)
        self.readings = {}


@pytest.mark.parametrize(("reading", "option", "clause"), VISIBLE)
def test_declared_reading_passes(reading: str, option: str, clause: str) -> None:
    result = judge(Subject(Witness(**{reading: option})), BY_ID[clause], minimal=False)
    assert result.status is Status.PASS, result.message
    assert result.reading == {reading: option}


@pytest.mark.parametrize(("reading", "option", "clause"), TOLD_APART)
def test_undeclared_reading_fails_and_is_named(reading: str, option: str, clause: str) -> None:
    result = judge(Subject(Undeclared(**{reading: option})), BY_ID[clause], minimal=False)
    assert result.status is Status.FAIL
    assert f"reading {reading} = {option}" in result.behaves_like


# Who declares an averaged teacher may still use the network itself: a copy may be equal to it.
@pytest.mark.parametrize(("reading", "option", "clause"), [param for param in TOLD_APART if param.values[0] != "A38"])
def test_default_under_a_declared_reading_fails(
    reading: str, option: str, clause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "gather", lambda *_: None)  # nothing is asked about it, and it takes the most time
    adapter = Witness()
    adapter.readings = {reading: option}
    result = judge(Subject(adapter), BY_ID[clause], minimal=False)
    assert result.status is Status.FAIL, result.message
