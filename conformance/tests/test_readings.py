"""Each option of each reading has its witness: declared it passes, undeclared it fails and is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dreamer4_conformance
import dreamer4_reference
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.readings import BY_ID as READINGS_BY_ID
from dreamer4_conformance.readings import READINGS, resolve
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Status
from dreamer4_conformance.zoo.base import Textbook

#: (reading, option, clause) of all options but the default, for every reading that a check distinguishes.
JUDGED = [
    pytest.param(reading.id, option, reading.clauses[0], id=f"{reading.id}-{option}")
    for reading in READINGS
    if not reading.free
    for option in reading.options[1:]
]
# Context noise drawn for each generated frame differs from noise drawn once only over several generated frames.
DISTINGUISHED = [param for param in JUDGED if param.values[:2] != ("A28", "generated")]
#: Readings that are declared together with an option, because it equals the default without them.
ALONG: dict[tuple[str, str], dict[str, str]] = {("A17.rewards", "0..8"): {"A17": "0..7"}}
#: (option of a free reading, readings declared along with it, clause on which it has an effect).
FREE = [
    pytest.param({"A12": "own"}, {"A9": "none"}, "ctx.corruption", id="A12-own"),
    pytest.param({"A37": "mask"}, {}, "train.images", id="A37-mask"),
]


class Witness(Textbook):
    """The textbook that follows a reading, with a context level of its own that A9 "level" makes use of."""

    context_level = 0.7

    def __init__(self, declared: dict[str, str], **follows: str) -> None:
        super().__init__(**follows)
        self.readings = declared


@pytest.mark.parametrize(("reading", "option", "clause"), JUDGED)
def test_declared_reading_passes(reading: str, option: str, clause: str) -> None:
    readings = {**ALONG.get((reading, option), {}), reading: option}
    result = judge(Subject(Witness(readings, **readings)), BY_ID[clause], minimal=False)
    assert result.status is Status.PASS, result.message
    assert result.reading == readings


#: The diagnosis takes the most time: every twelfth option by default, all of them in the nightly run.
DIAGNOSED = [
    param if number % 12 == 5 else pytest.param(*param.values, id=param.id, marks=pytest.mark.nightly)
    for number, param in enumerate(DISTINGUISHED)
]


@pytest.mark.parametrize(("reading", "option", "clause"), DIAGNOSED)
def test_undeclared_reading_fails_and_is_named(reading: str, option: str, clause: str) -> None:
    along = ALONG.get((reading, option), {})
    result = judge(Subject(Witness(along, **along, **{reading: option})), BY_ID[clause], minimal=False)
    assert result.status is Status.FAIL
    assert f"reading {reading} = {option}" in result.behaves_like


# Who declares an averaged teacher may still use the network itself: a copy may be equal to it.
@pytest.mark.usefixtures("without_diagnosis")
@pytest.mark.parametrize(("reading", "option", "clause"), [p for p in DISTINGUISHED if p.values[0] != "A38"])
def test_default_under_a_declared_reading_fails(reading: str, option: str, clause: str) -> None:
    along = ALONG.get((reading, option), {})
    result = judge(Subject(Witness({**along, reading: option}, **along)), BY_ID[clause], minimal=False)
    assert result.status is Status.FAIL, result.message


@pytest.mark.parametrize(("option", "along", "clause"), FREE)
@pytest.mark.parametrize("declares", [False, True])
def test_option_of_a_free_reading_passes_declared_and_undeclared(
    option: dict[str, str], along: dict[str, str], clause: str, declares: bool
) -> None:
    readings = along | option
    result = judge(Subject(Witness(readings if declares else along, **readings)), BY_ID[clause], minimal=False)
    assert result.status is Status.PASS, result.message


def test_free_readings_with_options_are_those_tested_above_or_need_no_operation() -> None:
    free = {reading.id for reading in READINGS if reading.free and reading.options}
    tested = {name for param in FREE for name in param.values[0]}  # type: ignore[union-attr]
    assert free == tested | {"A34"}  # the suite passes the term's value


def test_every_reading_that_is_free_says_what_to_declare() -> None:
    assert [reading.id for reading in READINGS if reading.free and not reading.note] == []
    assert [clause for reading in READINGS for clause in reading.clauses if clause not in BY_ID] == []


@pytest.mark.parametrize("package", [dreamer4_conformance, dreamer4_reference])
def test_every_reading_that_the_code_cites_can_be_looked_up(package: object) -> None:
    root = Path(str(package.__file__)).parent  # type: ignore[attr-defined]
    cited = {name for path in root.rglob("*.py") for name in re.findall(r"\bA\d{1,2}\b", path.read_text("utf-8"))}
    assert cited - {"A99"} <= READINGS_BY_ID.keys()


def test_a_reading_without_options_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match=r"A24 has no options; remove it\. Declare `rms_warmup`"):
        resolve({"A24": "0.99"})
