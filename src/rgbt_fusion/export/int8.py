"""Write an ONNX step with its linear layers in int8, for CPUs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from rgbt_fusion.export.agreement import ExportReport
from rgbt_fusion.export.onnx_file import need_onnx, reading_source, write_converted
from rgbt_fusion.export.onnx_runtime import onnx_runtime
from rgbt_fusion.files.whole import scratch_folder

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["export_int8", "write_quantised"]

_PIECE = 1 << 20
"""Bytes of one write where a disk is tried."""


def export_int8(
    model: nn.Module, source: str | Path, path: str | Path, *, batch: int = 1
) -> ExportReport:
    """Write an exported ONNX step with its linear layers in int8, and measure the difference.

    Weights are rounded once, to 7 bits with one scale per output channel. Tokens are rounded to 8
    bits at every call. Attention, norms, the head's convolutions and the scans stay in float32.

    Choices: 7 bits, because 8 bits overflow the 16-bit sums of processors without the dot-product
    instructions (VNNI).

    Args:
        model: the model that ``source`` was exported from, to compare with. The file that embeds
            its template serves the new file, too.
        source: the file that :func:`~rgbt_fusion.export.onnx_file.export_onnx` wrote.
        path: the file to write. An old one is replaced when the new one is complete.
        batch: how many targets the step looks for.

    Returns:
        What was written, and its differences from PyTorch. They have no bound: judge them by your
        use.

    Raises:
        ModuleNotFoundError: the extra ``export`` is not installed.
        ExportError: ``path`` cannot be written, ``source`` cannot be read or is no step of
            ``model``, or ``model`` is not in float32.
    """
    need_onnx()

    def convert(beside: Path) -> None:
        with scratch_folder(path) as folder, _temporary_files_in(folder):
            write_quantised(source, beside)

    return write_converted(
        model, path, convert, source=source, batch=batch, precision="int8 linear layers"
    )


def write_quantised(source: str | Path, path: Path) -> None:
    """Write an ONNX file with its linear layers in int8.

    Raises:
        ExportError: ``source`` cannot be read or converted.
        OSError: the disk is full.
    """
    onnx_runtime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with reading_source(source) as content:
        _drop_shapes_of_constants(content)
        try:
            quantize_dynamic(
                content,
                path,
                nodes_to_quantize=_linear_layers(content),
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
            )
        except Exception:
            # it reads back what it wrote, and does not notice that the disk is full
            _check_room(2 * content.ByteSize())
            raise


def _check_room(size: int) -> None:
    """Raise OSError where the folder of temporary files has no room for so many bytes."""
    with tempfile.TemporaryFile() as file:
        for start in range(0, size, _PIECE):
            file.write(bytes(min(_PIECE, size - start)))


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have the quantiser, which takes no folder, put its files where the next writer sweeps."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _drop_shapes_of_constants(model: "ModelProto") -> None:
    """Drop the recorded shapes of weights.

    The quantiser transposes some weights, and then finds that their recorded shapes are wrong.
    """
    constants = {constant.name for constant in model.graph.initializer}
    others = [value for value in model.graph.value_info if value.name not in constants]
    del model.graph.value_info[:]
    model.graph.value_info.extend(others)


def _linear_layers(model: "ModelProto") -> list[str]:
    """Return the names of the products with a constant matrix.

    The projections of a scan of several directions have one matrix per direction; these cannot be
    quantised.
    """
    matrices = {constant.name for constant in model.graph.initializer if len(constant.dims) == 2}
    names = []
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in matrices:
            names.append(node.name)
    return names
