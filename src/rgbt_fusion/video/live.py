"""A web page that shows a tracking as it goes, which only this machine can open."""

from collections.abc import Callable
from http import HTTPStatus
from importlib import resources
from threading import Condition
from urllib.parse import parse_qs, quote

from rgbt_fusion.frames.drawing import Picture
from rgbt_fusion.video.local_page import HTML, JPEG, TEXT, Answer, LocalPage, encoded

__all__ = ["LivePage"]

LONGEST_WAIT_S = 10.0
"""A page that has waited so long for a picture asks again."""

FAREWELL_S = 2.0
"""How long the end waits until the pages that are open have heard of it."""


class LivePage:
    """Shows pictures in a web page while they are made, as long as the block lasts.

    The page is served as :class:`~rgbt_fusion.video.local_page.LocalPage` says. It gets the newest
    picture as soon as it has shown the last one; pictures in between are not sent, and nothing is
    drawn while nobody looks. When the block ends, the page keeps the last picture and says how it
    ended.

    Args:
        announce: called with the address of the page, once it can be opened.
        port: where to serve it; 0 takes a free one.

    Raises:
        OSError: ``port`` is taken.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.video.live import LivePage
        >>> with LivePage(announce=lambda address: None) as page:
        ...     page.show(lambda: np.zeros((48, 64, 3), dtype=np.uint8), "frame 1")
    """

    def __init__(self, *, announce: Callable[[str], object], port: int = 0) -> None:
        self._page = LocalPage(self._get, port=port)
        self._announce = announce
        self._html = resources.files("rgbt_fusion.video").joinpath("live.html").read_bytes()
        self._changed = Condition()
        self._picture: Answer | None = None
        self._number = 0
        self._waiting = 0
        """Pages that wait for a picture at this moment."""
        self._viewers = 0
        """Pages that were opened and have not heard of the end."""
        self._unsent: tuple[Callable[[], Picture], str] | None = None
        """The last picture, if nobody waited for it."""
        self._end = "The command has ended."
        self._has_ended = False

    def __enter__(self) -> "LivePage":
        self._page.__enter__()
        self._announce(self._page.address)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None:
            self._end = "The command was stopped; the terminal says why."
        elif self._unsent is not None and self._viewers:
            self._publish(*self._unsent)
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._viewers, timeout=FAREWELL_S)
        self._page.__exit__(kind, *exception)

    def show(self, draw: Callable[[], Picture], text: str = "") -> None:
        """Show a picture with a line of text; ``draw`` is called only where somebody looks."""
        with self._changed:
            is_wanted = self._waiting > 0
        if is_wanted:
            self._publish(draw, text)
        else:
            self._unsent = (draw, text)

    def end(self, text: str) -> None:
        """Say what the page shows at the end of the block."""
        self._end = text

    def wait_for_viewer(self, seconds: float) -> bool:
        """Wait until somebody looks, or for so many seconds; return whether somebody does."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting > 0, timeout=seconds)

    def _publish(self, draw: Callable[[], Picture], text: str) -> None:
        picture = encoded(draw(), JPEG)
        self._unsent = None
        with self._changed:
            self._number += 1
            headers = {"X-Number": str(self._number), "X-Text": quote(text)}
            self._picture = picture._replace(headers=headers)
            self._changed.notify_all()

    def _get(self, name: str, query: str) -> Answer | None:
        if name == "":
            with self._changed:
                self._viewers += 1
            return Answer(HTML, self._html)
        if name != "picture":
            return None
        try:
            (after,) = (int(text) for text in parse_qs(query).get("after", ["0"]))
        except ValueError:
            return None
        return self._next_picture(after)

    def _next_picture(self, after: int) -> Answer:
        """Wait for a picture behind number ``after``, and return it or the end."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(
                    lambda: self._has_ended or self._number > after, timeout=LONGEST_WAIT_S
                )
            finally:
                self._waiting -= 1
            if self._number > after and self._picture is not None:
                return self._picture
            if self._has_ended:
                self._viewers = max(0, self._viewers - 1)
                self._changed.notify_all()
                return Answer(TEXT, self._end.encode(), HTTPStatus.GONE)
        return Answer(TEXT, b"", HTTPStatus.NO_CONTENT)
