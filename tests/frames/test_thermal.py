"""Scaling of 16-bit frames."""

import numpy as np
import pytest

from rgbt_fusion.frames.thermal import scale_thermal, thermal_range


def test_the_range_is_that_of_percentiles_one_and_ninety_nine():
    frame = np.random.default_rng(0).permutation(10_001).reshape(73, 137).astype(np.uint16)
    assert thermal_range(frame) == (100.0, 9900.0)


def test_values_beyond_the_limits_are_clipped():
    scaled = scale_thermal(np.array([0, 100, 150, 200, 65_535], dtype=np.uint16), (100.0, 200.0))
    assert scaled.tolist() == [0, 0, 127.5, 255, 255]
    assert scaled.dtype == np.float32


@pytest.mark.parametrize("limits", [(2.0, 1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_limits_that_are_none_are_refused(limits):
    with pytest.raises(ValueError, match="limits must be two finite numbers in order"):
        scale_thermal(np.zeros((2, 2), dtype=np.uint16), limits)
