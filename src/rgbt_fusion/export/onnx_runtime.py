"""Importing ONNX Runtime so that it sends nothing anywhere."""

import os
from types import ModuleType

__all__ = ["TELEMETRY_VARIABLE", "onnx_runtime"]

TELEMETRY_VARIABLE = "ORT_DISABLE_TELEMETRY"
"""The environment variable that ONNX Runtime reads once, when it is imported."""


def onnx_runtime() -> ModuleType:
    """Import ONNX Runtime with its telemetry turned off.

    ONNX Runtime 1.32 holds a telemetry client, which leaves a file among the temporary files. A
    program that has set :data:`TELEMETRY_VARIABLE` or imported ONNX Runtime before keeps what it
    chose.

    Raises:
        ModuleNotFoundError: ONNX Runtime is not installed.
    """
    os.environ.setdefault(TELEMETRY_VARIABLE, "1")
    import onnxruntime

    return onnxruntime
