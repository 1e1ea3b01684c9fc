"""TPI: the three stages TMR, CMI and MAF in one layer."""

from typing import NamedTuple

from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.layers.cross_modality_interaction import CMI, _check_maps
from rgbt_fusion.layers.modality_aware_fusion import MAF
from rgbt_fusion.layers.temporal_modality_reweighting import TMR, TMRState, _start_or_check

__all__ = ["TPI", "ProgressiveInteraction", "ProgressiveInteractionOutput"]


class ProgressiveInteractionOutput(NamedTuple):
    """What TPI returns: the fused map and the state for the next frame."""

    fused: Tensor
    state: TMRState


class ProgressiveInteraction(nn.Module):
    r"""Fuse an RGB and a TIR map in three stages: weigh the modalities, let them interact, blend
    the outcome.

    TMR weighs the streams by their reliability over time, CMI lets RGB gather from TIR, MAF decides
    how much of that enters the result. Each stage can be left out.

    .. math::
        (\hat F_{rgb}, \hat F_{tir}, s^t) = \mathrm{TMR}(F_{rgb}, F_{tir}, s^{t-1}), \quad
        F_{fused} = \mathrm{MAF}(\hat F_{rgb}, \mathrm{CMI}(\hat F_{rgb}, \hat F_{tir}))

    Where the paper is silent: without TMR the streams go on unweighted and the state passes
    through; without CMI the enhanced map is the sum of the streams (attention replaced by the
    identity); without MAF the enhanced map is the result. With all three left out the layer is the
    plain sum. The published parameter counts place CMI and MAF at C = 8 in each of twelve blocks,
    and one TMR at C = 768 before them: build them separately for that.

    Args:
        channels: channels C of both streams.
        tmr: reweight the modalities (``False`` is the ablation without TMR).
        history: let TMR read the previous frame.
        cmi: direction of CMI, ``"tir_to_rgb"`` or ``"bidirectional"``; ``None`` is the ablation
            without CMI.
        maf: pooling of MAF, ``"global"`` or ``"spatial"``; ``None`` is the ablation without MAF.
        scale: factor on CMI's scores.
        detach_history: cut the gradient between frames.

    Shape:
        rgb, tir: one frame ``(B, C, H, W)``, or a clip ``(B, T, C, H, W)``, which equals T calls in
        turn. state: a :class:`TMRState` of ``(B,)`` tensors; ``None`` starts a sequence. returns:
        :class:`ProgressiveInteractionOutput` ``(fused, state)``; ``fused`` in the shape and dtype
        of ``rgb``.

    Raises:
        TypeError: an input is not a tensor of the parameters' dtype, or ``state`` is not a
            ``TMRState``.
        ShapeError: the streams' shapes are wrong or differ, or ``state`` has other rows than the
            batch.
        ValueError: ``cmi`` or ``maf`` is unknown, ``scale`` is not finite, or devices differ.

    Example:
        >>> import torch
        >>> from rgbt_fusion import TPI
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

    def forward(
        self, rgb: Tensor, tir: Tensor, state: TMRState | None = None
    ) -> ProgressiveInteractionOutput:
        _check_maps(rgb, tir, "tir", self.channels, next(self.parameters(), rgb))
        next_state = _start_or_check(state, rgb)
        if self.tmr is not None:
            rgb, tir, next_state = self.tmr(rgb, tir, state)
        enhanced = rgb + tir if self.cmi is None else self.cmi(rgb, tir)
        fused = enhanced if self.maf is None else self.maf(rgb, enhanced)
        return ProgressiveInteractionOutput(fused, next_state)


TPI = ProgressiveInteraction
