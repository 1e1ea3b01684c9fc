"""Scenes of flat shapes that have other colours in heat, seen by two cameras."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.alignment.geometry import similarity
from rgbt_fusion.alignment.gradients import grey
from rgbt_fusion.alignment.search import PlanePair

SIZE = (320, 240)

SCENE = (640, 480)


class Scene(NamedTuple):
    """One place, larger than the frames, in both modalities."""

    rgb: NDArray[np.uint8]
    tir: NDArray[np.uint8]


def draw_scene(seed: int, shapes: int = 60) -> Scene:
    """Draw a scene: the shapes of both modalities are the same, their brightness is not."""
    generator = np.random.default_rng(seed)
    width, height = SCENE
    rgb = np.full((height, width, 3), 128, dtype=np.uint8)
    tir = np.full((height, width), 90, dtype=np.uint8)
    for _ in range(shapes):
        corner = generator.integers(0, SCENE)
        other = corner + generator.integers(10, 120, 2)
        colour = generator.integers(0, 255, 3).tolist()
        heat = int(generator.integers(0, 255))
        for image, value in ((rgb, colour), (tir, heat)):
            cv2.rectangle(image, corner.tolist(), other.tolist(), value, -1)
    return Scene(rgb, tir)


def window(left: float, top: float) -> NDArray[np.float64]:
    """Return the matrix from the scene to a camera that looks at ``left``, ``top``."""
    return np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])


def see(image: NDArray[np.uint8], frame_from_scene: NDArray[np.float64]) -> Any:
    """Return a frame of the scene."""
    return cv2.warpPerspective(image, frame_from_scene, SIZE, borderMode=cv2.BORDER_REFLECT)


def known_matrix() -> NDArray[np.float64]:
    """Return a matrix from colour to thermal pixels: larger, turned and moved."""
    return similarity(1.2, 3.0, (160.0, 120.0), (148.0, 130.0))


def two_views(seed: int, tir_from_rgb: NDArray[np.float64]) -> tuple[Any, Any]:
    """Return a colour and a thermal frame of one scene."""
    scene = draw_scene(seed)
    rgb_from_scene = window(160, 120)
    return see(scene.rgb, rgb_from_scene), see(scene.tir, tir_from_rgb @ rgb_from_scene)


def plane_pair(seed: int, tir_from_rgb: NDArray[np.float64]) -> PlanePair:
    """Return the same as grey planes."""
    rgb, tir = two_views(seed, tir_from_rgb)
    return PlanePair(grey(rgb), grey(tir))


def shaken_views(
    seed: int, offset: int, count: int, tir_from_rgb: NDArray[np.float64]
) -> tuple[list[Any], list[Any]]:
    """Return recordings of a camera that moves; thermal frame t + ``offset`` shows frame t."""
    scene = draw_scene(seed)
    generator = np.random.default_rng(seed)
    steps = generator.normal(0, 3, (count + 2 * abs(offset), 2))
    path = np.clip(np.cumsum(steps, axis=0), -80, 80) + np.array([160, 120])
    return views_on_a_path(scene, path, offset, count, tir_from_rgb)


def views_on_a_path(
    scene: Scene,
    path: NDArray[np.float64],
    offset: int,
    count: int,
    tir_from_rgb: NDArray[np.float64],
) -> tuple[list[Any], list[Any]]:
    """Return recordings of a camera on a path; thermal frame t + ``offset`` shows frame t."""
    start = abs(offset)
    rgb = [see(scene.rgb, window(*path[start + time])) for time in range(count)]
    tir = [
        see(scene.tir, tir_from_rgb @ window(*path[start + time - offset])) for time in range(count)
    ]
    return rgb, tir
