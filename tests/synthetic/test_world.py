"""The synthetic world: pure frames, exact boxes, and challenges that do what they say."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from rgbt_fusion.frames.crop import IMAGENET_MEAN, IMAGENET_STD, crop_pair
from rgbt_fusion.synthetic.plan import CHALLENGES, Wave
from rgbt_fusion.synthetic.world import SyntheticSequence


def quiet(sequence: SyntheticSequence, **changes: object) -> SyntheticSequence:
    """Leave the target alone in a steady light, without noise."""
    steady = Wave(1.0, ())
    alone = {
        "distractors": (),
        "occluders": (),
        "noise_rgb": 0.0,
        "noise_tir": 0.0,
        "brightness": steady,
    }
    alone |= {"haze": 0.0, "soft_rgb": 1, "soft_tir": 2, "gain_tir": 1.0}
    sequence.plan = replace(sequence.plan, **(alone | changes))
    return sequence


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_a_frame_is_a_function_of_seed_and_number(challenge):
    first, second = (SyntheticSequence(11, frames=40, challenge=challenge) for _ in range(2))
    forwards = [first[k] for k in (5, 20, 39)]
    backwards = [second[k] for k in (39, 20, 5)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        for a, b in zip(one, other, strict=True):
            assert (a is None) == (b is None)
            assert a is None or np.array_equal(a, b)
    assert np.array_equal(first.truth.rgb, second.truth.rgb)


def test_it_survives_the_way_to_another_process():
    sequence = SyntheticSequence(3, frames=10, challenge="none")
    other = pickle.loads(pickle.dumps(sequence))
    assert np.array_equal(sequence[7].rgb, other[7].rgb)


def test_seeds_and_frames_differ():
    frames = [
        SyntheticSequence(seed, challenge="none")[k].rgb
        for seed, k in ((0, 0), (0, 1), (1, 0), (2**40, 0))
    ]
    for k, one in enumerate(frames):
        assert not any(np.array_equal(one, other) for other in frames[k + 1 :])


def test_what_is_held_out_is_not_shown_elsewhere():
    shown = [SyntheticSequence(seed).plan for seed in range(300)]
    kept = [SyntheticSequence(seed, held_out=True).plan for seed in range(300)]
    assert not {plan.place for plan in shown} & {plan.place for plan in kept}
    assert not {plan.target.number for plan in shown} & {plan.target.number for plan in kept}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("challenge", ["none", "misalignment"])
def test_boxes_are_exact_in_both_modalities(seed, challenge):
    sequence = quiet(SyntheticSequence(seed, frames=60, challenge=challenge))
    target = sequence.plan.target
    gone = quiet(SyntheticSequence(seed, frames=60, challenge=challenge))
    gone.plan = replace(gone.plan, target=target._replace(x=Wave(-1e5, ())))
    width, height = sequence.size
    for index in (0, 17, 59):
        with_target, without = sequence[index], gone[index]
        boxes = (sequence.truth.rgb[index], sequence.truth.tir[index])
        for name, box in zip(("rgb", "tir"), boxes, strict=True):
            change = np.abs(getattr(with_target, name).astype(int) - getattr(without, name))
            seen = change.reshape(height, width, -1).max(axis=2) > 6
            if seen.sum() < 40:  # an object as warm as the place
                continue
            rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
            left, top = np.maximum(box[:2], 0)
            right, bottom = np.minimum(box[:2] + box[2:], (width, height))
            # nothing outside the box, up to the soft edge and the thermal camera's blur
            slack = 2.5 if name == "rgb" else 4
            assert columns[0] >= left - slack
            assert columns[-1] + 1 <= right + slack
            assert rows[0] >= top - slack
            assert rows[-1] + 1 <= bottom + slack


def test_boxes_are_tight_over_many_sequences():
    errors = []
    for seed in range(30):
        sequence = quiet(SyntheticSequence(seed, frames=2, challenge="none"))
        gone = quiet(SyntheticSequence(seed, frames=2, challenge="none"))
        gone.plan = replace(gone.plan, target=gone.plan.target._replace(x=Wave(-1e5, ())))
        seen = np.abs(sequence[0].rgb.astype(int) - gone[0].rgb).max(axis=2) > 6
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        x, y, w, h = sequence.truth.rgb[0]
        if len(rows) and x >= 0 and y >= 0 and x + w <= 320 and y + h <= 240:
            errors.append(
                (columns[0] - x, columns[-1] + 1 - x - w, rows[0] - y, rows[-1] + 1 - y - h)
            )
    assert len(errors) > 15
    # camouflage hides some edges; most are where the box says, to a pixel
    assert np.median(np.abs(errors)) < 1.0


def test_the_target_stays_in_sight():
    for seed in range(60):
        boxes = SyntheticSequence(seed).truth.rgb
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        assert (centres > 0).all()
        assert (centres < (320, 240)).all()
        assert (boxes[:, 2:] > 4).all()


def test_night_is_dark_in_colour_and_not_in_heat():
    day = [SyntheticSequence(seed, frames=20, challenge="none")[10] for seed in range(10)]
    night = [SyntheticSequence(seed, frames=20, challenge="night")[10] for seed in range(10)]
    assert np.mean([frame.rgb.mean() for frame in night]) < 0.5 * np.mean(
        [frame.rgb.mean() for frame in day]
    )
    assert np.mean([frame.tir.mean() for frame in night]) > 0.7 * np.mean(
        [frame.tir.mean() for frame in day]
    )


def test_glare_blinds_the_colour_camera_alone():
    sequence = SyntheticSequence(4, frames=60, challenge="glare")
    start, stop = sequence.plan.glare_spans[0]
    index = min((start + stop) // 2, 59)
    sequence.plan = replace(sequence.plan, noise_rgb=0.0, noise_tir=0.0)
    dim = SyntheticSequence(4, frames=60, challenge="glare")
    dim.plan = replace(sequence.plan, glare_spans=())
    assert sequence[index].rgb.mean() > dim[index].rgb.mean() + 5
    assert np.array_equal(sequence[index].tir, dim[index].tir)


def test_thermal_crossover_hides_the_target_in_heat_alone():
    for seed in range(5):
        sequence = quiet(SyntheticSequence(seed, frames=60, challenge="thermal_crossover"))
        start, stop = sequence.plan.crossover_spans[0]
        index = min((start + stop) // 2, 59)
        assert sequence.plan.contrast(index) == pytest.approx(0.05)
        assert sequence.plan.contrast(0) == 1
        clear = quiet(
            SyntheticSequence(seed, frames=60, challenge="thermal_crossover"), crossover_spans=()
        )
        gone = quiet(SyntheticSequence(seed, frames=60, challenge="thermal_crossover"))
        gone.plan = replace(gone.plan, target=gone.plan.target._replace(x=Wave(-1e5, ())))
        assert np.array_equal(sequence[index].rgb, clear[index].rgb)
        hidden = np.abs(sequence[index].tir.astype(int) - gone[index].tir).sum()
        shown = np.abs(clear[index].tir.astype(int) - gone[index].tir).sum()
        assert hidden < 0.2 * shown


def test_misalignment_moves_the_thermal_boxes():
    truth = SyntheticSequence(1, challenge="misalignment").truth
    distance = np.hypot(*(truth.rgb - truth.tir)[:, :2].T)
    assert 2 < distance.mean() < 40
    aligned = SyntheticSequence(1, challenge="none").truth
    assert aligned.tir is aligned.rgb


def test_frames_go_missing_never_both_and_never_the_first():
    gaps = 0
    for seed in range(10):
        sequence = SyntheticSequence(seed, frames=40, challenge="missing")
        states = [(frame.rgb is None, frame.tir is None) for frame in sequence]
        assert states[0] == (False, False)
        assert (True, True) not in states
        gaps += sum(map(any, states))
    assert gaps > 40


@pytest.mark.parametrize("square", [(60, 30, 128, 128), (-40, -25, 150, 96), (250, 170, 200, 128)])
def test_a_window_is_what_cropping_the_frame_gives(square):
    left, top, side, pixels = square
    sequence = quiet(SyntheticSequence(8, frames=30, challenge="none"))
    frame, window = sequence[12], sequence.window(12, left, top, side, pixels)
    assert window.rgb.shape == (pixels, pixels, 3)
    crop = crop_pair(frame.rgb, frame.tir, (left, top, side, side), factor=1.0, size=pixels)
    for name, mean, std in (
        ("rgb", IMAGENET_MEAN, IMAGENET_STD),
        ("tir", IMAGENET_MEAN[:1], IMAGENET_STD[:1]),
    ):
        cropped = (
            getattr(crop.images, name)[0, : len(mean)].permute(1, 2, 0).numpy()
            * np.array(std)
            * 255
        )
        difference = np.abs(
            cropped + np.array(mean) * 255 - getattr(window, name).reshape(pixels, pixels, -1)
        )
        assert difference.mean() < 3
    outside = window.rgb[: max(0, -top) * pixels // side]
    assert not outside.any()


def test_any_size_and_length():
    sequence = SyntheticSequence(0, frames=1, size=(900, 1000), challenge="mixed")
    assert sequence[0].rgb.shape == (1000, 900, 3)
    assert len(list(sequence)) == 1
    assert np.array_equal(sequence[-1].rgb, sequence[0].rgb)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"challenge": "rain"}, r"challenge must be one of 'none', .*, got 'rain'"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"size": (0, 240)}, "width must be at least 1, got 0"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        SyntheticSequence(0, **options)


def test_beyond_the_end():
    with pytest.raises(IndexError, match="index must be below 5, got 5"):
        SyntheticSequence(0, frames=5)[5]


def test_every_object_of_a_frame_has_its_box():
    sequence = SyntheticSequence(5, frames=40)
    boxes = sequence.boxes(20)
    assert boxes.shape == (1 + len(sequence.plan.distractors), 4)
    np.testing.assert_array_equal(boxes[0], sequence.truth.rgb[20])
    assert (boxes[:, 2:] > 0).all()
