"""A target box drawn by a person, in a small web page that only this machine can open."""

import json
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import numpy as np

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.drawing import eight_bits
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.square import check_box, check_first_box
from rgbt_fusion.frames.types import Box, Frame, check_frames

__all__ = ["pick_box"]

LONGEST_ANSWER = 1000
"""Bytes of a box; a longer answer is refused."""

SMALLEST_SIDE_PX = 2

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "form-action 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
PNG = "image/png"


class _Page(NamedTuple):
    kind: str
    body: bytes


def pick_box(
    rgb: Frame | None, tir: Frame | None, *, announce: Callable[[str], object], port: int = 0
) -> Box:
    """Show a frame in a web page and wait until a person has drawn a box on it.

    The page is served on 127.0.0.1 only, under a random path. It closes when the box arrives.

    Args:
        rgb: the colour frame; None if it is missing.
        tir: the thermal frame; None if it is missing.
        announce: called with the address of the page, once it can be opened.
        port: where to serve it; 0 takes a free one.

    Shape:
        - rgb, tir: as :meth:`.Tracker.init` takes them
        - returns left, top, width, height in pixels of the colour frame

    Raises:
        ValueError: ``rgb`` and ``tir`` are both missing.
        OSError: ``port`` is taken.
        KeyboardInterrupt: the person pressed Ctrl-C.
        ModuleNotFoundError: OpenCV is not installed.
    """
    height, width = check_frames(rgb, tir, aligned=False)
    picked: SimpleQueue[Box] = SimpleQueue()
    token = secrets.token_urlsafe(16)
    handler = _handler(f"/{token}/", _pages(rgb, tir), (width, height), picked)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        announce(f"http://127.0.0.1:{server.server_address[1]}/{token}/")
        return picked.get()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _pages(rgb: Frame | None, tir: Frame | None) -> dict[str, _Page]:
    """Return what can be fetched, by its path below the random one."""
    html = resources.files("rgbt_fusion.video").joinpath("pick.html").read_bytes()
    pages = {"": _Page(HTML, html)}
    if rgb is not None:
        pages["rgb.png"] = _Page(PNG, _png(rgb))
    if tir is not None:
        pages["tir.png"] = _Page(PNG, _png(tir))
    return pages


def _png(frame: Frame) -> bytes:
    cv2 = load_cv2()
    blue_first = eight_bits(frame)[:, :, ::-1]
    # compressed little: it goes no farther than to this machine's browser
    _, data = cv2.imencode(".png", blue_first, (cv2.IMWRITE_PNG_COMPRESSION, 1))
    return data.tobytes()


def _handler(
    root: str, pages: dict[str, _Page], size: tuple[int, int], picked: "SimpleQueue[Box]"
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Serves the page and its pictures, and takes one box."""

        timeout = 30

        def do_GET(self) -> None:
            page = pages.get(self.path.removeprefix(root)) if self._is_ours() else None
            if page is None:
                self._answer_not_found()
            else:
                self._answer(HTTPStatus.OK, page.kind, page.body)

        def do_POST(self) -> None:
            if not self._is_ours() or self.path != f"{root}box":
                self._answer_not_found()
                return
            try:
                box = _read_box(self._read_body(), size)
            except ValueError as error:
                self._answer(HTTPStatus.BAD_REQUEST, TEXT, str(error).encode())
                return
            self._answer(HTTPStatus.OK, TEXT, b"Tracking; this page can be closed.")
            picked.put(box)

        def _is_ours(self) -> bool:
            # a page of another site may make the browser call 127.0.0.1 by a name of its own, but
            # knows no token
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            start = self.path[: len(root)]
            has_token = secrets.compare_digest(start.encode(), root.encode())
            return host in ("127.0.0.1", "localhost") and has_token

        def _read_body(self) -> bytes:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > LONGEST_ANSWER:
                raise ValueError("a box is a few numbers")
            return self.rfile.read(int(length))

        def _answer_not_found(self) -> None:
            self._answer(HTTPStatus.NOT_FOUND, TEXT, b"there is nothing here")

        def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the terminal belongs to the command."""

    return Handler


def _read_box(data: bytes, size: tuple[int, int]) -> Box:
    """Return the box that a browser sent; the ``ValueError`` is shown on the page."""
    try:
        numbers = json.loads(data)
        x, y, width, height = check_box(np.array(numbers, dtype=np.float64))
    except (ShapeError, ValueError, TypeError):
        raise ValueError("Draw a box with some width and height.") from None
    if min(width, height) < SMALLEST_SIDE_PX:
        raise ValueError(
            f"The box must be at least {SMALLEST_SIDE_PX} pixels wide and high, "
            f"but is {width:g} x {height:g}."
        )
    frame_width, frame_height = size
    try:
        return check_first_box((x, y, width, height), (frame_height, frame_width))
    except ValueError as error:
        raise ValueError(str(error).replace("box_xywh_px", "The box")) from None
