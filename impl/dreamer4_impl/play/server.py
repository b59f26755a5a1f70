"""The HTTP server: answers this page and nobody else's.

A page from elsewhere that the same browser shows can send requests to localhost, and by a name that it lets point here
(DNS rebinding) it could read the answers. So the name in `Host` must be one that cannot point elsewhere, `Origin` must
be the page's own, and a body must be JSON, which no form can send.
"""

import ipaddress
import json
import socket
import sys
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

from dreamer4_impl.play.api import Api, Reply, as_json
from dreamer4_impl.play.errors import RequestError

#: Bytes of the largest body that is read; an action takes some hundred.
BODY: Final = 2**16
#: Name of the header that holds the state of a session.
STATE: Final = "Dreamer4-State"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PlayServer(ThreadingHTTPServer):
    """Serves one world.

    Args:
        host: the address to listen at.
        port: 0 is any that is free; `url` says which.
        api: what answers.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, api: Api) -> None:
        self.api, self.host = api, host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A page that was closed is no error of ours."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        """Where the page is, seen from this machine."""
        everywhere = self.host in ("0.0.0.0", "::", "")
        host = "localhost" if everywhere else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    """Reads a request, lets the Api answer it, and writes that; whatever goes wrong is a sentence in JSON."""

    server: PlayServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dreamer4-play", ""
    error_content_type, error_message_format = "application/json", '{"error": "%(message)s"}'
    # Without it a small response waits for the acknowledgement of the one before.
    disable_nagle_algorithm = True
    timeout = 60

    def do_GET(self) -> None:
        """Answer."""
        self._send(self._reply())

    def do_POST(self) -> None:
        """Answer."""
        self._send(self._reply())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: there are many requests each second."""

    def _reply(self) -> Reply:
        try:
            require_own_page(self.server.host, self.headers.get_all("Host"), self.headers["Origin"])
            body = self._body() if self.command == "POST" else None
            return self.server.api.answer(self.command, urlsplit(self.path).path, body)
        except RequestError as error:
            # What was not read would be taken for the next request.
            self.close_connection = True
            return as_json({"error": str(error)}, error.status)
        except Exception as error:
            traceback.print_exc()
            self.close_connection = True
            sentence = f"the server failed, its terminal says where: {type(error).__name__}: {error}"
            return as_json({"error": sentence}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _body(self) -> object:
        length, kind = self.headers["Content-Length"] or "", self.headers.get_content_type()
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            raise RequestError("a request needs Content-Length", HTTPStatus.LENGTH_REQUIRED)
        if len(length) > 9 or int(length) > BODY:
            raise RequestError(f"a body has at most {BODY} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if kind != "application/json":
            raise RequestError(f"a body must be application/json; got {kind}", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the body must be JSON: {error}") from None

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if reply.state is not None:
            self.send_header(STATE, json.dumps(reply.state))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)


def require_own_page(served: str, hosts: list[str] | None, origin: str | None) -> None:
    """Raise RequestError unless a request is one of our own page's, or of no page at all.

    Args:
        served: the host that the server was told to listen at.
        hosts: the values of `Host`.
        origin: the value of `Origin`, None where there is none.

    >>> require_own_page("127.0.0.1", ["localhost:8000"], "http://localhost:8000")
    """
    host = hosts[0] if hosts and len(hosts) == 1 else ""
    if not is_fixed(name := _name(host), served):
        sentence = f"Host must be localhost, an address or {served}, for other names could be made to point here"
        raise RequestError(f"{sentence}; got {name!r}", HTTPStatus.FORBIDDEN)
    if origin is not None and origin != f"http://{host}":
        raise RequestError(f"requests of other pages are refused; got one of {origin}", HTTPStatus.FORBIDDEN)


def is_fixed(name: str, served: str) -> bool:
    """Whether no stranger's name server can make this name point here.

    >>> is_fixed("::1", "127.0.0.1"), is_fixed("rebound.example", "127.0.0.1")
    (True, False)
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("localhost", served.lower())
    return True


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
