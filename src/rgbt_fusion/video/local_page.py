"""A small web server for one page, which only this machine can open."""

import secrets
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rgbt_fusion.frames.drawing import Picture
from rgbt_fusion.frames.reading import load_cv2

__all__ = [
    "HTML",
    "JPEG",
    "JSON",
    "LONGEST_MESSAGE",
    "PNG",
    "TEXT",
    "Answer",
    "LocalPage",
    "encoded",
]

LONGEST_MESSAGE = 4000
"""Bytes that the page may send; more is refused."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "form-action 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

TEXT = "text/plain; charset=utf-8"
"""The type of content of a plain text."""

HTML = "text/html; charset=utf-8"
"""The type of content of a page."""

JSON = "application/json"
"""The type of content of an object."""

PNG = "image/png"
"""The type of content of a picture without loss."""

JPEG = "image/jpeg"
"""The type of content of a picture with loss."""

LARGEST_PORT = 65_535

OPEN_SECONDS = 30
"""How long a connection may stay silent."""


class Answer(NamedTuple):
    """What a request gets."""

    kind: str
    """Its type of content."""
    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = {}


class LocalPage:
    """Serves a page on 127.0.0.1 under a random path, as long as the block lasts.

    Nothing of it can be fetched without that path, or under another host's name, and the page may
    load nothing from elsewhere.

    Args:
        get: returns what is at a name below the path (``""`` is the page itself), with the text
            behind its question mark; None where nothing is.
        post: by name, what takes a message of the page; a ``ValueError`` is shown on the page.
        port: where to serve it; 0 takes a free one.

    Raises:
        ValueError: ``port`` is no port.
        OSError: ``port`` is taken.
    """

    def __init__(
        self,
        get: Callable[[str, str], Answer | None],
        post: Mapping[str, Callable[[bytes], Answer]] | None = None,
        *,
        port: int = 0,
    ) -> None:
        if not 0 <= port <= LARGEST_PORT:
            raise ValueError(f"port must be a number from 0 to {LARGEST_PORT}, got {port}")
        token = secrets.token_urlsafe(16)
        handler = _handler(f"/{token}/", get, post or {})
        try:
            self._server = _Server(("127.0.0.1", port), handler)
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"port must be one that can be used, got {port}: {reason}") from None
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/{token}/"
        """Where a browser of this machine finds the page."""
        self._thread = Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    def __enter__(self) -> "LocalPage":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def encoded(picture: Picture, kind: str) -> Answer:
    """Return a picture as a PNG or JPEG file."""
    cv2 = load_cv2()
    blue_first = picture[:, :, ::-1]
    if kind == PNG:
        # compressed little: it goes no farther than to this machine's browser
        _, data = cv2.imencode(".png", blue_first, (cv2.IMWRITE_PNG_COMPRESSION, 1))
    else:
        _, data = cv2.imencode(".jpg", blue_first, (cv2.IMWRITE_JPEG_QUALITY, 85))
    return Answer(kind, data.tobytes())


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # a browser that closes the page breaks off what it was loading
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _handler(
    root: str,
    get: Callable[[str, str], Answer | None],
    post: Mapping[str, Callable[[bytes], Answer]],
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Passes requests for the page on, and refuses all others."""

        timeout = OPEN_SECONDS

        def do_GET(self) -> None:
            place = urlsplit(self.path)
            found = None
            if self._is_ours():
                found = get(place.path.removeprefix(root), place.query)
            self._send(found)

        def do_POST(self) -> None:
            take = post.get(self.path.removeprefix(root)) if self._is_ours() else None
            if take is None:
                self._send(None)
                return
            try:
                answer = take(self._read_body())
            except ValueError as error:
                answer = Answer(TEXT, str(error).encode(), HTTPStatus.BAD_REQUEST)
            self._send(answer)

        def _is_ours(self) -> bool:
            # a page of another site may make the browser call 127.0.0.1 by a name of its own, but
            # knows no token
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            start = self.path[: len(root)]
            has_token = secrets.compare_digest(start.encode(), root.encode())
            return host in ("127.0.0.1", "localhost") and has_token

        def _read_body(self) -> bytes:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > LONGEST_MESSAGE:
                raise ValueError("a message of the page is a few numbers")
            return self.rfile.read(int(length))

        def _send(self, answer: Answer | None) -> None:
            if answer is None:
                answer = Answer(TEXT, b"there is nothing here", HTTPStatus.NOT_FOUND)
            self.send_response(answer.status)
            for name, value in (HEADERS | dict(answer.headers)).items():
                self.send_header(name, value)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the terminal belongs to the command."""

    return Handler
