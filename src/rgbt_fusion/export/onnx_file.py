"""Write a tracker's step, or any module, as ONNX, for ONNX Runtime and other programs."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from rgbt_fusion.checks import first_line
from rgbt_fusion.export.agreement import (
    ExportError,
    ExportReport,
    agreement,
    published_when_complete,
)
from rgbt_fusion.export.any_module import (
    ModuleReport,
    compare_module,
    evaluated,
    flat_inputs,
    followed,
    input_names,
    output_tensors,
)
from rgbt_fusion.export.onnx_runtime import onnx_runtime
from rgbt_fusion.export.plain_ops import PLAIN_OPS
from rgbt_fusion.export.program import (
    CHECKED_STEPS,
    arguments_of_export,
    evaluated_step,
    quiet,
    traced,
)
from rgbt_fusion.export.step import IMAGE_INPUTS, TemplateStep, TrackerStep, recorded_steps
from rgbt_fusion.files.text_tables import DataError, check_regular_file
from rgbt_fusion.frames.crop import IMAGENET_MEAN, IMAGENET_STD
from rgbt_fusion.models.interface import configuration_of, unwrapped
from rgbt_fusion.tracking.tracker import TEMPLATE_FACTOR
from rgbt_fusion.weights.formats import CONFIGURATION_KEY, tracking_texts

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

__all__ = [
    "COMPARED_STEPS",
    "INITIAL_STATE_KEY",
    "OPSET",
    "TRACKING_KEY",
    "check_onnx",
    "export_onnx",
    "inputs_read",
    "need_onnx",
    "open_session",
    "reading_source",
    "run_session",
    "template_file",
    "write_converted",
    "write_program",
]

COMPARED_STEPS = 8
"""On how many synthetic frames the error of a rounded file is measured."""

OPSET = 18
"""The version of the ONNX operators."""

INITIAL_STATE_KEY = "rgbt_fusion.initial_state"
"""The key of the metadata that hold, as JSON, the state inputs before the first frame."""

TRACKING_KEY = "rgbt_fusion.tracking"
"""The key of the metadata that hold, as JSON, what a program has to know to track."""


@overload
def export_onnx(model: nn.Module, path: str | Path, /, *, batch: int = 1) -> ExportReport: ...


@overload
def export_onnx(model: nn.Module, *, path: str | Path, batch: int = 1) -> ExportReport: ...


@overload
def export_onnx(model: nn.Module, inputs: Sequence[Any], path: str | Path) -> ModuleReport: ...


def export_onnx(
    model: nn.Module,
    inputs: Sequence[Any] | str | Path | None = None,
    path: str | Path | None = None,
    *,
    batch: int = 1,
) -> ExportReport | ModuleReport:
    """Write a module as ONNX of fixed shapes, checked against the module in ONNX Runtime.

    ``export_onnx(model, path)`` writes one step of a tracking network. Inputs and outputs have the
    names of :class:`~rgbt_fusion.export.step.TrackerStep`. The metadata hold what a program needs
    to track with the file: the model's configuration and tracking settings, the sizes and factors
    of the crops, mean and standard deviation of the images and, for a model with a memory, the
    state to start from.

    A network with ``embed_template`` becomes two files: that of the step takes the template as
    tokens, and :func:`template_file` beside it makes them, once per sequence.

    ``export_onnx(module, inputs, path)`` writes any other module, with the layers of this library
    inside or not. Inputs have the names of the arguments of ``forward``, outputs those of the
    result. Each scan becomes one Scan node, which is correct and slower than in this library.

    Args:
        model: the model, with its weights, in float32.
        inputs: the arguments of a module that is not a tracking network, in order.
        path: the file to write. An old one is replaced when the new one is complete and agrees with
            the model.
        batch: how many targets a step of a tracking network looks for.

    Returns:
        What was written, and its differences from PyTorch; ``print`` shows it.

    Raises:
        ModuleNotFoundError: the extra ``export`` is not installed.
        ExportError: ``model`` is not in float32, this torch cannot write it, or the file cannot be
            written or does not agree with the model.
        TypeError: ``path`` is missing, or there are no ``inputs`` and ``model`` is not a tracking
            network.
    """
    inputs, path = arguments_of_export(model, inputs, path)
    need_onnx()
    if inputs is not None:
        return _export_module(model, inputs, path)
    with evaluated_step(model, batch, embedded=True) as step, ExitStack() as files:
        beside = files.enter_context(published_when_complete(path))
        template = None
        known = None
        if step.embedded:
            template = template_file(path)
            # left first: a step never stands beside the template of another one
            template_beside = files.enter_context(published_when_complete(template))
            digest = _write_template(step, template_beside)
            known = {"file": template.name, "sha256": digest}
        with quiet():
            _write(step, beside, known)
        report = check_onnx(step, beside, CHECKED_STEPS)
        report.refuse_beyond_tolerance()
    return replace(report, path=path, template=template)


def write_converted(
    model: nn.Module,
    path: str | Path,
    convert: Callable[[Path], None],
    *,
    source: str | Path,
    batch: int,
    precision: str,
) -> ExportReport:
    """Write a step in another precision, and measure its differences from the model.

    Args:
        model: what the step was exported from.
        path: the file to write; an old one is replaced when the new one is complete.
        convert: writes the file at the path that it is given.
        source: what it converts.
        batch: how many targets the step looks for.
        precision: what the report calls the result.

    Raises:
        ExportError: ``path`` cannot be written, ``source`` is no step of ``model``, or ``model`` is
            not in float32.
    """
    path = Path(path)
    with (
        evaluated_step(model, batch, embedded=True) as step,
        published_when_complete(path) as beside,
    ):
        with quiet():
            convert(beside)
        with _refusing(source, f"an exported step of this model for {batch} targets"):
            report = check_onnx(step, beside, COMPARED_STEPS)
    return replace(report, path=path, precision=precision)


@contextmanager
def reading_source(source: str | Path) -> "Iterator[ModelProto]":
    """Give the content of an exported file to a converter, whose errors are those of the file.

    Raises:
        ExportError: ``source`` is missing, is not ONNX, keeps its weights in another file, or
            cannot be converted.
    """
    import onnx

    try:
        check_regular_file(source)
        data = Path(source).read_bytes()
    except DataError as error:
        raise ExportError(f"source cannot be read: {error}") from None
    except OSError as error:
        raise ExportError(f"source {source} cannot be read: {error.strerror or error}") from None
    with _refusing(source, "an ONNX file that export_onnx wrote"):
        model = onnx.load_model_from_string(data)
        elsewhere = onnx.TensorProto.EXTERNAL
        if any(constant.data_location == elsewhere for constant in model.graph.initializer):
            raise ValueError("its weights are in another file")
        yield model


@contextmanager
def _refusing(source: str | Path, rule: str) -> Iterator[None]:
    """Have whatever ONNX and its runtime raise at a file say that the file is wrong.

    Both have many errors of their own. A disk that is full is no fault of the file.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        reason = first_line(error)[:200]
        raise ExportError(f"source must be {rule}, got {source}: {reason}") from error


def template_file(path: str | Path) -> Path:
    """Return the file that embeds the template for the step of ``path``.

    Example:
        >>> from rgbt_fusion.export.onnx_file import template_file
        >>> template_file("ainet.onnx").name
        'ainet.template.onnx'
    """
    return Path(path).with_suffix(".template.onnx")


def _write_template(step: TrackerStep, path: Path) -> str:
    """Write what embeds the template, compare it with PyTorch, and return its SHA-256."""
    embedding = TemplateStep(step)
    names = IMAGE_INPUTS[:2]
    size = step.model.template_size
    images = [torch.randn(step.batch, 3, size, size) for _ in names]
    with torch.no_grad(), quiet():
        expected = embedding(*images)
        program = followed(embedding, tuple(images), network=step.model)
        write_program(program, path, names, step.template_names, {})
    session = open_session(path)

    def run(values: list[Tensor]) -> list[Tensor]:
        return list(run_session(session, inputs_read(session, names, values)).values())

    compare_module(path, expected, run, images, names)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _export_module(module: nn.Module, inputs: tuple[Any, ...], path: Path) -> ModuleReport:
    tensors = flat_inputs(inputs)
    with evaluated(unwrapped(module)) as own, published_when_complete(path) as beside:
        names = input_names(own, inputs)
        with torch.no_grad(), quiet():
            expected = own(*inputs)
            # ONNX has one space for the names of inputs and outputs
            outputs = [f"out_{one}" if one in names else one for one in output_tensors(expected)]
            program = followed(own, inputs, network=own)
            write_program(program, beside, names, outputs, {})
        session = open_session(beside)

        def run(values: list[Tensor]) -> list[Tensor]:
            return list(run_session(session, dict(zip(names, values, strict=True))).values())

        report = compare_module(beside, expected, run, tensors, names)
    return replace(report, path=path)


def need_onnx() -> None:
    """Check that ONNX files can be written and run here.

    Raises:
        ModuleNotFoundError: the extra ``export`` is not installed.
        ExportError: torch is older than 2.8.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401

        onnx_runtime()
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
    runtime = onnx_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # its fallback would print a banner, and fail at a damaged file once more
    return runtime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
    )


def inputs_read(
    session: "InferenceSession", names: Sequence[str], values: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Return by name the inputs that a file reads.

    A network of one modality does not read the images of the other one.
    """
    read = {one.name for one in session.get_inputs()}
    given = zip(names, values, strict=True)
    return {name: value for name, value in given if name in read}


def run_session(session: "InferenceSession", inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run a step in ONNX Runtime, with tensors by name in and out."""
    names = [output.name for output in session.get_outputs()]
    found: Any = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}


def _write(step: TrackerStep, path: Path, template: dict[str, str] | None) -> None:
    """Write a step as ONNX, with what a program has to know to track with it."""
    state = {}
    for name, tensor in zip(step.state_names, step.initial_state, strict=True):
        state[name] = tensor.tolist()
    texts = {
        CONFIGURATION_KEY: json.dumps(configuration_of(step.model)),
        INITIAL_STATE_KEY: json.dumps(state),
        TRACKING_KEY: json.dumps(_tracking_values(step) | {"template": template}),
    }
    texts |= tracking_texts(step.model)
    write_program(traced(step), path, step.input_names, step.output_names, texts)


def _tracking_values(step: TrackerStep) -> dict[str, Any]:
    """Return what a program has to know to track with the file."""
    return {
        "template_size": step.model.template_size,
        "template_factor": TEMPLATE_FACTOR,
        "search_size": step.model.search_size,
        "search_factor": step.model.search_factor,
        "grid": step.grid,
        "batch": step.batch,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }


def write_program(
    program: ExportedProgram,
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    texts: Mapping[str, str],
) -> None:
    """Write a program of torch.export as ONNX, with names for its tensors and texts beside them.

    Raises:
        ExportError: torch cannot write it.
    """
    with torch.no_grad():
        written = torch.onnx.export(
            program.run_decompositions(PLAIN_OPS),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    if written is None:
        raise ExportError("torch.onnx.export returned nothing to write")
    written.model.metadata_props.update(texts)
    written.save(str(path))
