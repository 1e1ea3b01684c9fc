"""AINet: DFM fuses the modalities after every block, OFM fuses the fused features of all blocks."""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.layers.alignment_layer import AlignmentEstimate
from rgbt_fusion.layers.all_layer_self_attention import AllLayerSelfAttention
from rgbt_fusion.layers.cross_attention_fusion import CrossAttentionFusion
from rgbt_fusion.layers.difference_fusion_mamba import DifferenceFusionMamba
from rgbt_fusion.layers.order_dynamic_fusion_mamba import (
    OrderDynamicFusionMamba,
    OrderGradientKind,
    OrderPredictorKind,
)
from rgbt_fusion.models.encoder import EncoderSettings, rescale_layers
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.walk import Call, Walk

__all__ = ["AINet", "fusion_blocks"]

FusionKind = Literal["mamba", "attention"]
OFMTokens = Literal["search", "all", "released"]

FUSION_LAYERS = {1: (11,), 3: (0, 6, 11), 6: (0, 2, 4, 6, 8, 11), 12: tuple(range(12))}
"""The blocks of twelve after which AINet-1, -3, -6 and -12 fuse."""


class AINet(TrackingNetwork):
    r"""Track with both modalities fused after every block, and the blocks fused at the end.

    Both modalities run through one encoder as one batch. After a block, DFM exchanges what one
    modality has and the other lacks, feeds the enhanced streams to the next block and puts a fused
    feature aside. At the end OFM scans the fused features of all layers in three orders; the head
    reads its result.

    .. math::
        (H^l_{rgb}, H^l_{tir}, F^l) = \mathrm{DFM}_l(\mathrm{Block}_l(H^{l-1}_{rgb}),
        \mathrm{Block}_l(H^{l-1}_{tir})), \qquad
        \text{box} = \mathrm{head}(\mathrm{OFM}(F^1, \dots, F^{12}))

    Paper and code: the paper counts all tokens into the OFM (``ofm_tokens="all"``); the released
    code feeds ``tokens[:, 64:]`` at either size, which at 384 leaves 80 of 144 template tokens in
    (``"released"``). The default is the search tokens alone. The fused features are joined only for
    the tokens that the OFM reads. With a keep ratio below 1, which the paper does not have, both
    streams drop the same candidates, and the OFM reads the tokens of every layer that survive to
    the end. Without DFM the fused feature is the sum of the streams; without OFM the head reads the
    last fused feature. The last norm of the encoder is unread, as in the released code, and without
    gradient.

    Args:
        settings: sizes of encoder and head, keep ratio.
        fusion_layers: after which blocks to fuse: ascending numbers that end with the last block,
            or 1, 3, 6, 12 for AINet-n of the paper; all by default.
        dfm: ``"mamba"``, ``"attention"`` (the transformer variant of Fig. 5), or None for none.
        ofm: ``"mamba"``, ``"attention"`` (the transformer variant of Fig. 5), or None for none.
        order_predictor: ``"pooled"``, ``"released"``, or None for the two fixed scans of the paper.
        order_gradient: ``"straight_through"``, or ``"none"`` for a predictor that is never trained,
            as released.
        ofm_tokens: ``"search"``, ``"all"`` or ``"released"``.
        inner_width: inner width of both Mambas; the released widths (C for DFM, 2 C for OFM) by
            default.
        reliability: block numbers after which both streams are read to estimate how far each
            modality is to be trusted; it weighs them before each fused feature is joined. None, as
            published, weighs nothing.
        alignment: largest shift, in cells of the search grid, by which thermal search tokens are
            moved onto the colour ones. None, as published, moves nothing.

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised
        - returns :class:`ModelOutput`

    Raises:
        ShapeError: ``template`` or ``search`` does not have the shape above; their batches differ.
        ValueError: an option is unknown; ``fusion_layers`` or ``reliability`` names blocks that the
            encoder does not have, or ``fusion_layers`` not the last one; ``alignment`` is not from
            1 to the cells of the search grid less 1; an image is on another device than the model.
        TypeError: ``inner_width`` or ``alignment`` is not a whole number; an image has another
            dtype than the model.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ImagePair, create_model
        >>> model = create_model("ainet_tiny_128").eval()
        >>> template, search = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 128, 128)
        >>> model(ImagePair(template, template), ImagePair(search, search)).box_cxcywh_unit.shape
        torch.Size([1, 4])

    Source:
        Lu et al., "RGBT Tracking via All-layer Multimodal Interactions with Progressive Fusion
        Mamba", AAAI 2025.
    """

    def __init__(
        self,
        settings: EncoderSettings | None = None,
        *,
        fusion_layers: Sequence[int] | int | None = None,
        dfm: FusionKind | None = "mamba",
        ofm: FusionKind | None = "mamba",
        order_predictor: OrderPredictorKind | None = "pooled",
        order_gradient: OrderGradientKind = "straight_through",
        ofm_tokens: OFMTokens = "search",
        inner_width: int | None = None,
        reliability: Sequence[int] | None = None,
        alignment: int | None = None,
    ) -> None:
        settings = settings or EncoderSettings()
        blocks = fusion_blocks(fusion_layers, settings.depth)
        options = {
            "fusion_layers": list(blocks),
            "dfm": dfm,
            "ofm": ofm,
            "order_predictor": order_predictor,
            "order_gradient": order_gradient,
            "ofm_tokens": ofm_tokens,
            "inner_width": inner_width,
        }
        super().__init__(settings, options, reliability=reliability, alignment=alignment)
        check_choice(dfm, ("mamba", "attention", None), name="dfm")
        check_choice(ofm, ("mamba", "attention", None), name="ofm")
        check_choice(ofm_tokens, ("search", "all", "released"), name="ofm_tokens")
        if inner_width is not None:
            check_positive_int(inner_width, name="inner_width")
        self.fusion_layers = blocks
        # how many tokens of the template the OFM does not read
        unread = {"search": self.backbone.template_length, "all": 0, "released": 64}
        self.skipped = min(unread[ofm_tokens], self.backbone.template_length)
        self.dfm = self._make_dfm(dfm, inner_width)
        self.ofm = self._make_ofm(ofm, inner_width, order_predictor, order_gradient)
        if self.dfm is not None and self.ofm is None:
            for layer in list(self.dfm)[:-1]:
                # no one reads what they join
                layer.get_submodule("fuse").requires_grad_(False)
        neither = dfm is None and ofm is None
        self.summed_streams = 2 if neither else 1
        self.backbone.norm.requires_grad_(neither)

    def _make_dfm(self, kind: FusionKind | None, inner_width: int | None) -> nn.ModuleList | None:
        if kind is None:
            return None
        return nn.ModuleList(self._make_one_dfm(kind, inner_width) for _ in self.fusion_layers)

    def _make_one_dfm(self, kind: FusionKind, inner_width: int | None) -> nn.Module:
        settings = self.settings
        if kind == "attention":
            return CrossAttentionFusion(
                settings.dim, settings.num_heads, attention=settings.attention
            )
        expand = 1.0 if inner_width is None else inner_width / settings.dim
        return DifferenceFusionMamba(settings.dim, expand=expand)

    def _make_ofm(
        self,
        kind: FusionKind | None,
        inner_width: int | None,
        order_predictor: OrderPredictorKind | None,
        order_gradient: OrderGradientKind,
    ) -> OrderDynamicFusionMamba | AllLayerSelfAttention | None:
        settings = self.settings
        if kind is None:
            return None
        if kind == "attention":
            return AllLayerSelfAttention(
                settings.dim, settings.num_heads, attention=settings.attention
            )
        ofm = OrderDynamicFusionMamba(
            settings.dim,
            num_layers=len(self.fusion_layers),
            expand=2.0 if inner_width is None else inner_width / settings.dim,
            order_predictor=order_predictor,
            order_gradient=order_gradient,
        )
        if ofm.order_predictor is not None and order_gradient == "none":
            ofm.order_predictor.requires_grad_(False)
        return ofm

    def begin(self, call: Call) -> Walk:
        """Return a walk of both streams as one batch, fused on the way."""
        tokens, alignment = self.embed_aligned(call.template, call.search)
        return _FusingWalk(self, tokens, alignment)


class _FusingWalk(Walk):
    """Fuse after the fusion layers, and put the fused features aside for the OFM."""

    def __init__(self, model: AINet, tokens: Tensor, alignment: AlignmentEstimate | None) -> None:
        super().__init__(model.backbone, tokens, streams=2, alignment=alignment)
        self.model = model
        self.fused: list[tuple[Tensor, Tensor]] = []
        """The fused features, and the places that each of them holds."""
        self.pairs: list[tuple[Tensor, Tensor]] = []
        """With an estimator, what is not joined yet: both streams side by side ``(B, L, 2 C)``, and
        the places that they hold."""

    def after_block(self, number: int) -> None:
        """Exchange what one stream has and the other lacks."""
        layers = self.model.fusion_layers
        if number not in layers:
            return
        is_read = self.model.ofm is not None or number == layers[-1]
        feature = self._fuse(layers.index(number), is_read=is_read)
        if feature is None:
            return
        features = self.fused if self.estimator is None else self.pairs
        features.append((feature, self.indices))

    def features(self) -> Tensor:
        """Return what OFM makes of the fused features of all layers."""
        features = self._fused_survivors()
        ofm = self.model.ofm
        if ofm is None:
            found = features[-1]
        elif isinstance(ofm, OrderDynamicFusionMamba):
            found = ofm(features, self.model.prepared.get(ofm.scans))
        else:
            found = ofm(features)
        # the template's part, where it was read at all, stands in front
        return found[:, found.shape[1] - self.indices.shape[1] :]

    def layer_order(self) -> Tensor | None:
        """Return the order in which OFM scans the layers."""
        ofm = self.model.ofm
        if not isinstance(ofm, OrderDynamicFusionMamba):
            return None
        return ofm.layer_order(self._fused_survivors())

    def _fuse(self, position: int, *, is_read: bool) -> Tensor | None:
        """Enhance the streams, and return their fused feature where someone reads it.

        With an estimator it is joined later, and both streams side by side are returned.
        """
        rgb, tir = self.two_streams()
        skipped = self.model.skipped
        joins = self.estimator is None
        if self.model.dfm is None:
            rgb, tir = self._summands(rgb, tir)
            joined = rgb + tir if joins else torch.cat((rgb, tir), dim=-1)
            return joined[:, skipped:] if is_read else None
        dfm = self.model.dfm[position]
        if isinstance(dfm, DifferenceFusionMamba):
            left_out = skipped if is_read else rgb.shape[1]
            exchanged = dfm.exchange(
                rgb, tir, skipped=left_out, scan=self.model.prepared.get(dfm.mamba)
            )
            self.tokens = exchanged.tokens
            if not is_read:
                return None
            return dfm.join_pairs(exchanged.joined) if joins else exchanged.joined
        rgb, tir, joined = dfm(rgb, tir)
        self.tokens = torch.cat((rgb, tir))
        if not joins:
            joined = torch.cat((rgb, tir), dim=-1)
        return joined[:, skipped:] if is_read else None

    def _join(self, position: int, pairs: Tensor) -> Tensor:
        """Return the fused feature of the streams side by side, ``(B, L, 2 C)``."""
        if self.model.dfm is None:
            rgb, tir = pairs.chunk(2, dim=-1)
            return rgb + tir
        dfm = cast("CrossAttentionFusion | DifferenceFusionMamba", self.model.dfm[position])
        return dfm.join_pairs(pairs)

    def _join_weighed(self) -> None:
        """Weigh the pairs by the estimate at the tokens that are left now, and join them."""
        positions = range(len(self.model.fusion_layers))[-len(self.pairs) :]
        for position, (pairs, places) in zip(positions, self.pairs, strict=True):
            left = self.encoder.survivors(pairs, places, self.indices)
            # the template's tokens in front are not weighed
            front = left.shape[1] - self.indices.shape[1]
            rgb, tir = left[:, front:].chunk(2, dim=-1)
            weighed = torch.cat(self.weigh(rgb, tir), dim=-1)
            joined = self._join(position, torch.cat((left[:, :front], weighed), dim=1))
            self.fused.append((joined, self.indices))
        self.pairs.clear()

    def _summands(self, rgb: Tensor, tir: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is added up without a DFM."""
        if self.model.ofm is None:
            # nothing would normalise it: this is the two-stream baseline
            return self.encoder.norm(rgb), self.encoder.norm(tir)
        return rgb, tir

    def _fused_survivors(self) -> list[Tensor]:
        """Return the fused features of the tokens that are left now."""
        if self.pairs:
            self._join_weighed()
        return [
            self.encoder.survivors(feature, places, self.indices) for feature, places in self.fused
        ]


def fusion_blocks(fusion_layers: Sequence[int] | int | None, depth: int) -> tuple[int, ...]:
    """Return the blocks after which AINet fuses, of an encoder of ``depth`` blocks.

    1, 3, 6 and 12 are the variants of the paper, at the same relative depths.

    Example:
        >>> from rgbt_fusion.models.ainet import fusion_blocks
        >>> fusion_blocks(3, 12), fusion_blocks(3, 4), fusion_blocks(None, 4)
        ((0, 6, 11), (0, 2, 3), (0, 1, 2, 3))
    """
    if fusion_layers is None:
        return tuple(range(depth))
    if isinstance(fusion_layers, int):
        check_choice(fusion_layers, FUSION_LAYERS, name="fusion_layers")
        return rescale_layers(FUSION_LAYERS[fusion_layers], depth, of=12)
    blocks = tuple(fusion_layers)
    is_ascending = list(blocks) == sorted(set(blocks))
    # what the last blocks find would never reach the head without a fusion behind them
    if not blocks or not is_ascending or blocks[0] < 0 or blocks[-1] != depth - 1:
        raise ValueError(
            f"fusion_layers must be ascending block numbers, the last {depth - 1}, "
            f"got {fusion_layers!r}"
        )
    return blocks
