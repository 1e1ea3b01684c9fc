"""From what the network finds to the box that a tracker keeps: sizes that hold, and lost targets.

Plain arrays, one row per target, nothing remembered but what is handed in.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from rgbt_fusion.boxes import clip_xywh
from rgbt_fusion.models.tracking_settings import TrackingSettings

__all__ = ["are_lost", "first_size_errors", "settle"]

MOST_SIZE_ERROR = 2.0
"""A size that is wrong by a larger factor is that of something else."""

Boxes = NDArray[np.float64]


def first_size_errors(given: Boxes, found: Boxes) -> Boxes:
    """Return by which factor the network is wrong about the sizes in the first frame.

    Args:
        given: the boxes that the tracker was given.
        found: what the network makes of the same frame.

    Shape:
        - given, found: ``(N, 4)``: left, top, width, height in pixels
        - returns ``(N, 2)``: width and height, within a factor of 2

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.tracking.settle import first_size_errors
        >>> given = np.array([[40.0, 40.0, 20.0, 40.0]])
        >>> first_size_errors(given, np.array([[39.0, 40.0, 25.0, 90.0]])).tolist()
        [[1.25, 2.0]]
    """
    return (found[:, 2:] / given[:, 2:]).clip(1 / MOST_SIZE_ERROR, MOST_SIZE_ERROR)


def are_lost(
    confidences: NDArray[np.float64], before: NDArray[np.bool_], settings: TrackingSettings
) -> NDArray[np.bool_]:
    """Return which targets are lost.

    Args:
        confidences: how sure each is.
        before: whether each was lost in the last frame.
        settings: the confidence below which a target is lost, and that from which on a lost one is
            found again; the higher of both.

    Shape:
        - confidences, before, returns: ``(N,)``

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.models.tracking_settings import TrackingSettings
        >>> from rgbt_fusion.tracking.settle import are_lost
        >>> settings = TrackingSettings(lost_threshold=0.3, found_threshold=0.9)
        >>> are_lost(np.array([0.2, 0.6, 0.6]), np.array([False, False, True]), settings).tolist()
        [True, False, True]
    """
    found_from = max(settings.lost_threshold, settings.found_threshold)
    return confidences < np.where(before, found_from, settings.lost_threshold)


def settle(
    found: Boxes,
    confidences: NDArray[np.float64],
    before: Boxes,
    settings: TrackingSettings,
    *,
    image_size: tuple[int, int],
    size_errors: Boxes | None = None,
) -> Boxes:
    r"""Return the boxes that a tracker keeps.

    Sizes that the network says are first divided by a part of its error in the first frame. Then
    size and aspect move a share of the way to them, a side by no more than a factor, around the
    centre that the network says. The box of a lost target stays, if the settings say so.

    .. math::
        (w, h) = \Big(\frac{\hat w}{e_w^{\kappa}}, \frac{\hat h}{e_h^{\kappa}}\Big), \qquad
        \log w^t h^t = \eta \log w^{t-1} h^{t-1} + (1 - \eta) \log w h, \qquad
        \log \frac{w^t}{h^t} = \alpha \log \frac{w^{t-1}}{h^{t-1}} + (1 - \alpha) \log \frac{w}{h}

    Args:
        found: what the network says, not clipped.
        confidences: how sure each is.
        before: the last boxes.
        settings: how much each rule counts: ``size_correction`` is :math:`\kappa`,
            ``size_inertia`` :math:`\eta`, ``aspect_inertia`` :math:`\alpha`.
        image_size: height and width of the image, which boxes are clipped to.
        size_errors: what :func:`first_size_errors` returned, :math:`e`; None is no error.

    Shape:
        - found, before: ``(N, 4)``: left, top, width, height in pixels
        - confidences: ``(N,)``
        - size_errors: ``(N, 2)``
        - returns ``(N, 4)``

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.models.tracking_settings import TrackingSettings
        >>> from rgbt_fusion.tracking.settle import settle
        >>> before = np.array([[40.0, 40.0, 20.0, 40.0]])
        >>> found = np.array([[30.0, 30.0, 80.0, 40.0]])
        >>> half = TrackingSettings(size_inertia=0.5, aspect_inertia=0.5)
        >>> settle(found, np.ones(1), before, half, image_size=(240, 320)).round(6).tolist()
        [[50.0, 30.0, 40.0, 40.0]]
    """
    sizes = found[:, 2:]
    if settings.size_correction and size_errors is not None:
        sizes = sizes / size_errors**settings.size_correction
    sizes = _held(sizes, before[:, 2:], settings)
    corners = found[:, :2] + (found[:, 2:] - sizes) / 2
    boxes = np.concatenate((corners, sizes), axis=1)
    boxes = _clipped(boxes, image_size, settings.smallest_px)
    is_unsure = confidences < settings.hold_below
    return np.where(is_unsure[:, None], before, boxes)


def _held(sizes: Boxes, before: Boxes, settings: TrackingSettings) -> Boxes:
    """Return widths and heights ``(N, 2)`` after inertia and the bound."""
    if settings.size_inertia or settings.aspect_inertia:
        # a network from elsewhere may say that a target has no size
        change = np.log(np.maximum(sizes, 1.0) / before)
        of_size = change.mean(axis=1, keepdims=True)
        of_aspect = change - of_size
        kept = (1 - settings.size_inertia) * of_size + (1 - settings.aspect_inertia) * of_aspect
        sizes = before * np.exp(kept)
    if settings.size_growth != np.inf:
        sizes = sizes.clip(before / settings.size_growth, before * settings.size_growth)
    return sizes


def _clipped(boxes: Boxes, image_size: tuple[int, int], smallest_px: float) -> Boxes:
    height, width = image_size
    margin = min(smallest_px, height, width)
    clipped = clip_xywh(torch.from_numpy(boxes), height=height, width=width, margin=margin)
    return clipped.numpy()
