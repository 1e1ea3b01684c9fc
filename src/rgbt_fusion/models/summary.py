"""What a tracking model is made of, counted without running it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.ops.arithmetic import count_macs, count_parameters

__all__ = ["Component", "ModelSummary", "random_crops", "summarise"]


@dataclass(frozen=True)
class Component:
    """A part of a model: how many layers it has, and all their parameters."""

    name: str
    layers: int
    parameters: int


@dataclass(frozen=True)
class ModelSummary:
    """Everything about a model that can be counted without running it.

    Args:
        model: name of the class.
        components: the parts, which add up to the whole.
        parameters: numbers that the model learns.
        macs: multiply-accumulates of one step at batch 1, template included: matrix products,
            convolutions, attention and scans.
        template_tokens: tokens of the template, per stream.
        search_tokens: tokens of the search crop, per stream, before the first block and after each.
        weight_bytes: size of all weights and buffers.
        configuration: what builds the model again.
    """

    model: str
    components: tuple[Component, ...]
    parameters: int
    macs: int
    template_tokens: int
    search_tokens: tuple[int, ...]
    weight_bytes: int
    configuration: dict[str, Any]


def summarise(model: TrackingNetwork) -> ModelSummary:
    """Count the parts, parameters, tokens and multiply-accumulates of a model.

    Args:
        model: any tracking network; it may lie on the meta device.

    Example:
        >>> from rgbt_fusion.models.summary import summarise
        >>> from rgbt_fusion import create_model
        >>> summary = summarise(create_model("ostrack_tiny_128"))
        >>> summary.template_tokens, summary.search_tokens
        (16, (64, 64, 45, 32, 23))
        >>> summary.parameters == sum(component.parameters for component in summary.components)
        True
    """
    was_training = model.training
    macs = count_macs(model.eval(), *random_crops(model))
    model.train(was_training)
    return ModelSummary(
        model=type(model).__name__,
        components=tuple(_components(model)),
        parameters=count_parameters(model),
        macs=macs,
        template_tokens=model.backbone.template_length,
        search_tokens=(model.backbone.search_length, *model.backbone.kept_lengths()),
        weight_bytes=sum(x.numel() * x.element_size() for x in model.state_dict().values()),
        configuration=model.configuration,
    )


def random_crops(model: TrackingNetwork) -> tuple[ImagePair, ImagePair]:
    """Return a template and a search crop of noise, always the same, at batch 1."""
    generator = torch.Generator().manual_seed(0)
    device = model.backbone.pos_embed_x.device

    def crop(size: int) -> ImagePair:
        return ImagePair(*torch.randn(2, 1, 3, size, size, generator=generator).to(device))

    template = crop(model.template_size)
    search = crop(model.search_size)
    return template, search


def _components(model: TrackingNetwork) -> Iterator[Component]:
    """Yield the parts of a model; the encoder's own parts take its place."""
    yield from _parts(model.backbone, "backbone.")
    for name, module in model.named_children():
        if module is not model.backbone:
            yield _component(name, module)
    own = sum(parameter.numel() for parameter in model.parameters(recurse=False))
    if own:
        yield Component("embeddings", 1, own)


def _parts(module: nn.Module, prefix: str) -> Iterator[Component]:
    for name, part in module.named_children():
        yield _component(prefix + name, part)
    for name, parameter in module.named_parameters(recurse=False):
        yield Component(prefix + name, 1, parameter.numel())


def _component(name: str, module: nn.Module) -> Component:
    layers = len(module) if isinstance(module, nn.ModuleList) else 1
    return Component(name, layers, count_parameters(module))
