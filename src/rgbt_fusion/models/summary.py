"""What a tracking model is made of, counted without running it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.interface import (
    TrackerModel,
    check_model,
    configuration_of,
    parameter_like,
)
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.tracking_settings import tracking_settings_of
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
        template_tokens: tokens of the template, per stream; None for a network of your own.
        search_tokens: tokens of the search crop, per stream, before the first block and after each;
            empty for a network of your own.
        weight_bytes: size of all weights and buffers.
        configuration: what builds the model again.
        template_size: side of the template crop in pixels.
        search_size: side of the search crop in pixels.
        tracking_settings: where a tracker with these weights differs from the paper's.
    """

    model: str
    components: tuple[Component, ...]
    parameters: int
    macs: int
    template_tokens: int | None
    search_tokens: tuple[int, ...]
    weight_bytes: int
    configuration: dict[str, Any]
    template_size: int
    search_size: int
    tracking_settings: dict[str, Any]


def summarise(model: nn.Module) -> ModelSummary:
    """Count the parts, parameters, tokens and multiply-accumulates of a model.

    Args:
        model: any tracking network, of this package or your own; it may lie on the meta device.

    Raises:
        TypeError: ``model`` lacks what a tracking network must offer.

    Example:
        >>> from rgbt_fusion.models.summary import summarise
        >>> from rgbt_fusion import create_model
        >>> summary = summarise(create_model("ostrack_tiny_128"))
        >>> summary.template_tokens, summary.search_tokens
        (16, (64, 64, 45, 32, 23))
        >>> summary.parameters == sum(component.parameters for component in summary.components)
        True
    """
    check_model(model)
    network: Any = model
    was_training = model.training
    macs = count_macs(model.eval(), *random_crops(network))
    model.train(was_training)
    template_tokens = None
    search_tokens: tuple[int, ...] = ()
    if isinstance(model, TrackingNetwork):
        template_tokens = model.backbone.template_length
        search_tokens = (model.backbone.search_length, *model.backbone.kept_lengths())
    return ModelSummary(
        model=type(model).__name__,
        components=tuple(_components(model)),
        parameters=count_parameters(model),
        macs=macs,
        template_tokens=template_tokens,
        search_tokens=search_tokens,
        weight_bytes=sum(x.numel() * x.element_size() for x in model.state_dict().values()),
        configuration=configuration_of(model),
        template_size=network.template_size,
        search_size=network.search_size,
        tracking_settings=tracking_settings_of(model).plain(),
    )


def random_crops(model: TrackerModel) -> tuple[ImagePair, ImagePair]:
    """Return a template and a search crop of noise, always the same, at batch 1."""
    generator = torch.Generator().manual_seed(0)
    device = parameter_like(model).device

    def crop(size: int) -> ImagePair:
        return ImagePair(*torch.randn(2, 1, 3, size, size, generator=generator).to(device))

    template = crop(model.template_size)
    search = crop(model.search_size)
    return template, search


def _components(model: nn.Module) -> Iterator[Component]:
    """Yield the parts of a model; the parts of our encoder take its place."""
    encoder = model.backbone if isinstance(model, TrackingNetwork) else None
    if encoder is not None:
        yield from _parts(encoder, "backbone.")
    for name, module in model.named_children():
        if module is not encoder:
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
