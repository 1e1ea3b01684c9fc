"""OSTrack: one stream, one modality; what all the other trackers here start from."""

from typing import Literal

from torch import Tensor

from rgbt_fusion.checks import check_choice
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.interface import TemplateTokens, check_image
from rgbt_fusion.models.network import TrackingNetwork, join_template
from rgbt_fusion.models.walk import Call, Walk

__all__ = ["OSTrack"]


class OSTrack(TrackingNetwork):
    r"""Track in one modality: template and search tokens in one ViT, a centre head behind it.

    .. math::
        X = \mathrm{LN}(\mathrm{ViT}([z;\ x]))_{\text{search}}, \qquad \text{box} = \mathrm{head}(X)

    Paper and code: the template token whose attention decides which candidates stay is the middle
    one; places of eliminated tokens are zeros in front of the head. The other image of a pair is
    not looked at.

    Args:
        settings: sizes of encoder and head, keep ratio.
        modality: which image is tracked in, ``"rgb"`` or ``"tir"``.

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised
        - returns :class:`ModelOutput`

    Raises:
        ShapeError: ``template`` or ``search`` does not have the shape above; their batches differ.
        ValueError: ``modality`` is unknown; an image is on another device than the model.
        TypeError: an image has another dtype than the model.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ImagePair, create_model
        >>> model = create_model("ostrack_tiny_128").eval()
        >>> template, search = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 128, 128)
        >>> model(ImagePair(template, template), ImagePair(search, search)).box_cxcywh_unit.shape
        torch.Size([1, 4])

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022.
    """

    def __init__(
        self, settings: EncoderSettings | None = None, *, modality: Literal["rgb", "tir"] = "rgb"
    ) -> None:
        super().__init__(settings or EncoderSettings(keep_ratio=0.7), {"modality": modality})
        check_choice(modality, ("rgb", "tir"), name="modality")
        self.modality: Literal["rgb", "tir"] = modality

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template of the tracked modality into tokens once."""
        image = self._tracked_image(template, self.template_size, name="template")
        return TemplateTokens(self.backbone.embed_template(image), None)

    def begin(self, call: Call) -> Walk:
        """Return a walk of one stream."""
        image = self._tracked_image(call.search, self.search_size, name="search")
        tokens = join_template(call.template, self.backbone.embed_search(image))
        return Walk(self.backbone, tokens)

    def _tracked_image(self, images: ImagePair, size: int, *, name: str) -> Tensor:
        image = images.rgb if self.modality == "rgb" else images.tir
        check_image(image, size, name=f"{name}.{self.modality}", like=self.backbone.pos_embed_x)
        return image
