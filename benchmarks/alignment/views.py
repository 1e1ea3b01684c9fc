"""Pairs of views whose matrix is known: windows cut from aligned recordings."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.alignment.geometry import corners
from rgbt_fusion.data.sequences import list_images
from rgbt_fusion.frames.drawing import map_points
from rgbt_fusion.frames.reading import read_rgb, read_thermal
from rgbt_fusion.frames.types import Frame
from rgbt_fusion.synthetic.plan import Challenge
from rgbt_fusion.synthetic.world import SyntheticSequence

__all__ = [
    "Case",
    "Clip",
    "corner_error",
    "draw_case",
    "late_case",
    "read_folder",
    "synthetic_clip",
]

Matrix = NDArray[np.float64]

SCALES = (0.5, 2.0)
LARGEST_TURN_DEG = 5.0
LARGEST_SHIFT = 0.17
"""Share of the diagonal."""

CORNER_JITTER = 0.015
"""Share of the width by which each corner moves: the views differ by a homography."""


class Clip(NamedTuple):
    """Aligned frames of both cameras."""

    name: str
    rgb: Sequence[Frame]
    tir: Sequence[Frame]


class Case(NamedTuple):
    """What an estimate is given, and what it should find."""

    name: str
    rgb: Sequence[Frame]
    tir: Sequence[Frame]
    tir_from_rgb: Matrix
    scale: float
    """Thermal pixels per colour pixel."""


class _Views(NamedTuple):
    rgb: Matrix
    tir: Matrix
    scale: float


def synthetic_clip(seed: int, challenge: Challenge, frames: int, *, step: int = 1) -> Clip:
    """Render aligned frames of the held-out synthetic world."""
    world = SyntheticSequence(seed, frames=120, size=(480, 360), challenge=challenge, held_out=True)
    pairs = [world[30 + step * number] for number in range(frames)]
    rgb = [pair.rgb for pair in pairs if pair.rgb is not None]
    tir = [pair.tir for pair in pairs if pair.tir is not None]
    return Clip(f"synthetic {challenge}", rgb, tir)


def read_folder(name: str, rgb: Path, tir: Path) -> Clip:
    """Read two folders of aligned images."""
    colours = [read_rgb(path) for path in list_images(rgb, (".",))]
    heats = [read_thermal(path) for path in list_images(tir, (".",))]
    return Clip(name, list(colours), heats)


def draw_case(
    clip: Clip, chosen: Sequence[int], width: int, generator: np.random.Generator
) -> Case:
    """Cut two views from frames of a clip.

    Args:
        clip: the aligned frames.
        chosen: which of them.
        width: width of both views.
        generator: where the views are drawn from.
    """
    frame_height, frame_width = clip.rgb[0].shape[:2]
    size = (width, round(width * frame_height / frame_width))
    views = _draw_views((frame_width, frame_height), size, generator)
    return Case(
        clip.name,
        [_view(clip.rgb[index], views.rgb, size) for index in chosen],
        [_view(clip.tir[index], views.tir, size) for index in chosen],
        views.tir @ np.linalg.inv(views.rgb),
        views.scale,
    )


def late_case(case: Case, offset: int) -> Case:
    """Cut a case so that its thermal frame t + ``offset`` shows the moment of colour frame t."""
    length = len(case.rgb)
    return case._replace(
        rgb=case.rgb[max(0, offset) : length + min(0, offset)],
        tir=case.tir[max(0, -offset) : length - max(0, offset)],
    )


def corner_error(estimate: Matrix, case: Case) -> float:
    """Return the mean error at the corners in pixels of the view that shows more."""
    height, width = case.rgb[0].shape[:2]
    tir_height, tir_width = case.tir[0].shape[:2]
    if case.scale >= 1:
        points = corners((tir_width, tir_height))
        found = map_points(points, np.linalg.inv(estimate))
        true = map_points(points, np.linalg.inv(case.tir_from_rgb))
    else:
        points = corners((width, height))
        found = map_points(map_points(points, estimate), np.linalg.inv(case.tir_from_rgb))
        true = points
    return float(np.linalg.norm(found - true, axis=1).mean())


def _draw_views(
    frame: tuple[int, int], size: tuple[int, int], generator: np.random.Generator
) -> _Views:
    """Draw windows of both cameras until both lie inside the frame."""
    width, height = frame
    ratio = height / width
    low, high = np.log(SCALES)
    while True:
        scale = float(np.exp(generator.uniform(low, high)))
        turn = generator.uniform(-LARGEST_TURN_DEG, LARGEST_TURN_DEG)
        shift = generator.uniform(0, LARGEST_SHIFT) * np.hypot(1, ratio)
        direction = generator.uniform(0, 2 * np.pi)
        share = 0.97 * min(1, scale) * generator.uniform(0.75, 1)
        for _ in range(60):
            rgb_width = share * width
            tir_width = rgb_width / scale
            if tir_width > 0.99 * width:
                share *= 0.95
                continue
            low_x, high_x = rgb_width / 2, width - rgb_width / 2
            low_y, high_y = low_x * ratio, height - low_x * ratio
            centre = np.array([generator.uniform(low_x, high_x), generator.uniform(low_y, high_y)])
            move = shift * rgb_width * np.array([np.cos(direction), np.sin(direction)])
            rgb = _window(centre, rgb_width, ratio, 0.0, generator)
            tir = _window(centre + move, tir_width, ratio, turn, generator)
            if (tir >= -1).all() and (tir <= np.array(frame) + 1).all():
                return _Views(_onto(rgb, size), _onto(tir, size), scale)
            share *= 0.985


def _window(
    centre: NDArray[np.float64],
    width: float,
    ratio: float,
    degrees: float,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the corners of a turned window, each moved a little."""
    height = width * ratio
    points = corners((1, 1)) * (width, height) - (width / 2, height / 2)
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ turn.T + centre + generator.uniform(-1, 1, (4, 2)) * CORNER_JITTER * width


def _onto(window: NDArray[np.float64], size: tuple[int, int]) -> Matrix:
    target = corners(size).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(window.astype(np.float32), target)
    return np.asarray(matrix, dtype=np.float64)


def _view(frame: Frame, matrix: Matrix, size: tuple[int, int]) -> Frame:
    reduction = 1 / np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    if reduction > 1.3:
        frame = cv2.GaussianBlur(frame, (0, 0), 0.4 * reduction)  # pyright: ignore[reportAssignmentType]
    return cv2.warpPerspective(frame, matrix, size, borderMode=cv2.BORDER_REFLECT)  # pyright: ignore[reportReturnType]
