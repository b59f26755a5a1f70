"""The tutorials say what the suite and the committed results say."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from docs import finding_a_bug
from docs.generator import results
from docs.generator.figures import tutorials
from docs.generator.figures.tutorials import ROOM_EPISODE, ROOM_SEED
from docs.generator.repository import ROOT
from dreamer4_conformance import check_implementation, cli
from dreamer4_conformance.clauses import select
from dreamer4_conformance.verdicts import Status
from dreamer4_impl.training import command as training

SHOWN = dict(zip(finding_a_bug.NAMES, finding_a_bug.blocks("console"), strict=True))
"""Version of the implementation → the report that the page shows of it."""
TWO_STEPS = re.findall(r"(?ms)^```sh\n(.*?)^```", (ROOT / "docs/minigrid.md").read_text("utf-8"))[-1]


@pytest.mark.nightly
@pytest.mark.parametrize("name", finding_a_bug.NAMES)
def test_verdicts_of_a_version_are_those_of_the_page(name: str) -> None:
    judged = check_implementation(finding_a_bug.adapter(name), select(equations=[7, 8]))
    failed = {result.id: result.behaves_like for result in judged if result.status is Status.FAIL}
    assert failed.keys() == set(re.findall(r"(?m)^ *(eq\S+) — .*fail", SHOWN[name]))
    named = re.findall(r"(?m)^(eq\S+) — (?:.*\n)(?:  .*\n)*?  behaves like: (\S+)$", SHOWN[name])
    assert len(named) == SHOWN[name].count("behaves like:")
    assert [clause for clause, mistake in named if mistake not in failed[clause]] == []


@pytest.mark.nightly
@pytest.mark.parametrize("name", finding_a_bug.NAMES)
def test_command_prints_the_report_of_the_page(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("small_loss.py").write_text(finding_a_bug.versions()[name])
    Path("my_adapter.py").write_text(finding_a_bug.blocks("python")[1])
    command, *lines = SHOWN[name].splitlines()
    cli.main(shlex.split(command)[2:])
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line not in printed] == []


def test_repairs_end_the_failures_that_they_are_for() -> None:
    for name, clauses in (
        ("first repair", ["eq07.teacher-state"]),
        ("both repairs", ["eq07.absolute", "eq08.applied"]),
    ):
        judged = check_implementation(finding_a_bug.adapter(name), select(clauses))
        assert {result.id: result.status for result in judged} == dict.fromkeys(clauses, Status.PASS)


def test_results_are_those_that_the_tutorial_describes() -> None:
    measured = json.loads(finding_a_bug.RESULTS.read_text("utf-8"))
    assert tuple(measured) == finding_a_bug.NAMES
    found, first, both = (result["distances"].values() for result in measured.values())
    assert max(both) < 0.02 < min(found) < max(found) < min(first)
    ends = measured["as found"]["paths"]["64"][-1]
    assert min(ends) < -1.4
    assert max(ends) > 1.2


def sequence(seed: int) -> dict[str, Any]:
    measure = {"value": 1.1 + seed, "low": 1.0, "high": 1.2 + seed}
    return {
        "format": "dreamer4-sequence",
        "game": "dreamer4_impl.examples.rooms:MovingGoal-v0",
        "seed": seed,
        "stages": {"tokenizer": {"cpu_seconds": 3661.2}},
        "evaluation": {"measures": {"game.policy": measure, "returns.ratio": dict.fromkeys(measure)}},
    }


def test_returns_of_committed_runs_are_shown_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "ROOMS", tmp_path)
    assert "No whole run" in results.return_table()
    assert results.time_table() == ""
    unfinished = {**sequence(3), "evaluation": None}
    for number, run in enumerate([sequence(2), sequence(1), unfinished]):
        (tmp_path / f"{number}.json").write_text(json.dumps(run))
    shown = results.return_table()
    assert "|  | seed 1 | seed 2 |" in shown
    assert "| policy after imagination | 2.10 [1.00, 2.20] | 3.10 [1.00, 3.20] |" in shown
    assert "| random play | – | – |" in shown
    assert "| imagined ÷ real | – [–, –] | – [–, –] |" in shown
    assert ">seed 2<" in tutorials.rooms_returns()
    assert "| tokenizer | 1:01:01 | 1:01:01 |" in results.time_table()


def test_drawn_episode_is_that_of_the_game() -> None:
    pytest.importorskip("minigrid", reason="needs the extra minigrid")
    from dreamer4_impl.examples.rooms import MovingGoal

    room = MovingGoal(render_mode="rgb_array")
    room.reset(seed=ROOM_SEED)
    for number, (action, agent, direction, goal) in enumerate(ROOM_EPISODE):
        reward = room.step(room.get_action_meanings().index(action))[1] if number else 0.0
        assert (tuple(room.agent_pos), room.agent_dir, room.goal()) == (agent, direction, goal)
        assert reward == (number == len(ROOM_EPISODE) - 1)


@pytest.mark.nightly
def test_command_of_the_room_runs_with_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minigrid", reason="needs the extra minigrid")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(TWO_STEPS.replace("\\\n", " "))[1:]
    assert training.main(words) == 1  # all stages complete, and a bar is missed
    monkeypatch.setattr(results, "ROOMS", tmp_path / "runs/two")
    (run,) = results.sequences()
    assert run["stages"].keys() == set(results.STAGES)
    assert results.RETURNS.keys() <= run["evaluation"]["measures"].keys()
