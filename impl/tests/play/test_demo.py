"""The demo checkpoint of the package."""

import pytest

pytest.importorskip("safetensors", reason="needs safetensors, of the extra train")

from dreamer4_impl.play.loading import DEMO, open_world
from dreamer4_impl.play.session import Session

#: Maximum size in the repository and in the wheel, in bytes.
LIMIT = 5_000_000


def test_demo_is_small():
    assert sum(file.stat().st_size for file in DEMO.rglob("*")) <= LIMIT


def test_demo_is_played_without_training():
    session = Session(open_world(None, None, None, "cpu"), clip=0, seed=0, steps=4)
    before = session.picture
    session.step({})
    assert session.picture != before
