"""TMR: weigh the two modalities against each other, with a memory of the last frame."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.layers.efficient_multiscale_attention import (
    EfficientMultiscaleAttention,
    OneChannelKernel,
)
from rgbt_fusion.layers.streams import check_map_streams
from rgbt_fusion.shapes import check_same_device, check_same_shape, check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["TMR", "ReweightedStreams", "TMRState", "TemporalModalityReweighting", "state_for"]


class TMRState(NamedTuple):
    """What TMR remembers of the previous frame, one row per sample of the batch.

    ``rgb_weight`` is the paper's alpha, ``response_difference`` its delta r. Both have shape
    ``(B,)``, in float64 for float64 inputs and in float32 otherwise. They are plain tensors: save
    ``state._asdict()``, restore ``TMRState(**saved)``.

    Example:
        >>> import torch
        >>> from rgbt_fusion import TMRState
        >>> state = TMRState(torch.tensor([0.9, 0.2]), torch.tensor([0.1, -0.3]))
        >>> state.reset(torch.tensor([False, True]))
        TMRState(rgb_weight=tensor([0.9000, 0.5000]), response_difference=tensor([0.1000, 0.0000]))
    """

    rgb_weight: Tensor
    response_difference: Tensor

    @classmethod
    def initial(
        cls,
        batch: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> "TMRState":
        """Return the state before the first frame: weight 0.5, difference 0."""
        if batch < 0:
            raise ValueError(f"batch must not be negative, got {batch}")
        weight = torch.full((batch,), 0.5, dtype=dtype, device=device)
        return cls(weight, torch.zeros_like(weight))

    def reset(self, mask: Tensor) -> "TMRState":
        """Return the state with its initial values in the rows where ``mask`` is true.

        Args:
            mask: which rows start again, boolean ``(B,)``.

        Raises:
            ShapeError: ``mask`` does not have one value per row.
            TypeError: ``mask`` is not a boolean tensor.
            ValueError: ``mask`` lies on another device than the state.
        """
        check_same_shape(mask, self.rgb_weight, name="mask", like_name="the state's rows")
        check_same_device(mask, self.rgb_weight, name="mask", like_name="the state")
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be boolean, got {mask.dtype}")
        return TMRState(
            self.rgb_weight.masked_fill(mask, 0.5), self.response_difference.masked_fill(mask, 0.0)
        )


class ReweightedStreams(NamedTuple):
    """What TMR returns: both streams, weighted, and the state for the next frame."""

    rgb: Tensor
    tir: Tensor
    state: TMRState


class TemporalModalityReweighting(TypedModule):
    r"""Weigh RGB against TIR by their responses now and by what the previous frame concluded.

    Each stream, enhanced by its own EMA, is averaged to one response per sample. A small perceptron
    reads both responses and the previous frame's weight and response difference. Its output weighs
    RGB; the rest to one weighs TIR.

    .. math::
        r_m &= \mathrm{mean}_{C,H,W}\, \mathrm{EMA}_m(F_m), \quad m \in \{rgb, tir\} \\
        a^t &= \sigma(\mathrm{MLP}([r_{rgb}^t, r_{tir}^t,
            r_{rgb}^{t-1} - r_{tir}^{t-1}, a^{t-1}])) \\
        \hat F_{rgb} &= a^t F_{rgb}, \quad \hat F_{tir} = (1 - a^t) F_{tir}

    Paper and code: a sequence starts from a = 0.5 and difference 0. No gradient flows into the
    previous frame unless ``detach_history=False``. The article's code keeps the history inside the
    module and replaces EMA by a gate that cannot run; here the state is an argument and EMA is the
    published one. Without history the perceptron reads the two responses only, and nothing reads
    the state that is returned.

    Args:
        dim: channels of both streams.
        factor: groups of EMA; ``None`` takes 8, or the largest divisor that the channels share with
            8.
        hidden: hidden channels of the perceptron.
        history: read the previous frame's state (the ablation is ``False``).
        detach_history: cut the gradient between frames.

    Shape:
        - rgb, tir: one frame ``(B, C, H, W)`` with C = ``dim``, or a clip ``(B, T, C, H, W)``,
          which equals T calls in turn
        - state: a :class:`TMRState` of ``(B,)`` tensors; ``None`` starts a sequence
        - returns :class:`ReweightedStreams` ``(rgb, tir, state)``: the streams in their shape and
          dtype, the state after the last frame

    Raises:
        ShapeError: ``rgb`` does not have a shape above, ``tir`` differs from it, or ``state`` has
            other rows than the batch.
        TypeError: ``rgb`` or ``tir`` is not a tensor of the parameters' dtype, or ``state`` is not
            a ``TMRState``.
        ValueError: ``factor`` does not divide ``dim``, or ``tir`` or ``state`` lies on another
            device than ``rgb``.

    Example:
        >>> import torch
        >>> from rgbt_fusion import TMR
        >>> tmr, state = TMR(64), None
        >>> for _ in range(3):  # frame by frame; the state carries over
        ...     rgb, tir, state = tmr(torch.randn(2, 64, 16, 16), torch.randn(2, 64, 16, 16), state)
        >>> rgb.shape, state.rgb_weight.shape
        (torch.Size([2, 64, 16, 16]), torch.Size([2]))

    Source:
        Li et al., "Three-stage progressive modality reweighting and interaction framework for
        robust RGB-T tracking", Knowledge-Based Systems 339, 2026, eq. 1-3.
    """

    takes_maps: ClassVar[bool] = True
    """Say to :class:`~rgbt_fusion.AnyPlace` what the layer is made for."""

    def __init__(
        self,
        dim: int = 768,
        *,
        factor: int | None = None,
        hidden: int = 64,
        history: bool = True,
        detach_history: bool = True,
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.hidden = check_positive_int(hidden, name="hidden")
        self.history = history
        self.detach_history = detach_history
        self.ema_rgb = EfficientMultiscaleAttention(dim, factor=factor)
        self.ema_tir = EfficientMultiscaleAttention(dim, factor=factor)
        self.fc1 = nn.Linear(4 if history else 2, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(
        self,
        rgb: Tensor,
        tir: Tensor,
        state: TMRState | None = None,
        kernels: tuple[OneChannelKernel | None, OneChannelKernel | None] = (None, None),
    ) -> ReweightedStreams:
        """Weigh maps ``(B, C, H, W)``, or clips; return both and the next state.

        ``kernels`` are what ``prepare`` of both EMAs returned, where they were kept.
        """
        check_map_streams(rgb, tir, dim=self.dim, parameter=self.fc1.weight)
        is_clip = rgb.dim() == 5
        frames = rgb.shape[1] if is_clip else 1
        next_state = state_for(rgb, state)
        of_rgb, of_tir = kernels
        r_rgb = _response(self.ema_rgb, rgb, of_rgb).view(-1, frames)
        r_tir = _response(self.ema_tir, tir, of_tir).view(-1, frames)

        weights = []
        for r_rgb_now, r_tir_now in zip(r_rgb.unbind(1), r_tir.unbind(1), strict=True):
            weight, next_state = self._step(r_rgb_now, r_tir_now, next_state)
            weights.append(weight)
        weight = torch.stack(weights, 1) if is_clip else weights[0]
        weight = weight[..., None, None, None].to(rgb.dtype)
        return ReweightedStreams(weight * rgb, (1 - weight) * tir, next_state)

    def _step(self, r_rgb: Tensor, r_tir: Tensor, state: TMRState) -> tuple[Tensor, TMRState]:
        """Equation 2 for one frame: responses ``(B,)`` to RGB's weight ``(B,)`` and the state."""
        context = [r_rgb, r_tir]
        if self.history:
            context += [state.response_difference, state.rgb_weight]
        hidden = self.fc1(torch.stack(context, 1).to(self.fc1.weight.dtype)).relu()
        logit = self.fc2(hidden)[:, 0]
        weight = torch.sigmoid(logit.to(r_rgb.dtype))
        difference = r_rgb - r_tir
        if self.detach_history:
            return weight, TMRState(weight.detach(), difference.detach())
        return weight, TMRState(weight, difference)

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f"dim={self.dim}, factor={self.ema_rgb.factor}, hidden={self.hidden}, "
            f"history={self.history}, detach_history={self.detach_history}"
        )


def _response(
    ema: EfficientMultiscaleAttention, x: Tensor, kernel: OneChannelKernel | None
) -> Tensor:
    """Equation 1, one number per frame: the mean of the enhanced map, which is never needed."""
    x = x.flatten(0, -4)
    means = x.unflatten(1, (ema.factor, -1)).mean(2)
    return (ema.gate(x, kernel) * means).mean((1, 2, 3), dtype=_state_dtype(x))


def _state_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def state_for(rgb: Tensor, state: TMRState | None) -> TMRState:
    """Return the state that the frames ``rgb`` begin with, in the dtype that states are kept in.

    Args:
        rgb: the frames, whose first axis is the batch.
        state: the state after the previous frame; ``None`` starts a sequence.

    Raises:
        ShapeError: ``state`` has other rows than the batch.
        TypeError: ``state`` is not a ``TMRState``.
        ValueError: ``state`` lies on another device than ``rgb``.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.temporal_modality_reweighting import state_for
        >>> state_for(torch.zeros(2, 8, 16, 16), None).rgb_weight
        tensor([0.5000, 0.5000])
    """
    dtype = _state_dtype(rgb)
    if state is None:
        return TMRState.initial(rgb.shape[0], dtype=dtype, device=rgb.device)
    if not isinstance(state, TMRState):
        raise TypeError(f"state must be a TMRState or None, got {type(state).__name__}")
    for name, value in state._asdict().items():
        check_shape(value, "B", name=f"state.{name}", B=rgb.shape[0])
        check_same_device(value, rgb, name=f"state.{name}", like_name="rgb")
    return TMRState(state.rgb_weight.to(dtype), state.response_difference.to(dtype))


TMR = TemporalModalityReweighting
