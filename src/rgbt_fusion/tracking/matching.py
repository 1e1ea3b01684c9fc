"""Where exactly a box lies: moved to the place that looks most like the target so far.

A network with cells of 16 pixels says well which object is the target, and less well to a pixel
where it is. Template matching is the other way round.

One target at a time, nothing remembered but what is handed in.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from rgbt_fusion.frames.peak import vertex
from rgbt_fusion.tracking.ncc import Planes, correlation, present_in_both

__all__ = ["View", "first_patterns", "match"]

AROUND = 1.1
"""Sides of a pattern over those of the box: the outline counts, the background hardly."""

SMALLEST_SIDE = 6
"""Sides that a pattern has at least, in pixels of the crop."""

REACH = 0.25
"""How far a box may be moved, as a share of its sides."""

PULL = 5.0
"""What a place loses in likeness for each squared box side that it is off."""

LEAST_LIKENESS = 0.4
"""A place that looks less like the pattern moves nothing."""

RENEWAL = 0.1
"""Share of a pattern that comes from the newest frame."""


class View(NamedTuple):
    """A crop of both modalities, and where it lies in the image."""

    planes: Planes
    """``(S, S)`` each, on the CPU."""
    corner_px: tuple[float, float]
    """Left and top of the crop in the image."""
    scale: float
    """Pixels of the crop for one of the image."""

    def place(
        self, box_xywh_px: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return centre and sides of a box in pixels of the crop, ``(2,)`` each."""
        sides = box_xywh_px[2:]
        centre = box_xywh_px[:2] + sides / 2 - self.corner_px
        return self.scale * centre, self.scale * sides


def first_patterns(view: View, box_xywh_px: NDArray[np.float64]) -> Planes:
    """Return what a target looks like: what is in its box and a little around it.

    Args:
        view: the crop that shows the target.
        box_xywh_px: left, top, width, height in the image, ``(4,)``.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from rgbt_fusion.tracking.matching import View, first_patterns
        >>> from rgbt_fusion.tracking.ncc import Planes
        >>> view = View(Planes(torch.zeros(64, 64), None), (100.0, 50.0), 2.0)
        >>> rgb, tir = first_patterns(view, np.array([110.0, 60.0, 10.0, 10.0]))
        >>> rgb.shape, tir
        (torch.Size([22, 22]), None)
    """
    centre, sides = view.place(box_xywh_px)
    width, height = _pattern_size(sides)
    return Planes(
        *(None if plane is None else _cut(plane, centre, width, height) for plane in view.planes)
    )


def match(
    view: View, box_xywh_px: NDArray[np.float64], patterns: Planes, share: float
) -> tuple[NDArray[np.float64], Planes]:
    r"""Return a box that was moved to where its target looks most like before, and new patterns.

    .. math::
        d^* = \arg\max_d\ \frac{1}{|M|} \sum_{m \in M} \mathrm{ncc}(p_m, x_m)(d)
        - 5 \Big(\frac{d_x^2}{w^2} + \frac{d_y^2}{h^2}\Big), \qquad
        p_m \leftarrow 0.9\,p_m + 0.1\,x_m(d^*)

    :math:`M` are the modalities that are shown and known, and :math:`d` reaches a quarter of the
    box. Pixels are interpolated, and so is the place of the maximum.

    Choices: with a likeness below 0.4 there, the box and the patterns stay as they are. A modality
    that was not known is cut at the new place.

    Args:
        view: the crop that the network saw.
        box_xywh_px: where it says that the target is, ``(4,)``.
        patterns: what the target looked like; None for a modality that is not known yet.
        share: how much of the way to go, from 0 to 1.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from rgbt_fusion.tracking.matching import View, first_patterns, match
        >>> from rgbt_fusion.tracking.ncc import Planes
        >>> plane = torch.zeros(64, 64)
        >>> plane[20:40, 24:34] = 200.0
        >>> view = View(Planes(None, plane), (0.0, 0.0), 1.0)
        >>> patterns = first_patterns(view, np.array([24.0, 20.0, 10.0, 20.0]))
        >>> box, _ = match(view, np.array([25.0, 22.0, 10.0, 20.0]), patterns, share=1.0)
        >>> box.round().tolist()
        [24.0, 20.0, 10.0, 20.0]
    """
    centre, sides = view.place(box_xywh_px)
    reach = np.maximum(2, np.rint(REACH * sides)).astype(int)
    seen = [
        _likeness(plane, pattern, centre, reach)
        for pattern, plane in present_in_both(patterns, view.planes)
    ]
    offset = np.zeros(2)
    if seen:
        likeness = np.mean(seen, axis=0)
        found = _best(likeness, reach, sides)
        if found is None:
            return box_xywh_px, patterns
        offset = share * found
    moved = box_xywh_px.copy()
    moved[:2] += offset / view.scale
    renewed = Planes(
        *(
            _renewed(plane, pattern, centre + offset, sides)
            for plane, pattern in zip(view.planes, patterns, strict=True)
        )
    )
    return moved, renewed


def _pattern_size(sides: NDArray[np.float64]) -> tuple[int, int]:
    width, height = np.maximum(SMALLEST_SIDE, np.rint(AROUND * sides)).astype(int).tolist()
    return width, height


def _cut(plane: Tensor, centre: NDArray[np.float64], width: int, height: int) -> Tensor:
    """Return the part of a plane around a point, interpolated; the border goes on outside."""
    rows, columns = plane.shape
    # pixels have their centres half a pixel from their corners
    x = centre[0] - width / 2 + 0.5 + np.arange(width)
    y = centre[1] - height / 2 + 0.5 + np.arange(height)
    grid = np.stack(np.meshgrid(2 * x / columns - 1, 2 * y / rows - 1), axis=-1)
    places = torch.from_numpy(grid).to(plane.dtype)
    found = grid_sample(plane[None, None], places[None], padding_mode="border", align_corners=False)
    return found[0, 0]


def _likeness(
    plane: Tensor, pattern: Tensor, centre: NDArray[np.float64], reach: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the normalised correlation with the pattern at all whole offsets within reach."""
    height, width = pattern.shape
    across, down = reach.tolist()
    around = _cut(plane, centre, width + 2 * across, height + 2 * down)
    return correlation(pattern, around).numpy()


def _best(
    likeness: NDArray[np.float64], reach: NDArray[np.int64], sides: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the best offset, ``(2,)`` in the crop; None if nothing is like the target."""
    across, down = reach.tolist()
    x = np.arange(-across, across + 1)
    y = np.arange(-down, down + 1)[:, None]
    value = likeness - PULL * ((x / sides[0]) ** 2 + (y / sides[1]) ** 2)
    row, column = np.unravel_index(value.argmax(), value.shape)
    if not likeness[row, column] >= LEAST_LIKENESS:
        return None
    return np.array(
        [
            column - across + vertex(value[row], int(column)),
            row - down + vertex(value[:, column], int(row)),
        ]
    )


def _renewed(
    plane: Tensor | None,
    pattern: Tensor | None,
    centre: NDArray[np.float64],
    sides: NDArray[np.float64],
) -> Tensor | None:
    if plane is None:
        return pattern
    if pattern is None:
        return _cut(plane, centre, *_pattern_size(sides))
    height, width = pattern.shape
    newest = _cut(plane, centre, width, height)
    return (1 - RENEWAL) * pattern + RENEWAL * newest
