"""A picture that shows at a glance whether two recordings lie on each other."""

import cv2
import numpy as np
import pytest

from alignment_material import known_matrix, two_views
from rgbt_fusion.alignment.estimate import Alignment
from rgbt_fusion.alignment.preview import CYAN, ORANGE, WHITE, draw_preview, write_preview


def alignment(matrix):
    return Alignment(matrix, 0.0, 0.9, True, 0.3, 0.8, "")


def count(sheet, colour):
    edges = sheet[30:, 480:]
    return int((edges == colour).all(axis=2).sum())


def test_edges_lie_on_each_other_where_the_matrix_is_right():
    pair = two_views(1, known_matrix())
    right = draw_preview([pair, pair], alignment(known_matrix()))
    wrong = draw_preview([pair, pair], alignment(np.eye(3)))
    assert right.shape == (748, 960, 3)
    assert count(right, WHITE) > 3 * count(wrong, WHITE)
    assert count(wrong, ORANGE) > 100
    # the legend names the colours of the edges
    legend = right[:28, 600:]
    assert (legend == CYAN).all(axis=2).any()
    assert (legend == ORANGE).all(axis=2).any()


def test_the_sheet_is_written_whole(tmp_path):
    write_preview(tmp_path / "sheet.png", [two_views(1, np.eye(3))], alignment(np.eye(3)))
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (388, 960, 3)


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.png"):
        write_preview(tmp_path / "sheet.gif", [two_views(1, np.eye(3))], alignment(np.eye(3)))
