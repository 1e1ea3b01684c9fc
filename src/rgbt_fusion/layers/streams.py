"""Checks of the streams that a layer reads together: tokens, maps, or clips of maps."""

from typing import Any

import torch
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

__all__ = [
    "check_many_streams",
    "check_map_streams",
    "check_presence",
    "check_token_streams",
]


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


def check_many_streams(
    streams: Any, pattern: str, *, parameter: Tensor | None, **sizes: int
) -> dict[str, int]:
    """Check one tensor that holds N streams, and return its sizes.

    Args:
        streams: the streams, N on the second axis.
        pattern: its axes, as :func:`~rgbt_fusion.shapes.check_shape` reads them.
        parameter: any parameter of the layer; its dtype must be that of the streams.
        **sizes: the sizes that are known.

    Raises:
        TypeError: ``streams`` is not a floating-point tensor of the dtype of ``parameter``.
        ShapeError: ``streams`` has another shape, or no stream, position or channel.
    """
    found = check_shape(streams, pattern, name="streams", **sizes)
    if 0 in streams.shape[1:]:
        raise ShapeError(
            f"streams must have at least one stream, position and channel, "
            f"got {tuple(streams.shape)}"
        )
    check_floating(streams, name="streams")
    if parameter is not None:
        check_dtype_unless_autocast(
            streams, parameter, name="streams", like_name="the layer's parameters"
        )
    return found


def check_presence(present: Any, streams: Tensor) -> Tensor:
    """Check which streams ``(B, N)`` each sample has; ``None`` means all of them.

    Raises:
        TypeError: ``present`` is not a boolean tensor.
        ShapeError: ``present`` is not ``(B, N)`` of ``streams``.
        ValueError: ``present`` lies on another device than ``streams``.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.streams import check_presence
        >>> check_presence(None, torch.zeros(1, 3, 20, 8))
        tensor([[True, True, True]])
    """
    batch, count = streams.shape[:2]
    if present is None:
        return torch.ones(batch, count, dtype=torch.bool, device=streams.device)
    check_shape(present, "B N", name="present", B=batch, N=count)
    if present.dtype != torch.bool:
        raise TypeError(f"present must be boolean, got {present.dtype}")
    check_same_device(present, streams, name="present", like_name="streams")
    return present
