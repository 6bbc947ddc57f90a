"""The dashboard in a browser: textual-serve draws it there, one process of it a page; who may open it is decided here.

A page can start programs as whoever started the server. A loopback address alone keeps nobody out: other users of a machine
reach it, and so does any web page that the same browser shows. So each request needs a token, and a page of this very address.
"""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

POLICY = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
"""What a page may load: what this server gives, and nothing of the internet."""
SHUTDOWN_SECONDS = 2.0
"""How long a page may take to say goodbye when the server ends."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer(Server):
    """Serve the dashboard that a command opens.

    Args:
        command: the shell command that opens it; every page has a process of its own.
        listener: the socket that pages come to.
        host: its name in the address that is told.
        token: what a page must know.
    """

    def __init__(self, command: str, listener: socket.socket, host: str, token: str | None = None) -> None:
        self._listener = listener
        self._token = secrets.token_urlsafe(18) if token is None else token
        super().__init__(command, host=f"[{host}]" if ":" in host else host, port=listener.getsockname()[1], title="reprotui")

    @property
    def address(self) -> str:
        """Return the address that opens the dashboard, with the token."""
        return f"{self.public_url}/?token={self._token}"

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        web.run_app(
            self._make_app(), sock=self._listener, print=lambda *_: None, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS
        )

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._admit)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Say nothing: the command line has told the address."""

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """Serve the page; its addresses are those by which it was asked for, which behind a tunnel are not the server's own."""
        self.public_url = f"{request.scheme}://{request.host}"
        return await super().handle_index(request)

    @property
    def _cookie(self) -> str:
        return f"reprotui-{self.port}"  # cookies do not know ports

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.query.get("token")
        known = request.cookies.get(self._cookie, "") if asked is None else asked
        if not secrets.compare_digest(known.encode(), self._token.encode()):
            raise web.HTTPForbidden(text="the address needs the token that `reprotui serve` printed: open that whole address\n")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text=f"a page of {origin} asks for the dashboard of {request.host}\n")
        response = await handler(request)
        if not response.prepared:
            response.headers["Content-Security-Policy"] = POLICY
            response.headers["Referrer-Policy"] = "no-referrer"
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="Strict")
        return response


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        OSError: there is no such address here, it may not be used, or somebody listens there already.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family)


def command_of(arguments: Sequence[str]) -> str:
    """Return the shell command of this program with other arguments."""
    import shlex

    return shlex.join([sys.executable, "-m", "reprotui", *arguments])
