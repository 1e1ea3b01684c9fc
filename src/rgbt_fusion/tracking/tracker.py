"""From frame to frame: crop around the last box, ask the network, go back to the image."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_finite_number
from rgbt_fusion.frames.crop import CropPair, crop_pair
from rgbt_fusion.frames.thermal import thermal_range
from rgbt_fusion.frames.types import Frame, FramePairLike, ImagePair
from rgbt_fusion.models.interface import ModelOutput, TemplateTokens, TrackerModel
from rgbt_fusion.tracking.interface import FrameTracker as FrameTracker
from rgbt_fusion.tracking.interface import TrackResult, check_boxes, follow
from rgbt_fusion.tracking.interface import first_box as first_box

__all__ = ["Look", "TrackResult", "Tracker", "TrackerState", "hann_window"]

TEMPLATE_FACTOR = 2.0
"""The side of the template crop over the square root of the target's area, in every tracker of
OSTrack's family."""

MISSING = ("zeros", "other", "last")


@dataclass(frozen=True)
class TrackerState:
    """Everything that a tracker carries from frame to frame; nothing in it is ever changed in
    place.

    ``boxes`` ``(N, 4)``: the last boxes; ``batched``: whether the caller asked for a batch;
    ``template``: its tokens; ``memory``: what the model remembers; ``tir_range``: what scales
    16-bit thermal frames; ``image_size``: height and width of the last colour image; ``last``: the
    last frame of each modality, where the missing policy needs it.
    """

    boxes: NDArray[np.float64]
    batched: bool
    template: TemplateTokens
    memory: Any
    frame: int
    tir_range: tuple[float, float] | None
    image_size: tuple[int, int]
    last: FramePairLike


class Look(NamedTuple):
    """What a tracker saw at its last frame and what the network said, for drawing; see
    :mod:`.panels`."""

    template: TemplateTokens
    search: ImagePair
    memory: Any
    """The model's memory before the frame."""
    output: ModelOutput
    window: Tensor
    box_cxcywh_unit: Tensor


class Tracker:
    r"""Follow one target, or a batch of them, through a video of both modalities with any tracking
    model.

    The template is turned into tokens once. Each frame is cropped around the last box, the network
    scores the crop's cells, the scores are weighed by a window that prefers the middle, and the
    best cell's box goes back to the image.

    .. math::
        b^t = \mathrm{back}\Big(\mathrm{box\ at}\ \arg\max_{i,j}\ (1 - \omega + \omega\, h_i h_j)\, s^t_{ij}\Big),
        \qquad h_k = \tfrac{1}{2}\Big(1 - \cos \frac{2 \pi k}{S + 1}\Big)

    Where the paper is silent: a box without a finite number is not believed, the last one stays. A
    frame that lacks both modalities keeps the box with confidence 0. The template is never renewed.
    Nothing is random; the model's memory is kept here, in ``state``, never in the model.

    Args:
        model: a tracking model; it is put into evaluation mode.
        window_weight: :math:`\omega`, from 0 (no window) to 1 (OSTrack's).
        search_factor: side of the search crop over the square root of the target's area; None takes
            the model's.
        lost_threshold: below this confidence the target counts as lost. Tracking goes on as it
            would have.
        missing: what stands in for a modality that a frame lacks: ``"zeros"`` (the mean image),
            ``"other"`` (the crop of the other modality) or ``"last"`` (the modality's last frame,
            cropped at the present place).
        tir_from_rgb: where the cameras are not aligned: the offset (x, y) in whole pixels, or the
            3x3 homography, that takes a pixel of the colour frame to the thermal frame.
        device: where to move the model; None leaves it where it is.
        dtype: the floating-point type to convert it to; None leaves it.

    Shape:
        ``init`` and ``update``: frames ``(H, W, 3)`` uint8, red first, and ``(H, W)``, ``(H, W,
        1)`` or ``(H, W, 3)`` uint8 or uint16; boxes ``(4,)`` or ``(N, 4)``, left, top, width,
        height in pixels; to :class:`TrackResult`.

    Raises:
        ShapeError: a frame or box of another shape; frames of different sizes without
            ``tir_from_rgb``.
        TypeError: a frame of another type.
        ValueError: a setting out of range; a box without size; no modality at the first frame.
        RuntimeError: ``update`` comes before ``init``.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion import Tracker
        >>> from rgbt_fusion import create_model
        >>> rgb, tir = np.zeros((240, 320, 3), dtype=np.uint8), np.zeros((240, 320), dtype=np.uint16)
        >>> tracker = Tracker(create_model("ainet_tiny_128"))
        >>> tracker.init(rgb, tir, (100, 80, 40, 60)).frame
        0
        >>> result = tracker.update(rgb, None)
        >>> result.box_xywh_px.shape, result.frame
        ((4,), 1)

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022
        (their code).
    """

    def __init__(
        self,
        model: TrackerModel,
        *,
        window_weight: float = 1.0,
        search_factor: float | None = None,
        lost_threshold: float = 0.25,
        missing: str = "zeros",
        tir_from_rgb: ArrayLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.window_weight = check_finite_number(
            window_weight, name="window_weight", low=0.0, high=1.0
        )
        factor = model.search_factor if search_factor is None else search_factor
        self.search_factor = check_finite_number(factor, name="search_factor", low=1.0)
        self.lost_threshold = check_finite_number(
            lost_threshold, name="lost_threshold", low=0.0, high=1.0
        )
        check_choice(missing, MISSING, name="missing")
        self.missing = missing
        self.tir_from_rgb = tir_from_rgb
        self.model = model
        self.device, self.dtype = (
            torch.device("cpu" if device is None else device),
            dtype or torch.float32,
        )
        if isinstance(model, nn.Module):
            model.to(device=device, dtype=dtype).eval()
            parameter = next(model.parameters(), None)
            if parameter is not None:
                self.device, self.dtype = parameter.device, parameter.dtype
        self._state: TrackerState | None = None
        self.last_look: Look | None = None
        """What was seen at the last frame; None before the first ``update``."""

    @property
    def state(self) -> TrackerState:
        """All that is carried from frame to frame: keep it, and assign it to go on from there, here
        or elsewhere."""
        if self._state is None:
            raise RuntimeError(
                "the tracker has no state yet: call init with the first frame and its box"
            )
        return self._state

    @state.setter
    def state(self, state: TrackerState) -> None:
        self._state = state

    def init(
        self, rgb: NDArray[np.uint8] | None, tir: Frame | None, box_xywh_px: ArrayLike
    ) -> TrackResult:
        """Start on a frame; return the boxes that were given, as the result of frame 0."""
        boxes, batched = check_boxes(box_xywh_px)
        tir_range = _range(tir, None)
        crops = self._crop(rgb, tir, boxes, TEMPLATE_FACTOR, self.model.template_size, tir_range)
        with torch.inference_mode():
            template = self.model.embed_template(self._batch(crops, rgb, tir))
        last = self._remember((rgb, tir), (None, None))
        self._state = TrackerState(
            boxes, batched, template, None, 0, tir_range, crops[0].image_size, last
        )
        self.last_look = None
        return TrackResult.of(self._state, np.ones(len(boxes)), self.lost_threshold)

    def update(self, rgb: NDArray[np.uint8] | None, tir: Frame | None) -> TrackResult:
        """Look for the targets in the next frame."""
        state = self.state
        frame, seen = state.frame + 1, (rgb, tir)
        if rgb is None and tir is None:
            self._state = replace(state, frame=frame)
            return TrackResult.of(self._state, np.zeros(len(state.boxes)), self.lost_threshold)
        if self.missing == "last":
            rgb, tir = (
                (state.last[0] if rgb is None else rgb),
                (state.last[1] if tir is None else tir),
            )
        tir_range = _range(tir, state.tir_range)
        crops = self._crop(
            rgb, tir, state.boxes, self.search_factor, self.model.search_size, tir_range
        )
        image_size = (
            state.image_size
            if rgb is None and self.tir_from_rgb is not None
            else crops[0].image_size
        )
        boxes, confidences, memory = self._look(
            state, self._batch(crops, rgb, tir), crops, image_size
        )
        last = self._remember(seen, state.last)
        self._state = TrackerState(
            boxes, state.batched, state.template, memory, frame, tir_range, image_size, last
        )
        return TrackResult.of(self._state, confidences, self.lost_threshold)

    def track(
        self, source: Iterable[FramePairLike], box_xywh_px: ArrayLike | None = None
    ) -> Iterator[TrackResult]:
        """Follow the target through all frames of ``source``, the first included.

        Args:
            source: pairs of frames: a :class:`~rgbt_fusion.data.sequences.Sequence`, a video
                source, any iterable.
            box_xywh_px: the box in the first frame; None takes the annotation that ``source``
                carries.

        Raises:
            ValueError: no box is given and ``source`` carries none.
        """
        return follow(self, source, box_xywh_px)

    def _look(
        self,
        state: TrackerState,
        search: ImagePair,
        crops: list[CropPair],
        image_size: tuple[int, int],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], Any]:
        """Return boxes ``(N, 4)``, confidences ``(N,)`` and the model's memory."""
        with torch.inference_mode():
            output = self.model(state.template, search, state.memory)
            window = _blend(output.score_map.shape[-1], self.window_weight).to(output.score_map)
            found = self.model.decode(output, window)
            best = (output.score_map * window).flatten(1).argmax(1, keepdim=True)
            scores = output.score_map.flatten(1).gather(1, best)
            # one transfer, so that a GPU is waited for once a frame
            rows = torch.cat((found, scores.to(found.dtype)), dim=1).double().cpu()
        self.last_look = Look(state.template, search, state.memory, output, window, found)
        boxes = [
            replace(crop, image_size=image_size).to_image(row[:4])
            for crop, row in zip(crops, rows, strict=True)
        ]
        stacked, confidences = torch.stack(boxes).numpy(), rows[:, 4].numpy()
        believed = np.isfinite(stacked).all(axis=1) & np.isfinite(confidences)
        stacked = np.where(believed[:, None], stacked, state.boxes)
        return stacked, np.where(believed, confidences, 0.0), output.state

    def _crop(
        self,
        rgb: NDArray[np.uint8] | None,
        tir: Frame | None,
        boxes: NDArray[np.float64],
        factor: float,
        size: int,
        tir_range: tuple[float, float] | None,
    ) -> list[CropPair]:
        settings: dict[str, Any] = {"tir_range": tir_range, "tir_from_rgb": self.tir_from_rgb}
        return [crop_pair(rgb, tir, box, factor=factor, size=size, **settings) for box in boxes]

    def _batch(self, crops: list[CropPair], rgb: Any, tir: Any) -> ImagePair:
        """Return the crops as one batch for the model, with the other modality in the place of a
        missing one."""
        images = [crop.images for crop in crops]
        colour = torch.cat([image.rgb for image in images]) if len(images) > 1 else images[0].rgb
        thermal = torch.cat([image.tir for image in images]) if len(images) > 1 else images[0].tir
        if self.missing == "other":
            colour, thermal = thermal if rgb is None else colour, colour if tir is None else thermal
        return ImagePair(
            *(image.to(device=self.device, dtype=self.dtype) for image in (colour, thermal))
        )

    def _remember(self, seen: FramePairLike, last: FramePairLike) -> FramePairLike:
        if self.missing != "last":
            return None, None
        # copies: a video reader may fill the same buffer again
        rgb, tir = (None if frame is None else frame.copy() for frame in seen)
        return last[0] if rgb is None else rgb, last[1] if tir is None else tir  # pyright: ignore[reportReturnType]


@cache
def hann_window(size: int) -> Tensor:
    r"""Return OSTrack's window over a score map: it prefers the middle, where the target was.

    .. math::
        w_{ij} = h_i h_j, \qquad h_k = \tfrac{1}{2}\Big(1 - \cos \frac{2 \pi k}{S + 1}\Big), \quad k = 1, \dots, S

    Args:
        size: cells ``S`` along a side.

    Shape:
        ``(S, S)``, float32.

    Example:
        >>> from rgbt_fusion.tracking.tracker import hann_window
        >>> hann_window(3)[1].tolist()
        [0.5, 1.0, 0.5]

    Source:
        Ye et al., "OSTrack", ECCV 2022 (their code).
    """
    hann = 0.5 * (
        1 - torch.cos(2 * torch.pi * torch.arange(1, size + 1, dtype=torch.float64) / (size + 1))
    )
    return torch.outer(hann, hann).float()


def _blend(size: int, weight: float) -> Tensor:
    return 1 - weight + weight * hann_window(size)


def _range(tir: Frame | None, known: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the scale of 16-bit thermal frames, which the first of them sets for the whole
    sequence."""
    if known is None and isinstance(tir, np.ndarray) and tir.dtype == np.uint16:
        return thermal_range(tir)
    return known
