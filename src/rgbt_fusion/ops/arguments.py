"""Checks and casts of arguments that the two ops share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_divisible
from rgbt_fusion.shapes import check_same_device, check_same_dtype


def lower_to_autocast(*tensors: Any) -> tuple[Any, ...]:
    """Cast what varies over tokens to the autocast dtype of its device; outside autocast return it
    as it is."""
    device = next((x.device.type for x in tensors if isinstance(x, Tensor)), "cpu")
    # tensors without values have no autocast to ask for
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    # A constant B or C (D, N) is a parameter and keeps its precision.
    return tuple(
        x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 2 else x
        for x in tensors
    )


def check_like(x: Tensor, like: Tensor, *, name: str, like_name: str) -> None:
    """Check that ``x`` has the dtype and the device of ``like``."""
    check_same_dtype(x, like, name=name, like_name=like_name)
    check_same_device(x, like, name=name, like_name=like_name)


def with_direction_axis(
    tensors: dict[str, Tensor | None], ranks: dict[str, int], required: Sequence[str]
) -> tuple[dict[str, Tensor], bool]:
    """Give every tensor a leading direction axis, of size 1 where it has none.

    Args:
        tensors: the arguments by name; those absent are left out of the result.
        ranks: how many axes each has without the direction axis.
        required: the arguments that may not be absent.

    Returns:
        The tensors, and whether any of them came with a direction axis.
    """
    directed, result = {}, {}
    for name, x in tensors.items():
        if x is None and name not in required:
            continue
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
        if x.dim() < ranks[name]:
            raise ShapeError(f"{name} must have at least {ranks[name]} axes, got {tuple(x.shape)}")
        if x.dim() > ranks[name]:
            directed[name] = x.shape[0]
        result[name] = x if name in directed else x[None]
    directions = max([1, *directed.values()])
    for name, size in directed.items():
        if size not in (1, directions):
            raise ShapeError(
                f"{name} must have {directions} directions as its first axis, or 1, got {size}"
            )
    return result, bool(directed)


def order_with_sample_axis(order: Tensor | None) -> Tensor | None:
    """Return ``order`` as ``(K,)`` or ``(R, B?, K)``: the axis of samples is added where only
    directions were given."""
    if order is None:
        return None
    if not isinstance(order, Tensor):
        raise TypeError(f"order must be a tensor, got {type(order).__name__}")
    if order.dtype != torch.int64:
        raise TypeError(f"order must have the dtype torch.int64, got {order.dtype}")
    if not 1 <= order.dim() <= 3:
        raise ShapeError(
            f"order must have shape (K), (R, K) or (R, B, K), got {tuple(order.shape)}"
        )
    return order[:, None] if order.dim() == 2 else order[None] if order.dim() == 1 else order


def check_order_fits(
    order: Tensor | None, like: Tensor, *, like_name: str, batch: int, length: int
) -> None:
    """Check the place and sizes of ``order (R, B?, K)``; whether it holds permutations is checked
    inside the op."""
    if order is None:
        return
    check_same_device(order, like, name="order", like_name=like_name)
    check_divisible(
        length, max(1, order.shape[2]), name="L", divisor_name="the number of segments K"
    )
    if order.shape[2] == 0 or order.shape[1] not in (1, batch):
        raise ShapeError(
            f"order must have shape (R, B, K) with B = {batch} or 1 and K >= 1, got {tuple(order.shape)}"
        )


def check_permutation(order: Tensor) -> None:
    """Check that every row of ``order`` holds each of ``0..K-1`` once; this reads the tensor."""
    segments = torch.arange(order.shape[-1], device=order.device)
    if not torch.equal(order.sort(-1).values, segments.expand_as(order)):
        raise ValueError(
            f"order must be a permutation of 0..{order.shape[-1] - 1} in every row, got {order.tolist()}"
        )


def token_major(x: Tensor, channels_first: bool) -> Tensor:
    """View ``(R, B, D, L)`` as ``(R, B, L, D)``, or ``(R, B, G, N, L)`` as ``(R, B, L, G, N)``."""
    return x.movedim(-1, 2) if channels_first else x


def wants_gradient(tensors: Sequence[Tensor | None]) -> bool:
    """Say whether autograd will ask for a gradient of one of ``tensors``."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
