"""What counts as a pair of frames."""

import numpy as np
import pytest

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.types import check_frames

RGB = np.zeros((6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (6, 8, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pairs_of_every_kind_pass(shape, dtype):
    tir = np.zeros(shape, dtype=dtype)
    assert check_frames(RGB, tir) == (6, 8)
    assert check_frames(None, tir) == (6, 8)
    assert check_frames(RGB, None) == (6, 8)


def test_cameras_that_are_not_aligned_may_differ_in_size():
    tir = np.zeros((3, 4), dtype=np.uint8)
    assert check_frames(RGB, tir, aligned=False) == (6, 8)
    with pytest.raises(ShapeError, match=r"tir must have the height and width of rgb \(6, 8\)"):
        check_frames(RGB, tir)


@pytest.mark.parametrize(
    ("rgb", "tir", "error", "message"),
    [
        (None, None, ValueError, "rgb and tir must not both be missing, got None and None"),
        ([[1]], None, TypeError, "rgb must be a numpy array of uint8, got list"),
        (RGB.astype(float), None, TypeError, "rgb must be a numpy array of uint8, got float64"),
        (RGB[:, :, 0], None, ShapeError, "rgb must have shape (H, W, 3), got (6, 8)"),
        (RGB[:0], None, ShapeError, "rgb must have shape (H, W, 3), got (0, 8, 3)"),
        (
            None,
            1.0,
            TypeError,
            "tir must be a numpy array of uint8 or uint16 or float32, got float",
        ),
        (
            None,
            RGB[:, :, :2],
            ShapeError,
            "tir must have shape (H, W), (H, W, 1) or (H, W, 3), got (6, 8, 2)",
        ),
    ],
)
def test_what_is_wrong_is_named(rgb, tir, error, message):
    with pytest.raises(error) as raised:
        check_frames(rgb, tir)
    assert str(raised.value) == message
