"""The wide world: any size and shape, lookalikes, imperfect cameras, and still exact boxes."""

from dataclasses import replace

import numpy as np
import pytest

from rgbt_fusion.synthetic.objects import KINDS
from rgbt_fusion.synthetic.plan import CHALLENGES, Plan, Wave
from rgbt_fusion.synthetic.wide import LARGEST, SMALLEST, draw_wide_plan
from rgbt_fusion.synthetic.world import SyntheticSequence

SIZE = (320, 240)

FIRST_WORLD = [
    ("night", False, (51.5907, 28.9805, 21.0783, 14.779), (15.263, 169.736)),
    ("thermal_crossover", True, (51.4238, 50.1402, 9.5007, 25.6231), (74.585, 165.722)),
    ("misalignment", True, (46.2518, 43.0016, 9.99, 26.9428), (74.589, 119.269)),
    ("mixed", False, (57.2641, 80.0559, 10.9817, 14.3607), (5.696, 82.8)),
]
"""Thermal box and mean of both images at frame 21 of seed 5, as version 0.1.0 shows them."""


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [draw_wide_plan(seed, 60, SIZE, "none", held_out=False) for seed in range(200)]


def wide(seed: int, **options: object) -> SyntheticSequence:
    return SyntheticSequence(seed, **({"frames": 60, "challenge": "none", "wide": True} | options))


@pytest.mark.parametrize(("challenge", "held_out", "box", "means"), FIRST_WORLD)
def test_the_first_world_is_what_it_was(challenge, held_out, box, means):
    # what was trained and measured on it must stay comparable
    sequence = SyntheticSequence(
        5, frames=40, challenge=challenge, held_out=held_out, size=(160, 120)
    )
    assert sequence.truth.tir[21] == pytest.approx(box, abs=1e-3)
    frame = sequence[21]
    assert frame.rgb.mean() == pytest.approx(means[0], abs=0.02)
    assert frame.tir.mean() == pytest.approx(means[1], abs=0.02)


def test_targets_have_any_size_and_shape(plans):
    longest = []
    aspects = []
    for seed in range(len(plans)):
        box = wide(seed).truth.rgb.mean(axis=0)
        longest.append(max(box[2] / SIZE[0], box[3] / SIZE[1]))
        aspects.append(box[2] / box[3])
    assert min(longest) < 2 * SMALLEST
    assert max(longest) > 0.8 * LARGEST
    assert min(aspects) < 0.3
    assert max(aspects) > 2.5


def test_the_target_stays_in_sight(plans):
    for seed in range(60):
        boxes = wide(seed).truth.rgb
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        assert (centres > 0).all()
        assert (centres < SIZE).all()
        assert np.sqrt(boxes[:, 2:].prod(axis=1)).min() > 3


def test_motion_is_slow_enough_to_follow():
    for seed in range(60):
        boxes = wide(seed).truth.rgb
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        steps = np.hypot(*np.diff(centres, axis=0).T)
        assert (steps < 0.8 * np.sqrt(boxes[:-1, 2:].prod(axis=1))).all()


def test_others_look_alike_and_cross_its_way(plans):
    alike = []
    crossing = []
    for plan in plans:
        for other in plan.distractors:
            alike.append(other.number % len(KINDS) == plan.target.number % len(KINDS))
            sides = [np.sign(other.x.at(k) - plan.target.x.at(k)) for k in range(60)]
            crossing.append(len(set(sides)) > 1)
    assert len(alike) > 150
    assert 0.6 < np.mean(alike) < 0.95
    assert 0.1 < np.mean(crossing) < 0.7
    assert sum(bool(plan.parked) for plan in plans) > 60


def test_nobody_stands_on_the_target_in_the_first_frame(plans):
    for seed, plan in enumerate(plans[:100]):
        _, _, width, height = wide(seed).truth.rgb[0]
        for other in plan.distractors:
            beside = abs(other.x.at(0) - plan.target.x.at(0)) > 0.6 * width
            above_or_below = abs(other.y.at(0) - plan.target.y.at(0)) > 0.7 * height
            assert beside or above_or_below


def test_boxes_are_tight():
    errors = []
    for seed in range(40):
        frames = []
        for away in (False, True):
            sequence = wide(seed)
            target = sequence.plan.target
            if away:
                target = target._replace(x=Wave(-1e5, ()))
            sequence.plan = replace(
                sequence.plan,
                target=target,
                distractors=(),
                occluders=(),
                artefacts=None,
                noise_rgb=0.0,
                haze=0.0,
                soft_rgb=1,
            )
            frames.append(sequence[0].rgb.astype(int))
        seen = np.abs(frames[0] - frames[1]).max(axis=2) > 6
        rows = np.flatnonzero(seen.any(axis=1))
        columns = np.flatnonzero(seen.any(axis=0))
        x, y, w, h = wide(seed).truth.rgb[0]
        if len(rows) and x >= 0 and y >= 0 and x + w <= SIZE[0] and y + h <= SIZE[1]:
            errors.append(
                (columns[0] - x, columns[-1] + 1 - x - w, rows[0] - y, rows[-1] + 1 - y - h)
            )
    assert len(errors) > 15
    assert np.median(np.abs(errors)) < 1.2


def test_a_parked_object_moves_with_the_place():
    seed = next(k for k in range(50) if wide(k).plan.parked)
    sequence = wide(seed)
    one = sequence.plan.parked[0]
    first = np.array(sequence.plan.view.to_frame(one.world, 0))
    later = np.array(sequence.plan.view.to_frame(one.world, 40))
    assert np.hypot(*(first - later)) > 0.5


def test_held_out_objects_are_not_shown_elsewhere():
    shown = [draw_wide_plan(seed, 20, SIZE, "none", held_out=False) for seed in range(60)]
    kept = [draw_wide_plan(seed, 20, SIZE, "none", held_out=True) for seed in range(60)]

    def numbers(plans: list[Plan]) -> set[int]:
        found = set()
        for plan in plans:
            for actor in (plan.target, *plan.distractors, *plan.parked):
                found.add(actor.number)
        return found

    assert not numbers(shown) & numbers(kept)


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_a_frame_is_a_function_of_seed_and_number(challenge):
    first = wide(11, challenge=challenge)
    second = wide(11, challenge=challenge)
    for index in (20, 5):
        for one, other in zip(first[index], second[index], strict=True):
            assert (one is None) == (other is None)
            assert one is None or np.array_equal(one, other)
    assert first.name == f"synthetic_wide_{challenge}_11"
