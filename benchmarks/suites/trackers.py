"""The trackers that ``python -m benchmarks models`` compares, in all their forms."""

import copy
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.suites.naive_trackers import with_attention_as_released, written_naively
from rgbt_fusion.checks import check_choice
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.weights.pretrained import create_model

__all__ = ["FORMS", "TRACKERS", "Preset", "build", "frame_step", "network_step", "parse"]


class Preset(NamedTuple):
    """A model of :func:`~rgbt_fusion.create_model` in any size, and what of it is changed."""

    name: str
    """With ``{}`` in the place of the size, such as ``vitb_256``."""
    overrides: Mapping[str, Any] = {}


_RELEASED = {"order_predictor": "released", "order_gradient": "none", "ofm_tokens": "released"}
_TEACHER = "mutual_prompt_teacher_{}"

TRACKERS: dict[str, Preset] = {
    "OSTrack": Preset("ostrack_{}", {"keep_ratio": 1.0}),
    "OSTrack, elimination": Preset("ostrack_{}"),
    "two streams": Preset("two_stream_{}"),
    "AINet, released widths": Preset("ainet_{}", _RELEASED),
    "AINet, compact": Preset("ainet_{}_compact"),
    "TPMRI": Preset("tpmri_{}"),
    "compensation": Preset("compensation_{}"),
    "teacher": Preset(_TEACHER),
    "student": Preset("one_stream_student_{}"),
    "student, elimination": Preset("one_stream_student_{}", {"keep_ratio": 0.7}),
    "teacher, linear form": Preset(_TEACHER, {"form": "linear"}),
    "teacher without spatial attention": Preset(_TEACHER, {"spatial_attention": None}),
    "teacher without token attention": Preset(_TEACHER, {"token_attention": False}),
    "teacher without history": Preset(_TEACHER, {"history": False}),
}
"""Every tracker by its name in the tables. OSTrack is the measure: it keeps all its candidates
unless its name says otherwise."""

Step = Callable[[], Any]
FORMS = (
    "eager",
    "template kept",
    "explicit attention",
    "written naively",
    "compiled",
    "int8",
    "ONNX Runtime",
    "ONNX Runtime, int8",
)
"""How a tracker may run. With ``template kept`` its template was turned into tokens before, as in
tracking. ``explicit attention`` is that of the released code."""


def parse(contender: str) -> tuple[str, str, str]:
    """Split ``"<tracker>: <size>, <form>"``; no form is eager.

    Raises:
        ValueError: the tracker or the form is unknown.

    Example:
        >>> from benchmarks.suites.trackers import parse
        >>> parse("student, elimination: vitb_256, ONNX Runtime, int8")
        ('student, elimination', 'vitb_256', 'ONNX Runtime, int8')
    """
    tracker, _, rest = contender.partition(": ")
    size, _, form = rest.partition(", ")
    check_choice(tracker, TRACKERS, name="tracker")
    check_choice(form or "eager", FORMS, name="form")
    return tracker, size, form or "eager"


def build(contender: str) -> TrackingNetwork:
    """Build the network of a contender in evaluation mode, whatever its form.

    The weights are random: seed torch's generator to get the same ones again.
    """
    tracker, size, _ = parse(contender)
    preset = TRACKERS[tracker]
    return create_model(preset.name.format(size), **preset.overrides).eval()


def network_step(
    contender: str,
    *,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    threads: int = 1,
    device: str = "cpu",
) -> Step:
    """Return a function that looks for a template in a search crop and returns the score map.

    Both are random. What a form prepares once, such as compiling or exporting, has happened when
    this returns.
    """
    _, _, form = parse(contender)
    model = build(contender).to(device, dtype)
    generator = torch.Generator().manual_seed(0)

    def images(size: int) -> ImagePair:
        return ImagePair(
            *torch.randn(2, batch, 3, size, size, generator=generator).to(device, dtype)
        )

    template = images(model.template_size)
    search = images(model.search_size)
    if form.startswith("ONNX Runtime"):
        return _exported(model, template, search, threads, int8=form.endswith("int8"))
    network: nn.Module = _in_form(model, form)

    def step() -> Tensor:
        with torch.inference_mode():
            return network(target, search).score_map

    with torch.inference_mode():
        target = model.embed_template(template) if form == "template kept" else template
    if form == "compiled":
        torch.set_num_threads(threads)
        step()
    return step


def _in_form(model: TrackingNetwork, form: str) -> nn.Module:
    if form == "explicit attention":
        return with_attention_as_released(model)
    if form == "written naively":
        return written_naively(model).eval()
    if form == "compiled":
        return torch.compile(model)  # pyright: ignore[reportReturnType]
    if form == "int8":
        with warnings.catch_warnings():
            # torch deprecates it in favour of a package of its own
            warnings.simplefilter("ignore")
            return torch.ao.quantization.quantize_dynamic(
                copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8
            )
    return model


def _exported(
    model: TrackingNetwork, template: ImagePair, search: ImagePair, threads: int, *, int8: bool
) -> Step:
    from rgbt_fusion.export.int8 import export_int8
    from rgbt_fusion.export.onnx_file import export_onnx, open_session, run_session
    from rgbt_fusion.export.step import TrackerStep

    batch = len(search.rgb)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "step.onnx"
        export_onnx(model, file, batch=batch)
        if int8:
            file = export_int8(model, file, Path(folder) / "int8.onnx", batch=batch).path
        session = open_session(file, threads=threads)
    step = TrackerStep(model, batch=batch, embedded=True)
    grid = model.settings.search_grid
    with torch.no_grad():
        tokens = step.template_inputs(template)
    values = (*tokens, *search, torch.ones(grid, grid), *step.initial_state)
    inputs = dict(zip(step.input_names, values, strict=True))
    return lambda: run_session(session, inputs)["score_map"]


def frame_step(contender: str, *, height: int, width: int, dtype: torch.dtype, device: str) -> Step:
    """Return a function that tracks one frame of noise, from its pixels to the box."""
    import numpy as np

    from rgbt_fusion.tracking.tracker import Tracker

    tracker = Tracker(build(contender), device=device, dtype=dtype)
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    tir = rng.integers(0, 256, (height, width, 1), dtype=np.uint8)
    tracker.init(rgb, tir, (width / 2, height / 2, width / 10, height / 10))
    start = tracker.state

    def step() -> Tensor:
        # the same frame from the same box, so that every sample crops alike
        tracker.state = start
        return torch.from_numpy(tracker.update(rgb, tir).box_xywh_px)

    return step
