"""Every block of the walkthrough: its code, commands, repairs and configuration files lead to a green run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dreamer4_conformance.cli import main

PAGE = (Path(__file__).parents[2] / "walkthrough.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
#: Clauses of the page whose failures take no second to minimise.
FAST = "eq10.value,eq11.kl-direction"


@dataclass
class Terminal:
    """Runs the blocks of the page in order."""

    capsys: pytest.CaptureFixture[str]
    selection: str

    def python(self, text: str) -> None:
        Path("small_dreamer.py").write_text(text)

    def diff(self, text: str) -> None:
        (name,) = re.findall(r"^--- (.*)", text)
        (old,), (new,) = (re.findall(rf"^\{sign}(    .*)", text, re.MULTILINE) for sign in "-+")
        assert Path(name).read_text().count(old) == 1
        Path(name).write_text(Path(name).read_text().replace(old, new))

    def console(self, text: str) -> None:
        command, *shown = text.splitlines()
        printed = self.output(command.removeprefix("$ "))
        if self.selection and " run " in command:
            shown = [line for line in shown_of(self.selection, shown) if not re.match(r"\d+ of", line)]
        assert [line for line in shown if line not in printed] == []

    def output(self, command: str) -> list[str]:
        program, *arguments = shlex.split(command)
        assert program == "dreamer4-conformance"
        if self.selection and arguments[0] == "run":
            arguments = [*arguments[:2], "--clause", self.selection]
        main(arguments)
        return self.capsys.readouterr().out.splitlines()


def shown_of(selection: str, shown: list[str]) -> Iterator[str]:
    """Lines that precede the first failure, and those of the failures of some clauses."""
    clause = ""
    for line in shown:
        clause = line.partition(" ")[0] if re.match(r"eq\d\d\.", line) else clause
        if not clause or clause in selection.split(","):
            yield line


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamer4_conformance.isolation.worker.is_forkable", lambda device: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def run_blocks(terminal: Terminal) -> None:
    for language, text in BLOCKS:
        if language in ("python", "diff", "console"):
            getattr(terminal, language)(text)


def test_code_commands_and_repairs_lead_to_a_green_run(capsys: pytest.CaptureFixture[str]) -> None:
    run_blocks(Terminal(capsys, FAST))
    assert main(["run", "my_adapter.py:Mine", "--clause", f"eq07.stop-gradient,{FAST}"]) == 0


@pytest.mark.nightly
def test_all_clauses_are_as_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    run_blocks(Terminal(capsys, ""))
    assert main(["run", "my_adapter.py:Mine", "--require", "4,8"]) == 0


def test_configuration_files_are_those_of_init_and_run_the_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    blocks = dict(BLOCKS[:3])
    Terminal(capsys, "").python(blocks["python"])
    Terminal(capsys, "").console(blocks["console"])
    workflow, hooks = (yaml.safe_load(text) for language, text in BLOCKS if language == "yaml")
    written = yaml.safe_load(Path(".github/workflows/dreamer4.yml").read_text())
    version = [job["jobs"]["conformance"]["steps"][1]["with"].pop("python-version") for job in (written, workflow)]
    assert re.fullmatch(r"3\.\d+", version[1])
    assert written == workflow
    [hook] = hooks["repos"][0]["hooks"]
    assert (hook["language"], hook["pass_filenames"]) == ("system", False)
    arguments = shlex.split(hook["entry"].partition(" ")[2])
    assert main([*arguments[:2], "--clause", "eq08.value"]) == 0
    capsys.readouterr()
    assert main(["list", *arguments[2:]]) == 0
    assert "eq08.value" in capsys.readouterr().out


@pytest.mark.parametrize("steps", [1, pytest.param(100, marks=pytest.mark.nightly)])
def test_the_implementation_is_small_and_trains(steps: int) -> None:
    import torch

    code = next(text for language, text in BLOCKS if language == "python")
    assert 80 <= len(code.splitlines()) <= 150
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    model = namespace["Dynamics"](tokens=2, channels=3, actions=4, width=8)
    batch = torch.zeros(4, 5, 2, 3), torch.zeros(4, 5, 4)
    if steps == 1:  # the first optimiser of a process takes seconds to import
        namespace["shortcut_loss"](model, *batch).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
    else:
        losses = list(namespace["train"](model, [batch] * steps))
        assert sum(losses[-10:]) < sum(losses[:10])
