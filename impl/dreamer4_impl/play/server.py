"""HTTP server of the page; refuses requests that come from other pages.

Any page in the same browser can send requests to localhost, and could read the responses under a host name that its
owner redirects here (DNS rebinding). Therefore `Host` must be a name that cannot be redirected, `Origin` must be the
page's own, and a body must be JSON, which a form cannot send.
"""

import ipaddress
import json
import socket
import sys
import traceback
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from dreamer4_impl.play.api import Api, Reply, as_json
from dreamer4_impl.play.errors import RequestError

#: Maximum size of a body in bytes; an action takes about a hundred.
BODY: Final = 2**16
#: Header with the state of a session, JSON.
STATE: Final = "Dreamer4-State"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PlayServer(ThreadingHTTPServer):
    """Server of one world. `server_close` ends open connections and waits for their threads.

    Args:
        host: address to listen on.
        port: port to listen on; 0 for any free port, see `url`.
        api: handler of the requests.

    Raises:
        OSError: if the address is not available.
    """

    # The interpreter ends a daemon thread wherever it is, which inside of torch aborts the process.
    daemon_threads = False

    def __init__(self, host: str, port: int, api: Api) -> None:
        self.api, self.host = api, host
        self._connections: set[Any] = set()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own.

        Args:
            request: socket of the connection.
            client_address: host and port of the client.
        """
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that has been served.

        Args:
            request: socket of the connection.
        """
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening, end open connections, and wait for their threads."""
        for connection in [*self._connections]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Report an error of a connection, except for a client that has disconnected or takes too long.

        Args:
            request: socket of the connection.
            client_address: host and port of the client.
        """
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        """Address of the page on this machine.

        Returns:
            URL with the actual port.
        """
        all_addresses = self.host in ("0.0.0.0", "::", "")
        host = "localhost" if all_addresses else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    """Connects HTTP to the Api; errors are sent as a JSON object with the key `error`."""

    server: PlayServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dreamer4-play", ""
    error_content_type, error_message_format = "application/json", '{"error": "%(message)s"}'
    # Otherwise a small response waits for the acknowledgement of the previous one.
    disable_nagle_algorithm = True
    timeout = 60

    def do_GET(self) -> None:
        """Handle a GET request."""
        self._send(self._reply())

    def do_POST(self) -> None:
        """Handle a POST request."""
        self._send(self._reply())

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, because there are many requests per second.

        Args:
            format: format of the message.
            args: values of the message.
        """

    def _reply(self) -> Reply:
        try:
            require_own_page(self.server.host, self.headers.get_all("Host"), self.headers["Origin"])
            body = self._body() if self.command == "POST" else None
            return self.server.api.answer(self.command, urlsplit(self.path).path, body)
        except RequestError as error:
            # Otherwise an unread body would be parsed as the next request.
            self.close_connection = True
            return as_json({"error": str(error)}, error.status)
        except (ConnectionError, TimeoutError):  # a body that does not arrive: the connection is closed
            raise
        except Exception as error:
            traceback.print_exc()
            self.close_connection = True
            message = f"internal error, see the traceback in the terminal: {type(error).__name__}: {error}"
            return as_json({"error": message}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _body(self) -> object:
        length, kind = self.headers["Content-Length"] or "", self.headers.get_content_type()
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            raise RequestError("a POST request must have the header Content-Length", HTTPStatus.LENGTH_REQUIRED)
        if len(length) > 9 or int(length) > BODY:
            raise RequestError(
                f"a body must have at most {BODY} bytes; got {length[:12]}", HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            )
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
    """Check that a request comes from the page of this server, or from a client that is not a page.

    Args:
        served: host that the server listens on.
        hosts: values of the header `Host`.
        origin: value of the header `Origin`, or None.

    Raises:
        RequestError: if the host could be redirected by others, or the origin is another page.

    Example:
        >>> require_own_page("127.0.0.1", ["localhost:8000"], "http://localhost:8000")
    """
    host = hosts[0] if hosts and len(hosts) == 1 else ""
    if not is_fixed(name := _name(host), served):
        allowed = f"localhost, an IP address or {served}, because other names can be redirected by DNS"
        raise RequestError(f"Host must be {allowed}; got {name!r}", HTTPStatus.FORBIDDEN)
    if origin is not None and origin != f"http://{host}":
        raise RequestError(f"requests from other pages are refused; got Origin {origin}", HTTPStatus.FORBIDDEN)


def is_fixed(name: str, served: str) -> bool:
    """Test for a host name that nobody else can redirect to this machine.

    Args:
        name: host name of a request.
        served: host that the server listens on.

    Returns:
        True for an IP address, localhost and the host of the server.

    Example:
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
