"""Some steps of the causal convolution: what they compute, and which states they touch."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion import ShapeError, causal_conv1d, causal_conv1d_update


def arguments_of(
    *, tokens: int = 2, places: int = 5, taps: int = 4, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(3, 6, tokens, generator=random).to(dtype),
        "conv_state": torch.randn(3, 6, places, generator=random).to(dtype),
        "weight": torch.randn(6, taps, generator=random),
        "bias": torch.randn(6, generator=random),
        "activation": "silu",
    }


def written_out(before: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve the tokens of ``x`` with those before them, in float64."""
    tokens = torch.cat([before, x], dim=2).double()
    missing = max(0, weight.shape[1] - 1 - before.shape[2])
    bias = None if bias is None else bias.double()
    y = F.conv1d(F.pad(tokens, (missing, 0)), weight.double()[:, None], bias, groups=len(weight))
    return F.silu(y[:, :, y.shape[2] - x.shape[2] :])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize(("tokens", "places"), [(1, 3), (1, 7), (3, 3), (5, 4)])
def test_meets_the_tokens_before_and_keeps_the_last(
    tokens: int, places: int, taps: int, dtype: torch.dtype
) -> None:
    arguments = arguments_of(tokens=tokens, places=places, taps=taps, dtype=dtype)
    before, x = arguments["conv_state"].clone(), arguments["x"]
    got = causal_conv1d_update(**arguments)
    want = written_out(before, x, arguments["weight"], arguments["bias"])
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance)
    assert got.dtype == dtype and got.shape == x.shape
    assert torch.equal(arguments["conv_state"], torch.cat([before, x], dim=2)[:, :, -places:])


def test_a_bias_may_be_left_out() -> None:
    arguments = arguments_of() | {"bias": None}
    want = written_out(arguments["conv_state"].clone(), arguments["x"], arguments["weight"], None)
    got = causal_conv1d_update(**arguments)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


def test_steps_are_the_convolution_of_all_tokens() -> None:
    arguments = arguments_of(tokens=9)
    want = causal_conv1d(**{k: v for k, v in arguments.items() if k != "conv_state"})
    state = torch.zeros(3, 6, 3)
    for t in range(9):
        step = arguments | {"x": arguments["x"][..., t], "conv_state": state}
        torch.testing.assert_close(causal_conv1d_update(**step), want[..., t])


@pytest.mark.parametrize(("tokens", "places"), [(1, 3), (2, 5), (6, 4)])
def test_a_ring_holds_the_same_tokens_at_other_places(tokens: int, places: int) -> None:
    line, ring = torch.zeros(3, 6, places), torch.zeros(3, 6, places)
    seen = torch.tensor([0, 3, 1023], dtype=torch.int32)
    random = torch.Generator().manual_seed(2)
    for _ in range(4):
        arguments = arguments_of(tokens=tokens, places=places)
        arguments["x"] = torch.randn(3, 6, tokens, generator=random)
        want = causal_conv1d_update(**(arguments | {"conv_state": line}))
        got = causal_conv1d_update(**(arguments | {"conv_state": ring}), cache_seqlens=seen)
        torch.testing.assert_close(got, want)
        seen += tokens
    for row in range(3):
        assert torch.equal(ring[row].roll(-int(seen[row]) % places, dims=1), line[row])


def test_indices_choose_rows_and_padding_touches_none() -> None:
    arguments = arguments_of()
    cache = torch.randn(8, 6, 5)
    before = cache.clone()
    indices = torch.tensor([6, -1, 0], dtype=torch.int32)
    got = causal_conv1d_update(**(arguments | {"conv_state": cache}), conv_state_indices=indices)
    used = arguments | {"conv_state": before[[6, 1, 0]]}
    want = causal_conv1d_update(**used)
    assert torch.equal(got[[0, 2]], want[[0, 2]])
    assert torch.all(got[1] == 0)
    assert torch.equal(cache[[6, 0]], used["conv_state"][[0, 2]])
    untouched = [1, 2, 3, 4, 5, 7]
    assert torch.equal(cache[untouched], before[untouched])


@pytest.mark.parametrize(
    ("replaced", "error", "message"),
    [
        ({"x": torch.zeros(3, 5)}, ShapeError, r"conv_state must have shape \(B, D, S\)"),
        ({"conv_state": torch.zeros(3, 6, 2)}, ShapeError, "conv_state must keep at least W - 1"),
        ({"conv_state": torch.zeros(3, 6, 5).half()}, TypeError, "conv_state must have the dtype"),
        ({"weight": torch.zeros(5, 4)}, ShapeError, r"weight must have shape \(D, W\)"),
        ({"weight": torch.zeros(6, 0)}, ShapeError, r"weight must have W >= 1 taps, got \(6, 0\)"),
        ({"weight": torch.zeros(6, 4).long()}, TypeError, "weight must hold real"),
        ({"bias": torch.zeros(5)}, ShapeError, r"bias must have shape \(D\) with D = 6, got"),
        ({"bias": torch.zeros(6).long()}, TypeError, "bias must hold real"),
        ({"bias": torch.zeros(6, device="meta")}, ValueError, "bias must be on the device of x"),
        ({"activation": "relu"}, ValueError, "activation must be one of"),
        ({"cache_seqlens": torch.zeros(3)}, TypeError, "cache_seqlens must be int32 or int64"),
        ({"conv_state_indices": torch.tensor([0, 1, 3])}, ValueError, "must be below the 3 rows"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_are_named(
    replaced: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        causal_conv1d_update(**(arguments_of() | replaced))
