"""One frame as a CUDA graph: crop, network and box in memory that stays where it is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from rgbt_fusion.frames.types import Frame, ImagePair
from rgbt_fusion.models.interface import ModelOutput, TrackerModel, ask, decode
from rgbt_fusion.tracking.device_crop import CropNumbers, cut_crops, indexable, number_count
from rgbt_fusion.tracking.peaks import scores_of_peaks

__all__ = ["Answer", "FrameGraph", "FrameKind", "capture", "why_no_graph"]

WARMUPS = 3
"""Runs before the capture: libraries choose their kernels and allocate in the first ones."""


def why_no_graph(device: torch.device) -> str:
    """Say why a frame cannot be a CUDA graph on this device; empty if it can."""
    if device.type == "cuda" and torch.cuda.is_available():
        return ""
    return (
        f"graph=True replays CUDA graphs and needs a model on a CUDA device, got {device}: "
        "give device='cuda' on a machine with such a card, or leave graph out"
    )


def capture(body: Callable[[], None]) -> Callable[[], None]:
    """Return a call that replays what ``body`` launches, on the memory that it uses now."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUPS):
            body()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        body()
    return graph.replay


class FrameKind(NamedTuple):
    """What a graph is made for: another frame size, batch or memory needs a graph of its own."""

    rgb: tuple[tuple[int, ...], np.dtype] | None
    """Shape and type of the colour frame; None if there has been none yet."""
    tir: tuple[tuple[int, ...], np.dtype] | None
    targets: int
    has_memory: bool
    scaled: bool
    """Whether thermal values are scaled."""

    @classmethod
    def of(
        cls,
        frames: tuple[Frame | None, Frame | None],
        *,
        targets: int,
        has_memory: bool,
        scaled: bool,
    ) -> "FrameKind":
        """Return the kind of a frame."""
        rgb, tir = (None if x is None else (x.shape, x.dtype) for x in frames)
        return cls(rgb, tir, targets, has_memory, scaled)


class Answer(NamedTuple):
    """What one frame gave; all but ``rows`` is overwritten by the next one."""

    search: ImagePair
    output: ModelOutput
    window: Tensor
    box_cxcywh_unit: Tensor
    rows: Tensor
    """``(N, 7)`` float64 on the CPU: box, score, best score elsewhere, and whether the thermal crop
    is constant."""


class FrameGraph:
    """The work of one kind of frame, captured once and replayed.

    Everything that differs from frame to frame is copied into tensors that stay: the frames, the
    numbers of the crop, the template and the memory. The host waits once, for the result.

    Args:
        network: what is asked.
        kind: the frames that come.
        template, memory: what the network is given beside the search crop; copies are kept.
        window: what the scores are multiplied by, on the device.
    """

    def __init__(
        self,
        network: TrackerModel,
        kind: FrameKind,
        template: Any,
        memory: Any,
        window: Tensor,
        *,
        dtype: torch.dtype,
    ) -> None:
        device = window.device
        self._network = network
        self._dtype = dtype
        self._window = window
        self._template = _copies(template, "the template")
        self._memory = _copies(memory, "the memory")
        self._deep = (False, kind.scaled)
        self._frames = tuple(_Frame(x, device) for x in (kind.rgb, kind.tir))
        count = number_count(kind.targets, network.search_size)
        self._host_numbers = _on_host(count, torch.float32, device)
        self._numbers = self._host_numbers.to(device, copy=True)
        self._host_rows = _on_host((kind.targets, 7), torch.float64, device)
        self._targets = kind.targets
        self._found: Answer | None = None
        self._replay: Callable[[], None] | None = None

    @property
    def host_numbers(self) -> CropNumbers:
        """Where the numbers of the next frame are written."""
        return CropNumbers.of(self._host_numbers, self._targets, self._network.search_size)

    def run(self, frames: tuple[Frame | None, Frame | None], template: Any, memory: Any) -> Answer:
        """Answer one frame, whose numbers are in :attr:`host_numbers`."""
        for place, frame in zip(self._frames, frames, strict=True):
            if frame is not None:
                place.upload(frame)
        self._numbers.copy_(self._host_numbers, non_blocking=True)
        _copy_into(self._template, template)
        _copy_into(self._memory, memory)
        if self._replay is None:
            self._replay = capture(self._step)
        self._replay()
        found = self._found
        if found is None:
            raise RuntimeError("the graph of a frame was captured without a result")
        self._host_rows.copy_(found.rows, non_blocking=True)
        if found.rows.device.type == "cuda":
            done = torch.cuda.Event()
            done.record()
            done.synchronize()  # the one wait of a frame
        # what is remembered must outlive the next replay
        output = found.output._replace(state=_copies(found.output.state, "the memory"))
        return found._replace(output=output, rows=self._host_rows.clone())

    def _step(self) -> None:
        """Do all that a frame needs on the device."""
        numbers = CropNumbers.of(self._numbers, self._targets, self._network.search_size)
        rgb, tir = (place.pixels for place in self._frames)
        crops = cut_crops((rgb, tir), numbers, deep=self._deep)
        search = ImagePair(crops.rgb.to(self._dtype), crops.tir.to(self._dtype))
        output = ask(self._network, self._template, search, self._memory)
        window = self._window
        box = decode(self._network, output, window)
        scores = scores_of_peaks(output.score_map, window)
        constant = (crops.tir == crops.tir[..., :1, :1]).flatten(1).all(1, keepdim=True)
        rows = torch.cat((box.double(), scores.double(), constant.double()), dim=1)
        self._found = Answer(search, output, window, box, rows)


class _Frame:
    """A place for the frames of one camera on the device, and one on the host that is sent."""

    def __init__(self, kind: tuple[tuple[int, ...], np.dtype] | None, device: torch.device) -> None:
        shape, dtype = kind or ((1, 1), np.dtype(np.uint8))
        like = torch.from_numpy(indexable(np.zeros(1, dtype=dtype)))
        self._host = _on_host(shape, like.dtype, device)
        self.pixels = self._host.to(device, copy=True)

    def upload(self, frame: NDArray) -> None:
        np.copyto(self._host.numpy(), indexable(frame))
        self.pixels.copy_(self._host, non_blocking=True)


def _on_host(size: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory on the host that a card reads without waiting."""
    return torch.zeros(size, dtype=dtype, pin_memory=device.type == "cuda")


def _copies(tree: Any, what: str) -> Any:
    """Return a tree of tensors with memory of its own.

    Raises:
        TypeError: it holds something else than tensors, plain values and None.
    """
    leaves, structure = pytree.tree_flatten(tree)
    for leaf in leaves:
        if not isinstance(leaf, Tensor | int | float | str | None):
            raise TypeError(
                f"graph=True needs {what} of a model to be tensors in tuples, lists or "
                f"dictionaries, got {type(leaf).__name__}"
            )
    copies = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return pytree.tree_unflatten(copies, structure)


def _copy_into(places: Any, values: Any) -> None:
    """Copy a tree of tensors into another of the same shapes."""
    given = pytree.tree_leaves(values)
    for place, value in zip(pytree.tree_leaves(places), given, strict=True):
        if isinstance(place, Tensor):
            place.copy_(value, non_blocking=True)
