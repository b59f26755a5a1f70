"""The server: requests of the page, and refusal of all others with a message."""

import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest

from dreamer4_impl.play.api import IDLE, SESSIONS
from dreamer4_impl.play.picture import png
from dreamer4_impl.play.server import BODY, STATE, Handler
from dreamer4_impl.play.session import Session

LEFT = {"action": {"move": 3}}
OPEN = ("POST", "/api/sessions", {})


def open_session(client, **options):
    return f"/api/sessions/{client.post('/api/sessions', options)[0]['session']}"


def test_page_loads_nothing_from_other_addresses(client):
    status, headers, page = client.request("GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not re.findall(rb"(?:src|href)=[\"'](?!data:)|https?://|@import|import\(", page)


def test_world_is_described(client, world):
    described = json.loads(client.request("GET", "/api/world")[2])
    assert described["fps"] == 15
    assert described["defaults"] == {"clip": 0, "seed": 0, "steps": 4}
    assert described["steps"] == [1, 2, 4, 8]
    about = "the autopilot is the policy trained in imagination"
    assert described["autopilot"] == {"available": True, "about": about}
    assert (described["width"], described["height"], described["clips"]) == (8, 6, [4, 4])


def test_session_equals_a_session_without_a_server(client, world):
    name = open_session(client, seed=3, steps=2, clip=1)
    alone = Session(world, clip=1, seed=3, steps=2)
    alone.step({"move": 3})
    state, picture = client.post(f"{name}/step", LEFT)
    assert picture == alone.picture
    assert (state["frame"], state["undo"], state["seed"], state["clip"], state["steps"]) == (1, 1, 3, 1, 2)
    assert client.request("GET", name)[2] == picture
    alone.step("policy")
    state, picture = client.post(f"{name}/step", {"action": "policy"})
    assert (state["action"], picture) == (alone.action, alone.picture)


def test_step_undo_reset(client):
    name = open_session(client, steps=1)
    beginning = client.request("GET", name)[2]
    first = client.post(f"{name}/step", LEFT)[1]
    assert client.post(f"{name}/step", {"action": None, "steps": 2})[0]["steps"] == 2
    assert client.post(f"{name}/undo")[1] == first
    state, picture = client.post(f"{name}/reset", {"seed": 9})
    assert (state["frame"], state["seed"], state["steps"], picture) == (0, 9, 2, beginning)


def test_recorded_frames_start_at_the_last_context_frame(client, clip):
    for frame in range(5):
        assert client.request("GET", f"/api/clips/0/frames/{frame}")[2] == png(clip.frames[2 + frame])
    assert client.refused(404, "GET", "/api/clips/0/frames/5") == "frame must be an integer from 0 to 4; got 5"


def test_a_session_beyond_the_limit_is_refused_and_none_is_closed(client):
    names = [open_session(client, steps=1) for _ in range(SESSIONS)]
    assert client.refused(503, *OPEN) == "all 16 sessions are in use: close another page, or press Reset later"
    assert [client.request("GET", name)[0] for name in names] == [200] * SESSIONS
    assert client.request("POST", f"{names[1]}/close", {})[0] == 200
    open_session(client, steps=1)
    assert "this session has been closed" in client.refused(404, "POST", f"{names[1]}/step", LEFT)


def test_an_idle_session_is_closed_for_a_new_one(client, monkeypatch):
    names = [open_session(client, steps=1) for _ in range(SESSIONS)]
    later = time.monotonic() + IDLE + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    client.request("GET", names[3])
    open_session(client, steps=1)
    assert [client.request("GET", name)[0] for name in names[2:5]] == [404, 200, 404]


def test_a_body_that_does_not_arrive_ends_the_connection_silently(client, monkeypatch, capfd):
    monkeypatch.setattr(Handler, "timeout", 0.1)
    with socket.create_connection(client.server.server_address, timeout=20) as connection:
        head = "POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert connection.recv(1000) == b""
    assert client.request("GET", "/api/world")[0] == 200
    assert tuple(capfd.readouterr()) == ("", "")


def test_concurrent_sessions_are_independent(client, world):
    def play(seed):
        name = open_session(client, seed=seed, steps=1)
        return [client.post(f"{name}/step", LEFT)[1] for _ in range(4)]

    def expected(seed):
        session = Session(world, clip=0, seed=seed, steps=1)
        return [session.step({"move": 3}) or session.picture for _ in range(4)]

    with ThreadPoolExecutor(SESSIONS) as executor:
        assert list(executor.map(play, range(SESSIONS))) == [expected(seed) for seed in range(SESSIONS)]


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:80", "[::1]:8000", "192.168.0.2"])
def test_host_that_cannot_be_redirected_is_accepted(client, host):
    assert client.request("GET", "/api/world", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["rebound.example", "rebound.example:8000", "localhost.example", "127.0.0.1.example", "", "["]
)
def test_host_that_could_be_redirected_is_refused(client, host):
    assert "Host must be localhost" in client.refused(403, "GET", "/api/world", headers={"Host": host})


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://localhost:1", "https://127.0.0.1"])
@pytest.mark.parametrize("request_", [OPEN, ("GET", "/api/world")], ids=["POST", "GET"])
def test_other_page_is_refused(client, origin, request_):
    assert "other pages" in client.refused(403, *request_, headers={"Origin": origin})
    assert not client.server.api.sessions


def test_request_of_the_page_is_accepted(client):
    host = f"localhost:{client.server.server_address[1]}"
    assert client.request(*OPEN, headers={"Host": host, "Origin": f"http://{host}"})[0] == 200


@pytest.mark.parametrize(
    ("status", "body", "headers", "message"),
    [
        (415, b"{}", {"Content-Type": "text/plain"}, "must be application/json"),
        (413, None, {"Content-Length": str(BODY + 1)}, "at most 65536 bytes"),
        (413, None, {"Content-Length": "9" * 4000}, "at most 65536 bytes"),
        (411, None, {"Content-Length": "-1"}, "Content-Length"),
        (411, b"{}", {"Transfer-Encoding": "chunked"}, "Content-Length"),
        (400, b"{", {}, "must be JSON"),
        (400, b"[" * 5000, {}, "must be JSON"),
        (400, b"\xff", {}, "must be JSON"),
        (400, b"9" * 5000, {}, "must be JSON"),
        (400, [], {}, "must be a JSON object; got list"),
        (400, {"seed": "1"}, {}, "seed must be an integer; got '1'"),
        (400, {"seed": True}, {}, "seed must be an integer"),
        (400, {"steps": 3}, {}, "power of two"),
        (400, {"clip": 7}, {}, "clip must be an integer from 0 to 1"),
        (400, {"sede": 1}, {}, "keys of the body must be clip or seed or steps; got 'sede'"),
    ],
)
def test_invalid_body_is_refused(client, status, body, headers, message):
    assert message in client.refused(status, "POST", "/api/sessions", body, headers=headers)
    assert not client.server.api.sessions


@pytest.mark.parametrize(
    ("command", "body", "message"),
    [
        ("step", {"action": {"move": 6}}, "move must be an integer from 0 to 5; got 6"),
        ("step", {"action": {}, "steps": 3}, "power of two"),
        ("step", {"action": "left"}, "names and values, \"policy\" or null; got 'left'"),
        ("step", {"move": 1}, "got 'move'"),
        ("undo", {}, "nothing to undo"),
        ("undo", {"frames": 2}, "keys of the body must be absent; got 'frames'"),
    ],
)
def test_refused_command_leaves_the_session_usable(client, command, body, message):
    name = open_session(client, steps=1)
    assert message in client.refused(400, "POST", f"{name}/{command}", body)
    assert client.post(f"{name}/step", LEFT)[0]["frame"] == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/favicon.ico"), ("GET", "/api/sessions"), ("POST", "/"), ("GET", "/api/clips/x/frames/0"),
     ("GET", "/../errors.py"), ("POST", "/api/sessions/x/delete")],
)  # fmt: skip
def test_unknown_path_is_not_found(client, method, path):
    assert client.refused(404, method, path, {} if method == "POST" else None)


def test_unsupported_method_is_refused_in_json(client):
    assert "Unsupported method" in client.refused(501, "DELETE", "/api/world")


def test_unread_body_of_a_refused_request_is_not_parsed(client):
    with socket.create_connection(client.server.server_address, timeout=20) as connection:
        smuggled = b"GET /api/world HTTP/1.1\r\nHost: localhost\r\n\r\n"
        head = f"POST /api/sessions HTTP/1.1\r\nHost: rebound.example\r\nContent-Length: {len(smuggled)}\r\n\r\n"
        connection.sendall(head.encode() + smuggled)
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    assert response.count(b"HTTP/1.1") == 1


def test_closing_ends_open_connections_and_their_threads(world, serve):
    with serve(world) as server:
        before = threading.enumerate()
        connection = HTTPConnection(*server.server_address, timeout=20)
        connection.request("GET", "/api/world")
        connection.getresponse().read()
        new = [thread for thread in threading.enumerate() if thread not in before]
        assert len(new) >= 1
    assert not any(thread.is_alive() for thread in new)
    assert connection.sock.recv(1) == b""
    connection.close()


def test_connection_is_reused(client):
    connection = HTTPConnection(*client.server.server_address, timeout=20)
    connection.request("GET", "/api/world")
    connection.getresponse().read()
    first = connection.sock
    connection.request("GET", "/api/world")
    assert connection.getresponse().status == 200
    assert connection.sock is first is not None
    connection.close()


def test_internal_error_has_a_message_and_prints_its_traceback(client, monkeypatch, capfd):
    name = open_session(client, steps=1)
    monkeypatch.setattr(Session, "undo", lambda self: 1 / 0)
    assert "ZeroDivisionError" in client.refused(500, "POST", f"{name}/undo", {})
    assert "division by zero" in capfd.readouterr().err


def test_disconnected_client_prints_no_traceback(client, capfd):
    try:
        raise BrokenPipeError
    except BrokenPipeError:
        client.server.handle_error(None, ("127.0.0.1", 1))
    assert not capfd.readouterr().err


def test_picture_of_a_session_has_its_state_in_a_header(client):
    _, headers, _ = client.request(*OPEN)
    assert headers["Content-Type"] == "image/png"
    assert set(json.loads(headers[STATE])) == {
        "session", "frame", "undo", "recorded", "clip", "seed", "steps", "action", "milliseconds"
    }  # fmt: skip
