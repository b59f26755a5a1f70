"""Locks of directories, and files that survive a crash or a second writer."""

import os
import signal
import socket
import sys
import time
from contextlib import suppress

import pytest

from dreamer4_impl.durable import LOCK, DirectoryLock, InUseError, partial_name, read_json, replacement, write_text


def holder(directory):
    """Child process that holds the lock of a directory; it waits until it is killed."""
    ready, done = os.pipe()
    if child := os.fork():
        os.read(ready, 1)
        return child
    try:
        lock = DirectoryLock(directory)
        os.write(done, b"x")
        time.sleep(60)
        lock.release()
    finally:
        os._exit(1)


def test_a_held_directory_is_refused_with_its_holder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dreamer4-train", "tokenizer", "a b"])
    with DirectoryLock(tmp_path / "run"):
        with pytest.raises(InUseError) as refusal:
            DirectoryLock(tmp_path / "run")
        for part in (
            f"{tmp_path}/run is in use by process {os.getpid()} on {socket.gethostname()} since 20",
            "(dreamer4-train tokenizer 'a b'): wait until it ends, or name another directory",
        ):
            assert part in str(refusal.value)
    DirectoryLock(tmp_path / "run").release()


def test_a_killed_holder_leaves_no_stale_lock(tmp_path):
    child = holder(tmp_path)
    with pytest.raises(InUseError, match=f"process {child} on"):
        DirectoryLock(tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert f"process {child}" in (tmp_path / LOCK).read_text()
    with DirectoryLock(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on")


def test_a_lock_is_waited_for(tmp_path):
    first = DirectoryLock(tmp_path)
    with pytest.raises(InUseError):
        DirectoryLock(tmp_path, patience=0.05)
    del first
    DirectoryLock(tmp_path, patience=0.05).release()


def test_release_removes_what_the_lock_has_made(tmp_path):
    (tmp_path / "old").mkdir()
    for name, files in {"new": [], "old": [], "used": ["a"]}.items():
        with DirectoryLock(tmp_path / name):
            for file in files:
                (tmp_path / name / file).touch()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["old", "used", "used/a"]


def test_a_failed_replacement_leaves_the_old_content_alone(tmp_path):
    write_text(tmp_path / "a", "old")
    with suppress(ZeroDivisionError), replacement(tmp_path / "a") as partial:
        partial.write_text("new")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_partial_names_are_unique(tmp_path):
    assert len({partial_name(tmp_path / "a") for _ in range(100)}) == 100


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"", b'{"a": 9', b"1" * 5000])
def test_a_file_that_is_not_json_raises_value_error(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=r"\w"):
        read_json(tmp_path / "a")
