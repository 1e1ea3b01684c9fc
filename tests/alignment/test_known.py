"""Alignments that are told: another resolution of one view, and points in both images."""

import numpy as np
import pytest

from rgbt_fusion.alignment.known import alignment_from_points, fit_source
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.drawing import map_points

SIZE = (640, 480)
TIR_SIZE = (320, 256)
MATRIX = np.array([[0.45, 0.02, 14.0], [-0.015, 0.47, 9.0], [4e-5, -3e-5, 1.0]])
SPREAD = np.array([[40.0, 50], [600, 30], [590, 450], [60, 430], [300, 240], [200, 100]])


def test_points_of_a_known_homography_give_it_back():
    for count in (4, 6):
        seen = SPREAD[:count]
        there = map_points(seen, MATRIX)
        found = alignment_from_points(seen, there, size=SIZE, tir_size=TIR_SIZE)
        np.testing.assert_allclose(found.tir_from_rgb, MATRIX, atol=1e-6)
        assert (found.sure, found.offset_frames) == (True, 0.0)


def test_more_points_average_the_errors_of_the_hand():
    generator = np.random.default_rng(0)
    columns, rows = np.meshgrid(np.linspace(40, 600, 5), np.linspace(40, 440, 4))
    seen = np.stack((columns.ravel(), rows.ravel()), axis=1)
    corners = np.array([[0.0, 0], [640, 0], [640, 480], [0, 480]])
    off = {4: [], 20: []}
    reason = ""
    for _ in range(20):
        there = map_points(seen, MATRIX) + generator.normal(0, 1, seen.shape)
        for count, chosen in ((4, [0, 4, 15, 19]), (20, range(20))):
            found = alignment_from_points(seen[chosen], there[chosen], size=SIZE, tir_size=TIR_SIZE)
            apart = map_points(corners, found.tir_from_rgb) - map_points(corners, MATRIX)
            reason = found.reason
            off[count].append(np.linalg.norm(apart, axis=1).mean())
    assert np.mean(off[20]) < 0.8 * np.mean(off[4]) < 3
    assert "20 pairs of points, off by 1." in reason


def test_the_overlap_is_the_share_of_the_colour_image_that_is_covered():
    seen = np.array([[0.0, 0], [639, 0], [639, 479], [0, 479]])
    # the thermal image shows the left half
    found = alignment_from_points(seen, seen, size=SIZE, tir_size=(320, 480))
    assert abs(found.overlap - 0.5) < 0.01


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (SPREAD[[0, 1, 2, 3]][::-1] * [1, 1], "no view of a place fits them"),
        (SPREAD[[0, 1, 3, 2]], "no view of a place fits them"),
        ([[0, 0], [100, 100], [200, 200], [300, 0]], "no three of the four points"),
        ([[0, 0], [100, 1], [200, 2], [300, 3]], "they lie on a line"),
        ([[np.nan, 0], [100, 1], [200, 2], [300, 3]], "must be finite"),
    ],
)
def test_points_that_were_paired_wrongly_are_refused(there, message):
    with pytest.raises(ValueError, match=message):
        alignment_from_points(SPREAD[:4], there, size=SIZE, tir_size=TIR_SIZE)


def test_the_number_of_points_must_agree():
    with pytest.raises(ShapeError, match="as many as rgb_points_px 4, got 5"):
        alignment_from_points(SPREAD[:4], SPREAD[:5], size=SIZE, tir_size=TIR_SIZE)


def test_a_fit_lays_edges_on_edges_and_says_where_it_stretches():
    rgb = np.zeros((960, 1280, 3), dtype=np.uint8)
    tir = np.zeros((120, 160), dtype=np.uint16)
    found = fit_source([(rgb, None), (rgb, tir)])
    edges = np.array([[-0.5, -0.5], [1279.5, 959.5]])
    np.testing.assert_allclose(
        map_points(edges, found.tir_from_rgb), [[-0.5, -0.5], [159.5, 119.5]]
    )
    assert "stretched" not in found.reason
    assert "stretched" in fit_source([(rgb, tir[:90])]).reason
    with pytest.raises(ValueError, match="a pair of frames of both modalities, got none"):
        fit_source([(rgb, None)])
