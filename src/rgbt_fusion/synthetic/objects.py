"""Objects of the synthetic world: people, cyclists, cars, dogs, odd shapes, and occluders.

A sprite is painted once from a number and kept. Every sequence that draws the number shares it.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from rgbt_fusion.synthetic.places import smooth_noise

__all__ = ["KINDS", "Sprite", "occluder", "sprite"]

KINDS = (
    "person",
    "person",
    "person",
    "cyclist",
    "cyclist rear",
    "car",
    "car rear",
    "car above",
    "dog",
    "shape",
)
"""Kind of a sprite, by its number modulo ten: people are what the benchmarks track most."""

_STEPPING = ("person", "cyclist", "cyclist rear", "dog")
"""Kinds that move their legs."""

_PHASES = 8
"""Pictures of one step."""

_PIXELS = 96
"""Height of the canvas of people."""

Plane = NDArray[np.floating]


class Sprite(NamedTuple):
    """One object in every phase of its motion."""

    layers: Tensor
    """``(P, 5, H, W)`` uint8: red, green, blue, heat (all multiplied by opacity), opacity.

    Hundreds stay in memory, so they are small numbers.
    """
    half: Tensor
    """``(P, 5, H/2, W/2)`` uint8, the same at half the size, to draw it small without flicker."""
    quarter: Tensor
    """``(P, 5, H/4, W/4)`` uint8, the same at a quarter of the size."""
    extents: NDArray[np.float64]
    """``(P, 4)``: left, top, right, bottom of the opaque part, in pixels of the sprite."""
    height: float
    """Height of the opaque part in the first phase; an actor's height is measured in it."""


class _Canvas:
    """A sprite in the making: shapes over one another, each with colour, heat and texture."""

    def __init__(self, width: int, height: int, generator: np.random.Generator) -> None:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        self.x = x + 0.5
        self.y = y + 0.5
        self.layers = np.zeros((5, height, width), dtype=np.float32)
        self.texture = smooth_noise(generator, height, width, cells=10)
        self.fine = smooth_noise(generator, height, width, cells=4)

    def paint(
        self, distance: Plane, colour: NDArray[np.floating], heat: float, *, rough: float = 0.12
    ) -> None:
        """Paint where ``distance`` is below 0, with an edge of one pixel."""
        cover = np.clip(0.5 - distance, 0, 1)
        shade = 1 + rough * 2 * (self.texture - 0.5) + 0.15 * np.clip(-distance / 12, 0, 1)
        painted = [np.clip(channel * shade, 0, 1) for channel in colour]
        painted.append(np.clip(heat * (0.85 + 0.3 * self.fine), 0, 1))
        colours_and_heat = self.layers[:4]
        opacity = self.layers[4]
        for plane, value in zip(colours_and_heat, painted, strict=True):
            plane += cover * (value - plane)
        opacity += cover * (1 - opacity)

    def turn(self, angle: float) -> None:
        """Turn what is painted from now on about the middle of the canvas."""
        cx = self.x.mean()
        cy = self.y.mean()
        dx = self.x - cx
        dy = self.y - cy
        self.x = cx + dx * np.cos(angle) + dy * np.sin(angle)
        self.y = cy + dy * np.cos(angle) - dx * np.sin(angle)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> Plane:
        """Return the approximate distance to an ellipse, negative inside."""
        radius = np.hypot((self.x - cx) / rx, (self.y - cy) / ry)
        return (radius - 1) * min(rx, ry)

    def limb(self, x0: float, y0: float, x1: float, y1: float, radius: float) -> Plane:
        """Return the distance to a stick with round ends."""
        dx = x1 - x0
        dy = y1 - y0
        projection = (self.x - x0) * dx + (self.y - y0) * dy
        along = np.clip(projection / (dx * dx + dy * dy + 1e-6), 0, 1)
        return np.hypot(self.x - x0 - along * dx, self.y - y0 - along * dy) - radius

    def box(self, x0: float, y0: float, x1: float, y1: float, round_: float = 2.0) -> Plane:
        """Return the distance to a box with round corners."""
        off_x = np.abs(self.x - (x0 + x1) / 2)
        off_y = np.abs(self.y - (y0 + y1) / 2)
        qx = off_x - (x1 - x0) / 2 + round_
        qy = off_y - (y1 - y0) / 2 + round_
        outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
        inside = np.minimum(np.maximum(qx, qy), 0)
        return outside + inside - round_


@lru_cache(maxsize=512)
def sprite(number: int) -> Sprite:
    """Paint sprite ``number``, or return it if it has been painted.

    Raises:
        ValueError: ``number`` is negative.
    """
    if number < 0:
        raise ValueError(f"number must be at least 0, got {number}")
    kind = KINDS[number % len(KINDS)]
    phases = _PHASES if kind in _STEPPING else 1
    frames = []
    for phase in range(phases):
        # the same generator for every phase: only the pose changes
        generator = np.random.default_rng((0x5B71E, number))
        swing = np.sin(2 * np.pi * phase / phases)
        frames.append(_PAINTERS[kind](generator, float(swing)))
    return _sprite(np.stack(frames))


@lru_cache(maxsize=128)
def occluder(number: int) -> Sprite:
    """Paint occluder ``number``, or return it if it has been painted.

    It is a pole, a trunk, a bush, a sign or a wall.
    """
    generator = np.random.default_rng((0x0CC1, number))
    return _sprite(_OCCLUDERS[number % len(_OCCLUDERS)](generator)[None])


def _sprite(layers: NDArray[np.float32]) -> Sprite:
    full = torch.from_numpy(layers * 255)
    extents = np.array([_opaque(opacity) for opacity in layers[:, 4]], dtype=np.float64)
    height = float(extents[0, 3] - extents[0, 1])
    return Sprite(
        layers=full.round().to(torch.uint8),
        half=avg_pool2d(full, 2).round().to(torch.uint8),
        quarter=avg_pool2d(full, 4).round().to(torch.uint8),
        extents=extents,
        height=height,
    )


def _opaque(opacity: Plane) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the opaque part."""
    rows = np.flatnonzero((opacity > 0.5).any(axis=1))
    columns = np.flatnonzero((opacity > 0.5).any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _cloth(generator: np.random.Generator) -> NDArray[np.floating]:
    """Return a colour of clothes or paint: often grey or dark, sometimes loud."""
    grey = generator.uniform(0.05, 0.95)
    loud = generator.random(3)
    return grey + (loud - grey) * generator.choice((0.1, 0.35, 0.9), p=(0.4, 0.3, 0.3))


def _insulated(generator: np.random.Generator) -> float:
    """Return the heat of clothes: from a padded jacket, cold as the street, to a thin shirt."""
    return float(generator.uniform(0.3, 0.9))


def _skin(generator: np.random.Generator) -> NDArray[np.floating]:
    return np.array([0.85, 0.63, 0.5]) * generator.uniform(0.35, 1.05)


def _person(generator: np.random.Generator, swing: float) -> NDArray[np.float32]:
    canvas = _Canvas(64, _PIXELS, generator)
    shirt = _cloth(generator)
    trousers = _cloth(generator)
    skin = _skin(generator)
    hair = generator.random(3) * 0.4
    wide = generator.uniform(0.8, 1.35)
    warm = generator.uniform(0.75, 1.0)
    upper = _insulated(generator)
    lower = _insulated(generator)
    rough = generator.uniform(0.05, 0.5)
    stride = generator.uniform(5, 13) * swing
    arm = generator.uniform(4, 10) * swing
    back = trousers * 0.8
    front = trousers
    canvas.paint(canvas.limb(31, 52, 32 - stride, 88, 4.2 * wide), back, 0.95 * lower)
    canvas.paint(
        canvas.limb(31 + 6 * wide, 30, 34 + arm, 52, 2.9 * wide), shirt * 0.8, 0.94 * upper
    )
    canvas.paint(canvas.limb(33, 52, 32 + stride, 88, 4.2 * wide), front, lower)
    canvas.paint(canvas.box(31.5 - 9 * wide, 23, 32.5 + 9 * wide, 55, 6), shirt, upper, rough=rough)
    if generator.random() < 0.3:  # a bag on the back
        canvas.paint(canvas.box(34 + 5 * wide, 26, 40 + 7 * wide, 46, 4), _cloth(generator), 0.35)
    canvas.paint(
        canvas.limb(31 - 8 * wide, 29, 29 - arm, 52, 3.0 * wide), shirt * 0.9, 0.97 * upper
    )
    canvas.paint(canvas.ellipse(29 - arm, 53, 3, 3.2), skin, 0.92 * warm)
    canvas.paint(canvas.ellipse(32, 14, 7.2, 9), hair, 0.8 * warm)
    canvas.paint(canvas.ellipse(32.8, 15.5, 5.8, 7.2), skin, warm)
    return canvas.layers


def _cyclist(generator: np.random.Generator, swing: float) -> NDArray[np.float32]:
    canvas = _Canvas(88, _PIXELS, generator)
    frame = _cloth(generator)
    shirt = _cloth(generator)
    trousers = _cloth(generator)
    skin = _skin(generator)
    upper = _insulated(generator)
    lower = _insulated(generator)
    for cx in (19, 68):
        ring = np.abs(canvas.ellipse(cx, 75, 15, 15)) - 1.6
        canvas.paint(ring, np.array([0.1, 0.1, 0.1]), 0.4)
    for x0, y0, x1, y1 in (
        (19, 75, 38, 56),
        (38, 56, 62, 54),
        (38, 56, 44, 76),
        (44, 76, 62, 54),
        (62, 50, 68, 75),
    ):
        canvas.paint(canvas.limb(x0, y0, x1, y1, 1.5), frame, 0.35)
    knee = 6 * swing
    canvas.paint(canvas.limb(40, 48, 52, 56 - knee, 3.8), trousers, lower)
    canvas.paint(canvas.limb(52, 56 - knee, 45, 74 - knee / 2, 3.2), trousers, lower)
    canvas.paint(canvas.limb(38, 47, 50, 24, 7.5), shirt, upper)
    canvas.paint(canvas.limb(51, 26, 63, 48, 2.8), shirt * 0.9, upper)
    canvas.paint(canvas.ellipse(55, 13, 6.5, 7.8), skin, 1.0)
    canvas.paint(canvas.ellipse(54, 9, 7, 5), _cloth(generator), 0.45)
    return canvas.layers


def _cyclist_rear(generator: np.random.Generator, swing: float) -> NDArray[np.float32]:
    """Paint a cyclist from behind or from ahead, as cameras in traffic see one."""
    canvas = _Canvas(56, _PIXELS, generator)
    frame = _cloth(generator)
    shirt = _cloth(generator)
    trousers = _cloth(generator)
    skin = _skin(generator)
    upper = _insulated(generator)
    lower = _insulated(generator)
    wide = generator.uniform(0.85, 1.3)
    warm = generator.uniform(0.75, 1.0)
    canvas.paint(canvas.box(26, 60, 30, 93, 1.5), np.array([0.1, 0.1, 0.1]), 0.35)
    canvas.paint(canvas.box(26.5, 52, 29.5, 72, 1), frame, 0.35)
    for side in (-1, 1):
        knee = 66 + 5 * side * swing
        canvas.paint(canvas.limb(28 + 5 * side, 50, 28 + 7 * side, knee, 3.6), trousers, lower)
        canvas.paint(
            canvas.limb(28 + 7 * side, knee, 28 + 5 * side, knee + 16, 3),
            trousers * 0.9,
            0.95 * lower,
        )
        canvas.paint(
            canvas.limb(28 + 8 * side * wide, 26, 28 + 13 * side, 46, 2.8),
            shirt * 0.9,
            0.95 * upper,
        )
    canvas.paint(
        canvas.box(28 - 9 * wide, 21, 28 + 9 * wide, 52, 6),
        shirt,
        upper,
        rough=generator.uniform(0.05, 0.5),
    )
    canvas.paint(canvas.ellipse(28, 12, 6.3, 8), skin, warm)
    if generator.random() < 0.6:  # a helmet, or hair
        canvas.paint(canvas.ellipse(28, 9.5, 6.8, 6), _cloth(generator), 0.45)
    return canvas.layers


def _car(generator: np.random.Generator, _: float) -> NDArray[np.float32]:
    canvas = _Canvas(120, 60, generator)
    paint = _cloth(generator)
    hot = generator.uniform(0.5, 0.95)
    roof = generator.uniform(12, 20)
    hood = generator.uniform(26, 32)
    canvas.paint(canvas.box(30, roof, 88, 42, 9), paint, 0.5, rough=0.05)
    canvas.paint(canvas.box(35, roof + 4, 57, hood + 2, 3), np.array([0.12, 0.15, 0.2]), 0.22)
    canvas.paint(canvas.box(61, roof + 4, 83, hood + 2, 3), np.array([0.14, 0.17, 0.22]), 0.22)
    canvas.paint(canvas.box(6, hood, 114, 47, 6), paint, 0.52, rough=0.05)
    canvas.paint(canvas.box(88, hood + 2, 110, 42, 4), paint * 0.97, hot, rough=0.04)
    canvas.paint(canvas.box(106, 33, 113, 37, 1.5), np.array([1, 0.95, 0.8]), 0.6)
    canvas.paint(canvas.box(7, 33, 12, 38, 1.5), np.array([0.7, 0.1, 0.08]), 0.5)
    for cx in (28, 93):
        canvas.paint(
            canvas.ellipse(cx, 46, 9.5, 9.5), np.array([0.07, 0.07, 0.08]), 0.75 * hot + 0.2
        )
        canvas.paint(canvas.ellipse(cx, 46, 5, 5), np.array([0.6, 0.6, 0.62]), 0.6)
    return canvas.layers


def _car_rear(generator: np.random.Generator, _: float) -> NDArray[np.float32]:
    canvas = _Canvas(84, 80, generator)
    paint = _cloth(generator)
    hot = generator.uniform(0.6, 1.0)
    top = generator.uniform(8, 26)
    for cx in (18, 66):
        canvas.paint(canvas.box(cx - 6, 56, cx + 6, 75, 3), np.array([0.06, 0.06, 0.07]), 0.85)
    canvas.paint(canvas.box(13, top, 71, 50, 9), paint, 0.5, rough=0.05)
    canvas.paint(canvas.box(19, top + 5, 65, 33, 5), np.array([0.12, 0.15, 0.2]), 0.2)
    canvas.paint(canvas.box(7, 34, 77, 66, 7), paint, 0.55, rough=0.05)
    for cx in (14, 70):
        canvas.paint(canvas.box(cx - 5, 40, cx + 5, 47, 2), np.array([0.75, 0.08, 0.06]), 0.6)
    canvas.paint(canvas.box(32, 44, 52, 51, 1), np.array([0.85, 0.85, 0.8]), 0.45)
    canvas.paint(canvas.box(22, 62, 62, 69, 3), np.array([0.1, 0.1, 0.1]), hot)
    return canvas.layers


def _car_above(generator: np.random.Generator, _: float) -> NDArray[np.float32]:
    """Paint a car as drones see it, in any direction."""
    canvas = _Canvas(100, 100, generator)
    canvas.turn(generator.uniform(0, np.pi))
    paint = _cloth(generator)
    hot = generator.uniform(0.45, 0.95)
    half = generator.uniform(13, 18)
    long = generator.uniform(32, 44)
    rear = generator.uniform(0.45, 0.9)
    canvas.paint(canvas.box(50 - long, 50 - half, 50 + long, 50 + half, 7), paint, 0.5, rough=0.05)
    canvas.paint(
        canvas.box(50 + long * 0.45, 52 - half, 48 + long, 48 + half, 4),
        paint * 0.97,
        hot,
        rough=0.04,
    )
    glass = np.array([0.12, 0.15, 0.2])
    canvas.paint(
        canvas.box(50 - long * rear, 53 - half, 50 + long * 0.42, 47 + half, 4), glass, 0.22
    )
    canvas.paint(
        canvas.box(53 - long * rear, 53 - half, 50 + long * 0.2, 47 + half, 3),
        paint * 1.02,
        0.45,
        rough=0.05,
    )
    return canvas.layers


def _dog(generator: np.random.Generator, swing: float) -> NDArray[np.float32]:
    canvas = _Canvas(96, 72, generator)
    fur = np.array([0.6, 0.45, 0.3]) * generator.uniform(0.15, 1.5)
    fur = fur + generator.uniform(-0.1, 0.1, 3)
    stride = 7 * swing
    for x, step in ((28, stride), (34, -stride), (62, -stride), (68, stride)):
        canvas.paint(canvas.limb(x, 42, x + step, 64, 3.2), fur * 0.85, 0.7)
    canvas.paint(canvas.ellipse(47, 36, 27, 11), fur, 0.78, rough=0.3)
    canvas.paint(canvas.limb(20, 32, 8, 18, 2.6), fur, 0.6)
    canvas.paint(canvas.limb(68, 32, 76, 20, 6), fur, 0.85)
    canvas.paint(canvas.ellipse(79, 18, 9, 7.5), fur, 0.95)
    canvas.paint(canvas.ellipse(88, 20, 4.5, 3.4), fur * 0.6, 1.0)
    canvas.paint(canvas.ellipse(75, 11, 3, 5), fur * 0.6, 0.8)
    return canvas.layers


def _shape(generator: np.random.Generator, _: float) -> NDArray[np.float32]:
    """Paint a blob that looks like nothing: trackers must follow anything."""
    canvas = _Canvas(80, 80, generator)
    angle = np.arctan2(canvas.y - 40, canvas.x - 40)
    outline = generator.uniform(22, 30) * np.ones_like(angle)
    for wave in range(2, 6):
        reach = generator.uniform(-14, 14) / wave
        phase = generator.uniform(0, 2 * np.pi)
        outline += reach * np.cos(wave * angle + phase)
    squeeze = generator.uniform(0.6, 1.0)
    inside = np.hypot((canvas.x - 40) / squeeze, canvas.y - 40) - np.clip(outline, 8, 38)
    hot = generator.uniform(0.15, 1.0)
    canvas.paint(inside, _cloth(generator), hot, rough=0.5)
    for _ in range(generator.integers(1, 4)):
        x, y = generator.uniform(25, 55, 2)
        spot = np.maximum(canvas.ellipse(x, y, *generator.uniform(4, 14, 2)), inside)
        colour = _cloth(generator)
        heat = np.clip(hot + generator.uniform(-0.5, 0.5), 0.1, 1)
        canvas.paint(spot, colour, float(heat))
    across = canvas.x + canvas.y * generator.uniform(-1, 1)
    stripes = np.maximum(inside, 2.5 - np.abs(across % 16 - 8))
    if generator.random() < 0.4:
        canvas.paint(stripes, _cloth(generator), hot * 0.8)
    return canvas.layers


def _pole(generator: np.random.Generator) -> NDArray[np.float32]:
    canvas = _Canvas(24, 160, generator)
    width = generator.uniform(2.5, 7)
    canvas.paint(
        canvas.box(12 - width, 4, 12 + width, 158, 2),
        _cloth(generator),
        generator.uniform(0.25, 0.5),
    )
    return canvas.layers


def _trunk(generator: np.random.Generator) -> NDArray[np.float32]:
    canvas = _Canvas(96, 160, generator)
    bark = np.array([0.32, 0.24, 0.17]) * generator.uniform(0.5, 1.4)
    leaf = np.array([0.2, 0.38, 0.13])
    width = generator.uniform(5, 11)
    canvas.paint(
        canvas.limb(48, 30, 48 + generator.uniform(-6, 6), 158, width), bark, 0.4, rough=0.5
    )
    for _ in range(9):
        x = 48 + generator.normal(0, 18)
        y = generator.uniform(12, 55)
        away = canvas.ellipse(x, y, *generator.uniform(9, 20, 2)) + 14 * (canvas.fine - 0.5)
        canvas.paint(
            away, leaf * generator.uniform(0.6, 1.3), generator.uniform(0.28, 0.4), rough=0.6
        )
    return canvas.layers


def _bush(generator: np.random.Generator) -> NDArray[np.float32]:
    canvas = _Canvas(140, 90, generator)
    leaf = np.array([0.24, 0.38, 0.14]) * generator.uniform(0.6, 1.3)
    for _ in range(14):
        x = generator.uniform(28, 112)
        y = generator.uniform(40, 74)
        away = canvas.ellipse(x, y, *generator.uniform(10, 24, 2)) + 14 * (canvas.fine - 0.5)
        canvas.paint(
            away, leaf * generator.uniform(0.7, 1.3), generator.uniform(0.28, 0.42), rough=0.6
        )
    return canvas.layers


def _sign(generator: np.random.Generator) -> NDArray[np.float32]:
    canvas = _Canvas(72, 150, generator)
    canvas.paint(canvas.box(34, 30, 38, 148, 1), np.array([0.5, 0.5, 0.52]), 0.35)
    canvas.paint(canvas.box(8, 6, 64, generator.uniform(36, 62), 3), _cloth(generator), 0.3)
    canvas.paint(canvas.box(14, 14, 58, 24, 1), _cloth(generator), 0.4)
    return canvas.layers


def _wall(generator: np.random.Generator) -> NDArray[np.float32]:
    canvas = _Canvas(150, 90, generator)
    canvas.paint(
        canvas.box(4, generator.uniform(10, 40), 146, 88, 1),
        _cloth(generator),
        generator.uniform(0.3, 0.55),
    )
    return canvas.layers


_OCCLUDERS = (_pole, _trunk, _bush, _sign, _wall)

_PAINTERS = {
    "person": _person,
    "cyclist": _cyclist,
    "cyclist rear": _cyclist_rear,
    "car": _car,
    "car rear": _car_rear,
    "car above": _car_above,
    "dog": _dog,
    "shape": _shape,
}
