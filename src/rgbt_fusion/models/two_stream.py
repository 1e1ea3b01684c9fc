"""The plain two-stream baseline: OSTrack's encoder on both modalities, no fusion on the way."""

from collections.abc import Sequence

from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.walk import Call, Walk

__all__ = ["TwoStream"]


class TwoStream(TrackingNetwork):
    r"""Track in two modalities that share one encoder and are added up behind it.

    This is the baseline with which every fusion is to be compared; both streams run as one batch.

    .. math::
        X = \mathrm{LN}(\mathrm{ViT}([z_{rgb};\ x_{rgb}]))
        + \mathrm{LN}(\mathrm{ViT}([z_{tir};\ x_{tir}]))

    Paper and code: with a keep ratio below 1 both streams drop the same candidates, by the larger
    of their two scores.

    Args:
        settings: sizes of encoder and head, keep ratio.
        reliability: block numbers after which both streams are read to estimate how far each
            modality is to be trusted; it weighs them before the sum. None, as published, weighs
            nothing.
        alignment: largest shift, in cells of the search grid, by which thermal search tokens are
            moved onto the colour ones. None, as published, moves nothing.

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised
        - returns :class:`ModelOutput`

    Raises:
        ShapeError: ``template`` or ``search`` does not have the shape above; their batches differ.
        ValueError: ``reliability`` names blocks that the encoder does not have; ``alignment`` is
            not from 1 to the cells of the search grid less 1; an image is on another device than
            the model.
        TypeError: ``alignment`` is not a whole number; an image has another dtype than the model.

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

    def __init__(
        self,
        settings: EncoderSettings | None = None,
        *,
        reliability: Sequence[int] | None = None,
        alignment: int | None = None,
    ) -> None:
        super().__init__(
            settings or EncoderSettings(), {}, reliability=reliability, alignment=alignment
        )

    def begin(self, call: Call) -> Walk:
        """Return a walk of both streams as one batch."""
        tokens, alignment = self.embed_aligned(call.template, call.search)
        return Walk(self.backbone, tokens, streams=2, alignment=alignment)
