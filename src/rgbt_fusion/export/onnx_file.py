"""A tracker's step as an ONNX file, for ONNX Runtime and whatever else reads the format."""

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

__all__ = ["INITIAL_STATE_KEY", "OPSET", "export_onnx", "run_session"]

OPSET = 18
INITIAL_STATE_KEY = "rgbt_fusion.initial_state"
"""Under which text an ONNX file says, as JSON, what its state inputs hold before a first frame."""


def export_onnx(model: TrackingNetwork, path: str | Path, *, batch: int = 1) -> ExportReport:
    """Write one step of a model as ONNX (opset 18) of fixed shapes, checked against the model in
    ONNX Runtime.

    Scans become one Scan node each: correct, and much slower than here. Inputs and outputs bear the
    names of :class:`~rgbt_fusion.export.step.TrackerStep`; the file's metadata hold the model's
    configuration and, for a model with a memory, the state to start from.

    Args:
        model: the model, with its weights, in float32.
        path: the file; replaced only by a complete one that agrees with the model.
        batch: how many targets a step looks for.

    Returns:
        What was written, and its differences from PyTorch.

    Raises:
        ModuleNotFoundError: the extra ``export`` is not installed.
        ExportError: the model is not in float32, this torch cannot write it, or the file does not
            agree with the model.
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
    """Raise where something that writes and checks ONNX is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"exporting to ONNX needs {error.name}: pip install 'rgbt-fusion[export]'",
            name=error.name,
        ) from error
    # the exporter learned torch's scan with this version
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 8):
        raise ExportError(f"exporting to ONNX needs torch 2.8 or later, got {torch.__version__}")


def check_onnx(step: TrackerStep, path: Path, count: int) -> ExportReport:
    """Compare a file with the step in ONNX Runtime, on some synthetic frames."""
    session = open_session(path)

    def run(inputs: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        return run_session(session, dict(zip(step.input_names, inputs, strict=True)))

    return agreement(
        path, run, list(recorded_steps(step, count)), search_size=step.model.search_size
    )


def open_session(path: str | Path, *, threads: int = 0) -> "InferenceSession":
    """Open a file in ONNX Runtime on the CPU; ``threads=0`` leaves their number to it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_session(session: "InferenceSession", inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run a step in ONNX Runtime: tensors by name in and out."""
    names = [output.name for output in session.get_outputs()]
    found: Any = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}


def _write(step: TrackerStep, path: Path) -> None:
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
