"""The plain forms against the ops themselves, called as the ops are."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rgbt_fusion.export.plain_ops import PLAIN_OPS

SCAN = torch.ops.rgbt_fusion.selective_scan.default
CONV = torch.ops.rgbt_fusion.causal_conv1d.default
ORDER = torch.tensor([[[0, 1, 2], [2, 1, 0]], [[1, 2, 0], [0, 2, 1]]])


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def scan_arguments(directions: int, groups: int, **given: Tensor | None) -> dict[str, Any]:
    """Arguments of the scan with two samples, six tokens, four channels and three states."""
    return {
        "u": draw(directions, 2, 6, 4),
        "delta": draw(1, 2, 6, 4),
        "A": -draw(1, 4, 3).abs(),
        "B": draw(directions, 2, 6, groups, 3),
        "C": draw(1, 2, 6, groups, 3),
        "readout": None,
        "D": None,
        "z": None,
        "delta_bias": None,
        "order": None,
        "initial_state": None,
        "delta_softplus": True,
        "merge": False,
        "channels_first": False,
    } | given


CASES = {
    "smallest": lambda: scan_arguments(1, 1, delta_softplus=False),
    "groups": lambda: scan_arguments(1, 2, D=draw(1, 4), z=draw(1, 2, 6, 4)),
    "readout": lambda: scan_arguments(1, 1, readout=draw(1, 4, 3), delta_bias=draw(1, 4)),
    "two directions": lambda: scan_arguments(
        2, 1, A=-draw(2, 4, 3).abs(), order=ORDER, D=draw(2, 4)
    ),
    "merged": lambda: scan_arguments(1, 1, order=ORDER, z=draw(1, 2, 6, 4), merge=True),
    "one order for all samples": lambda: scan_arguments(
        1, 1, order=ORDER[:, :1], initial_state=draw(1, 2, 4, 3)
    ),
    "channels first": lambda: scan_arguments(
        1,
        1,
        u=draw(1, 2, 4, 6),
        delta=draw(1, 2, 4, 6),
        B=draw(1, 2, 1, 3, 6),
        C=draw(1, 2, 1, 3, 6),
        z=draw(1, 2, 4, 6),
        channels_first=True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_scan_is_that_of_the_op(case: str) -> None:
    torch.manual_seed(0)
    arguments = (*CASES[case]().values(), False, False, "reference")
    for plain, op in zip(PLAIN_OPS[SCAN](*arguments), SCAN(*arguments), strict=True):
        torch.testing.assert_close(plain, op)


@pytest.mark.parametrize(
    "order", [None, ORDER, ORDER[:1, :1]], ids=["natural", "ordered", "shared"]
)
@pytest.mark.parametrize("silu", [True, False])
def test_the_convolution_is_that_of_the_op(order: Tensor | None, silu: bool) -> None:
    torch.manual_seed(0)
    for bias in (draw(2, 4), None):
        arguments = (draw(1, 2, 6, 4), draw(2, 4, 3), bias, order, silu, False, False, "reference")
        torch.testing.assert_close(PLAIN_OPS[CONV](*arguments), CONV(*arguments))
    arguments = (draw(1, 2, 4, 6), draw(1, 4, 3), None, order, silu, True, False, "reference")
    torch.testing.assert_close(PLAIN_OPS[CONV](*arguments), CONV(*arguments))


def test_half_precision_comes_back_in_its_own_dtype() -> None:
    torch.manual_seed(0)
    arguments = (
        draw(1, 1, 6, 4).bfloat16(),
        draw(1, 4, 3).float(),
        None,
        None,
        True,
        False,
        False,
        "reference",
    )
    plain, op = PLAIN_OPS[CONV](*arguments), CONV(*arguments)
    assert plain.dtype == torch.bfloat16
    torch.testing.assert_close(plain, op)


def test_the_sort_puts_numbers_and_their_places_in_order() -> None:
    x = torch.tensor([[0.3, -1.0, 2.0], [5.0, 4.0, 4.5]])
    for descending in (False, True):
        values, indices = PLAIN_OPS[torch.ops.aten.sort.stable](
            x, stable=True, dim=1, descending=descending
        )
        expected = x.sort(dim=1, descending=descending)
        assert torch.equal(values, expected.values) and torch.equal(indices, expected.indices)
        places = PLAIN_OPS[torch.ops.aten.argsort.stable](
            x, stable=True, dim=1, descending=descending
        )
        assert torch.equal(places, expected.indices)
