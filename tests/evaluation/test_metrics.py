"""The measures on cases that can be worked out by hand."""

import numpy as np
import pytest

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.evaluation.metrics import (
    area_under,
    centre_error,
    clip_to_image,
    matlab_colon,
    max_ratio,
    miss_count,
    normalised_centre_error,
    overlap,
    precision_curve,
    repeat_previous,
    round_half_away,
    success_curve,
    track_success,
)

NAN = float("nan")


def test_matlab_counts_from_both_ends():
    grid = matlab_colon(0, 0.05, 1)
    # what MATLAB prints for 0:0.05:1 with format long, where counting up alone gives another last
    # bit
    assert grid[13] == 0.64999999999999991
    assert grid[10] == 0.5
    assert (grid[0], grid[-1], len(grid)) == (0.0, 1.0, 21)
    assert (grid != 0.05 * np.arange(21)).any()
    assert (matlab_colon(0, 1, 50) == np.arange(51)).all()
    assert len(matlab_colon(0, 0.01, 0.5)) == 51
    assert matlab_colon(0, 0.3, 1).tolist() == pytest.approx([0, 0.3, 0.6, 0.9])
    # an odd number of steps has no middle: the lower half counts up, the upper one down
    odd = matlab_colon(0, 0.1, 0.5).tolist()
    assert odd == [0.0, 0.1, 0.2, 0.5 - 2 * 0.1, 0.5 - 0.1, 0.5]
    assert matlab_colon(5, -1, 3).tolist() == [5, 4, 3]
    assert matlab_colon(2, 1, 2).tolist() == [2]


@pytest.mark.parametrize(("start", "step", "stop"), [(0, 0, 1), (0, -1, 1), (1, 0.5, 0)])
def test_a_step_that_leads_nowhere_is_refused(start, step, stop):
    with pytest.raises(ValueError, match="step must lead from start to stop"):
        matlab_colon(start, step, stop)


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10, 20, 30, 40), 1.0),
        ((25, 20, 30, 40), 1 / 3),
        ((10, 40, 30, 40), 1 / 3),
        ((40, 20, 30, 40), 0.0),
        ((900, 20, 30, 40), 0.0),
        ((20, 30, 10, 10), 100 / 1200),
        ((10, 20, 0, 40), 0.0),
        ((10, 20, -5, 40), 0.0),
        ((NAN, 20, 30, 40), 0.0),
        ((10, 20, 30, float("inf")), 0.0),
    ],
)
def test_overlap(box, expected, inclusive):
    assert overlap([box], [(10, 20, 30, 40)], inclusive=inclusive).tolist() == pytest.approx(
        [expected], abs=1e-15
    )


def test_two_boxes_without_area_do_not_overlap():
    assert overlap([(5, 5, 0, 0)], [(5, 5, 0, 0)]).tolist() == [0.0]


def test_centre_errors():
    boxes, truth = [(0, 0, 10, 20), (NAN, 0, 1, 1)], [(3, 4, 10, 20), (0, 0, 1, 1)]
    assert centre_error(boxes, truth).tolist() == [5.0, float("inf")]
    assert centre_error(boxes, truth, centre_offset=0).tolist() == [5.0, float("inf")]
    assert normalised_centre_error(boxes, truth).tolist() == pytest.approx(
        [np.hypot(0.3, 0.2), float("inf")]
    )
    assert normalised_centre_error([(1, 1, 2, 2)], [(1, 1, 0, 2)]).tolist() == [float("inf")]


def test_curves_count_the_frames_at_a_threshold_as_the_toolkits_do():
    errors = [-1.0, 0.0, 5.0, 20.0, 20.000001, float("inf")]
    assert precision_curve(errors, [0, 5, 20, 50]).tolist() == pytest.approx(
        [2 / 6, 3 / 6, 4 / 6, 5 / 6]
    )
    assert precision_curve(errors, [0, 5, 20, 50], strict=True).tolist() == pytest.approx(
        [1 / 6, 2 / 6, 3 / 6, 5 / 6]
    )
    overlaps = [-1.0, 0.0, 0.5, 1.0]
    assert success_curve(overlaps, [0, 0.5, 1]).tolist() == [0.5, 0.25, 0.0]
    generator = np.random.default_rng(0)
    values, grid = generator.integers(0, 21, 500) / 20, matlab_colon(0, 0.05, 1)
    assert success_curve(values, grid).tolist() == [(values > t).mean() for t in grid]
    assert precision_curve(values, grid).tolist() == [(values <= t).mean() for t in grid]


def test_areas():
    assert area_under(np.linspace(1, 0, 21)) == pytest.approx(0.5)
    assert area_under([1.0] * 20 + [0.0]) == pytest.approx(20 / 21)
    assert area_under([1.0] * 50 + [0.0], rule="trapezoid") == pytest.approx(0.99)
    with pytest.raises(ValueError, match="rule must be one of 'mean', 'trapezoid', got 'simpson'"):
        area_under([1, 0], rule="simpson")


def test_invalid_boxes_repeat_the_last_valid_one():
    track = [(0, 0, 0, 0), (1, 1, 5, 5), (2, 2, -1, 5), (3, 3, 5, NAN), (4, 4, 5, 5), (5, 5, 5, 0)]
    assert repeat_previous(track)[:, 0].tolist() == [0, 1, 1, 1, 4, 4]
    assert repeat_previous(track, nan=False)[:, 0].tolist() == [0, 1, 1, 3, 4, 4]


def test_the_first_box_has_nothing_to_repeat():
    assert repeat_previous([(7, 7, 0, 0), (8, 8, 0, 0)])[:, 0].tolist() == [7, 7]


def test_rounding_is_matlabs():
    assert round_half_away([0.5, 2.5, -0.5, -1.5, 1.49]).tolist() == [1, 3, -1, -2, 1]


def test_clipping():
    boxes = [(-10, 5, 30, 30), (90, 90, 50, 50), (200, 0, 10, 10)]
    assert clip_to_image(boxes, width=100, height=120).tolist() == [
        [0, 5, 30, 30],
        [90, 90, 10, 30],
        [100, 0, 0, 10],
    ]


def test_the_notes_measures():
    assert miss_count([0, 0, 0.4, 0, 0.2, 0]) == 3
    assert miss_count([0.1, 0.2]) == 0
    assert not track_success([0.5, 0.0])
    assert track_success([0.0, 0.1])
    assert max_ratio([1.0, 50.0, 3.0], width=300, height=400) == 0.1


def test_float32_stays_float32():
    boxes = np.ones((3, 4), dtype=np.float32)
    assert overlap(boxes, boxes).dtype == np.float32
    assert centre_error(boxes, boxes).dtype == np.float32
    assert overlap(boxes.astype(int), boxes).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: overlap([[1, 2, 3]], [[1, 2, 3, 4]]),
            r"boxes must have shape \(T, 4\), got \(1, 3\)",
        ),
        (
            lambda: overlap([[1, 2, 3, 4]], [1, 2, 3, 4]),
            r"truth must have shape \(T, 4\), got \(4,\)",
        ),
        (
            lambda: centre_error([[1, 2, 3, 4]] * 2, [[1, 2, 3, 4]]),
            "boxes must have the length of truth 1, got 2",
        ),
        (
            lambda: success_curve([], [0.5]),
            r"overlaps must have shape \(T,\) with at least one value, got \(0,\)",
        ),
        (lambda: precision_curve([[1.0]], [0.5]), r"errors must have shape \(T,\)"),
        (lambda: area_under([]), "curve must have shape"),
        (lambda: repeat_previous([1.0]), "boxes must have shape"),
    ],
)
def test_bad_shapes_are_named(call, message):
    with pytest.raises(ShapeError, match=message):
        call()
