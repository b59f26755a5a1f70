"""A small world with random weights, in which every action changes the next frame, and a server for it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("PIL", reason="needs Pillow, of the extra train")

from dreamer4_impl.layers.actions import Categorical
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.play.api import Api
from dreamer4_impl.play.recorded_clip import RecordedClip
from dreamer4_impl.play.server import STATE, PlayServer
from dreamer4_impl.play.world import World

NAMES = ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
#: Names of the tiny model's tasks; the title of the clip is the second.
TASKS = ("another game", "random frames", "a third game")
#: Recorded frames after the three context frames of the tiny model.
COMPARED = 4


@pytest.fixture(scope="session")
def config():
    transformer = replace(tiny().dynamics.transformer, depth=4)
    actions = (Categorical("move", len(NAMES)),)
    return replace(tiny(), dynamics=replace(tiny().dynamics, transformer=transformer, actions=actions))


@pytest.fixture(scope="session")
def model(config) -> Dreamer4:
    torch.manual_seed(0)
    model = Dreamer4(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="session")
def clip(config) -> RecordedClip:
    generator = np.random.default_rng(0)
    rows = config.dynamics.transformer.context + COMPARED
    frames = generator.integers(0, 256, (rows, 6, 8, 3), dtype=np.uint8)
    moves = generator.integers(1, len(NAMES), rows, dtype=np.int32)
    return RecordedClip(frames, {"move": moves}, np.arange(rows) > 0, {"move": NAMES}, "random frames")


@pytest.fixture(scope="session")
def world(model, clip) -> World:
    clips = clip, replace(clip, frames=clip.frames[::-1].copy())
    return World(model, clips, "a random world", "imagine", TASKS)


@pytest.fixture(scope="session")
def turns(model, clip) -> World:
    """World without an idle action."""
    names = {"move": ["left", "right", "forward", "pick up", "drop", "open"]}
    return World(model, (replace(clip, names=names),), f"a_world_of_{'long_' * 8}turns", "agent", TASKS)


@dataclass(frozen=True)
class Client:
    """HTTP client that sends valid and invalid requests."""

    server: PlayServer

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None):
        """Status, headers and body of the response."""
        connection = HTTPConnection(*self.server.server_address[:2], timeout=20)
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, path, sent, {**kind, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any = None) -> tuple[dict[str, Any], bytes]:
        """State and picture of a session after a request."""
        status, headers, picture = self.request("POST", path, {} if body is None else body)
        assert status == 200, picture
        return json.loads(headers[STATE]), picture

    def refused(self, status: int, *arguments: Any, **options: Any) -> str:
        """Error message of a refused request."""
        actual, headers, body = self.request(*arguments, **options)
        assert (actual, headers["Content-Type"]) == (status, "application/json"), body
        return json.loads(body)["error"]


@contextmanager
def serving(world: World, **options: Any) -> Iterator[PlayServer]:
    server = PlayServer("127.0.0.1", 0, Api(world, **options))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def serve():
    return serving


@pytest.fixture
def client(world) -> Iterator[Client]:
    with serving(world) as server:
        yield Client(server)
