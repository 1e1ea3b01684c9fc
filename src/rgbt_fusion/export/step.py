"""One step of a tracker with plain tensors in and out: what is exported, and what tests it."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import NetworkError, check_positive_int
from rgbt_fusion.frames.crop import crop_pair
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.interface import ask, check_model, decode, embed_template, parameter_like
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.tracking.tracker import TEMPLATE_FACTOR, hann_window

__all__ = [
    "FRAME_INPUTS",
    "IMAGE_INPUTS",
    "MAP_OUTPUTS",
    "RecordedStep",
    "TemplateStep",
    "TrackerStep",
    "named_tensors",
    "recorded_steps",
]

FRAME_INPUTS = ("search_rgb", "search_tir", "window")
"""What every exported step is given anew, in order. The template stands in front; the model's state
follows, if it has one."""

IMAGE_INPUTS = ("template_rgb", "template_tir", *FRAME_INPUTS)
"""The inputs of a step that is given the images of the template."""

MAP_OUTPUTS = ("score_map", "size_map", "offset_map", "box_cxcywh_unit")
"""The outputs of every exported step, in order; the next state follows."""


class TrackerStep(nn.Module):
    """One step of a model, from tensors to a dictionary of tensors.

    The model's memory comes in as tensors and goes out as tensors of the same order. A sequence
    starts with the tensors of ``initial_state``.

    Args:
        model: the tracking network, of this package or your own. Switch it to evaluation mode
            first.
        batch: how many targets a step looks for.
        embedded: take the template as the model's ``embed_template`` returns it, as the tensors
            that ``template_names`` names, which :class:`TemplateStep` makes once per sequence. A
            model without ``embed_template`` is given the images.

    Shape:
        - template_rgb, template_tir: ``(B, 3, T, T)`` with T = ``model.template_size``, normalised
        - search_rgb, search_tir: ``(B, 3, U, U)`` with U = ``model.search_size``, normalised
        - window: ``(S, S)``; the score is multiplied by it before its maximum is taken
        - state: the tensors that ``state_names`` names
        - returns ``score_map`` ``(B, 1, S, S)``, ``size_map`` and ``offset_map`` ``(B, 2, S, S)``,
          ``box_cxcywh_unit`` ``(B, 4)`` and the next state

    Raises:
        ShapeError: a tensor has another size.
        NetworkError: ``model`` lacks what a tracking network must offer, or its state cannot be
            reset.

    Example:
        >>> import torch
        >>> from rgbt_fusion import create_model
        >>> from rgbt_fusion.export.step import TrackerStep, recorded_steps
        >>> step = TrackerStep(create_model("tpmri_tiny_128").eval())
        >>> step.state_names
        ['layers_0_rgb_weight', 'layers_0_response_difference']
        >>> for recorded in recorded_steps(step, 1):
        ...     print(recorded.outputs["box_cxcywh_unit"].shape)
        torch.Size([1, 4])
    """

    def __init__(self, model: nn.Module, *, batch: int = 1, embedded: bool = False) -> None:
        super().__init__()
        check_model(model)
        self.model: Any = model
        self.batch = check_positive_int(batch, name="batch")
        images = self._blank(self.model.template_size)
        self._template: Any = images
        self.template_names = list(IMAGE_INPUTS[:2])
        if embedded:
            with torch.no_grad():
                tokens = embed_template(self.model, images)
            names = [name for name, _ in named_tensors(tokens, "template_tokens")]
            # something else than nested tuples of tensors cannot be an input
            if tokens is not images and names:
                self._template = tokens
                self.template_names = names
        self.grid, self._structure = self._grid_and_first_state()
        named = list(named_tensors(self._structure))
        self.state_names = [name for name, _ in named]
        self.initial_state = [tensor for _, tensor in named]

    def _grid_and_first_state(self) -> tuple[int, Any]:
        """Return the cells of the score map along a side, and the state before the first frame.

        That is the state after a frame, with all rows reset.
        """
        with torch.no_grad():
            out = ask(self.model, self._template, self._blank(self.model.search_size))
        grid = out.score_map.shape[-1]
        if out.state is None:
            return grid, None
        if not hasattr(out.state, "reset") or not list(named_tensors(out.state)):
            raise NetworkError(
                f"the state of {type(self.model).__name__}'s output must be a named tuple of "
                f"tensors with a method reset(mask), got {type(out.state).__name__}"
            )
        device = parameter_like(self.model).device
        every_row = torch.ones(self.batch, dtype=torch.bool, device=device)
        return grid, out.state.reset(every_row)

    def _blank(self, size: int) -> ImagePair:
        image = parameter_like(self.model).new_zeros(self.batch, 3, size, size)
        return ImagePair(image, image)

    @property
    def embedded(self) -> bool:
        """Whether the template comes as tokens."""
        return not isinstance(self._template, ImagePair)

    def template_inputs(self, template: ImagePair) -> list[Tensor]:
        """Return what the step is given of a template, in the order of ``template_names``."""
        given = embed_template(self.model, template) if self.embedded else template
        return [tensor for _, tensor in named_tensors(given)]

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs, in order."""
        return [*self.template_names, *FRAME_INPUTS, *self.state_names]

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs, in order."""
        return [*MAP_OUTPUTS, *(f"next_{name}" for name in self.state_names)]

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Look for the template's target in the search crop; return tensors by name.

        ``inputs`` are in the order of ``input_names``.
        """
        given = iter(inputs)
        template = _with_tensors(self._template, given)
        search = ImagePair(next(given), next(given))
        window = next(given)
        before = _with_tensors(self._structure, given)
        out = self.model(template, search, before)
        box = decode(self.model, out, window)
        after = [tensor for _, tensor in named_tensors(out.state)]
        found = (out.score_map, out.size_map, out.offset_map, box, *after)
        return dict(zip(self.output_names, found, strict=True))


class TemplateStep(nn.Module):
    """Turn a template into the tensors that a step takes, once per sequence.

    Args:
        step: the step, with ``embedded`` template.

    Shape:
        - template_rgb, template_tir: ``(B, 3, T, T)`` with T = ``model.template_size``, normalised
        - returns the tensors that ``step.template_names`` names
    """

    def __init__(self, step: TrackerStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, template_rgb: Tensor, template_tir: Tensor) -> dict[str, Tensor]:
        """Return the tensors by name."""
        values = self.step.template_inputs(ImagePair(template_rgb, template_tir))
        return dict(zip(self.step.template_names, values, strict=True))


class RecordedStep(NamedTuple):
    """The inputs of a step, and what PyTorch makes of them."""

    inputs: tuple[Tensor, ...]
    """In order."""
    outputs: dict[str, Tensor]
    """By name."""


def recorded_steps(step: TrackerStep, count: int, *, seed: int = 0) -> Iterator[RecordedStep]:
    """Run a step on the first frames of synthetic sequences, handing the state from frame to frame.

    Args:
        step: the step to run.
        count: how many frames.
        seed: number of the first target's sequence; the other targets have the following ones.
    """
    model = step.model
    like = parameter_like(model)
    sequences = [
        SyntheticSequence(seed + row, frames=count + 1, challenge="none")
        for row in range(step.batch)
    ]
    crops = _crops(sequences, 0, 0, factor=TEMPLATE_FACTOR, size=model.template_size)
    with torch.no_grad():
        template = step.template_inputs(ImagePair(*(image.to(like) for image in crops)))
    window = hann_window(step.grid).to(like)
    state = step.initial_state
    for number in range(1, count + 1):
        search = _crops(
            sequences, number, number - 1, factor=model.search_factor, size=model.search_size
        )
        inputs = (*template, *(image.to(like) for image in search), window, *state)
        with torch.no_grad():
            outputs = step(*inputs)
        yield RecordedStep(inputs, outputs)
        state = [outputs[f"next_{name}"] for name in step.state_names]


def _crops(
    sequences: Sequence[SyntheticSequence], frame: int, around: int, *, factor: float, size: int
) -> tuple[Tensor, Tensor]:
    """Crop a frame of every sequence around the place of its target in another frame."""
    crops: list[ImagePair] = []
    for sequence in sequences:
        rgb, tir = sequence[frame]
        box = sequence.truth.rgb[around]
        crops.append(crop_pair(rgb, tir, box, factor=factor, size=size).images)
    return torch.cat([crop.rgb for crop in crops]), torch.cat([crop.tir for crop in crops])


def named_tensors(tree: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested named tuples, in order, with the path to each."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, tuple):
        fields = getattr(tree, "_fields", range(len(tree)))
        for field, value in zip(fields, tree, strict=True):
            yield from named_tensors(value, f"{name}_{field}" if name else str(field))


def _with_tensors(tree: Any, tensors: Iterator[Tensor]) -> Any:
    """Return nested tuples with other tensors in the same places."""
    if isinstance(tree, Tensor):
        return next(tensors)
    if isinstance(tree, tuple):
        values = [_with_tensors(value, tensors) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else tuple(values)
    return tree
