"""From frame to frame: crop around the last box, ask the network, go back to the image."""

import platform
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_finite_number
from rgbt_fusion.frames.crop import CropPair, crop_pair
from rgbt_fusion.frames.square import SearchSquare, search_square
from rgbt_fusion.frames.thermal import (
    ThermalRange,
    follow_range,
    is_deep,
    is_flat,
    thermal_range,
)
from rgbt_fusion.frames.types import Frame, FramePair, FramePairLike, ImagePair, check_frames
from rgbt_fusion.models.inference import inference_form, keep_freed_memory
from rgbt_fusion.models.interface import (
    ModelOutput,
    ModelState,
    Template,
    TrackerModel,
    ask,
    check_model,
    decode,
    embed_template,
    parameter_like,
)
from rgbt_fusion.models.tracking_settings import TrackingSettings, tracking_settings_of
from rgbt_fusion.tracking.device_crop import pack_numbers
from rgbt_fusion.tracking.graph import FrameGraph, FrameKind, why_no_graph
from rgbt_fusion.tracking.interface import TrackResult, check_boxes, follow
from rgbt_fusion.tracking.matching import View, first_patterns, match
from rgbt_fusion.tracking.motion import look_ahead, next_steps
from rgbt_fusion.tracking.ncc import Planes
from rgbt_fusion.tracking.peaks import scores_of_peaks
from rgbt_fusion.tracking.settle import are_lost, first_size_errors, settle

__all__ = [
    "MISSING",
    "TEMPLATE_FACTOR",
    "Look",
    "Missing",
    "TrackResult",
    "Tracker",
    "TrackerState",
    "hann_window",
]

TEMPLATE_FACTOR = 2.0
"""Side of the template crop over the square root of the target's area, in OSTrack's family."""

Missing: TypeAlias = Literal["zeros", "other", "last"]
"""What stands in for a modality that a frame lacks."""

MISSING: tuple[Missing, ...] = get_args(Missing)
"""What may stand in for a missing modality."""


@dataclass(frozen=True)
class TrackerState:
    """Everything that a tracker carries from frame to frame; it is never changed in place."""

    boxes: NDArray[np.float64]
    """``(N, 4)``: the last boxes."""
    batched: bool
    """Whether the caller asked for a batch."""
    template: Template
    memory: ModelState | None
    """What the model remembers."""
    frame: int
    tir_range: ThermalRange | None
    """The thermal values that become 0 and 255 where frames have more than 8 bits."""
    image_size: tuple[int, int]
    """Height and width of the last colour image."""
    last: FramePairLike
    """The last image of each modality if ``missing`` is ``"last"``, else two None."""
    unfinished: ImagePair | None = None
    """The images of a template whose thermal frame was flat, until a frame with contrast comes."""
    size_errors: NDArray[np.float64] | None = None
    """``(N, 2)``: by which factor the network is wrong about the sizes in the first frame; None
    where it was not asked."""
    steps: NDArray[np.float64] | None = None
    """``(N, 2)``: how far each target moves in a frame; None before it moved."""
    patterns: tuple[Planes, ...] | None = None
    """What each target looks like; None where boxes are not matched."""
    lost: NDArray[np.bool_] | None = None
    """``(N,)``: which targets are lost; None where none was yet."""


class Look(NamedTuple):
    """What a tracker saw at its last frame and what the network answered.

    :mod:`rgbt_fusion.video.panels` draws it.
    """

    template: Template
    search: ImagePair
    memory: ModelState | None
    """The model's memory before the frame."""
    output: ModelOutput
    window: Tensor
    box_cxcywh_unit: Tensor


class Tracker:
    r"""Follow one target, or a batch of them, through a video of both modalities.

    The template is turned into tokens once. Each frame is cropped around the last box, and the
    network scores the cells of the crop. The scores are multiplied by a window that prefers the
    middle, and the box of the best cell goes back to the image. What the tracker makes of the box
    there, such as how fast its size may change, is up to settings that come with the network's
    weights where they were measured for them, and are the paper's elsewhere; each option below
    that is None takes that setting.

    .. math::
        b^t = \mathrm{back}\Big(\mathrm{box\ at}\ \arg\max_{i,j}\
        (1 - \omega + \omega\, h_i h_j)\, s^t_{ij}\Big),
        \qquad h_k = \tfrac{1}{2}\Big(1 - \cos \frac{2 \pi k}{S + 1}\Big)

    Paper and code: the paper leaves these cases open. A box with a non-finite coordinate is
    discarded, and the previous box is kept. A frame that lacks both modalities keeps the box with
    confidence 0. The template is never renewed. Nothing is random. The model's memory is kept here,
    in ``state``, never in the model.

    Args:
        model: a tracking network, of this package or your own (see
            :class:`~rgbt_fusion.models.interface.TrackerModel`); it is put into evaluation mode.
        window_weight: :math:`\omega`, from 0 (no window) to 1 (OSTrack's).
        size_inertia: share of the old size that the box keeps in each frame, from 0 (OSTrack's) to
            below 1; of a size, the square root of the area.
        aspect_inertia: share of the old aspect that the box keeps in each frame, likewise.
        size_correction: share of the error that the network makes of the size in the first frame
            itself, which is taken off all later sizes, from 0 (OSTrack's) to 1.
        size_growth: largest factor by which a side grows or shrinks in one frame, at least 1;
            infinity is no bound (OSTrack's).
        smallest_px: width and height that a box has at least, in pixels inside the image; 10 in
            OSTrack.
        hold_below: below this confidence the box stays where it is; 0 never holds it (OSTrack's).
        look_ahead: share of a fast target's last motion that the search crop lies ahead of the last
            box, from 0 (OSTrack's) to 1; see :func:`~rgbt_fusion.tracking.motion.look_ahead`.
        match_weight: share of the way to where the target looks most like before that a box moves,
            from 0 (OSTrack's) to 1; see :func:`~rgbt_fusion.tracking.matching.match`.
        search_factor: side of the search crop over the square root of the target's area; None takes
            the model's.
        lost_threshold: below this confidence the target counts as lost; 0.25 without a setting of
            the network.
        found_threshold: a lost target counts as found again only from this confidence on; 0, or at
            least ``lost_threshold``.
        missing: what stands in for a modality that a frame lacks: ``"zeros"`` (the mean image),
            ``"other"`` (the crop of the other modality) or ``"last"`` (the last image of the
            modality, cropped at the present place).
        tir_from_rgb: for cameras that are not aligned: the offset (x, y) in whole pixels, or the
            3x3 homography, that takes a pixel of the colour frame to the thermal frame.
        tir_range: the thermal values that become 0 and 255, for frames of more than 8 bits; None
            follows level and span of the frames, see
            :func:`~rgbt_fusion.frames.thermal.follow_range`.
        device: where to move the model; None leaves it where it is.
        dtype: the floating-point type to convert the model to; None leaves it. An x86 processor
            without instructions for ``bfloat16`` or ``float16`` takes several times as long as with
            ``float32``: a ``RuntimeWarning`` says so once.
        compile: whether ``torch.compile`` makes code for the network at the first frame, which
            takes a minute or so and needs a C++ compiler. Boxes are equal to rounding.
        graph: whether a frame is replayed as a CUDA graph: crop, network and box in one launch, and
            one wait; ``match_weight`` waits for the crop, too. It needs a CUDA device and a model
            whose memory is made of tensors, and does not go together with ``compile``. Tensors in
            ``last_look`` are overwritten by the next frame. ``track`` reads one frame ahead in a
            thread.

    Shape:
        - rgb: ``(H, W, 3)`` uint8, red first
        - tir: ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)``, uint8, uint16 or float32
        - box_xywh_px: ``(4,)`` or ``(N, 4)``, left, top, width, height in pixels
        - ``init`` and ``update`` return :class:`TrackResult`

    Raises:
        TypeError: ``model`` lacks what a tracking network must offer or does not return a
            ``ModelOutput``, or a frame is not an array of such numbers.
        ShapeError: a frame or ``box_xywh_px`` has another shape, or the frames differ in size and
            ``tir_from_rgb`` is None.
        ValueError: an option is out of range, ``box_xywh_px`` has no size or lies outside the first
            frame, the first frame lacks both modalities, or ``graph`` is on without a CUDA device,
            with ``compile``, or with a homography as ``tir_from_rgb``.
        RuntimeError: ``update`` comes before ``init``.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion import Tracker, create_model
        >>> rgb = np.zeros((240, 320, 3), dtype=np.uint8)
        >>> tir = np.zeros((240, 320), dtype=np.uint16)
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
        window_weight: float | None = None,
        size_inertia: float | None = None,
        aspect_inertia: float | None = None,
        size_correction: float | None = None,
        size_growth: float | None = None,
        smallest_px: float | None = None,
        hold_below: float | None = None,
        look_ahead: float | None = None,
        match_weight: float | None = None,
        search_factor: float | None = None,
        lost_threshold: float | None = None,
        found_threshold: float | None = None,
        missing: Missing = "zeros",
        tir_from_rgb: ArrayLike | None = None,
        tir_range: ThermalRange | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        compile: bool = False,
        graph: bool = False,
    ) -> None:
        check_model(model)
        self.model = model
        self.settings: TrackingSettings = tracking_settings_of(model).chosen(
            window_weight=window_weight,
            size_inertia=size_inertia,
            aspect_inertia=aspect_inertia,
            size_correction=size_correction,
            size_growth=size_growth,
            smallest_px=smallest_px,
            hold_below=hold_below,
            look_ahead=look_ahead,
            match_weight=match_weight,
            lost_threshold=lost_threshold,
            found_threshold=found_threshold,
        )
        """What is made of the network's answers: the network's own settings and what was given."""
        _check_found_threshold(found_threshold, self.settings)
        if search_factor is None:
            search_factor = model.search_factor
        self.search_factor = check_finite_number(search_factor, name="search_factor", low=1.0)
        self.missing = check_choice(missing, MISSING, name="missing")
        self.tir_from_rgb = tir_from_rgb
        self.tir_range = _check_range(tir_range)

        self.device = torch.device("cpu" if device is None else device)
        self.dtype = torch.float32 if dtype is None else dtype
        if isinstance(model, nn.Module):
            model.to(device=device, dtype=dtype).eval()
            if any(parameter.is_floating_point() for parameter in model.parameters()):
                like = parameter_like(model)
                self.device = like.device
                self.dtype = like.dtype

        if self.device.type == "cpu":
            _warn_of_slow_dtype(self.dtype)
        self._form = inference_form(model)
        self._compiled = _Compiled() if compile else None
        self._graphs: _Graphs | None = None
        if graph:
            self._check_graph(compile=compile)
            self._graphs = _Graphs()
        self._windows: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}
        keep_freed_memory()
        self._state: TrackerState | None = None
        self.last_look: Look | None = None
        """What was seen at the last frame; None before the first ``update``."""
        self.notices: list[str] = []
        """What is odd about the frames since ``init``, each thing once."""
        self._noticed = set[str]()

    @property
    def window_weight(self) -> float:
        """How much the window that prefers the middle counts."""
        return self.settings.window_weight

    @property
    def lost_threshold(self) -> float:
        """Below this confidence the target counts as lost."""
        return self.settings.lost_threshold

    @property
    def state(self) -> TrackerState:
        """All that is carried from frame to frame.

        Keep it and assign it later to continue from there, in this tracker or in another one.
        """
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
        """Start on a frame; return the given boxes as the result of frame 0."""
        shown = FramePair(rgb, tir)
        boxes, batched = check_boxes(box_xywh_px, self._frame_of_boxes(shown))
        self.notices = []
        self._noticed = set()
        if self._form is not None:
            self._form.refresh()
        if self._graphs is not None:
            self._graphs.forget_if_moved(self.model)
        tir_range = self._range(tir, known=None)
        useful = self._without_flat(shown, tir_range)
        crops = self._crop(useful, boxes, TEMPLATE_FACTOR, self.model.template_size, tir_range)
        images = self._batch(crops, useful)
        with torch.inference_mode():
            template = embed_template(self._network(), images)
        self._state = TrackerState(
            boxes=boxes,
            batched=batched,
            template=template,
            memory=None,
            frame=0,
            tir_range=tir_range,
            image_size=crops[0].image_size,
            last=self._keep(useful),
            unfinished=images if useful.tir is None and tir is not None else None,
        )
        if self.settings.size_correction:
            self._state = replace(self.state, size_errors=self._size_errors(useful, tir_range))
        if self.settings.match_weight:
            self._state = replace(self.state, patterns=self._first_patterns(useful, tir_range))
        self.last_look = None
        if self._is_flat_somewhere(crops, tir):
            self._notice_flat(tir, frame=0)
        sure = np.ones(len(boxes))
        return self._result(sure, sure)

    def update(self, rgb: NDArray[np.uint8] | None, tir: Frame | None) -> TrackResult:
        """Look for the targets in the next frame."""
        state = self.state
        if rgb is None and tir is None:
            nothing = np.zeros(len(state.boxes))
            lost = are_lost(nothing, self._lost_so_far(), self.settings)
            self._state = replace(state, frame=state.frame + 1, lost=lost)
            return self._result(nothing, nothing)

        tir_range = self._range(tir, known=state.tir_range)
        useful = self._without_flat(FramePair(rgb, tir), tir_range)
        shown = self._stand_in(useful, state.last)
        if state.unfinished is not None and useful.tir is not None:
            # at the last boxes, which are a frame old; once more below, where the targets are
            self._finish_template(state.unfinished, useful, tir_range)
            state = self.state
        answer = self._answer(shown, tir_range)
        self.last_look = Look(
            state.template,
            answer.search,
            state.memory,
            answer.output,
            answer.window,
            answer.box_cxcywh_unit,
        )

        image_size = check_frames(*shown, aligned=self.tir_from_rgb is None)
        if rgb is None and self.tir_from_rgb is not None:
            # boxes are those of the colour image, and the thermal image may have another size
            image_size = state.image_size
        found, scores, finite = _to_image(answer, state.boxes)
        confidences = self._confidences(answer, scores, finite)
        lost = are_lost(confidences, self._lost_so_far(), self.settings)
        found, patterns = self._matched(answer, found, useful, lost)
        boxes = settle(
            found,
            confidences,
            state.boxes,
            self.settings,
            image_size=image_size,
            size_errors=state.size_errors,
        )
        boxes = np.where(finite[:, None], boxes, state.boxes)
        steps = np.zeros((len(boxes), 2)) if state.steps is None else state.steps
        if not finite.all():
            self._notice_of_numbers(frame=state.frame + 1)
        if answer.tir_is_constant:
            self._notice_flat(tir, frame=state.frame + 1)
        self._state = replace(
            state,
            boxes=boxes,
            memory=answer.output.state,
            frame=state.frame + 1,
            tir_range=tir_range,
            image_size=image_size,
            last=self._keep(shown),
            steps=next_steps(steps, state.boxes, boxes, lost),
            patterns=patterns,
            lost=lost,
        )
        if state.unfinished is not None and useful.tir is not None:
            if not lost.any():
                self._finish_template(state.unfinished, useful, tir_range)
            self._state = replace(self.state, unfinished=None)
        return self._result(confidences, scores)

    def track(
        self, source: Iterable[FramePairLike], box_xywh_px: ArrayLike | None = None
    ) -> Iterator[TrackResult]:
        """Follow the targets through all frames of ``source``, the first included.

        Args:
            source: pairs of frames: a :class:`~rgbt_fusion.data.sequences.ImageSequence`, a video
                source, any iterable.
            box_xywh_px: the boxes in the first frame; None takes the annotation of ``source``.

        Raises:
            ValueError: ``box_xywh_px`` is None and ``source`` has no annotation.
        """
        ahead = self._graphs is not None
        return follow(self, source, box_xywh_px, read_ahead=ahead)

    def _answer(self, shown: FramePair, tir_range: ThermalRange | None) -> "_Answer":
        """Crop around where the targets should be and ask the network."""
        if self._graphs is not None:
            return self._replayed(self._graphs, shown, tir_range)
        state = self.state
        boxes = self._boxes_ahead()
        crops = self._crop(shown, boxes, self.search_factor, self.model.search_size, tir_range)
        search = self._batch(crops, shown)
        with torch.inference_mode():
            output = ask(self._asked(), state.template, search, state.memory)
            window = self._window(output.score_map)
            box_cxcywh_unit = decode(self.model, output, window)
            scores = scores_of_peaks(output.score_map, window)
        # one transfer, so that a GPU is waited for once per frame
        rows = torch.cat((box_cxcywh_unit, scores.to(box_cxcywh_unit.dtype)), dim=1).double().cpu()
        return _Answer(
            squares=[search_square(box, self.search_factor) for box in boxes],
            search=search,
            output=output,
            window=window,
            box_cxcywh_unit=box_cxcywh_unit,
            rows=rows,
            tir_is_constant=self._is_flat_somewhere(crops, shown.tir),
        )

    def _replayed(
        self, graphs: "_Graphs", shown: FramePair, tir_range: ThermalRange | None
    ) -> "_Answer":
        """Do the same in one replay of a graph."""
        state = self.state
        frames = (shown.rgb, shown.tir)
        scaled = shown.tir is not None and is_deep(shown.tir)
        kind = graphs.kind(
            frames,
            targets=len(state.boxes),
            has_memory=state.memory is not None,
            scaled=scaled,
        )
        squares = [search_square(box, self.search_factor) for box in self._boxes_ahead()]
        with torch.inference_mode():
            graph = graphs.of(kind, lambda: self._new_graph(kind, state))
            # a graph reads what was made of the parameters: let it be made again if they changed
            self._network()
            pack_numbers(
                graph.host_numbers,
                frames,
                squares,
                tir_range=tir_range if scaled else None,
                tir_offset=self.tir_from_rgb,
                other_for_missing=self.missing == "other",
            )
            found = graph.run(frames, state.template, state.memory)
        return _Answer(
            squares=squares,
            search=found.search,
            output=found.output,
            window=found.window,
            box_cxcywh_unit=found.box_cxcywh_unit,
            rows=found.rows[:, :6],
            tir_is_constant=bool(found.rows[:, 6].any()),
        )

    def _new_graph(self, kind: FrameKind, state: TrackerState) -> FrameGraph:
        """Return the graph of a kind of frame, captured at its first run."""
        network = self._network()
        size = self.model.search_size
        blank = torch.zeros(len(state.boxes), 3, size, size, device=self.device, dtype=self.dtype)
        # the size of the grid is the network's own: ask it once
        output = ask(network, state.template, ImagePair(blank, blank), state.memory)
        return FrameGraph(
            network,
            kind,
            state.template,
            state.memory,
            self._window(output.score_map),
            dtype=self.dtype,
        )

    def _check_graph(self, *, compile: bool) -> None:
        """Check that frames can be CUDA graphs.

        Raises:
            ValueError: they cannot; the message says why.
        """
        if compile:
            raise ValueError("graph must be off where compile is on, got graph=True, compile=True")
        if reason := why_no_graph(self.device):
            raise ValueError(reason)
        if self.tir_from_rgb is not None and np.shape(self.tir_from_rgb) == (3, 3):
            raise ValueError(
                "tir_from_rgb must be an offset (x, y) with graph=True, got a homography"
            )

    def _network(self) -> TrackerModel:
        """Return what to call: the model, or its form for inference."""
        if self._form is None:
            return self.model
        return self._form.current()

    def _asked(self) -> TrackerModel:
        """Return what is called at each frame: the network, compiled if the user asked for it."""
        network = self._network()
        if self._compiled is None:
            return network
        return self._compiled.of(network)

    def _frame_of_boxes(self, shown: FramePair) -> tuple[int, int] | None:
        """Return height and width of the frame that boxes are in; None if it is not shown."""
        size = check_frames(*shown, aligned=self.tir_from_rgb is None)
        is_of_the_colour_camera = shown.rgb is not None or self.tir_from_rgb is None
        return size if is_of_the_colour_camera else None

    def _range(self, tir: Frame | None, *, known: ThermalRange | None) -> ThermalRange | None:
        """Return the values that become 0 and 255 in this frame; None if nothing is scaled."""
        if not isinstance(tir, np.ndarray):
            return known
        if is_deep(tir):
            return self.tir_range or follow_range(known, tir)
        if self.tir_range is not None:
            raise ValueError(
                f"tir_range must come with frames of more than 8 bits, got {self.tir_range} "
                f"with {tir.dtype}"
            )
        return known

    def _without_flat(self, shown: FramePair, tir_range: ThermalRange | None) -> FramePair:
        """Return the frames without a thermal one that has no contrast: it counts as missing."""
        rgb, tir = shown
        if rgb is None or tir is None or not is_deep(tir) or self.tir_range is not None:
            return shown
        if is_flat(tir, thermal_range(tir), known=tir_range):
            return FramePair(rgb, None)
        return shown

    def _finish_template(
        self, unfinished: ImagePair, shown: FramePair, tir_range: ThermalRange | None
    ) -> None:
        """Give a template the thermal images that its own frame lacked, at the last boxes."""
        size = self.model.template_size
        crops = self._crop(shown, self.state.boxes, TEMPLATE_FACTOR, size, tir_range)
        images = ImagePair(unfinished.rgb, self._batch(crops, shown).tir)
        with torch.inference_mode():
            template = embed_template(self._network(), images)
        self._state = replace(self.state, template=template)

    def _is_flat_somewhere(self, crops: list[CropPair], tir: Frame | None) -> bool:
        """Say whether the thermal camera shows nothing around a target, if that is still news."""
        if tir is None or "flat" in self._noticed:
            return False
        return any(_is_constant(crop.images.tir) for crop in crops)

    def _notice_flat(self, tir: Frame | None, *, frame: int) -> None:
        """Say once that the thermal camera shows nothing where the target is."""
        if tir is not None:
            self._notice(
                "flat",
                f"at frame {frame + 1} the thermal image shows nothing around the target: it has "
                "no contrast there, or the place lies outside of it",
            )

    def _notice_of_numbers(self, *, frame: int) -> None:
        """Say once that the network's answer cannot be used."""
        self._notice(
            "numbers",
            f"at frame {frame + 1} the box or the score of {type(self.model).__name__} is not a "
            "finite number: the last box stands",
        )

    def _notice(self, kind: str, text: str) -> None:
        """Say what is odd about the frames, each kind once."""
        if kind not in self._noticed:
            self._noticed.add(kind)
            self.notices.append(text)

    def _stand_in(self, seen: FramePair, last: FramePairLike) -> FramePair:
        """Return the frame with the last image of a missing modality, if the policy says so."""
        if self.missing != "last":
            return seen
        last_rgb, last_tir = last
        return FramePair(
            last_rgb if seen.rgb is None else seen.rgb, last_tir if seen.tir is None else seen.tir
        )

    def _keep(self, shown: FramePair) -> FramePair:
        """Return what ``"last"`` needs of a frame: copies, as a reader may reuse its buffer."""
        if self.missing != "last":
            return FramePair(None, None)
        return FramePair(
            None if shown.rgb is None else shown.rgb.copy(),
            None if shown.tir is None else shown.tir.copy(),
        )

    def _crop(
        self,
        shown: FramePair,
        boxes: NDArray[np.float64],
        factor: float,
        size: int,
        tir_range: ThermalRange | None,
    ) -> list[CropPair]:
        """Return one crop per target."""
        return [
            crop_pair(
                shown.rgb,
                shown.tir,
                box,
                factor=factor,
                size=size,
                tir_range=tir_range,
                tir_from_rgb=self.tir_from_rgb,
            )
            for box in boxes
        ]

    def _batch(self, crops: list[CropPair], shown: FramePair) -> ImagePair:
        """Return the crops as one batch for the model, the other modality for a missing one."""
        rgb = _together([crop.images.rgb for crop in crops])
        tir = _together([crop.images.tir for crop in crops])
        if self.missing == "other" and shown.rgb is None:
            rgb = tir
        if self.missing == "other" and shown.tir is None:
            tir = rgb
        # the device runs the copy before the network: the host need not wait for it
        return ImagePair(
            rgb.to(device=self.device, dtype=self.dtype, non_blocking=True),
            tir.to(device=self.device, dtype=self.dtype, non_blocking=True),
        )

    def _window(self, score_map: Tensor) -> Tensor:
        """Return what the scores are multiplied by; it stays on the device of the scores."""
        size = score_map.shape[-1]
        place = (size, score_map.dtype, score_map.device)
        if place not in self._windows:
            window = hann_window(size)
            blend = 1 - self.window_weight + self.window_weight * window
            self._windows[place] = blend.to(score_map)
        return self._windows[place]

    def _size_errors(self, shown: FramePair, tir_range: ThermalRange | None) -> NDArray[np.float64]:
        """Ask the network where the targets are in the frame that it was given."""
        answer = self._answer(shown, tir_range)
        given = self.state.boxes
        found, _, _ = _to_image(answer, given)
        return first_size_errors(given, found)

    def _boxes_ahead(self) -> NDArray[np.float64]:
        """Return the boxes to look around in the next frame."""
        state = self.state
        if state.steps is None or not self.settings.look_ahead:
            return state.boxes
        return look_ahead(
            state.boxes, state.steps, self.settings.look_ahead, image_size=state.image_size
        )

    def _first_patterns(
        self, shown: FramePair, tir_range: ThermalRange | None
    ) -> tuple[Planes, ...]:
        """Return what the targets look like in the frame that the tracker was given."""
        boxes = self.state.boxes
        size = self.model.search_size
        crops = self._crop(shown, boxes, self.search_factor, size, tir_range)
        squares = [search_square(box, self.search_factor) for box in boxes]
        views = _views(self._batch(crops, shown), squares, shown)
        return tuple(first_patterns(*pair) for pair in zip(views, boxes, strict=True))

    def _matched(
        self,
        answer: "_Answer",
        found: NDArray[np.float64],
        shown: FramePair,
        lost: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float64], tuple[Planes, ...] | None]:
        """Return the boxes, moved to what looks most like the targets, and how these look now."""
        patterns = self.state.patterns
        if patterns is None:
            return found, None
        moved = found.copy()
        renewed = list(patterns)
        for number, view in enumerate(_views(answer.search, answer.squares, shown)):
            if not lost[number]:
                moved[number], renewed[number] = match(
                    view, found[number], patterns[number], self.settings.match_weight
                )
        return moved, tuple(renewed)

    def _confidences(
        self, answer: "_Answer", scores: NDArray[np.float64], finite: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return how sure the tracker is: the scores, or probabilities where they are known."""
        if self.settings.confidence is None:
            return scores
        rivals = answer.rows[:, 5].numpy()
        return np.where(finite, self.settings.confidence(scores, rivals), 0.0)

    def _lost_so_far(self) -> NDArray[np.bool_]:
        """Return which targets were lost in the last frame."""
        if self.state.lost is None:
            return np.zeros(len(self.state.boxes), dtype=bool)
        return self.state.lost

    def _result(self, confidences: NDArray[np.float64], scores: NDArray[np.float64]) -> TrackResult:
        return TrackResult.of(self.state, confidences, self._lost_so_far(), scores)


class _Answer(NamedTuple):
    """What the network made of one frame, and where it looked."""

    squares: list[SearchSquare]
    search: ImagePair
    output: ModelOutput
    window: Tensor
    box_cxcywh_unit: Tensor
    rows: Tensor
    """``(N, 6)`` float64 on the CPU: the box, its score, and the best score elsewhere."""
    tir_is_constant: bool


class _Graphs:
    """The graphs of the kinds of frames that were seen, the latest ones."""

    MOST = 4

    def __init__(self) -> None:
        self._graphs: dict[FrameKind, FrameGraph] = {}
        self._seen: tuple[int, ...] = ()

    def __reduce__(self) -> tuple[type["_Graphs"], tuple[()]]:
        # a copy captures anew: a graph belongs to one memory
        return type(self), ()

    def forget_if_moved(self, model: object) -> None:
        """Drop all graphs if a tensor of the model lies elsewhere than when they were captured."""
        places: tuple[int, ...] = ()
        if isinstance(model, nn.Module):
            tensors = (*model.parameters(), *model.buffers())
            places = tuple(tensor.data_ptr() for tensor in tensors)
        if places != self._seen:
            self._graphs.clear()
            self._seen = places

    def kind(self, frames: tuple[Frame | None, Frame | None], **rest: Any) -> FrameKind:
        """Return the kind of a frame; a missing camera keeps the place that it had."""
        kind = FrameKind.of(frames, **rest)
        for known in reversed(self._graphs):
            if kind.tir is None and known.tir is not None:
                kind = kind._replace(tir=known.tir, scaled=known.scaled)
            if kind.rgb is None and known.rgb is not None:
                kind = kind._replace(rgb=known.rgb)
        return kind

    def of(self, kind: FrameKind, make: Callable[[], FrameGraph]) -> FrameGraph:
        """Return the graph of a kind, made if there is none."""
        graph = self._graphs.pop(kind, None)
        if graph is None:
            graph = make()
        self._graphs[kind] = graph
        while len(self._graphs) > self.MOST:
            del self._graphs[next(iter(self._graphs))]
        return graph


class _Compiled:
    """The compiled form of the network that was asked last."""

    def __init__(self) -> None:
        self._pair: tuple[TrackerModel, TrackerModel] | None = None

    def __reduce__(self) -> tuple[type["_Compiled"], tuple[()]]:
        # a copy compiles anew: compiled code belongs to one network
        return type(self), ()

    def of(self, network: TrackerModel) -> TrackerModel:
        """Return a network compiled; the same network is compiled once."""
        if self._pair is None or self._pair[0] is not network:
            self._pair = (network, cast(TrackerModel, torch.compile(network, dynamic=False)))
        return self._pair[1]


@cache
def hann_window(size: int) -> Tensor:
    r"""Return OSTrack's window over a score map: it prefers the middle, where the target was.

    .. math::
        w_{ij} = h_i h_j, \qquad h_k = \tfrac{1}{2}\Big(1 - \cos \frac{2 \pi k}{S + 1}\Big), \quad
        k = 1, \dots, S

    Args:
        size: cells ``S`` along a side.

    Shape:
        - returns ``(S, S)``, float32

    Example:
        >>> from rgbt_fusion.tracking.tracker import hann_window
        >>> hann_window(3)[1].tolist()
        [0.5, 1.0, 0.5]

    Source:
        Ye et al., "OSTrack", ECCV 2022 (their code).
    """
    k = torch.arange(1, size + 1, dtype=torch.float64)
    hann = 0.5 * (1 - torch.cos(2 * torch.pi * k / (size + 1)))
    return torch.outer(hann, hann).float()


def _to_image(
    answer: _Answer, previous_xywh_px: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return boxes ``(N, 4)`` in the image, scores, and which targets have a finite answer.

    Boxes are not clipped. A target without a finite box or score keeps the previous box with score
    0.
    """
    rows = answer.rows.numpy()
    sides = np.array([[square.side] for square in answer.squares], dtype=np.float64)
    centres_of_crops = np.array([square.centre for square in answer.squares])
    corners_of_crops = centres_of_crops - sides / 2
    centres = rows[:, :2] * sides + corners_of_crops
    sizes = rows[:, 2:4] * sides
    boxes = np.concatenate((centres - sizes / 2, sizes), axis=1)
    scores = rows[:, 4]
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    boxes = np.where(finite[:, None], boxes, previous_xywh_px)
    return boxes, np.where(finite, scores, 0.0), finite


def _check_found_threshold(given: float | None, settings: TrackingSettings) -> None:
    """Check that a threshold that was given can do something."""
    if given and given < settings.lost_threshold:
        raise ValueError(
            f"found_threshold must be 0 or at least lost_threshold, {settings.lost_threshold}, "
            f"got {given}"
        )


def _views(search: ImagePair, squares: list[SearchSquare], shown: FramePair) -> Iterator[View]:
    """Yield the crop of each target without colours; a modality that is not shown is None."""
    rgb = None if shown.rgb is None else _planes(search.rgb)
    tir = None if shown.tir is None else _planes(search.tir)
    for number, square in enumerate(squares):
        planes = Planes(
            None if rgb is None else rgb[number],
            None if tir is None else tir[number],
        )
        scale = search.rgb.shape[-1] / square.side
        yield View(planes, (square.left, square.top), scale)


def _planes(images: Tensor) -> Tensor:
    """Return images ``(N, 3, S, S)`` without colours, ``(N, S, S)`` on the CPU."""
    return images.float().mean(dim=1).cpu()


def _together(images: list[Tensor]) -> Tensor:
    """Return images as one batch; a single one is not copied."""
    if len(images) == 1:
        return images[0]
    return torch.cat(images)


# with one of these sets of instructions an x86 processor is faster with the dtype than with float32
_FASTER_WITH = {
    torch.bfloat16: ("amx_bf16", "avx512_bf16"),
    torch.float16: ("amx_fp16", "avx512_fp16"),
}


@cache
def _warn_of_slow_dtype(dtype: torch.dtype) -> None:
    """Warn once of a dtype that makes this processor slower."""
    instructions = _FASTER_WITH.get(dtype, ())
    # torch does not say it of processors other than x86
    is_known = platform.machine().lower() in ("x86_64", "amd64")
    if not instructions or not is_known or any(_cpu_has(name) for name in instructions):
        return
    name = str(dtype).removeprefix("torch.")
    wanted = " or ".join(instructions)
    warnings.warn(
        f"{name} is slower than float32 on this processor, which has no instructions for it "
        f"({wanted}): leave dtype out",
        RuntimeWarning,
        stacklevel=3,
    )


def _cpu_has(instructions: str) -> bool:
    """Say whether this processor has a set of instructions; True where torch does not know."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get(instructions, True))


def _is_constant(image: Tensor) -> bool:
    """Return whether all pixels of a crop have the same colour."""
    first = image[..., :1, :1]
    # nearly always the first row has two colours already
    return bool((image[..., :1, :] == first).all()) and bool((image == first).all())


def _check_range(tir_range: ThermalRange | None) -> ThermalRange | None:
    if tir_range is None:
        return None
    low, high = (check_finite_number(limit, name="tir_range") for limit in tir_range)
    if low >= high:
        raise ValueError(f"tir_range must be two numbers in order, got {(low, high)}")
    return low, high
