"""TPI: the three stages TMR, CMI and MAF in one layer."""

from typing import ClassVar, NamedTuple, get_args

from torch import Tensor

from rgbt_fusion.checks import check_choice, check_finite_number, check_positive_int
from rgbt_fusion.layers.cross_modality_interaction import CMI, CMIDirection
from rgbt_fusion.layers.modality_aware_fusion import MAF, MAFPooling
from rgbt_fusion.layers.streams import check_map_streams
from rgbt_fusion.layers.temporal_modality_reweighting import TMR, TMRState, state_for
from rgbt_fusion.typed_module import TypedModule

__all__ = ["TPI", "ProgressiveInteraction", "ProgressiveInteractionOutput"]


class ProgressiveInteractionOutput(NamedTuple):
    """What TPI returns: the fused map and the state for the next frame."""

    fused: Tensor
    state: TMRState


class ProgressiveInteraction(TypedModule):
    r"""Fuse an RGB and a TIR map in three stages: weigh the modalities, let them interact, blend.

    TMR weighs the streams by their reliability over time, CMI lets RGB gather from TIR, MAF decides
    how much of that enters the result. Each stage can be left out.

    .. math::
        (\hat F_{rgb}, \hat F_{tir}, s^t) = \mathrm{TMR}(F_{rgb}, F_{tir}, s^{t-1}), \quad
        F_{fused} = \mathrm{MAF}(\hat F_{rgb}, \mathrm{CMI}(\hat F_{rgb}, \hat F_{tir}))

    Paper and code: without TMR the streams go on unweighted and the state passes through. Without
    CMI the enhanced map is the sum of the streams (attention replaced by the identity). Without MAF
    the enhanced map is the result. With all three left out the layer is the plain sum. The
    published parameter counts place CMI and MAF at C = 8 in each of twelve blocks, and one TMR at
    C = 768 before them: build them separately for that.

    Args:
        dim: channels of both streams.
        tmr: reweight the modalities (``False`` is the ablation without TMR).
        history: let TMR read the previous frame.
        cmi: direction of CMI, ``"tir_to_rgb"`` or ``"bidirectional"``; ``None`` is the ablation
            without CMI.
        maf: pooling of MAF, ``"global"`` or ``"spatial"``; ``None`` is the ablation without MAF.
        scale: factor on CMI's scores.
        detach_history: cut the gradient between frames.

    Shape:
        - rgb, tir: one frame ``(B, C, H, W)`` with C = ``dim``, or a clip ``(B, T, C, H, W)``,
          which equals T calls in turn
        - state: a :class:`TMRState` of ``(B,)`` tensors; ``None`` starts a sequence
        - returns :class:`ProgressiveInteractionOutput` ``(fused, state)``, with ``fused`` in the
          shape and dtype of ``rgb``

    Raises:
        ShapeError: ``rgb`` does not have a shape above, ``tir`` differs from it, or ``state`` has
            other rows than the batch.
        TypeError: ``rgb`` or ``tir`` is not a tensor of the parameters' dtype, or ``state`` is not
            a ``TMRState``.
        ValueError: ``cmi`` or ``maf`` is unknown, ``scale`` is not finite, or ``tir`` or ``state``
            lies on another device than ``rgb``.

    Example:
        >>> import torch
        >>> from rgbt_fusion import TPI
        >>> rgb, tir = torch.ones(1, 8, 2, 2), torch.ones(1, 8, 2, 2)
        >>> fused, state = TPI(8)(rgb, tir)
        >>> fused.shape, state.rgb_weight.shape
        (torch.Size([1, 8, 2, 2]), torch.Size([1]))
        >>> TPI(8, tmr=False, cmi=None, maf=None)(rgb, tir).fused.unique()  # the plain sum
        tensor([2.])

    Source:
        Li et al., "Three-stage progressive modality reweighting and interaction framework for
        robust RGB-T tracking", Knowledge-Based Systems 339, 2026, eq. 1-9.
    """

    takes_maps: ClassVar[bool] = True
    """Say to :class:`~rgbt_fusion.AnyPlace` what the layer is made for."""

    def __init__(
        self,
        dim: int = 768,
        *,
        tmr: bool = True,
        history: bool = True,
        cmi: CMIDirection | None = "tir_to_rgb",
        maf: MAFPooling | None = "global",
        scale: float = 1.0,
        detach_history: bool = True,
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        check_choice(cmi, (*get_args(CMIDirection), None), name="cmi")
        check_choice(maf, (*get_args(MAFPooling), None), name="maf")
        self.history = history
        self.scale = check_finite_number(scale, name="scale")
        self.detach_history = detach_history
        self.tmr = TMR(dim, history=history, detach_history=detach_history) if tmr else None
        self.cmi = CMI(dim, direction=cmi, scale=scale) if cmi else None
        self.maf = MAF(dim, pooling=maf) if maf else None

    def forward(
        self, rgb: Tensor, tir: Tensor, state: TMRState | None = None
    ) -> ProgressiveInteractionOutput:
        """Fuse maps ``(B, C, H, W)``, or clips, into one; return it and the next state."""
        parameter = next(self.parameters(), rgb)
        check_map_streams(rgb, tir, dim=self.dim, parameter=parameter)
        if self.tmr is None:
            next_state = state_for(rgb, state)
        else:
            rgb, tir, next_state = self.tmr(rgb, tir, state)
        enhanced = rgb + tir if self.cmi is None else self.cmi(rgb, tir)
        fused = enhanced if self.maf is None else self.maf(rgb, enhanced)
        return ProgressiveInteractionOutput(fused, next_state)

    def extra_repr(self) -> str:
        """Show the options."""
        cmi = None if self.cmi is None else self.cmi.direction
        maf = None if self.maf is None else self.maf.pooling
        return (
            f"dim={self.dim}, tmr={self.tmr is not None}, history={self.history}, cmi={cmi!r}, "
            f"maf={maf!r}, scale={self.scale}, detach_history={self.detach_history}"
        )


TPI = ProgressiveInteraction
