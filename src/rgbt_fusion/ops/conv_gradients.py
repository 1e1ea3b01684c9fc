"""The gradients of the causal convolution as a function, for autograd functions of others."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.ops.causal_conv1d import Activation, check_activation
from rgbt_fusion.ops.conv_op import ConvArguments, conv_backward_op
from rgbt_fusion.shapes import check_same_shape, check_shape

__all__ = ["CausalConv1dGradients", "causal_conv1d_gradients"]


class CausalConv1dGradients(NamedTuple):
    """What :func:`causal_conv1d_gradients` returns, each in the shape and dtype of its argument."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    initial_states: Tensor | None


def causal_conv1d_gradients(
    grad_out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    grad_final_states: Tensor | None = None,
    activation: Activation | None = None,
) -> CausalConv1dGradients:
    r"""Return the gradients of :func:`~rgbt_fusion.causal_conv1d` without autograd.

    For code that has a backward pass of its own, such as the ``autograd.Function`` of causal-conv1d
    and its forks. Also works inside a custom op, where autograd does not.

    Args:
        grad_out: the gradient of the result.
        x: as in the forward pass, like all below.
        weight: the taps of each channel.
        bias: added to each channel.
        seq_idx: the number of the sequence of each token.
        initial_states: the tokens before the first one.
        grad_final_states: the gradient of the final states, where they were returned.
        activation: what followed the convolution.

    Shape:
        - grad_out, x: ``(B, D, L)``
        - weight, bias, seq_idx: as in :func:`~rgbt_fusion.causal_conv1d`
        - initial_states, grad_final_states: ``(B, D, W - 1)``

    Raises:
        ShapeError: an argument has another rank or size than above.
        TypeError: an argument has another dtype than in the forward pass.
        ValueError: ``activation`` is unknown.

    Example:
        >>> import torch
        >>> from rgbt_fusion.ops.conv_gradients import causal_conv1d_gradients
        >>> x, taps = torch.tensor([[[2.0, 4.0, 8.0]]]), torch.tensor([[0.5, 1.0]])
        >>> causal_conv1d_gradients(torch.ones_like(x), x, taps).x
        tensor([[[1.5000, 1.5000, 1.0000]]])
    """
    check_activation(activation)
    check_shape(x, "B D L", name="x")
    check_same_shape(grad_out, x, name="grad_out", like_name="x")
    check_shape(weight, "D W", name="weight", D=x.shape[1])
    grad_out = grad_out.to(x.dtype)
    if seq_idx is not None:
        return _packed_gradients(grad_out, x, weight, bias, seq_idx, activation)
    kept = weight.shape[1] - 1
    tokens = x
    if initial_states is not None:
        tokens = torch.cat([initial_states, x], dim=2)
        grad_out = F.pad(grad_out, (kept, 0))
    precision = torch.float64 if x.dtype == torch.float64 else torch.float32
    arguments = ConvArguments(
        x=tokens[None],
        weight=weight.to(precision)[None],
        bias=None if bias is None else bias.to(precision)[None],
        order=None,
        silu=activation is not None,
        channels_first=True,
    )
    d_tokens, d_weight, d_bias = conv_backward_op(grad_out[None], *arguments, "auto")
    d_tokens = d_tokens[0]
    if grad_final_states is not None and kept > 0:
        check_shape(grad_final_states, f"B D {kept}", name="grad_final_states", B=x.shape[0])
        reached = min(kept, tokens.shape[2])
        last = tokens.shape[2] - reached
        d_tokens[:, :, last:] += grad_final_states[:, :, kept - reached :]
    before = tokens.shape[2] - x.shape[2]
    return CausalConv1dGradients(
        x=d_tokens[:, :, before:],
        weight=d_weight[0].to(weight.dtype),
        bias=None if bias is None else d_bias[0].to(bias.dtype),
        initial_states=None if initial_states is None else d_tokens[:, :, :before],
    )


def _packed_gradients(
    grad_out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor,
    activation: Activation | None,
) -> CausalConv1dGradients:
    """Return the gradients where a tap counts if both tokens are of one sequence."""
    taps = weight.shape[1]
    precise = x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    precise_weight = weight.to(precise.dtype)
    reach = range(1, min(taps, x.shape[2]))
    same = {back: (seq_idx[:, back:] == seq_idx[:, :-back])[:, None] for back in reach}
    gradient = grad_out.to(precise.dtype).masked_fill((seq_idx < 0)[:, None], 0)
    if activation is not None:
        out = precise * precise_weight[:, -1, None]
        if bias is not None:
            out = out + bias.to(precise.dtype)[:, None]
        for back in reach:
            tap = precise_weight[:, taps - 1 - back, None]
            out[:, :, back:] += precise[:, :, :-back] * tap * same[back]
        gradient = torch.ops.aten.silu_backward(gradient, out)
    d_x = gradient * precise_weight[:, -1, None]
    d_weight = torch.zeros_like(precise_weight)
    d_weight[:, -1] = (gradient * precise).sum((0, 2))
    for back in reach:
        reaching = gradient[:, :, back:] * same[back]
        d_x[:, :, :-back] += reaching * precise_weight[:, taps - 1 - back, None]
        d_weight[:, taps - 1 - back] = (reaching * precise[:, :, :-back]).sum((0, 2))
    return CausalConv1dGradients(
        x=d_x.to(x.dtype),
        weight=d_weight.to(weight.dtype),
        bias=None if bias is None else gradient.sum((0, 2)).to(bias.dtype),
        initial_states=None,
    )
