"""Trial: bounds that include underflow, and examples that do not depend on the process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

from dreamer4_conformance import Adapter, check_implementation
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.attention_case import backend_gradients, draw_attention_case
from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.judging.check import Trial
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Deviation, Status
from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.equivalents.sec34_attention import AttentionAlone, OnlineSoftmax
from dreamer4_reference.eq10_lambda_return import lambda_returns


@pytest.mark.parametrize(("dtype", "smallest"), [("float64", 2.0**-1022), ("float32", 2.0**-126)])
def test_value_lost_by_underflow_is_accepted(dtype: str, smallest: float) -> None:
    Trial().compare("x", 0.0, smallest, terms=smallest, k=1, eps=EPS[dtype])
    with pytest.raises(Deviation):
        Trial().compare("x", 0.0, 3 * smallest, terms=3 * smallest, k=1, eps=EPS[dtype])


def test_a_value_required_by_the_adapters_other_results_is_not_called_the_papers() -> None:
    """Returns that ignore ends differ from each other, and both from the paper's."""

    class EndlessReturns(Adapter):
        name, dtype = "endless", "float64"

        def lambda_returns(self, reward: Any, value: Any, cont: Any, gamma: float, lam: float) -> Any:
            return lambda_returns(reward, value, np.ones_like(cont), gamma, lam)

    [result] = check_implementation(EndlessReturns(), [BY_ID["eq10.terminal"]])
    assert result.status is Status.FAIL
    assert "by the adapter's other results it must be" in result.message
    assert "the paper" not in result.message


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("adapter", [AttentionAlone, OnlineSoftmax])
def test_attention_whose_weights_underflow_passes(adapter: type[AttentionAlone], flush: bool) -> None:
    subject, trial = Subject(adapter()), Trial()
    case = replace(draw_attention_case(subject, 1, 1, 11, (1, 1), 16, 9.0), causal=True, scale=0.5)
    weight = np.random.default_rng(0).standard_normal(case.q.shape)
    torch.set_flush_denormal(flush)
    try:
        gradients = backend_gradients(subject, case, weight, "einsum")
    finally:
        torch.set_flush_denormal(False)
    assert gradients is not None
    expected, terms = (
        f(weight / weight.size) for f in (case.expected_gradients, lambda d: case.gradient_terms(d, subject.eps))
    )  # type: ignore[operator]
    underflow = np.abs(expected[2])
    assert ((underflow > 0) & (underflow < 2.0**-126)).any()
    for got, wanted, bound in zip(gradients, expected, terms, strict=True):
        trial.compare("the gradient", got, wanted, terms=bound, k=4, eps=subject.eps)


def drawn_examples(profile: str) -> list[object]:
    """Examples of several strategies with constants in reach."""
    examples: list[object] = []

    def record(number: int, real: float) -> None:
        examples.append((number, real))

    Trial(profile, seed=3).for_all(st.integers(0, 2**31 - 1), st.floats(-1e9, 1e9), body=record)  # type: ignore[arg-type]
    return examples


@pytest.mark.parametrize("profile", ["dev", "ci", "nightly"])
def test_examples_do_not_depend_on_the_modules_imported(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = drawn_examples(profile)
    module = ModuleType("users_constants")
    module.__file__ = str(tmp_path / "users_constants.py")
    Path(module.__file__).write_text("".join(f"X{i} = {1000003 * i + 7}\nY{i} = {i}.00271828\n" for i in range(500)))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert drawn_examples(profile) == before
    assert [path.name for path in tmp_path.iterdir()] == ["users_constants.py"]


def test_examples_do_not_depend_on_the_users_profile_of_hypothesis() -> None:
    before = drawn_examples("dev")
    settings.register_profile("user", max_examples=1, derandomize=True, phases=[])
    try:
        settings.load_profile("user")
        assert drawn_examples("dev") == before
    finally:
        settings.load_profile("default")


@contextmanager
def restored(change: Callable[[], object], restore: Callable[[], object]) -> Iterator[None]:
    change()
    try:
        yield
    finally:
        restore()


STATES = {
    "flush_denormal": (lambda: torch.set_flush_denormal(True), lambda: torch.set_flush_denormal(False)),
    "default_dtype": (
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_default_dtype(torch.float32),
    ),
    "deterministic": (
        lambda: torch.use_deterministic_algorithms(True),
        lambda: torch.use_deterministic_algorithms(False),
    ),
    "threads": (lambda: torch.set_num_threads(2), lambda: torch.set_num_threads(1)),
    "random_state": (lambda: torch.manual_seed(5), lambda: None),
}
STATEFUL = ("attn.value", "attn.rope", "net.residual", "tok.bottleneck")


@pytest.mark.parametrize(
    "state", [pytest.param(state, marks=[pytest.mark.nightly] * (state == "threads")) for state in STATES]
)
def test_verdicts_do_not_depend_on_the_state_of_the_process(state: str) -> None:
    subject = Subject(TextbookModel())
    with restored(*STATES[state]):
        results = [judge(subject, BY_ID[name], minimal=False) for name in STATEFUL]
    assert [result.id for result in results if result.status is not Status.PASS] == []


def test_parameters_of_the_textbook_cannot_be_changed_by_one_adapter() -> None:
    adapter = TextbookModel()
    adapter.dtype = "float64"
    before = adapter.parameter("layer.0.q", 16, 16).clone()
    adapter.parameter("layer.0.q", 16, 16).zero_()
    assert torch.equal(adapter.parameter("layer.0.q", 16, 16), before)
