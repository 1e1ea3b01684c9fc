"""Overlaps of regions, as the VOT toolkit 0.9.0 counted them."""

import numpy as np
import pytest

from rgbt_fusion.data.region_overlap import has_no_size, rasterised, region_overlap
from rgbt_fusion.data.regions import parse_region

SIZE = (160, 120)

RECORDED = [
    (
        "32.5914,78.0470,-1.0363,93.0988,16.9717,51.6742",
        "2.838,77.951,25.869,8.948",
        0.27439024390243905,
    ),
    ("105.391,76.030,47.087,3.291", "130.050,49.328,54.691,58.982", 0.03577235772357724),
    ("61.992,3.159,34.191,25.584", "58,26,41,5", 0.1033434650455927),
    ("132.173,5.584,18.495,43.860", "96,49,46,32", 0.0044365572315882874),
    ("70.930,0.249,53.282,56.825", "81.781,-24.622,55.476,53.550", 0.3584461447910536),
    ("21.424,-11.298,30.235,44.077", "-13,8,43,23", 0.14052953156822812),
    (
        "-15.454,11.322,33.170,40.857",
        "7.2715,55.6137,17.4866,63.4698,14.0196,64.7989,23.2408,44.8606,3.6880,57.0620",
        0.011764705882352941,
    ),
    ("50.568,101.178,54.984,15.673", "55.875,116.366,13.543,36.793", 0.015184381778741865),
    ("26,105,8,47", "-0.390,93.930,34.086,53.158", 0.13574660633484162),
    (
        "39.1145,63.0872,68.7212,56.4151,40.0012,71.6071,64.8379,53.4995,38.3479,78.5420",
        "48.720,53.265,11.767,29.388",
        0.10848126232741617,
    ),
    (
        "56.9279,102.7016,48.3954,128.6243,54.9982,144.2063,70.8205,130.2809,56.4455,142.2186",
        "21.594,75.674,49.119,58.838",
        0.026437847866419294,
    ),
    ("-7.344,13.947,51.251,11.185", "23,12,31,13", 0.3521341463414634),
    ("135,38,17,46", "133,37,46,10", 0.17018909899888765),
    ("118.167,65.203,22.249,47.449", "128.256,109.696,34.589,55.048", 0.01804511278195489),
    ("m18,40,2,11,22", "0", 1.0),
    ("0", "nan,nan,nan,nan", 1.0),
    ("0", "m98,-4,18,10,180", 1.0),
    ("nan,nan,nan,nan", "nan,nan,nan,nan", 1.0),
    (
        "-6.9613,-6.3872,-17.2930,-15.5502,-20.4435,-5.2714,-6.8321,-51.8881",
        "119.4969,3.6911,91.3236,-2.2476,77.7540,-17.1678",
        0.0,
    ),
    ("39,149,30,40", "nan,nan,nan,nan", 0.0),
    ("0", "137.0000,-0.0000,101.0000,-24.0000,121.0000,-21.0000,128.0000,-9.0000", 0.0),
    ("0", "-37.0000,56.0000,-2.0000,73.0000,-1.0000,91.0000,-34.0000,58.0000", 0.0),
    ("nan,nan,nan,nan", "-24,96,45,5", 0.0),
    ("0", "46,92,49,4", 0.0),
]
"""Two regions and what the toolkit says, in an image of 160 x 120; they are random."""


@pytest.mark.parametrize(("first", "second", "expected"), RECORDED)
def test_the_overlaps_of_the_vot_toolkit(first, second, expected):
    one, other = parse_region(first), parse_region(second)
    assert region_overlap(one, other, SIZE) == expected
    assert region_overlap(other, one, SIZE) == expected
    assert region_overlap(one, rasterised(other, SIZE), SIZE) == expected


def test_boxes_count_whole_pixels():
    box = parse_region("10,10,20,10")
    assert region_overlap(box, parse_region("10,10,20,5"), SIZE) == 0.5
    assert region_overlap(box, parse_region("20,10,20,10"), SIZE) == pytest.approx(1 / 3)
    # what is outside the image does not count
    assert region_overlap(parse_region("-10,0,20,10"), parse_region("0,0,10,10"), SIZE) == 1
    assert region_overlap(parse_region("-30,0,20,10"), parse_region("-30,0,20,10"), SIZE) == 0


def test_a_polygon_is_filled_between_its_edges():
    triangle = rasterised(parse_region("0,0,8,0,0,8"), SIZE)
    assert triangle.values.sum(axis=1).tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    hourglass = rasterised(parse_region("0,0,8,0,0,4,8,4"), SIZE)
    assert hourglass.values[:, 4].all()
    assert not hourglass.values[1:4, 0].any()
    outside = parse_region("-5,0,8,0,0,8")
    assert rasterised(outside, SIZE) is outside
    np.testing.assert_array_equal(rasterised(parse_region("1,2,3,4"), SIZE).values, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("text", "empty"),
    [
        ("0", True),
        ("nan,nan,nan,nan", True),
        ("5,5,0,3", True),
        ("5,5,1,3", False),
        ("1,1,1,5,1,9", True),
        ("1,1,2,5,1,9", False),
        ("m0,0,2,2,4", True),
        ("m0,0,2,2,0,4", False),
    ],
)
def test_which_regions_hold_no_target(text, empty):
    assert has_no_size(parse_region(text)) is empty


@pytest.mark.parametrize(
    ("mask", "box", "expected"),
    [
        # a full mask of 4 x 3, and a box that shares 2 x 3 or 2 x 2 pixels with it
        ("m10,20,4,3,0,12", "12,20,4,3", 6 / 18),
        ("m10,20,4,3,0,12", "8,19,4,3", 4 / 20),
        ("m10,20,4,3,0,12", "30,40,4,3", 0.0),
        # what is outside of the image does not count
        ("m-2,-1,4,3,0,12", "0,0,2,2", 1.0),
        ("m157,118,4,3,0,12", "157,118,3,2", 1.0),
        ("m-10,5,4,3,0,12", "20,5,10,10", 0.0),
        ("m5,-10,4,3,0,12", "5,20,10,10", 0.0),
        ("m170,5,4,3,0,12", "20,5,10,10", 0.0),
        ("m5,130,4,3,0,12", "5,20,10,10", 0.0),
        # a frame of pixels around a hole of 2 x 2
        ("m10,20,4,4,0,5,2,2,2,5", "11,21,2,2", 0.0),
        ("m10,20,4,4,0,5,2,2,2,5", "10,20,4,2", 6 / 14),
    ],
)
def test_masks_overlap_where_they_have_pixels(mask, box, expected):
    one, other = parse_region(mask), parse_region(box)
    assert region_overlap(one, other, SIZE) == pytest.approx(expected)
    assert region_overlap(other, one, SIZE) == pytest.approx(expected)


def test_regions_within_one_row_or_column_overlap_fully_as_the_toolkit_counts():
    """Its bounds name the last pixel, so that one row looks to it as if there was none."""
    row, later = parse_region("5,9,4,1"), parse_region("40,9,4,1")
    assert region_overlap(row, later, SIZE) == 1.0
    column, lower = parse_region("5,9,1,4"), parse_region("5,40,1,4")
    assert region_overlap(column, lower, SIZE) == 1.0
    two_rows = parse_region("5,9,4,2")
    assert region_overlap(row, two_rows, SIZE) == 0.5
