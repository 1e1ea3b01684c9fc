"""The tracker of the notes: TIR compensates RGB before one stream tracks."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_finite_number
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.layers.cross_modal_compensation import CrossModalCompensation
from rgbt_fusion.layers.elimination_block import EliminationBlock
from rgbt_fusion.layers.gated_cross_modal_compensation import GatedCrossModalCompensation
from rgbt_fusion.layers.token_selection import select_tokens
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.interface import Encoding, LayerTokens, Template, TemplateTokens
from rgbt_fusion.models.network import TrackingNetwork, check_template_batch, layer_tokens

__all__ = ["CompensationTracker"]


class CompensationTracker(TrackingNetwork):
    r"""Track in one stream of RGB tokens that TIR has compensated.

    Both modalities pass one patch embedding. A chain of stages follows, each cross-modal
    compensation (``"cmc"`` or the gated ``"cmc1"``) or an encoder block that eliminates candidates
    (``"ce"``); then the encoder runs on RGB alone.

    .. math::
        H^0 = [\mathrm{CMC}(z_{rgb}, z_{tir});\ \mathrm{CMC}(x_{rgb}, x_{tir})], \qquad
        X = \mathrm{LN}(\mathrm{ViT}(H^0))_{\text{search}}

    Where the paper is silent: a stage compensates the template and the search tokens one after the
    other with the same weights, positions included; after ``"ce"`` TIR keeps the same places as
    RGB. Chains of the notes' table: ``cmc`` (theirs), ``cmc1``, ``cmc cmc``, ``cmc1 cmc``, ``cmc ce
    cmc``, ``cmc1 ce cmc``; the empty chain and ``ce`` alone are their single-modality tracker
    without and with elimination.

    Args:
        settings: sizes of encoder and head, keep ratio inside the encoder.
        chain: the stages in order.
        chain_keep_ratio: share of the search tokens that a ``"ce"`` stage keeps.

    Shape:
        ``template`` and ``search``: an ``ImagePair`` of ``(B, 3, template_size, template_size)``
        and ``(B, 3, search_size, search_size)``, normalised; returns ``ModelOutput``.

    Raises:
        ShapeError: images of another size, a template of another batch.
        ValueError, TypeError: an unknown stage; a ratio that is not in (0, 1].

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
        chain: Sequence[str] = ("cmc",),
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
        self.stages = nn.ModuleList(self._make_stage(stage) for stage in chain)

    def _make_stage(self, stage: str) -> nn.Module:
        dim, heads = self.settings.dim, self.settings.num_heads
        if stage == "ce":
            keep_ratio = self.options["chain_keep_ratio"]
            return EliminationBlock(
                dim, heads, keep_ratio=keep_ratio, attention=self.settings.attention
            )
        if stage == "cmc1":
            return GatedCrossModalCompensation(
                dim, heads, max_len=max(500, self.backbone.search_length)
            )
        return CrossModalCompensation(dim, heads)

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into tokens once, compensated as far as the first ``"ce"``; see
        :class:`TrackerModel`."""
        rgb, tir = cast(tuple[Tensor, Tensor], self._embed_template_pair(template))
        for stage in self._stages_before_elimination():
            rgb = stage(rgb, tir)
        return TemplateTokens(rgb, tir)

    def _stages_before_elimination(self) -> Sequence[nn.Module]:
        chain = self.options["chain"]
        return list(self.stages)[: chain.index("ce") if "ce" in chain else len(chain)]

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
        self._check_search(search)
        template = self._template_tokens(template)
        check_template_batch(template, len(search.rgb))
        tokens, indices = self._compensate(
            template, *self.backbone.embed_search(torch.cat(search)).chunk(2)
        )
        kept: list[LayerTokens] = []
        for number in range(self.settings.depth):
            tokens, indices = self.backbone.block(number, tokens, indices, keep_ratio=keep_ratio)
            if number in layers:
                kept.append(layer_tokens(tokens, indices, streams=1))
        found = self.backbone.norm(tokens[:, self.backbone.template_length :])
        return Encoding(
            self.backbone.restore(found, indices), tuple(kept), indices, None, None, state
        )

    def _compensate(
        self, template: TemplateTokens, rgb: Tensor, tir: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the chain; return the stream's tokens ``(B, T + K, C)`` and their places ``(B,
        K)``."""
        z_rgb, z_tir = template.rgb, cast(Tensor, template.tir)
        indices, length = self.backbone.all_indices(rgb), z_rgb.shape[1]
        embedded = len(self._stages_before_elimination())
        for position, stage in enumerate(self.stages):
            if isinstance(stage, EliminationBlock):
                left = stage(
                    torch.cat((z_rgb, rgb), dim=1), length, indices, self.backbone.template_mask
                )
                z_rgb, rgb, indices = left.tokens[:, :length], left.tokens[:, length:], left.indices
                tir = select_tokens(tir, left.positions)
                continue
            rgb = stage(rgb, tir)
            if position >= embedded:
                z_rgb = stage(z_rgb, z_tir)
        return torch.cat((z_rgb, rgb), dim=1), indices
