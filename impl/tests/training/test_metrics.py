"""Measurements: the file after a resume, and TensorBoard."""

import io
import json
import math
import re
import resource

import pytest
from rich.console import Console

from dreamer4_impl.training.log import Log
from dreamer4_impl.training.metrics import Metrics, read_metrics
from dreamer4_impl.training.progress import Display


def write(run, step, records, **options):
    with Metrics(run, step, **{"tensorboard": False, **options}) as metrics:
        for record in records:
            metrics.write(record)


def test_steps_after_the_checkpoint_are_removed(tmp_path):
    write(tmp_path, 0, [{"step": step, "loss": 1.0} for step in (1, 2, 3)])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    write(tmp_path, 2, [{"step": 3, "loss": 2.0}])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 1.0},
        {"step": 3, "loss": 2.0},
    ]


def test_an_incomplete_last_line_is_ignored(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1}]


@pytest.mark.parametrize(
    "damage",
    [b"", b"\0\0\0", b"\xff\xfe", b'{"step": "2"}', b"[2]", b"3", b'{"loss": 1}', b"[" * 50_000, b'{"step": 2'],
)
def test_a_damaged_line_costs_that_line_alone(tmp_path, damage):
    path, messages = tmp_path / "metrics.jsonl", []
    lines = [b'{"step": 1, "loss": 1.10}', damage, b'{"step": 3, "text": "\xe2\x80\xa8"}', b'{"step": 4}', b""]
    path.write_bytes(b"\n".join(lines))
    assert [record["step"] for record in read_metrics(path)] == [1, 3, 4]
    write(tmp_path, 3, [{"step": 4}], report=messages.append)
    assert path.read_bytes() == b"\n".join([lines[0], *lines[2:]])
    assert messages == [f"{path} had 1 damaged lines, which are left out"]


def test_steps_that_a_full_disk_refuses_are_written_later(tmp_path, monkeypatch):
    """The kernel refuses the write in the middle of a line."""
    messages = []
    with Metrics(tmp_path, 0, tensorboard=False, report=messages.append) as metrics:
        metrics.write({"step": 1})
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (17, before[1]))
        try:
            for step in (2, 3):
                metrics.write({"step": step})
            with pytest.raises(OSError, match="File too large"):
                metrics.sync()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        metrics.write({"step": 4})
    assert len(messages) == 1
    assert "metrics.jsonl cannot be written: " in messages[0]
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_a_failing_tensorboard_does_not_end_the_run(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("No space left on device")

    messages = []
    with Metrics(tmp_path, 0, tensorboard=True, report=messages.append) as metrics:
        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", fail)
        for step in (1, 2):
            metrics.write({"step": step, "loss": 1.0})
    assert len(messages) == 1
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_nan_becomes_null(tmp_path):
    write(tmp_path, 0, [{"step": 1, "means": {"mse": math.nan}}])
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "means": {"mse": null}}\n'


def test_numbers_are_written_exactly(tmp_path):
    write(tmp_path, 0, [{"step": 1, "loss": 0.1 + 0.2}])
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["loss"] == 0.1 + 0.2


def test_tensorboard_receives_the_same_curves(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(tmp_path, 0, [{"step": step, "means": {"mse": 0.5 * step}} for step in (1, 2)], tensorboard=True)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("means/mse")] == [(1, 0.5), (2, 1.0)]


def display(terminal, flow=0.125):
    log = Log(None)
    log.console = Console(file=io.StringIO(), force_terminal=terminal, width=150)
    with Display("dynamics", 0, 3, log) as shown:
        for step in (1, 2, 3):
            shown.update(step, 0.25, {"dynamics": 3.5, "flow": flow, "bootstrap": 2.5})
    return log.console.file.getvalue()


def test_a_terminal_shows_a_bar_with_loss_and_speed():
    seen = display(terminal=True)
    assert "3/3" in seen
    assert "loss 0.25" in seen
    assert "flow 0.125" in seen
    assert "steps/s" in seen


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_of_many_steps_has_a_remaining_time(monkeypatch, terminal):
    monkeypatch.setattr("dreamer4_impl.training.progress.LINE_INTERVAL", -1.0)
    log = Log(None)
    log.console = Console(file=io.StringIO(), force_terminal=terminal, width=150)
    with Display("dynamics", 0, 2**63 - 1, log) as shown:
        shown.update(1, 0.25, {})
    assert "1/9223372036854775807" in log.console.file.getvalue()


def test_without_terminal_progress_is_a_line_at_intervals():
    lines = display(terminal=False).splitlines()
    assert len(lines) == 1
    six = r"dynamics 3/3  \d+\.\d\d steps/s  \d:\d\d:\d\d remaining  loss 0.25 flow 0.125"
    assert re.fullmatch(six, lines[0])
    assert display(terminal=False, flow=math.nan).rstrip().endswith("remaining  loss 0.25")  # nothing to count
