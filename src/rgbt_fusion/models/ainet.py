"""AINet: DFM fuses the modalities after every encoder block, OFM fuses the fused features of all
blocks."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.layers.all_layer_self_attention import AllLayerSelfAttention
from rgbt_fusion.layers.cross_attention_fusion import CrossAttentionFusion
from rgbt_fusion.layers.difference_fusion_mamba import DifferenceFusionMamba
from rgbt_fusion.layers.order_dynamic_fusion_mamba import OrderDynamicFusionMamba
from rgbt_fusion.models.encoder import EncoderSettings, rescale_layers
from rgbt_fusion.models.interface import Encoding, LayerTokens, Template, TemplateTokens
from rgbt_fusion.models.network import TrackingNetwork, layer_tokens

__all__ = ["AINet", "fusion_blocks"]

FUSION_LAYERS = {1: (11,), 3: (0, 6, 11), 6: (0, 2, 4, 6, 8, 11), 12: tuple(range(12))}
"""The blocks of twelve after which AINet-1, -3, -6 and -12 fuse."""


class AINet(TrackingNetwork):
    r"""Track with the modalities fused after every block and the fused features of all blocks fused
    once more.

    Both modalities run through one encoder as one batch. After a block, DFM exchanges what one
    modality has and the other lacks, feeds the enhanced streams to the next block and puts a fused
    feature aside. At the end OFM scans the fused features of all layers in three orders; the head
    reads its result.

    .. math::
        (H^l_{rgb}, H^l_{tir}, F^l) = \mathrm{DFM}_l(\mathrm{Block}_l(H^{l-1}_{rgb}), \mathrm{Block}_l(H^{l-1}_{tir})),
        \qquad \text{box} = \mathrm{head}(\mathrm{OFM}(F^1, \dots, F^{12}))

    Where the paper is silent: it counts all tokens into the OFM (``ofm_tokens="all"``); the
    released code feeds ``tokens[:, 64:]`` at either size, which at 384 leaves 80 of 144 template
    tokens in (``"released"``). The default is the search tokens alone. The fused features are
    joined only for the tokens that the OFM reads. With a keep ratio below 1, which the paper does
    not have, both streams drop the same candidates and the OFM reads, of every layer, the tokens
    that survive to the end. Without DFM the fused feature is the sum of the streams; without OFM
    the head reads the last fused feature. The encoder's last norm is unread, as in the released
    code, and without gradient.

    Args:
        settings: sizes of encoder and head, keep ratio.
        fusion_layers: after which blocks to fuse: ascending numbers, the last block's among them,
            or 1, 3, 6, 12 for the paper's AINet-n; all by default.
        dfm: ``"mamba"``, ``"attention"`` (the transformer variant of Fig. 5), or None.
        ofm: the same.
        order_predictor: ``"pooled"``, ``"released"``, or None for the paper's two fixed scans.
        order_gradient: ``"straight_through"``, or ``"none"`` for a predictor that is never trained,
            as released.
        ofm_tokens: ``"search"``, ``"all"`` or ``"released"``.
        inner_width: inner width of both Mambas; the released widths (C for DFM, 2 C for OFM) by
            default.

    Shape:
        ``template`` and ``search``: an ``ImagePair`` of ``(B, 3, template_size, template_size)``
        and ``(B, 3, search_size, search_size)``, normalised; returns ``ModelOutput``.

    Raises:
        ShapeError: images of another size, a template of another batch.
        ValueError, TypeError: an unknown choice, fusion layers that the encoder does not have;
            images of another dtype.

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
        dfm: str | None = "mamba",
        ofm: str | None = "mamba",
        order_predictor: str | None = "pooled",
        order_gradient: str = "straight_through",
        ofm_tokens: str = "search",
        inner_width: int | None = None,
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
        super().__init__(settings, options)
        check_choice(dfm, ("mamba", "attention", None), name="dfm")
        check_choice(ofm, ("mamba", "attention", None), name="ofm")
        check_choice(ofm_tokens, ("search", "all", "released"), name="ofm_tokens")
        self.fusion_layers = blocks
        # how many tokens of the template the OFM does not read
        templates = {"search": self.backbone.template_length, "all": 0, "released": 64}
        self.skipped = min(templates[ofm_tokens], self.backbone.template_length)
        self.dfm = self._make_dfm(dfm, inner_width)
        self.ofm = self._make_ofm(ofm, inner_width, order_predictor, order_gradient)
        if self.dfm is not None and self.ofm is None:
            for layer in list(self.dfm)[:-1]:
                # no one reads what they join
                layer.get_submodule("fuse").requires_grad_(False)
        neither = dfm is None and ofm is None
        self.summed_streams = 2 if neither else 1
        self.backbone.norm.requires_grad_(neither)

    def _make_dfm(self, kind: str | None, inner_width: int | None) -> nn.ModuleList | None:
        dim, heads = self.settings.dim, self.settings.num_heads
        if kind is None:
            return None
        if kind == "attention":
            attention = self.settings.attention
            return nn.ModuleList(
                CrossAttentionFusion(dim, heads, attention=attention) for _ in self.fusion_layers
            )
        expand = (
            1.0
            if inner_width is None
            else check_positive_int(inner_width, name="inner_width") / dim
        )
        return nn.ModuleList(DifferenceFusionMamba(dim, expand=expand) for _ in self.fusion_layers)

    def _make_ofm(
        self,
        kind: str | None,
        inner_width: int | None,
        order_predictor: str | None,
        order_gradient: str,
    ) -> nn.Module | None:
        dim, heads = self.settings.dim, self.settings.num_heads
        if kind is None:
            return None
        if kind == "attention":
            return AllLayerSelfAttention(dim, heads, attention=self.settings.attention)
        ofm = OrderDynamicFusionMamba(
            dim,
            num_layers=len(self.fusion_layers),
            expand=2.0 if inner_width is None else inner_width / dim,
            order_predictor=order_predictor,
            order_gradient=order_gradient,
        )
        if ofm.order_predictor is not None and order_gradient == "none":
            ofm.order_predictor.requires_grad_(False)
        return ofm

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into tokens once; see :class:`TrackerModel`."""
        return self._embed_template_pair(template)

    def _encode(
        self,
        template: Template,
        search: ImagePair,
        state: Any,
        layers: Sequence[int],
        keep_ratio: float | None,
        *,
        drawing: bool,
    ) -> Encoding:
        tokens = self._embed_two_streams(template, search)
        indices = self.backbone.all_indices(search.rgb)
        kept: list[LayerTokens] = []
        fused: list[tuple[Tensor, Tensor]] = []
        for number in range(self.settings.depth):
            tokens, indices = self.backbone.block(
                number, tokens, indices, streams=2, keep_ratio=keep_ratio
            )
            if number in self.fusion_layers:
                tokens, feature = self._fuse(self.fusion_layers.index(number), tokens)
                if feature is not None:
                    fused.append((feature, indices))
            if number in layers:
                kept.append(layer_tokens(tokens, indices, streams=2))
        features = [self.backbone.survivors(feature, places, indices) for feature, places in fused]
        order = None
        if drawing and isinstance(self.ofm, OrderDynamicFusionMamba):
            order = self.ofm.layer_order(features)
        found = features[-1] if self.ofm is None else self.ofm(features)
        found = found[:, found.shape[1] - indices.shape[1] :]
        return Encoding(
            self.backbone.restore(found, indices), tuple(kept), indices, None, order, state
        )

    def _fuse(self, position: int, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the enhanced streams as one batch, and the fused feature of the tokens that are
        read of this layer."""
        rgb, tir = tokens.chunk(2)
        read = self.ofm is not None or position == len(self.fusion_layers) - 1
        if self.dfm is None:
            return tokens, self._sum(rgb, tir)[:, self.skipped :] if read else None
        dfm = self.dfm[position]
        feature = None
        if isinstance(dfm, DifferenceFusionMamba):
            rgb, tir = dfm.enhance(rgb, tir)
            if read:
                feature = dfm.join(rgb[:, self.skipped :], tir[:, self.skipped :])
        else:
            rgb, tir, joined = cast(CrossAttentionFusion, dfm)(rgb, tir)
            feature = joined[:, self.skipped :] if read else None
        return torch.cat((rgb, tir)), feature

    def _sum(self, rgb: Tensor, tir: Tensor) -> Tensor:
        if self.ofm is None:
            # nothing would normalise it: this is the two-stream baseline
            return self.backbone.norm(rgb) + self.backbone.norm(tir)
        return rgb + tir


def fusion_blocks(fusion_layers: Sequence[int] | int | None, depth: int) -> tuple[int, ...]:
    """Return the blocks after which to fuse; 1, 3, 6 and 12 are the paper's variants, at the same
    relative depths.

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
    # what the last blocks find would never reach the head without a fusion behind them
    if (
        not blocks
        or list(blocks) != sorted(set(blocks))
        or blocks[0] < 0
        or blocks[-1] != depth - 1
    ):
        raise ValueError(
            f"fusion_layers must be ascending block numbers, the last {depth - 1}, got {fusion_layers!r}"
        )
    return blocks
