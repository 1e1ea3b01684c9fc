"""The wide world: objects of any size and shape, lookalikes that cross, and imperfect cameras.

It keeps the places, the light and the challenges of the first world, and replaces who acts in it.
"""

from dataclasses import replace
from math import exp, log, pi, sqrt

import numpy as np

from rgbt_fusion.synthetic.artefacts import draw_artefacts
from rgbt_fusion.synthetic.objects import KINDS, sprite
from rgbt_fusion.synthetic.plan import (
    Actor,
    Parked,
    Plan,
    View,
    Wave,
    draw_number,
    draw_obstacles,
    draw_plan,
    draw_wave,
)

__all__ = ["LARGEST", "SMALLEST", "draw_wide_plan"]

SMALLEST = 0.03
"""Smallest mean size of a target: its longer side as a share of the frame's."""

LARGEST = 0.9
"""Largest mean size of a target, likewise."""

_FEWEST_PIXELS = 6.0
"""Smallest root of the area of a target, in pixels."""

_FASTEST = 0.35
"""Largest speed of a slow motion, in roots of the target's area per frame."""

_SHORTEST_PERIOD = 90


def draw_wide_plan(
    seed: int, frames: int, size: tuple[int, int], challenge: str, *, held_out: bool
) -> Plan:
    """Draw what happens in a sequence of the wide world."""
    plan = draw_plan(seed, frames, size, challenge, held_out=held_out)
    generator = np.random.default_rng((0x31DE, seed & 0xFFFFFFFFFFFF, int(held_out)))
    target = _target(generator, size, held_out=held_out)
    crowd = int(generator.choice(6, p=(0.15, 0.2, 0.25, 0.2, 0.1, 0.1)))
    others = [_distractor(generator, size, target, held_out=held_out) for _ in range(crowd)]
    count = int(generator.choice(5, p=(0.3, 0.25, 0.2, 0.15, 0.1)))
    parked = [_parked(generator, size, target, plan.view, held_out=held_out) for _ in range(count)]
    # in the first frame it must be clear who is meant
    others = [one for one in others if _is_apart(_start(one), target)]
    parked = [one for one in parked if _is_apart(plan.view.to_frame(one.world, 0), target)]
    # glare and the distance of the cameras go with the size of the target
    growth = target.height.mean / plan.target.height.mean
    drift = min(target.height.mean, 80) / min(plan.target.height.mean, 80)
    return replace(
        plan,
        target=target,
        distractors=tuple(others),
        parked=tuple(parked),
        occluders=draw_obstacles(generator, frames, target, plan.view),
        glare_x=plan.glare_x.scaled(growth),
        glare_y=plan.glare_y.scaled(growth),
        glare_radius=plan.glare_radius * growth,
        tir_x=plan.tir_x.scaled(drift),
        tir_y=plan.tir_y.scaled(drift),
        artefacts=draw_artefacts(generator, frames, size[0]),
    )


def _target(generator: np.random.Generator, size: tuple[int, int], *, held_out: bool) -> Actor:
    """Draw the target: any size between 3 % and 90 % of the frame, thin or wide."""
    number = draw_number(generator, held_out=held_out)
    if generator.random() < 0.25:
        # what no class names is what a tracker must learn to follow
        number = _of_kind(number, KINDS.index("shape"))
    stretch = _log_uniform(generator, 0.6, 1.7)
    aspect = _aspect(number) * stretch
    width, height = size
    largest = min(height, width / aspect)
    mean = largest * _log_uniform(generator, SMALLEST, LARGEST)
    mean = max(mean, _FEWEST_PIXELS / sqrt(aspect))
    room = max(0.95 * largest - mean, 0.0)
    growth = min(mean * generator.uniform(0.05, 0.4), room)
    root = mean * sqrt(aspect)
    return Actor(
        number,
        _within(generator, width, mean * aspect, root),
        _within(generator, height, mean, root),
        draw_wave(generator, mean, growth, (_SHORTEST_PERIOD, 240)),
        float(generator.uniform(0.15, 0.45)),
        stretch,
    )


def _within(generator: np.random.Generator, length: int, extent: float, root: float) -> Wave:
    """Draw the motion along one axis of the frame: it leaves the frame by a part at most."""
    room = max(length - extent, 0.0) / 2 + 0.1 * extent
    fastest = _FASTEST * root * _SHORTEST_PERIOD / (2 * pi)
    reach = min(length * generator.uniform(0.05, 0.36), fastest, room)
    mean = length / 2 + generator.uniform(-1, 1) * (room - reach)
    shake = generator.uniform(0, 0.06) * root
    return draw_wave(generator, mean, reach, (_SHORTEST_PERIOD, 260), shake=shake)


def _distractor(
    generator: np.random.Generator, size: tuple[int, int], target: Actor, *, held_out: bool
) -> Actor:
    """Draw an object that walks beside the target, crosses its way, or goes its own way."""
    number = draw_number(generator, held_out=held_out)
    if generator.random() < 0.75:
        number = _of_kind(number, target.number % len(KINDS))
    if generator.random() < 0.15:
        # the very same look
        number = target.number
    stretch = target.stretch * exp(generator.normal(0, 0.1))
    height = target.height.scaled(generator.uniform(0.8, 1.25))
    wide = target.height.mean * _aspect(target.number) * target.stretch
    tall = target.height.mean
    way = generator.choice(("beside", "crossing", "alone"), p=(0.35, 0.3, 0.35))
    if way == "alone":
        root = sqrt(wide * tall)
        x = _within(generator, size[0], wide, root)
        y = _within(generator, size[1], tall, root)
    elif way == "beside":
        side = generator.choice((-1, 1)) * generator.uniform(0.9, 1.8)
        x = _along(target.x, draw_wave(generator, side * wide, 0.3 * wide, (60, 200)))
        y = _along(target.y, draw_wave(generator, generator.normal(0, 0.1) * tall, 0, (60, 200)))
    else:
        reach = generator.uniform(1.5, 4) * wide
        x = _along(target.x, draw_wave(generator, 0, reach, (60, 200)))
        y = _along(target.y, draw_wave(generator, generator.normal(0, 0.2) * tall, 0, (60, 200)))
    return Actor(number, x, y, height, float(generator.uniform(0.15, 0.45)), stretch)


def _parked(
    generator: np.random.Generator,
    size: tuple[int, int],
    target: Actor,
    view: View,
    *,
    held_out: bool,
) -> Parked:
    """Draw an object that stands still; many are as hot as an engine or a lamp."""
    number = draw_number(generator, held_out=held_out)
    if generator.random() < 0.5:
        number = _of_kind(number, target.number % len(KINDS))
    x = generator.uniform(-0.1, 1.1) * size[0]
    y = generator.uniform(0.2, 1.1) * size[1]
    tall = target.height.mean * _log_uniform(generator, 0.4, 1.6)
    return Parked(
        number,
        view.to_world((float(x), float(y)), 0),
        float(tall * view.zoom.at(0)),
        float(generator.uniform(0.7, 1.8)),
    )


def _log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return exp(generator.uniform(log(low), log(high)))


def _of_kind(number: int, kind: int) -> int:
    """Return the number of a sprite of that kind near ``number``."""
    return number - number % len(KINDS) + kind


def _aspect(number: int) -> float:
    """Return width over height of a sprite in its first phase."""
    left, top, right, bottom = sprite(number).extents[0].tolist()
    return (right - left) / (bottom - top)


def _along(leader: Wave, own: Wave) -> Wave:
    """Return the motion of one who goes with another: the sum of both."""
    return Wave(leader.mean + own.mean, leader.parts + own.parts)


def _start(actor: Actor) -> tuple[float, float]:
    """Return where an actor is in the first frame."""
    return actor.x.at(0), actor.y.at(0)


def _is_apart(place: tuple[float, float], target: Actor) -> bool:
    """Return whether a place is beside the target in the first frame."""
    tall = target.height.at(0)
    wide = tall * _aspect(target.number) * target.stretch
    beside = abs(place[0] - target.x.at(0)) > 0.8 * wide
    above_or_below = abs(place[1] - target.y.at(0)) > 0.8 * tall
    return beside or above_or_below
