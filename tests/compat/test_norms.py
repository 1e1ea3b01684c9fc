"""The norms of mamba-ssm, written out."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.compat.norms import RMSNorm, layer_norm_fn, rms_norm_fn


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("is_rms_norm", [True, False])
def test_the_residual_is_added_and_the_sum_is_normalised(
    is_rms_norm: bool, with_bias: bool
) -> None:
    x, residual, weight = normal(2, 5, 8), normal(2, 5, 8, seed=1), normal(8)
    bias = normal(8, seed=1) if with_bias else None
    got, total = layer_norm_fn(
        x, weight, bias, residual, eps=1e-3, prenorm=True, is_rms_norm=is_rms_norm
    )
    assert torch.equal(total, x + residual)
    if is_rms_norm:
        want = F.rms_norm(total, (8,), weight, 1e-3)
        want = want if bias is None else want + bias
    else:
        want = F.layer_norm(total, (8,), weight, bias, 1e-3)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ("residual", "in_float32", "kept"),
    [
        (None, False, torch.bfloat16),
        (None, True, torch.float32),
        (torch.float32, False, torch.float32),
        (torch.bfloat16, True, torch.bfloat16),
    ],
)
def test_the_sum_is_kept_in_the_dtype_of_the_residual(
    residual: torch.dtype | None, in_float32: bool, kept: torch.dtype
) -> None:
    x, weight = normal(3, 8).bfloat16(), normal(8)
    added = None if residual is None else normal(3, 8).to(residual)
    out, total = rms_norm_fn(x, weight, None, added, prenorm=True, residual_in_fp32=in_float32)
    assert out.dtype == torch.bfloat16
    assert total.dtype == kept


def test_a_second_stream_and_a_second_weight() -> None:
    x, other, scale = normal(3, 8), normal(3, 8, seed=1), normal(8)
    first, second, total = layer_norm_fn(
        x, scale, None, x1=other, weight1=2 * scale, bias1=scale, prenorm=True
    )
    torch.testing.assert_close(total, x + other)
    torch.testing.assert_close(second, 2 * first + scale)
    rows = torch.tensor([1.0, 0.0, 2.0])
    scaled = layer_norm_fn(x, scale, None, rowscale=rows, prenorm=True)
    torch.testing.assert_close(scaled[1], x * rows[:, None])


def test_dropout_is_left_to_training() -> None:
    module, x = RMSNorm(8, dropout_p=0.5), torch.ones(2000, 8)
    assert torch.equal(module.eval()(x), RMSNorm(8)(x))
    _, total = module.train()(x, prenorm=True)
    assert set(total.unique().tolist()) == {0.0, 2.0}


def test_the_module_has_the_weights_of_mamba_ssm() -> None:
    module = RMSNorm(8, eps=1e-3, dtype=torch.float64)
    assert {name: x.dtype for name, x in module.state_dict().items()} == {"weight": torch.float64}
    assert module.bias is None
    x = normal(3, 8)
    torch.testing.assert_close(module(x), F.rms_norm(x, (8,), eps=1e-3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_dropout_mask": True}, "return_dropout_mask is not served"),
        ({"rowscale": torch.ones(3), "x1": torch.ones(3, 8)}, "rowscale must come without x1"),
    ],
)
def test_what_is_not_served_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        layer_norm_fn(normal(3, 8), normal(8), None, **options)
