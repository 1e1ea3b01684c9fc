"""What a person shows in a small web page: the target, and points that both cameras see."""

import json
from collections.abc import Callable
from importlib import resources
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rgbt_fusion.alignment.aligned_frames import lay_on_colour
from rgbt_fusion.alignment.estimate import Alignment
from rgbt_fusion.alignment.known import FEWEST_POINTS, alignment_from_points
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.drawing import eight_bits
from rgbt_fusion.frames.square import check_box, check_first_box
from rgbt_fusion.frames.types import Box, Frame, check_frames
from rgbt_fusion.video.local_page import HTML, JSON, PNG, TEXT, Answer, LocalPage, encoded

__all__ = ["Picked", "pick_alignment", "pick_target"]

SMALLEST_SIDE_PX = 2

MOST_POINTS = 50


class Picked(NamedTuple):
    """What a person has picked."""

    box_xywh_px: Box
    """Left, top, width and height in pixels of the colour frame."""
    alignment: Alignment | None
    """The homography through the points that were clicked; None if none were."""


def pick_target(
    rgb: Frame | None,
    tir: Frame | None,
    *,
    announce: Callable[[str], object],
    port: int = 0,
    tir_from_rgb: ArrayLike | None = None,
    points: bool = True,
) -> Picked:
    """Show a frame in a web page and wait until a person has drawn a box on it.

    The page is served on 127.0.0.1 only, under a random path. It closes when the box arrives. A
    person may first click the same points in both pictures, four pairs or more: the thermal picture
    is then shown as the colour camera would see it.

    Args:
        rgb: the colour frame; None if it is missing.
        tir: the thermal frame; None if it is missing.
        announce: called with the address of the page, once it can be opened.
        port: where to serve it; 0 takes a free one.
        tir_from_rgb: how the cameras lie on each other, if it is known: the offset (x, y) or the
            3x3 homography. Then no points are asked for.
        points: let the person click points.

    Shape:
        - rgb, tir: as :meth:`.Tracker.init` takes them

    Raises:
        ValueError: ``rgb`` and ``tir`` are both missing.
        OSError: ``port`` is taken.
        KeyboardInterrupt: the person pressed Ctrl-C.
        ModuleNotFoundError: OpenCV is not installed.
    """
    known = None if tir_from_rgb is None else _homography(tir_from_rgb)
    may_point = points and known is None and rgb is not None and tir is not None
    picking = _Picking(rgb, tir, known, wants_box=True, may_point=may_point)
    return picking.run(announce, port)


def pick_alignment(
    rgb: Frame, tir: Frame, *, announce: Callable[[str], object], port: int = 0
) -> Alignment:
    """Show both frames in a web page and wait until a person has clicked the same points in both.

    Four pairs fix the homography, more are averaged. The page shows what comes of them, and closes
    when the person keeps it.

    Args:
        rgb: the colour frame.
        tir: the thermal frame of the same moment.
        announce: called with the address of the page, once it can be opened.
        port: where to serve it; 0 takes a free one.

    Raises:
        OSError: ``port`` is taken.
        KeyboardInterrupt: the person pressed Ctrl-C.
        ModuleNotFoundError: OpenCV is not installed.
    """
    picking = _Picking(rgb, tir, None, wants_box=False, may_point=True)
    picked: Alignment = picking.run(announce, port)
    return picked


class _Picking:
    """A page that is open, and what was picked in it so far."""

    def __init__(
        self,
        rgb: Frame | None,
        tir: Frame | None,
        known: Any,
        *,
        wants_box: bool,
        may_point: bool,
    ) -> None:
        height, width = check_frames(rgb, tir, aligned=False)
        self.rgb = rgb
        self.tir = tir
        self.size = (width, height)
        self.known = known
        self.wants_box = wants_box
        self.may_point = may_point
        self.alignment: Alignment | None = None
        self.picked: SimpleQueue[Any] = SimpleQueue()

    def run(self, announce: Callable[[str], object], port: int) -> Any:
        """Serve the page until something is picked, and return it."""
        take = {"points": self.take_points, "keep": self.keep}
        if self.wants_box:
            take = {"points": self.take_points, "box": self.take_box}
        if not self.may_point:
            del take["points"]
        with LocalPage(self.get, take, port=port) as page:
            announce(page.address)
            return self.picked.get()

    def get(self, name: str, query: str) -> Answer | None:
        """Return the page or a part of it."""
        if name == "":
            html = resources.files("rgbt_fusion.video").joinpath("pick.html").read_bytes()
            return Answer(HTML, html)
        if name == "settings.json":
            return Answer(JSON, json.dumps(self.settings()).encode())
        if name == "rgb.png" and self.rgb is not None:
            return encoded(eight_bits(self.rgb), PNG)
        if name == "tir.png" and self.tir is not None:
            return encoded(eight_bits(self.shown_thermal(self.tir)), PNG)
        return None

    def settings(self) -> dict[str, Any]:
        """Return what the page offers."""
        return {
            "box": self.wants_box,
            "points": self.may_point,
            "fewest": FEWEST_POINTS,
            "aligned": self.refusal() is None,
        }

    def shown_thermal(self, tir: Frame) -> Frame:
        """Return the thermal frame, laid on the colour frame if it is known how."""
        matrix = self.known if self.alignment is None else self.alignment.tir_from_rgb
        if matrix is None or self.rgb is None:
            return tir
        return lay_on_colour(tir, matrix, (self.size[1], self.size[0]))

    def refusal(self) -> str | None:
        """Return why no box can be taken yet."""
        if self.rgb is None or self.tir is None or not self.may_point:
            return None
        if self.alignment is not None or self.rgb.shape[:2] == self.tir.shape[:2]:
            return None
        rows, columns = self.tir.shape[:2]
        return (
            f"The pictures differ in size, {self.size[0]} x {self.size[1]} and {columns} x {rows}: "
            f"click {FEWEST_POINTS} pairs of points first, or start the command with --fit."
        )

    def take_points(self, data: bytes) -> Answer:
        """Lay the pictures on each other by clicked points; none of them take it back."""
        rgb, tir = _read_points(data)
        if not rgb and not tir:
            self.alignment = None
            return Answer(TEXT, b"The pictures are shown as they were recorded.")
        if self.rgb is None or self.tir is None:
            raise ValueError("Points need both pictures.")
        tir_size = (self.tir.shape[1], self.tir.shape[0])
        try:
            self.alignment = alignment_from_points(rgb, tir, size=self.size, tir_size=tir_size)
        except (ShapeError, ValueError) as error:
            text = str(error)
            raise ValueError(text[:1].upper() + text[1:]) from None
        said = f"Laid on each other by {self.alignment.reason}."
        return Answer(TEXT, said.encode())

    def keep(self, data: bytes) -> Answer:
        """Take the alignment as it is."""
        if self.alignment is None:
            raise ValueError(f"Click {FEWEST_POINTS} pairs of points first.")
        self.picked.put(self.alignment)
        return Answer(TEXT, b"Done; this page can be closed.")

    def take_box(self, data: bytes) -> Answer:
        """Take the box of the target."""
        refusal = self.refusal()
        if refusal is not None:
            raise ValueError(refusal)
        box = _read_box(data, self.size)
        self.picked.put(Picked(box, self.alignment))
        return Answer(TEXT, b"Tracking; this page can be closed.")


def _homography(tir_from_rgb: ArrayLike) -> Any:
    """Return the matrix of an offset or a homography."""
    given = np.asarray(tir_from_rgb, dtype=np.float64)
    if given.shape != (2,):
        return given
    matrix = np.eye(3)
    matrix[:2, 2] = given
    return matrix


def _read_points(data: bytes) -> tuple[list[Any], list[Any]]:
    """Return the points in both pictures that a browser sent."""
    try:
        rgb, tir = json.loads(data)
    except (ValueError, TypeError):
        raise ValueError("Points must be two lists of pairs of numbers.") from None
    if not isinstance(rgb, list) or not isinstance(tir, list) or len(rgb) > MOST_POINTS:
        raise ValueError(f"Points must be two lists of at most {MOST_POINTS} pairs of numbers.")
    for points in (rgb, tir):
        if not all(_is_point(point) for point in points):
            raise ValueError("Points must be pairs of numbers.")
    return rgb, tir


def _is_point(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and all(isinstance(number, int | float) for number in value)


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
