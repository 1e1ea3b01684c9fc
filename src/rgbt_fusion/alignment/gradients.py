"""What two modalities share: where edges are and how they lie, not how bright or how strong.

An edge is often dark on bright in colour and bright on dark in heat. Both descriptions here take a
gradient and its opposite for the same.
"""

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.thermal import scale_thermal, thermal_range
from rgbt_fusion.frames.types import Frame

__all__ = [
    "CHANNELS",
    "Field",
    "Plane",
    "doubled_angle_field",
    "grey",
    "oriented_channels",
]

Plane = NDArray[np.float32]
"""``(H, W)``: one number per pixel."""

Field = NDArray[np.float32]
"""``(H, W, C)``: a vector per pixel."""

CHANNELS = 4
"""Orientations of :func:`oriented_channels`; OpenCV warps up to four channels at once."""

SIGMA = 0.8
"""Blur of the image before the gradient, in pixels."""

SPREAD = 1.5
"""Blur of the description, in pixels: edges of two modalities are rarely at the same pixel."""


def grey(frame: Frame) -> Plane:
    """Return a frame of either modality as one plane of 0 to 255.

    Args:
        frame: colour, or thermal of 8 or 16 bits; 16 bits are scaled by percentiles 1 and 99.
    """
    cv2 = load_cv2()
    if frame.ndim == 3 and frame.shape[2] == 1:
        frame = frame[:, :, 0]
    if frame.dtype == np.uint16:
        frame = scale_thermal(frame, thermal_range(frame))  # pyright: ignore[reportAssignmentType]
    plane = np.ascontiguousarray(frame, dtype=np.float32)
    if plane.ndim == 3:
        plane = cv2.cvtColor(plane, cv2.COLOR_RGB2GRAY)
    return plane


def doubled_angle_field(plane: Plane) -> Field:
    r"""Return the normalised gradient with its angle doubled, so that opposite gradients agree.

    Edges of all strengths count alike, above a level set by the noise of the image.

    .. math::
        f = G_{1.5} * \frac{(g_x^2 - g_y^2,\ 2 g_x g_y)}{g_x^2 + g_y^2 + \epsilon}, \qquad
        \epsilon = \mathrm{median}\,|g|^2 + 0.1\,\mathrm{mean}\,|g|^2

    Args:
        plane: the image.

    Shape:
        - plane: ``(H, W)``
        - returns ``(H, W, 2)``

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.alignment.gradients import doubled_angle_field
        >>> edge = np.zeros((32, 32), dtype=np.float32)
        >>> edge[:, 16:] = 255
        >>> hot = doubled_angle_field(edge)
        >>> cold = doubled_angle_field(255 - edge)
        >>> bool(np.allclose(hot, cold, atol=1e-5))
        True

    Source:
        Haber and Modersitzki, "Intensity Gradient Based Registration and Fusion of Multi-modal
        Images", MICCAI 2006 (the normalised field); Granlund, "In Search of a General Picture
        Processing Operator", 1978 (the doubled angle).
    """
    cv2 = load_cv2()
    across, down = _gradient(plane)
    strength = across * across + down * down
    noise = float(np.median(strength)) + 0.1 * float(strength.mean()) + 1e-3
    weight = 1 / (strength + noise)
    field = np.dstack(((across * across - down * down) * weight, 2 * across * down * weight))
    return cv2.GaussianBlur(field, (0, 0), SPREAD)


def oriented_channels(plane: Plane) -> Field:
    r"""Return how strong the edges of each orientation are around each pixel.

    .. math::
        c_k = G_{1.5} * |g_x \cos\theta_k + g_y \sin\theta_k|, \qquad
        d = \frac{c - \bar c}{\sqrt{\|c - \bar c\|^2 + \epsilon^2}}, \qquad
        \epsilon = 2\,\mathrm{median}\,\|c - \bar c\| + 0.3\,\mathrm{mean}\,\|c - \bar c\|

    Paper and code: the paper has nine orientations and blurs across them; four without a blur
    register as well here. The mean over the orientations is taken off, so that an even texture
    counts as nothing. Half of the image is taken for noise, as it is at night: what does not stand
    out of it counts little.

    Args:
        plane: the image.

    Shape:
        - plane: ``(H, W)``
        - returns ``(H, W, 4)``; a vector is at most 1 long

    Source:
        Ye et al., "Fast and Robust Matching for Multimodal Remote Sensing Image Registration",
        IEEE TGRS 2019, section III.
    """
    cv2 = load_cv2()
    across, down = _gradient(plane)
    channels = np.empty((*plane.shape, CHANNELS), dtype=np.float32)
    for number in range(CHANNELS):
        angle = number * np.pi / CHANNELS
        along = np.cos(angle) * across + np.sin(angle) * down
        channels[:, :, number] = np.abs(along)
    channels = cv2.GaussianBlur(channels, (0, 0), SPREAD)
    channels -= channels.mean(axis=2, keepdims=True)
    strength = np.sqrt(np.einsum("hwc,hwc->hw", channels, channels))
    noise = 2 * float(np.median(strength)) + 0.3 * float(strength.mean()) + 1e-3
    return channels / np.sqrt(strength * strength + noise * noise)[:, :, None]


def _gradient(plane: Plane) -> tuple[Plane, Plane]:
    cv2 = load_cv2()
    soft = cv2.GaussianBlur(plane, (0, 0), SIGMA)
    # the weights of Scharr's kernel add up to 16
    across = cv2.Scharr(soft, -1, 1, 0, scale=1 / 16)
    down = cv2.Scharr(soft, -1, 0, 1, scale=1 / 16)
    return across, down
