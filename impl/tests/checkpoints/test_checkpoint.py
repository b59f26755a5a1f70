"""Checkpoints: atomic writes, detection of damage, and loading with a report."""

import errno
import json
import os
import resource
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from dreamer4_impl.checkpoints import checkpoint as module
from dreamer4_impl.checkpoints.checkpoint import (
    CannotSaveError,
    Checkpoint,
    latest_good,
    load_model,
    load_weights,
    read,
    save,
    save_sharded,
    steps,
    write_model,
)
from dreamer4_impl.checkpoints.header import CheckpointError, digest_of, fingerprint, header_of
from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny

SETTINGS = TrainingSettings("tokenizer", tiny())


def small(step, value=1.0, shard=lambda tensor: tensor):
    weights = {"a": shard(torch.full((300,), value)), "b": torch.arange(3), "c": shard(torch.ones(()))}
    moments = {"step": torch.tensor(step), "exp_avg": shard(torch.full((300,), float(step)))}
    state = {"optimiser": {"state": {"a": moments}, "param_groups": [{"lr": 1.0}]}, "scaler": {}}
    return Checkpoint(SETTINGS, step, weights, {"a": shard(torch.zeros(300))}, state)


def same(one, other):
    assert (one.settings, one.step) == (other.settings, other.step)
    mine, theirs = ({**found.state, "optimiser": found.state["optimiser"]["param_groups"]} for found in (one, other))
    assert mine == theirs
    moments = [found.state["optimiser"]["state"] for found in (one, other)]
    assert moments[0].keys() == moments[1].keys() == {"a"}
    for mine, theirs in ((one.weights, other.weights), (one.average, other.average), [own["a"] for own in moments]):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def shard():
    """Shard a tensor over a group of one process, into one shard."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    yield lambda tensor: distribute_tensor(tensor, mesh, [Shard(0) if tensor.ndim else Replicate()])
    torch.distributed.destroy_process_group()


@pytest.fixture(params=["whole", "sharded"])
def write(request):
    """Save `small`, as it is or sharded."""
    if request.param == "whole":
        return lambda run, step, value=1.0, **options: save(run, small(step, value), **options)
    shard = request.getfixturevalue("shard")
    return lambda run, step, value=1.0, **options: save_sharded(run, small(step, value, shard), **options)


def names(run):
    return [path.name for path in steps(run)]


def rewrite_header(path, **changes):
    """With the right checksum, as a program with a fault of its own would write it."""
    header = json.loads((path / "checkpoint.json").read_text()) | changes
    header["checksum"] = digest_of(header)
    (path / "checkpoint.json").write_text(json.dumps(header))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run with one checkpoint of the tiny model."""
    run = tmp_path_factory.mktemp("run")
    model = Dreamer4(tiny())
    save(run, Checkpoint(SETTINGS, 1, model.state_dict(), {"agent.value.head.read.bias": torch.ones(21)}))
    return run, model


def test_read_returns_what_was_saved(tmp_path, write):
    same(read(write(tmp_path, 7)), small(7))


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_of_a_checkpoint_have_the_mode_that_the_umask_allows(tmp_path, write, mask, mode):
    earlier = os.umask(mask)
    try:
        files = list(write(tmp_path, 1).iterdir())
    finally:
        os.umask(earlier)
    assert {path.name: path.stat().st_mode & 0o777 for path in files} == {path.name: mode for path in files}
    assert len(files) > 2


def test_the_newest_checkpoints_are_kept(tmp_path, write):
    for step in range(1, 6):
        write(tmp_path, step, keep=2)
    assert names(tmp_path) == ["step-00000004", "step-00000005"]


def test_saving_a_step_again_replaces_only_a_damaged_checkpoint(tmp_path, write):
    path = write(tmp_path, 1, value=1.0)
    write(tmp_path, 1, value=2.0)
    assert read(path).weights["a"][0] == 1
    (path / "state.pt").write_bytes(b"")
    write(tmp_path, 1, value=2.0)
    assert read(path).weights["a"][0] == 2


class Killed(BaseException):
    """Not an Exception, so that no handler cleans up, as after SIGKILL."""


#: Calls that write, sync, rename or remove.
CALLS = [
    (module, "save_file"),
    (safetensors.torch, "save"),
    (torch, "save"),
    (Path, "write_text"),
    (Path, "mkdir"),
    (os, "fsync"),
    (os, "rename"),
    (module.shutil, "rmtree"),
]


def fail_at(monkeypatch, count, error):
    """Make the call of this number, counted over all of CALLS, raise; returns the calls so far."""
    seen = []

    def watched(original):
        def call(*args, **kwargs):
            seen.append(original)
            if len(seen) == count:
                raise error
            return original(*args, **kwargs)

        return call

    for owner, name in CALLS:
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    return seen


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), Killed()], ids=["disk full", "killed"]
)
def test_a_failure_at_any_call_of_save_leaves_a_good_checkpoint(tmp_path, write, error):
    """The newest good checkpoint is the previous or the new one, complete, and the next save succeeds."""
    for count in range(1, 100):
        run = tmp_path / str(count)
        write(run, 1, keep=1)
        with pytest.MonkeyPatch.context() as patch, suppress(CannotSaveError, Killed):
            seen = fail_at(patch, count, error)
            write(run, 2, keep=1)
        if len(seen) < count:
            break
        good = read(latest_good(run, log=pytest.fail))
        same(good, small(good.step))
        write(run, 3, keep=1)
        assert os.listdir(run / "checkpoints") == ["step-00000003"]
        same(read(latest_good(run)), small(3))
    assert count > 12


@pytest.mark.parametrize("limit", [0, 100, 1000, 1400, 2500])
def test_a_refused_write_raises_and_leaves_no_files(tmp_path, write, limit):
    """The kernel enforces the limit: a real short write in each file, also in those written by native code."""
    write(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(CannotSaveError, match=r"the checkpoint of step 2 could not be written: .*File too large"):
            write(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000001"]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("harm", ["cut short", "changed", "missing"])
def test_a_damaged_checkpoint_is_named_and_its_predecessor_used(tmp_path, write, number, harm):
    for step in (1, 2):
        path = write(tmp_path, step)
    files = sorted(file.name for file in path.iterdir())
    name = files[number % len(files)]
    content = (path / name).read_bytes()
    if harm == "missing":
        (path / name).unlink()
    else:
        middle = len(content) // 2
        changed = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        (path / name).write_bytes(content[:middle] if harm == "cut short" else changed)
    said = []
    assert latest_good(tmp_path, said.append).name == "step-00000001"
    assert "step-00000002" in said[0]
    assert name in said[0]
    assert "using the checkpoint before it" in said[0]
    with pytest.raises(CheckpointError, match=name):
        read(path)


def test_a_run_with_damaged_checkpoints_only_is_refused(tmp_path):
    (save(tmp_path, small(1)) / "state.pt").unlink()
    with pytest.raises(CheckpointError, match=r"none of the 1 checkpoints in .* can be used"):
        latest_good(tmp_path, log=lambda message: None)
    assert latest_good(tmp_path / "elsewhere") is None


def test_another_format_or_a_newer_version_is_refused(tmp_path):
    path = save(tmp_path, small(1))
    rewrite_header(path, version=4)
    with pytest.raises(CheckpointError, match="version 4, and this program reads up to 3"):
        read(path)
    rewrite_header(path, format="something else")
    with pytest.raises(CheckpointError, match="is not a checkpoint of this program"):
        read(path)
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        load_model(tmp_path / "nowhere")


def test_every_changed_byte_of_the_header_is_detected(tmp_path):
    path = save(tmp_path, small(1))
    file, before = path / "checkpoint.json", read(path)
    content = file.read_bytes()
    for position in range(0, len(content), 7):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with suppress(CheckpointError):
            same(read(path), before)  # a changed space between two values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": -1}, "its step must be a whole number, 0 or more; got -1"),
        ({"step": 1.5}, "its step must be a whole number, 0 or more; got 1.5"),
        ({"step": True}, "its step must be a whole number, 0 or more; got True"),
        ({"files": ["state.pt"]}, "must list files of its directory"),
        ({"files": {"../../secret": {}}}, "must list files of its directory"),
    ],
)
def test_impossible_values_in_a_header_are_refused(tmp_path, changes, message):
    path = save(tmp_path, small(1))
    rewrite_header(path, **changes)
    with pytest.raises(CheckpointError, match=message):
        read(path)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"\xff", b"", b"{}", b"null", b'{"format": "dreamer4-checkpoint"}']
)
def test_a_header_that_is_no_header_is_refused(tmp_path, content):
    path = save(tmp_path, small(1))
    (path / "checkpoint.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="step-00000001"):
        read(path)


def test_a_header_of_version_1_needs_no_checksum(tmp_path):
    path = save(tmp_path, small(1))
    header = json.loads((path / "checkpoint.json").read_text())
    del header["checksum"]
    (path / "checkpoint.json").write_text(json.dumps(header | {"version": 1}))
    same(read(path), small(1))


@pytest.mark.parametrize("step", [-1, 1.5, True])
def test_a_checkpoint_counts_whole_steps(step):
    with pytest.raises(ValueError, match="step must be a whole number, 0 or more"):
        small(step)


def test_checkpoints_are_sorted_by_number_and_other_directories_ignored(tmp_path):
    for step in (99_999_999, 100_000_000, 3):
        save(tmp_path, small(step))
    (tmp_path / "checkpoints" / "step-backup").mkdir()
    assert names(tmp_path) == ["step-00000003", "step-99999999", "step-100000000"]


def test_a_state_that_would_run_code_is_refused(tmp_path):
    path = save(tmp_path, small(1))
    torch.save({"optimiser": os.getcwd}, path / "state.pt")
    files = {file.name: fingerprint(file) for file in path.iterdir() if file.name != "checkpoint.json"}
    rewrite_header(path, files=files)
    with pytest.raises(CheckpointError, match="contains code, which is not executed"):
        read(path)


def test_a_model_is_loaded_with_its_average_if_there_is_one(trained):
    run, model = trained
    loaded, report = load_model(run, average=False)
    assert not report
    assert not loaded.training
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())
    averaged, _ = load_model(steps(run)[0])
    assert torch.equal(averaged.agent.value.head.read.bias, torch.ones(21))


def test_the_model_of_a_sharded_checkpoint_is_loaded_and_a_file_of_weights_written_from_it(tmp_path, shard):
    model, bias = Dreamer4(tiny()), "agent.value.head.read.bias"
    weights = {name: shard(value) for name, value in model.state_dict().items()}
    path = save_sharded(tmp_path, Checkpoint(SETTINGS, 1, weights, {bias: shard(torch.ones(21))}))
    loaded, report = load_model(tmp_path, average=False, strict=True)
    assert not report
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())
    (tmp_path / "shared").mkdir()
    write_model(tmp_path / "shared", read(path))
    for written in (path, tmp_path / "shared"):
        averaged, _ = load_model(written, strict=True)
        assert torch.equal(averaged.agent.value.head.read.bias, torch.ones(21))


def test_only_a_sharded_checkpoint_needs_a_newer_program(tmp_path, shard):
    versions = [
        header_of(path)["version"] for path in (save(tmp_path, small(1)), save_sharded(tmp_path, small(2, shard=shard)))
    ]
    assert versions == [2, 3]


def test_shards_that_the_first_process_does_not_see_are_reported(tmp_path, shard, monkeypatch):
    def elsewhere(directory, tensors):
        return {**written(directory, tensors), "shard-00002.safetensors": {"size": 1}}

    written = module.write_shards
    monkeypatch.setattr(module, "write_shards", elsewhere)
    with pytest.raises(CannotSaveError, match=r"shard-00002.* must be on a file system that all processes share"):
        save_sharded(tmp_path, small(1, shard=shard))
    assert not steps(tmp_path)


def test_loading_does_not_change_the_random_state(trained):
    before = torch.get_rng_state()
    load_model(trained[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_an_older_layout_loads_with_a_report(trained):
    model = Dreamer4(tiny())
    weights = dict(model.state_dict())
    kept = weights.pop("dynamics.registers").clone()
    report = load_weights(model, weights | {"dynamics.gone": torch.ones(1)})
    assert (report.missing, report.unexpected) == (("dynamics.registers",), ("dynamics.gone",))
    assert str(report) == "missing, unchanged: dynamics.registers; unexpected, ignored: dynamics.gone"
    assert torch.equal(model.dynamics.registers, kept)
    with pytest.raises(CheckpointError, match="does not match the model: missing"):
        load_weights(model, weights, strict=True)


def test_a_changed_shape_raises(trained):
    config = tiny()
    other = Dreamer4(replace(config, dynamics=replace(config.dynamics, registers=4)))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"dynamics.registers has the shape \(3, 24\) in .* and \(4, 24\)"):
        load_weights(other, trained[1].state_dict())
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
