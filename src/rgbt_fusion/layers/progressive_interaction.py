"""TPI, three-stage progressive interaction: TMR, CMI and MAF, and the TMRState that TMR passes from frame to frame."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import (
    ShapeError,
    check_choice,
    check_finite_number,
    check_floating,
    check_positive_int,
    check_same_device,
    check_same_dtype,
    check_same_shape,
    check_shape,
)
from rgbt_fusion.layers.efficient_multiscale_attention import EfficientMultiscaleAttention

__all__ = [
    "CMI",
    "MAF",
    "TMR",
    "TPI",
    "CrossModalityInteraction",
    "ModalityAwareFusion",
    "ProgressiveInteraction",
    "ProgressiveInteractionOutput",
    "ReweightedStreams",
    "TMRState",
    "TemporalModalityReweighting",
]


class TMRState(NamedTuple):
    """What TMR remembers of the previous frame, one row for each sample of the batch.

    ``rgb_weight`` is the paper's alpha, ``response_difference`` its delta r; both have shape ``(B,)``, in float64
    for float64 inputs and in float32 otherwise. Plain tensors: save ``state._asdict()``, restore ``TMRState(**saved)``.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.progressive_interaction import TMRState
        >>> state = TMRState(torch.tensor([0.9, 0.2]), torch.tensor([0.1, -0.3]))
        >>> state.reset(torch.tensor([False, True]))
        TMRState(rgb_weight=tensor([0.9000, 0.5000]), response_difference=tensor([0.1000, 0.0000]))
    """

    rgb_weight: Tensor
    response_difference: Tensor

    @classmethod
    def initial(
        cls, batch: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> "TMRState":
        """Return the state before the first frame: weight 0.5, difference 0."""
        if batch < 0:
            raise ValueError(f"batch must not be negative, got {batch}")
        weight = torch.full((batch,), 0.5, dtype=dtype, device=device)
        return cls(weight, torch.zeros_like(weight))

    def reset(self, mask: Tensor) -> "TMRState":
        """Return the state with the rows where ``mask``, ``(B,)`` and boolean, is true at their initial values.

        Raises:
            TypeError: ``mask`` is not a boolean tensor.
            ShapeError: ``mask`` has not one value for each row.
        """
        check_same_shape(mask, self.rgb_weight, name="mask", like_name="the state's rows")
        check_same_device(mask, self.rgb_weight, name="mask", like_name="the state")
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be boolean, got {mask.dtype}")
        return TMRState(self.rgb_weight.masked_fill(mask, 0.5), self.response_difference.masked_fill(mask, 0.0))


class ReweightedStreams(NamedTuple):
    """What TMR returns: both streams, weighted, and the state for the next frame."""

    rgb: Tensor
    tir: Tensor
    state: TMRState


class ProgressiveInteractionOutput(NamedTuple):
    """What TPI returns: the fused map and the state for the next frame."""

    fused: Tensor
    state: TMRState


class TemporalModalityReweighting(nn.Module):
    r"""Weigh RGB against TIR by how strongly each responds now and by what the previous frame concluded.

    Each stream, enhanced by its own EMA, is averaged to one response a sample. A small perceptron reads both responses
    and the previous frame's weight and response difference; its output weighs RGB, the rest to one weighs TIR.

    .. math::
        r_m &= \mathrm{mean}_{C,H,W}\, \mathrm{EMA}_m(F_m), \quad m \in \{rgb, tir\} \\
        a^t &= \sigma(\mathrm{MLP}([r_{rgb}^t, r_{tir}^t, r_{rgb}^{t-1} - r_{tir}^{t-1}, a^{t-1}])) \\
        \hat F_{rgb} &= a^t F_{rgb}, \quad \hat F_{tir} = (1 - a^t) F_{tir}

    Where the paper is silent: a sequence starts from a = 0.5 and difference 0; no gradient flows into the previous
    frame unless ``detach_history=False``. The article's code keeps the history inside the module and replaces EMA by a
    gate that cannot run; here the state is an argument and EMA is the published one. Without history the perceptron
    reads the two responses only; the state returned is then for information.

    Args:
        channels: channels C of both streams.
        factor: groups of EMA; ``None`` takes 8, or the largest divisor that the channels share with 8.
        hidden: width of the perceptron.
        history: read the previous frame's state (the ablation is ``False``).
        detach_history: cut the gradient between frames.

    Shape:
        rgb, tir: one frame ``(B, C, H, W)``, or a clip ``(B, T, C, H, W)``, which equals T calls in turn.
        state: a :class:`TMRState` of ``(B,)`` tensors; ``None`` starts a sequence.
        returns: :class:`ReweightedStreams` ``(rgb, tir, state)``; streams in their shape and dtype, the state after the
        last frame.

    Raises:
        TypeError: an input is not a tensor of the parameters' dtype, or ``state`` is not a ``TMRState``.
        ShapeError: the streams' shapes are wrong or differ, or ``state`` has other rows than the batch.
        ValueError: ``channels`` is not divisible by ``factor``, or devices differ.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.progressive_interaction import TMR
        >>> tmr, state = TMR(64), None
        >>> for _ in range(3):
        ...     rgb, tir, state = tmr(torch.randn(2, 64, 16, 16), torch.randn(2, 64, 16, 16), state)
        >>> rgb.shape, state.rgb_weight.shape
        (torch.Size([2, 64, 16, 16]), torch.Size([2]))

    Source: Li et al., Three-stage progressive modality reweighting and interaction framework for robust RGB-T
    tracking, Knowledge-Based Systems 339, 2026, equations 1-3.
    """

    def __init__(
        self,
        channels: int = 768,
        *,
        factor: int | None = None,
        hidden: int = 64,
        history: bool = True,
        detach_history: bool = True,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.history = history
        self.detach_history = detach_history
        self.ema_rgb = EfficientMultiscaleAttention(channels, factor=factor)
        self.ema_tir = EfficientMultiscaleAttention(channels, factor=factor)
        hidden = check_positive_int(hidden, name="hidden")
        self.fc1 = nn.Linear(4 if history else 2, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, rgb: Tensor, tir: Tensor, state: TMRState | None = None) -> ReweightedStreams:
        _check_maps(rgb, tir, "tir", self.channels, self.fc1.weight)
        clip = rgb.dim() == 5
        frames = rgb.shape[1] if clip else 1
        next_state = _start_or_check(state, rgb)
        r_rgb = _response(self.ema_rgb, rgb).view(-1, frames)
        r_tir = _response(self.ema_tir, tir).view(-1, frames)

        weights = []
        for now in zip(r_rgb.unbind(1), r_tir.unbind(1), strict=True):
            weight, next_state = self._step(*now, next_state)
            weights.append(weight)
        weight = torch.stack(weights, 1) if clip else weights[0]
        weight = weight[..., None, None, None].to(rgb.dtype)
        return ReweightedStreams(weight * rgb, (1 - weight) * tir, next_state)

    def _step(self, r_rgb: Tensor, r_tir: Tensor, state: TMRState) -> tuple[Tensor, TMRState]:
        """Equation 2 for one frame: responses ``(B,)`` to the weight of RGB ``(B,)`` and the next state."""
        context = [r_rgb, r_tir]
        if self.history:
            context += [state.response_difference, state.rgb_weight]
        logit = self.fc2(self.fc1(torch.stack(context, 1).to(self.fc1.weight.dtype)).relu())[:, 0]
        weight = torch.sigmoid(logit.to(r_rgb.dtype))
        difference = r_rgb - r_tir
        if self.detach_history:
            return weight, TMRState(weight.detach(), difference.detach())
        return weight, TMRState(weight, difference)


class CrossModalityInteraction(nn.Module):
    r"""Let every RGB position gather what it lacks from the TIR map, by one cross-attention.

    Queries come from RGB, keys and values from TIR, each by a 1x1 convolution, the queries and keys at half the width;
    the result is added to RGB.

    .. math::
        Q = W_q * \hat F_{rgb}, \quad K = W_k * \hat F_{tir}, \quad V = W_v * \hat F_{tir}, \quad
        A = \mathrm{softmax}(Q^\top K), \quad F_{cmi} = V A^\top + \hat F_{rgb}

    Where the paper is silent: convolutions have a bias and nothing follows the attention, which gives the published
    144 parameters at C = 8. The paper does not scale the scores; the article's code does, by ``(C / 8) ** -0.5``, and
    adds an output projection. The bidirectional ablation has a second attention, TIR reading RGB with weights of its
    own, and returns the mean of the two enhanced maps. The matrix A is written out: on a CPU this is faster than
    fused attention here, whose kernel wants queries as wide as the values.

    Args:
        channels: channels C of both streams.
        direction: ``"tir_to_rgb"`` (the paper) or ``"bidirectional"`` (its ablation).
        scale: factor on the scores before the softmax.

    Shape:
        rgb, tir: ``(B, C, H, W)`` or ``(B, T, C, H, W)``, floating point, with the dtype of the parameters.
        returns: the enhanced map, shape and dtype of ``rgb``.

    Raises:
        TypeError: an input is not a tensor of the parameters' dtype.
        ShapeError: the streams' shapes are wrong or differ.
        ValueError: ``direction`` is unknown, ``scale`` is not finite, or devices differ.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.progressive_interaction import CMI
        >>> cmi = CMI(8)
        >>> cmi(torch.randn(2, 8, 16, 16), torch.randn(2, 8, 16, 16)).shape
        torch.Size([2, 8, 16, 16])
        >>> sum(p.numel() for p in cmi.parameters())
        144

    Source: Li et al., Knowledge-Based Systems 339, 2026, equations 4-6.
    """

    def __init__(self, channels: int = 8, *, direction: str = "tir_to_rgb", scale: float = 1.0) -> None:
        super().__init__()
        self.channels = check_positive_int(channels, name="channels")
        check_choice(direction, ("tir_to_rgb", "bidirectional"), name="direction")
        self.tir_to_rgb = _MapAttention(channels, check_finite_number(scale, name="scale"))
        self.rgb_to_tir = _MapAttention(channels, scale) if direction == "bidirectional" else None

    def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
        _check_maps(rgb, tir, "tir", self.channels, self.tir_to_rgb.q.weight)
        shape, rgb, tir = rgb.shape, rgb.flatten(0, -4), tir.flatten(0, -4)
        enhanced = rgb + self.tir_to_rgb(rgb, tir)
        if self.rgb_to_tir is not None:
            enhanced = (enhanced + tir + self.rgb_to_tir(tir, rgb)) / 2
        return enhanced.view(shape)


class ModalityAwareFusion(nn.Module):
    r"""Blend the reweighted RGB map with the enhanced one by two weights that sum to one.

    Both maps are averaged over their positions; a two-layer perceptron turns the pooled pair into the two weights of
    the sample, so that an enhancement the frame as a whole does not support is held back.

    .. math::
        [\alpha, \beta] = \mathrm{softmax}(W_2\, \mathrm{ReLU}(W_1 [\mathrm{GAP}(\hat F_{rgb}),
        \mathrm{GAP}(F_{cmi})])), \quad F_{fused} = \alpha \hat F_{rgb} + \beta F_{cmi}

    Where the paper is silent: both layers have a bias and the hidden width is C / 4, which gives the published 40
    parameters at C = 8. The spatial ablation applies the same perceptron at every position instead of to the mean, so
    both forms share their parameters.

    Args:
        channels: channels C of both maps.
        pooling: ``"global"`` (the paper) or ``"spatial"`` (its ablation: one pair of weights a position).
        reduction: hidden width is ``channels // reduction``, at least one.

    Shape:
        rgb, enhanced: ``(B, C, H, W)`` or ``(B, T, C, H, W)``, floating point, with the dtype of the parameters.
        returns: the fused map, shape and dtype of ``rgb``.

    Raises:
        TypeError: an input is not a tensor of the parameters' dtype.
        ShapeError: the maps' shapes are wrong or differ.
        ValueError: ``pooling`` is unknown, or devices differ.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.progressive_interaction import MAF
        >>> maf = MAF(8)
        >>> maf(torch.randn(2, 8, 16, 16), torch.randn(2, 8, 16, 16)).shape
        torch.Size([2, 8, 16, 16])
        >>> sum(p.numel() for p in maf.parameters())
        40

    Source: Li et al., Knowledge-Based Systems 339, 2026, equations 7-9.
    """

    def __init__(self, channels: int = 8, *, pooling: str = "global", reduction: int = 4) -> None:
        super().__init__()
        self.channels = check_positive_int(channels, name="channels")
        check_choice(pooling, ("global", "spatial"), name="pooling")
        self.pooling = pooling
        hidden = max(1, channels // check_positive_int(reduction, name="reduction"))
        self.fc1 = nn.Linear(2 * channels, hidden)
        self.fc2 = nn.Linear(hidden, 2)

    def forward(self, rgb: Tensor, enhanced: Tensor) -> Tensor:
        _check_maps(rgb, enhanced, "enhanced", self.channels, self.fc1.weight)
        if self.pooling == "global":
            pair = torch.cat([rgb.mean((-2, -1)), enhanced.mean((-2, -1))], -1)[..., None, None, :]
        else:
            pair = torch.cat([rgb, enhanced], -3).movedim(-3, -1)
        beta = self.fc2(self.fc1(pair).relu()).softmax(-1)[..., 1].unsqueeze(-3)
        # alpha = 1 - beta, so equation 9 is an interpolation: one pass over the maps.
        return torch.lerp(rgb, enhanced, beta.to(rgb.dtype))


class ProgressiveInteraction(nn.Module):
    r"""Fuse an RGB and a TIR map in three stages: weigh the modalities, let them interact, blend the outcome.

    TMR weighs the streams by their reliability over time, CMI lets RGB gather from TIR, MAF decides how much of that
    enters the result. Each stage can be left out.

    .. math::
        (\hat F_{rgb}, \hat F_{tir}, s^t) = \mathrm{TMR}(F_{rgb}, F_{tir}, s^{t-1}), \quad
        F_{fused} = \mathrm{MAF}(\hat F_{rgb}, \mathrm{CMI}(\hat F_{rgb}, \hat F_{tir}))

    Where the paper is silent: without TMR the streams go on unweighted and the state passes through; without CMI the
    enhanced map is the sum of the streams (attention replaced by the identity); without MAF the enhanced map is the
    result. With all three left out the layer is the plain sum. The published parameter counts place CMI and MAF at
    C = 8 in each of twelve blocks, and one TMR at C = 768 before them: build them separately for that.

    Args:
        channels: channels C of both streams.
        tmr: reweight the modalities (``False`` is the ablation without TMR).
        history: let TMR read the previous frame.
        cmi: direction of CMI, ``"tir_to_rgb"`` or ``"bidirectional"``; ``None`` is the ablation without CMI.
        maf: pooling of MAF, ``"global"`` or ``"spatial"``; ``None`` is the ablation without MAF.
        scale: factor on CMI's scores.
        detach_history: cut the gradient between frames.

    Shape:
        rgb, tir: one frame ``(B, C, H, W)``, or a clip ``(B, T, C, H, W)``, which equals T calls in turn.
        state: a :class:`TMRState` of ``(B,)`` tensors; ``None`` starts a sequence.
        returns: :class:`ProgressiveInteractionOutput` ``(fused, state)``; ``fused`` in the shape and dtype of ``rgb``.

    Raises:
        TypeError: an input is not a tensor of the parameters' dtype, or ``state`` is not a ``TMRState``.
        ShapeError: the streams' shapes are wrong or differ, or ``state`` has other rows than the batch.
        ValueError: ``cmi`` or ``maf`` is unknown, ``scale`` is not finite, or devices differ.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.progressive_interaction import TPI
        >>> tpi = TPI(64)
        >>> fused, state = tpi(torch.randn(2, 64, 16, 16), torch.randn(2, 64, 16, 16))
        >>> fused, state = tpi(torch.randn(2, 64, 16, 16), torch.randn(2, 64, 16, 16), state)
        >>> fused.shape
        torch.Size([2, 64, 16, 16])

    Source: Li et al., Knowledge-Based Systems 339, 2026, equations 1-9.
    """

    def __init__(
        self,
        channels: int = 768,
        *,
        tmr: bool = True,
        history: bool = True,
        cmi: str | None = "tir_to_rgb",
        maf: str | None = "global",
        scale: float = 1.0,
        detach_history: bool = True,
    ) -> None:
        super().__init__()
        self.channels = check_positive_int(channels, name="channels")
        check_choice(cmi, ("tir_to_rgb", "bidirectional", None), name="cmi")
        check_choice(maf, ("global", "spatial", None), name="maf")
        self.tmr = TMR(channels, history=history, detach_history=detach_history) if tmr else None
        self.cmi = CMI(channels, direction=cmi, scale=scale) if cmi else None
        self.maf = MAF(channels, pooling=maf) if maf else None

    def forward(self, rgb: Tensor, tir: Tensor, state: TMRState | None = None) -> ProgressiveInteractionOutput:
        _check_maps(rgb, tir, "tir", self.channels, next(self.parameters(), rgb))
        next_state = _start_or_check(state, rgb)
        if self.tmr is not None:
            rgb, tir, next_state = self.tmr(rgb, tir, state)
        enhanced = rgb + tir if self.cmi is None else self.cmi(rgb, tir)
        fused = enhanced if self.maf is None else self.maf(rgb, enhanced)
        return ProgressiveInteractionOutput(fused, next_state)


class _MapAttention(nn.Module):
    """Equations 4 and 5: the positions of ``queries`` read those of ``values``, both ``(B, C, H, W)``."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        half = max(1, channels // 2)
        self.q = nn.Conv2d(channels, half, 1)
        self.k = nn.Conv2d(channels, half, 1)
        self.v = nn.Conv2d(channels, channels, 1)

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        q = self.q(queries).flatten(2)
        if self.scale != 1.0:
            q = q * self.scale
        attention = (q.mT @ self.k(values).flatten(2)).softmax(-1)
        return (self.v(values).flatten(2) @ attention.mT).view_as(queries)


def _response(ema: EfficientMultiscaleAttention, x: Tensor) -> Tensor:
    """Equation 1, one number a frame: the mean of the enhanced map, which itself is never needed."""
    x = x.flatten(0, -4)
    means = x.unflatten(1, (ema.factor, -1)).mean(2)
    return (ema.gate(x) * means).mean((1, 2, 3), dtype=_state_dtype(x))


def _state_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _start_or_check(state: TMRState | None, rgb: Tensor) -> TMRState:
    """Return the state to begin with, in the dtype states are kept in."""
    dtype = _state_dtype(rgb)
    if state is None:
        return TMRState.initial(rgb.shape[0], dtype=dtype, device=rgb.device)
    if not isinstance(state, TMRState):
        raise TypeError(f"state must be a TMRState or None, got {type(state).__name__}")
    for name, value in state._asdict().items():
        check_shape(value, "B", name=f"state.{name}", B=rgb.shape[0])
        check_same_device(value, rgb, name=f"state.{name}", like_name="rgb")
    return TMRState(state.rgb_weight.to(dtype), state.response_difference.to(dtype))


def _check_maps(rgb: Tensor, other: Tensor, name: str, channels: int, weight: Tensor) -> None:
    """Check a pair of maps, or of clips of maps, and that the layer's weights fit them."""
    axes = "B T C H W" if isinstance(rgb, Tensor) and rgb.dim() == 5 else "B C H W"
    check_shape(rgb, axes, C=channels, name="rgb")
    if 0 in rgb.shape[1:]:
        raise ShapeError(f"rgb must have at least one frame and one position, got {tuple(rgb.shape)}")
    check_same_shape(other, rgb, name=name, like_name="rgb")
    check_same_device(other, rgb, name=name, like_name="rgb")
    check_floating(rgb, name="rgb")
    check_same_dtype(other, rgb, name=name, like_name="rgb")
    if rgb.dtype != weight.dtype and not torch.is_autocast_enabled(rgb.device.type):
        check_same_dtype(rgb, weight, name="rgb", like_name="the layer's parameters")


TMR = TemporalModalityReweighting
CMI = CrossModalityInteraction
MAF = ModalityAwareFusion
TPI = ProgressiveInteraction
