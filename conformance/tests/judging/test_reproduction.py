"""The code that a failure prints runs and shows the numbers of the failure."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import numpy as np
import pytest

from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.judging.reproduction import literal
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Result
from dreamer4_conformance.zoo.mistakes import MISTAKES

CALLS = ["ramp-inverted", "renoise-true", "corrupt-inverted"]
JUDGED_AGAIN = ["twohot-constant", "grid-free"]


def failure(name: str) -> Result:
    mistake = MISTAKES[name]
    return judge(examine(mistake.adapter), BY_ID[mistake.clause])


def printed(code: str) -> str:
    stream = io.StringIO()
    with redirect_stdout(stream), np.printoptions(precision=6):
        exec(code, {})
    return stream.getvalue()


@pytest.mark.parametrize("name", CALLS)
def test_the_repeated_call_shows_what_was_received(name: str) -> None:
    result = failure(name)
    assert "subject." in result.reproduce
    output = printed(result.reproduce).replace("[", " ").replace("]", " ").replace(",", " ")
    numbers = [float(word) for word in output.split() if word.lstrip("-")[:1].isdigit()]
    received = float(np.ravel(result.got)[0])
    assert np.isclose(numbers, received, rtol=1e-4).any(), f"{received} is not in {output}"


@pytest.mark.usefixtures("without_diagnosis")
@pytest.mark.parametrize("name", JUDGED_AGAIN)
def test_a_clause_that_no_call_shows_is_judged_again(name: str) -> None:
    result = failure(name)
    assert printed(result.reproduce).startswith(result.message)


def test_an_adapter_that_cannot_be_imported_has_a_placeholder() -> None:
    class Local(MISTAKES["ramp-inverted"].adapter):  # type: ignore[misc, name-defined]
        """Not at the top of a module."""

    assert "examine(adapter," in judge(examine(Local), BY_ID["eq08.value"]).reproduce


def test_literals_keep_every_value() -> None:
    values = np.array([1 / 3, np.nan, -np.inf, np.float32(0.1), 5.0])
    np.testing.assert_array_equal(eval(literal(values), {"np": np}).astype(np.float32), values.astype(np.float32))


def test_the_reported_counterexample_has_the_largest_error_of_its_size() -> None:
    shown = failure("twohot-mixed-space")
    assert shown.worst_error is not None
    assert shown.bound is not None
    assert shown.worst_error > 1e3 * shown.bound


def test_the_counterexample_is_the_same_in_every_run() -> None:
    first, second = (failure("ramp-inverted") for _ in range(2))
    assert (first.call, first.got, first.reproduce) == (second.call, second.got, second.reproduce)


def test_the_call_of_a_loss_shows_what_it_drew_itself() -> None:
    class OwnDraws(MISTAKES["renoise-true"].adapter):  # type: ignore[misc, name-defined]
        """Without `dynamics_loss_at`."""

    subject = examine(OwnDraws)
    subject.hidden = frozenset({"dynamics_loss_at"})
    call = judge(subject, BY_ID["eq07.teacher-state"]).call
    assert call.startswith("dynamics_loss(network, z1=[")
    for argument in ("actions=[", "seed=", "which draws tau=[", "d=[", "z0=["):
        assert argument in call, call


def test_a_call_names_its_arguments() -> None:
    assert failure("ramp-inverted").call == "ramp_weight(tau=[0])"
