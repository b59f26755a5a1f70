"""The GitHub Action: its inputs, and its shell steps in a fake environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="needs PyYAML")

ROOT = Path(__file__).parents[3]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
SETUP, INSTALL, JUDGE = ACTION["runs"]["steps"]

ADAPTER = """
from dreamer4_conformance import Adapter

class Wrong(Adapter):
    def ramp_weight(self, tau):
        return 1 - 0.9 * tau
"""


def in_the_shell(
    step: dict[str, Any], directory: Path, python: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a step as a runner does, with a script as `python`."""
    (directory / "bin").mkdir(exist_ok=True)
    (directory / "bin" / "python").write_text(f"#!/bin/sh\n{python}\n")
    (directory / "bin" / "python").chmod(0o755)
    path = f"{directory / 'bin'}:{os.environ['PATH']}"
    summary = str(directory / "summary.md")
    environment = os.environ | variables | {"PATH": path, "GITHUB_STEP_SUMMARY": summary, "COLUMNS": "80"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


def arguments(step: dict[str, Any], directory: Path, **variables: str) -> list[str]:
    return in_the_shell(step, directory, "printf '%s\\n' \"$@\"", **variables).stdout.splitlines()


def test_inputs_and_steps() -> None:
    inputs = {name: (entry.get("required", False), entry.get("default")) for name, entry in ACTION["inputs"].items()}
    expected = {"args": (False, ""), "python-version": (False, ""), "extras": (False, "torch"), "adapter": (True, None)}
    assert inputs == expected
    assert SETUP["if"] == "inputs.python-version != ''"
    assert len(SETUP["uses"].partition("@")[2]) == 40
    assert [step["shell"] for step in (INSTALL, JUDGE)] == ["bash", "bash"]
    assert not any("${{" in step["run"] for step in (INSTALL, JUDGE))  # an input in a script would be executed
    assert JUDGE["env"] == {"ADAPTER": "${{ inputs.adapter }}", "ARGUMENTS": "${{ inputs.args }}"}


def test_the_suite_is_installed_from_the_action_with_its_extras(tmp_path: Path) -> None:
    pip = ["-m", "pip", "install", "-q"]
    assert arguments(INSTALL, tmp_path, ACTION="/a b", EXTRAS="torch") == [*pip, "/a b[torch]"]
    assert arguments(INSTALL, tmp_path, ACTION="/a b", EXTRAS="") == [*pip, "/a b"]


def test_inputs_are_passed_and_not_executed(tmp_path: Path) -> None:
    (tmp_path / "eq07.matching").touch()
    passed = arguments(JUDGE, tmp_path, ADAPTER="my adapter.py:Mine", ARGUMENTS="--clause eq07.* $(touch,executed)")
    assert passed[:6] == [
        "-m",
        "dreamer4_conformance",
        "run",
        "--annotations",
        "--markdown",
        str(tmp_path / "summary.md"),
    ]
    assert passed[6:] == ["--clause", "eq07.*", "$(touch,executed)", "--", "my adapter.py:Mine"]
    assert not (tmp_path / "executed").exists()


@pytest.mark.nightly
def test_a_failure_is_annotated_and_in_the_summary(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ADAPTER)
    python = f'exec "{sys.executable}" "$@"'
    variables = {"ADAPTER": "mine.py:Wrong", "ARGUMENTS": "--clause eq08.value", "GITHUB_WORKSPACE": str(tmp_path)}
    ended = in_the_shell(JUDGE, tmp_path, python, PYTHONPATH=os.pathsep.join(sys.path), **variables)
    assert ended.returncode == 1
    assert "::error title=eq08.value — Eq. (8)%2C Sec. 3.2%2C p. 6%3A fail,file=mine.py,line=5::" in ended.stdout
    assert "ramp-inverted" in (tmp_path / "summary.md").read_text("utf-8")
