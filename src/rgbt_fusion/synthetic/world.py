"""A world of colour and heat with exact boxes, to train and test on without a download.

A place and a few actors are drawn from a seed. Every frame depends on the seed and its number only,
so frames can be rendered in any order and by any process. See :class:`SyntheticSequence`.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.frames.types import FramePair, GroundTruth
from rgbt_fusion.synthetic.artefacts import compressed, smeared, through_thermal_sensor
from rgbt_fusion.synthetic.objects import Sprite, occluder, sprite
from rgbt_fusion.synthetic.places import HEIGHT, WIDTH, background, mean_heat, noise_tile
from rgbt_fusion.synthetic.plan import (
    CHALLENGES,
    Actor,
    Challenge,
    Obstacle,
    Parked,
    Plan,
    draw_plan,
)
from rgbt_fusion.synthetic.wide import draw_wide_plan

__all__ = ["SyntheticSequence"]

Axis = NDArray[np.floating]


class _Placed(NamedTuple):
    """A sprite at one moment: which picture of it, where, and how large."""

    picture: Sprite
    phase: int
    x: float
    """Middle of the picture, in pixels from the left of the frame."""
    y: float
    """Its lowest opaque point, in pixels from the top of the frame."""
    scale: float
    """Pixels of the frame per pixel of the picture."""
    mirrored: bool
    opacity_tir: float = 1.0
    stretch: float = 1.0
    """How much wider it is than its sprite, at the same height."""
    warmth: float = 1.0
    """What its heat is multiplied by."""


class SyntheticSequence:
    """A sequence of a synthetic world, used like a sequence of images on disk.

    An object moves through a textured place that looks different in the two modalities. Others of
    its kind move with it, and it passes behind poles, bushes and walls. The camera pans, shakes and
    zooms. The challenge adds what makes one modality fail.

    With ``wide``, objects are of any size and shape, from 3 % to 90 % of the frame, more of them
    look alike, walk beside the target or cross its way, others stand still and may be hotter, and
    cameras have artefacts: compression, smear, a fixed pattern, dead columns, steps of the gain.

    Choices: a box holds the whole object, hidden parts included, to a fraction of a pixel.

    Args:
        seed: what the sequence is drawn from.
        frames: its length.
        size: width and height of the frames.
        challenge: one of ``CHALLENGES``: ``"none"``; ``"night"`` (little light, noise);
            ``"glare"``; ``"thermal_crossover"`` (the object is as warm as the place);
            ``"misalignment"`` (the cameras look at different places); ``"missing"`` (frames of one
            modality are None); ``"mixed"`` (some of them).
        held_out: draw places and objects that no sequence with ``held_out=False`` shows.
        wide: draw from the wide world; without it a seed shows what it has always shown.

    Shape:
        - ``sequence[k]`` is ``(H, W, 3)`` and ``(H, W)``, uint8

    Raises:
        ValueError: ``challenge`` is unknown, or ``frames`` or ``size`` is below 1.

    Example:
        >>> from rgbt_fusion.synthetic.world import SyntheticSequence
        >>> sequence = SyntheticSequence(7, frames=60, challenge="night")
        >>> rgb, tir = sequence[59]
        >>> rgb.shape, tir.shape, sequence.truth.rgb.shape
        ((240, 320, 3), (240, 320), (60, 4))
    """

    kind = "thermal"

    def __init__(
        self,
        seed: int,
        *,
        frames: int = 120,
        size: tuple[int, int] = (320, 240),
        challenge: Challenge = "mixed",
        held_out: bool = False,
        wide: bool = False,
    ) -> None:
        check_choice(challenge, CHALLENGES, name="challenge")
        self.seed = int(seed)
        self.challenge = challenge
        self.frames = check_positive_int(frames, name="frames")
        self.size = (
            check_positive_int(size[0], name="width"),
            check_positive_int(size[1], name="height"),
        )
        self.wide = wide
        world = "synthetic_wide" if wide else "synthetic"
        self.name = f"{world}_{challenge}_{self.seed}"
        draw = draw_wide_plan if wide else draw_plan
        self.plan: Plan = draw(self.seed, frames, self.size, challenge, held_out=held_out)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[FramePair]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> FramePair:
        """Render one frame.

        Raises:
            IndexError: ``index`` is beyond the end.
        """
        if not -self.frames <= index < self.frames:
            raise IndexError(f"index must be below {self.frames}, got {index}")
        width, height = self.size
        return self._frame(index % self.frames, np.arange(width) + 0.5, np.arange(height) + 0.5)

    def window(self, index: int, left: int, top: int, side: int, pixels: int) -> FramePair:
        """Render a square of a frame, resized.

        This is what a crop of ``sequence[index]`` shows, several times faster. Outside the frame it
        is black.

        Args:
            index: the frame.
            left: left edge of the square in the frame.
            top: upper edge of the square in the frame.
            side: side of the square in the frame.
            pixels: side of the result.
        """
        steps = (np.arange(pixels) + 0.5) * (side / pixels)
        x = left + steps
        y = top + steps
        frame = self._frame(index, x, y)
        width, height = self.size
        outside_rows = (y < 0) | (y >= height)
        outside_columns = (x < 0) | (x >= width)
        outside = outside_rows[:, None] | outside_columns[None]
        for plane in frame:
            if plane is not None and outside.any():
                plane[outside] = 0
        return frame

    @cached_property
    def truth(self) -> GroundTruth:
        """The exact boxes in both modalities."""
        frames = np.arange(self.frames)
        placed = [self._place(self.plan.target, k) for k in range(self.frames)]
        boxes = np.array([self._box(one) for one in placed])
        if self.plan.aligned:
            return GroundTruth(boxes, boxes, frames)
        boxes_tir = np.array([self._box_tir(box, k) for k, box in enumerate(boxes)])
        return GroundTruth(boxes, boxes_tir, frames)

    def boxes(self, index: int) -> NDArray[np.float64]:
        """Return the boxes of all objects in a colour frame, for detection.

        Occluders are no objects. A box may reach beyond the frame, and an object may be hidden.

        Args:
            index: the frame.

        Shape:
            - returns ``(M, 4)``, xywh in pixels; the first is the target of ``truth``

        Example:
            >>> from rgbt_fusion.synthetic.world import SyntheticSequence
            >>> SyntheticSequence(5, frames=40).boxes(20).shape
            (4, 4)
        """
        actors = (self.plan.target, *self.plan.distractors)
        return np.array([self._box(self._place(actor, index)) for actor in actors])

    def _box(self, placed: _Placed) -> tuple[float, float, float, float]:
        left, top, right, bottom = placed.picture.extents[placed.phase]
        middle = placed.picture.layers.shape[3] / 2
        foot = placed.picture.extents[0, 3]
        if placed.mirrored:
            left, right = 2 * middle - right, 2 * middle - left
        scale_x = placed.scale * placed.stretch
        x = placed.x + (left - middle) * scale_x
        y = placed.y + (top - foot) * placed.scale
        return x, y, (right - left) * scale_x, (bottom - top) * placed.scale

    def _box_tir(self, box: NDArray[np.float64], index: int) -> NDArray[np.float64]:
        shift, zoom = self.plan.tir_view(index)
        centre = np.array(self.size) / 2
        corner = (box[:2] - centre - shift) / zoom + centre
        return np.concatenate((corner, box[2:] / zoom))

    def _place(self, actor: Actor, index: int) -> _Placed:
        picture = sprite(actor.number)
        height = actor.height.at(index)
        step = actor.x.at(index + 1) - actor.x.at(index - 1)
        phase = int(actor.pace * index) % len(picture.layers)
        scale = height / picture.height
        return _Placed(
            picture,
            phase,
            actor.x.at(index),
            actor.y.at(index) + height / 2,
            scale,
            step < 0,
            stretch=actor.stretch,
        )

    def _stand(self, thing: Parked | Obstacle, picture: Sprite, index: int) -> _Placed:
        """Return where a thing is that stands in the place."""
        view = self.plan.view
        scale = thing.height / picture.height / view.zoom.at(index)
        x, y = view.to_frame(thing.world, index)
        return _Placed(picture, 0, x, y, scale, mirrored=False)

    def _sprites(self, index: int) -> list[_Placed]:
        """Return all sprites from back to front: a lower one is nearer, occluders are nearest."""
        plan = self.plan
        placed: list[_Placed] = []
        for one in plan.parked:
            standing = self._stand(one, sprite(one.number), index)
            placed.append(standing._replace(warmth=one.warmth))
        contrast = plan.contrast(index)
        moving: list[_Placed] = []
        for actor in (plan.target, *plan.distractors):
            moving.append(self._place(actor, index)._replace(opacity_tir=contrast))
        placed += sorted(moving, key=lambda one: one.y)
        placed += [self._stand(thing, occluder(thing.number), index) for thing in plan.occluders]
        return placed

    def _frame(self, index: int, x: Axis, y: Axis) -> FramePair:
        plan = self.plan
        sprites = self._sprites(index)
        generator = np.random.default_rng((self.seed & 0xFFFFFFFF, index))
        planes = self._scene(index, sprites, x, y)
        rgb = None
        if not plan.is_missing("rgb", index):
            rgb = self._expose(planes[:3], index, x, y, generator)
        if not plan.aligned:
            (shift_x, shift_y), zoom = plan.tir_view(index)
            middle_x, middle_y = self.size[0] / 2, self.size[1] / 2
            x_there = (x - middle_x) * zoom + middle_x + shift_x
            y_there = (y - middle_y) * zoom + middle_y + shift_y
            planes = self._scene(index, sprites, x_there, y_there)
        tir = None
        if not plan.is_missing("tir", index):
            tir = self._sense(planes[3:], index, x, y, generator)
        return FramePair(rgb, tir)

    def _scene(self, index: int, sprites: list[_Placed], x: Axis, y: Axis) -> Tensor:
        """Return the place with all sprites: red, green, blue, heat, ``(4, H, W)`` in 0 to 255."""
        view = self.plan.view
        zoom = view.zoom.at(index)
        u = (x - self.size[0] / 2) * zoom + view.x.at(index) + WIDTH / 2
        v = (y - self.size[1] / 2) * zoom + view.y.at(index) + HEIGHT / 2
        if self.plan.mirrored:
            u = WIDTH - u
        # only the part in view is turned into numbers that can be interpolated
        left, right = _in_view(u, WIDTH)
        top, bottom = _in_view(v, HEIGHT)
        part = background(self.plan.place)[:, top:bottom, left:right]
        planes = _sampled(part[None].float(), u - left, v - top, padding="reflection")
        extent = float(abs(x[-1] - x[0]))
        density = len(x) / max(extent, 1e-6)
        for placed in sprites:
            _draw(planes, placed, x, y, density, smooth=self.wide)
        return planes

    def _expose(
        self, planes: Tensor, index: int, x: Axis, y: Axis, generator: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Return the colour image: light, glare, sensor noise."""
        plan = self.plan
        light = plan.light(index)
        if plan.saturation < 1:
            grey = planes.mean(dim=0, keepdim=True)
            planes = grey + (planes - grey) * plan.saturation
        if plan.haze:
            planes = planes + (150 - planes) * plan.haze
        planes = _soft(planes, plan.soft_rgb, x)
        tint = torch.tensor(plan.tint, dtype=torch.float32).view(3, 1, 1)
        rgb = planes * (tint * light)
        if light < 0.6:
            for lamp in plan.lamps:
                lamp_x, lamp_y = plan.view.to_frame(lamp.world, index)
                pool = _spot(x, y, lamp_x, lamp_y, lamp.radius)
                colour = torch.tensor(lamp.colour).view(3, 1, 1)
                rgb += planes * (pool * lamp.strength * colour)
        glare = plan.glare(index)
        if glare is not None:
            cx, cy, radius, strength = glare
            bloom = (
                _spot(x, y, cx, cy, radius)
                + 0.6 * _spot(x, y, cx, cy, radius * 3)
                + 0.8 * _streak(x, y, cx, cy, radius)
            )
            rgb += bloom * strength * torch.tensor((255.0, 245.0, 220.0)).view(3, 1, 1)
        # amplifying little light amplifies its noise
        sigma = plan.noise_rgb * (1 + 1.5 * (1 - min(light, 1)))
        noise = _noise(generator, 3, len(y), len(x)) * sigma
        if plan.artefacts is not None:
            rgb = smeared(rgb, plan.artefacts.smear(index), x)
        rgb = rgb + noise
        if plan.artefacts is not None:
            rgb = compressed(rgb, plan.artefacts.loss_rgb, x, y)
        return _finished(rgb)

    def _sense(
        self, heat: Tensor, index: int, x: Axis, y: Axis, generator: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Return the thermal image, softer than the colours, with stripes and a vignette."""
        plan = self.plan
        above_the_level = _soft(heat, plan.soft_tir, x) - mean_heat(plan.place) - plan.level_tir
        heat = above_the_level * plan.gain_tir + 128
        if plan.black_hot:
            heat = 255 - heat
        columns = np.clip(x, 0, self.size[0] - 1).astype(int)
        stripes = torch.from_numpy(plan.stripes[columns]).float()
        width, height = self.size
        off_x = torch.from_numpy((x / width - 0.5) ** 2).float()
        off_y = torch.from_numpy((y / height - 0.5) ** 2).float()
        vignette = 18 * (off_x[None] + off_y[:, None])
        noise = _noise(generator, 1, len(y), len(x)) * plan.noise_tir
        heat = heat + stripes - vignette
        if plan.artefacts is not None:
            heat = smeared(heat, plan.artefacts.smear(index), x)
        heat = heat + noise
        if plan.artefacts is not None:
            heat = through_thermal_sensor(heat, plan.artefacts, index, x, y)
            heat = compressed(heat, plan.artefacts.loss_tir, x, y)
        return _finished(heat)[:, :, 0]


def _in_view(places: Axis, length: int) -> tuple[int, int]:
    """Return the first pixel that sampling at ``places`` reads, and the one after the last."""
    start = int(np.clip(places.min() - 2, 0, length - 2))
    stop = int(np.clip(places.max() + 3, 2, length))
    return start, max(stop, start + 2)


def _sampled(image: Tensor, u: Axis, v: Axis, *, padding: str = "zeros") -> Tensor:
    """Return ``image`` ``(1, C, H, W)`` at columns ``u`` and rows ``v``, counted from its edges.

    The result is ``(C, len(v), len(u))``.
    """
    height, width = image.shape[2:]
    grid = torch.empty(1, len(v), len(u), 2)
    grid[..., 0] = torch.from_numpy(2 * u / width - 1).float()
    grid[..., 1] = torch.from_numpy(2 * v / height - 1).float()[:, None]
    return grid_sample(image, grid, mode="bilinear", padding_mode=padding, align_corners=False)[0]


def _draw(
    planes: Tensor, placed: _Placed, x: Axis, y: Axis, density: float, *, smooth: bool
) -> None:
    """Draw a sprite over the scene, in place; ``smooth`` draws tiny ones without flicker."""
    height, width = placed.picture.layers.shape[2:]
    sign = -1.0 if placed.mirrored else 1.0
    u = (x - placed.x) / (placed.scale * placed.stretch) * sign + width / 2
    v = (y - placed.y) / placed.scale + placed.picture.extents[0, 3]
    columns = np.flatnonzero((u > -1) & (u < width + 1))
    rows = np.flatnonzero((v > -1) & (v < height + 1))
    if not len(columns) or not len(rows):
        return
    part = planes[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if smooth and placed.scale * density < 0.25:
        layers = placed.picture.quarter
        u = u / 4
        v = v / 4
    elif placed.scale * density < 0.6:
        layers = placed.picture.half
        u = u / 2
        v = v / 2
    else:
        layers = placed.picture.layers
    drawn = _sampled(layers[placed.phase : placed.phase + 1].float(), u[columns], v[rows])
    opacity = drawn[4] / 255
    # a sprite's colours are already multiplied by its opacity: no dark rim gives it away
    part[:3] += drawn[:3] - opacity * part[:3]
    part[3] += placed.opacity_tir * (placed.warmth * drawn[3] - opacity * part[3])


def _soft(image: Tensor, pixels: int, x: Axis) -> Tensor:
    """Return ``image`` as a sensor with coarser pixels shows it.

    They are ``pixels`` of the frame wide; ``x`` are the columns of the image in the frame.
    """
    width = 1
    if len(x) > 1:
        extent = max(float(x[-1] - x[0]), 1e-6)
        width = round(pixels * (len(x) - 1) / extent)
    if width < 2 or min(image.shape[1:]) < 2 * width:
        return image
    soft = avg_pool2d(image[None], width, ceil_mode=True, count_include_pad=False)
    return interpolate(soft, image.shape[1:], mode="bilinear", align_corners=False)[0]


def _spot(x: Axis, y: Axis, cx: float, cy: float, radius: float) -> Tensor:
    across = np.exp(-(((x - cx) / radius) ** 2))
    down = np.exp(-(((y - cy) / radius) ** 2))
    return torch.from_numpy(down[:, None] * across[None]).float()


def _streak(x: Axis, y: Axis, cx: float, cy: float, radius: float) -> Tensor:
    across = np.exp(-np.abs(x - cx) / (4 * radius))
    down = np.exp(-(((y - cy) / (0.12 * radius)) ** 2))
    return torch.from_numpy(down[:, None] * across[None]).float()


def _noise(generator: np.random.Generator, channels: int, height: int, width: int) -> Tensor:
    """Return white noise ``(C, H, W)``: for each channel, another part of one tile."""
    tile = noise_tile()
    if height > len(tile) or width > len(tile):
        tile = tile.repeat(height // len(tile) + 1, width // len(tile) + 1)
    top = generator.integers(0, tile.shape[0] - height + 1, channels)
    left = generator.integers(0, tile.shape[1] - width + 1, channels)
    parts = [tile[a : a + height, b : b + width] for a, b in zip(top, left, strict=True)]
    return torch.stack(parts)


def _finished(image: Tensor) -> NDArray[np.uint8]:
    return image.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
