"""A box picked by hand, in a small web page that only this machine can open."""

import json
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.crop import check_box, check_frames
from rgbt_fusion.frames.drawing import eight_bits
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.types import Frame

__all__ = ["pick_box"]

Box = tuple[float, float, float, float]

LONGEST_ANSWER = 1000
"""Bytes of a box; whatever is longer is none."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def pick_box(
    rgb: Frame | None, tir: Frame | None, *, announce: Callable[[str], object], port: int = 0
) -> Box:
    """Show a frame in a web page and wait until a person has drawn a box on it.

    The page is served on 127.0.0.1 alone, under a random path, and is gone when the box is there.

    Args:
        rgb: the colour frame; None where it is missing.
        tir: the thermal frame.
        announce: called with the page's address, once it can be opened.
        port: where to serve it; 0 takes a free one.

    Shape:
        Frames as :meth:`.Tracker.init` takes them; returns left, top, width, height in pixels of
        the colour frame.

    Raises:
        ValueError: both frames are missing.
        OSError: the port is taken.
        KeyboardInterrupt: the person gave up.
        ModuleNotFoundError: OpenCV is not installed.
    """
    height, width = check_frames(rgb, tir, aligned=False)
    picked: SimpleQueue[Box] = SimpleQueue()
    pages = {
        "": (
            "text/html; charset=utf-8",
            resources.files("rgbt_fusion.video").joinpath("pick.html").read_bytes(),
        )
    }
    for name, frame in (("rgb.png", rgb), ("tir.png", tir)):
        if frame is not None:
            pages[name] = ("image/png", _png(frame))
    token = secrets.token_urlsafe(16)
    server = ThreadingHTTPServer(
        ("127.0.0.1", port), _handler(f"/{token}/", pages, (width, height), picked)
    )
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        announce(f"http://127.0.0.1:{server.server_address[1]}/{token}/")
        return picked.get()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _png(frame: Frame) -> bytes:
    cv2 = load_cv2()
    # compressed little: it goes no farther than to this machine's browser
    _, data = cv2.imencode(".png", eight_bits(frame)[:, :, ::-1], (cv2.IMWRITE_PNG_COMPRESSION, 1))
    return data.tobytes()


def _handler(
    root: str,
    pages: dict[str, tuple[str, bytes]],
    size: tuple[int, int],
    picked: "SimpleQueue[Box]",
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Serves the page and its pictures, and takes one box."""

        timeout = 30

        def do_GET(self) -> None:
            page = pages.get(self.path.removeprefix(root)) if self._is_ours() else None
            if page is None:
                self._answer(
                    HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"there is nothing here"
                )
            else:
                self._answer(HTTPStatus.OK, *page)

        def do_POST(self) -> None:
            if not self._is_ours() or self.path != f"{root}box":
                self._answer(
                    HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"there is nothing here"
                )
                return
            length = self.headers.get("Content-Length", "")
            try:
                if not length.isdecimal() or int(length) > LONGEST_ANSWER:
                    raise ValueError("a box is a few numbers")
                box = _read_box(self.rfile.read(int(length)), size)
            except ValueError as error:
                self._answer(
                    HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", str(error).encode()
                )
                return
            self._answer(
                HTTPStatus.OK, "text/plain; charset=utf-8", b"Tracking; this page can be closed."
            )
            picked.put(box)

        def _is_ours(self) -> bool:
            # a page of another site may make the browser call 127.0.0.1 by a name of its own, but
            # knows no token
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            return host in ("127.0.0.1", "localhost") and secrets.compare_digest(
                self.path[: len(root)].encode(), root.encode()
            )

        def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            for name, value in {
                **HEADERS,
                "Content-Type": kind,
                "Content-Length": str(len(body)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the terminal belongs to the command."""

    return Handler


def _read_box(data: bytes, size: tuple[int, int]) -> Box:
    try:
        numbers = json.loads(data)
        box = check_box(np.array(numbers, dtype=np.float64))
    except (ShapeError, ValueError, TypeError):
        raise ValueError("Draw a box with some width and height.") from None
    x, y, width, height = box
    if min(width, height) < 2:
        raise ValueError(
            f"The box must be at least 2 pixels wide and high, but is {width:g} x {height:g}."
        )
    if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
        raise ValueError(f"The box must lie in the frame of {size[0]} x {size[1]} pixels.")
    return box
