"""Scans along rows and columns: the order table against the copies that it stands for."""

import pytest
import torch
from torch import Tensor

from rgbt_fusion import ShapeError, cross_scan, ordered_selective_scan, selective_scan
from rgbt_fusion.ops.cross_scan import ScanPath, cross_scan_order


def written_out(maps: Tensor, path: ScanPath) -> Tensor:
    """Copy ``(R, B, C, H, W)`` into one sequence per direction, ``(R, B, C, L)``."""
    rows = maps.flatten(3)
    columns = maps.transpose(3, 4).flatten(3)
    if path == "two":
        return torch.stack([rows[0], rows[1].flip(-1)])
    return torch.stack([rows[0], columns[1], rows[2].flip(-1), columns[3].flip(-1)])


def merged_back(y: Tensor, height: int, width: int, path: ScanPath) -> Tensor:
    """Sum the results ``(R, B, D, L)`` at the places of their tokens."""
    if path == "two":
        return (y[0] + y[1].flip(-1)).unflatten(2, (height, width))
    rows = y[0] + y[2].flip(-1)
    columns = y[1] + y[3].flip(-1)
    return rows.unflatten(2, (height, width)) + columns.unflatten(2, (width, height)).mT


@pytest.mark.parametrize(("path", "directions"), [("four", 4), ("two", 2)])
def test_one_call_equals_the_form_that_is_written_out(path: ScanPath, directions: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64, requires_grad=True)
    delta = torch.randn(directions, 2, 15, 6, dtype=torch.float64)
    B, C = (torch.randn(directions, 2, 15, 4, dtype=torch.float64) for _ in range(2))
    A = -torch.rand(directions, 6, 4, dtype=torch.float64)
    D = torch.randn(directions, 6, dtype=torch.float64)
    scan = cross_scan(x, path)
    out, _ = ordered_selective_scan(
        scan.tokens, delta, A, B, C, D, delta_softplus=True, order=scan.order, merge=True
    )
    got = scan.merge(out)

    def sequences(tokens: Tensor) -> Tensor:
        return written_out(tokens.unflatten(2, (3, 5)).permute(0, 1, 4, 2, 3), path)

    repeated = written_out(x[None].expand(directions, -1, -1, -1, -1), path)
    rows = zip(repeated, sequences(delta), A, sequences(B), sequences(C), D, strict=True)
    each = [selective_scan(*row, delta_softplus=True) for row in rows]
    want = merged_back(torch.stack(each), 3, 5, path)  # pyright: ignore
    torch.testing.assert_close(got, want)
    weights = torch.randn_like(want)
    (ours,) = torch.autograd.grad((got * weights).sum(), x)
    (theirs,) = torch.autograd.grad((want * weights).sum(), x)
    torch.testing.assert_close(ours, theirs)


def test_merge_sums_directions_that_were_kept_apart() -> None:
    scan = cross_scan(torch.randn(2, 6, 3, 5))
    out = torch.randn(4, 2, 15, 7)
    assert torch.equal(scan.merge(out), scan.merge(out.sum(0)))
    assert scan.merge(out).shape == (2, 7, 3, 5)


def test_tokens_are_a_view_of_the_map() -> None:
    x = torch.randn(2, 6, 3, 5)
    scan = cross_scan(x)
    assert scan.tokens.data_ptr() == x.data_ptr()
    assert torch.equal(scan.merge(scan.tokens), x)


@pytest.mark.parametrize("path", ["four", "two"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (4, 1), (3, 5)])
def test_every_direction_visits_every_token_once(height: int, width: int, path: ScanPath) -> None:
    for row in cross_scan_order(height, width, path):
        assert torch.equal(row.sort().values, torch.arange(height * width))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ShapeError, match=r"x must have shape \(B, C, H, W\), got \(2, 6, 15\)"):
        cross_scan(torch.randn(2, 6, 15))
    with pytest.raises(TypeError, match="x must hold real"):
        cross_scan(torch.zeros(1, 1, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="path must be one of 'four', 'two', got 'three'"):
        cross_scan(torch.randn(1, 1, 2, 2), "three")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="height must be at least 1"):
        cross_scan_order(0, 2)
    with pytest.raises(ShapeError, match="out must have shape"):
        cross_scan(torch.randn(1, 1, 2, 2)).merge(torch.randn(1, 5, 1))
