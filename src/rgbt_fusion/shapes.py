"""Checks of tensors: shape, dtype and device, each named in the error."""

from typing import Any

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError

__all__ = [
    "BackendUnavailableError",
    "check_dtype_unless_autocast",
    "check_floating",
    "check_indices",
    "check_same_device",
    "check_same_dtype",
    "check_same_shape",
    "check_shape",
]


class BackendUnavailableError(RuntimeError):
    """A backend was named and cannot run; the message gives every backend's reasons."""


def check_shape(x: Any, pattern: str, *, name: str, **sizes: int) -> dict[str, int]:
    """Check that ``x`` is a tensor of the named axes and return their sizes.

    Args:
        x: the tensor to check.
        pattern: the axes, one word each: ``"B L C"``. A number is an exact size. A word in
            ``sizes`` must have that size. A word that occurs twice must have one size.
        name: the argument's name, for the message.
        **sizes: the sizes already known.

    Raises:
        TypeError: ``x`` is not a tensor.
        ShapeError: ``x`` has another number of axes or another size.

    Example:
        >>> import torch
        >>> from rgbt_fusion.shapes import check_shape
        >>> check_shape(torch.zeros(2, 320, 768), "B L C", C=768, name="rgb")
        {'C': 768, 'B': 2, 'L': 320}
    """
    axes = pattern.split()
    if not isinstance(x, Tensor):
        shape = ", ".join(axes)
        raise TypeError(f"{name} must be a tensor of shape ({shape}), got {type(x).__name__}")
    found = dict(sizes)
    wrong = len(axes) != x.dim()
    if not wrong:
        for axis, size in zip(axes, x.shape, strict=True):
            if axis.isdigit():
                wrong = wrong or size != int(axis)
            else:
                wrong = wrong or found.setdefault(axis, size) != size
    if wrong:
        shape = f"({', '.join(axes)})"
        known = [f"{axis} = {sizes[axis]}" for axis in dict.fromkeys(axes) if axis in sizes]
        if known:
            shape += f" with {', '.join(known)}"
        raise ShapeError(f"{name} must have shape {shape}, got {tuple(x.shape)}")
    return found


def check_same_shape(x: Any, like: Tensor, *, name: str, like_name: str) -> None:
    """Check that ``x`` is a tensor with the shape of ``like``.

    Raises:
        TypeError: ``x`` is not a tensor.
        ShapeError: ``x`` has another shape.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.shape != like.shape:
        raise ShapeError(
            f"{name} must have the shape of {like_name} {tuple(like.shape)}, got {tuple(x.shape)}"
        )


def check_floating(x: Tensor, *, name: str) -> None:
    """Check that ``x`` holds real floating-point numbers; raise ``TypeError`` otherwise."""
    if not x.is_floating_point():
        raise TypeError(f"{name} must hold real floating-point numbers, got {x.dtype}")


def check_indices(x: Tensor, *, name: str) -> None:
    """Check that ``x`` holds int64 indices; raise ``TypeError`` otherwise."""
    if x.dtype != torch.int64:
        raise TypeError(f"{name} must be int64, got {x.dtype}")


def check_same_dtype(x: Tensor, like: Tensor, *, name: str, like_name: str) -> None:
    """Check that ``x`` has the dtype of ``like``; raise ``TypeError`` otherwise."""
    if x.dtype != like.dtype:
        raise TypeError(f"{name} must have the dtype of {like_name} {like.dtype}, got {x.dtype}")


def check_same_device(x: Tensor, like: Tensor, *, name: str, like_name: str) -> None:
    """Check that ``x`` lies on the device of ``like``; raise ``ValueError`` otherwise."""
    if x.device != like.device:
        raise ValueError(
            f"{name} must be on the device of {like_name} {like.device}, got {x.device}"
        )


def check_dtype_unless_autocast(x: Tensor, like: Tensor, *, name: str, like_name: str) -> None:
    """Check that ``x`` has the dtype of ``like``, unless autocast is on and casts it anyway."""
    if x.dtype != like.dtype and not torch.is_autocast_enabled(x.device.type):
        check_same_dtype(x, like, name=name, like_name=like_name)
