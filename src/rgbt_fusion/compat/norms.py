"""``RMSNorm``, ``rms_norm_fn`` and ``layer_norm_fn`` of mamba-ssm in plain PyTorch."""

import torch
from torch import Tensor, nn

from rgbt_fusion.compat.record import refuse

__all__ = ["RMSNorm", "layer_norm_fn", "layer_norm_ref", "rms_norm_fn", "rms_norm_ref"]


def layer_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    x1: Tensor | None = None,
    weight1: Tensor | None = None,
    bias1: Tensor | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
    return_dropout_mask: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Add the residual and normalise; with ``prenorm`` also return the sum.

    The sum and the norm are computed in float32. The sum is returned in the dtype of ``residual``,
    in float32 with ``residual_in_fp32``, else in that of ``x``. A second stream or weight
    (``x1``, ``weight1``) and dropout with its mask are as in mamba-ssm.
    """
    if return_dropout_mask:
        raise refuse("layer_norm_fn", "return_dropout_mask is not served")
    total = x.float()
    if rowscale is not None:
        if x1 is not None:
            raise refuse("layer_norm_fn", "rowscale must come without x1")
        total = total * rowscale[..., None].float()
    total = torch.dropout(total, dropout_p, True)
    if x1 is not None:
        total = total + torch.dropout(x1.float(), dropout_p, True)
    if residual is not None:
        total = total + residual.float()
        kept = residual.dtype
    else:
        kept = torch.float32 if residual_in_fp32 else x.dtype
    results = [_normalised(total, weight, bias, eps, is_rms_norm, x.dtype)]
    if weight1 is not None:
        results.append(_normalised(total, weight1, bias1, eps, is_rms_norm, x.dtype))
    if prenorm:
        results.append(total.to(kept))
    return results[0] if len(results) == 1 else tuple(results)


def rms_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    x1: Tensor | None = None,
    weight1: Tensor | None = None,
    bias1: Tensor | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Add the residual and normalise by the root mean square; see :func:`layer_norm_fn`."""
    return layer_norm_fn(
        x,
        weight,
        bias,
        residual,
        x1,
        weight1,
        bias1,
        eps,
        dropout_p,
        rowscale,
        prenorm,
        residual_in_fp32,
        True,
        return_dropout_mask,
    )


def layer_norm_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    eps: float = 1e-6,
    prenorm: bool = False,
    upcast: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Return :func:`layer_norm_fn`, which is plain PyTorch already; ``upcast`` changes nothing."""
    return layer_norm_fn(x, weight, bias, residual, eps=eps, prenorm=prenorm)


def rms_norm_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    eps: float = 1e-6,
    prenorm: bool = False,
    upcast: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Return :func:`rms_norm_fn`, which is plain PyTorch already; ``upcast`` changes nothing."""
    return rms_norm_fn(x, weight, bias, residual, eps=eps, prenorm=prenorm)


class RMSNorm(nn.Module):
    """Normalise by the root mean square; the module of mamba-ssm, with its arguments and weights.

    Args:
        hidden_size: channels, the last axis.
        eps: added to the mean square.
        dropout_p: share of the input that training drops.
        device: where to create the weight.
        dtype: in which dtype to create it.

    Shape:
        - x: ``(..., C)`` with C = ``hidden_size``
        - returns the shape of ``x``, with ``prenorm`` also the sum with ``residual``
    """

    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-5,
        dropout_p: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.drop = nn.Dropout(dropout_p) if dropout_p > 0.0 else None
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", None)

    def reset_parameters(self) -> None:
        """Fill the weight with ones."""
        nn.init.ones_(self.weight)

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None = None,
        prenorm: bool = False,
        residual_in_fp32: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """Add ``residual`` to ``x (..., C)`` and normalise."""
        dropped = self.drop.p if self.drop is not None and self.training else 0.0
        return rms_norm_fn(
            x,
            self.weight,
            None,
            residual,
            eps=self.eps,
            dropout_p=dropped,
            prenorm=prenorm,
            residual_in_fp32=residual_in_fp32,
        )


def _normalised(
    total: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    is_rms_norm: bool,
    dtype: torch.dtype,
) -> Tensor:
    if not is_rms_norm:
        total = total - total.mean(-1, keepdim=True)
    scale = torch.rsqrt(total.square().mean(-1, keepdim=True) + eps)
    result = total * scale * weight.float()
    if bias is not None:
        result = result + bias.float()
    return result.to(dtype)
