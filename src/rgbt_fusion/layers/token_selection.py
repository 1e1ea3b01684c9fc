"""Pick search tokens, and put them back to their places."""

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.shapes import check_indices, check_shape

__all__ = ["restore_tokens", "select_tokens"]


def select_tokens(tokens: Tensor, positions: Tensor) -> Tensor:
    """Pick tokens by their positions, with gradient.

    It lets a stream that was not scored follow one that was:
    ``select_tokens(tir_search, eliminated.positions)``.

    Args:
        tokens: the tokens to pick from.
        positions: which tokens, int64.

    Shape:
        - tokens: ``(B, L, C)``
        - positions: ``(B, K)``
        - returns ``(B, K, C)``

    Raises:
        ShapeError: ``tokens`` or ``positions`` does not have the shape above.
        TypeError: ``positions`` is not int64.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.token_selection import select_tokens
        >>> select_tokens(torch.tensor([[[5.0], [6.0], [7.0]]]), torch.tensor([[0, 2]])).tolist()
        [[[5.0], [7.0]]]
    """
    sizes = check_shape(tokens, "B L C", name="tokens")
    check_shape(positions, "B K", B=sizes["B"], name="positions")
    check_indices(positions, name="positions")
    return tokens.gather(1, positions.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def restore_tokens(tokens: Tensor, indices: Tensor, length: int) -> Tensor:
    """Put the kept search tokens back to their places in the search grid, zeros elsewhere.

    Args:
        tokens: what is left; template tokens in front stay in front.
        indices: places of the K search tokens in the grid, int64, without repetition.
        length: tokens of the whole search grid.

    Shape:
        - tokens: ``(B, T + K, C)``
        - indices: ``(B, K)``
        - returns ``(B, T + length, C)``

    Raises:
        ShapeError: ``tokens`` or ``indices`` does not have the shape above; there are more indices
            than tokens, or more than ``length``.
        TypeError: ``indices`` is not int64.

    Example:
        >>> import torch
        >>> from rgbt_fusion import restore_tokens
        >>> left, places = torch.tensor([[[5.0], [6.0]]]), torch.tensor([[1, 3]])
        >>> restore_tokens(left, places, 4).flatten().tolist()
        [0.0, 5.0, 0.0, 6.0]
    """
    sizes = check_shape(tokens, "B L C", name="tokens")
    batch = sizes["B"]
    present = sizes["L"]
    channels = sizes["C"]
    kept = check_shape(indices, "B K", B=batch, name="indices")["K"]
    check_indices(indices, name="indices")
    if kept > present:
        raise ShapeError(
            f"indices must be at most as many as tokens, L = {present}, got {tuple(indices.shape)}"
        )
    if kept > length:
        raise ShapeError(f"length must be at least the number of indices {kept}, got {length}")
    template = tokens[:, : present - kept]
    search = tokens[:, present - kept :]
    places = indices.unsqueeze(-1).expand(-1, -1, channels)
    grid = search.new_zeros(batch, length, channels).scatter(1, places, search)
    return torch.cat((template, grid), dim=1)
