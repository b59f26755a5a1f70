"""The bundled adapter runs the training code: if a function of that code is broken, the suite names the mistake."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from dreamer4_conformance.adapters.bundled import Bundled
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.runner import checkable, judge
from dreamer4_conformance.verdicts import Status


def test_every_clause_has_a_check() -> None:
    assert [clause for clause in BY_ID.values() if clause not in checkable()] == []


# Training with a broken function


def function_to_patch(name: str) -> tuple[Any, str, Any]:
    """Module, attribute and value of a function of dreamer4_impl, "module:attribute"."""
    path, _, attribute = name.rpartition(":")
    module = importlib.import_module(f"dreamer4_impl.{path}")
    return module, attribute, getattr(module, attribute)


def inverted(correct: Callable[..., Any]) -> Callable[..., Any]:
    return lambda tau: correct(1 - tau)


def cloned_from_all(correct: Callable[..., Any]) -> Callable[..., Any]:
    return lambda agent, h, taken, known, rewards, policy, reward: correct(
        agent, h, taken, known, rewards, reward, reward
    )


def swapped(correct: Callable[..., Any]) -> Callable[..., Any]:
    return lambda means, alpha, beta: correct(means, 1 - alpha, beta)


def no_share(correct: Callable[..., Any]) -> Callable[..., Any]:
    return lambda share, seed, step, size, what: correct(0.0 if what == "image" else share, seed, step, size, what)


def always_short(correct: Callable[..., Any]) -> Callable[..., Any]:
    return lambda step, steps, batches, short, long: short


def nothing_restored(correct: Callable[..., Any]) -> Callable[..., Any]:
    return lambda value: {"state": {}, "param_groups": value["param_groups"]} if "state" in value else correct(value)


def strict(correct: Callable[..., Any]) -> Callable[..., Any]:
    return lambda module, weights, **options: correct(module, weights, **(options | {"strict": True}))


BROKEN = [
    pytest.param(
        *("equations.eq06_07_shortcut_forcing:ramp_weight", inverted, "eq08.applied", "ramp-inverted"),
        marks=pytest.mark.nightly,  # half a minute
    ),
    ("training.phases.agent:head_means", cloned_from_all, "train.data-mixture", "cloning-on-all"),
    ("training.phases.imagine:policy_term", swapped, "eq11.value", "pmpo-alpha-swapped"),
    ("training.step_plan:marked", no_share, "train.images", "images-none"),
    ("training.step_plan:batch_length", always_short, "train.batch-lengths", "lengths-short-only"),
    pytest.param(
        *("training.state:_copied", nothing_restored, "ckpt.complete", "resume-without-optimiser"),
        marks=pytest.mark.nightly,  # every mistake of its clause is trained with
    ),
    ("checkpoints.checkpoint:load_weights", strict, "ckpt.tolerant", "checkpoint-strict"),
]


@pytest.mark.parametrize(("name", "breaks", "clause", "mistake"), BROKEN)
def test_broken_training_function_is_rejected_and_named(
    name: str, breaks: Any, clause: str, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, attribute, correct = function_to_patch(name)
    monkeypatch.setattr(module, attribute, breaks(correct))
    result = judge(Subject(Bundled()), BY_ID[clause], minimal=False)
    assert result.status is Status.FAIL
    assert mistake in result.behaves_like
