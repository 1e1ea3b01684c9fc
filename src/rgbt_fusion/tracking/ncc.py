"""Template matching in both modalities: the baseline without a network."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_finite_number
from rgbt_fusion.frames.types import Frame, FramePairLike, check_frames
from rgbt_fusion.shapes import check_shape
from rgbt_fusion.tracking.interface import TrackResult, check_boxes, follow

__all__ = ["NCCState", "NCCTracker", "Planes", "correlation"]

LUMINANCE = (0.299, 0.587, 0.114)

LEAST_CONTRAST = 1e-6
"""Variance of grey levels per pixel; less is the rounding of sums of whole numbers."""


class Planes(NamedTuple):
    """A plane of each modality, ``(H, W)``; None for a missing one."""

    rgb: Tensor | None
    tir: Tensor | None


@dataclass(frozen=True)
class NCCState:
    """What the tracker carries from frame to frame; it is never changed in place."""

    boxes: NDArray[np.float64]
    """``(N, 4)``: the last boxes."""
    batched: bool
    """Whether the caller asked for a batch."""
    templates: tuple[Planes, ...]
    """The part of the first frame in each box."""
    corners: NDArray[np.int64]
    """``(N, 2)``: left and top, in whole pixels, of the part of each box inside the first frame."""
    start: NDArray[np.float64]
    """``(N, 4)``: the boxes of the first frame."""
    frame: int


class NCCTracker:
    r"""Follow a target by the normalised cross-correlation with its first appearance.

    The first box is cut out of both modalities. In each frame it is compared with every place
    around the last box. The place with the largest sum of the two correlations is the new box. Its
    size never changes.

    .. math::
        (x^t, y^t) = \arg\max_{x, y}\ \rho_{rgb}(x, y) + \rho_{tir}(x, y)

    Choices: colour is compared as luminance. A missing modality is left out of the sum. The
    confidence is the mean correlation of the modalities that are there, 0 if it is negative. If
    nothing correlates, the box stays.

    Args:
        search_factor: side of the searched square over the square root of the target's area.
        lost_threshold: below this confidence the target counts as lost.

    Shape:
        - ``init``, ``update`` and ``track``: as :class:`~rgbt_fusion.tracking.tracker.Tracker`

    Raises:
        TypeError: a frame is not an array of such numbers.
        ShapeError: a frame or ``box_xywh_px`` has another shape, or the frames differ in size.
        ValueError: ``search_factor`` or ``lost_threshold`` is out of range, ``box_xywh_px`` has no
            size or lies outside the frame, or the first frame lacks both modalities.
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
        """All that is carried from frame to frame.

        Keep it and assign it later to continue from there.
        """
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
        """Start on a frame; return the given boxes as the result of frame 0."""
        height, width = check_frames(rgb, tir)
        boxes, batched = check_boxes(box_xywh_px, (height, width))
        planes = Planes(_luminance(rgb), _luminance(tir))
        templates = []
        corners = []
        for box in boxes:
            left, top, right, bottom = _part_inside(box, height, width)
            if right <= left or bottom <= top:
                raise ValueError(
                    f"box_xywh_px must lie in the frame of {width} x {height}, got {box.tolist()}"
                )
            templates.append(_window(planes, slice(top, bottom), slice(left, right)))
            corners.append((left, top))
        self._state = NCCState(
            boxes=boxes,
            batched=batched,
            templates=tuple(templates),
            corners=np.array(corners),
            start=boxes,
            frame=0,
        )
        return self._result(np.ones(len(boxes)))

    def update(self, rgb: NDArray[np.uint8] | None, tir: Frame | None) -> TrackResult:
        """Look for the targets in the next frame."""
        state = self.state
        boxes = state.boxes.copy()
        confidences = np.zeros(len(boxes))
        if rgb is not None or tir is not None:
            check_frames(rgb, tir)
            planes = Planes(_luminance(rgb), _luminance(tir))
            for target in range(len(boxes)):
                boxes[target], confidences[target] = self._match(state, target, planes)
        self._state = replace(state, boxes=boxes, frame=state.frame + 1)
        return self._result(confidences)

    def track(
        self, source: Iterable[FramePairLike], box_xywh_px: ArrayLike | None = None
    ) -> Iterator[TrackResult]:
        """Follow the targets through all frames of ``source``; see :meth:`.Tracker.track`."""
        return follow(self, source, box_xywh_px)

    def _match(
        self, state: NCCState, target: int, planes: Planes
    ) -> tuple[NDArray[np.float64], float]:
        """Return one target's new box and its confidence."""
        box = state.boxes[target]
        start = state.start[target]
        pairs = present_in_both(state.templates[target], planes)
        if not pairs:
            return box, 0.0
        template, plane = pairs[0]
        height, width = template.shape
        # the template may begin inside the first box, of which a part was outside the frame
        inset_x, inset_y = state.corners[target] - start[:2]
        reach = sqrt(box[2] * box[3]) * self.search_factor
        x0, x1 = _search_range(box[0] + inset_x, width, reach, plane.shape[1])
        y0, y1 = _search_range(box[1] + inset_y, height, reach, plane.shape[0])
        if x1 - x0 < width or y1 - y0 < height:
            return box, 0.0

        responses = [correlation(template, plane[y0:y1, x0:x1]) for template, plane in pairs]
        response = torch.stack(responses).mean(0)
        best = int(response.argmax())
        score = float(response.flatten()[best])
        if score <= 0:
            return box, 0.0
        row, column = divmod(best, response.shape[1])
        corner = np.array((x0 + column - inset_x, y0 + row - inset_y))
        return np.concatenate((corner, start[2:])), score

    def _result(self, confidences: NDArray[np.float64]) -> TrackResult:
        return TrackResult.of(self.state, confidences, confidences < self.lost_threshold)


def correlation(template: Tensor, search: Tensor) -> Tensor:
    r"""Return the normalised cross-correlation of a template with every place of a larger image.

    .. math::
        \rho(x, y) = \frac{\sum (T - \bar T)(I_{xy} - \bar I_{xy})}
            {\sqrt{\sum (T - \bar T)^2 \sum (I_{xy} - \bar I_{xy})^2}}

    Choices: it is 0 if the template, or the image at this place, has no contrast.

    Args:
        template: what to look for.
        search: where to look.

    Shape:
        - template: ``(h, w)``
        - search: ``(H, W)``, at least as large
        - returns ``(H - h + 1, W - w + 1)``, float64, in [-1, 1]

    Raises:
        ShapeError: ``template`` or ``search`` is not a plane, or ``template`` is the larger one.

    Example:
        >>> import torch
        >>> from rgbt_fusion.tracking.ncc import correlation
        >>> image = torch.arange(30.0).view(5, 6).sin()
        >>> response = correlation(image[1:3, 2:5], image)
        >>> response.shape, divmod(int(response.argmax()), response.shape[1])
        (torch.Size([4, 4]), (1, 2))
    """
    height, width = check_shape(template, "H W", name="template").values()
    rows, columns = check_shape(search, "H W", name="search").values()
    if height > rows or width > columns:
        raise ShapeError(
            f"template must be at most as large as search {(rows, columns)}, got {(height, width)}"
        )
    # the mean of the whole image changes nothing, and without it the sums of squares are exact
    template = template.double() - template.double().mean()
    search = search.double() - search.double().mean()

    spectrum = torch.fft.rfft2(search) * torch.fft.rfft2(template, s=(rows, columns)).conj()
    product = torch.fft.irfft2(spectrum, s=(rows, columns))
    product = product[: rows - height + 1, : columns - width + 1]

    count = height * width
    sums = _window_sums(search, height, width)
    energy = _window_sums(search**2, height, width) - sums**2 / count
    template_energy = (template**2).sum()

    least = LEAST_CONTRAST * count
    has_contrast = (energy > least) & (template_energy > least)
    scale = torch.where(has_contrast, energy * template_energy, 1.0).sqrt()
    return torch.where(has_contrast, product / scale, 0.0).clamp(-1, 1)


def _window_sums(image: Tensor, height: int, width: int) -> Tensor:
    """Return the sum over every window of an image, from its summed-area table."""
    table = torch.nn.functional.pad(image.cumsum(0).cumsum(1), (1, 0, 1, 0))
    lower_right = table[height:, width:]
    upper_right = table[:-height, width:]
    lower_left = table[height:, :-width]
    upper_left = table[:-height, :-width]
    return lower_right - upper_right - lower_left + upper_left


def _search_range(at: float, length: int, reach: float, limit: int) -> tuple[int, int]:
    """Return the first pixel to search along one axis, and the one after the last.

    ``at`` is where the template, ``length`` pixels long, would be if the target had not moved.
    """
    margin = max(0.0, (reach - length) / 2)
    last_start = max(limit - length, 0)
    first = min(max(round(at - margin), 0), last_start)
    end = min(round(at + margin) + length, limit)
    shortest_end = min(first + length, limit)
    return first, max(end, shortest_end)


def _part_inside(box: NDArray[np.float64], height: int, width: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a box in whole pixels, cut off at the frame."""
    left = round(box[0])
    top = round(box[1])
    right = left + max(1, round(box[2]))
    bottom = top + max(1, round(box[3]))
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _window(planes: Planes, rows: slice, columns: slice) -> Planes:
    return Planes(
        None if planes.rgb is None else planes.rgb[rows, columns],
        None if planes.tir is None else planes.tir[rows, columns],
    )


def present_in_both(template: Planes, frame: Planes) -> list[tuple[Tensor, Tensor]]:
    """Return template and frame of each modality that both have."""
    return [
        (known, seen)
        for known, seen in zip(template, frame, strict=True)
        if known is not None and seen is not None
    ]


def _luminance(frame: Frame | None) -> Tensor | None:
    """Return the luminance ``(H, W)``."""
    if frame is None:
        return None
    pixels = torch.from_numpy(np.nan_to_num(frame.astype(np.float32)))
    if pixels.dim() == 2:
        return pixels
    if pixels.shape[2] == 3:
        return pixels @ torch.tensor(LUMINANCE)
    return pixels[:, :, 0]
