"""Training in separate processes: two that share a batch, and one that is killed repeatedly."""

import os
import subprocess
import sys

import pytest
import torch

from dreamer4_impl.checkpoints.checkpoint import read, steps

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


@pytest.mark.parametrize("run", ["ddp", "fsdp", "fsdp-then-one", "one-then-fsdp"])
def test_weights_and_average_do_not_depend_on_the_number_of_processes(runs, run):
    expected, found = (read(steps(runs / name)[-1]) for name in ("one", run))
    assert found.average.keys() == expected.average.keys()
    for mine, theirs in ((found.weights, expected.weights), (found.average, expected.average)):
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("run", ["fsdp-then-one", "one-then-fsdp"])
def test_checkpoints_do_not_depend_on_the_number_of_processes(runs, run):
    expected, found = toy.curve(runs / "one")[10:], toy.curve(runs / run)
    assert [line["step"] for line in found] == list(range(11, 21))
    for alone, changed in zip(expected, found, strict=True):
        assert changed["loss"] == pytest.approx(alone["loss"], abs=1e-5)


def test_a_repeatedly_killed_run_equals_an_uninterrupted_one(runs):
    assert toy.curve(runs / "killed") == toy.curve(runs / "whole")
    assert len(toy.curve(runs / "whole")) == 24


def test_a_signal_to_one_process_stops_all(runs):
    assert [line["step"] for line in toy.curve(runs / "stopped")] == [1, 2, 3, 4]


@pytest.mark.nightly
def test_ten_kills_in_two_minutes_do_not_change_the_run(tmp_path):
    script(tmp_path, 10_000, 10)
    assert toy.curve(tmp_path / "killed") == toy.curve(tmp_path / "whole")
