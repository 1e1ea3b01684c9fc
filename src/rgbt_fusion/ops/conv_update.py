"""A few steps of the causal convolution for generation, with the last inputs kept by the caller."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.ops.causal_conv1d import Activation, check_activation
from rgbt_fusion.ops.state_update import check_slots
from rgbt_fusion.shapes import check_floating, check_same_device, check_same_dtype, check_shape

__all__ = ["causal_conv1d_update"]


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    r"""Convolve the next tokens with those before them, and keep the last ones in ``conv_state``.

    Has the arguments of causal-conv1d's function of this name. The arithmetic is float32, or
    float64 for a float64 ``x``. The result carries no gradient.

    Args:
        x: the next token of every sequence, or the next T tokens.
        conv_state: the last tokens of every sequence; overwritten. The newest stands last, unless
            ``cache_seqlens`` makes it a ring.
        weight: the taps of each channel; the last one meets the current token.
        bias: added to each channel.
        activation: ``"silu"`` (or its other name ``"swish"``), or None for the identity.
        cache_seqlens: how many tokens each sequence has seen. ``conv_state`` is then a ring, and
            the first token of ``x`` goes to place ``cache_seqlens % S``.
        conv_state_indices: the row of ``conv_state`` that each sequence uses. A negative number
            marks padding: the result there is zero and no state is touched.

    Shape:
        - x: ``(B, D)`` or ``(B, D, T)``
        - conv_state: ``(B, D, S)`` with S >= W - 1, in the dtype of ``x``; any first size with
          ``conv_state_indices``
        - weight: ``(D, W)``
        - bias: ``(D,)``
        - cache_seqlens, conv_state_indices: ``(B,)`` int32 or int64
        - returns the shape and the dtype of ``x``

    Raises:
        ShapeError: an argument has another rank or size than above.
        TypeError: an argument has another dtype than above.
        ValueError: an argument is on another device than ``x``; a number in ``conv_state_indices``
            is beyond the rows of ``conv_state``; ``activation`` is unknown.

    Example:
        A tap of one on the current token, and a half on the token before it:

        >>> import torch
        >>> from rgbt_fusion import causal_conv1d_update
        >>> state, taps = torch.zeros(1, 1, 1), torch.tensor([[0.5, 1.0]])
        >>> causal_conv1d_update(torch.tensor([[2.0]]), state, taps)
        tensor([[2.]])
        >>> causal_conv1d_update(torch.tensor([[4.0]]), state, taps)
        tensor([[5.]])

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, fig.
        3.
    """
    check_activation(activation)
    if isinstance(x, Tensor) and x.dim() == 2:
        tokens = x.unsqueeze(2)
    else:
        tokens = x
    sizes = check_shape(tokens, "B D T", name="x")
    check_floating(x, name="x")
    if conv_state_indices is None:
        known = {"B": sizes["B"], "D": sizes["D"]}
        state_sizes = check_shape(conv_state, "B D S", name="conv_state", **known)
    else:
        state_sizes = check_shape(conv_state, "R D S", name="conv_state", D=sizes["D"])
    check_same_dtype(conv_state, x, name="conv_state", like_name="x")
    check_same_device(conv_state, x, name="conv_state", like_name="x")
    taps = _check_taps(x, weight, bias, channels=sizes["D"])
    if state_sizes["S"] < taps - 1:
        raise ShapeError(
            f"conv_state must keep at least W - 1 = {taps - 1} tokens, "
            f"got {tuple(conv_state.shape)}"
        )
    seen = None
    if cache_seqlens is not None:
        check_shape(cache_seqlens, "B", name="cache_seqlens", B=sizes["B"])
        if cache_seqlens.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"cache_seqlens must be int32 or int64, got {cache_seqlens.dtype}")
        check_same_device(cache_seqlens, x, name="cache_seqlens", like_name="x")
        seen = cache_seqlens.long()
    with torch.no_grad():
        if conv_state_indices is None:
            out = _update(tokens, conv_state, weight, bias, activation, seen)
            return out.view(x.shape)
        slots = check_slots(conv_state_indices, x, len(conv_state), name="conv_state_indices")
        padded = slots < 0
        rows = slots.clamp(min=0)
        own_state = conv_state[rows]
        out = _update(tokens, own_state, weight, bias, activation, seen)
        written = torch.nonzero(~padded).squeeze(1)
        conv_state[rows[written]] = own_state[written]
        return out.masked_fill(padded[:, None, None], 0).view(x.shape)


def _check_taps(x: Tensor, weight: Tensor, bias: Tensor | None, *, channels: int) -> int:
    """Check the parameters and return the number of taps."""
    sizes = check_shape(weight, "D W", name="weight", D=channels)
    check_floating(weight, name="weight")
    check_same_device(weight, x, name="weight", like_name="x")
    if sizes["W"] < 1:
        raise ShapeError(f"weight must have W >= 1 taps, got {tuple(weight.shape)}")
    if bias is not None:
        check_shape(bias, "D", name="bias", D=channels)
        check_floating(bias, name="bias")
        check_same_device(bias, x, name="bias", like_name="x")
    return sizes["W"]


def _update(
    x: Tensor,
    state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    seen: Tensor | None,
) -> Tensor:
    """Convolve ``x (B, D, T)`` and write its tokens into ``state``, one row per sequence."""
    taps = weight.shape[1]
    length = x.shape[2]
    if seen is None:
        tokens = torch.cat([state, x], dim=2)
        state.copy_(tokens[:, :, length:])
        before = tokens[:, :, : tokens.shape[2] - length]
        window = torch.cat([before[:, :, before.shape[2] - (taps - 1) :], x], dim=2)
    else:
        window = torch.cat([_read_ring(state, seen, taps - 1), x], dim=2)
        _write_ring(state, seen, x)
    arithmetic = torch.float64 if x.dtype == torch.float64 else torch.float32
    window = window.to(arithmetic)
    weight = weight.to(arithmetic)
    out = torch.zeros_like(x, dtype=arithmetic)
    if bias is not None:
        out += bias.to(arithmetic)[:, None]
    for tap in range(taps):
        out.addcmul_(window[:, :, tap : tap + length], weight[:, tap, None])
    if activation is not None:
        out = F.silu(out)
    return out.to(x.dtype)


def _read_ring(state: Tensor, seen: Tensor, count: int) -> Tensor:
    """Return the last ``count`` tokens of each sequence, oldest first."""
    places = seen[:, None] + torch.arange(-count, 0, device=state.device)
    places = places.remainder(state.shape[2])
    return state.gather(2, places[:, None].expand(-1, state.shape[1], -1))


def _write_ring(state: Tensor, seen: Tensor, x: Tensor) -> None:
    """Write the tokens of ``x`` behind those that each sequence has seen."""
    length = x.shape[2]
    # of more tokens than the ring has places, the last ones stay
    first = max(0, length - state.shape[2])
    places = seen[:, None] + torch.arange(first, length, device=state.device)
    places = places.remainder(state.shape[2])
    state.scatter_(2, places[:, None].expand(-1, state.shape[1], -1), x[:, :, first:])
