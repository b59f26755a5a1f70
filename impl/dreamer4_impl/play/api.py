"""Requests of the page. A response about a session is its picture, with its state as JSON in a header.

GET  /                              the page
GET  /api/world                     description of the world, JSON
GET  /api/clips/N/frames/T          recorded frame T of clip N, PNG; T = 0 is the last context frame
POST /api/sessions                  {"clip", "seed", "steps"}, all optional: start a session
GET  /api/sessions/ID               current frame
POST /api/sessions/ID/reset         {"clip", "seed", "steps"}, all optional: return to the first frame
POST /api/sessions/ID/step          {"action": {…}, null for the recorded one, or "policy" for that of the autopilot,
                                     "steps": optional}: next frame
POST /api/sessions/ID/undo          previous frame
POST /api/sessions/ID/close         end the session, as the page does when it is left

Each page has a session of its own. While all sessions are in use, a new one is refused; none is taken from its player.
"""

import json
import secrets
import time
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from threading import Lock
from typing import Any, Final

from dreamer4_impl.play.errors import RequestError
from dreamer4_impl.play.picture import png
from dreamer4_impl.play.session import Session
from dreamer4_impl.play.world import World

#: Maximum number of sessions.
SESSIONS: Final = 16
#: Seconds without a request after which a session may be closed for a new one.
IDLE: Final = 600.0


@dataclass(frozen=True)
class Reply:
    """HTTP response.

    Args:
        body: content.
        kind: media type.
        state: state of the session whose picture the body is, or None.
        status: HTTP status.
    """

    body: bytes
    kind: str
    state: dict[str, Any] | None = None
    status: HTTPStatus = HTTPStatus.OK


class Api:
    """Handler of requests; thread-safe, requests are handled in sequence.

    Args:
        world: model and recordings.
        fps: frames per second that the page requests, above 0.
        steps: K of a new session, a power of two.
        seed: of the noise of a new session.
    """

    def __init__(self, world: World, *, fps: float = 15, steps: int = 4, seed: int = 0) -> None:
        self.world, self.fps = world, fps
        self.defaults = {"clip": 0, "seed": seed, "steps": steps}
        self.sessions: dict[str, Session] = {}
        self._used: dict[str, float] = {}
        # A CUDA graph must not be recorded while another thread uses the device.
        self._lock = Lock()

    def answer(self, method: str, path: str, body: object) -> Reply:
        """Handle a request.

        Args:
            method: HTTP method.
            path: path of the URL.
            body: parsed JSON of a POST request; None for GET.

        Returns:
            The response.

        Raises:
            RequestError: if there is no such path or session, the body is invalid, or all sessions are in use.
        """
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
                case ("POST", "api", "sessions", name, "close"):
                    return self._end(name, _object(body))
                case ("POST", "api", "sessions", name, "reset" | "step" | "undo" as command):
                    return self._change(name, command, _object(body))
        raise RequestError(f"unknown request {method} {path}", HTTPStatus.NOT_FOUND)

    def close(self) -> None:
        """Wait for the current request and delete all sessions."""
        with self._lock:
            self.sessions.clear()

    def _recorded(self, clip: int, frame: int) -> Reply:
        recording = self.world.recording(clip)
        row = self.world.context(recording) - 1 + frame
        if row >= len(recording.frames):
            last = len(recording.frames) - self.world.context(recording)
            raise RequestError(f"frame must be an integer from 0 to {last}; got {frame}", HTTPStatus.NOT_FOUND)
        return Reply(png(recording.frames[row]), "image/png")

    def _open(self, body: dict[str, Any]) -> Reply:
        arguments = _integers(body, self.defaults)
        if len(self.sessions) >= SESSIONS:
            self._close_idle()
        if len(self.sessions) >= SESSIONS:
            raise RequestError(
                f"all {SESSIONS} sessions are in use: close another page, or press Reset later",
                HTTPStatus.SERVICE_UNAVAILABLE,
            )
        name = secrets.token_urlsafe(12)
        self.sessions[name] = Session(self.world, **arguments)
        return self._show(name)

    def _close_idle(self) -> None:
        now = time.monotonic()
        self.sessions = {name: session for name, session in self.sessions.items() if now - self._used[name] < IDLE}

    def _end(self, name: str, body: dict[str, Any]) -> Reply:
        _require_keys(body, ())
        self._session(name)
        del self.sessions[name]
        return as_json({})

    def _change(self, name: str, command: str, body: dict[str, Any]) -> Reply:
        session = self._session(name)
        if command == "reset":
            current = {"clip": session.clip, "seed": session.seed, "steps": session.decoder.num_steps}
            session.reset(**_integers(body, current))
        elif command == "step":
            _require_keys(body, ("action", "steps"))
            session.step(body.get("action", {}), _integer("steps", body["steps"]) if "steps" in body else None)
        else:
            _require_keys(body, ())
            session.undo()
        return self._show(name)

    def _show(self, name: str) -> Reply:
        session = self._session(name)
        return Reply(session.picture, "image/png", {"session": name, **session.state})

    def _session(self, name: str) -> Session:
        if name not in self.sessions:
            raise RequestError(
                "this session has been closed: Reset starts a new one",
                HTTPStatus.NOT_FOUND,
            )
        self._used[name] = time.monotonic()
        return self.sessions[name]


def as_json(content: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Reply:
    """Make a response of a JSON object.

    Args:
        content: what the page reads, of JSON's types.
        status: HTTP status.

    Returns:
        The response.

    Example:
        >>> as_json({"error": "no"}).body
        b'{"error": "no"}'
    """
    return Reply(json.dumps(content).encode(), "application/json", status=status)


def _object(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise RequestError(f"the body must be a JSON object; got {type(body).__name__}")
    return body


def _require_keys(body: dict[str, Any], keys: tuple[str, ...]) -> None:
    if unknown := sorted(set(body) - set(keys)):
        raise RequestError(f"keys of the body must be {' or '.join(keys) or 'absent'}; got {unknown[0]!r}")


def _integers(body: dict[str, Any], defaults: dict[str, int]) -> dict[str, int]:
    _require_keys(body, tuple(defaults))
    return {name: _integer(name, body.get(name, default)) for name, default in defaults.items()}


def _integer(name: str, value: object) -> int:
    if type(value) is not int:
        raise RequestError(f"{name} must be an integer; got {value!r}")
    return value


def _index(name: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise RequestError(f"{name} must be an integer, 0 or more; got {text!r}", HTTPStatus.NOT_FOUND)
    return int(text)
