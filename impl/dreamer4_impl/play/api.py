"""What the page can ask for. Every answer about a session is its picture, with its state as JSON beside it.

GET  /                              the page
GET  /api/world                     what is played, JSON
GET  /api/clips/N/frames/T          the T-th recorded frame after the beginning, PNG; T = 0 is the last one shown
POST /api/sessions                  {"clip", "seed", "steps"}, each optional: a new session
GET  /api/sessions/ID               its picture
POST /api/sessions/ID/reset         {"clip", "seed", "steps"}, each optional: back to the beginning
POST /api/sessions/ID/step          {"action": {…} or null for the recorded one, "steps": optional}
POST /api/sessions/ID/undo          one frame back
"""

import json
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from threading import Lock
from typing import Any, Final

from dreamer4_impl.play.errors import RequestError
from dreamer4_impl.play.picture import png
from dreamer4_impl.play.session import Session
from dreamer4_impl.play.world import World

#: Sessions kept; the one that was used least recently gives way to a new one.
SESSIONS: Final = 4


@dataclass(frozen=True)
class Reply:
    """Body of an HTTP response, its type, and the state of the session that it shows, if any."""

    body: bytes
    kind: str
    state: dict[str, Any] | None = None
    status: HTTPStatus = HTTPStatus.OK


class Api:
    """Answers requests; several threads may ask at once, and one at a time computes.

    Args:
        world: what is played.
        fps: frames a second that the page asks for.
        steps: K of a new session.
        seed: of a new session.
    """

    def __init__(self, world: World, *, fps: float = 15, steps: int = 4, seed: int = 0) -> None:
        self.world, self.fps = world, fps
        self.defaults = {"clip": 0, "seed": seed, "steps": steps}
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        # A CUDA graph must not be recorded while another thread computes.
        self._lock = Lock()

    def answer(self, method: str, path: str, body: object) -> Reply:
        """The answer to a request; RequestError where there is none."""
        with self._lock:
            match (method, *path.strip("/").split("/")):
                case ("GET", ""):
                    return Reply(
                        files("dreamer4_impl.play").joinpath("page.html").read_bytes(), "text/html; charset=utf-8"
                    )
                case ("GET", "api", "world"):
                    return as_json({**self.world.about, "fps": self.fps, "defaults": self.defaults})
                case ("GET", "api", "clips", clip, "frames", frame):
                    return self._recorded(_index("clip", clip), _index("frame", frame))
                case ("POST", "api", "sessions"):
                    return self._open(_object(body))
                case ("GET", "api", "sessions", name):
                    return self._show(name)
                case ("POST", "api", "sessions", name, "reset" | "step" | "undo" as what):
                    return self._change(name, what, _object(body))
        raise RequestError(f"there is no {method} {path}", HTTPStatus.NOT_FOUND)

    def close(self) -> None:
        """Wait for what is being computed, and forget every session."""
        with self._lock:
            self.sessions.clear()

    def _recorded(self, clip: int, frame: int) -> Reply:
        recording = self.world.recording(clip)
        row = self.world.context(recording) - 1 + frame
        if row >= len(recording.frames):
            last = len(recording.frames) - self.world.context(recording)
            raise RequestError(f"frame must be a number from 0 to {last}; got {frame}", HTTPStatus.NOT_FOUND)
        return Reply(png(recording.frames[row]), "image/png")

    def _open(self, asked: dict[str, Any]) -> Reply:
        session = Session(self.world, **self._beginning(asked, self.defaults))
        name = secrets.token_urlsafe(12)
        self.sessions[name] = session
        while len(self.sessions) > SESSIONS:
            self.sessions.popitem(last=False)
        return self._show(name)

    def _change(self, name: str, what: str, asked: dict[str, Any]) -> Reply:
        session = self._session(name)
        if what == "reset":
            now = {"clip": session.clip, "seed": session.seed, "steps": session.decoder.num_steps}
            session.reset(**self._beginning(asked, now))
        elif what == "step":
            _refuse_unknown(asked, ("action", "steps"))
            session.step(asked.get("action", {}), _whole("steps", asked["steps"]) if "steps" in asked else None)
        else:
            _refuse_unknown(asked, ())
            session.undo()
        return self._show(name)

    def _show(self, name: str) -> Reply:
        session = self._session(name)
        return Reply(session.picture, "image/png", {"session": name, **session.state})

    def _session(self, name: str) -> Session:
        if name not in self.sessions:
            raise RequestError(
                f"this session is gone, for at most {SESSIONS} are kept: Reset begins a new one", HTTPStatus.NOT_FOUND
            )
        self.sessions.move_to_end(name)
        return self.sessions[name]

    @staticmethod
    def _beginning(asked: dict[str, Any], otherwise: dict[str, int]) -> dict[str, int]:
        _refuse_unknown(asked, tuple(otherwise))
        return {name: _whole(name, asked.get(name, value)) for name, value in otherwise.items()}


def as_json(content: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Reply:
    """A reply that holds JSON.

    >>> as_json({"error": "no"}).body
    b'{"error": "no"}'
    """
    return Reply(json.dumps(content).encode(), "application/json", status=status)


def _object(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise RequestError(f"the body must be a JSON object; got {type(body).__name__}")
    return body


def _refuse_unknown(asked: dict[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(asked) - set(known)):
        raise RequestError(f"the body may hold {', '.join(known) or 'nothing'}; got {unknown[0]!r}")


def _whole(name: str, value: object) -> int:
    if type(value) is not int:
        raise RequestError(f"{name} must be a whole number; got {value!r}")
    return value


def _index(name: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise RequestError(f"{name} must be a number from 0; got {text!r}", HTTPStatus.NOT_FOUND)
    return int(text)
