"""A thermal sequence, painted."""

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")

import cv2

from benchmarks.false_colour import draw_curves, paint, paint_sequence
from rgbt_fusion.data.sequences import open_dataset

BOXES = [[20, 30, 12, 30], [24, 30, 12, 30]]


@pytest.fixture
def walker(tmp_path):
    """Two frames of somebody warm before a cold wall."""
    folder = tmp_path / "thermal" / "walker"
    (folder / "img").mkdir(parents=True)
    for number, (x, y, width, height) in enumerate(BOXES, 1):
        image = np.full((96, 128), 60, np.uint8)
        image[y : y + height, x : x + width] = 200
        cv2.imwrite(str(folder / "img" / f"{number:04}.jpg"), image)
    np.savetxt(folder / "groundtruth_rect.txt", BOXES, fmt="%g", delimiter=",")
    return folder


def test_looks_differ_from_each_other_and_are_colours():
    for seed in range(40):
        curves = draw_curves(np.random.default_rng(seed))
        assert curves.shape == (256, 3)
        assert curves.min() >= 0 and curves.max() <= 255
        assert np.ptp(curves, axis=1).mean() > 3
        assert np.ptp(curves, axis=0).max() > 40


def test_warm_is_darker_than_cold_in_some_looks_and_lighter_in_others():
    grey = [draw_curves(np.random.default_rng(seed)).mean(axis=1) for seed in range(40)]
    lighter = sum(curve[200] > curve[60] for curve in grey)
    assert 10 < lighter < 30


def test_each_grey_value_gets_its_colour():
    curves = draw_curves(np.random.default_rng(3))
    image = paint(np.full((20, 20), 77, np.uint8), curves, np.zeros((20, 20, 3)))
    assert np.array_equal(image, np.broadcast_to(curves[77].astype(np.uint8), image.shape))


def test_sequences_open_in_their_layouts_with_the_boxes_of_the_thermal_one(walker, tmp_path):
    for look in "01":
        paint_sequence(walker, int(look), tmp_path / "colour" / look, tmp_path / "pairs" / look)
    alone = open_dataset(tmp_path / "colour", "otb100").sequences
    both = open_dataset(tmp_path / "pairs", "rgbt234").sequences
    assert [len(sequence) for sequence in (*alone, *both)] == [2, 2, 2, 2]
    for sequence in (*alone, *both):
        assert sequence.truth.rgb.tolist() == BOXES
    assert both[0].truth.tir.tolist() == BOXES
    thermal = (walker / "img" / "0002.jpg").read_bytes()
    assert (tmp_path / "pairs" / "1" / "infrared" / "0002.jpg").read_bytes() == thermal


def test_a_look_is_the_same_each_time_and_the_other_another(walker, tmp_path):
    images = []
    for number, look in enumerate((0, 0, 1)):
        paint_sequence(walker, look, tmp_path / f"{number}", tmp_path / f"pair{number}")
        images.append((tmp_path / f"{number}" / "img" / "0001.jpg").read_bytes())
    assert images[0] == images[1] != images[2]
