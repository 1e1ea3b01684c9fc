"""The causal depthwise convolution with SiLU, on ``(B, D, L)`` and in the ordered form."""

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_choice
from rgbt_fusion.ops.arguments import (
    check_order_fits,
    order_with_sample_axis,
    with_direction_axis,
)
from rgbt_fusion.ops.backends import BackendName, choose, load_mamba_ssm
from rgbt_fusion.ops.conv_op import ConvArguments, conv_op
from rgbt_fusion.shapes import check_floating, check_same_device, check_shape

__all__ = ["Activation", "causal_conv1d", "ordered_causal_conv1d"]

Activation = Literal["silu", "swish"]
"""What the convolution may be followed by; both are names of one function."""


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation | None = None,
    *,
    backend: BackendName = "auto",
) -> Tensor:
    r"""Convolve each channel of ``(B, D, L)`` causally with its own taps.

    The op of the package causal-conv1d, on every machine. Runs on the first backend that raises no
    objection. First derivatives only.

    .. math::
        y_t = f\Big(b + \sum_{w=0}^{W-1} k_w \, x_{t - (W - 1) + w}\Big), \qquad x_{t<0} = 0

    Paper and code: W is 4 in Mamba. Any number of taps works here.

    Args:
        x: the input sequence.
        weight: the taps of each channel; the last one meets the current token.
        bias: added to each channel.
        activation: ``"silu"`` (or its other name ``"swish"``), or None for the identity.
        backend: ``"auto"``, or the name of the backend that must run.

    Shape:
        - x: ``(B, D, L)``, one of float32, bfloat16, float16, float64
        - weight: ``(D, W)``
        - bias: ``(D,)``
        - returns ``(B, D, L)`` in the dtype and the memory layout of ``x``

    Raises:
        ShapeError: an argument has another rank or size than above.
        TypeError: an argument does not hold real floating-point numbers.
        ValueError: an argument is on another device than ``x``; ``activation`` or ``backend`` is
            unknown.
        BackendUnavailableError: ``backend`` cannot run here; the message lists the reasons of every
            backend.

    Example:
        A tap of one on the current token, and a half on the token before it:

        >>> import torch
        >>> from rgbt_fusion import causal_conv1d
        >>> causal_conv1d(torch.tensor([[[2.0, 4.0, 8.0]]]), torch.tensor([[0.5, 1.0]]))
        tensor([[[ 2.,  5., 10.]]])

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, fig.
        3.
    """
    _check_activation(activation)
    sizes = check_shape(x, "B D L", name="x")
    parameters = _check_parameters(x, weight, bias, axes="", channels=sizes["D"])
    arguments = ConvArguments(
        x=x[None],
        weight=parameters.weight[None],
        bias=None if parameters.bias is None else parameters.bias[None],
        order=None,
        silu=activation is not None,
        channels_first=True,
    )
    if _mamba_ssm_runs(arguments, backend):
        return load_mamba_ssm().causal_conv1d(x, weight, bias, activation)
    return conv_op(*arguments, False, backend)[0]


def ordered_causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation | None = None,
    *,
    order: Tensor | None = None,
    trusted_order: bool = False,
    backend: BackendName = "auto",
) -> Tensor:
    r"""Convolve token-major sequences causally along one or several segment orders.

    The taps reach back in scan order: across the border between two segments they meet the tokens
    visited before. Each result is written to the row of its token. The order is that of
    :func:`~rgbt_fusion.ops.selective_scan.ordered_selective_scan`.

    .. math::
        y_{\pi(s)} = f\Big(b + \sum_{w=0}^{W-1} k_w \, x_{\pi(s - (W - 1) + w)}\Big), \qquad
        x_{\pi(s<0)} = 0

    Paper and code: AINet's released code convolves the permuted sequence, so the taps cross the
    borders of segments. So do these.

    Args:
        x: the input sequence; one for all directions, or one per direction.
        weight: the taps of each channel; the last one meets the current token.
        bias: added to each channel.
        activation: ``"silu"`` (or its other name ``"swish"``), or None for the identity.
        order: the segments in the order of their visits, a permutation of ``0..K-1``; natural order
            if absent.
        trusted_order: do not check that ``order`` holds permutations. On a GPU the check waits for
            the device, and the result of an ``argsort`` does not need it.
        backend: ``"auto"``, or the name of the backend that must run.

    Shape:
        - x: ``(B, L, D)`` or ``(R, B, L, D)``, one of float32, bfloat16, float16, float64
        - weight: ``(D, W)`` or ``(R, D, W)``
        - bias: ``(D,)`` or ``(R, D)``
        - order: ``(K,)``, ``(R, K)`` or ``(R, B, K)`` int64, with K dividing L
        - returns ``(B, L, D)``, or ``(R, B, L, D)`` if an argument has a direction axis, in the
          dtype and the memory layout of ``x``

    Raises:
        ShapeError: an argument has another rank or size than above.
        TypeError: an argument has another dtype than above.
        ValueError: L is not divisible by the K of ``order``; ``order`` is not a permutation; an
            argument is on another device than ``x``; ``activation`` or ``backend`` is unknown.
        BackendUnavailableError: ``backend`` cannot run here; the message lists the reasons of every
            backend.

    Example:
        The tap before the current token's meets the token that was visited before:

        >>> import torch
        >>> from rgbt_fusion import ordered_causal_conv1d
        >>> x, before = torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[1.0, 0.0]])
        >>> ordered_causal_conv1d(x, before).flatten()
        tensor([0., 1., 2.])
        >>> ordered_causal_conv1d(x, before, order=torch.tensor([2, 1, 0])).flatten()
        tensor([2., 3., 0.])

    Source:
        AINet (Lu et al., AAAI 2025), eq. 9-11: the convolution :math:`W_c` of each scan.
    """
    _check_activation(activation)
    given, has_directions = with_direction_axis(
        {"x": x, "weight": weight, "bias": bias, "order": order_with_sample_axis(order)},
        {"x": 3, "weight": 2, "bias": 1, "order": 2},
        required=("x", "weight"),
    )
    x = given["x"]
    sizes = check_shape(x, "R B L D", name="x")
    parameters = _check_parameters(
        x, given["weight"], given.get("bias"), axes="R ", channels=sizes["D"]
    )
    order = given.get("order")
    check_order_fits(order, x, like_name="x", batch=sizes["B"], length=sizes["L"])
    arguments = ConvArguments(
        x=x,
        weight=parameters.weight,
        bias=parameters.bias,
        order=order,
        silu=activation is not None,
        channels_first=False,
    )
    check_order = order is not None and not trusted_order
    out = conv_op(*arguments, check_order, backend)
    return out if has_directions else out[0]


def _check_activation(activation: Any) -> None:
    if isinstance(activation, Tensor):
        raise TypeError(
            f"activation must be None, 'silu' or 'swish', got a tensor of shape "
            f"{tuple(activation.shape)}"
        )
    check_choice(activation, (None, *get_args(Activation)), name="activation")


def _mamba_ssm_runs(arguments: ConvArguments, backend: str) -> bool:
    """Say whether causal-conv1d's own op takes the place of ours."""
    if not arguments.x.is_cuda or torch.compiler.is_compiling():
        return False
    return choose("conv", backend, arguments.as_inputs()).name == "mamba-ssm"


class _Parameters(NamedTuple):
    """The parameters in the dtype of the arithmetic."""

    weight: Tensor
    bias: Tensor | None


def _check_parameters(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, axes: str, channels: int
) -> _Parameters:
    """Check the dtype of ``x``, and the parameters, whose leading axes are ``axes``."""
    check_floating(x, name="x")
    arithmetic = torch.float64 if x.dtype == torch.float64 else torch.float32

    def checked(parameter: Tensor, pattern: str, name: str) -> Tensor:
        check_shape(parameter, axes + pattern, name=name, D=channels)
        check_floating(parameter, name=name)
        check_same_device(parameter, x, name=name, like_name="x")
        return parameter.to(arithmetic)

    parameters = _Parameters(
        weight=checked(weight, "D W", "weight"),
        bias=None if bias is None else checked(bias, "D", "bias"),
    )
    if weight.shape[-1] < 1:
        raise ShapeError(
            f"weight must have W >= 1 taps as its last axis, got {tuple(weight.shape)}"
        )
    return parameters
