"""Write an ONNX step in float16: half the size, for runtimes on a GPU."""

from functools import partial
from pathlib import Path

from torch import nn

from rgbt_fusion.export.agreement import ExportReport
from rgbt_fusion.export.onnx_file import need_onnx, reading_source, write_converted
from rgbt_fusion.export.onnx_runtime import onnx_runtime

__all__ = ["export_float16", "write_rounded"]


def export_float16(
    model: nn.Module, source: str | Path, path: str | Path, *, batch: int = 1
) -> ExportReport:
    """Write an exported ONNX step in float16, and measure the difference.

    ONNX Runtime's own converter rounds weights and operations. Inputs and outputs stay in float32,
    so that the file is used like ``source``. States of scans are rounded, too. On a CPU the file is
    not faster, because ONNX Runtime computes most operations in float32 there.

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
    convert = partial(write_rounded, source)
    return write_converted(model, path, convert, source=source, batch=batch, precision="float16")


def write_rounded(source: str | Path, path: Path) -> None:
    """Write an ONNX file in float16.

    Raises:
        ExportError: ``source`` cannot be read or converted.
    """
    onnx_runtime()
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with reading_source(source) as content:
        onnx.save(convert_float_to_float16(content, keep_io_types=True), path)
