"""The plain two-stream baseline: OSTrack's encoder on both modalities, features summed, no fusion
in between."""

from collections.abc import Sequence
from typing import Any

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.interface import Encoding, LayerTokens, Template, TemplateTokens
from rgbt_fusion.models.network import TrackingNetwork, layer_tokens

__all__ = ["TwoStream"]


class TwoStream(TrackingNetwork):
    r"""Track in two modalities that share one encoder and never meet before their features are
    added up.

    The baseline that every fusion is to be compared with; both streams run as one batch.

    .. math::
        X = \mathrm{LN}(\mathrm{ViT}([z_{rgb};\ x_{rgb}])) + \mathrm{LN}(\mathrm{ViT}([z_{tir};\ x_{tir}]))

    Where the paper is silent: with a keep ratio below 1 both streams drop the same candidates, by
    the larger of their two scores.

    Args:
        settings: sizes of encoder and head, keep ratio.

    Shape:
        ``template`` and ``search``: an ``ImagePair`` of ``(B, 3, template_size, template_size)``
        and ``(B, 3, search_size, search_size)``, normalised; returns ``ModelOutput``.

    Raises:
        ShapeError: images of another size, a template of another batch.
        ValueError, TypeError: images of another dtype or on another device.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ImagePair, create_model
        >>> model = create_model("two_stream_tiny_128").eval()
        >>> template, search = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 128, 128)
        >>> model(ImagePair(template, template), ImagePair(search, search)).score_map.shape
        torch.Size([1, 1, 8, 8])

    Source:
        The baseline of Lu et al. (AINet), AAAI 2025, section 4.3: OSTrack on both modalities.
    """

    summed_streams = 2

    def __init__(self, settings: EncoderSettings | None = None) -> None:
        super().__init__(settings or EncoderSettings(), {})

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
        for number in range(self.settings.depth):
            tokens, indices = self.backbone.block(
                number, tokens, indices, streams=2, keep_ratio=keep_ratio
            )
            if number in layers:
                kept.append(layer_tokens(tokens, indices, streams=2))
        rgb, tir = self.backbone.norm(tokens[:, self.backbone.template_length :]).chunk(2)
        return Encoding(
            self.backbone.restore(rgb + tir, indices), tuple(kept), indices, None, None, state
        )
