"""What happens in a synthetic sequence: drawn once from its seed, evaluated at any frame.

Every motion is a sum of sine waves, so a moment is computed without those before it.
"""

from dataclasses import dataclass
from math import pi, sin
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.synthetic.artefacts import Artefacts
from rgbt_fusion.synthetic.objects import KINDS, occluder

__all__ = [
    "CHALLENGES",
    "Actor",
    "Challenge",
    "Lamp",
    "Obstacle",
    "Parked",
    "Plan",
    "View",
    "Wave",
    "draw_number",
    "draw_obstacles",
    "draw_plan",
    "draw_wave",
]

Challenge: TypeAlias = Literal[
    "none", "night", "glare", "thermal_crossover", "misalignment", "missing", "mixed"
]
"""What happens in a sequence; see :class:`~rgbt_fusion.synthetic.world.SyntheticSequence`."""

CHALLENGES: tuple[Challenge, ...] = get_args(Challenge)
"""What may happen in a sequence."""

_PLACES = 96
_SPRITES = 320
_OBSTACLES = 40

_MIXED = {
    "night": 0.35,
    "glare": 0.2,
    "thermal_crossover": 0.25,
    "misalignment": 0.25,
    "missing": 0.15,
}
"""How often a mixed sequence has each challenge."""


class Wave(NamedTuple):
    """A smooth motion: a mean and a few sine waves."""

    mean: float
    parts: tuple[tuple[float, float, float], ...]
    """Amplitude, radians per frame, and phase of each wave."""

    def at(self, index: float) -> float:
        """Return the value at a frame."""
        away = 0
        for amplitude, turn, phase in self.parts:
            away += amplitude * sin(turn * index + phase)
        return self.mean + away

    def scaled(self, factor: float) -> "Wave":
        """Return this motion, ``factor`` times as large."""
        parts = [(amplitude * factor, turn, phase) for amplitude, turn, phase in self.parts]
        return Wave(self.mean * factor, tuple(parts))


class View(NamedTuple):
    """How the camera moves over the world, whose origin is the middle of the place."""

    size: tuple[int, int]
    x: Wave
    y: Wave
    zoom: Wave
    """Pixels of the place per pixel of the frame."""

    def to_frame(self, world: tuple[float, float], index: int) -> tuple[float, float]:
        """Return the place in the frame of a point of the world."""
        zoom = self.zoom.at(index)
        x = (world[0] - self.x.at(index)) / zoom
        y = (world[1] - self.y.at(index)) / zoom
        return x + self.size[0] / 2, y + self.size[1] / 2

    def to_world(self, point: tuple[float, float], index: int) -> tuple[float, float]:
        """Return the point of the world at a place of the frame."""
        zoom = self.zoom.at(index)
        x = (point[0] - self.size[0] / 2) * zoom
        y = (point[1] - self.size[1] / 2) * zoom
        return x + self.x.at(index), y + self.y.at(index)


class Actor(NamedTuple):
    """An object that moves."""

    number: int
    """Number of its sprite."""
    x: Wave
    """Centre, from the left of the frame."""
    y: Wave
    """Centre, from the top of the frame."""
    height: Wave
    pace: float
    """Phases of a step per frame."""
    stretch: float = 1.0
    """How much wider it is than its sprite, at the same height."""


class Obstacle(NamedTuple):
    """A thing that stands in front."""

    number: int
    """Number of its sprite."""
    world: tuple[float, float]
    """Its foot."""
    height: float
    """In pixels of the place."""


class Parked(NamedTuple):
    """An object that stands still in the place, behind everything that moves."""

    number: int
    """Number of its sprite."""
    world: tuple[float, float]
    """Its foot."""
    height: float
    """In pixels of the place."""
    warmth: float
    """What the heat of its sprite is multiplied by."""


class Lamp(NamedTuple):
    """A pool of light at night."""

    world: tuple[float, float]
    radius: float
    strength: float
    colour: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything about a sequence that its seed decides."""

    place: int
    mirrored: bool
    view: View
    target: Actor
    distractors: tuple[Actor, ...]
    occluders: tuple[Obstacle, ...]
    tint: tuple[float, float, float]
    brightness: Wave
    lamps: tuple[Lamp, ...]
    glare_spans: tuple[tuple[int, int], ...]
    glare_x: Wave
    glare_y: Wave
    glare_radius: float
    crossover_spans: tuple[tuple[int, int], ...]
    tir_x: Wave
    tir_y: Wave
    tir_zoom: float
    missing: tuple[tuple[str, int, int], ...]
    saturation: float
    """How colourful the colours are; 0 is a grey camera."""
    haze: float
    """Share of each colour that is grey air."""
    soft_rgb: int
    """Pixels over which the colour camera blurs."""
    soft_tir: int
    """Pixels over which the thermal camera blurs."""
    gain_tir: float
    level_tir: float
    """Heat above the mean of the place, in 0 to 255, that becomes middle grey."""
    black_hot: bool
    stripes: NDArray[np.floating]
    noise_rgb: float
    noise_tir: float
    parked: tuple[Parked, ...] = ()
    artefacts: Artefacts | None = None

    def light(self, index: int) -> float:
        """Return how much light there is, 1 by day."""
        return max(self.brightness.at(index), 0.02)

    def glare(self, index: int) -> tuple[float, float, float, float] | None:
        """Return centre, radius and strength of a light that blinds the colour camera, if any."""
        strength = _inside(self.glare_spans, index)
        if strength <= 0:
            return None
        return (
            self.target.x.at(index) + self.glare_x.at(index),
            self.target.y.at(index) + self.glare_y.at(index),
            self.glare_radius,
            strength,
        )

    def contrast(self, index: int) -> float:
        """Return the share of an object's heat that stands out from the place."""
        return 1 - 0.95 * _inside(self.crossover_spans, index)

    @property
    def aligned(self) -> bool:
        """Whether the thermal camera sees exactly what the colour camera sees."""
        return self.tir_zoom == 1

    def tir_view(self, index: int) -> tuple[NDArray[np.floating], float]:
        """Return the offset of the thermal camera from the colour camera, and its zoom."""
        return np.array((self.tir_x.at(index), self.tir_y.at(index))), self.tir_zoom

    def is_missing(self, modality: str, index: int) -> bool:
        """Return whether a modality has no image at a frame."""
        return any(
            which == modality and start <= index < stop for which, start, stop in self.missing
        )


def draw_plan(
    seed: int, frames: int, size: tuple[int, int], challenge: str, *, held_out: bool
) -> Plan:
    """Draw what happens in a sequence.

    A seed means what it has always meant: the order of the draws must stay.
    """
    generator = np.random.default_rng((0x5EED, seed & 0xFFFFFFFFFFFF, int(held_out)))
    has = {name: name == challenge for name in _MIXED}
    if challenge == "mixed":
        has = {name: bool(generator.random() < chance) for name, chance in _MIXED.items()}
        # one modality must be left to follow the object by
        has["thermal_crossover"] &= not (has["night"] or has["glare"])
    view = View(
        size,
        draw_wave(generator, 0, size[0] * 0.22, (90, 300), shake=1.2),
        draw_wave(generator, 0, size[1] * 0.1, (90, 300), shake=1.2),
        draw_wave(generator, generator.uniform(0.75, 1.15), 0.12, (120, 400)),
    )
    target = _actor(generator, size, held_out, None)
    crowd = int(generator.choice((0, 1, 2, 3, 4), p=(0.2, 0.3, 0.25, 0.15, 0.1)))
    others = [_actor(generator, size, held_out, target) for _ in range(crowd)]
    distractors = tuple(other for other in others if _is_beside(other, target))
    distance = generator.uniform(0.12, 0.35) * min(target.height.mean, 80)
    angle = generator.uniform(0, 2 * pi)
    tir_x_mean = 0.0
    tir_y_mean = 0.0
    tir_reach = 0.0
    if has["misalignment"]:
        tir_x_mean = distance * np.cos(angle)
        tir_y_mean = distance * np.sin(angle)
        tir_reach = 2.5
    if held_out:
        place = _PLACES + int(generator.integers(_PLACES // 3))
    else:
        place = int(generator.integers(_PLACES))
    return Plan(
        place=place,
        mirrored=bool(generator.random() < 0.5),
        view=view,
        target=target,
        distractors=distractors,
        occluders=draw_obstacles(generator, frames, target, view),
        tint=tuple(generator.uniform(0.8, 1.15, 3)),
        brightness=_brightness(generator, frames, night=has["night"]),
        lamps=_lamps(generator, size),
        glare_spans=_spans(generator, frames, 0.5) if has["glare"] else (),
        glare_x=draw_wave(generator, 0, target.height.mean * 0.6, (40, 120)),
        glare_y=draw_wave(generator, 0, target.height.mean * 0.4, (40, 120)),
        glare_radius=float(target.height.mean * generator.uniform(0.5, 1.1)),
        crossover_spans=_spans(generator, frames, 0.6) if has["thermal_crossover"] else (),
        tir_x=draw_wave(generator, tir_x_mean, tir_reach, (60, 200)),
        tir_y=draw_wave(generator, tir_y_mean, tir_reach, (60, 200)),
        tir_zoom=float(generator.uniform(0.95, 1.05)) if has["misalignment"] else 1.0,
        missing=_missing(generator, frames) if has["missing"] else (),
        saturation=float(generator.choice((0.0, 0.5, 1.0), p=(0.15, 0.25, 0.6))),
        haze=float(generator.choice((0.0, generator.uniform(0.2, 0.7)), p=(0.7, 0.3))),
        soft_rgb=int(generator.choice((1, 2, 3), p=(0.6, 0.3, 0.1))),
        soft_tir=int(generator.choice((1, 2, 3), p=(0.3, 0.45, 0.25))),
        # cameras stretch what they see: at a high gain a person is white and a field is black
        gain_tir=float(np.exp(generator.uniform(np.log(0.7), np.log(3.0)))),
        level_tir=float(generator.uniform(-10, 40)),
        black_hot=bool(generator.random() < 0.1),
        stripes=generator.normal(0, generator.uniform(0.3, 2.0), size[0]),
        noise_rgb=float(generator.uniform(1.0, 4.5)),
        noise_tir=float(generator.uniform(1.0, 5.0)),
    )


def _is_beside(actor: Actor, target: Actor) -> bool:
    """Return whether the first frame makes clear which of the two is the target."""
    distance = abs(actor.x.at(0) - target.x.at(0))
    return distance > target.height.at(0) * 0.6


def draw_wave(
    generator: np.random.Generator,
    mean: float,
    reach: float,
    periods: tuple[float, float],
    *,
    shake: float = 0.0,
) -> Wave:
    """Draw a motion: two slow waves, together at most ``reach``, and a fast one of ``shake``."""
    share = generator.uniform(0.5, 0.9)
    amplitudes = (reach * share, reach * (1 - share), shake * generator.random())
    lengths = (*generator.uniform(*periods, 2), generator.uniform(6, 20))
    phases = generator.uniform(0, 2 * pi, 3)
    parts = []
    for amplitude, length, phase in zip(amplitudes, lengths, phases, strict=True):
        parts.append((float(amplitude), 2 * pi / float(length), float(phase)))
    return Wave(float(mean), tuple(parts))


def draw_number(generator: np.random.Generator, *, held_out: bool) -> int:
    """Draw the number of a sprite; no other sequence shows those that are held out."""
    if held_out:
        return _SPRITES + int(generator.integers(_SPRITES // 4))
    return int(generator.integers(_SPRITES))


def _actor(
    generator: np.random.Generator, size: tuple[int, int], held_out: bool, like: Actor | None
) -> Actor:
    """Draw an object; a distractor is mostly of the kind and size of the target, ``like``."""
    number = draw_number(generator, held_out=held_out)
    width, height = size
    if like is not None and generator.random() < 0.7:
        number = number - number % len(KINDS) + like.number % len(KINDS)
    tall = KINDS[number % len(KINDS)] in ("person", "cyclist", "cyclist rear")
    smallest, largest = (0.14, 0.42) if tall else (0.1, 0.28)
    mean = height * generator.uniform(smallest, largest)
    if like is not None:
        mean = like.height.mean * generator.uniform(0.8, 1.2)
    x_reach = width * generator.uniform(0.08, 0.36)
    y_reach = height * generator.uniform(0.03, 0.2)
    x_mean = width / 2 + generator.uniform(-1, 1) * (width * 0.42 - x_reach)
    y_mean = height * 0.55 + generator.uniform(-1, 1) * max(height * 0.32 - y_reach, 0)
    return Actor(
        number,
        draw_wave(generator, x_mean, x_reach, (90, 260), shake=0.4),
        draw_wave(generator, y_mean, y_reach, (90, 260), shake=0.4),
        draw_wave(generator, mean, mean * generator.uniform(0.05, 0.4), (90, 240)),
        float(generator.uniform(0.15, 0.45)),
    )


def draw_obstacles(
    generator: np.random.Generator, frames: int, target: Actor, view: View
) -> tuple[Obstacle, ...]:
    """Draw things that stand in the way of the target."""
    things = []
    for _ in range(int(generator.choice((0, 1, 2, 3), p=(0.3, 0.3, 0.25, 0.15)))):
        moment = int(generator.integers(frames))
        height = target.height.at(moment)
        tall = height * generator.uniform(0.9, 1.8)
        foot = target.y.at(moment) + height / 2 + generator.uniform(0, 0.3) * tall
        world = view.to_world((target.x.at(moment), foot), moment)
        number = int(generator.integers(_OBSTACLES))
        things.append(Obstacle(number, world, tall * view.zoom.at(moment)))
    return tuple(thing for thing in things if _leaves_in_sight(thing, frames, target, view))


def _leaves_in_sight(thing: Obstacle, frames: int, target: Actor, view: View) -> bool:
    """Return whether a tracker sees the target at the start and most of the time."""
    if _share_hidden(thing, range(1), target, view):
        return False
    moments = range(0, frames, max(1, frames // 16))
    return _share_hidden(thing, moments, target, view) < 0.2


def _share_hidden(thing: Obstacle, moments: range, target: Actor, view: View) -> float:
    """Return the share of moments at which a thing hides the middle of the target."""
    picture = occluder(thing.number)
    left, top, right, bottom = picture.extents[0]
    hidden = 0
    for moment in moments:
        height = thing.height / view.zoom.at(moment)
        half_width = height * (right - left) / (bottom - top) / 2
        margin = target.height.at(moment) * 0.15
        x, foot = view.to_frame(thing.world, moment)
        is_in_its_columns = abs(target.x.at(moment) - x) < half_width + margin
        is_in_its_rows = foot - height < target.y.at(moment) < foot
        hidden += is_in_its_columns and is_in_its_rows
    return hidden / len(moments)


def _brightness(generator: np.random.Generator, frames: int, *, night: bool) -> Wave:
    """Draw the light: about steady by day, little at night, or night falls or ends."""
    if not night:
        return draw_wave(generator, generator.uniform(0.75, 1.1), 0.08, (60, 300))
    dark = generator.uniform(0.02, 0.2)
    if generator.random() < 0.75:
        return draw_wave(generator, dark, dark * 0.3, (60, 300))
    # from bright to dark, or back, once in the sequence
    half = (1 - dark) / 2
    phase = float(generator.choice((0.5, 1.5))) * pi
    return Wave(float(dark + half), ((float(half), pi / frames, phase),))


def _lamps(generator: np.random.Generator, size: tuple[int, int]) -> tuple[Lamp, ...]:
    lamps = []
    for _ in range(int(generator.integers(0, 4))):
        x = generator.uniform(-0.6, 0.6) * size[0]
        y = generator.uniform(-0.5, 0.4) * size[1]
        warm = generator.uniform(0.6, 1.0)
        radius = generator.uniform(0.1, 0.3) * size[0]
        strength = generator.uniform(0.2, 0.7)
        colour = (1.0, float(0.9 * warm), float(0.7 * warm))
        lamps.append(Lamp((float(x), float(y)), float(radius), float(strength), colour))
    return tuple(lamps)


def _spans(
    generator: np.random.Generator, frames: int, share: float
) -> tuple[tuple[int, int], ...]:
    """Draw up to three spans that cover about ``share`` of a sequence, not its first frames."""
    count = int(generator.integers(1, 4))
    length = max(4, int(frames * share / count))
    earliest = min(8, frames)
    latest = max(frames - length // 2, 9)
    starts = generator.integers(earliest, latest, count).tolist()
    return tuple((start, start + length) for start in starts)


def _inside(spans: tuple[tuple[int, int], ...], index: int) -> float:
    """Return how far inside the spans a frame is: 0 outside, 1 inside, rising over five frames."""
    depths = [min(index - start, stop - index) for start, stop in spans]
    return float(np.clip(max(depths, default=0) / 5, 0, 1))


def _missing(generator: np.random.Generator, frames: int) -> tuple[tuple[str, int, int], ...]:
    """Draw gaps of one modality at a time, never in the first frame."""
    gaps = []
    start = int(generator.integers(3, max(4, frames // 4)))
    while start < frames:
        length = int(generator.integers(2, max(3, frames // 6)))
        gaps.append((str(generator.choice(("rgb", "tir"))), start, start + length))
        start += length + int(generator.integers(5, max(6, frames // 3)))
    return tuple(gaps)
