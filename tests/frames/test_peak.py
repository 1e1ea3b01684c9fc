"""The top of a parabola through three values."""

import numpy as np
import pytest

from rgbt_fusion.frames.peak import vertex


@pytest.mark.parametrize("top", [2.6, 3.0, 3.4])
def test_the_top_of_a_parabola_is_found_between_its_values(top):
    values = 5 - 0.3 * (np.arange(7) - top) ** 2
    assert 3 + vertex(values, 3) == pytest.approx(top)


def test_a_maximum_at_an_end_and_a_flat_one_stay():
    rising = np.array([1.0, 2.0, 3.0])
    assert (vertex(rising, 2), vertex(rising[::-1], 0)) == (0.0, 0.0)
    assert vertex(np.ones(3), 1) == 0.0
