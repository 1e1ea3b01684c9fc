"""The tracker of the notes: TIR compensates RGB before one stream tracks."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_finite_number
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.layers.cross_modal_compensation import CrossModalCompensation
from rgbt_fusion.layers.elimination_block import EliminationBlock
from rgbt_fusion.layers.gated_cross_modal_compensation import GatedCrossModalCompensation
from rgbt_fusion.layers.token_selection import select_tokens
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.interface import TemplateTokens
from rgbt_fusion.models.network import TrackingNetwork, template_streams
from rgbt_fusion.models.walk import Call, Walk

__all__ = ["CompensationTracker"]

Stage = Literal["cmc", "cmc1", "ce"]


class CompensationTracker(TrackingNetwork):
    r"""Track in one stream of RGB tokens that TIR has compensated.

    Both modalities pass one patch embedding. A chain of stages follows, each cross-modal
    compensation (``"cmc"`` or the gated ``"cmc1"``) or an encoder block that eliminates candidates
    (``"ce"``); then the encoder runs on RGB alone.

    .. math::
        H^0 = [\mathrm{CMC}(z_{rgb}, z_{tir});\ \mathrm{CMC}(x_{rgb}, x_{tir})], \qquad
        X = \mathrm{LN}(\mathrm{ViT}(H^0))_{\text{search}}

    Paper and code: a stage compensates the template and the search tokens one after the other with
    the same weights, positions included; after ``"ce"`` TIR keeps the same places as RGB. The
    notes have a table of chains: ``cmc`` (their choice), ``cmc1``, ``cmc cmc``, ``cmc1 cmc``,
    ``cmc ce cmc``, ``cmc1 ce cmc``; the empty chain and ``ce`` alone are their tracker of one
    modality without and with elimination.

    Args:
        settings: sizes of encoder and head, keep ratio inside the encoder.
        chain: the stages in order.
        chain_keep_ratio: share of the search tokens that a ``"ce"`` stage keeps.

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised
        - returns :class:`ModelOutput`

    Raises:
        ShapeError: ``template`` or ``search`` does not have the shape above; their batches differ.
        ValueError: a stage of ``chain`` is unknown; ``chain_keep_ratio`` is not in (0, 1]; an image
            is on another device than the model.
        TypeError: ``chain`` is a text; an image has another dtype than the model.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ImagePair, create_model
        >>> model = create_model("compensation_tiny_128", chain=("cmc1", "ce", "cmc")).eval()
        >>> template, search = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 128, 128)
        >>> model(ImagePair(template, template), ImagePair(search, search)).box_cxcywh_unit.shape
        torch.Size([1, 4])

    Source:
        The notes on cross-modal compensation and token spatial filtering.
    """

    def __init__(
        self,
        settings: EncoderSettings | None = None,
        *,
        chain: Sequence[Stage] = ("cmc",),
        chain_keep_ratio: float = 0.7,
    ) -> None:
        if isinstance(chain, str):
            raise TypeError(
                f"chain must be a sequence of stages such as ('cmc', 'ce', 'cmc'), got {chain!r}"
            )
        options = {"chain": list(chain), "chain_keep_ratio": chain_keep_ratio}
        super().__init__(settings or EncoderSettings(), options)
        check_finite_number(chain_keep_ratio, name="chain_keep_ratio", low=1e-3, high=1.0)
        for stage in chain:
            check_choice(stage, ("cmc", "cmc1", "ce"), name="chain")
        self.stages = nn.ModuleList(self._make_stage(stage, chain_keep_ratio) for stage in chain)
        self.stages_before_elimination = chain.index("ce") if "ce" in chain else len(chain)

    def _make_stage(self, stage: Stage, keep_ratio: float) -> nn.Module:
        dim = self.settings.dim
        heads = self.settings.num_heads
        if stage == "ce":
            return EliminationBlock(
                dim, heads, keep_ratio=keep_ratio, attention=self.settings.attention
            )
        if stage == "cmc1":
            max_len = max(500, self.backbone.search_length)
            return GatedCrossModalCompensation(dim, heads, max_len=max_len)
        return CrossModalCompensation(dim, heads)

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into tokens once, compensated as far as the first ``"ce"``."""
        tokens = super().embed_template(template)
        rgb, tir = template_streams(tokens, len(template.rgb))
        for stage in self.stages[: self.stages_before_elimination]:
            rgb = stage(rgb, tir)
        return TemplateTokens(rgb, tir)

    def begin(self, call: Call) -> Walk:
        """Return a walk of the one stream that the chain has compensated."""
        self.check_search(call.search)
        template = template_streams(call.template, len(call.search.rgb))
        rgb, tir = self.backbone.embed_search(torch.cat(call.search)).chunk(2)
        tokens, indices = self._compensate(template, (rgb, tir))
        return Walk(self.backbone, tokens, indices=indices)

    def _compensate(
        self, template: tuple[Tensor, Tensor], search: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Run the chain; return the tokens ``(B, T + K, C)`` and their places ``(B, K)``."""
        template_rgb, template_tir = template
        rgb, tir = search
        indices = self.backbone.all_indices(rgb)
        length = template_rgb.shape[1]
        for position, stage in enumerate(self.stages):
            if isinstance(stage, EliminationBlock):
                stream = torch.cat((template_rgb, rgb), dim=1)
                left = stage(stream, length, indices, self.backbone.template_mask)
                template_rgb = left.tokens[:, :length]
                rgb = left.tokens[:, length:]
                tir = select_tokens(tir, left.positions)
                indices = left.indices
                continue
            rgb = stage(rgb, tir)
            # the stages before have compensated the template when it was embedded
            if position >= self.stages_before_elimination:
                template_rgb = stage(template_rgb, template_tir)
        return torch.cat((template_rgb, rgb), dim=1), indices
