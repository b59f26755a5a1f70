"""Clauses share results of equal calls, if the operation repeats them; each number of calls is exact."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from dreamer4_conformance import TorchAdapter
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.guard import Guard
from dreamer4_conformance.instruments.shared_results import same_bits, shared_result
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.instruments.training import DATA, agent_losses, component_gradients
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Status
from dreamer4_conformance.zoo.base import TextbookLoss

CLAUSES = ("eq07.teacher-labels", "eq07.teacher-state", "eq07.same-network", "eq07.actions")
ROUTES = ("dynamics_loss", "dynamics_loss_at")


class Counting(TextbookLoss):
    """Counts differentiated evaluations by route and input."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: Counter[tuple[Any, ...]] = Counter()

    def dynamics_loss(self, network: Any, z1: Any, actions: Any, seed: int) -> Any:
        self.inputs[ROUTES[0], network.network, z1.numpy().tobytes(), tuple(z1.shape), seed] += 1
        return super().dynamics_loss(network, z1, actions, seed)

    def dynamics_loss_at(self, network: Any, z1: Any, *args: Any, **kwargs: Any) -> Any:
        self.inputs[ROUTES[1], network.network, z1.numpy().tobytes(), tuple(z1.shape), 0] += 1
        return super().dynamics_loss_at(network, z1, *args, **kwargs)


def statuses(adapter: TextbookLoss, *clauses: str) -> set[Status]:
    subject = Subject(adapter)
    return {judge(subject, BY_ID[clause], minimal=False).status for clause in clauses}


def test_four_clauses_evaluate_the_loss_as_often_as_one_and_once_more_for_each_route() -> None:
    single, several = Counting(), Counting()
    assert statuses(single, CLAUSES[0]) == statuses(several, *CLAUSES) == {Status.PASS}
    assert single.inputs.keys() == several.inputs.keys()
    added = several.inputs - single.inputs
    # `dynamics_loss` of the textbook calls `dynamics_loss_at`.
    assert Counter(route for route, *_ in added.elements()) == {"dynamics_loss": 1, "dynamics_loss_at": 2}


class Drifting(Counting):
    """A loss that grows with every call."""

    def dynamics_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().dynamics_loss(*args, **kwargs) + 1e-6 * sum(self.inputs.values())


def test_a_loss_that_does_not_repeat_is_evaluated_by_every_clause() -> None:
    adapter = Drifting()
    subject = Subject(adapter, hidden=frozenset({ROUTES[1]}))
    calls = []
    for clause in CLAUSES[:3]:
        judge(subject, BY_ID[clause])
        calls.append(sum(adapter.inputs.values()))
    assert len(set(np.diff(calls))) == 1
    assert calls[1] - calls[0] >= 20


class Flawed(Counting):
    """A loss that is NaN until it is repaired."""

    flawed = True

    def dynamics_loss_at(self, network: Any, z1: Any, actions: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().dynamics_loss_at(network, z1, actions, *args, **kwargs)
        return loss * float("nan") if self.flawed else loss


def test_a_deviation_of_a_shared_evaluation_is_judged_by_a_new_call() -> None:
    adapter = Flawed()
    assert statuses(adapter, CLAUSES[0], CLAUSES[1]) == {Status.PASS}  # these do not read the loss
    adapter.flawed = False
    assert statuses(adapter, "eq07.bootstrap-value") == {Status.PASS}


class Phases(TorchAdapter):
    name, version, dtypes = "phases", "1", ("float32",)

    def __init__(self, change: float = 0.0) -> None:
        self.calls, self.change = 0, change

    def training_gradients(self, phase: str, seed: int, terms: Any = None) -> Any:
        self.calls += 1
        return {"policy": [torch.ones(2) + self.change * self.calls, None], "value": torch.ones(1)}

    def agent_losses(self, seed: int, data: Any, relevant: Any) -> Any:
        self.calls += 1
        return {"policy": torch.tensor(1.0 + self.change * self.calls), "reward": None}


def test_training_is_shared_after_one_repetition_and_never_if_it_changes() -> None:
    for read in (lambda s: component_gradients(s, "agent", 0), lambda s: agent_losses(s, 0, DATA)):
        for change, expected in ((0.0, 2), (0.5, 5)):
            adapter = Phases(change)
            subject = Subject(adapter)
            for _ in range(5):
                read(subject)  # type: ignore[no-untyped-call]
            assert adapter.calls == expected
            adapter.k_max = 8  # another condition of the adapter
            read(subject)  # type: ignore[no-untyped-call]
            assert adapter.calls == expected + 1


def test_results_are_equal_bit_for_bit() -> None:
    nan = np.array([np.nan, 0.0])
    assert same_bits(nan, nan.copy())
    assert same_bits(None, None)
    assert not same_bits(nan, None)
    assert not same_bits(np.array(0.0), np.array(-0.0))
    assert not same_bits(np.zeros(2), np.zeros((1, 2)))


def test_an_exception_is_not_shared() -> None:
    subject, calls = Subject(TextbookLoss()), iter((1, 0, 1))

    def call() -> int:
        return 1 // next(calls)

    def evaluate() -> int:
        try:
            return shared_result(subject, "corrupt", "x", call, int.__eq__)[0]
        except ZeroDivisionError:
            return -1

    assert [evaluate(), evaluate(), evaluate()] == [1, -1, 1]


def test_calls_within_a_guard_of_the_same_operation_are_guarded_together() -> None:
    guard, threads = Guard(), torch.get_num_threads()
    guard.loading()
    guard.loaded(TextbookLoss())
    with guard.clause() as remarks:
        with guard.call("loss_normalizer"):
            with guard.call("loss_normalizer"):
                torch.set_num_threads(threads + 1)
            assert torch.get_num_threads() == threads + 1
        assert torch.get_num_threads() == threads
    assert remarks == ["loss_normalizer changed torch's number of threads; restored after the call"]
