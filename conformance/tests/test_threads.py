"""Torch runs in one thread during the suite unless a count was set; adapters restore the settings they change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dreamer4_conformance import AdapterError, TorchAdapter, check_implementation
from dreamer4_conformance.clauses import select
from dreamer4_conformance.threads import single_thread

pytest_plugins = ["pytester"]

#: What torch takes by itself.
CORES = torch.get_num_interop_threads()
RAMP = select(["eq08.value"], None)
#: An adapter that notes in how many threads its operation runs; `{setup}` is the user's own code.
ADAPTER = """
import torch
from dreamer4_conformance import TorchAdapter
{setup}

class Mine(TorchAdapter):
    name, version = "me/mine", "1.0"
    def ramp_weight(self, tau):
        with open("threads", "w") as file:
            file.write(str(torch.get_num_threads()))
        return 0.9 * tau + 0.1
"""


class Observed(TorchAdapter):
    """Writes the number of threads to a file, because it may run in another process."""

    path: Path

    def ramp_weight(self, tau: torch.Tensor) -> torch.Tensor:
        with self.path.open("a") as file:
            print(torch.get_num_threads(), file=file)
        return 0.9 * tau + 0.1


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A machine where torch takes four threads by itself."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_interop_threads", lambda: 4)
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(before)


def _counts(folder: Path) -> set[int]:
    adapter = Observed()
    adapter.path = folder / "threads"
    check_implementation(adapter, RAMP)
    return {int(line) for line in adapter.path.read_text().split()}


def test_operations_run_in_one_thread_and_the_count_is_restored(cores: int, tmp_path: Path) -> None:
    assert _counts(tmp_path) == {1}
    assert torch.get_num_threads() == cores


def test_the_count_is_restored_after_an_adapter_error(cores: int) -> None:
    with pytest.raises(AdapterError):
        check_implementation("not an adapter", RAMP)  # type: ignore[arg-type]
    assert torch.get_num_threads() == cores


def test_a_count_in_the_environment_is_respected(cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert _counts(tmp_path) == {cores}


def test_a_count_that_the_caller_has_set_is_respected(cores: int, tmp_path: Path) -> None:
    torch.set_num_threads(3)
    assert _counts(tmp_path) == {3}
    assert torch.get_num_threads() == 3


def test_a_count_that_is_set_inside_stays(cores: int) -> None:
    with single_thread():
        torch.set_num_threads(2)
    assert torch.get_num_threads() == 2


def test_on_a_gpu_the_count_is_left_alone(cores: int) -> None:
    with single_thread("cuda:0"):
        assert torch.get_num_threads() == cores


def _command(folder: Path, setup: str, **variables: str) -> int:
    (folder / "mine.py").write_text(ADAPTER.format(setup=setup))
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | variables
    command = [sys.executable, "-m", "dreamer4_conformance", "run", "mine.py:Mine", "--clause", "eq08.value"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return int((folder / "threads").read_text())


@pytest.mark.parametrize(
    ("setup", "variables", "count"),
    [
        ("", {}, 1),
        (f"torch.set_num_threads({CORES})", {}, CORES),
        ("torch.set_num_threads(3)", {}, 3),
        ("", {"OMP_NUM_THREADS": str(CORES)}, CORES),
    ],
    ids=["default", "adapter sets torch's default", "adapter sets 3", "environment"],
)
def test_the_command_runs_in_one_thread_unless_a_count_is_chosen(
    setup: str, variables: dict[str, str], count: int, tmp_path: Path
) -> None:
    assert _command(tmp_path, setup, **variables) == count


TESTS = """
import pytest, torch
from dreamer4_conformance import parametrize_with_checks
from mine import Mine

torch.get_num_interop_threads = lambda: 4

@pytest.fixture(autouse=True)
def count():
    torch.set_num_threads({count})
    yield
    assert torch.get_num_threads() == {count}

@parametrize_with_checks(Mine())
def test_conforms(dreamer4_clause):
    dreamer4_clause()
"""


@pytest.mark.parametrize(("count", "expected"), [(4, 1), (3, 3)], ids=["torch's default", "chosen by the user"])
def test_the_plugin_restores_the_count_test_by_test(
    count: int, expected: int, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pytester.makepyfile(mine=ADAPTER.format(setup=""), test_mine=TESTS.format(count=count))
    pytester.runpytest_subprocess("--dreamer4-clause=eq08.*").assert_outcomes(passed=2, skipped=1)
    assert int((pytester.path / "threads").read_text()) == expected
