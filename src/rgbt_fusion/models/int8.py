"""A network whose linear layers compute in int8, for CPUs."""

import warnings

import torch
from torch import nn

from rgbt_fusion.models.interface import parameter_like

__all__ = ["quantize_linear_layers"]


def quantize_linear_layers(model: nn.Module) -> nn.Module:
    """Return a copy of a network whose linear layers compute in int8, for inference on a CPU.

    Weights are rounded once, to 8 bits with one scale per layer. Tokens are rounded at every call.
    Attention, norms, convolutions and scans stay in float32, as does the step size of a scan. It is
    torch's dynamic quantisation. Judge the boxes by your use: small networks lose more than they
    gain. The copy cannot be trained, saved by :func:`save_checkpoint` or exported; for a file see
    :func:`~rgbt_fusion.export.int8.export_int8`.

    Args:
        model: a network in float32 on the CPU; it is left as it is.

    Raises:
        ValueError: ``model`` is on another device or in another dtype.
        RuntimeError: this build of torch has no int8 layers.

    Example:
        >>> from rgbt_fusion import Tracker, create_model
        >>> from rgbt_fusion.models.int8 import quantize_linear_layers
        >>> tracker = Tracker(quantize_linear_layers(create_model("ainet_tiny_128")))
    """
    like = parameter_like(model)
    if not like.is_cpu or like.dtype != torch.float32:
        raise ValueError(
            f"model must be in float32 on the cpu, got {like.dtype} on {like.device.type}"
        )
    if torch.backends.quantized.engine == "none":
        raise RuntimeError("this build of torch has no int8 layers")
    with warnings.catch_warnings():
        # torch announces that these layers will move to another package
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
