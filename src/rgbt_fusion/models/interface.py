"""What goes into a tracking model and what comes out: all that tracking, training and evaluation
know of one."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from torch import Tensor

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.shapes import check_same_device, check_same_dtype, check_same_shape, check_shape

__all__ = [
    "Encoding",
    "LayerTokens",
    "ModelOutput",
    "TemplateTokens",
    "TrackerModel",
    "check_images",
]


class TemplateTokens(NamedTuple):
    """A template turned into tokens once, ``(B, T, C)`` each, for a model to take in the place of
    its images.

    ``tir`` is None in a model of one stream. What they hold is the model's own affair: a file of
    tokens belongs to the model that made them.
    """

    rgb: Tensor
    tir: Tensor | None


class LayerTokens(NamedTuple):
    """The tokens after one encoder block: ``rgb`` and ``tir`` ``(B, T + K, C)``, template in front.

    ``tir`` is None in a model of one stream. ``indices`` ``(B, K)``, int64: places of the K search
    tokens in the grid.
    """

    rgb: Tensor
    tir: Tensor | None
    indices: Tensor


class Encoding(NamedTuple):
    """What the encoder of a tracker found: what the head reads, and what distillation and drawing
    need.

    ``features`` ``(B, S, C)``: the search tokens that the head reads, zeros where candidates were
    eliminated. ``layers``: the tokens of the layers that were asked for, in ascending order.
    ``indices`` ``(B, K)``: places of the search tokens that survived. ``modality_weights`` ``(B,
    2)``: share of RGB and of TIR, where the model weighs them. ``layer_order`` ``(B, K)``: the
    layer visited at each step, where the model orders layers. ``state``: what the model remembers
    for the next frame.
    """

    features: Tensor
    layers: tuple[LayerTokens, ...]
    indices: Tensor
    modality_weights: Tensor | None
    layer_order: Tensor | None
    state: Any


class ModelOutput(NamedTuple):
    """What a tracker says of one search crop, on a grid of S x S cells, in fractions of its side;
    float32 at least.

    ``score_map`` ``(B, 1, S, S)`` in (0, 1), and ``score_logits`` before its sigmoid; ``size_map``
    ``(B, 2, S, S)``: width and height; ``offset_map`` ``(B, 2, S, S)``: of the centre from the
    cell's corner, x and y in cells; ``box_cxcywh_unit`` ``(B, 4)``: the box at the score's maximum;
    ``state``: to be handed to the next frame's call.
    """

    score_map: Tensor
    score_logits: Tensor
    size_map: Tensor
    offset_map: Tensor
    box_cxcywh_unit: Tensor
    state: Any


Template: TypeAlias = ImagePair | TemplateTokens


class TrackerModel(Protocol):
    """What every tracking model offers.

    ``template_size`` and ``search_size`` are the sides of the crops in pixels, ``search_factor``
    the side of the search crop over the square root of the target's area.
    """

    @property
    def template_size(self) -> int: ...

    @property
    def search_size(self) -> int: ...

    @property
    def search_factor(self) -> float: ...

    def __call__(self, template: Template, search: ImagePair, state: Any = None) -> ModelOutput:
        """Look for the template's target in the search crop; ``state=None`` starts a sequence."""
        ...

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into tokens once; the model then takes them in its place, frame after
        frame."""
        ...

    def encode(
        self, template: Template, search: ImagePair, state: Any = None, layers: Sequence[int] = ()
    ) -> Encoding:
        """Return what the head reads and the tokens after the blocks named in ``layers``, counted
        from 0."""
        ...

    def decode(self, output: ModelOutput, window: Tensor | None = None) -> Tensor:
        """Return the box ``(B, 4)`` at the maximum of ``score_map * window``, with ``window`` ``(S,
        S)``."""
        ...


def check_images(images: ImagePair, size: int, *, name: str, like: Tensor) -> None:
    """Check that both images are ``(B, 3, size, size)`` of the dtype and on the device of ``like``,
    a parameter."""
    check_shape(images.rgb, "B 3 H W", H=size, W=size, name=f"{name}.rgb")
    check_same_shape(images.tir, images.rgb, name=f"{name}.tir", like_name=f"{name}.rgb")
    for field, image in images._asdict().items():
        check_same_device(image, like, name=f"{name}.{field}", like_name="the model's parameters")
        check_same_dtype(image, like, name=f"{name}.{field}", like_name="the model's parameters")
