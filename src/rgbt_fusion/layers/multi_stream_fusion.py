"""MultiStreamFusion: MAF for any number of maps, some of them absent."""

from typing import get_args

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.layers.modality_aware_fusion import MAFPooling
from rgbt_fusion.layers.streams import check_many_streams, check_presence
from rgbt_fusion.typed_module import TypedModule

__all__ = ["MultiStreamFusion"]


class MultiStreamFusion(TypedModule):
    r"""Blend N maps by N weights that they decide together and that sum to one.

    Equations 7-9 of :class:`~rgbt_fusion.MAF` are a softmax over two weights. Here the softmax is
    over the weights of the streams that are present. With two streams the layer is MAF, and a
    state_dict of either loads into the other.

    .. math::
        \alpha = \mathrm{softmax}_{i:\, m_i = 1}(W_2\, \mathrm{ReLU}(W_1
            [\mathrm{GAP}(F_1), \dots, \mathrm{GAP}(F_N)])), \qquad
        F_{fused} = \sum_{i=1}^{N} \alpha_i F_i

    Paper and code: the paper has two maps. A stream that is absent (:math:`m_i = 0`) counts as zero
    in the pooled vector and has the weight zero; what its map holds is not read. A sample without
    any stream gives zeros.

    Args:
        dim: channels of every map.
        num_streams: the number of maps N.
        pooling: ``"global"`` (the paper: one set of weights per sample) or ``"spatial"`` (one per
            position).
        reduction: the perceptron has ``dim // reduction`` hidden channels, at least one.

    Shape:
        - streams: ``(B, N, C, H, W)`` with C = ``dim`` and N = ``num_streams``, floating point, in
          the dtype of the parameters
        - present: bool ``(B, N)``, which streams each sample has; ``None`` means all
        - returns the fused map ``(B, C, H, W)``

    Raises:
        ShapeError: ``streams`` does not have the shape above or is empty, or ``present`` does not
            fit it.
        TypeError: ``streams`` is not a tensor of the parameters' dtype, or ``present`` is not
            boolean.
        ValueError: ``pooling`` is unknown, or ``present`` lies on another device than ``streams``.

    Example:
        >>> import torch
        >>> from rgbt_fusion import MultiStreamFusion
        >>> blend = MultiStreamFusion(8, num_streams=3)
        >>> streams = torch.randn(1, 3, 8, 16, 16)
        >>> only_the_second = torch.tensor([[False, True, False]])
        >>> torch.equal(blend(streams, only_the_second), streams[:, 1])
        True

    Source:
        Li et al., "Three-stage progressive modality reweighting and interaction framework for
        robust RGB-T tracking", Knowledge-Based Systems 339, 2026, eq. 7-9, for two maps.
    """

    def __init__(
        self,
        dim: int = 8,
        num_streams: int = 2,
        *,
        pooling: MAFPooling = "global",
        reduction: int = 4,
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.num_streams = check_positive_int(num_streams, name="num_streams")
        check_choice(pooling, get_args(MAFPooling), name="pooling")
        self.pooling: MAFPooling = pooling
        self.reduction = check_positive_int(reduction, name="reduction")
        hidden = max(1, dim // reduction)
        self.fc1 = nn.Linear(num_streams * dim, hidden)
        self.fc2 = nn.Linear(hidden, num_streams)

    def forward(self, streams: Tensor, present: Tensor | None = None) -> Tensor:
        """Blend N maps ``(B, N, C, H, W)`` into one ``(B, C, H, W)``."""
        check_many_streams(
            streams, "B N C H W", parameter=self.fc1.weight, C=self.dim, N=self.num_streams
        )
        mask = check_presence(present, streams)[:, :, None, None]
        streams = streams.where(mask[..., None], 0)
        seen = streams
        if self.pooling == "global":
            seen = streams.mean((-2, -1), keepdim=True)
        hidden = self.fc1(seen.flatten(1, 2).movedim(1, -1)).relu()
        logits = self.fc2(hidden).movedim(-1, 1)
        lowest = torch.finfo(logits.dtype).min
        weights = logits.where(mask, lowest).softmax(1)
        return (weights[:, :, None].to(streams.dtype) * streams).sum(1)

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f"dim={self.dim}, num_streams={self.num_streams}, pooling={self.pooling!r}, "
            f"reduction={self.reduction}"
        )
