"""The demo: a separate package in this repository."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("safetensors", reason="needs safetensors, of the extra train")

from dreamer4_impl.play.loading import DEMO, open_world
from dreamer4_impl.play.session import Session

PROJECT = Path(__file__).parents[3] / "demo"
#: Maximum size in the repository, in bytes; that of the wheel is checked by `nox -s wheel`.
LIMIT = 4_000_000


def test_demo_is_small():
    assert sum(file.stat().st_size for file in (PROJECT / DEMO).rglob("*")) <= LIMIT


def test_a_person_and_the_agent_play_the_demo(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    monkeypatch.delitem(sys.modules, DEMO, raising=False)
    session = Session(open_world(None, None, None, "cpu"), clip=0, seed=0, steps=4)
    pictures = [session.picture]
    for action in ({}, "policy", "policy"):
        session.step(action)
        pictures.append(session.picture)
    assert len(set(pictures)) == 4
