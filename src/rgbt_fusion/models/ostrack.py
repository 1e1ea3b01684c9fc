"""OSTrack: one stream, one modality; the tracker that all the others here start from and are
compared with."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from rgbt_fusion.checks import check_choice
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.interface import Encoding, LayerTokens, Template, TemplateTokens
from rgbt_fusion.models.network import TrackingNetwork, join_template, layer_tokens
from rgbt_fusion.shapes import check_same_device, check_same_dtype, check_shape

__all__ = ["OSTrack"]


class OSTrack(TrackingNetwork):
    r"""Track in one modality: template and search tokens in one ViT, a centre head on the search
    tokens.

    .. math::
        X = \mathrm{LN}(\mathrm{ViT}([z;\ x]))_{\text{search}}, \qquad \text{box} = \mathrm{head}(X)

    Where the paper is silent: the template token whose attention decides which candidates stay is
    the middle one; places of eliminated tokens are zeros in front of the head. The other image of a
    pair is not looked at.

    Args:
        settings: sizes of encoder and head, keep ratio.
        modality: which image is tracked in, ``"rgb"`` or ``"tir"``.

    Shape:
        ``template`` and ``search``: an ``ImagePair`` of ``(B, 3, template_size, template_size)``
        and ``(B, 3, search_size, search_size)``, normalised; returns ``ModelOutput``.

    Raises:
        ShapeError: images of another size, a template of another batch.
        ValueError, TypeError: an unknown ``modality``; images of another dtype or on another
            device.

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

    def __init__(self, settings: EncoderSettings | None = None, *, modality: str = "rgb") -> None:
        super().__init__(settings or EncoderSettings(keep_ratio=0.7), {"modality": modality})
        check_choice(modality, ("rgb", "tir"), name="modality")
        self.modality = modality

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template of the tracked modality into tokens once; see :class:`TrackerModel`."""
        image = self._image(template, self.template_size, "template")
        return TemplateTokens(self.backbone.embed_template(image), None)

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
        searched = self.backbone.embed_search(self._image(search, self.search_size, "search"))
        tokens = join_template(self._template_tokens(template), searched)
        indices = self.backbone.all_indices(tokens)
        kept: list[LayerTokens] = []
        for number in range(self.settings.depth):
            tokens, indices = self.backbone.block(number, tokens, indices, keep_ratio=keep_ratio)
            if number in layers:
                kept.append(layer_tokens(tokens, indices, streams=1))
        found = self.backbone.norm(tokens[:, self.backbone.template_length :])
        return Encoding(
            self.backbone.restore(found, indices), tuple(kept), indices, None, None, state
        )

    def _image(self, images: ImagePair, size: int, name: str) -> Tensor:
        image, like = getattr(images, self.modality), self.backbone.pos_embed_x
        check_shape(image, "B 3 H W", H=size, W=size, name=f"{name}.{self.modality}")
        check_same_device(
            image, like, name=f"{name}.{self.modality}", like_name="the model's parameters"
        )
        check_same_dtype(
            image, like, name=f"{name}.{self.modality}", like_name="the model's parameters"
        )
        return image
