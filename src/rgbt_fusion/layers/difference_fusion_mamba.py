"""Fuse RGB and thermal tokens through a Mamba over their difference (AINet's DFM)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.layers.mamba import MambaBlock
from rgbt_fusion.shapes import check_same_shape, check_shape

__all__ = ["DFM", "DifferenceFusionMamba", "FusedStreams"]


class FusedStreams(NamedTuple):
    """Both streams after a fusion layer, and what they have become together; each ``(B, L, C)``."""

    rgb: Tensor
    tir: Tensor
    fused: Tensor


class DifferenceFusionMamba(nn.Module):
    r"""Enhance each modality by what the other has and it lacks, and fuse the two.

    The difference of the streams passes a Mamba, which suppresses noise and keeps what is
    complementary; its tanh weighs how much of the *other* modality each channel of each token
    receives. Both updates use the streams as they came in. A linear layer joins the enhanced
    streams.

    .. math::
        m &= \tanh(\mathrm{Mamba}(\mathrm{LN}(x^{rgb} - x^{tir}))) \\
        \hat x^{rgb} &= x^{rgb} + x^{tir} \odot m, \qquad \hat x^{tir} = x^{tir} + x^{rgb} \odot m \\
        x^{dfm} &= f(\mathrm{LN}([\hat x^{rgb}, \hat x^{tir}] W + b))

    Where the paper is silent: the LayerNorm before Mamba, the bias *b* and the sizes (expand 1, 16
    states, 4 taps) are those of the authors' released code. Where they differ, the released code is
    the default, because it is what their checkpoint holds: *f* is GELU there and tanh in eq. 8
    (``variant="paper"``). Eq. 8 prints the streams before enhancement; the text beside it and the
    code take the enhanced ones, and so does this layer. The released code zeroes ``dt_proj.bias``
    by initialising every linear layer anew; here it keeps Mamba's own start.

    Args:
        dim: channels of the tokens.
        d_state: size of the state of one channel.
        d_conv: taps of the convolution.
        expand: inner width of the Mamba over ``dim``.
        dt_rank: rank of the step-size projection; ``"auto"`` is ``ceil(dim / 16)``.
        variant: ``"released"`` (GELU) or ``"paper"`` (tanh).
        backend: which implementation of the ops must run; ``"auto"`` takes the best that can.

    Shape:
        - rgb, tir: ``(B, L, C)`` with C = ``dim``; the order of the L tokens matters, it is the
          order of the scan
        - returns :class:`FusedStreams` of three ``(B, L, C)``

    Raises:
        ShapeError: ``rgb`` has not the shape above, or ``tir`` not that of ``rgb``.
        ValueError: an argument is out of range or ``variant`` is unknown.

    Example:
        >>> import torch
        >>> from rgbt_fusion import DFM
        >>> out = DFM(32)(torch.randn(2, 20, 32), torch.randn(2, 20, 32))
        >>> out.rgb.shape, out.tir.shape, out.fused.shape
        (torch.Size([2, 20, 32]), torch.Size([2, 20, 32]), torch.Size([2, 20, 32]))

    Source:
        AINet (Lu et al., "RGBT Tracking via All-layer Multimodal Interactions with Progressive
        Fusion Mamba", AAAI 2025), eq. 7-8.
    """

    def __init__(
        self,
        dim: int,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 1,
        dt_rank: int | str = "auto",
        variant: str = "released",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        check_choice(variant, ("released", "paper"), name="variant")
        self.variant = variant
        self.norm = nn.LayerNorm(dim)
        self.mamba = MambaBlock(dim, d_state, d_conv, expand, dt_rank, backend=backend)
        self.fuse = nn.Sequential(nn.Linear(2 * dim, dim), nn.LayerNorm(dim))

    def forward(self, rgb: Tensor, tir: Tensor) -> FusedStreams:
        """Enhance and fuse the streams; see the class."""
        rgb, tir = self.enhance(rgb, tir)
        return FusedStreams(rgb, tir, self.join(rgb, tir))

    def enhance(self, rgb: Tensor, tir: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams with what each takes from the other (eq. 7)."""
        check_shape(rgb, "B L C", C=self.dim, name="rgb")
        check_same_shape(tir, rgb, name="tir", like_name="rgb")
        mask = torch.tanh(self.mamba(self.norm(rgb - tir)))
        return torch.addcmul(rgb, tir, mask), torch.addcmul(tir, rgb, mask)

    def join(self, rgb: Tensor, tir: Tensor) -> Tensor:
        """Return the fused feature of enhanced streams (eq. 8); token by token, so any part of them
        may be given."""
        joined = self.fuse(torch.cat([rgb, tir], dim=-1))
        return F.gelu(joined) if self.variant == "released" else torch.tanh(joined)

    def extra_repr(self) -> str:
        """Name what the sub-modules do not show."""
        return f"variant={self.variant!r}"


DFM = DifferenceFusionMamba
