"""What is drawn from a seed: motions without a past, obstacles that hide, and chances that hold."""

import numpy as np
import pytest

from rgbt_fusion.synthetic.plan import Plan, View, Wave, draw_plan

SIZE = (320, 240)


def plans(challenge: str, count: int = 200) -> list[Plan]:
    return [draw_plan(seed, 120, SIZE, challenge, held_out=False) for seed in range(count)]


def test_waves():
    wave = Wave(2.0, ((3.0, np.pi / 10, 0.0), (1.0, 1.0, np.pi / 2)))
    assert wave.at(0) == pytest.approx(3.0)
    assert wave.at(5) == pytest.approx(2 + 3 + np.cos(5))


def test_the_view_goes_there_and_back():
    view = View(SIZE, Wave(10.0, ()), Wave(-4.0, ()), Wave(0.8, ()))
    assert view.to_frame((10.0, -4.0), 3) == (160.0, 120.0)
    assert view.to_frame(view.to_world((33.0, 77.0), 3), 3) == pytest.approx((33.0, 77.0))


def test_motion_is_fast_enough_to_matter_and_slow_enough_to_follow():
    steps = []
    for plan in plans("none", 60):
        x = np.array([plan.target.x.at(k) for k in range(120)])
        y = np.array([plan.target.y.at(k) for k in range(120)])
        steps.append(np.hypot(np.diff(x), np.diff(y)) / plan.target.height.mean)
    assert np.max(steps) < 0.8
    assert 0.01 < np.median(steps) < 0.2


def test_mixed_has_some_of_everything_and_leaves_one_modality():
    drawn = plans("mixed")
    shares = {
        "night": np.mean([plan.light(60) < 0.6 for plan in drawn]),
        "glare": np.mean([bool(plan.glare_spans) for plan in drawn]),
        "crossover": np.mean([bool(plan.crossover_spans) for plan in drawn]),
        "misalignment": np.mean([plan.tir_zoom != 1 for plan in drawn]),
        "missing": np.mean([bool(plan.missing) for plan in drawn]),
        "occlusion": np.mean([bool(plan.occluders) for plan in drawn]),
        "distractors": np.mean([bool(plan.distractors) for plan in drawn]),
    }
    assert all(share > 0.05 for share in shares.values()), shares
    assert not any(
        plan.crossover_spans and (plan.glare_spans or plan.light(60) < 0.5) for plan in drawn
    )


def test_a_plain_sequence_has_no_challenge():
    for plan in plans("none", 50):
        assert not (plan.glare_spans or plan.crossover_spans or plan.missing)
        assert plan.tir_zoom == 1
        assert plan.light(0) > 0.6
