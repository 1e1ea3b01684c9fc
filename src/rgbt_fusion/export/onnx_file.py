"""Write a tracker's step as an ONNX file, for ONNX Runtime and other programs."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rgbt_fusion.export.agreement import (
    ExportError,
    ExportReport,
    agreement,
    published_when_complete,
)
from rgbt_fusion.export.plain_ops import PLAIN_OPS
from rgbt_fusion.export.program import CHECKED_STEPS, evaluated_step, quiet, traced
from rgbt_fusion.export.step import TrackerStep, recorded_steps
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.weights.formats import CONFIGURATION_KEY

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = [
    "INITIAL_STATE_KEY",
    "OPSET",
    "check_onnx",
    "export_onnx",
    "need_onnx",
    "open_session",
    "run_session",
]

OPSET = 18
"""The version of the ONNX operators."""

INITIAL_STATE_KEY = "rgbt_fusion.initial_state"
"""The key of the metadata that hold, as JSON, the state inputs before the first frame."""


def export_onnx(model: TrackingNetwork, path: str | Path, *, batch: int = 1) -> ExportReport:
    """Write one step of a model as ONNX of fixed shapes, checked against the model.

    Inputs and outputs have the names of :class:`~rgbt_fusion.export.step.TrackerStep`. The metadata
    hold the model's configuration and, for a model with a memory, the state to start from. Each
    scan becomes one Scan node, which is correct and much slower than in this library.

    Args:
        model: the model, with its weights, in float32.
        path: the file to write. An old one is replaced when the new one is complete and agrees with
            the model.
        batch: how many targets a step looks for.

    Returns:
        What was written, and its differences from PyTorch.

    Raises:
        ModuleNotFoundError: the extra ``export`` is not installed.
        ExportError: ``model`` is not in float32, this torch cannot write it, or the file cannot be
            written or does not agree with the model.
    """
    path = Path(path)
    need_onnx()
    with evaluated_step(model, batch) as step, published_when_complete(path) as beside:
        with quiet():
            _write(step, beside)
        report = check_onnx(step, beside, CHECKED_STEPS)
        report.refuse_beyond_tolerance()
    return replace(report, path=path)


def need_onnx() -> None:
    """Check that ONNX files can be written and run here.

    Raises:
        ModuleNotFoundError: the extra ``export`` is not installed.
        ExportError: torch is older than 2.8.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"exporting to ONNX needs {error.name}: pip install 'rgbt-fusion[export]'",
            name=error.name,
        ) from error
    major, minor = torch.__version__.split(".")[:2]
    # older exporters do not know torch's scan
    if (int(major), int(minor)) < (2, 8):
        raise ExportError(f"exporting to ONNX needs torch 2.8 or later, got {torch.__version__}")


def check_onnx(step: TrackerStep, path: Path, count: int) -> ExportReport:
    """Run a file in ONNX Runtime on synthetic frames, and compare it with the step."""
    session = open_session(path)

    def run(inputs: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        return run_session(session, dict(zip(step.input_names, inputs, strict=True)))

    return agreement(path, run, recorded_steps(step, count), search_size=step.model.search_size)


def open_session(path: str | Path, *, threads: int = 0) -> "InferenceSession":
    """Open a file in ONNX Runtime on the CPU; 0 leaves the number of threads to it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_session(session: "InferenceSession", inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run a step in ONNX Runtime, with tensors by name in and out."""
    names = [output.name for output in session.get_outputs()]
    found: Any = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}


def _write(step: TrackerStep, path: Path) -> None:
    """Write a step as ONNX, with the model's configuration and initial state."""
    with torch.no_grad():
        program = traced(step).run_decompositions(PLAIN_OPS)
        written = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=step.input_names,
            output_names=step.output_names,
            verbose=False,
        )
    if written is None:
        raise ExportError("torch.onnx.export returned nothing to write")
    state = {
        name: tensor.tolist()
        for name, tensor in zip(step.state_names, step.initial_state, strict=True)
    }
    texts = {
        CONFIGURATION_KEY: json.dumps(step.model.configuration),
        INITIAL_STATE_KEY: json.dumps(state),
    }
    written.model.metadata_props.update(texts)
    written.save(str(path))
