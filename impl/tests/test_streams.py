"""Standard output and error that may be lost."""

import os
import sys

import pytest

from dreamer4_impl.streams import safe_streams


@pytest.fixture
def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        yield stream


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_text_for_a_broken_pipe_is_discarded(monkeypatch, broken_pipe, name, flush):
    monkeypatch.setattr(sys, name, broken_pipe)
    with safe_streams():
        for _ in range(3):
            print("lost", file=getattr(sys, name), flush=flush)
    assert getattr(sys, name) is broken_pipe
    broken_pipe.flush()  # as at the end of the program


def test_a_full_disk_loses_messages_only(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with safe_streams():
            print("lost")


def test_a_missing_stream_is_replaced(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with safe_streams():
        print("lost", file=sys.stderr)


def test_other_output_is_unchanged(capsys):
    with safe_streams():
        print("here")
        print("there", file=sys.stderr)
        assert not sys.stdout.isatty()
    assert tuple(capsys.readouterr()) == ("here\n", "there\n")
