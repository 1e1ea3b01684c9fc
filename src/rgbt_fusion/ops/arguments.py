"""Checks and views of arguments that the two ops share."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_divisible
from rgbt_fusion.shapes import check_same_device, check_same_dtype

__all__ = [
    "callers_layout",
    "check_like",
    "check_order_fits",
    "check_permutation",
    "empty_tokens",
    "order_with_sample_axis",
    "token_major",
    "wants_gradient",
    "with_direction_axis",
    "within_bounds",
]


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
    directed: dict[str, int] = {}
    result: dict[str, Tensor] = {}
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
    directions = 1
    for size in directed.values():
        directions = max(directions, size)
    for name, size in directed.items():
        # not "in": a compiler that follows symbolic sizes compares them by identity there
        if size != 1 and size != directions:
            raise ShapeError(
                f"{name} must have {directions} directions as its first axis, or 1, got {size}"
            )
    return result, len(directed) > 0


def order_with_sample_axis(order: Tensor | None) -> Tensor | None:
    """Return ``order`` as ``(B?, K)`` or ``(R, B?, K)``, with an axis of samples."""
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
    if order.dim() == 1:
        return order[None]
    if order.dim() == 2:
        return order[:, None]
    return order


def check_order_fits(
    order: Tensor | None, like: Tensor, *, like_name: str, batch: int, length: int
) -> None:
    """Check the device and the sizes of ``order (R, B?, K)``.

    Whether it holds permutations is checked inside the op.
    """
    if order is None:
        return
    check_same_device(order, like, name="order", like_name=like_name)
    check_divisible(
        length, max(1, order.shape[2]), name="L", divisor_name="the number of segments K"
    )
    if order.shape[2] == 0 or order.shape[1] not in (1, batch):
        raise ShapeError(
            f"order must have shape (R, B, K) with B = {batch} or 1 and K >= 1, "
            f"got {tuple(order.shape)}"
        )


def check_permutation(order: Tensor) -> None:
    """Check that every row of ``order`` holds each of ``0..K-1`` once; this reads the tensor."""
    segments = torch.arange(order.shape[-1], device=order.device)
    if torch.equal(order.sort(-1).values, segments.expand_as(order)):
        return
    place, why = _first_wrong_segment(order)
    raise ValueError(
        f"order must be a permutation of 0..{order.shape[-1] - 1} in every row, "
        f"got {why} at {place} of shape {tuple(order.shape)}"
    )


def _first_wrong_segment(order: Tensor) -> tuple[tuple[int, ...], str]:
    """Return where the first number stands that is out of range or repeated, and what it is."""
    segments = order.shape[-1]
    for row, numbers in enumerate(order.flatten(0, -2).tolist()):
        seen = set[int]()
        for column, number in enumerate(numbers):
            place = (*_place(row, order.shape[:-1]), column)
            if not 0 <= number < segments:
                return place, f"{number}"
            if number in seen:
                return place, f"a second {number}"
            seen.add(number)
    raise RuntimeError("every row of the order is a permutation")


def _place(row: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the index of row ``row`` of the leading axes."""
    place = []
    for size in reversed(shape):
        place.insert(0, row % size)
        row //= size
    return tuple(place)


def within_bounds(order: Tensor) -> Tensor:
    """Return an order that nobody checked with its numbers forced into ``0..K-1``.

    It may still repeat a segment: then the result is wrong, but no memory outside is touched.
    """
    return order.clamp(0, order.shape[-1] - 1)


def token_major(x: Tensor, channels_first: bool) -> Tensor:
    """View ``(R, B, D, L)`` as ``(R, B, L, D)``, or ``(R, B, G, N, L)`` as ``(R, B, L, G, N)``."""
    return x.movedim(-1, 2) if channels_first else x


def callers_layout(x: Tensor, channels_first: bool) -> Tensor:
    """Undo :func:`token_major`."""
    return x.movedim(2, -1) if channels_first else x


def empty_tokens(like: Tensor, shape: Sequence[int], channels_first: bool) -> Tensor:
    """Return an empty ``(R, B, L, ...)`` whose memory is laid out as that of ``like``."""
    if not _tokens_are_neighbours(like, channels_first):
        return like.new_empty(shape)
    directions, batch, length, *rest = shape
    return like.new_empty(directions, batch, *rest, length).movedim(-1, 2)


def _tokens_are_neighbours(x: Tensor, channels_first: bool) -> bool:
    """Say whether the tokens of one channel lie side by side in ``x (R, B, L, ...)``.

    Where both tokens and channels do, or neither, the caller's layout decides.
    """
    if x.stride(-1) == 1:
        return channels_first and x.stride(2) == 1
    return channels_first or x.stride(2) == 1


def wants_gradient(arguments: Iterable[Any]) -> bool:
    """Say whether autograd will ask for a gradient of one of ``arguments``.

    Under a transform of torch.func a tensor does not show whether a gradient is wanted of it.
    """
    if not torch.is_grad_enabled():
        return False
    if torch._C._are_functorch_transforms_active():
        return True
    return any(isinstance(x, Tensor) and x.requires_grad for x in arguments)
