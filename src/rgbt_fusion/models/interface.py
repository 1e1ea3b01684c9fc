"""What goes into a tracking model and what comes out.

This is all that tracking, training and evaluation know of one.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

from torch import Tensor

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.shapes import check_same_device, check_same_dtype, check_same_shape, check_shape

__all__ = [
    "Encoding",
    "LayerTokens",
    "ModelOutput",
    "ModelState",
    "Template",
    "TemplateTokens",
    "TrackerModel",
    "check_image",
    "check_images",
]


class ModelState(Protocol):
    """What a model remembers from one frame to the next.

    A named tuple of tensors, or of such named tuples, can also be exported and batched.
    """

    def reset(self, mask: Tensor) -> "ModelState":
        """Return the state with some rows as before a first frame.

        ``mask`` is boolean, ``(B,)``, and true for these rows.
        """
        ...


class TemplateTokens(NamedTuple):
    """A template turned into tokens once, which a model takes in the place of its images.

    What the tokens hold is up to the model: a file of them belongs to the model that made them.
    """

    rgb: Tensor
    """``(B, T, C)``."""
    tir: Tensor | None
    """``(B, T, C)``; None in a model of one stream."""


Template: TypeAlias = ImagePair | TemplateTokens


class LayerTokens(NamedTuple):
    """The tokens after one encoder block, template in front."""

    rgb: Tensor
    """``(B, T + K, C)``."""
    tir: Tensor | None
    """``(B, T + K, C)``; None in a model of one stream."""
    indices: Tensor
    """``(B, K)``, int64: places of the K search tokens in the grid."""


class Encoding(NamedTuple):
    """What the encoder of a tracker found: for the head, for distillation and for drawing."""

    features: Tensor
    """``(B, S, C)``: the search tokens that the head reads, zeros where candidates were
    eliminated."""
    layers: tuple[LayerTokens, ...]
    """The tokens of the layers that were asked for, in ascending order."""
    indices: Tensor
    """``(B, K)``: places of the search tokens that survived."""
    modality_weights: Tensor | None
    """``(B, 2)``: share of RGB and of TIR, where the model weighs them."""
    layer_order: Tensor | None
    """``(B, K)``: the layer visited at each step, where the model orders layers."""
    state: ModelState | None
    """What the model remembers for the next frame."""


class ModelOutput(NamedTuple):
    """What a tracker says of one search crop, on a grid of S x S cells; float32 at least.

    Sizes and places are fractions of the side of the crop.
    """

    score_map: Tensor
    """``(B, 1, S, S)`` in (0, 1)."""
    score_logits: Tensor
    """``(B, 1, S, S)``: the score before its sigmoid."""
    size_map: Tensor
    """``(B, 2, S, S)``: width and height."""
    offset_map: Tensor
    """``(B, 2, S, S)``: from the corner of the cell to the centre of the box, x and y in cells."""
    box_cxcywh_unit: Tensor
    """``(B, 4)``: the box at the maximum of the score."""
    state: ModelState | None
    """To be handed to the call of the next frame."""


class TrackerModel(Protocol):
    """What every tracking model offers."""

    @property
    def template_size(self) -> int:
        """Side of the template crop in pixels."""
        ...

    @property
    def search_size(self) -> int:
        """Side of the search crop in pixels."""
        ...

    @property
    def search_factor(self) -> float:
        """Side of the search crop over the square root of the area of the target."""
        ...

    def __call__(
        self, template: Template, search: ImagePair, state: ModelState | None = None
    ) -> ModelOutput:
        """Look for the target of the template in the search crop; no state starts a sequence."""
        ...

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into tokens once; the model then takes them frame after frame."""
        ...

    def encode(
        self,
        template: Template,
        search: ImagePair,
        state: ModelState | None = None,
        layers: Sequence[int] = (),
    ) -> Encoding:
        """Return what the head reads, and the tokens after the blocks ``layers``, from 0."""
        ...

    def decode(self, output: ModelOutput, window: Tensor | None = None) -> Tensor:
        """Return the box ``(B, 4)`` at the maximum of ``score_map * window``, window ``(S, S)``."""
        ...


def check_image(image: Tensor, size: int, *, name: str, like: Tensor) -> None:
    """Check that an image is ``(B, 3, size, size)`` and fits ``like``, a parameter of the model.

    Raises:
        ShapeError: ``image`` has another shape.
        TypeError: ``image`` is not a tensor of the dtype of ``like``.
        ValueError: ``image`` is not on the device of ``like``.
    """
    check_shape(image, "B 3 H W", H=size, W=size, name=name)
    check_same_device(image, like, name=name, like_name="the model's parameters")
    check_same_dtype(image, like, name=name, like_name="the model's parameters")


def check_images(images: ImagePair, size: int, *, name: str, like: Tensor) -> None:
    """Check both images of a pair as :func:`check_image` does, and that they have one shape."""
    check_image(images.rgb, size, name=f"{name}.rgb", like=like)
    check_same_shape(images.tir, images.rgb, name=f"{name}.tir", like_name=f"{name}.rgb")
    check_image(images.tir, size, name=f"{name}.tir", like=like)
