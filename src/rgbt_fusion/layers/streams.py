"""Checks of the two streams that a layer reads together: tokens, maps, or clips of maps."""

from typing import Any

from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.shapes import (
    check_dtype_unless_autocast,
    check_floating,
    check_same_device,
    check_same_dtype,
    check_same_shape,
    check_shape,
)

__all__ = ["check_map_streams", "check_token_streams"]


def check_token_streams(rgb: Any, tir: Any, *, dim: int) -> None:
    """Check that ``rgb`` is ``(B, L, dim)`` and that ``tir`` has its shape.

    Raises:
        TypeError: ``rgb`` or ``tir`` is not a tensor.
        ShapeError: ``rgb`` does not have that shape, or ``tir`` differs from it.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.streams import check_token_streams
        >>> check_token_streams(torch.zeros(2, 20, 8), torch.zeros(2, 10, 8), dim=8)
        Traceback (most recent call last):
        rgbt_fusion.checks.ShapeError: tir must have the shape of rgb (2, 20, 8), got (2, 10, 8)
    """
    check_shape(rgb, "B L C", C=dim, name="rgb")
    check_same_shape(tir, rgb, name="tir", like_name="rgb")


def check_map_streams(
    rgb: Any, other: Any, *, dim: int, parameter: Tensor, name: str = "tir"
) -> None:
    """Check that two maps, or two clips of maps, fit each other and the layer.

    Args:
        rgb: the first stream, ``(B, dim, H, W)`` or ``(B, T, dim, H, W)``.
        other: the second stream.
        dim: channels that both must have.
        parameter: any parameter of the layer; its dtype must be that of the streams.
        name: what the layer calls ``other``.

    Raises:
        TypeError: a stream is not a floating-point tensor, or its dtype differs from that of
            ``rgb`` or ``parameter``.
        ShapeError: ``rgb`` has another shape or is empty, or ``other`` differs from it.
        ValueError: ``other`` lies on another device than ``rgb``.
    """
    is_clip = isinstance(rgb, Tensor) and rgb.dim() == 5
    check_shape(rgb, "B T C H W" if is_clip else "B C H W", C=dim, name="rgb")
    if 0 in rgb.shape[1:]:
        raise ShapeError(
            f"rgb must have at least one frame and one position, got {tuple(rgb.shape)}"
        )
    check_same_shape(other, rgb, name=name, like_name="rgb")
    check_same_device(other, rgb, name=name, like_name="rgb")
    check_floating(rgb, name="rgb")
    check_same_dtype(other, rgb, name=name, like_name="rgb")
    check_dtype_unless_autocast(rgb, parameter, name="rgb", like_name="the layer's parameters")
