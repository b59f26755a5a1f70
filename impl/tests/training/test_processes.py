"""Training in separate processes: sharing a batch, killed repeatedly, in one directory, and without a terminal."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from dreamer4_impl.checkpoints.checkpoint import read, steps
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny

from . import toy


def script(*arguments):
    """Run the script of `toy`; its output is shown if it fails."""
    command = [sys.executable, "-W", "error", toy.__file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All runs from one process, because importing torch takes most of its time."""
    directory = tmp_path_factory.mktemp("processes")
    script(directory, 24, 3)
    return directory


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_two_processes_give_the_losses_of_one(runs, engine):
    """In every step, although relevant samples are distributed unequally, in some steps to one process only."""
    one, two = toy.curve(runs / "one"), toy.curve(runs / engine)
    assert len(one) == len(two) == 20
    for alone, together in zip(one, two, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], abs=1e-5)
        assert together["means"] == pytest.approx(alone["means"], abs=1e-5)
        assert together["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-3)


@pytest.mark.parametrize("run", ["ddp", "fsdp", "fsdp-then-one", "fsdp-then-three", "one-then-fsdp"])
def test_weights_and_average_do_not_depend_on_the_number_of_processes(runs, run):
    expected, found = (read(steps(runs / name)[-1]) for name in ("one", run))
    assert found.average.keys() == expected.average.keys()
    for mine, theirs in ((found.weights, expected.weights), (found.average, expected.average)):
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("run", ["fsdp-then-one", "fsdp-then-three", "one-then-fsdp"])
def test_checkpoints_do_not_depend_on_the_number_of_processes(runs, run):
    expected, found = toy.curve(runs / "one")[10:], toy.curve(runs / run)
    assert [line["step"] for line in found] == list(range(11, 21))
    for alone, changed in zip(expected, found, strict=True):
        assert changed["loss"] == pytest.approx(alone["loss"], abs=1e-5)


def test_each_process_of_a_sharded_run_writes_its_rows_of_weights_average_and_moments(runs):
    directory = steps(runs / "fsdp")[-1]
    complete, trained = read(directory), toy.ToyPhase(toy.settings()).trained(Dreamer4(tiny()))
    expected = {"model.safetensors": dict(Dreamer4(tiny()).named_parameters()), "average.safetensors": dict(trained)}
    expected["optimiser"] = {f"{name}/{moment}": p for name, p in trained for moment in ("exp_avg", "exp_avg_sq")}
    assert expected["average.safetensors"].keys() == complete.average.keys()
    for rank in range(2):
        (path,) = directory.glob(f"shard-{rank + 1:05d}-*")
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (not a mapping)
        for group, parameters in expected.items():
            for name, parameter in parameters.items():
                rows = [*parameter.chunk(2), parameter[:0]][rank]
                assert found.get(f"{group}/{name}", [0, *parameter.shape[1:]]) == list(rows.shape)


@pytest.mark.parametrize(("kill", "step"), [("shards", 10), ("header", 10), ("complete", 20)])
def test_a_sharded_run_that_is_killed_in_a_save_resumes_from_a_complete_checkpoint(runs, kill, step):
    run = runs / f"killed-{kill}"
    assert (run / "resumed-from").read_text() == f"step-{step:08d}"
    assert not list((run / "checkpoints").glob(".*"))
    for found, expected in zip(toy.curve(run), toy.curve(runs / "fsdp"), strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-6)


def test_a_failure_in_one_process_ends_the_save_of_all(runs):
    """A disk that is full in the second process, and a directory that the first process cannot make."""
    for run, reason in {"full": "process 1: ", "blocked": r"[Errno 20] Not a directory"}.items():
        log = (runs / run / "log.txt").read_text()
        assert f"the checkpoint of step 1 could not be written: {reason}" in log
        assert "earlier checkpoints are unchanged" in log
    assert not list((runs / "full" / "checkpoints").iterdir())


def test_a_repeatedly_killed_run_equals_an_uninterrupted_one(runs):
    assert toy.curve(runs / "killed") == toy.curve(runs / "whole")
    assert len(toy.curve(runs / "whole")) == 24


def test_a_signal_to_one_process_stops_all(runs):
    assert [line["step"] for line in toy.curve(runs / "stopped")] == [1, 2, 3, 4]


def require_one_winner(directory, trial):
    """One process trains to the end; the other is refused and names it, and nothing of it is in the run."""
    folder = directory / f"pair-{trial - trial % 2}"
    statuses = dict(line.split() for line in (folder / f"{trial}.statuses").read_text().splitlines())
    assert sorted(statuses.values()) == ["0", "2"]
    (winner,) = (child for child, status in statuses.items() if status == "0")
    refusals = [path.read_text() for path in folder.glob(f"{trial}-?.stderr") if "in use" in path.read_text()]
    assert [f"is in use by process {winner} on {socket.gethostname()} since " in text for text in refusals] == [True]
    assert "Traceback" not in refusals[0]


def require_unmixed(run):
    """The run equals one without a second process: every step once, the last checkpoint good, no leftovers."""
    assert [line["step"] for line in toy.curve(run)] == list(range(1, 13))
    assert read(steps(run)[-1]).step == 12
    assert not list(run.rglob(".*"))
    assert "in use" not in (run / "log.txt").read_text()


def test_a_second_process_in_a_run_directory_is_refused_and_names_the_first(runs):
    for trial in (0, 1):
        require_one_winner(runs, trial)
    require_unmixed(runs / "pair-0" / "run")


@pytest.mark.parametrize("loss", ["closed", "broken"])
def test_a_run_without_standard_error_ends_as_one_with_it(runs, loss):
    assert (runs / loss / "status").read_text() == "0"
    assert toy.curve(runs / loss / "run") == toy.curve(runs / "pair-0" / "run")[:6]
    assert "done: step 6 of 6" in (runs / loss / "run" / "log.txt").read_text()


@pytest.mark.nightly
def test_twenty_trials_of_two_processes_in_one_directory(tmp_path):
    script("pairs", tmp_path, 20)
    for trial in range(20):
        require_one_winner(tmp_path, trial)
    for trial in range(0, 20, 2):
        require_unmixed(tmp_path / f"pair-{trial}" / "run")


@pytest.mark.nightly
def test_ten_kills_in_two_minutes_do_not_change_the_run(tmp_path):
    script(tmp_path, 10_000, 10)
    assert toy.curve(tmp_path / "killed") == toy.curve(tmp_path / "whole")
