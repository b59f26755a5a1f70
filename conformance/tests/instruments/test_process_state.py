"""State of the process that an adapter's code has changed, and what is restored of it."""

from __future__ import annotations

import os

import pytest

from dreamer4_conformance.instruments.process_state import SETTINGS, read, restore


def test_no_variable_that_is_unchanged_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"the environment": SETTINGS["the environment"]}
    monkeypatch.setenv("CHANGED", "1")
    monkeypatch.delenv("ADDED", raising=False)
    before, values = read(settings), dict(os.environ)
    os.environ.update({"CHANGED": "2", "ADDED": "3"})
    written: list[bytes] = []
    monkeypatch.setattr(os, "putenv", lambda name, value: written.append(name))
    monkeypatch.setattr(os, "unsetenv", written.append)
    assert restore(settings, before) == ["the environment"]
    assert sorted(written) == [b"ADDED", b"CHANGED"]
    assert dict(os.environ) == values
