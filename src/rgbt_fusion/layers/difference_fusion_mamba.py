"""Fuse RGB and thermal tokens through a Mamba over their difference (AINet's DFM)."""

import itertools
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.layers.mamba import MambaBlock, ScanParameters
from rgbt_fusion.layers.streams import check_token_streams
from rgbt_fusion.ops.backends import BackendName
from rgbt_fusion.ops.stream_op import can_fuse_streams, exchange, normed_difference
from rgbt_fusion.typed_module import TypedModule

__all__ = ["DFM", "DFMVariant", "DifferenceFusionMamba", "ExchangedStreams", "FusedStreams"]

DFMVariant = Literal["released", "paper"]
"""What joins the streams: GELU as in the released code, or tanh as in the paper."""


class FusedStreams(NamedTuple):
    """Both streams after a fusion layer and the feature made of them, each ``(B, L, C)``."""

    rgb: Tensor
    tir: Tensor
    fused: Tensor


class ExchangedStreams(NamedTuple):
    """Both streams with what they take from each other."""

    tokens: Tensor
    """As one batch, ``(2 B, L, C)``, RGB first."""
    joined: Tensor
    """Side by side, ``(B, L - skipped, 2 C)``."""


class DifferenceFusionMamba(TypedModule):
    r"""Give each modality what the other has and it lacks, then fuse both.

    The difference of the streams passes a Mamba, which suppresses noise and keeps what is
    complementary. Its tanh weighs how much of the *other* modality each channel of each token
    receives. Both updates use the streams as they came in. A linear layer joins the enhanced
    streams.

    .. math::
        m &= \tanh(\mathrm{Mamba}(\mathrm{LN}(x^{rgb} - x^{tir}))) \\
        \hat x^{rgb} &= x^{rgb} + x^{tir} \odot m, \qquad
        \hat x^{tir} = x^{tir} + x^{rgb} \odot m \\
        x^{dfm} &= f(\mathrm{LN}([\hat x^{rgb}, \hat x^{tir}] W + b))

    Paper and code: the LayerNorm before the Mamba, the bias *b* and the sizes (expand 1, 16
    states, 4 taps) stand in the authors' released code only. Where code and paper differ, the
    code is the default, because their checkpoint was trained with it: *f* is GELU there and tanh
    in eq. 8 (``variant="paper"``). Eq. 8 prints the streams before enhancement; the text beside it
    and the code take the enhanced ones, and so does this layer. The released code sets
    ``dt_proj.bias`` to zero when it initialises every linear layer anew; here it keeps Mamba's own
    start.

    Args:
        dim: channels of the tokens.
        d_state: size of the state of one channel.
        d_conv: taps of the convolution.
        expand: inner width of the Mamba over ``dim``.
        dt_rank: rank of the step-size projection; ``"auto"`` is ``ceil(dim / 16)``.
        variant: ``"released"`` (GELU) or ``"paper"`` (tanh).
        backend: which implementation of the ops must run; ``"auto"`` takes the best that can.

    Shape:
        - rgb, tir: ``(B, L, C)`` with C = ``dim``; the scan follows the order of the L tokens
        - returns :class:`FusedStreams` of three ``(B, L, C)``

    Raises:
        ShapeError: ``rgb`` does not have the shape above, or ``tir`` differs from it.
        TypeError: ``rgb`` or ``tir`` is not a tensor, or an argument has the wrong type.
        ValueError: an argument is out of range, or ``variant`` or ``backend`` is unknown.

    Example:
        >>> import torch
        >>> from rgbt_fusion import DFM
        >>> dfm = DFM(32)
        >>> rgb = torch.randn(2, 20, 32)
        >>> out = dfm(rgb, torch.zeros(2, 20, 32))
        >>> out.fused.shape
        torch.Size([2, 20, 32])
        >>> torch.equal(out.rgb, rgb)  # an empty thermal stream gives nothing
        True

    Source:
        Lu et al., "RGBT Tracking via All-layer Multimodal Interactions with Progressive Fusion
        Mamba" (AINet), AAAI 2025, eq. 7-8.
    """

    def __init__(
        self,
        dim: int,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 1,
        dt_rank: int | Literal["auto"] = "auto",
        variant: DFMVariant = "released",
        backend: BackendName = "auto",
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        check_choice(variant, get_args(DFMVariant), name="variant")
        self.variant: DFMVariant = variant
        self.norm = nn.LayerNorm(dim)
        self.mamba = MambaBlock(dim, d_state, d_conv, expand, dt_rank, backend=backend)
        self.fuse = nn.Sequential(nn.Linear(2 * dim, dim), nn.LayerNorm(dim))

    def forward(self, rgb: Tensor, tir: Tensor) -> FusedStreams:
        """Enhance and fuse two streams ``(B, L, C)``; return three tensors of that shape."""
        rgb, tir = self.enhance(rgb, tir)
        return FusedStreams(rgb, tir, self.join(rgb, tir))

    def enhance(
        self, rgb: Tensor, tir: Tensor, scan: ScanParameters | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return both streams, each with what it takes from the other (eq. 7).

        ``scan`` is what ``mamba.prepare()`` returned, where it was kept.
        """
        check_token_streams(rgb, tir, dim=self.dim)
        mask = torch.tanh(self._gate(self.norm(rgb - tir), scan))
        enhanced_rgb = torch.addcmul(rgb, tir, mask)
        enhanced_tir = torch.addcmul(tir, rgb, mask)
        return enhanced_rgb, enhanced_tir

    def _gate(self, difference: Tensor, scan: ScanParameters | None) -> Tensor:
        """Return what the Mamba makes of the difference, in front of the tanh."""
        return self.mamba(difference) if scan is None else self.mamba.mix(difference, scan)

    def exchange(
        self, rgb: Tensor, tir: Tensor, *, skipped: int = 0, scan: ScanParameters | None = None
    ) -> ExchangedStreams:
        """Do what :meth:`enhance` does, for two streams that stay one batch.

        On a card at inference it takes two kernels beside the Mamba.

        Args:
            rgb: the first stream, ``(B, L, C)``.
            tir: the second stream.
            skipped: how many tokens at the front are left out of ``joined``.
            scan: what ``mamba.prepare()`` returned, where it was kept.
        """
        check_token_streams(rgb, tir, dim=self.dim)
        if not self._can_fuse(rgb, tir):
            rgb, tir = self.enhance(rgb, tir, scan)
            joined = torch.cat([rgb[:, skipped:], tir[:, skipped:]], dim=-1)
            return ExchangedStreams(torch.cat([rgb, tir]), joined)
        norm = self.norm
        difference = normed_difference(rgb, tir, norm.weight, norm.bias, norm.eps)
        return ExchangedStreams(*exchange(rgb, tir, self._gate(difference, scan), skipped))

    def _can_fuse(self, rgb: Tensor, tir: Tensor) -> bool:
        """Say whether kernels may take the place of the norm and of the exchange."""
        norm = self.norm
        is_watched = norm._forward_hooks or norm._forward_pre_hooks
        if type(norm) is not nn.LayerNorm or is_watched:
            return False
        return can_fuse_streams(rgb, itertools.chain((tir,), self.parameters()))

    def join(self, rgb: Tensor, tir: Tensor) -> Tensor:
        """Return the fused feature of enhanced streams (eq. 8).

        It works token by token, so any part of the streams may be given.
        """
        return self.join_pairs(torch.cat([rgb, tir], dim=-1))

    def join_pairs(self, pairs: Tensor) -> Tensor:
        """Return the fused feature of enhanced streams that lie side by side, ``(B, L, 2 C)``."""
        joined = self.fuse(pairs)
        return F.gelu(joined) if self.variant == "released" else torch.tanh(joined)

    def extra_repr(self) -> str:
        """Show the options; those of the Mamba stand beside it."""
        return f"dim={self.dim}, variant={self.variant!r}"


DFM = DifferenceFusionMamba
