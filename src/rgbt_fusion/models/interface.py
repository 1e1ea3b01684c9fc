"""What goes into a tracking model and what comes out.

This is all that tracking, training, evaluation and export know of one. What a network does not
offer has its default in the functions below.
"""

import json
from inspect import signature
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import NetworkError
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.layers.alignment_layer import AlignmentEstimate
from rgbt_fusion.models.head import clamped_sigmoid, decode_box
from rgbt_fusion.shapes import check_same_device, check_same_dtype, check_same_shape, check_shape

__all__ = [
    "Encoding",
    "LayerTokens",
    "ModelOutput",
    "ModelState",
    "Template",
    "TemplateTokens",
    "TrackerModel",
    "ask",
    "check_image",
    "check_images",
    "check_model",
    "check_output",
    "configuration_of",
    "decode",
    "embed_template",
    "parameter_like",
    "unwrapped",
]

REQUIRED = ("template_size", "search_size", "search_factor")
"""The numbers that every network must have."""


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
    reliability: Tensor | None = None
    """``(B, S, 2)`` in (0, 1): how far RGB and TIR are trusted at each place, zeros where
    candidates were eliminated; None in a model that does not estimate it."""
    alignment: AlignmentEstimate | None = None
    """How far the thermal search crop is off, in cells of the grid, and how sure that is; None in a
    model that does not estimate it."""


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

    @classmethod
    def from_maps(
        cls,
        score_logits: Tensor,
        size_map: Tensor,
        offset_map: Tensor,
        state: ModelState | None = None,
    ) -> "ModelOutput":
        """Return the output of three maps, with the box at the maximum of the score.

        Maps in half precision become float32, because a box needs more digits.

        Args:
            score_logits: ``(B, 1, S, S)``, the score before its sigmoid.
            size_map: ``(B, 2, S, S)``, width and height as fractions of the crop.
            offset_map: ``(B, 2, S, S)``, from the corner of the cell to the centre of the box.
            state: what the network remembers for the next frame.

        Raises:
            ShapeError: a map does not have the shape above.
        """
        sizes = check_shape(score_logits, "B 1 S S", name="score_logits")
        check_shape(size_map, "B 2 S S", name="size_map", **sizes)
        check_shape(offset_map, "B 2 S S", name="offset_map", **sizes)
        dtype = torch.promote_types(score_logits.dtype, torch.float32)
        score_logits = score_logits.to(dtype)
        size_map = size_map.to(dtype)
        offset_map = offset_map.to(dtype)
        score_map = clamped_sigmoid(score_logits)
        return cls(
            score_map=score_map,
            score_logits=score_logits,
            size_map=size_map,
            offset_map=offset_map,
            box_cxcywh_unit=decode_box(score_map, size_map, offset_map),
            state=state,
        )


_OUTPUT_AXES = {
    "score_map": "B 1 S S",
    "score_logits": "B 1 S S",
    "size_map": "B 2 S S",
    "offset_map": "B 2 S S",
    "box_cxcywh_unit": "B 4",
}


class TrackerModel(Protocol):
    """What a tracking network must offer: three numbers and one call.

    Any ``nn.Module`` that has them tracks, trains, is evaluated, saved, loaded and exported. Two
    methods and two attributes are optional, and each has a default:

    * ``embed_template(template)`` turns the template into tokens once per sequence. By default the
      network is given the images of the template at every frame.
    * ``decode(output, window)`` reads the box under a window. By default it is read from the maps
      at the maximum of ``score_map * window``.
    * ``configuration``, plain values under ``model``, ``settings`` and ``options``, stands in every
      file of the network. By default it is the name of the class and the three numbers.
    * ``tracking_settings``, a :class:`~rgbt_fusion.models.tracking_settings.TrackingSettings`, is
      what a tracker makes of the answers; files of the network store it, too. By default it is the
      way of OSTrack's paper.

    A network without a memory returns a ``state`` of None.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from rgbt_fusion import ImagePair, ModelOutput, Tracker
        >>> class AlwaysInTheMiddle(nn.Module):
        ...     template_size, search_size, search_factor = 64, 128, 4.0
        ...     def forward(self, template, search, state=None):
        ...         maps = search.rgb.new_zeros(len(search.rgb), 5, 8, 8)
        ...         return ModelOutput.from_maps(maps[:, :1], maps[:, 1:3], maps[:, 3:])
        >>> tracker = Tracker(AlwaysInTheMiddle())
    """

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

    def __call__(self, template: Any, search: ImagePair, state: Any = None) -> ModelOutput:
        """Look for the target of the template in the search crop; no state starts a sequence.

        ``template`` is an ``ImagePair``, or what the network's own ``embed_template`` returned.
        """
        ...


def check_model(model: object, *, name: str = "model") -> None:
    """Check that a network offers what :class:`TrackerModel` says.

    Raises:
        NetworkError: ``model`` is a text, lacks a number or the call, cannot be called with a
            template, a search crop and a state, or has a ``configuration`` that is not written in
            plain values; the message names what is missing. It is a ``TypeError``.
        ValueError: a number of ``model`` is not above 0, or a side is not whole.
    """
    if isinstance(model, str):
        raise NetworkError(
            f"{name} must be a tracking model, such as create_model({model!r}), got {model!r}"
        )
    lacking = [number for number in REQUIRED if not hasattr(model, number)]
    if not callable(model):
        lacking.append("forward(template, search, state)")
    if lacking:
        raise NetworkError(
            f"{name} must be a tracking model, got {type(model).__name__} without "
            f"{', '.join(lacking)}; see TrackerModel, or wrap a network of the OSTrack family in "
            "OSTrackFamily"
        )
    for number in REQUIRED:
        value = getattr(model, number)
        is_side = number != "search_factor"
        kind = int if is_side else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or value <= 0:
            rule = "whole number of pixels" if is_side else "number"
            raise ValueError(f"{name}.{number} must be a {rule} above 0, got {value!r}")
    _check_call(model, name)
    _check_configuration(model, name)


def _check_call(model: Any, name: str) -> None:
    """Check that a network can be called with a template, a search crop and a state."""
    try:
        parameters = signature(model.forward if isinstance(model, nn.Module) else model)
    except ValueError:
        # compiled code does not say what it takes
        return
    try:
        parameters.bind("template", "search", "state")
    except TypeError as error:
        raise NetworkError(
            f"{name} must be called as {type(model).__name__}(template, search, state), but its "
            f"arguments are {parameters}: {error}"
        ) from None


def _check_configuration(model: object, name: str) -> None:
    """Check that what files say of a network can be written into them."""
    own = getattr(model, "configuration", None)
    if not isinstance(own, dict):
        return
    lacking = [key for key in ("model", "settings", "options") if key not in own]
    try:
        json.dumps(own)
    except (TypeError, ValueError) as error:
        problem = str(error)
    else:
        problem = f"it lacks {', '.join(lacking)}" if lacking else ""
    if problem:
        raise NetworkError(
            f"{name}.configuration of {type(model).__name__} must hold plain values under model, "
            f"settings and options: {problem}"
        )


def embed_template(model: TrackerModel, template: ImagePair) -> Any:
    """Return what a network is given as template in every frame: its tokens, or the images."""
    own = getattr(model, "embed_template", None)
    return template if own is None else own(template)


def ask(model: TrackerModel, template: Any, search: ImagePair, state: Any = None) -> ModelOutput:
    """Call a network, and check what it returns.

    Raises:
        NetworkError: the network does not return a :class:`ModelOutput` of tensors.
        ShapeError: a part of what it returns has another shape than :class:`ModelOutput` says.
    """
    return check_output(model, model(template, search, state), batch=len(search.rgb))


def check_output(model: object, output: object, *, batch: int) -> ModelOutput:
    """Return the answer of a network if it is a :class:`ModelOutput` for a batch of crops.

    Raises:
        NetworkError: ``output``, or a part of it, is something else.
        ShapeError: a part of ``output`` has another shape than :class:`ModelOutput` says.
    """
    network = type(model).__name__
    if not isinstance(output, ModelOutput):
        raise NetworkError(
            f"{network} must return a ModelOutput, got {type(output).__name__}; "
            "ModelOutput.from_maps makes one of three maps, and OSTrackFamily takes a dictionary"
        )
    sizes = {"B": batch}
    for part, axes in _OUTPUT_AXES.items():
        tensor = getattr(output, part)
        if not isinstance(tensor, Tensor):
            raise NetworkError(
                f"{part} of {network}'s output must be a tensor, got {type(tensor).__name__}"
            )
        sizes = check_shape(tensor, axes, name=f"{part} of {network}'s output", **sizes)
    return output


def decode(model: TrackerModel, output: ModelOutput, window: Tensor) -> Tensor:
    """Return the box ``(B, 4)`` at the maximum of ``score_map * window``, window ``(S, S)``."""
    own = getattr(model, "decode", None)
    if own is not None:
        box = own(output, window)
        name = f"what {type(model).__name__}.decode returns"
        check_shape(box, "B 4", B=len(output.score_map), name=name)
        return box
    check_shape(window, "S S", S=output.score_map.shape[-1], name="window")
    return decode_box(output.score_map * window, output.size_map, output.offset_map)


def configuration_of(model: nn.Module) -> dict[str, Any]:
    """Return what a file says about a model: class, settings and options, as plain values.

    A network without a ``configuration`` of its own is described by the name of its class and the
    numbers that every tracking network has.

    Raises:
        NetworkError: ``configuration`` is a dictionary that cannot be written into a file so.
    """
    _check_configuration(model, "model")
    own = getattr(model, "configuration", None)
    if isinstance(own, dict):
        return own
    settings = {name: getattr(model, name) for name in REQUIRED if hasattr(model, name)}
    return {"model": type(model).__name__, "settings": settings, "options": {}}


def parameter_like(model: object) -> Tensor:
    """Return a floating-point tensor with the device and dtype that a network's images must have.

    It is the first parameter; a network without any takes float32 on the CPU.
    """
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                return parameter
    return torch.zeros(1)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network itself where ``torch.compile`` has wrapped it."""
    own = getattr(model, "_orig_mod", model)
    return own if isinstance(own, nn.Module) else model


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
