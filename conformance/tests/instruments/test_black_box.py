"""Influence tests and comparisons of whole models: accepted examples, detected deviations, undecided cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.black_box import Segment, combined_influences, example_inputs, influences
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial
from dreamer4_conformance.judging.influence_verdicts import fail_unless_influence
from dreamer4_conformance.judging.output_comparison import fail_unless_close
from dreamer4_conformance.verdicts import Deviation, Inconclusive, OperationFailed


class Model(Adapter):
    """z_hat is the sum of z over the frames so far, plus what `extra` adds to it."""

    dtype = "float64"

    def __init__(self) -> None:
        self.calls = 0

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        rng = np.random.default_rng([seed, batch, time])
        shape = (batch, time)
        actions = (rng.integers(0, 2, shape), {"stick": rng.standard_normal((*shape, 2)), "none": None})
        return {
            "z": rng.standard_normal((*shape, 2, 1)),
            "tau": np.full(shape, 0.5),
            "d": np.ones(shape),
            "actions": actions,
        }

    def dynamics(
        self, z: Any, tau: Any, d: Any, actions: Any, task: Any, labelled: Any
    ) -> tuple[np.ndarray, np.ndarray | None]:
        self.calls += 1
        return z.cumsum(1) + self.extra(z, actions), None

    def extra(self, z: np.ndarray, actions: Any) -> Any:
        return 1e-12 * actions[1]["stick"][..., None]


class Mixed(Model):
    def extra(self, z: np.ndarray, actions: Any) -> Any:
        return z.mean(0)


class Restless(Model):
    def extra(self, z: np.ndarray, actions: Any) -> Any:
        return self.calls


class OtherShapes(Model):
    def dynamics(self, z: Any, *given: Any) -> tuple[np.ndarray, np.ndarray | None]:
        self.calls += 1
        return z[:, :, : self.calls], None


def moved(model: Model, *parts: Segment, time: int = 3) -> dict[str, list[int]]:
    found = influences(Subject(model), "dynamics", parts, seed=0, time=time)
    return {str(each.segment): each.frames("z_hat").astype(int).tolist() for each in found}


def test_a_part_moves_the_outputs_that_depend_on_it() -> None:
    assert moved(Model(), Segment("z", (1,)), Segment("z", (0, 1))) == {"z[1]": [0, 1, 1], "z[0, 1]": [1, 1, 1]}


def test_the_smallest_movement_is_seen() -> None:
    assert moved(Model(), Segment("actions.1.stick", (2,)))["actions.1.stick[2]"] == [0, 0, 1]


def test_a_path_stands_for_everything_below_it() -> None:
    assert moved(Model(), Segment("actions", (1,)))["actions[1]"] == [0, 1, 0]


def test_parts_that_are_always_the_same_or_missing_are_left_out() -> None:
    assert moved(Model(), Segment("tau", (0,)), Segment("task")) == {}
    with pytest.raises(Inconclusive, match="every example is the same at tau"):
        combined_influences(Subject(Model()), "dynamics", [Segment("tau")], lambda found: True, seed=0, time=2)


def test_many_parts_cost_two_calls_for_each_chunk() -> None:
    model = Model()
    moved(model, *(Segment("z", (t,)) for t in range(20)), time=20)
    assert model.calls == 4


def test_rows_that_are_mixed_are_left_to_dyn_conditioning() -> None:
    with pytest.raises(Inconclusive, match=r"follows from dyn\.conditioning: the outputs of one sequence change with"):
        moved(Mixed(), Segment("z", (0,)))


def test_calls_that_do_not_repeat_decide_nothing() -> None:
    with pytest.raises(Inconclusive, match="is not repeatable"):
        moved(Restless(), Segment("z", (0,)))


def test_shapes_that_change_from_call_to_call_are_refused() -> None:
    with pytest.raises(OperationFailed, match="on inputs of the same shapes"):
        moved(OtherShapes(), Segment("z", (0,)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"z": None}, "example has no 'z'"), ({"tau": np.zeros(5)}, "its first axis needs to be the batch, 2")],
)
def test_an_unusable_example_is_refused_in_a_sentence(changed: dict[str, Any], message: str) -> None:
    model = Model()
    whole = model.example(0, 2, 3)
    model.example = lambda *given: {**whole, **changed}  # type: ignore[method-assign]
    with pytest.raises(OperationFailed, match=message):
        example_inputs(Subject(model), "dynamics", 0, 2, 3)


def test_all_clips_are_labelled_where_there_are_actions() -> None:
    model = Model()
    assert example_inputs(Subject(model), "dynamics", 0, 2, 3)["labelled"].all()
    whole = {**model.example(0, 2, 3), "actions": None}
    model.example = lambda *given: whole  # type: ignore[method-assign]
    assert not example_inputs(Subject(model), "dynamics", 0, 2, 3)["labelled"].any()


@pytest.mark.parametrize(("dtype", "expected"), [("float32", Deviation), ("bfloat16", Inconclusive)])
def test_influence_that_is_missing_decides_nothing_in_bfloat16(dtype: str, expected: type[Exception]) -> None:
    model = Model()
    model.dtype = dtype
    with pytest.raises(expected):
        fail_unless_influence(Trial(), Subject(model), False, "nothing moves")


FRAMES = np.random.default_rng(0).standard_normal((2, 5, 3, 2))


@pytest.mark.parametrize(
    ("dtype", "rounding", "fault"), [("float64", 1e-12, 1e-8), ("float32", 1e-6, 1e-3), ("bfloat16", 1e-2, 0.3)]
)
def test_outputs_are_close_within_the_budget_of_their_dtype(dtype: str, rounding: float, fault: float) -> None:
    model, trial = Model(), Trial()
    model.dtype = dtype
    fail_unless_close(trial, Subject(model), "two outputs", FRAMES * (1 + rounding), FRAMES)
    wrong = FRAMES.copy()
    wrong[1, 3] *= 1 + fault
    with pytest.raises(Deviation, match="two outputs differ in frame 3"):
        fail_unless_close(trial, Subject(model), "two outputs", wrong, FRAMES)


def test_one_wrong_number_is_not_close() -> None:
    wrong = np.tile(FRAMES, (1, 1, 100, 1))
    expected = wrong.copy()
    wrong[0, 2, 0, 0] += 1e-3
    model = Model()
    model.dtype = "float32"
    with pytest.raises(Deviation, match="frame 2"):
        fail_unless_close(Trial(), Subject(model), "two outputs", wrong, expected)


def test_nan_is_not_close() -> None:
    with pytest.raises(Deviation):
        fail_unless_close(Trial(), Subject(Model()), "two outputs", np.full_like(FRAMES, np.nan), FRAMES)


def test_a_model_that_lets_rounding_grow_is_given_as_much() -> None:
    subject, off = Subject(Model()), FRAMES * (1 + 1e-6)
    fail_unless_close(Trial(), subject, "two outputs", off, FRAMES, rounded=lambda: FRAMES * (1 + 1e-6))
    with pytest.raises(Deviation):
        fail_unless_close(Trial(), subject, "two outputs", off, FRAMES, rounded=lambda: FRAMES * (1 + 1e-8))
    with pytest.raises(Inconclusive, match="a rounding of the inputs changes this model's output"):
        fail_unless_close(Trial(), subject, "two outputs", off, FRAMES, rounded=lambda: 2 * FRAMES)
