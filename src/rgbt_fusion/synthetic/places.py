"""Places of the synthetic world: streets, fields, yards and halls, in colour and in heat.

A background is painted once from a number and kept. Every surface has its own colour and its own
temperature. So both modalities have their edges at the same places, but not their contrasts.
"""

from copy import copy
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["HEIGHT", "WIDTH", "background", "mean_heat", "noise_tile", "smooth_noise"]

WIDTH = 640
"""Width of a place in pixels."""

HEIGHT = 448
"""Height of a place in pixels."""

Plane = NDArray[np.floating]


def smooth_noise(
    generator: np.random.Generator, height: int, width: int, *, cells: float, octaves: int = 3
) -> Plane:
    """Return noise in [0, 1] whose coarsest spots are ``cells`` pixels wide."""
    total = torch.zeros(1, 1, height, width)
    for octave in range(octaves):
        spot = max(cells / 2**octave, 1.0)
        grid = generator.random((int(height / spot) + 2, int(width / spot) + 2), dtype=np.float32)
        coarse = torch.from_numpy(grid)[None, None]
        # the edges of linear interpolation show in large spots only
        mode = "bicubic" if spot > 12 else "bilinear"
        spots = interpolate(coarse, (height, width), mode=mode, align_corners=False)
        total += spots * 0.5**octave
    low = total.min()
    high = total.max()
    return ((total - low) / (high - low).clamp(min=1e-6))[0, 0].numpy()


@lru_cache(maxsize=1)
def noise_tile() -> Tensor:
    """Return ``(768, 768)`` of white noise.

    Every frame takes a part of it at another place, which is cheaper than drawing noise.
    """
    generator = np.random.default_rng(0x7153)
    return torch.from_numpy(generator.standard_normal((768, 768), dtype=np.float32))


@lru_cache(maxsize=128)
def background(number: int) -> Tensor:
    """Paint background ``number``, or return it if it has been painted.

    Shape:
        ``(4, HEIGHT, WIDTH)`` uint8: red, green, blue, heat.

    Raises:
        ValueError: ``number`` is negative.
    """
    if number < 0:
        raise ValueError(f"number must be at least 0, got {number}")
    generator = np.random.default_rng((0xBAC6, number))
    place = _Place(generator)
    _SCENES[number % len(_SCENES)](place, generator)
    planes = place.layers + (place.grain - 0.5) * 0.05
    return torch.from_numpy((np.clip(planes, 0, 1) * 255).astype(np.uint8))


@lru_cache(maxsize=1024)
def mean_heat(number: int) -> float:
    """Return the mean heat of background ``number``, in 0 to 255.

    A thermal camera sets its exposure by it.
    """
    return float(background(number)[3].float().mean())


class _Place:
    """A background in the making."""

    def __init__(self, generator: np.random.Generator) -> None:
        y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
        self.x = x
        self.y = y
        self.layers = np.zeros((4, HEIGHT, WIDTH), dtype=np.float32)
        self.coarse = smooth_noise(generator, HEIGHT, WIDTH, cells=120, octaves=4)
        self.medium = smooth_noise(generator, HEIGHT, WIDTH, cells=36, octaves=4)
        self.fine = smooth_noise(generator, HEIGHT, WIDTH, cells=7, octaves=3)
        self.grain = generator.random((HEIGHT, WIDTH), dtype=np.float32)
        self.relief = generator.choice((0.0, 0.25, 0.5))

    def fill(
        self,
        where: NDArray[np.bool_] | Plane,
        colour: NDArray[np.floating],
        heat: float | Plane,
        *,
        rough: float = 0.3,
    ) -> None:
        """Fill a mask, or an opacity, with a surface; ``rough`` is how much its texture varies."""
        opacity = np.asarray(where, dtype=np.float32)
        rows = np.flatnonzero(opacity.any(axis=1))
        if not len(rows):
            return
        part = slice(rows[0], rows[-1] + 1)
        opacity = opacity[part]
        coarse = self.coarse[part]
        medium = self.medium[part]
        fine = self.fine[part]
        shade = 1 + rough * (0.8 * fine + 0.8 * medium + 0.4 * coarse - 1)
        if isinstance(heat, np.ndarray):
            heat = heat[part]
        # heat varies more slowly than paint where stone conducts it; leaves and gravel keep theirs
        warmth = heat + 0.12 * (coarse + medium - 1) + self.relief * rough * (fine - 0.5)
        values = [channel * shade for channel in colour]
        values.append(warmth)
        for plane, value in zip(self.layers[:, part], values, strict=True):
            plane += opacity * (value - plane)

    def within(self, x0: float, y0: float, x1: float, y1: float) -> "_Place":
        """Return a part of the place, in which small things are painted faster.

        It shares its layers: what is painted there is painted in the place.
        """
        columns = slice(max(int(x0), 0), max(int(x1) + 1, 0))
        rows = slice(max(int(y0), 0), max(int(y1) + 1, 0))
        part = copy(self)
        for name in ("x", "y", "coarse", "medium", "fine", "grain"):
            setattr(part, name, getattr(self, name)[rows, columns])
        part.layers = self.layers[:, rows, columns]
        return part

    def box(self, x0: float, y0: float, x1: float, y1: float) -> NDArray[np.bool_]:
        """Return the mask of a rectangle."""
        return (self.x >= x0) & (self.x < x1) & (self.y >= y0) & (self.y < y1)


def _colour(
    generator: np.random.Generator, base: tuple[float, float, float], spread: float = 0.12
) -> Plane:
    colour = np.array(base) * generator.uniform(0.6, 1.3)
    colour = colour + generator.uniform(-spread, spread, 3)
    return np.clip(colour, 0.02, 1)


def _sky(place: _Place, generator: np.random.Generator, horizon: float) -> None:
    blue = _colour(generator, (0.45, 0.6, 0.85))
    pale = _colour(generator, (0.85, 0.88, 0.9), 0.05)
    depth = np.clip(place.y / max(horizon, 1), 0, 1)
    cloud = np.clip(place.coarse * 2 - 0.9, 0, 1)
    above = place.y < horizon
    place.fill(above, blue, 0.08 + 0.15 * depth, rough=0.02)
    haze = above * np.clip(depth * 0.7 + cloud * 0.8, 0, 1)
    place.fill(haze, pale, 0.12 + 0.12 * depth + 0.08 * cloud, rough=0.03)


def _tree(
    place: _Place, generator: np.random.Generator, x: float, foot: float, size: float
) -> None:
    place.fill(
        place.box(x - size * 0.04, foot - size * 0.6, x + size * 0.04, foot),
        _colour(generator, (0.3, 0.22, 0.15)),
        0.36,
    )
    green = _colour(generator, (0.2, 0.36, 0.12))
    for _ in range(6):
        cx = x + generator.normal(0, size * 0.18)
        cy = foot - size * generator.uniform(0.55, 0.95)
        radius = size * generator.uniform(0.16, 0.28)
        part = place.within(
            cx - 1.5 * radius, cy - 1.5 * radius, cx + 1.5 * radius, cy + 1.5 * radius
        )
        away = np.hypot(part.x - cx, part.y - cy) / radius + 0.7 * (part.fine - 0.5)
        part.fill(
            away < 1, green * generator.uniform(0.7, 1.2), generator.uniform(0.28, 0.42), rough=0.7
        )


def _house(
    place: _Place, generator: np.random.Generator, x0: float, x1: float, top: float, foot: float
) -> None:
    place = place.within(x0, top, x1, foot)
    wall = _colour(generator, (0.55, 0.5, 0.45), 0.15)
    warm = generator.uniform(0.35, 0.55)
    front = place.box(x0, top, x1, foot)
    place.fill(front, wall, warm, rough=0.25)
    step_x = generator.uniform(18, 34)
    step_y = generator.uniform(22, 40)
    inside_x = (place.x - x0 - 8) % step_x
    inside_y = (place.y - top - 10) % step_y
    pane = (
        front
        & (inside_x < step_x * 0.5)
        & (inside_y < step_y * 0.55)
        & (place.y < foot - 14)
        & (place.x < x1 - 8)
    )
    column = np.floor((place.x - x0) / step_x)
    row = np.floor((place.y - top) / step_y)
    cell = column * 7 + row * 13
    # the fraction of a large number: as good as random, and one for all pixels of a window
    lit = (np.sin(cell * 12.9898) * 43758.5453) % 1
    place.fill(
        pane,
        _colour(generator, (0.2, 0.25, 0.32)),
        warm + 0.3 * (lit > 0.75) - 0.15 * (lit < 0.5),
        rough=0.15,
    )
    place.fill(pane & (lit > 0.8), _colour(generator, (0.8, 0.7, 0.5)), warm + 0.2, rough=0.1)


def _street(place: _Place, generator: np.random.Generator) -> None:
    horizon = generator.uniform(110, 200)
    _sky(place, generator, horizon)
    x = -30.0
    while x < WIDTH:
        width = generator.uniform(50, 150)
        _house(place, generator, x, x + width, horizon - generator.uniform(30, 180), horizon + 8)
        x += width + generator.choice((0, 20))
    depth = (place.y - horizon) / (HEIGHT - horizon)
    ground = depth >= 0
    place.fill(ground, _colour(generator, (0.5, 0.48, 0.45)), 0.45, rough=0.3)
    vanish = generator.uniform(0.3, 0.7) * WIDTH
    lean = generator.uniform(-0.6, 0.6) * WIDTH
    middle = vanish + lean * depth
    half = 15 + generator.uniform(0.35, 0.6) * WIDTH * np.clip(depth, 0, 1)
    off_the_middle = np.abs(place.x - middle)
    road = ground & (off_the_middle < half)
    place.fill(
        road, _colour(generator, (0.28, 0.28, 0.3), 0.05), generator.uniform(0.5, 0.68), rough=0.25
    )
    is_in_a_dash = (1 / (depth + 0.08) * 3) % 2 < 1
    dash = road & (off_the_middle < 1 + 6 * depth) & is_in_a_dash
    place.fill(dash, np.array([0.9, 0.9, 0.85]), 0.5, rough=0.1)
    kerb = ground & (np.abs(off_the_middle - half) < 1 + 4 * depth)
    place.fill(kerb, np.array([0.7, 0.7, 0.68]), 0.42, rough=0.15)
    for _ in range(generator.integers(0, 5)):
        _tree(
            place,
            generator,
            generator.uniform(0, WIDTH),
            horizon + generator.uniform(5, 60),
            generator.uniform(70, 200),
        )


def _field(place: _Place, generator: np.random.Generator) -> None:
    horizon = generator.uniform(60, 190)
    _sky(place, generator, horizon)
    hills = horizon - 40 * place.coarse[HEIGHT // 2] - 5
    place.fill(
        (place.y > hills[None]) & (place.y < horizon + 4),
        _colour(generator, (0.3, 0.36, 0.3)),
        0.25,
        rough=0.5,
    )
    grass = place.y >= horizon
    place.fill(
        grass, _colour(generator, (0.34, 0.42, 0.18)), generator.uniform(0.3, 0.45), rough=0.8
    )
    patches = grass * np.clip(place.medium * 3 - 1.6, 0, 1)
    place.fill(
        patches, _colour(generator, (0.55, 0.48, 0.3)), generator.uniform(0.4, 0.6), rough=0.6
    )
    depth = np.clip((place.y - horizon) / (HEIGHT - horizon), 0, 1)
    start = generator.uniform(0.2, 0.8) * WIDTH
    bends = depth * generator.uniform(1, 4) + generator.uniform(0, 6)
    path = start + 120 * np.sin(bends)
    trail = grass & (np.abs(place.x - path) < 3 + 55 * depth)
    place.fill(
        trail, _colour(generator, (0.6, 0.52, 0.4)), generator.uniform(0.45, 0.65), rough=0.4
    )
    for foot in np.sort(generator.uniform(horizon, horizon + 120, generator.integers(2, 11))):
        _tree(
            place,
            generator,
            generator.uniform(0, WIDTH),
            foot + 6,
            (foot - horizon + 60) * generator.uniform(0.7, 1.4),
        )


def _yard(place: _Place, generator: np.random.Generator) -> None:
    """Paint a paved yard with parked cars and lines, from above, as drones see it."""
    place.fill(
        np.ones_like(place.x),
        _colour(generator, (0.42, 0.42, 0.42), 0.06),
        generator.uniform(0.4, 0.6),
        rough=0.35,
    )
    angle = generator.uniform(-0.4, 0.4)
    u = place.x * np.cos(angle) + place.y * np.sin(angle)
    v = place.y * np.cos(angle) - place.x * np.sin(angle)
    slot = generator.uniform(34, 56)
    row = generator.uniform(110, 170)
    lines = (np.abs(u % slot - slot / 2) < 1.4) & (v % row < row * 0.45)
    place.fill(lines, np.array([0.88, 0.88, 0.84]), 0.48, rough=0.1)
    grass = place.coarse > 0.72
    place.fill(grass, _colour(generator, (0.3, 0.42, 0.18)), 0.32, rough=0.7)
    for _ in range(generator.integers(4, 16)):
        a = np.floor(generator.uniform(0, WIDTH) / slot) * slot
        b = np.floor(generator.uniform(-80, HEIGHT) / row) * row
        aside = np.abs(u - a)
        along = np.abs(v - b - row * 0.22)
        body = (aside < slot * 0.36) & (along < row * 0.2)
        place.fill(
            body,
            generator.random(3) * generator.choice((0.3, 0.9)),
            generator.uniform(0.3, 0.6),
            rough=0.1,
        )
        glass = (aside < slot * 0.28) & (along < row * 0.08)
        place.fill(glass, np.array([0.12, 0.15, 0.2]), 0.25, rough=0.1)


def _hall(place: _Place, generator: np.random.Generator) -> None:
    floor = generator.uniform(200, 300)
    wall = _colour(generator, (0.75, 0.72, 0.65), 0.15)
    warm = generator.uniform(0.4, 0.55)
    place.fill(place.y < floor, wall, warm, rough=0.15)
    if generator.random() < 0.5:  # bricks or panels
        high = generator.uniform(10, 30)
        long = generator.uniform(24, 80)
        shift = (np.floor(place.y / high) % 2) * long / 2
        lying_joint = place.y % high < 1.5
        standing_joint = (place.x + shift) % long < 1.5
        joint = (place.y < floor) & (lying_joint | standing_joint)
        place.fill(joint, wall * 0.6, warm - 0.06, rough=0.1)
    for _ in range(generator.integers(2, 7)):  # posters, doors, radiators
        x = generator.uniform(0, WIDTH)
        y = generator.uniform(10, floor - 40)
        w = generator.uniform(20, 110)
        h = generator.uniform(25, 130)
        heat = float(np.clip(warm + generator.uniform(-0.25, 0.4), 0.1, 0.95))
        part = place.within(x, y, x + w, min(y + h, floor))
        part.fill(np.ones_like(part.x), generator.random(3), heat, rough=0.4)
    place.fill(
        place.y >= floor,
        _colour(generator, (0.45, 0.38, 0.32), 0.12),
        generator.uniform(0.35, 0.5),
        rough=0.3,
    )
    depth = np.clip((place.y - floor) / (HEIGHT - floor), 0, 1)
    board = ((place.x - WIDTH / 2) / (0.3 + depth)) % generator.uniform(30, 70) < 2
    place.fill((place.y >= floor) & board, _colour(generator, (0.2, 0.17, 0.15)), 0.38, rough=0.1)


def _clutter(place: _Place, generator: np.random.Generator) -> None:
    """Paint patches without meaning, which trackers must not take for an object."""
    place.fill(np.ones_like(place.x), generator.random(3), generator.uniform(0.3, 0.6), rough=0.6)
    for _ in range(generator.integers(15, 45)):
        x = generator.uniform(0, WIDTH)
        y = generator.uniform(0, HEIGHT)
        radius = generator.uniform(8, 70)
        part = place.within(x - 2.6 * radius, y - 1.3 * radius, x + 2.6 * radius, y + 1.3 * radius)
        away = np.hypot((part.x - x) * generator.uniform(0.5, 2), part.y - y) / radius
        away = away + (part.medium - 0.5)
        part.fill(away < 0.8, generator.random(3), generator.uniform(0.1, 0.85), rough=0.5)


_SCENES = (_street, _field, _street, _yard, _hall, _field, _street, _clutter)
