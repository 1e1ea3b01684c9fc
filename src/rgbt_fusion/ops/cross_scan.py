"""Scans of a map along its rows and columns, as orders of its tokens instead of copies."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.shapes import check_floating, check_shape

__all__ = ["CrossScan", "ScanPath", "cross_scan", "cross_scan_order"]

ScanPath = Literal["four", "two"]
"""The ways through a map: rows, columns and both backwards, or rows and rows backwards."""

# torch.compile of torch 2.6 cannot follow get_args inside a call
_SCAN_PATHS = get_args(ScanPath)


class CrossScan(NamedTuple):
    """A map as tokens, and the order of each direction; see :func:`cross_scan`."""

    tokens: Tensor
    """``(B, L, C)`` with L = H W, a view of the map, row after row."""
    order: Tensor
    """``(R, L)`` int64: token ``order[r, s]`` is visited at step ``s`` of direction ``r``."""
    height: int
    """H of the map."""
    width: int
    """W of the map."""

    def merge(self, out: Tensor) -> Tensor:
        """Return the result of a scan as a map ``(B, D, H, W)``, a view where it can be one.

        Args:
            out: ``(B, L, D)``, the directions summed already, or ``(R, B, L, D)``, which are summed
                here.
        """
        if isinstance(out, Tensor) and out.dim() == 4:
            check_shape(out, "R B L D", name="out", R=self.order.shape[0], L=self.order.shape[1])
            out = out.sum(0)
        check_shape(out, "B L D", name="out", L=self.order.shape[1])
        return out.unflatten(1, (self.height, self.width)).permute(0, 3, 1, 2)


def cross_scan(x: Tensor, path: ScanPath = "four") -> CrossScan:
    r"""View a map as tokens, with the order table of VMamba's four directions or Vim's two.

    The written-out form copies the map once per direction and copies every result back. Here
    :func:`~rgbt_fusion.ordered_selective_scan` reads the order as an index, scans all directions in
    one call and, with ``merge=True``, sums them. Projections of tokens do not depend on the order,
    so they are made of ``tokens`` once per direction.

    Paper and code: the four directions stand in the order of VMamba's released code: rows, columns,
    rows backwards, columns backwards.

    Args:
        x: the map.
        path: ``"four"`` directions, as VMamba, or ``"two"``, as Vim.

    Shape:
        - x: ``(B, C, H, W)``, floating point
        - returns ``tokens (B, L, C)`` and ``order (R, L)`` with L = H W and R = 4 or 2

    Raises:
        ShapeError: ``x`` does not have four axes.
        TypeError: ``x`` does not hold real floating-point numbers.
        ValueError: ``path`` is unknown.

    Example:
        The ways through a map of two rows and three columns:

        >>> import torch
        >>> from rgbt_fusion import cross_scan, ordered_selective_scan
        >>> scan = cross_scan(torch.randn(1, 8, 2, 3))
        >>> scan.order
        tensor([[0, 1, 2, 3, 4, 5],
                [0, 3, 1, 4, 2, 5],
                [5, 4, 3, 2, 1, 0],
                [5, 2, 4, 1, 3, 0]])
        >>> delta, B, C = torch.rand(4, 1, 6, 8), torch.randn(4, 1, 6, 4), torch.randn(4, 1, 6, 4)
        >>> out, _ = ordered_selective_scan(
        ...     scan.tokens, delta, -torch.rand(4, 8, 4), B, C, order=scan.order, merge=True
        ... )
        >>> scan.merge(out).shape
        torch.Size([1, 8, 2, 3])

    Source:
        Liu et al., "VMamba: Visual State Space Model", NeurIPS 2024, fig. 3 (SS2D); Zhu et al.,
        "Vision Mamba", ICML 2024, algorithm 1.
    """
    sizes = check_shape(x, "B C H W", name="x")
    check_floating(x, name="x")
    height = sizes["H"]
    width = sizes["W"]
    order = cross_scan_order(height, width, path, device=x.device)
    return CrossScan(x.flatten(2).transpose(1, 2), order, height, width)


def cross_scan_order(
    height: int,
    width: int,
    path: ScanPath = "four",
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the order ``(R, H W)`` in which each direction visits the tokens of a map.

    Args:
        height: H of the map.
        width: W of the map.
        path: as in :func:`cross_scan`.
        device: where the table is needed.

    Raises:
        TypeError: ``height`` or ``width`` is not a whole number.
        ValueError: ``height`` or ``width`` is below 1, or ``path`` is unknown.
    """
    check_positive_int(height, name="height")
    check_positive_int(width, name="width")
    check_choice(path, _SCAN_PATHS, name="path")
    places = torch.arange(height * width, device=device).view(height, width)
    forward = [places.flatten()]
    if path == "four":
        forward.append(places.T.flatten())
    one_way = torch.stack(forward)
    return torch.cat([one_way, one_way.flip(1)])
