"""A maximum between the places at which a curve was measured."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["vertex"]


def vertex(values: NDArray[np.floating], peak: int) -> float:
    r"""Return where the parabola through a maximum and its neighbours is highest, from it.

    .. math::
        \delta = \frac{v_{-1} - v_{1}}{2\,(v_{-1} - 2 v_0 + v_1)}

    Choices: it is 0 at either end of the curve, and where the three values do not bend down.

    Args:
        values: the curve.
        peak: index of its maximum.

    Shape:
        - values: ``(N,)``

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.peak import vertex
        >>> x = np.arange(5)
        >>> round(vertex(-((x - 2.25) ** 2), 2), 2)
        0.25
    """
    if not 0 < peak < len(values) - 1:
        return 0.0
    before, top, after = values[peak - 1 : peak + 2].tolist()
    bend = before - 2 * top + after
    if bend >= 0:
        return 0.0
    return 0.5 * (before - after) / bend
