"""Clauses of the heads fail for their own requirement only, and right code with other starting values passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dreamer4_conformance import Adapter
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Result, Status
from dreamer4_conformance.zoo.mistakes import MISTAKES


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run no diagnosis."""
    monkeypatch.setattr("dreamer4_conformance.runner.gather", lambda *_: None)


def verdict(adapter: Adapter, clause: str) -> Result:
    return judge(Subject(adapter), BY_ID[clause], minimal=False)


#: (mistake, clauses that it violates, clauses of the same operations that it does not).
OWN_FAULT = [
    ("value-continue-missing", ("eq10.terminal", "eq10.value"), ("eq10.limits", "eq10.linear", "eq11.advantage")),
    ("value-lambda-fixed", ("eq10.limits", "eq10.value"), ("eq10.terminal", "eq10.linear", "eq11.advantage")),
    ("value-last-dropped", ("eq10.limits", "eq10.value"), ("eq10.terminal", "eq11.advantage")),
    ("value-horizon-one", ("eq10.value",), ("eq10.limits", "eq10.terminal", "eq10.linear", "eq11.advantage")),
    ("twohot-weights-swapped", ("twohot.round-trip",), ("twohot.encode", "twohot.mean", "eq10.loss")),
    ("pmpo-alpha-swapped", ("eq11.value",), ("eq11.factored", "eq11.empty-set", "eq11.zero-advantage")),
    ("pmpo-magnitude", ("eq11.sign-only", "eq11.value"), ("eq11.factored", "eq11.empty-set", "eq11.zero-advantage")),
    ("pmpo-kl-reversed", ("eq11.kl-direction", "eq11.value"), ("eq11.factored", "eq11.per-set-mean")),
    ("entropy-bonus", ("eq11.value",), ("eq11.factored", "eq11.per-set-mean", "eq11.sign-only", "eq11.kl-direction")),
    ("rms-mean", ("rms.normalise",), ("rms.scale-free", "rms.separate", "rms.poison", "rms.not-self")),
]


@pytest.mark.parametrize(("name", "violated", "respected"), OWN_FAULT, ids=[name for name, _, _ in OWN_FAULT])
def test_mistake_fails_the_clauses_that_it_violates_alone(
    name: str, violated: tuple[str, ...], respected: tuple[str, ...]
) -> None:
    adapter = MISTAKES[name].adapter("signal")
    assert [clause for clause in violated if verdict(adapter, clause).status is not Status.FAIL] == []
    assert [clause for clause in respected if verdict(adapter, clause).status is not Status.PASS] == []


def averaging(decay: float, first: float, warmup: int, floor: float) -> Adapter:
    """An exponential average of squares with this first value."""

    class Averaging(Adapter):
        rms_warmup = warmup

        def loss_normalizer(self) -> Callable[[str, float], float]:
            squares: dict[str, float] = {}

            def normalise(name: str, value: float) -> float:
                squares[name] = decay * squares.get(name, first) + (1 - decay) * float(value) ** 2
                return np.asarray(value / max(squares[name] ** 0.5, floor))  # type: ignore[return-value]

            return normalise

    return Averaging()


@pytest.mark.parametrize("first", [0.0, 1.0])
@pytest.mark.parametrize(("decay", "warmup"), [(0.9, 101), (0.99, 1000), (0.999, 1000)])
@pytest.mark.parametrize("clause", ["rms.normalise", "rms.scale-free", "rms.separate", "rms.not-self"])
def test_average_with_any_first_value_passes(first: float, decay: float, warmup: int, clause: str) -> None:
    result = verdict(averaging(decay, first, warmup, floor=0.005), clause)
    assert result.status is Status.PASS, result.message


@pytest.mark.parametrize("clause", ["rms.normalise", "rms.scale-free", "rms.separate"])
def test_average_that_still_moves_is_undecided_and_asks_for_a_longer_warmup(clause: str) -> None:
    result = verdict(averaging(0.9999, 1.0, 500, floor=0.0), clause)
    assert result.status is Status.INCONCLUSIVE, result.message
    assert "set `rms_warmup`" in result.message
