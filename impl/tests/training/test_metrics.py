"""Measurements: the file after a resume, and TensorBoard."""

import io
import json
import math

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


def display(terminal):
    log = Log(None)
    log.console = Console(file=io.StringIO(), force_terminal=terminal, width=150)
    with Display("dynamics", 0, 3, log) as shown:
        for step in (1, 2, 3):
            shown.update(step, 0.25, {"flow": 0.125})
    return log.console.file.getvalue()


def test_a_terminal_shows_a_bar_with_loss_and_speed():
    seen = display(terminal=True)
    assert "3/3" in seen
    assert "loss 0.25" in seen
    assert "flow 0.125" in seen
    assert "steps/s" in seen


def test_without_terminal_progress_is_a_line_at_intervals():
    lines = display(terminal=False).splitlines()
    assert len(lines) == 1
    assert "dynamics 3/3" in lines[0]
