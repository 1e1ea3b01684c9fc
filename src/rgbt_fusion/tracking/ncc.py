"""Template matching in both modalities: the tracker without a network that trained ones are
compared with."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_finite_number
from rgbt_fusion.frames.types import Frame, FramePairLike, check_frames
from rgbt_fusion.shapes import check_shape
from rgbt_fusion.tracking.interface import TrackResult, check_boxes, follow

__all__ = ["NCCState", "NCCTracker", "correlation"]


@dataclass(frozen=True)
class NCCState:
    """What the tracker carries from frame to frame: boxes ``(N, 4)``, and each target's template
    per modality."""

    boxes: NDArray[np.float64]
    batched: bool
    templates: tuple[tuple[Tensor | None, Tensor | None], ...]
    corners: NDArray[np.int64]
    """``(N, 2)``, whole pixels: left and top of the part of each box that was inside the first
frame."""
    start: NDArray[np.float64]
    """``(N, 4)``: the boxes of the first frame."""
    frame: int


class NCCTracker:
    r"""Follow a target by normalised cross-correlation with its first appearance, summed over the
    modalities.

    The first box is cut out of both modalities. In each frame it is compared with every place
    around the last box; the place with the largest sum of the two correlations is the new box,
    whose size never changes.

    .. math::
        (x^t, y^t) = \arg\max_{x, y}\ \rho_{rgb}(x, y) + \rho_{tir}(x, y)

    Where the paper is silent: colour is compared as luminance. A missing modality has no part in
    the sum; the confidence is its mean over the modalities that have one, negative ones as 0. Where
    nothing correlates the box stays.

    Args:
        search_factor: side of the searched square over the square root of the target's area.
        lost_threshold: below this confidence the target counts as lost.

    Shape:
        As :class:`~rgbt_fusion.tracking.tracker.Tracker`, whose ``init``, ``update``, ``track`` and
        ``state`` it has.

    Raises:
        ShapeError, TypeError: a frame or box of another shape or type; frames of different sizes.
        ValueError: a setting out of range; a box without size or outside the frame; no modality at
            the first frame.
        RuntimeError: ``update`` comes before ``init``.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.tracking.ncc import NCCTracker
        >>> rgb = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
        >>> tracker = NCCTracker()
        >>> _ = tracker.init(rgb, rgb[:, :, 0], (60, 40, 20, 30))
        >>> moved = np.roll(rgb, (3, -5), axis=(0, 1))
        >>> tracker.update(moved, moved[:, :, 0]).box_xywh_px.tolist()
        [55.0, 43.0, 20.0, 30.0]

    Source:
        Briechle and Hanebeck, "Template matching using fast normalized cross correlation", SPIE
        2001.
    """

    def __init__(self, *, search_factor: float = 4.0, lost_threshold: float = 0.25) -> None:
        self.search_factor = check_finite_number(search_factor, name="search_factor", low=1.0)
        self.lost_threshold = check_finite_number(
            lost_threshold, name="lost_threshold", low=0.0, high=1.0
        )
        self._state: NCCState | None = None

    @property
    def state(self) -> NCCState:
        """All that is carried from frame to frame: keep it, and assign it to go on from there."""
        if self._state is None:
            raise RuntimeError(
                "the tracker has no state yet: call init with the first frame and its box"
            )
        return self._state

    @state.setter
    def state(self, state: NCCState) -> None:
        self._state = state

    def init(
        self, rgb: NDArray[np.uint8] | None, tir: Frame | None, box_xywh_px: ArrayLike
    ) -> TrackResult:
        """Start on a frame; return the boxes that were given, as the result of frame 0."""
        boxes, batched = check_boxes(box_xywh_px)
        height, width = check_frames(rgb, tir)
        planes = _plane(rgb), _plane(tir)
        templates, corners = [], []
        for box in boxes:
            left, top, right, bottom = _inside(box, height, width)
            if right <= left or bottom <= top:
                raise ValueError(
                    f"box_xywh_px must lie in the frame of {width} x {height}, got {box.tolist()}"
                )
            colour, thermal = (
                None if plane is None else plane[top:bottom, left:right] for plane in planes
            )
            templates.append((colour, thermal))
            corners.append((left, top))
        self._state = NCCState(boxes, batched, tuple(templates), np.array(corners), boxes, 0)
        return self._result(np.ones(len(boxes)))

    def update(self, rgb: NDArray[np.uint8] | None, tir: Frame | None) -> TrackResult:
        """Look for the targets in the next frame."""
        state = self.state
        confidences = np.zeros(len(state.boxes))
        boxes = state.boxes.copy()
        if rgb is not None or tir is not None:
            check_frames(rgb, tir)
            planes = _plane(rgb), _plane(tir)
            for number in range(len(boxes)):
                boxes[number], confidences[number] = self._match(state, number, planes)
        self._state = replace(state, boxes=boxes, frame=state.frame + 1)
        return self._result(confidences)

    def track(
        self, source: Iterable[FramePairLike], box_xywh_px: ArrayLike | None = None
    ) -> Iterator[TrackResult]:
        """Follow the target through all frames of ``source``; see :meth:`.Tracker.track`."""
        return follow(self, source, box_xywh_px)

    def _match(
        self, state: NCCState, number: int, planes: tuple[Tensor | None, Tensor | None]
    ) -> tuple[NDArray[np.float64], float]:
        box, start, corner = state.boxes[number], state.start[number], state.corners[number]
        pairs = [
            (template, plane)
            for template, plane in zip(state.templates[number], planes, strict=True)
            if template is not None and plane is not None
        ]
        if not pairs:
            return box, 0.0
        template, plane = pairs[0]
        # where the template would be if the box had not moved, in whole pixels
        inset = corner - start[:2]
        x0, x1 = self._range(box, 0, inset[0], template.shape[1], plane.shape[1])
        y0, y1 = self._range(box, 1, inset[1], template.shape[0], plane.shape[0])
        if x1 - x0 < template.shape[1] or y1 - y0 < template.shape[0]:
            return box, 0.0
        responses = torch.stack([correlation(one, other[y0:y1, x0:x1]) for one, other in pairs])
        response = responses.mean(0)
        best = int(response.argmax())
        score = float(response.flatten()[best])
        if score <= 0:
            return box, 0.0
        place = np.array(
            (x0 + best % response.shape[1], y0 + best // response.shape[1]), dtype=np.float64
        )
        return np.concatenate((place - inset, start[2:])), score

    def _range(
        self, box: NDArray[np.float64], axis: int, inset: float, length: int, limit: int
    ) -> tuple[int, int]:
        """Return the first and the last pixel to search along one axis."""
        reach = max(0.0, (sqrt(box[2] * box[3]) * self.search_factor - length) / 2)
        at = box[axis] + inset
        low = min(max(round(at - reach), 0), max(limit - length, 0))
        return low, max(min(round(at + reach) + length, limit), min(low + length, limit))

    def _result(self, confidences: NDArray[np.float64]) -> TrackResult:
        return TrackResult.of(self.state, confidences, self.lost_threshold)


def correlation(template: Tensor, search: Tensor) -> Tensor:
    r"""Return the normalised cross-correlation of a template with every place of a larger image.

    .. math::
        \rho(x, y) = \frac{\sum (T - \bar T)(I_{xy} - \bar I_{xy})}
            {\sqrt{\sum (T - \bar T)^2 \sum (I_{xy} - \bar I_{xy})^2}}

    Where the paper is silent: it is 0 where template or image has no contrast.

    Args:
        template: what to look for.
        search: where to look.

    Shape:
        ``(h, w)`` and ``(H, W)``, at least as large, to ``(H - h + 1, W - w + 1)``, float64, in
        [-1, 1].

    Raises:
        ShapeError: another number of axes, or the template is larger than the image.

    Example:
        >>> import torch
        >>> from rgbt_fusion.tracking.ncc import correlation
        >>> image = torch.arange(30.0).view(5, 6).sin()
        >>> divmod(int(correlation(image[1:3, 2:5], image).argmax()), 4)
        (1, 2)
    """
    height, width = check_shape(template, "H W", name="template").values()
    rows, columns = check_shape(search, "H W", name="search").values()
    if height > rows or width > columns:
        raise ShapeError(
            f"template must be at most as large as search {(rows, columns)}, got {(height, width)}"
        )
    template, search = template.double(), search.double()
    # the mean of the whole image changes nothing, and taking it away keeps the sums of squares
    # exact
    template, search = template - template.mean(), search - search.mean()
    spectrum = torch.fft.rfft2(search) * torch.fft.rfft2(template, s=(rows, columns)).conj()
    product = torch.fft.irfft2(spectrum, s=(rows, columns))[
        : rows - height + 1, : columns - width + 1
    ]
    count = height * width
    energy = (
        _window_sums(search**2, height, width) - _window_sums(search, height, width) ** 2 / count
    )
    # grey levels are whole numbers: less contrast than this is the rounding of the sums
    contrast = (energy > 1e-6 * count) & ((template**2).sum() > 1e-6 * count)
    scale = torch.where(contrast, energy * (template**2).sum(), 1.0).sqrt()
    return torch.where(contrast, product / scale, 0.0).clamp(-1, 1)


def _window_sums(image: Tensor, height: int, width: int) -> Tensor:
    table = torch.nn.functional.pad(image.cumsum(0).cumsum(1), (1, 0, 1, 0))
    return (
        table[height:, width:]
        - table[:-height, width:]
        - table[height:, :-width]
        + table[:-height, :-width]
    )


def _inside(box: NDArray[np.float64], height: int, width: int) -> tuple[int, int, int, int]:
    left, top = round(box[0]), round(box[1])
    right, bottom = left + max(1, round(box[2])), top + max(1, round(box[3]))
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _plane(frame: Frame | None) -> Tensor | None:
    """Return the luminance ``(H, W)``."""
    if frame is None:
        return None
    pixels = torch.from_numpy(frame.astype(np.float32))
    if pixels.dim() == 2:
        return pixels
    return pixels @ torch.tensor((0.299, 0.587, 0.114)) if pixels.shape[2] == 3 else pixels[:, :, 0]
