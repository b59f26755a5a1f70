"""The README's adapter is what a reader copies: it must be short, and it must work."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dreamer4_conformance import check_implementation
from dreamer4_conformance.clauses import select
from dreamer4_conformance.verdicts import Status
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss
from dreamer4_impl.equations.eq08_ramp_weight import ramp_weight

README = Path(__file__).parents[2] / "README.md"


def first_adapter() -> str:
    adapter, _ = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return adapter


def test_readme_adapter_has_at_most_20_lines() -> None:
    assert len([line for line in first_adapter().splitlines() if line.strip()]) <= 20


def test_readme_adapter_of_a_loss_that_draws_everything_inside_conforms(monkeypatch: pytest.MonkeyPatch) -> None:
    project = ModuleType("my_project")
    project.ramp = ramp_weight  # type: ignore[attr-defined]
    project.shortcut_loss = shortcut_forcing_loss  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_project", project)
    namespace: dict[str, object] = {}
    exec(first_adapter(), namespace)
    results = check_implementation(namespace["Mine"], select(equations=[4, 6, 7, 8]))  # type: ignore[arg-type]
    wrong = [f"{result.id}: {result.message}" for result in results if result.status is Status.FAIL]
    assert wrong == []
    passed = {result.id for result in results if result.status is Status.PASS}
    assert {"eq04.step-law", "eq06.noise-law", "eq07.teacher-state", "eq07.absolute", "eq08.applied"} <= passed


def test_the_implementation_of_the_readme_is_seen_to_be_wrong_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    project = ModuleType("my_project")
    project.ramp = lambda tau: 1.0 - 0.9 * tau  # type: ignore[attr-defined]
    project.shortcut_loss = shortcut_forcing_loss  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_project", project)
    namespace: dict[str, object] = {}
    exec(first_adapter(), namespace)
    (result,) = check_implementation(namespace["Mine"], select(["eq08.value"]))  # type: ignore[arg-type]
    assert result.status is Status.FAIL
    assert result.behaves_like == ["ramp-inverted"]
