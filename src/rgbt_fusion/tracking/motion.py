"""Where to look next: ahead of the last box if the target is fast.

Plain arrays, one row per target, nothing remembered but what is handed in.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["look_ahead", "next_steps"]

SLOW = 0.4
"""A target that moves by less than this share of its size in a frame is looked for where it was."""

FARTHEST = 1.5
"""So many sizes ahead one looks at most: a longer step is a mistake, or a cut of the video."""

NEWEST = 0.7
"""Share of the newest step in the running mean."""

FADING = 0.5
"""Share of its step that is left of a lost target in each frame."""

Boxes = NDArray[np.float64]


def look_ahead(
    boxes: Boxes, steps: NDArray[np.float64], share: float, *, image_size: tuple[int, int]
) -> Boxes:
    """Return the boxes to look around: those of fast targets are moved along their last motion.

    A target is fast if it moves by 0.4 sizes in a frame, the size being the root of its area. It is
    looked for at most 1.5 sizes ahead, and never with its centre outside the image.

    Args:
        boxes: the last boxes.
        steps: how far each target moves in a frame, of :func:`next_steps`.
        share: how much of it to move, from 0 to 1.
        image_size: height and width of the image.

    Shape:
        - boxes, returns: ``(N, 4)``: left, top, width, height in pixels
        - steps: ``(N, 2)``: right and down in pixels

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.tracking.motion import look_ahead
        >>> boxes = np.array([[40.0, 40.0, 20.0, 20.0], [40.0, 40.0, 20.0, 20.0]])
        >>> steps = np.array([[16.0, 0.0], [3.0, 0.0]])
        >>> look_ahead(boxes, steps, 0.5, image_size=(240, 320)).tolist()
        [[48.0, 40.0, 20.0, 20.0], [40.0, 40.0, 20.0, 20.0]]
    """
    sizes = np.sqrt(boxes[:, 2:].prod(axis=1, keepdims=True))
    lengths = np.hypot(steps[:, :1], steps[:, 1:])
    is_fast = lengths >= SLOW * sizes
    shortened = np.minimum(1.0, FARTHEST * sizes / np.maximum(lengths, SLOW * sizes))
    ahead = share * steps * np.where(is_fast, shortened, 0.0)
    height, width = image_size
    centres = (_centres(boxes) + ahead).clip((0, 0), (width, height))
    corners = np.where(is_fast, centres - boxes[:, 2:] / 2, boxes[:, :2])
    return np.concatenate((corners, boxes[:, 2:]), axis=1)


def next_steps(
    steps: NDArray[np.float64], before: Boxes, after: Boxes, lost: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return how far each target moves in a frame: a running mean of what it moved.

    The newest step counts 0.7. While a target is lost, half of its step is left in each frame.

    Args:
        steps: the running mean so far.
        before: the last boxes.
        after: the boxes of this frame.
        lost: whether a target is lost in this frame.

    Shape:
        - steps, returns: ``(N, 2)``: right and down in pixels
        - before, after: ``(N, 4)``: left, top, width, height in pixels
        - lost: ``(N,)``

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.tracking.motion import next_steps
        >>> before, after = np.array([[[40.0, 40.0, 20.0, 20.0]], [[50.0, 40.0, 20.0, 20.0]]])
        >>> next_steps(np.zeros((1, 2)), before, after, np.array([False])).tolist()
        [[7.0, 0.0]]
    """
    moved = _centres(after) - _centres(before)
    mean = (1 - NEWEST) * steps + NEWEST * moved
    return np.where(lost[:, None], FADING * steps, mean)


def _centres(boxes: Boxes) -> NDArray[np.float64]:
    return boxes[:, :2] + boxes[:, 2:] / 2
