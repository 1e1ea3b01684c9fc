"""Picking search tokens and putting them back to their places."""

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.shapes import check_indices, check_shape

__all__ = ["restore_tokens", "select_tokens"]


def select_tokens(tokens: Tensor, positions: Tensor) -> Tensor:
    """Pick the tokens ``(B, L, C)`` at ``positions`` ``(B, K)``: ``(B, K, C)``, with gradient.

    A stream that was not scored follows one that was: ``select_tokens(tir_search,
    eliminated.positions)``.
    """
    sizes = check_shape(tokens, "B L C", name="tokens")
    check_shape(positions, "B K", B=sizes["B"], name="positions")
    check_indices(positions, name="positions")
    return tokens.gather(1, positions.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def restore_tokens(tokens: Tensor, indices: Tensor, length: int) -> Tensor:
    """Put the kept search tokens back to their places in the search grid, zeros elsewhere.

    Args:
        tokens: what is left, ``(B, T + K, C)``; template tokens in front stay in front.
        indices: places of the K search tokens in the grid, int64 ``(B, K)``, without repetition.
        length: tokens of the whole search grid.

    Shape:
        ``(B, T + K, C)`` and ``(B, K)`` to ``(B, T + length, C)``.

    Raises:
        ShapeError: another number of axes, another batch, fewer tokens than indices, more indices
            than ``length``.
        TypeError: no tensors, or indices that are not int64.

    Example:
        >>> import torch
        >>> from rgbt_fusion import restore_tokens
        >>> restore_tokens(torch.tensor([[[5.0], [6.0]]]), torch.tensor([[1, 3]]), 4).flatten().tolist()
        [0.0, 5.0, 0.0, 6.0]
    """
    sizes = check_shape(tokens, "B L C", name="tokens")
    kept = check_shape(indices, "B K", B=sizes["B"], name="indices")["K"]
    check_indices(indices, name="indices")
    if kept > sizes["L"]:
        raise ShapeError(
            f"indices must be at most as many as tokens, L = {sizes['L']}, got {tuple(indices.shape)}"
        )
    if kept > length:
        raise ShapeError(f"length must be at least the number of indices {kept}, got {length}")
    template, search = tokens[:, : sizes["L"] - kept], tokens[:, sizes["L"] - kept :]
    places = indices.unsqueeze(-1).expand(-1, -1, sizes["C"])
    grid = search.new_zeros(sizes["B"], length, sizes["C"]).scatter(1, places, search)
    return torch.cat((template, grid), dim=1)
