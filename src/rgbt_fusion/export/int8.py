"""An ONNX step with its linear layers in int8, for CPUs."""

from dataclasses import replace
from pathlib import Path

from rgbt_fusion.export.agreement import ExportReport, published_when_complete
from rgbt_fusion.export.onnx_file import check_onnx, need_onnx
from rgbt_fusion.export.program import evaluated_step, quiet
from rgbt_fusion.models.network import TrackingNetwork

__all__ = ["export_int8"]

COMPARED_STEPS = 8
"""On how many synthetic frames the error of the boxes is measured."""


def export_int8(model: TrackingNetwork, source: str | Path, path: str | Path, *, batch: int = 1) -> ExportReport:
    """Write an exported ONNX step again with its linear layers in int8, and measure what that costs.

    Weights are rounded to 7 bits once, a scale for each output; the tokens in front of them to 8 bits at every call.
    Seven bits, because eight overflow the 16-bit sums of processors without the dot-product instructions (VNNI).
    Attention, scans, norms and the head's convolutions stay in float32.

    Args:
        model: the model that ``source`` was exported from, to compare with.
        source: what :func:`~rgbt_fusion.export.onnx_file.export_onnx` wrote.
        path: the file; replaced only by a complete one.
        batch: how many targets the step looks for.

    Returns:
        What was written, and its differences from PyTorch: these have no bound, judge them by your use.

    Raises:
        ModuleNotFoundError: the extra ``export`` is not installed.
        ExportError: the file cannot be written.
    """
    need_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = Path(path)
    with evaluated_step(model, batch) as step, published_when_complete(path) as beside:
        with quiet():
            quantize_dynamic(
                Path(source),
                beside,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
            )
        report = check_onnx(step, beside, COMPARED_STEPS)
    return replace(report, path=path, precision="int8 linear layers")
